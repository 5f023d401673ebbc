"""Deployments roll out within their bounds, go back, and say so when they cannot."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import httpx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.lab.cluster.memory_runtime import MemoryRuntime
from tests.lab.cluster.objects import DEPLOYMENTS, NAMESPACE, REPLICA_SETS, deployment
from tests.lab.cluster.running_server import RunningServer

Start = Callable[..., RunningServer]
REVISION = "deployment.kubernetes.io/revision"


def apply(cluster: RunningServer, obj: dict[str, Any]) -> None:
    cluster.do(cluster.server.apply, obj)


def status(cluster: RunningServer, name: str = "web") -> dict[str, Any]:
    found = cluster.server.get("Deployment", name)
    assert found is not None
    shown: dict[str, Any] = found["status"]
    return shown


def condition(cluster: RunningServer, kind: str) -> tuple[str, str]:
    for each in status(cluster).get("conditions", ()):
        if each["type"] == kind:
            return each["status"], each["reason"]
    return "", ""


def sets(cluster: RunningServer) -> dict[str, dict[str, Any]]:
    """The ReplicaSets by revision."""
    found = cluster.server.list("ReplicaSet", NAMESPACE)
    return {each["metadata"]["annotations"][REVISION]: each for each in found}


def pods(cluster: RunningServer) -> list[dict[str, Any]]:
    return cluster.server.list("Pod", NAMESPACE)


def test_an_unpullable_image_stops_the_rollout_and_names_the_reason(start_cluster: Start) -> None:
    cluster = start_cluster(pace=50)
    apply(cluster, deployment(replicas=4))
    cluster.settle()
    apply(cluster, deployment(replicas=4, image="web:bad", progressDeadlineSeconds=5))
    cluster.until(lambda: condition(cluster, "Progressing")[1] == "ProgressDeadlineExceeded")
    assert condition(cluster, "Progressing")[0] == "False"
    assert condition(cluster, "Available") == ("True", "MinimumReplicasAvailable")
    now = status(cluster)
    assert (now["readyReplicas"], now["updatedReplicas"], now["replicas"]) == (3, 2, 5)


def test_a_pull_error_becomes_a_back_off(start_cluster: Start) -> None:
    cluster = start_cluster(pace=50)

    def reasons() -> set[str]:
        return {
            container["state"].get("waiting", {}).get("reason", "")
            for pod in pods(cluster)
            for container in pod["status"].get("containerStatuses", ())
        }

    apply(cluster, deployment(image="web:bad", replicas=1))
    cluster.until(lambda: "ErrImagePull" in reasons())
    cluster.until(lambda: "ImagePullBackOff" in reasons())
    cluster.until(lambda: len(cluster.runtime.started) >= 3)
    assert pods(cluster)[0]["status"]["phase"] == "Pending"


def test_a_crashing_container_is_restarted_with_back_off(start_cluster: Start) -> None:
    cluster = start_cluster(pace=100)
    apply(cluster, deployment(image="web:crash", replicas=1))

    def container() -> dict[str, Any]:
        statuses = [s for pod in pods(cluster) for s in pod["status"].get("containerStatuses", ())]
        return statuses[0] if statuses else {"state": {}, "restartCount": 0}

    cluster.until(
        lambda: (
            container()["restartCount"] >= 2
            and container()["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff"
        )
    )
    ended = container()["lastState"]["terminated"]
    assert (ended["exitCode"], ended["reason"], ended["message"]) == (1, "Error", "boom")
    assert container()["ready"] is False
    assert condition(cluster, "Available")[0] == "False"


def test_undo_brings_the_old_replica_set_back_as_a_new_revision(
    cluster: RunningServer, http: httpx.Client
) -> None:
    apply(cluster, deployment(image="web:1"))
    cluster.settle()
    first = sets(cluster)["1"]["metadata"]["name"]
    apply(cluster, deployment(image="web:2"))
    cluster.settle()
    template = sets(cluster)["1"]["spec"]["template"]
    del template["metadata"]["labels"]["pod-template-hash"]
    undo = [{"op": "replace", "path": "/spec/template", "value": template}]
    answer = http.patch(
        f"{DEPLOYMENTS}/web", json=undo, headers={"Content-Type": "application/json-patch+json"}
    )
    assert answer.status_code == 200
    cluster.settle()
    assert set(sets(cluster)) == {"2", "3"}
    assert sets(cluster)["3"]["metadata"]["name"] == first
    assert sets(cluster)["3"]["status"]["availableReplicas"] == 2
    assert sets(cluster)["2"]["spec"]["replicas"] == 0


def test_only_so_many_old_revisions_are_kept(cluster: RunningServer) -> None:
    for number in range(6):
        apply(cluster, deployment(image=f"web:{number}", revisionHistoryLimit=2))
        cluster.settle()
    assert set(sets(cluster)) == {"4", "5", "6"}


def test_recreate_lets_all_old_pods_go_first(start_cluster: Start) -> None:
    cluster = start_cluster()
    seen: list[set[str]] = []

    def note(_change: object) -> None:
        images = {
            pod["spec"]["containers"][0]["image"] for pod in cluster.server.store.items("pods")
        }
        seen.append(images)

    apply(cluster, deployment(image="web:1", strategy={"type": "Recreate"}))
    cluster.settle()
    cluster.do(cluster.server.subscribe, note)
    apply(cluster, deployment(image="web:2", strategy={"type": "Recreate"}))
    cluster.until(lambda: status(cluster).get("updatedReplicas") == 2)
    assert {"web:1", "web:2"} not in seen
    assert set() in seen


def test_nothing_rolls_out_while_paused(cluster: RunningServer) -> None:
    apply(cluster, deployment(image="web:1"))
    cluster.settle()
    apply(cluster, deployment(image="web:2", paused=True, replicas=3))
    cluster.settle()
    assert set(sets(cluster)) == {"1"}
    assert sets(cluster)["1"]["spec"]["replicas"] == 3
    assert condition(cluster, "Progressing") == ("Unknown", "DeploymentPaused")
    apply(cluster, deployment(image="web:2", paused=False, replicas=3))
    cluster.settle()
    assert sets(cluster)["2"]["spec"]["replicas"] == 3


def test_a_pod_counts_as_available_only_after_min_ready_seconds(start_cluster: Start) -> None:
    cluster = start_cluster(pace=20)
    seen: list[tuple[int, int]] = []
    cluster.do(
        cluster.server.subscribe,
        lambda change: (
            seen.append(
                (
                    change.object["status"].get("readyReplicas", 0),
                    change.object["status"].get("availableReplicas", 0),
                )
            )
            if change.resource == "deployments.apps"
            else None
        ),
    )
    apply(cluster, deployment(replicas=1, minReadySeconds=2))
    cluster.until(lambda: status(cluster).get("availableReplicas") == 1)
    assert seen.index((1, 0)) < seen.index((1, 1))


def test_a_deleted_pod_is_replaced(cluster: RunningServer, http: httpx.Client) -> None:
    apply(cluster, deployment(replicas=2))
    cluster.settle()
    name = pods(cluster)[0]["metadata"]["name"]
    http.delete(f"/api/v1/namespaces/{NAMESPACE}/pods/{name}")
    cluster.settle()
    left = [pod["metadata"]["name"] for pod in pods(cluster)]
    assert len(left) == 2
    assert name not in left


def test_scaling_down_takes_the_pods_that_are_not_ready_first(start_cluster: Start) -> None:
    cluster = start_cluster(runtime=MemoryRuntime(hold=True))
    apply(cluster, deployment(replicas=3))
    cluster.settle()
    lucky = pods(cluster)[1]["metadata"]["name"]
    cluster.do(cluster.runtime.make_ready, lucky)
    cluster.settle()
    apply(cluster, deployment(replicas=1))
    cluster.settle()
    assert [pod["metadata"]["name"] for pod in pods(cluster)] == [lucky]


def test_scaling_in_mid_rollout_shares_the_change(start_cluster: Start) -> None:
    cluster = start_cluster()
    apply(cluster, deployment(replicas=10, image="web:1"))
    cluster.settle()
    apply(cluster, deployment(replicas=10, image="web:slow"))
    cluster.settle()
    before = {revision: each["spec"]["replicas"] for revision, each in sets(cluster).items()}
    assert before == {"1": 8, "2": 5}
    apply(cluster, deployment(replicas=20, image="web:slow"))
    cluster.settle()
    after = {revision: each["spec"]["replicas"] for revision, each in sets(cluster).items()}
    assert sum(after.values()) == 25
    assert after["1"] > before["1"]
    assert after["2"] > before["2"]


def test_a_replica_set_cannot_be_given_another_selector(
    http: httpx.Client, cluster: RunningServer
) -> None:
    apply(cluster, deployment())
    cluster.settle()
    name = sets(cluster)["1"]["metadata"]["name"]
    answer = http.patch(
        f"{REPLICA_SETS}/{name}",
        json={"spec": {"selector": {"matchLabels": {"app": "other"}}}},
        headers={"Content-Type": "application/merge-patch+json"},
    )
    assert answer.status_code == 422
    assert "field is immutable" in answer.json()["message"]


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    replicas=st.integers(1, 7),
    surge=st.sampled_from(["0", "1", "2", "25%", "50%", "100%"]),
    unavailable=st.sampled_from(["0", "1", "25%", "50%"]),
    images=st.lists(
        st.sampled_from(["web:1", "web:2", "web:bad", "web:slow"]), min_size=1, max_size=3
    ),
    seed=st.integers(0, 10_000),
)
def test_bounds_hold_through_any_rollout(
    cluster: RunningServer,
    replicas: int,
    surge: str,
    unavailable: str,
    images: list[str],
    seed: int,
) -> None:
    """Never more than replicas + maxSurge pods, never fewer available than promised."""
    if (surge, unavailable) == ("0", "0"):
        surge = "1"
    values = [int(v) if v.isdigit() else v for v in (surge, unavailable)]
    strategy = {"rollingUpdate": {"maxSurge": values[0], "maxUnavailable": values[1]}}
    apply(cluster, deployment(replicas=replicas, image="web:0", strategy=strategy))
    cluster.settle()
    most = replicas + _share(surge, replicas, up=True)
    fewest = replicas - _share(unavailable, replicas, up=False)
    if _share(surge, replicas, up=True) == 0 and fewest == replicas:
        fewest -= 1
    worst: list[tuple[int, int]] = []

    def note(_change: object) -> None:
        owned = [
            p
            for p in cluster.server.store.items("pods")
            if "deletionTimestamp" not in p["metadata"]
        ]
        ready = [p for p in owned if _is_ready(p)]
        worst.append((len(owned), len(ready)))

    end = cluster.do(cluster.server.subscribe, note)
    chance = random.Random(seed)
    for image in images:
        apply(cluster, deployment(replicas=replicas, image=image, strategy=strategy))
        cluster.settle()
        waiting = [p["metadata"]["name"] for p in pods(cluster) if not _is_ready(p)]
        for name in chance.sample(waiting, k=chance.randint(0, len(waiting))):
            if image == "web:slow":
                cluster.do(cluster.runtime.make_ready, name)
        cluster.settle()
    apply(cluster, deployment(replicas=replicas, image="web:0", strategy=strategy))
    cluster.settle()
    end()
    assert max(count for count, _ in worst) <= most
    assert min(ready for _, ready in worst) >= fewest
    assert status(cluster)["availableReplicas"] == replicas
    cluster.do(cluster.server.delete, "Deployment", "web")
    cluster.settle()


def _is_ready(pod: dict[str, Any]) -> bool:
    conditions = pod["status"].get("conditions", ())
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def _share(text: str, replicas: int, *, up: bool) -> int:
    if text.isdigit():
        return int(text)
    exact = int(text.rstrip("%")) * replicas
    return -(-exact // 100) if up else exact // 100
