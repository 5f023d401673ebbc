"""`kubectl` at work on a cluster: rollouts are watched to their end, or fail with evidence."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

from engine.executor import TaskContext
from engine.module_api import Cancelled, Failed, Refused, Result, TimedOut, Unreachable
from modules import kubectl
from modules._kube import watch as kube_watch
from tests.lab.cluster.objects import DEPLOYMENTS, NAMESPACE, PODS, config_map, pod, service
from tests.modules.conftest import Answer, MakeContext, Request, Serve, Told
from tests.modules.kube_cluster import TestCluster, app

CancelWhen = Callable[[TaskContext, Callable[[], bool]], object]
GREEN = "claude-enhancer-green"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[TestCluster]:
    with TestCluster(tmp_path / "kube", pace=10.0) as cluster:
        yield cluster


@pytest.fixture
def ctx(make_context: MakeContext, cluster: TestCluster) -> TaskContext:
    return make_context({"kubectl": cluster.section}, seconds=20)


def pods_of(cluster: TestCluster) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = cluster.read(PODS)["items"]
    return found


def when(holds: Callable[[], bool], then: Callable[[], object]) -> threading.Thread:
    """Do something, in another thread, as soon as something holds."""
    pause = threading.Event()

    def watch() -> None:
        for _ in range(2000):
            if holds():
                with contextlib.suppress(CancelledError):  # the cluster went away with its test
                    then()
                return
            pause.wait(0.01)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def streams(cluster: TestCluster) -> int:
    """How many watches were opened so far."""
    return sum("watch=true" in one.path for one in cluster.server.requests)


# -- apply and rollouts -------------------------------------------------------------------------
def test_apply_creates_configures_and_leaves_alone(ctx: TaskContext, cluster: TestCluster) -> None:
    wanted = app(GREEN, "5.1", 2)
    created = kubectl.apply(ctx, objects=[wanted, config_map(a="1")], wait=True)
    assert created.message == f"deployment/{GREEN} created, configmap/settings created"
    assert created.data["rollouts"] == {
        f"deployment/{GREEN}": {"ready": 2, "desired": 2, "done": True}
    }
    changed = kubectl.apply(ctx, objects=[app(GREEN, "5.1", 3), config_map(a="1")], wait=True)
    assert [one["result"] for one in changed.data["objects"]] == ["configured", "unchanged"]
    assert "+  replicas: 3" in changed.diff
    assert not kubectl.apply(ctx, objects=[app(GREEN, "5.1", 3)]).changed


def test_a_field_of_another_manager_is_not_taken_unasked(
    ctx: TaskContext, cluster: TestCluster
) -> None:
    cluster.put(config_map(a="1"))
    with pytest.raises(Refused, match=r"lab owns \.data\.a"):
        kubectl.apply(ctx, objects=[config_map(a="2")])
    assert kubectl.apply(ctx, objects=[config_map(a="2")], force_conflicts=True).changed


def test_check_writes_nothing(make_context: MakeContext, cluster: TestCluster) -> None:
    cluster.put(app(GREEN, "5.1", 2))
    ctx = make_context({"kubectl": cluster.section}, mode="check")
    before = cluster.server.store.version
    green = {"force_conflicts": True, "objects": [app(GREEN, "5.1", 4)]}
    changes: list[tuple[Callable[..., Result] | None, tuple[Any, ...], dict[str, Any]]] = [
        (kubectl.apply.checker, (), green),
        (kubectl.scale.checker, (GREEN, 5), {}),
        (kubectl.patch.checker, ("Deployment", GREEN, {"spec": {"replicas": 7}}), {}),
        (kubectl.delete.checker, ("Deployment", GREEN), {}),
        (kubectl.rollout_restart.checker, (GREEN,), {}),
    ]
    for checker, given, options in changes:
        assert checker
        result = checker(ctx, *given, **options)
        assert result.changed, checker
        assert result.diff, checker
    assert cluster.server.store.version == before


def test_check_of_objects_in_a_namespace_that_is_yet_to_come(
    make_context: MakeContext, cluster: TestCluster
) -> None:
    ctx = make_context({"kubectl": cluster.section}, mode="check")
    new = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "later"}}
    inside = config_map(a="1")
    inside["metadata"]["namespace"] = "later"
    checked = kubectl.apply.checker
    assert checked
    result = checked(ctx, objects=[new, inside])
    assert [one["result"] for one in result.data["objects"]] == ["created", "created"]


def test_check_of_what_an_earlier_step_would_make(
    make_context: MakeContext, cluster: TestCluster
) -> None:
    ctx = make_context({"kubectl": cluster.section}, mode="check")
    patch, restart, undo = (
        one.checker for one in (kubectl.patch, kubectl.rollout_restart, kubectl.rollout_undo)
    )
    assert patch
    assert restart
    assert undo
    labels = {"metadata": {"labels": {"a": "1", "b": None}}}
    patched = patch(ctx, "deploy", GREEN, labels)
    assert patched.changed
    assert patched.data["object"] == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": GREEN, "labels": {"a": "1"}},
    }
    for result in (restart(ctx, GREEN), undo(ctx, GREEN)):
        assert result.changed
        assert "not there" in result.message or "not found" in result.message
        assert {"kind", "name", "ready", "desired", "done"} < result.data.keys()
    cluster.put(app(GREEN, "5.1", 1))
    only_one = undo(ctx, GREEN, to_revision=2)
    assert (only_one.data["revision"], only_one.changed) == (2, True)
    assert "no revision 2" in only_one.message


def test_progress_is_told_while_pods_get_ready(
    ctx: TaskContext, cluster: TestCluster, told: Told
) -> None:
    cluster.runtime.hold = True
    cluster.put(app(GREEN, "5.1", 3))
    names = iter(sorted(cluster.runtime.started))

    def one_more(step: str, task: int, text: str) -> None:
        told.progress.append(text)
        if name := next(names, None):
            cluster.do(cluster.runtime.make_ready, name)

    ctx._services.report = one_more
    kubectl.rollout_status(ctx, GREEN)
    counts = [text.partition(": ")[2] for text in told.progress]
    assert counts == sorted(set(counts))
    assert (counts[0], counts[-1]) == ("0 of 3 ready", "3 of 3 ready")
    assert len(counts) > 2


def test_a_bad_image_fails_at_once_with_the_pod_s_words(
    ctx: TaskContext, cluster: TestCluster
) -> None:
    with pytest.raises(Failed) as caught:
        kubectl.apply(ctx, objects=[app(GREEN, "5.1", 2, image="claude-enhancer:bad")], wait=True)
    message, evidence = caught.value.message, "\n".join(caught.value.evidence)
    assert message.startswith(
        f"deployment/{GREEN} cannot be rolled out, 0 of 2 ready: pod {GREEN}-"
    )
    assert "(container app, image claude-enhancer:bad)" in message
    assert "ErrImagePull" in message or "ImagePullBackOff" in message
    assert "event Failed" in evidence
    (reason, *_) = [one["reason"] for one in caught.value.data["pods"]]  # type: ignore[attr-defined]
    assert reason in ("ErrImagePull", "ImagePullBackOff")
    assert "does the image exist" in caught.value.hint


def test_a_crash_loop_fails_with_the_last_log_lines(ctx: TaskContext, cluster: TestCluster) -> None:
    with pytest.raises(Failed) as caught:
        kubectl.apply(ctx, objects=[app(GREEN, "5.1", 1, image="claude-enhancer:crash")], wait=True)
    # The lab's cluster is hurried: it may be through its first restarts when we look.
    reason = caught.value.data["pods"][0]["reason"]  # type: ignore[index]
    assert reason == "CrashLoopBackOff" or reason.startswith("restarted")
    evidence = "\n".join(caught.value.evidence)
    assert "exit 1" in evidence
    assert "log app: " in evidence


def test_a_broken_pod_of_the_old_revision_does_not_fail_the_rollout_that_mends_it(
    ctx: TaskContext, cluster: TestCluster
) -> None:
    gently = {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}
    cluster.put(app(GREEN, "5.1", 2, strategy=gently))
    old = list(cluster.runtime.started)
    for _ in range(3):  # the old pod stays, crashing, until a new one is ready
        cluster.do(cluster.runtime.crash, old[0], 1)
        cluster.settle()

    def mend() -> None:
        for _ in range(2):
            for name in set(cluster.runtime.started) - set(old):
                cluster.do(cluster.runtime.make_ready, name)
            cluster.settle()

    when(lambda: streams(cluster) >= 2, mend)
    new = app(GREEN, "5.1", 2, image="claude-enhancer:slow", strategy=gently)
    result = kubectl.apply(ctx, objects=[new], force_conflicts=True, wait=True)
    assert result.data["rollouts"][f"deployment/{GREEN}"]["done"]


def test_an_exceeded_progress_deadline_is_a_failure(ctx: TaskContext, cluster: TestCluster) -> None:
    cluster.runtime.hold = True
    with pytest.raises(Failed, match="ProgressDeadlineExceeded") as caught:
        kubectl.apply(ctx, objects=[app(GREEN, "5.1", 1, progressDeadlineSeconds=3)], wait=True)
    assert "running, but not ready" in "\n".join(caught.value.evidence)


def test_a_deadline_tells_how_far_it_got(make_context: MakeContext, cluster: TestCluster) -> None:
    cluster.runtime.hold = True
    cluster.put(app(GREEN, "5.1", 2))
    ctx = make_context({"kubectl": cluster.section}, seconds=0.5)
    with pytest.raises(TimedOut, match="not rolled out in time: 0 of 2 ready") as caught:
        kubectl.rollout_status(ctx, GREEN)
    assert len(caught.value.evidence) == 2
    assert caught.value.data["desired"] == 2


def test_a_cancellation_ends_the_wait(
    ctx: TaskContext, cluster: TestCluster, cancel_when: CancelWhen, told: Told
) -> None:
    cluster.runtime.hold = True
    cluster.put(app(GREEN, "5.1", 2))
    cancel_when(ctx, lambda: bool(told.progress))
    with pytest.raises(Cancelled):
        kubectl.rollout_status(ctx, GREEN)


def test_a_stream_that_ends_is_opened_again(
    ctx: TaskContext, cluster: TestCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kube_watch, "_ROUND", 1)
    cluster.runtime.hold = True
    cluster.put(app(GREEN, "5.1", 1))
    when(
        lambda: streams(cluster) >= 4,
        lambda: cluster.do(cluster.runtime.make_ready, cluster.runtime.started[0]),
    )
    assert kubectl.rollout_status(ctx, GREEN).data["done"]


def test_a_deployment_that_goes_away_ends_the_wait(
    ctx: TaskContext, cluster: TestCluster, told: Told
) -> None:
    cluster.runtime.hold = True
    cluster.put(app(GREEN, "5.1", 1))
    when(
        lambda: bool(told.progress),
        lambda: cluster.do(cluster.server.delete, "Deployment", GREEN),
    )
    with pytest.raises(Failed, match="is not there"):
        kubectl.rollout_status(ctx, GREEN)


# -- scale, restart, undo -----------------------------------------------------------------------
def test_scale_up_and_down_waits_for_the_pods(ctx: TaskContext, cluster: TestCluster) -> None:
    cluster.put(app(GREEN, "5.1", 1))
    assert kubectl.scale(ctx, GREEN, 10).data["ready"] == 10
    assert len(pods_of(cluster)) == 10
    result = kubectl.scale(ctx, GREEN, 0)
    assert (result.data["before"], result.data["ready"]) == (10, 0)
    assert not kubectl.scale(ctx, GREEN, 0).changed


def test_scaling_what_is_absent_to_zero_may_be_fine(ctx: TaskContext) -> None:
    result = kubectl.scale(ctx, "none", 0, missing_ok=True)
    assert not result.changed
    with pytest.raises(Failed, match='"none" not found'):
        kubectl.scale(ctx, "none", 1, missing_ok=True)


def test_a_restart_happens_once_however_often_the_task_is_tried(
    make_context: MakeContext, cluster: TestCluster
) -> None:
    cluster.put(app(GREEN, "5.1", 2))
    inventory = {"kubectl": cluster.section}
    first = kubectl.rollout_restart(make_context(inventory, step="restart"), GREEN)
    assert first.changed
    names = {one["metadata"]["name"] for one in pods_of(cluster)}
    again = kubectl.rollout_restart(make_context(inventory, step="restart", attempt=2), GREEN)
    assert not again.changed
    assert {one["metadata"]["name"] for one in pods_of(cluster)} == names
    other = kubectl.rollout_restart(make_context(inventory, step="restart-again"), GREEN)
    assert other.changed


def test_undo_goes_back_once_however_often_the_task_is_tried(
    make_context: MakeContext, cluster: TestCluster
) -> None:
    cluster.put(app(GREEN, "5.1", 1))
    cluster.put(app(GREEN, "5.1", 1, image="claude-enhancer:5.1.1"))
    inventory = {"kubectl": cluster.section}
    for attempt in (1, 2):
        ctx = make_context(inventory, step="undo", attempt=attempt)
        result = kubectl.rollout_undo(ctx, GREEN)
        assert result.changed == (attempt == 1)
        assert (result.data["revision"], result.data["from_revision"]) == (1, 2)
        found = cluster.read(f"{DEPLOYMENTS}/{GREEN}")
        image = found["spec"]["template"]["spec"]["containers"][0]["image"]
        assert image == "claude-enhancer:5.1"


def test_undo_needs_an_earlier_revision(ctx: TaskContext, cluster: TestCluster) -> None:
    cluster.put(app(GREEN, "5.1", 1))
    with pytest.raises(Failed, match="no earlier revision"):
        kubectl.rollout_undo(ctx, GREEN)


# -- delete -------------------------------------------------------------------------------------
def test_a_patch_that_does_not_fit_is_refused_in_words(
    ctx: TaskContext, cluster: TestCluster
) -> None:
    """A server would drop a field that it does not know, and say nothing of which test failed."""
    cluster.put(config_map("settings", a="1"))
    with pytest.raises(Refused, match='unknown field "datum"'):
        kubectl.patch(ctx, "cm", "settings", {"datum": {"a": "2"}})
    with pytest.raises(Refused, match="does not fit configmap/settings as it is now"):
        kubectl.patch(
            ctx,
            "cm",
            "settings",
            [
                {"op": "test", "path": "/data/a", "value": "2"},
                {"op": "replace", "path": "/data/a", "value": "3"},
            ],
            type_="json",
        )
    with pytest.raises(Refused, match=r"\.spec\.replica: field not declared"):
        kubectl.apply(ctx, objects=[app(GREEN, "5.1", 1, replica=3)])
    assert kubectl.get(ctx, "cm", "settings").data["object"]["data"] == {"a": "1"}


def test_what_holds_a_deletion_back_is_named(
    make_context: MakeContext, cluster: TestCluster
) -> None:
    held = config_map("settings")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    cluster.put(held)
    ctx = make_context({"kubectl": cluster.section}, seconds=0.3)
    with pytest.raises(TimedOut, match=r"not deleted in time, held back by example\.com/hold"):
        kubectl.delete(ctx, "cm", "settings")


def test_what_the_server_warns_of_is_in_the_log(
    make_context: MakeContext, serve: Serve, tmp_path: Path
) -> None:
    warned = {"Warning": '299 - "v1 Endpoints is deprecated in v1.33+"'}
    server = serve(lambda request: (200, {"metadata": {}, "items": []}, warned))
    ctx = make_context({"kubectl": {"server": server.url}})
    kubectl.get(ctx, "endpoints")
    assert "v1 Endpoints is deprecated" in (tmp_path / "logs" / "step.0.1.log").read_text()


def test_delete_waits_until_it_is_gone(ctx: TaskContext, cluster: TestCluster, told: Told) -> None:
    cluster.put(pod("postgres-0"))
    cluster.runtime.refuses_to_stop = True

    def let_go() -> None:
        cluster.runtime.refuses_to_stop = False

    when(lambda: bool(told.progress), let_go)
    result = kubectl.delete(ctx, "pod", "postgres-0")
    assert result.data["objects"][0]["result"] == "deleted"
    assert cluster.read(f"{PODS}/postgres-0") is None


def test_delete_by_selector_and_by_manifest(
    ctx: TaskContext, cluster: TestCluster, root: Path
) -> None:
    for name in ("a", "b", "c"):
        item = config_map(name)
        item["metadata"]["labels"] = {"group": "ab" if name in "ab" else "c"}
        cluster.put(item)
    result = kubectl.delete(ctx, "cm", selector="group=ab")
    assert [one["name"] for one in result.data["objects"]] == ["a", "b"]
    assert not kubectl.delete(ctx, "cm", selector="group=ab").changed
    (root / "c.yml").write_text("{apiVersion: v1, kind: ConfigMap, metadata: {name: c}}")
    assert kubectl.delete(ctx, file=Path("c.yml")).changed
    assert kubectl.delete(ctx, file=Path("c.yml"), missing_ok=True).data["objects"] == [
        {"kind": "ConfigMap", "name": "c", "namespace": NAMESPACE, "result": "missing"}
    ]


def test_delete_needs_to_know_what(ctx: TaskContext) -> None:
    for arguments in ({}, {"kind": "cm"}, {"kind": "cm", "name": "a", "selector": "a=b"}):
        with pytest.raises(Refused, match="not clear what to delete"):
            kubectl.delete(ctx, **arguments)  # type: ignore[arg-type]


# -- wait ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "wanted",
    [
        "condition=Available",
        "condition=available=True",
        "jsonpath={.status.readyReplicas}=2",
        'jsonpath={.status.conditions[?(@.type=="Available")].status}=True',
        "jsonpath=.status.availableReplicas",
        "create",
    ],
)
def test_waiting_for_what_comes_true_later(
    ctx: TaskContext, cluster: TestCluster, wanted: str, told: Told
) -> None:
    cluster.runtime.hold = True
    if wanted != "create":
        cluster.put(app(GREEN, "5.1", 2))

    def go() -> None:
        cluster.put(app(GREEN, "5.1", 2))
        for name in list(cluster.runtime.started):
            cluster.do(cluster.runtime.make_ready, name)

    when(lambda: bool(told.progress), go)
    assert kubectl.wait(ctx, "Deployment", GREEN, for_=wanted).data["names"] == [GREEN]
    assert told.progress


def test_waiting_for_deletion(ctx: TaskContext, cluster: TestCluster, told: Told) -> None:
    cluster.put(config_map("a"))
    when(lambda: bool(told.progress), lambda: cluster.do(cluster.server.delete, "ConfigMap", "a"))
    assert kubectl.wait(ctx, "cm", "a", for_="delete").data["names"] == []


def test_waiting_for_a_pod_that_cannot_get_ready_is_in_vain(
    ctx: TaskContext, cluster: TestCluster
) -> None:
    cluster.put(pod(image="postgres:bad"))
    with pytest.raises(Failed, match="waiting is in vain: pod postgres-0"):
        kubectl.wait(ctx, "pod", "postgres-0", for_="condition=Ready")


def test_waiting_for_a_pod_that_has_ended_is_in_vain(
    ctx: TaskContext, cluster: TestCluster
) -> None:
    cluster.put(pod(image="postgres:crash", restartPolicy="Never"))
    with pytest.raises(Failed, match="waiting is in vain: pod postgres-0: Failed: app: exit 1"):
        kubectl.wait(ctx, "pod", "postgres-0", for_="condition=Ready")


def test_waiting_for_nothing_or_for_nonsense(ctx: TaskContext) -> None:
    with pytest.raises(Failed, match="nothing to wait for"):
        kubectl.wait(ctx, "pod", selector="app=none", for_="condition=Ready")
    for text in ("ready", "condition=", "jsonpath={.a[}"):
        with pytest.raises(Refused):
            kubectl.wait(ctx, "pod", "x", for_=text)


# -- pods ---------------------------------------------------------------------------------------
def test_logs_of_a_deployment_filtered(ctx: TaskContext, cluster: TestCluster) -> None:
    cluster.put(app(GREEN, "5.1", 2))
    for uid in cluster.runtime.running:
        cluster.runtime.written[uid] = b"phase 3\nagent coordination failed\nphase 4\n"
    data = kubectl.logs(ctx, f"deploy/{GREEN}", match="coordination").data
    assert list(data["pods"].values()) == [["agent coordination failed"]] * 2
    one = pods_of(cluster)[0]["metadata"]["name"]
    assert kubectl.logs(ctx, one, tail=1).data["pods"] == {one: ["phase 4"]}
    with pytest.raises(Failed, match="no container 'db'"):
        kubectl.logs(ctx, one, container="db")
    with pytest.raises(Refused, match="not a regular expression"):
        kubectl.logs(ctx, one, match="(")


def test_a_pod_that_never_ran_does_not_keep_from_the_logs_of_the_others(
    ctx: TaskContext, cluster: TestCluster
) -> None:
    cluster.put(app(GREEN, "5.1", 1, image="app:bad"))
    with pytest.raises(Failed, match=r"there is no log to read: .*failing to pull image"):
        kubectl.logs(ctx, selector="app=claude-enhancer")
    cluster.put(app("claude-enhancer-blue", "5.0", 1))
    result = kubectl.logs(ctx, selector="app=claude-enhancer")
    assert list(result.data["pods"].values()) == [["one", "two", "three"]]
    ((name, why),) = result.data["unread"].items()
    assert name.startswith(GREEN)
    assert "trying and failing to pull image" in why
    assert f"3 lines of 2 pods; none of {name}" in result.message


def test_exec_runs_in_a_ready_pod(ctx: TaskContext, cluster: TestCluster) -> None:
    cluster.put(app(GREEN, "5.1", 1))
    name = pods_of(cluster)[0]["metadata"]["name"]
    result = kubectl.exec_(ctx, ["echo", "3 & 4"], selector="version=5.1")
    assert result.changed
    assert result.data == {
        "pod": name,
        "code": 0,
        "stdout": "3 & 4",
        "stderr": "",
        "truncated": False,
        "skipped": False,
    }
    echoed = kubectl.exec_(ctx, ["cat"], pod=name, stdin="x" * 100_000, limit=1000)
    assert echoed.data["truncated"]
    assert "99000 bytes left out" in echoed.data["stdout"]


def test_exec_tells_exit_status_and_stderr(ctx: TaskContext, cluster: TestCluster) -> None:
    cluster.put(app(GREEN, "5.1", 1))
    with pytest.raises(Failed, match="exit status 3 in pod") as caught:
        kubectl.exec_read(ctx, ["fail", "3"], pod=f"deployment/{GREEN}")
    assert caught.value.evidence == ["it failed"]
    allowed = kubectl.exec_read(ctx, ["fail", "3"], selector="version=5.1", expect=[0, 3])
    assert (allowed.data["code"], allowed.changed) == (3, False)


def test_a_command_that_hangs_is_let_go_of(
    make_context: MakeContext, cluster: TestCluster, cancel_when: CancelWhen
) -> None:
    cluster.put(app(GREEN, "5.1", 1))
    section: dict[str, Any] = {"kubectl": cluster.section}
    pods: dict[str, Any] = {"selector": "version=5.1"}
    with pytest.raises(TimedOut):
        kubectl.exec_(make_context(section, seconds=0.5), ["hang"], **pods)
    hanging = cluster.runtime.hanging
    ctx = make_context(section)
    cancel_when(ctx, lambda: cluster.runtime.hanging > hanging)
    with pytest.raises(Cancelled):
        kubectl.exec_(ctx, ["hang"], **pods)


def test_exec_is_probed_by_what_it_should_bring_about(
    ctx: TaskContext, cluster: TestCluster
) -> None:
    cluster.put(app(GREEN, "5.1", 1))
    prober, checker = kubectl.exec_.prober, kubectl.exec_.checker
    assert prober
    assert checker
    pods: dict[str, Any] = {"selector": "version=5.1"}
    assert prober(ctx, ["echo", "a"], **pods).verdict == "unknown"
    assert prober(ctx, ["echo", "a"], **pods, unless=["echo"]).verdict == "done"
    assert prober(ctx, ["echo", "a"], **pods, unless=["fail", "1"]).verdict == "unknown"
    assert kubectl.exec_(ctx, ["echo", "a"], **pods, unless=["echo"]).data["skipped"]
    assert checker(ctx, ["echo", "a"], selector="version=none").changed


def test_exec_needs_a_ready_pod(ctx: TaskContext, cluster: TestCluster) -> None:
    cluster.runtime.hold = True
    cluster.put(app(GREEN, "5.1", 1))
    with pytest.raises(Failed, match="none of the 1 pods") as caught:
        kubectl.exec_(ctx, ["echo"], selector="version=5.1")
    assert "not ready" in caught.value.evidence[0]


def test_top_in_numbers(ctx: TaskContext, cluster: TestCluster) -> None:
    cluster.put(app(GREEN, "5.1", 2))
    data = kubectl.top(ctx).data
    assert (data["cpu"], data["memory"]) == (0.5, 2 * 64 * 2**20)
    nodes = kubectl.top(ctx, "nodes").data
    assert nodes["cpu_percent"] > 0
    cluster.do(cluster.server.serve_metrics, False)
    with pytest.raises(Refused, match="no metrics server"):
        kubectl.top(ctx)


# -- who we are, and whether it is they ---------------------------------------------------------
def test_every_request_tells_run_and_token(ctx: TaskContext, cluster: TestCluster) -> None:
    kubectl.apply(ctx, objects=[app(GREEN, "5.1", 1)], wait=True)
    kubectl.exec_(ctx, ["echo"], selector="version=5.1")
    kubectl.logs(ctx, selector="version=5.1")
    ours = [one for one in cluster.server.requests if one.user_agent == "ce-run"]
    assert {(one.run, one.token) for one in ours} == {("run-1", "0")}
    assert len(ours) >= 6
    assert any("exec" in one.path for one in ours)


def test_a_run_that_lost_its_locks_asks_and_writes_nothing(
    make_context: MakeContext, cluster: TestCluster
) -> None:
    class Lost:
        def hold(self) -> Any:
            raise Cancelled("another run took over")

        def identity(self) -> dict[str, str]:
            return {}

    cluster.put(app(GREEN, "5.1", 1))
    ctx = make_context({"kubectl": cluster.section}, fence=Lost())
    writes: list[Callable[[], object]] = [
        lambda: kubectl.apply(ctx, objects=[config_map()]),
        lambda: kubectl.scale(ctx, GREEN, 3),
        lambda: kubectl.patch(ctx, "deploy", GREEN, {"spec": {"replicas": 3}}),
        lambda: kubectl.delete(ctx, "deploy", GREEN),
        lambda: kubectl.rollout_restart(ctx, GREEN),
        lambda: kubectl.exec_(ctx, ["echo"], selector="version=5.1"),
    ]
    for write in writes:
        with pytest.raises(Cancelled, match="another run took over"):
            write()
    with pytest.raises(Cancelled, match="another run took over"):
        kubectl.get(ctx, "deploy", GREEN)
    assert [one for one in cluster.server.requests if one.user_agent == "ce-run"] == []


@pytest.mark.parametrize("requests", range(5))
@pytest.mark.parametrize("action", ["rollout", "wait", "exec", "logs"])
def test_a_run_that_loses_its_locks_midway_asks_nothing_more(
    make_context: MakeContext, cluster: TestCluster, action: str, requests: int
) -> None:
    """Whatever comes next: a list, a watch, a log or a command that only looks."""

    class Losing:
        left = requests

        @contextlib.contextmanager
        def hold(self) -> Iterator[None]:
            if not self.left:
                raise Cancelled("another run took over")
            self.left -= 1
            yield

        def identity(self) -> dict[str, str]:
            return {}

    cluster.put(app(GREEN, "5.1", 1))
    pods: dict[str, Any] = {"selector": "version=5.1"}
    if action in ("rollout", "wait"):
        cluster.runtime.hold = True
        cluster.put(app(GREEN, "5.1", 2))
    ctx = make_context({"kubectl": cluster.section}, fence=Losing(), seconds=0.5)
    work: dict[str, Callable[[], object]] = {
        "rollout": lambda: kubectl.rollout_status(ctx, GREEN),
        "wait": lambda: kubectl.wait(ctx, "pod", for_="condition=Ready", **pods),
        "exec": lambda: [kubectl.exec_read(ctx, ["echo"], **pods) for _ in range(3)],
        "logs": lambda: [kubectl.logs(ctx, **pods) for _ in range(3)],
    }
    with pytest.raises((Cancelled, TimedOut)):  # TimedOut: it waits, and needs no more requests
        work[action]()
    sent = [one for one in cluster.server.requests if one.user_agent == "ce-run"]
    assert len(sent) <= requests


def test_a_command_is_let_go_of_before_it_has_begun(
    make_context: MakeContext, serve: Serve, cancel_when: CancelWhen
) -> None:
    release, overslept = threading.Event(), threading.Event()

    def answer(request: Request) -> Answer:
        if "/exec" in request.path and not release.wait(5):
            overslept.set()
        return 200, {"metadata": {"name": "postgres-0", "namespace": NAMESPACE}}

    server = serve(answer)
    ctx = make_context({"kubectl": {"server": server.url}})
    cancel_when(ctx, lambda: any("/exec" in one.path for one in server.requests))
    with pytest.raises(Cancelled):
        kubectl.exec_(ctx, ["echo"], pod="postgres-0")
    assert not overslept.is_set()
    release.set()


def test_a_wrong_token_is_refused_and_a_closed_port_unreachable(
    make_context: MakeContext, cluster: TestCluster, tmp_path: Path
) -> None:
    config = cluster.server.kubeconfig_path.read_text()
    wrong = tmp_path / "wrong"
    wrong.write_text(config.replace(cluster.server.token, "nobody"))
    with pytest.raises(Refused, match="Unauthorized"):
        kubectl.get(make_context({"kubectl": {"kubeconfig": str(wrong)}}), "ns")
    wrong.write_text(config.replace(f":{cluster.server.port}", ":1"))
    with pytest.raises(Unreachable, match="cannot be reached"):
        kubectl.get(make_context({"kubectl": {"kubeconfig": str(wrong)}}), "ns")


def test_a_certificate_that_cannot_be_verified_is_refused_unless_told_otherwise(
    make_context: MakeContext, cluster: TestCluster
) -> None:
    section = {"server": cluster.server.url, "token": cluster.server.token}
    with pytest.raises(Refused, match="could not prove"):
        kubectl.get(make_context({"kubectl": section}), "ns")
    trusting = make_context({"kubectl": {**section, "verify": False}})
    assert kubectl.get(trusting, "ns").data["count"] >= 1
    assert not kubectl.exec_(trusting, ["echo"], pod=_some_pod(cluster), namespace=NAMESPACE).data[
        "code"
    ]


def _some_pod(cluster: TestCluster) -> str:
    cluster.put(pod())
    return "postgres-0"


def test_a_proxy_of_the_environment_is_not_for_this_machine(
    make_context: MakeContext, cluster: TestCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
    assert kubectl.get(make_context({"kubectl": cluster.section}), "ns").data["count"]


def test_contexts_and_files_that_are_not_there_are_named(
    make_context: MakeContext, cluster: TestCluster
) -> None:
    section = cluster.section
    with pytest.raises(Refused, match="no context 'lap' … did you mean 'lab'"):
        kubectl.get(make_context({"kubectl": {**section, "context": "lap"}}), "ns")
    with pytest.raises(Refused, match="/none is not there"):
        kubectl.get(make_context({"kubectl": {"kubeconfig": "/none"}}), "ns")
    with pytest.raises(Refused, match="section: kubeconfg"):
        kubectl.get(make_context({"kubectl": {"kubeconfg": "x"}}), "ns")


def test_a_service_patched_from_two_sides_keeps_both(
    ctx: TaskContext, cluster: TestCluster
) -> None:
    cluster.put(service("web"))
    kubectl.patch(ctx, "svc", "web", {"metadata": {"labels": {"by": "us"}}})
    cluster.put(service("web", type="ClusterIP"))
    found = kubectl.get(ctx, "svc", "web").data["object"]
    assert found["metadata"]["labels"] == {"by": "us"}


def test_pods_without_a_node_are_waited_for_only_so_long(
    make_context: MakeContext, cluster: TestCluster
) -> None:
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}}
    cluster.put({**node, "spec": {"unschedulable": True}})
    ctx = make_context({"kubectl": cluster.section}, seconds=20)
    with pytest.raises(Failed, match="Unschedulable"):
        kubectl.apply(ctx, objects=[app(GREEN, "5.1", 1)], wait=True, schedule_grace=0.2)
