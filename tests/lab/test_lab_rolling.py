"""Pods come and go, versions switch, and no user notices."""

from __future__ import annotations

from pathlib import Path

from tests.lab.production import NAMESPACE, Production, descendants, eventually


def test_a_whole_blue_green_switch_loses_nothing(lab: Production) -> None:
    with lab.no_failure():
        lab.scale("green", 4)
        for percent in (5, 50):
            lab.set_edge(percent)
            lab.set_mesh(percent)
            lab.let_pass(60)
        lab.select("5.1")
        lab.set_edge(0)
        lab.set_mesh(0)
        lab.scale("blue", 0)
        lab.let_pass(60)
        lab.scale("blue", 3)
        lab.select("5.0")
        lab.scale("green", 0)
    assert lab.figures().versions["5.1"].requests > 20


def test_deleting_pods_one_after_the_other_loses_nothing(lab: Production) -> None:
    with lab.no_failure():
        for pod in lab.pods("blue"):
            lab.core.delete_namespaced_pod(pod.metadata.name, NAMESPACE)
            eventually(lambda: len(lab.ready_pods("blue")) == 3)
    assert len(lab.serving("claude_stable")) == 3


def test_a_rolling_restart_loses_nothing(lab: Production) -> None:
    before = {pod.metadata.name for pod in lab.pods("blue")}
    stamp = {"kubectl.kubernetes.io/restartedAt": "2024-01-01T00:00:00Z"}
    with lab.no_failure():
        lab.apps.patch_namespaced_deployment(
            "claude-enhancer-blue",
            NAMESPACE,
            {"spec": {"template": {"metadata": {"annotations": stamp}}}},
        )
        eventually(
            lambda: (
                len(lab.pods("blue")) == len(lab.ready_pods("blue")) == 3
                and not before & {pod.metadata.name for pod in lab.pods("blue")}
            )
        )


def test_adding_and_removing_many_pods_at_once_loses_nothing(lab: Production) -> None:
    with lab.no_failure():
        lab.scale("blue", 12)
        lab.scale("blue", 1)
        lab.scale("blue", 3)


def test_pods_that_are_removed_while_they_start_leave_no_process(lab: Production) -> None:
    before = descendants(lab.info.pid)
    for _ in range(3):
        lab.scale("green", 6, wait=False)
        lab.scale("green", 0)
    eventually(lambda: len(descendants(lab.info.pid) - before - _servers(lab)) == 0)


def _servers(lab: Production) -> set[int]:
    """PostgreSQL's processes, which come and go with connections."""
    return {
        pid
        for pid in descendants(lab.info.pid)
        if b"postgres" in Path(f"/proc/{pid}/cmdline").read_bytes()
    }
