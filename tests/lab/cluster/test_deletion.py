"""What is deleted takes along what it owns, in the way that the client asked for."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.lab.cluster.memory_runtime import MemoryRuntime
from tests.lab.cluster.objects import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    NAMESPACE,
    PODS,
    config_map,
    deployment,
    pod,
    service,
)
from tests.lab.cluster.running_server import RunningServer

Start = Callable[..., RunningServer]
Obj = dict[str, Any]
MERGE = {"Content-Type": "application/merge-patch+json"}


def _web(cluster: RunningServer) -> None:
    cluster.do(cluster.server.apply, deployment())
    cluster.settle()


def _counts(cluster: RunningServer) -> tuple[int, int, int]:
    kinds = ("Deployment", "ReplicaSet", "Pod")
    deployments, sets, pods = (len(cluster.server.list(kind, NAMESPACE)) for kind in kinds)
    return deployments, sets, pods


def _delete(http: httpx.Client, path: str, **options: object) -> httpx.Response:
    return http.request(
        "DELETE", path, json={"kind": "DeleteOptions", "apiVersion": "v1", **options}
    )


def test_background_deletion_answers_with_success_and_cleans_up_behind(
    cluster: RunningServer, http: httpx.Client
) -> None:
    _web(cluster)
    uid = cluster.server.get("Deployment", "web")["metadata"]["uid"]  # type: ignore[index]
    answer = _delete(http, f"{DEPLOYMENTS}/web").json()
    assert (answer["kind"], answer["status"]) == ("Status", "Success")
    assert answer["details"] == {"name": "web", "group": "apps", "kind": "deployments", "uid": uid}
    cluster.settle()
    assert _counts(cluster) == (0, 0, 0)
    assert len(cluster.runtime.stopped) == 2


def test_foreground_deletion_keeps_the_owner_until_its_pods_are_gone(start_cluster: Start) -> None:
    cluster = start_cluster(runtime=MemoryRuntime(refuses_to_stop=True))
    _web(cluster)
    with cluster.client() as http:
        answer = _delete(http, f"{DEPLOYMENTS}/web", propagationPolicy="Foreground").json()
    assert answer["metadata"]["finalizers"] == ["foregroundDeletion"]
    cluster.settle()
    assert _counts(cluster) == (1, 1, 2)
    cluster.runtime.refuses_to_stop = False
    cluster.until(lambda: _counts(cluster) == (0, 0, 0))


def test_orphans_live_on(cluster: RunningServer, http: httpx.Client) -> None:
    _web(cluster)
    _delete(http, f"{DEPLOYMENTS}/web", propagationPolicy="Orphan")
    cluster.settle()
    assert _counts(cluster) == (0, 1, 2)
    assert "ownerReferences" not in cluster.server.list("ReplicaSet", NAMESPACE)[0]["metadata"]
    cluster.do(cluster.server.apply, deployment())
    cluster.settle()
    assert _counts(cluster) == (1, 1, 2)


def _owned(name: str, *owners: dict[str, Any], **reference: bool) -> dict[str, Any]:
    """A ConfigMap that these ConfigMaps own."""
    references = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
            **reference,
        }
        for owner in owners
    ]
    return {**config_map(name), "metadata": {"name": name, "ownerReferences": references}}


def test_an_object_lives_as_long_as_one_of_its_owners(
    cluster: RunningServer, http: httpx.Client
) -> None:
    one, two = (http.post(CONFIG_MAPS, json=config_map(name)).json() for name in ("one", "two"))
    http.post(CONFIG_MAPS, json=_owned("child", one, two))
    _delete(http, f"{CONFIG_MAPS}/one", propagationPolicy="Foreground")
    cluster.settle()
    left = http.get(f"{CONFIG_MAPS}/child").json()["metadata"]["ownerReferences"]
    assert [reference["name"] for reference in left] == ["two"]
    _delete(http, f"{CONFIG_MAPS}/two")
    cluster.settle()
    assert http.get(f"{CONFIG_MAPS}/child").status_code == 404


@pytest.mark.parametrize("blocks", [True, False])
def test_foreground_deletion_waits_for_dependents_that_say_so(
    cluster: RunningServer, http: httpx.Client, blocks: bool
) -> None:
    owner = http.post(CONFIG_MAPS, json=config_map("owner")).json()
    child = _owned("child", owner, blockOwnerDeletion=blocks)
    child["metadata"]["finalizers"] = ["example.com/hold"]
    http.post(CONFIG_MAPS, json=child)
    _delete(http, f"{CONFIG_MAPS}/owner", propagationPolicy="Foreground")
    cluster.settle()
    assert (http.get(f"{CONFIG_MAPS}/owner").status_code == 200) is blocks
    assert "deletionTimestamp" in http.get(f"{CONFIG_MAPS}/child").json()["metadata"]


def test_a_pod_gets_its_grace_period(start_cluster: Start) -> None:
    cluster = start_cluster(runtime=MemoryRuntime(refuses_to_stop=True))
    cluster.do(cluster.server.apply, pod(terminationGracePeriodSeconds=7))
    cluster.settle()
    with cluster.client() as http:
        answer = _delete(http, f"{PODS}/postgres-0").json()
        assert answer["metadata"]["deletionGracePeriodSeconds"] == 7
        cluster.settle()
        assert http.get(f"{PODS}/postgres-0").json()["metadata"]["deletionTimestamp"]
        uid = answer["metadata"]["uid"]
        assert cluster.runtime.stopped[:1] == [(uid, 7.0)]
        _delete(http, f"{PODS}/postgres-0", gracePeriodSeconds=0)
        cluster.settle()
        assert http.get(f"{PODS}/postgres-0").status_code == 404
        assert cluster.runtime.stopped[1:] == [(uid, 0.0)]
        cluster.runtime.refuses_to_stop = False


def test_a_pod_leaves_the_endpoints_before_it_is_told_to_stop(cluster: RunningServer) -> None:
    _web(cluster)
    cluster.do(cluster.server.apply, service())
    cluster.settle()
    order: list[str] = []
    store = cluster.server.store

    def noted(_uid: str) -> None:
        subsets = store.items("endpoints", NAMESPACE)[0]["subsets"]
        order.append(f"{len(subsets[0]['addresses'])} left")

    cluster.runtime.on_stop = noted
    cluster.do(cluster.server.apply, deployment(replicas=1))
    cluster.settle()
    assert order == ["1 left"]


def test_a_finalizer_holds_an_object_back(cluster: RunningServer, http: httpx.Client) -> None:
    held = config_map(a="1")
    held["metadata"]["finalizers"] = ["example.com/hold"]
    http.post(CONFIG_MAPS, json=held)
    assert _delete(http, f"{CONFIG_MAPS}/settings").json()["metadata"]["deletionTimestamp"]
    assert http.get(f"{CONFIG_MAPS}/settings").status_code == 200

    def finalizers(wanted: list[str] | None) -> httpx.Response:
        return http.patch(
            f"{CONFIG_MAPS}/settings",
            json={"metadata": {"finalizers": wanted}},
            headers={"Content-Type": "application/merge-patch+json"},
        )

    late = finalizers(["example.com/hold", "example.com/more"])
    assert late.status_code == 422
    assert "no new finalizers can be added if the object is being deleted" in late.text
    assert "finalizers" not in finalizers(None).json()["metadata"]
    assert http.get(f"{CONFIG_MAPS}/settings").status_code == 404


def test_a_namespace_lingers_and_takes_everything_with_it(start_cluster: Start) -> None:
    cluster = start_cluster(pace=20.0)
    _web(cluster)
    cluster.do(cluster.server.apply, held())
    place = f"/api/v1/namespaces/{NAMESPACE}"
    with cluster.client() as http:
        answer = _delete(http, place).json()
        assert answer["status"]["phase"] == "Terminating"
        late = http.post(CONFIG_MAPS, json=config_map("late"))
        assert late.status_code == 403
        assert late.json()["details"]["causes"][0]["reason"] == "NamespaceTerminating"
        assert _counts(cluster) == (1, 1, 2)
        cluster.until(lambda: _counts(cluster) == (0, 0, 0))
        cluster.settle()
        conditions = http.get(place).json()["status"]["conditions"]
        told = {each["type"]: each["message"] for each in conditions if each["status"] == "True"}
        assert told == {
            "NamespaceContentRemaining": (
                "Some resources are remaining: configmaps. has 1 resource instances"
            ),
            "NamespaceFinalizersRemaining": (
                "Some content in the namespace has finalizers remaining: example.com/hold in 1 "
                "resource instances"
            ),
        }
        http.patch(f"{CONFIG_MAPS}/held", json={"metadata": {"finalizers": None}}, headers=MERGE)
        cluster.until(lambda: cluster.server.get("Namespace", NAMESPACE) is None)
    assert cluster.server.list("ConfigMap", NAMESPACE) == []


def held() -> Obj:
    """A ConfigMap that somebody has yet to let go."""
    obj = config_map("held")
    obj["metadata"]["finalizers"] = ["example.com/hold"]
    return obj


def test_a_pod_lingers_unready_until_its_node_has_cleared_it_away(start_cluster: Start) -> None:
    cluster = start_cluster(clean_up=1.0, pace=20.0)
    cluster.do(cluster.server.apply, pod())
    cluster.settle()
    with cluster.client() as http:
        _delete(http, f"{PODS}/postgres-0")
        cluster.settle()
        lingering = http.get(f"{PODS}/postgres-0").json()
        assert lingering["metadata"]["deletionTimestamp"]
        ready = next(c for c in lingering["status"]["conditions"] if c["type"] == "Ready")
        assert ready["status"] == "False"
        cluster.until(lambda: cluster.server.get("Pod", "postgres-0", NAMESPACE) is None)
        assert len(cluster.runtime.stopped) == 1


def test_dry_run_deletes_nothing(cluster: RunningServer, http: httpx.Client) -> None:
    _web(cluster)
    answer = http.delete(f"{DEPLOYMENTS}/web?dryRun=All")
    assert (answer.status_code, answer.json()["status"]) == (200, "Success")
    name = cluster.server.list("Pod", NAMESPACE)[0]["metadata"]["name"]
    ending = http.delete(f"{PODS}/{name}?dryRun=All").json()["metadata"]
    assert ending["deletionGracePeriodSeconds"] == 30
    cluster.settle()
    assert _counts(cluster) == (1, 1, 2)


def test_a_precondition_that_does_not_hold_refuses_the_deletion(
    cluster: RunningServer, http: httpx.Client
) -> None:
    _web(cluster)
    answer = _delete(http, f"{DEPLOYMENTS}/web", preconditions={"uid": "another"})
    assert answer.status_code == 409
    assert "the UID in the precondition (another) does not match" in answer.json()["message"]


def test_a_collection_is_deleted_by_selector(cluster: RunningServer, http: httpx.Client) -> None:
    for name, color in (("one", "red"), ("two", "red"), ("three", "blue")):
        obj = config_map(name)
        obj["metadata"]["labels"] = {"color": color}
        http.post(CONFIG_MAPS, json=obj)
    http.delete(f"{CONFIG_MAPS}?labelSelector=color%3Dred")
    left = [obj["metadata"]["name"] for obj in cluster.server.list("ConfigMap", NAMESPACE)]
    assert left == ["three"]


def test_stopping_the_server_stops_all_pods(start_cluster: Start) -> None:
    cluster = start_cluster()
    _web(cluster)
    cluster.wait(cluster.server.stop())
    assert cluster.runtime.running == {}
