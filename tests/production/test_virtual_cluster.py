"""The cluster runs hours in virtual time, in one process, and does the same twice."""

from __future__ import annotations

from typing import Any

from engine.production.cluster.objects.common import copy_json
from engine.production.names import (
    BLUE,
    CANARY_VERSION,
    GREEN,
    IMAGE,
    NAMESPACE,
    SERVICE,
    STABLE_VERSION,
)
from tests.production.virtual_cluster import START, VirtualCluster

MINUTE = 60.0


def canary(green: dict[str, Any]) -> dict[str, Any]:
    """The canary Deployment of 5.1, as the runbook applies it."""
    labels = {"app": "claude-enhancer", "version": CANARY_VERSION, "deployment-type": "canary"}
    template = copy_json(green["spec"]["template"])
    template["metadata"]["labels"] = labels
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "claude-enhancer-canary", "namespace": NAMESPACE, "labels": labels},
        "spec": {"replicas": 1, "selector": {"matchLabels": labels}, "template": template},
    }


def deploy(world: VirtualCluster) -> None:
    """The two hours of the deployment of 5.1, and a release that does not come up after it."""
    world.let_pass(5 * MINUTE)
    world.cluster.apply(canary(world.get("Deployment", GREEN)))
    world.let_pass(30 * MINUTE)
    world.scale(GREEN, 4)
    world.let_pass(40 * MINUTE)
    world.scale(GREEN, 10)
    world.let_pass(30 * MINUTE)
    selector = {"app": "claude-enhancer", "version": CANARY_VERSION}
    world.change("Service", SERVICE, lambda obj: obj["spec"].update(selector=selector))
    world.let_pass(5 * MINUTE)
    world.cluster.delete("Deployment", "claude-enhancer-canary")
    world.let_pass(5 * MINUTE)
    world.faults.set(STABLE_VERSION, {"crash": True})
    world.let_pass(5 * MINUTE)


def test_two_hours_of_a_rollout_are_the_same_twice() -> None:
    worlds = [VirtualCluster(seed=7), VirtualCluster(seed=7)]
    for world in worlds:
        deploy(world)
        assert world.time.now() == START + 120 * MINUTE
        assert world.ready(CANARY_VERSION) == 10
        assert world.get("Endpoints", SERVICE)["subsets"][0]["addresses"][9]
    assert worlds[0].history == worlds[1].history
    assert worlds[0].told() == worlds[1].told()
    assert len(worlds[0].told()) > 80


def test_another_seed_gives_other_names_and_the_same_course() -> None:
    one, other = VirtualCluster(seed=1), VirtualCluster(seed=2)
    for world in (one, other):
        deploy(world)
    assert one.history != other.history
    assert [(at, kind, resource) for at, kind, resource, _ in one.history] == [
        (at, kind, resource) for at, kind, resource, _ in other.history
    ]


def test_a_rollout_takes_the_time_of_its_probes() -> None:
    world = VirtualCluster()
    world.let_pass(MINUTE)
    world.scale(GREEN, 2)
    world.let_pass(6.9)  # 2 s until it runs, 5 s until the first probe
    assert world.ready(CANARY_VERSION) == 0
    world.let_pass(0.2)
    assert world.ready(CANARY_VERSION) == 2
    assert world.condition(GREEN, "Available") == ("True", "MinimumReplicasAvailable")


def test_a_rolling_update_never_leaves_its_bounds() -> None:
    world = VirtualCluster(blue=4)
    world.let_pass(MINUTE)
    begin = len(world.history)

    def release(obj: dict[str, Any]) -> None:
        obj["spec"]["template"]["spec"]["containers"][0]["image"] = f"{IMAGE}:5.1"

    world.change("Deployment", BLUE, release)
    world.let_pass(10 * MINUTE)
    states = [
        obj["status"]
        for _, _, resource, obj in world.history[begin:]
        if resource == "deployments.apps" and obj["metadata"]["name"] == BLUE
    ]
    assert states[-1]["updatedReplicas"] == states[-1]["availableReplicas"] == 4
    assert all(state["availableReplicas"] >= 4 for state in states)
    assert all(state["replicas"] <= 5 for state in states)


def test_a_release_that_cannot_be_pulled_misses_its_deadline() -> None:
    world = VirtualCluster()
    world.let_pass(MINUTE)

    def release(obj: dict[str, Any]) -> None:
        obj["spec"]["template"]["spec"]["containers"][0]["image"] = f"{IMAGE}:5.2"

    world.change("Deployment", BLUE, release)
    world.let_pass(9 * MINUTE)
    assert world.condition(BLUE, "Progressing")[0] == "True"
    world.let_pass(2 * MINUTE)
    assert world.condition(BLUE, "Progressing") == ("False", "ProgressDeadlineExceeded")
    assert world.ready(STABLE_VERSION) == 3
    assert ("Failed", "Error: ImagePullBackOff") in world.told()


def test_a_crash_is_restarted_with_growing_delays() -> None:
    world = VirtualCluster(blue=1)
    world.let_pass(MINUTE)
    world.faults.set(STABLE_VERSION, {"crash": True})
    world.let_pass(30 * MINUTE)
    [status] = world.containers(STABLE_VERSION)
    assert status["state"]["waiting"]["reason"] == "CrashLoopBackOff"
    restarts = status["restartCount"]
    assert 8 <= restarts <= 12  # at once, after 10, 20, 40, 80, 160 s, then every 300 s
    world.faults.clear()
    world.let_pass(6 * MINUTE)
    assert world.ready(STABLE_VERSION) == 1


def test_a_leak_ends_as_out_of_memory_when_the_memory_is_full() -> None:
    world = VirtualCluster(blue=1)
    world.let_pass(MINUTE)
    world.faults.set(STABLE_VERSION, {"memory_growth": 1.0})
    uid = world.cluster.list("Pod", NAMESPACE)[0]["metadata"]["uid"]
    before = world.pods.memory(uid)
    world.let_pass(600)
    assert world.pods.memory(uid) == before + 600
    assert world.containers(STABLE_VERSION)[0]["restartCount"] == 0
    world.let_pass(3600)
    [status] = world.containers(STABLE_VERSION)
    assert (
        status["lastState"]["terminated"] | {"reason": "OOMKilled", "exitCode": 137}
        == (status["lastState"]["terminated"])
    )
    assert status["restartCount"] == 1


def test_a_version_that_is_never_ready_gets_ready_when_the_fault_ends() -> None:
    world = VirtualCluster()
    world.faults.set(CANARY_VERSION, {"never_ready": True})
    world.scale(GREEN, 2)
    world.let_pass(20 * MINUTE)
    assert world.ready(CANARY_VERSION) == 0
    world.faults.clear(CANARY_VERSION)
    world.let_pass(MINUTE)
    assert world.ready(CANARY_VERSION) == 2
