"""StatefulSets, DaemonSets and Jobs come to be, change and end as on a real cluster."""

from __future__ import annotations

from typing import Any

import pytest

from engine.production.cluster.objects.refusals import ApiError
from engine.production.cluster.runtime import PodReport
from engine.production.names import IMAGE, NAMESPACE, STABLE_VERSION
from tests.production.virtual_cluster import VirtualCluster

Obj = dict[str, Any]
MINUTE = 60.0


def workload(kind: str, name: str, tag: str = "5.0", **spec: Any) -> Obj:
    labels = {"app": "claude-enhancer", "part": name}
    container = {"name": "app", "image": f"{IMAGE}:{tag}"}
    return {
        "apiVersion": "batch/v1" if kind == "Job" else "apps/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            **({} if kind == "Job" else {"selector": {"matchLabels": labels}}),
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
            **spec,
        },
    }


def job(name: str = "migrate", **spec: Any) -> Obj:
    obj = workload("Job", name, **spec)
    obj["spec"]["template"]["spec"]["restartPolicy"] = "Never"
    return obj


@pytest.fixture
def world() -> VirtualCluster:
    world = VirtualCluster(blue=1)
    world.let_pass(MINUTE)
    return world


def pods(world: VirtualCluster, name: str) -> dict[str, Obj]:
    """The pods of a workload by their names."""
    listed = world.cluster.list("Pod", NAMESPACE)
    owned = [p for p in listed if (p["metadata"].get("ownerReferences") or [{}])[0].get("name")]
    return {
        p["metadata"]["name"]: p
        for p in owned
        if p["metadata"]["ownerReferences"][0]["name"] == name
    }


def images(world: VirtualCluster, name: str) -> dict[str, str]:
    return {
        pod: obj["spec"]["containers"][0]["image"].rpartition(":")[2]
        for pod, obj in pods(world, name).items()
    }


def release(tag: str) -> Any:
    def edit(obj: Obj) -> None:
        obj["spec"]["template"]["spec"]["containers"][0]["image"] = f"{IMAGE}:{tag}"

    return edit


def test_a_stateful_set_makes_its_pods_one_after_the_other(world: VirtualCluster) -> None:
    world.cluster.apply(workload("StatefulSet", "db", replicas=3, serviceName="db"))
    seen = []
    for _ in range(8):
        world.let_pass(1)
        seen.append(len(pods(world, "db")))
    assert seen == sorted(seen)
    assert {1, 2, 3} <= set(seen)
    assert sorted(pods(world, "db")) == ["db-0", "db-1", "db-2"]
    status = world.get("StatefulSet", "db")["status"]
    assert (status["readyReplicas"], status["updatedReplicas"], status["currentReplicas"]) == (
        (3,) * 3
    )
    assert status["currentRevision"] == status["updateRevision"]
    assert pods(world, "db")["db-1"]["spec"]["hostname"] == "db-1"


def test_a_parallel_stateful_set_waits_for_nobody(world: VirtualCluster) -> None:
    obj = workload("StatefulSet", "db", replicas=3, podManagementPolicy="Parallel")
    world.cluster.apply(obj)
    world.let_pass(0.5)
    assert len(pods(world, "db")) == 3


def test_a_stateful_set_is_updated_from_the_highest_pod_down(world: VirtualCluster) -> None:
    world.cluster.apply(workload("StatefulSet", "db", replicas=3))
    world.let_pass(MINUTE)
    world.change("StatefulSet", "db", release("5.1"))
    courses: list[tuple[str, ...]] = []
    for _ in range(40):
        world.let_pass(1)
        course = tuple(images(world, "db").get(f"db-{n}", "") for n in range(3))
        if not courses or courses[-1] != course:
            courses.append(course)
    assert courses[-1] == ("5.1", "5.1", "5.1")
    assert all(sum(tag == "" for tag in course) <= 1 for course in courses)
    assert ("5.0", "5.0", "5.1") in courses
    assert ("5.0", "5.1", "5.1") in courses


def test_the_partition_of_a_stateful_set_holds_the_pods_below_it(world: VirtualCluster) -> None:
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}
    world.cluster.apply(workload("StatefulSet", "db", replicas=3, updateStrategy=rolling))
    world.let_pass(MINUTE)
    world.change("StatefulSet", "db", release("5.1"))
    world.let_pass(MINUTE)
    assert images(world, "db") == {"db-0": "5.0", "db-1": "5.0", "db-2": "5.1"}
    world.cluster.delete("Pod", "db-0")
    world.let_pass(MINUTE)
    assert images(world, "db")["db-0"] == "5.0"
    status = world.get("StatefulSet", "db")["status"]
    assert (status["updatedReplicas"], status["currentReplicas"]) == (1, 2)


def test_a_stateful_set_on_delete_changes_only_what_somebody_deletes(world: VirtualCluster) -> None:
    obj = workload("StatefulSet", "db", replicas=2, updateStrategy={"type": "OnDelete"})
    world.cluster.apply(obj)
    world.let_pass(MINUTE)
    world.change("StatefulSet", "db", release("5.1"))
    world.let_pass(5 * MINUTE)
    assert images(world, "db") == {"db-0": "5.0", "db-1": "5.0"}
    world.cluster.delete("Pod", "db-1")
    world.let_pass(MINUTE)
    assert images(world, "db") == {"db-0": "5.0", "db-1": "5.1"}


def test_a_smaller_stateful_set_keeps_its_claims(world: VirtualCluster) -> None:
    claim = {
        "metadata": {"name": "data"},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }
    obj = workload("StatefulSet", "db", replicas=2, volumeClaimTemplates=[claim])
    world.cluster.apply(obj)
    world.let_pass(MINUTE)
    world.change("StatefulSet", "db", lambda obj: obj["spec"].update(replicas=1))
    world.let_pass(MINUTE)
    assert list(pods(world, "db")) == ["db-0"]
    claims = world.cluster.list("PersistentVolumeClaim", NAMESPACE)
    assert [c["metadata"]["name"] for c in claims] == ["data-db-0", "data-db-1"]
    assert {c["status"]["phase"] for c in claims} == {"Bound"}
    volume = pods(world, "db")["db-0"]["spec"]["volumes"][0]
    assert volume == {"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}}


def test_a_daemon_set_has_a_pod_on_each_node(world: VirtualCluster) -> None:
    world.cluster.apply(workload("DaemonSet", "agent"))
    world.let_pass(MINUTE)
    nodes = sorted(pod["spec"]["nodeName"] for pod in pods(world, "agent").values())
    assert nodes == ["node-1", "node-2"]
    status = world.get("DaemonSet", "agent")["status"]
    assert status == {
        "currentNumberScheduled": 2,
        "numberMisscheduled": 0,
        "desiredNumberScheduled": 2,
        "numberReady": 2,
        "observedGeneration": 1,
        "updatedNumberScheduled": 2,
        "numberAvailable": 2,
    }


def test_a_cordoned_node_keeps_the_pods_of_daemon_sets(world: VirtualCluster) -> None:
    world.change("Node", "node-1", lambda obj: obj["spec"].update(unschedulable=True))
    world.cluster.apply(workload("DaemonSet", "agent"))
    world.let_pass(MINUTE)
    assert len(pods(world, "agent")) == 2


def test_a_daemon_set_is_updated_node_by_node(world: VirtualCluster) -> None:
    world.cluster.apply(workload("DaemonSet", "agent"))
    world.let_pass(MINUTE)
    world.change("DaemonSet", "agent", release("5.1"))
    fewest = 2
    for _ in range(60):
        world.let_pass(0.5)
        fewest = min(fewest, world.get("DaemonSet", "agent")["status"]["numberReady"])
    assert fewest == 1
    assert set(images(world, "agent").values()) == {"5.1"}
    assert world.get("DaemonSet", "agent")["status"]["updatedNumberScheduled"] == 2


def end(world: VirtualCluster, name: str, exit_code: int) -> None:
    """Let the active pods of a Job end."""
    for pod in pods(world, name).values():
        if pod["status"]["phase"] == "Running":
            process = world.pods._processes[pod["metadata"]["uid"]]
            process.report(PodReport("crashed", exit_code=exit_code))


def condition(world: VirtualCluster, name: str) -> list[tuple[str, str]]:
    conditions = world.get("Job", name)["status"].get("conditions") or ()
    return [(each["type"], each["reason"]) for each in conditions]


def test_a_job_completes_when_its_pod_succeeds(world: VirtualCluster) -> None:
    world.cluster.apply(job())
    world.let_pass(10)
    status = world.get("Job", "migrate")["status"]
    assert (status["active"], status["ready"]) == (1, 1)
    end(world, "migrate", 0)
    world.let_pass(1)
    status = world.get("Job", "migrate")["status"]
    assert status["succeeded"] == 1
    assert "active" not in status
    assert status["completionTime"]
    assert condition(world, "migrate") == [
        ("SuccessCriteriaMet", "CompletionsReached"),
        ("Complete", "CompletionsReached"),
    ]
    labels = world.get("Job", "migrate")["spec"]["template"]["metadata"]["labels"]
    assert labels["batch.kubernetes.io/job-name"] == "migrate"


def test_a_job_that_fails_is_tried_again_after_growing_delays(world: VirtualCluster) -> None:
    world.cluster.apply(job(backoffLimit=2))
    made = []
    for _ in range(100):
        world.let_pass(1)
        made.append(len(pods(world, "migrate")))
        end(world, "migrate", 1)
    assert [made.count(n) > 5 for n in (1, 2, 3)] == [True, True, True]
    assert made[-1] == 3
    assert condition(world, "migrate")[-1] == ("Failed", "BackoffLimitExceeded")
    assert world.get("Job", "migrate")["status"]["failed"] == 3


def test_a_job_past_its_deadline_fails_and_its_pods_end(world: VirtualCluster) -> None:
    world.cluster.apply(job(activeDeadlineSeconds=120))
    world.let_pass(119)
    assert condition(world, "migrate") == []
    world.let_pass(40)
    assert condition(world, "migrate")[-1] == ("Failed", "DeadlineExceeded")
    assert pods(world, "migrate") == {}


def test_a_job_runs_no_more_than_its_parallelism_at_once(world: VirtualCluster) -> None:
    world.cluster.apply(job(parallelism=2, completions=3))
    world.let_pass(10)
    assert world.get("Job", "migrate")["status"]["active"] == 2
    end(world, "migrate", 0)
    world.let_pass(10)
    assert world.get("Job", "migrate")["status"]["active"] == 1
    end(world, "migrate", 0)
    world.let_pass(1)
    assert condition(world, "migrate")[-1] == ("Complete", "CompletionsReached")


def test_a_suspended_job_has_no_pods(world: VirtualCluster) -> None:
    world.cluster.apply(job(suspend=True))
    world.let_pass(MINUTE)
    assert pods(world, "migrate") == {}
    world.change("Job", "migrate", lambda obj: obj["spec"].update(suspend=False))
    world.let_pass(10)
    assert len(pods(world, "migrate")) == 1


def test_a_finished_job_goes_when_its_time_is_over(world: VirtualCluster) -> None:
    world.cluster.apply(job(ttlSecondsAfterFinished=100))
    world.let_pass(10)
    end(world, "migrate", 0)
    world.let_pass(90)
    assert world.cluster.get("Job", "migrate") is not None
    world.let_pass(20)
    assert world.cluster.get("Job", "migrate") is None


def test_a_job_that_restarts_for_ever_is_refused(world: VirtualCluster) -> None:
    with pytest.raises(ApiError) as refusal:
        world.cluster.apply(workload("Job", "migrate"))
    assert str(refusal.value) == (
        'Job.batch "migrate" is invalid: spec.template.spec.restartPolicy: Required value: valid '
        'values: "OnFailure", "Never"'
    )


def test_crashes_of_a_version_reach_its_stateful_sets(world: VirtualCluster) -> None:
    world.cluster.apply(workload("StatefulSet", "db", replicas=2))
    world.let_pass(MINUTE)
    world.faults.set(STABLE_VERSION, {"crash": True})
    world.let_pass(MINUTE)
    assert world.get("StatefulSet", "db")["status"].get("readyReplicas", 0) == 0
