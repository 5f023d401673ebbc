"""What a wait bears, what ends it at once, and what it believes."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine import regex
from engine.executor import TaskContext
from engine.module_api import Failed, Refused, TimedOut, Unreachable
from modules import kubectl
from modules._kube import trouble as kube_trouble
from modules._kube import watch as kube_watch
from modules._kube.command import default_container
from modules._kube.rollout import progress
from tests.lab.cluster.objects import NAMESPACE
from tests.modules.conftest import Answer, MakeContext, Request, Serve, Told
from tests.modules.kube_cluster import TestCluster, app
from tests.modules.test_kubectl import when

GREEN = "claude-enhancer-green"


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[TestCluster]:
    with TestCluster(tmp_path / "kube", pace=10.0) as cluster:
        yield cluster


@pytest.fixture
def ctx(make_context: MakeContext, cluster: TestCluster) -> TaskContext:
    return make_context({"kubectl": cluster.section}, seconds=20)


# -- final or transient -------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("message", "final"),
    [
        ("manifest for app:9 not found: manifest unknown", True),
        ("pull access denied for app, repository does not exist", True),
        ("failed to authorize: 401 Unauthorized", True),
        ("no match for platform in manifest", True),
        ("429 Too Many Requests - toomanyrequests: You have reached your pull rate limit", False),
        ("unexpected status code 503 Service Unavailable", False),
        ("dial tcp 10.0.0.1:443: i/o timeout", False),
        ("lookup registry.example.com: no such host", False),
        ("context deadline exceeded", False),
        ('Back-off pulling image "app:9"', False),
        ("", False),
    ],
)
def test_a_pull_that_may_succeed_later_is_told_from_one_that_cannot(
    message: str, final: bool
) -> None:
    assert kube_trouble.pull_is_final(message) is final


def container(reason: str, restarts: int, message: str = "") -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": message}} if reason else {"running": {}}
    return {"name": "app", "image": "app:1", "state": state, "restartCount": restarts}


@pytest.mark.parametrize(
    ("reason", "restarts", "before", "found"),
    [
        ("InvalidImageName", 0, 0, "final"),
        ("RunContainerError", 0, 0, "final"),
        ("CreateContainerConfigError", 0, 0, "patient"),
        ("CrashLoopBackOff", 2, 0, "patient"),
        ("CrashLoopBackOff", 3, 0, "final"),
        ("CrashLoopBackOff", 9, 9, "patient"),
        ("", 2, 0, "patient"),
        ("", 3, 0, "final"),
        ("", 4, 4, None),
    ],
)
def test_restarts_count_from_when_the_pod_is_waited_for(
    reason: str, restarts: int, before: int, found: str | None
) -> None:
    status = {"containerStatuses": [container(reason, restarts)]}
    pod = {"metadata": {"name": "p"}, "status": status}
    trouble = kube_trouble.trouble(pod, {"app": before})
    assert (trouble and ("patient" if trouble.patient else "final")) == found


def test_a_container_may_restart_until_what_it_needs_is_there(
    ctx: TaskContext, cluster: TestCluster
) -> None:
    cluster.runtime.hold = True

    def restart_twice() -> None:
        (name,) = cluster.runtime.started
        for _ in range(2):
            cluster.do(cluster.runtime.crash, name, 1)
            cluster.settle()
        cluster.do(cluster.runtime.make_ready, name)

    when(lambda: len(cluster.runtime.started) == 1, restart_twice)
    done = kubectl.apply(ctx, objects=[app(GREEN, "5.1", 1)], wait=True)
    assert done.data["rollouts"][f"deployment/{GREEN}"]["ready"] == 1


def test_patience_ends(make_context: MakeContext, serve: Serve) -> None:
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "default", "resourceVersion": "1"},
        "status": {"containerStatuses": [container("CreateContainerConfigError", 0, "no secret")]},
    }
    ctx = make_context({"kubectl": {"server": serve(listing(pod)).url}}, seconds=10)
    with pytest.raises(Failed, match="in vain: pod p: CreateContainerConfigError"):
        kubectl.wait(ctx, "pod", "p", for_="condition=Ready", patience=0.2)
    short = make_context({"kubectl": {"server": serve(listing(pod)).url}}, seconds=0.4)
    with pytest.raises(TimedOut):
        kubectl.wait(short, "pod", "p", for_="condition=Ready", patience=30)


def listing(*items: dict[str, Any]) -> Callable[[Request], Answer]:
    """A cluster that has these objects of whatever kind is asked for, and where nothing moves."""

    def answer(request: Request) -> Answer:
        if "watch=true" in request.path:
            return 200, b""
        return 200, {"kind": "List", "metadata": {"resourceVersion": "1"}, "items": list(items)}

    return answer


# -- going down ---------------------------------------------------------------------------------
def test_crashing_pods_do_not_keep_from_scaling_down(
    ctx: TaskContext, cluster: TestCluster
) -> None:
    cluster.put(app(GREEN, "5.1", 3, image="claude-enhancer:crash"))
    one = kubectl.scale(ctx, GREEN, 1)
    assert (one.data["before"], one.data["ready"]) == (3, 0)
    assert "0 ready" in one.message
    assert kubectl.scale(ctx, GREEN, 0).data["replicas"] == 0
    assert not kubectl.scale(ctx, GREEN, 0).changed


def test_a_deadline_that_was_exceeded_before_is_no_news(
    ctx: TaskContext, cluster: TestCluster
) -> None:
    cluster.runtime.hold = True
    cluster.put(app(GREEN, "5.1", 2, progressDeadlineSeconds=3))
    with pytest.raises(Failed, match="ProgressDeadlineExceeded"):
        kubectl.rollout_status(ctx, GREEN)
    assert kubectl.scale(ctx, GREEN, 0).changed


# -- who else is there --------------------------------------------------------------------------
@pytest.mark.parametrize("scaled", [False, True])
def test_a_number_that_somebody_else_sets_is_not_ours(
    ctx: TaskContext, cluster: TestCluster, told: Told, scaled: bool
) -> None:
    cluster.put(app(GREEN, "5.1", 1))
    if scaled:
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": GREEN}
        cluster.put(
            {
                "apiVersion": "autoscaling/v2",
                "kind": "HorizontalPodAutoscaler",
                "metadata": {"name": "by-load", "namespace": NAMESPACE},
                "spec": {"scaleTargetRef": target, "minReplicas": 1, "maxReplicas": 3},
            }
        )
    cluster.runtime.hold = True
    when(lambda: bool(told.progress), lambda: cluster.put(app(GREEN, "5.1", 2)))
    with pytest.raises(Failed, match="is to have 2 replicas now, not 5") as caught:
        kubectl.scale(ctx, GREEN, 5)
    assert ("by-load" in caught.value.message) == scaled


def test_the_number_that_the_server_keeps_is_what_counts(
    serve: Serve, make_context: MakeContext
) -> None:
    scale = {"kind": "Scale", "spec": {"replicas": 2}}
    ctx = make_context({"kubectl": {"server": serve(lambda request: (200, scale)).url}}, seconds=5)
    with pytest.raises(Failed, match="2 replicas now, not 5"):
        kubectl.scale(ctx, "web", 5, wait=False)


def test_what_cannot_be_waited_for_is_refused_before_it_is_scaled(
    serve: Serve, make_context: MakeContext
) -> None:
    server = serve(lambda request: (200, {"kind": "Scale", "spec": {"replicas": 2}}))
    ctx = make_context({"kubectl": {"server": server.url}}, seconds=5)
    with pytest.raises(Refused, match="cannot be told"):
        kubectl.scale(ctx, "vs", 5, kind="VirtualService")
    assert server.requests == []


def test_a_replicaset_is_waited_for() -> None:
    item = {
        "kind": "ReplicaSet",
        "metadata": {"generation": 1},
        "spec": {"replicas": 3},
        "status": {"observedGeneration": 1, "replicas": 3, "readyReplicas": 1},
    }
    assert not progress(item).done
    item["status"] |= {"readyReplicas": 3, "availableReplicas": 3}  # type: ignore[operator]
    assert progress(item).done


# -- what cannot come ---------------------------------------------------------------------------
def job(**condition: Any) -> dict[str, Any]:
    conditions = [condition] if condition else []
    return {
        "metadata": {"name": "migrate", "namespace": "default", "resourceVersion": "1"},
        "status": {"conditions": conditions},
    }


@pytest.mark.parametrize("awaited", ["condition=Complete", "jsonpath={.status.succeeded}=1"])
def test_a_job_that_has_failed_does_not_complete(
    serve: Serve, make_context: MakeContext, awaited: str
) -> None:
    failed = job(type="Failed", status="True", reason="BackoffLimitExceeded", message="it has")
    ctx = make_context({"kubectl": {"server": serve(listing(failed)).url}}, seconds=10)
    with pytest.raises(Failed, match="job migrate has ended: Failed: BackoffLimitExceeded: it has"):
        kubectl.wait(ctx, "Job", "migrate", for_=awaited)
    assert kubectl.wait(ctx, "Job", "migrate", for_="condition=Failed").data["names"]


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
def test_pods_that_only_people_replace_are_not_waited_for(
    serve: Serve, make_context: MakeContext, kind: str
) -> None:
    item = {
        "metadata": {"name": "vault", "generation": 1, "resourceVersion": "1"},
        "spec": {"replicas": 1, "updateStrategy": {"type": "OnDelete"}},
        "status": {},
    }
    server = serve(listing(item))
    ctx = make_context({"kubectl": {"server": server.url}}, seconds=5)
    with pytest.raises(Refused, match="OnDelete"):
        kubectl.rollout_status(ctx, "vault", kind=kind)
    server.answer = lambda request: (200, item)
    with pytest.raises(Refused, match="OnDelete"):
        kubectl.rollout_restart(ctx, "vault", kind=kind)
    assert {request.method for request in server.requests} == {"GET"}


@pytest.mark.parametrize(
    ("condition", "status", "believed"),
    [
        ({}, {"observedGeneration": 1}, False),
        ({}, {"observedGeneration": 2}, True),
        ({"observedGeneration": 1}, {"observedGeneration": 2}, False),
        ({}, {}, True),
    ],
)
def test_a_condition_counts_once_the_newest_generation_was_seen(
    serve: Serve, make_context: MakeContext, condition: Any, status: Any, believed: bool
) -> None:
    available = {"type": "Available", "status": "True", **condition}
    item = {
        "metadata": {"name": "web", "generation": 2, "resourceVersion": "1"},
        "status": {**status, "conditions": [available]},
    }
    ctx = make_context({"kubectl": {"server": serve(listing(item)).url}}, seconds=0.4)
    if believed:
        kubectl.wait(ctx, "Deployment", "web", for_="condition=Available")
        return
    with pytest.raises(TimedOut):
        kubectl.wait(ctx, "Deployment", "web", for_="condition=Available")


# -- a cluster that is lost ---------------------------------------------------------------------
READY = {
    "metadata": {"name": "a", "namespace": "default", "resourceVersion": "2"},
    "data": {"done": "yes"},
}
NOT_YET = {**READY, "data": {}}


class Flaky:
    """A cluster that lists an object, is lost for some requests, and then has it changed."""

    def __init__(self, *losses: Answer) -> None:
        self.losses = list(losses)
        self.watched = 0

    def __call__(self, request: Request) -> Answer:
        if "watch=true" not in request.path:
            if self.watched and self.losses:
                return self.losses.pop(0)
            return 200, {"metadata": {"resourceVersion": "1"}, "items": [NOT_YET]}
        self.watched += 1
        if self.watched == 1:
            return 200, b""
        if self.losses:
            return self.losses.pop(0)
        return 200, json.dumps({"type": "MODIFIED", "object": READY}).encode() + b"\n"


def refusal(status: int) -> Answer:
    return status, {"kind": "Status", "message": f"not now ({status})", "code": status}


@pytest.mark.parametrize("status", [401, 403, 404, 500, 502, 503])
def test_a_cluster_that_is_lost_while_it_is_watched_is_waited_for(
    serve: Serve, make_context: MakeContext, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    monkeypatch.setattr(kube_watch, "_AGAIN", 0.01)
    monkeypatch.setattr(kube_watch, "_PATIENCE", 0.0)  # the step's deadline counts alone
    flaky = Flaky(*[refusal(status)] * 5)
    ctx = make_context({"kubectl": {"server": serve(flaky).url}}, seconds=10)
    kubectl.wait(ctx, "cm", "a", for_="jsonpath={.data.done}=yes")
    assert flaky.losses == []


def test_a_cluster_that_forbids_watching_from_the_first_is_not_waited_for(
    serve: Serve, make_context: MakeContext
) -> None:
    def answer(request: Request) -> Answer:
        if "watch=true" in request.path:
            return refusal(403)
        return 200, {"metadata": {"resourceVersion": "1"}, "items": [NOT_YET]}

    ctx = make_context({"kubectl": {"server": serve(answer).url}}, seconds=10)
    with pytest.raises(Refused, match="not now"):
        kubectl.wait(ctx, "cm", "a", for_="jsonpath={.data.done}=yes")


def test_a_cluster_that_never_answered_is_unreachable_at_once(make_context: MakeContext) -> None:
    ctx = make_context({"kubectl": {"server": "http://127.0.0.1:1"}}, seconds=20)
    with pytest.raises(Unreachable):
        kubectl.wait(ctx, "cm", "a", for_="delete")
    assert (ctx.remaining() or 0) > 10


# -- pods with several containers ---------------------------------------------------------------
@pytest.mark.parametrize(
    ("annotation", "name"), [("app", "app"), ("gone", "istio-proxy"), ("", "istio-proxy")]
)
def test_the_default_container_is_that_of_the_annotation_else_the_first(
    annotation: str, name: str
) -> None:
    annotations = {"kubectl.kubernetes.io/default-container": annotation}
    pod = {
        "metadata": {"name": "p", "annotations": annotations},
        "spec": {"containers": [{"name": "istio-proxy"}, {"name": "app"}]},
    }
    assert default_container(pod) == name


def test_init_containers_and_sidecars_have_logs(serve: Serve, make_context: MakeContext) -> None:
    states = [
        {"name": "done", "state": {"terminated": {"exitCode": 0}}},
        {"name": "proxy", "state": {"running": {}}},
        {"name": "broken", "state": {"waiting": {"reason": "CrashLoopBackOff"}}},
    ]
    pod = {
        "kind": "Pod",
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {
            "initContainers": [
                {"name": "done"},
                {"name": "proxy", "restartPolicy": "Always"},
                {"name": "broken"},
            ],
            "containers": [{"name": "app"}],
        },
        "status": {"initContainerStatuses": states},
    }

    def answer(request: Request) -> Answer:
        if "/log?" in request.path:
            return 200, request.path.partition("container=")[2].partition("&")[0]
        return 200, pod

    ctx = make_context({"kubectl": {"server": serve(answer).url}}, seconds=5)
    assert kubectl.logs(ctx, "p").data["pods"] == {
        "p/proxy": ["proxy"],
        "p/broken": ["broken"],
        "p/app": ["app"],
    }
    assert kubectl.logs(ctx, "p", container="done").data["pods"] == {"p": ["done"]}
    with pytest.raises(Failed, match="no container 'none'"):
        kubectl.logs(ctx, "p", container="none")


def test_a_status_is_changed_by_its_subresource_or_not_at_all(
    serve: Serve, make_context: MakeContext
) -> None:
    item = {"kind": "Gadget", "metadata": {"name": "a"}, "status": {"phase": "Old"}}
    ctx = make_context({"kubectl": {"server": serve(lambda request: (200, item)).url}}, seconds=5)
    with pytest.raises(Failed, match="kept nothing of its status") as caught:
        kubectl.patch(ctx, "vs", "a", {"status": {"phase": "New"}})
    assert "subresource: status" in caught.value.hint
    assert not kubectl.patch(ctx, "vs", "a", {"status": {"phase": "Old"}}).changed


def test_a_pattern_for_log_lines_is_bounded(
    serve: Serve, make_context: MakeContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(regex, "SECONDS", 0.3)
    pod = {"metadata": {"name": "p", "namespace": "n"}, "spec": {"containers": [{"name": "app"}]}}
    lines = "a" * 40 + "!\nok"
    server = serve(lambda request: (200, lines if "/log?" in request.path else pod))
    ctx = make_context({"kubectl": {"server": server.url}}, seconds=20)
    assert kubectl.logs(ctx, "p", match="o.$").data["count"] == 1
    with pytest.raises(Refused, match="takes longer"):
        kubectl.logs(ctx, "p", match="(a+)+$")
    with pytest.raises(Refused, match="not a regular expression"):
        kubectl.logs(ctx, "p", match="(")


def test_a_proxy_that_ends_every_watch_at_once_is_not_stormed(
    serve: Serve, make_context: MakeContext
) -> None:
    server = serve(listing(NOT_YET))
    ctx = make_context({"kubectl": {"server": server.url}}, seconds=0.5)
    with pytest.raises(TimedOut):
        kubectl.wait(ctx, "cm", "a", for_="jsonpath={.data.done}=yes")
    assert len(server.requests) < 10
