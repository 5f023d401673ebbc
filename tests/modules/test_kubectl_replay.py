"""`kubectl` understands the recorded answers of a real Kubernetes API server."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.executor import TaskContext
from engine.module_api import Cancelled, Failed, Refused, TimedOut, Unreachable
from modules import kubectl
from modules._kube import errors as kube_errors
from modules._kube import kinds as kube_kinds
from modules._kube import pods as kube_pods
from modules._kube import rollout as kube_rollout
from tests.modules.conftest import Answer, MakeContext, Request, Serve, Server, Told
from tests.modules.kube_replay import Replay, body, listed, recorded

NAMESPACE = "claude-enhancer"
GREEN = "claude-enhancer-green"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"

Play = Callable[..., TaskContext]


@pytest.fixture
def servers() -> list[Server]:
    """The servers that `play` started."""
    return []


@pytest.fixture
def play(serve: Serve, make_context: MakeContext, servers: list[Server]) -> Iterator[Play]:
    """A context whose cluster answers with the given recordings, all of which must be used."""
    played: list[Replay] = []

    def start(*steps: str | tuple[str, str, Any], **options: Any) -> TaskContext:
        replay = Replay(*steps)
        played.append(replay)
        servers.append(serve(replay))
        section = {"server": servers[-1].url, "namespace": NAMESPACE}
        return make_context({"kubectl": section}, **options)

    yield start
    for replay in played:
        replay.done()


def manifest(name: str) -> dict[str, Any]:
    found: dict[str, Any] = recorded(name)["request"]["body"]
    return found


def test_apply_creates_what_is_missing(play: Play, servers: list[Server]) -> None:
    ctx = play("08", "12")
    result = kubectl.apply(ctx, objects=[manifest("12")])
    assert result.changed
    assert result.data["objects"] == [
        {"kind": "Deployment", "name": GREEN, "namespace": NAMESPACE, "result": "created"}
    ]
    assert result.message == f"deployment/{GREEN} created"
    sent = servers[0].requests[1]
    assert sent.json() == manifest("12")
    assert "fieldManager=ce-run&force=false" in sent.path
    assert (sent.headers["x-ce-run"], sent.headers["x-ce-token"]) == ("run-1", "0")


def test_applying_the_same_again_is_no_change(play: Play) -> None:
    result = kubectl.apply(play("14", "15"), objects=[manifest("15")])
    assert not result.changed
    assert result.data["objects"][0]["result"] == "unchanged"
    assert result.diff == ""


def test_a_conflict_names_manager_and_field(play: Play) -> None:
    with pytest.raises(Refused) as caught:
        kubectl.apply(play("14", "16"), objects=[manifest("16")])
    field = '.spec.template.spec.containers[name="app"].image'
    assert caught.value.message == (
        f"deployment/{GREEN}: another field manager owns what would be applied: ce-run owns {field}"
    )
    assert caught.value.data["conflicts"] == [{"manager": "ce-run", "field": field}]
    assert "force_conflicts" in caught.value.hint


def test_check_shows_what_the_server_would_store(play: Play, servers: list[Server]) -> None:
    checked = kubectl.apply.checker
    assert checked
    result = checked(play("14", "17"), objects=[manifest("17")], force_conflicts=True)
    changes = [line for line in result.diff.splitlines() if line[0] in "+-"]
    assert changes == [
        f"--- live/deployment/{GREEN}",
        f"+++ ce-run/deployment/{GREEN}",
        "-  replicas: 2",
        "+  replicas: 10",
    ]
    assert result.data["objects"][0]["result"] == "configured"
    assert "force=true" in servers[0].requests[1].path


def test_the_server_s_complaints_about_fields_are_passed_on(play: Play) -> None:
    path = f"{DEPLOYMENTS}/Bad_Name"
    ctx = play(("GET", path, "08"), ("PATCH", path, "18"))
    with pytest.raises(Refused) as caught:
        kubectl.apply(ctx, objects=[manifest("18")])
    assert caught.value.evidence[0].endswith("→ 422 Invalid")
    assert "spec.template.spec.containers: Required value" in caught.value.evidence
    assert "selector` does not match template `labels`" in caught.value.message


def test_credentials_that_are_not_accepted_are_refused(play: Play) -> None:
    with pytest.raises(Refused, match="Unauthorized") as caught:
        kubectl.get(play("06"), "ns")
    assert caught.value.hint == (
        "the credentials are not accepted; they come from the inventory's kubectl section"
    )


def test_get_reads_one_object_or_says_that_it_is_not_there(play: Play) -> None:
    found = kubectl.get(play("14"), "deploy", GREEN).data
    assert found["found"]
    assert found["object"]["status"]["readyReplicas"] == 2
    assert "managedFields" not in found["object"]["metadata"]
    with pytest.raises(Failed, match='"claude-enhancer-green" not found'):
        kubectl.get(play("08"), "Deployment", GREEN)
    absent = kubectl.get(play("08"), "deployments", GREEN, missing_ok=True)
    assert absent.data == {"found": False, "object": None}


def test_get_lists_by_label(play: Play) -> None:
    ctx = play("24")
    data = kubectl.get(ctx, "pods", selector="app=claude-enhancer,version=5.1").data
    assert data["count"] == 4
    assert {item["kind"] for item in data["items"]} == {"Pod"}


def test_get_follows_the_pages_of_a_long_list(play: Play, servers: list[Server]) -> None:
    events = f"/api/v1/namespaces/{NAMESPACE}/events"
    rest = {"metadata": {"resourceVersion": "455"}, "items": body("45")["items"][:2]}
    data = kubectl.get(play("45", ("GET", events, rest)), "events").data
    assert data["count"] == 7
    assert "continue=eyJ2" in servers[0].requests[1].path


def test_a_long_list_whose_rest_is_gone_is_read_anew_in_one(
    play: Play, servers: list[Server]
) -> None:
    events = f"/api/v1/namespaces/{NAMESPACE}/events"
    gone = (410, {"kind": "Status", "reason": "Expired", "message": "too old"})
    whole = {"metadata": {"resourceVersion": "455"}, "items": body("45")["items"][:3]}
    data = kubectl.get(play("45", ("GET", events, gone), ("GET", events, whole)), "events").data
    assert data["count"] == 3
    assert "limit" not in servers[0].requests[2].path


def test_a_kind_that_is_not_in_the_table_is_asked_for_once(
    play: Play, servers: list[Server]
) -> None:
    path = f"/api/v1/namespaces/{NAMESPACE}/podtemplates"
    ctx = play("04", ("GET", path, listed()), ("GET", path, listed()))
    for _ in range(2):
        assert kubectl.get(ctx, "podtemplate", api_version="v1").data == {"items": [], "count": 0}


def test_an_unknown_kind_names_the_nearest(play: Play) -> None:
    groups = {"groups": [{"preferredVersion": {"groupVersion": "apps/v1"}}]}
    ctx = play("04", ("GET", "/apis", groups), "05")
    with pytest.raises(Failed, match="no kind 'Deploymnt' … did you mean 'Deployment'"):
        kubectl.get(ctx, "Deploymnt")


def test_the_table_of_kinds_agrees_with_what_a_server_tells() -> None:
    told = {}
    for name in ("04", "05", "41"):
        found = body(name)
        for resource in found["resources"]:
            if "/" not in resource["name"]:
                told[(found["groupVersion"], resource["kind"])] = resource
    seen = 0
    for kind in kube_kinds.KINDS:
        if resource := told.get((kind.api_version, kind.kind)):
            seen += 1
            assert kind.plural == resource["name"]
            assert kind.namespaced == resource["namespaced"]
            assert list(kind.short) == resource.get("shortNames", [])
    assert seen > 15


def test_scale_sets_the_number_and_says_what_it_was(play: Play, servers: list[Server]) -> None:
    result = kubectl.scale(play("21", "22"), GREEN, 4, wait=False)
    assert result.data == {
        "kind": "Deployment",
        "name": GREEN,
        "namespace": NAMESPACE,
        "replicas": 4,
        "before": 2,
        "ready": 4,
    }
    assert servers[0].requests[1].json() == {"spec": {"replicas": 4}}
    same = kubectl.scale(play("21"), GREEN, 2, wait=False)
    assert not same.changed


def test_check_of_scale_only_reads(play: Play) -> None:
    checked = kubectl.scale.checker
    assert checked
    result = checked(play("21"), GREEN, 10)
    assert result.changed
    assert result.diff.splitlines()[-2:] == ["-replicas: 2", "+replicas: 10"]


def test_a_rollout_is_followed_by_watch_to_its_end(play: Play, told: Told) -> None:
    created = body("12")
    result = kubectl.rollout_status(
        play(
            ("GET", DEPLOYMENTS, listed(created, version="319")),
            ("GET", PODS, listed()),
            ("GET", DEPLOYMENTS, "13"),
            ("GET*", PODS, b""),
        ),
        GREEN,
    )
    assert result.data == {
        "kind": "Deployment",
        "name": GREEN,
        "ready": 2,
        "desired": 2,
        "done": True,
    }
    assert told.progress[0].endswith("0 of 2 ready, not yet seen by its controller")
    assert told.progress[-1] == f"deployment/{GREEN}: 2 of 2 ready"


@pytest.mark.parametrize("late", [False, True])
def test_a_stream_that_has_fallen_too_far_behind_begins_anew(play: Play, late: bool) -> None:
    expired = {"kind": "Status", "message": "too old resource version", "reason": "Expired"}
    event = json.dumps({"type": "ERROR", "object": {**expired, "code": 410}}).encode()
    ctx = play(
        ("GET", DEPLOYMENTS, listed(body("12"))),
        ("GET", PODS, listed()),
        ("GET", DEPLOYMENTS, (200, event + b"\n") if late else (410, expired)),
        ("GET", DEPLOYMENTS, listed(body("14"))),
        ("GET*", DEPLOYMENTS, b""),
        ("GET*", PODS, b""),
        seconds=5,
    )
    assert kubectl.rollout_status(ctx, GREEN).data["done"]


def test_an_exceeded_progress_deadline_fails_at_once_with_evidence(play: Play) -> None:
    pods = body("24")["items"]
    broken = {**pods[0], "status": {**pods[0]["status"], "conditions": []}}
    with pytest.raises(Failed) as caught:
        kubectl.rollout_status(
            play(
                ("GET", DEPLOYMENTS, listed(body("35"))),
                ("GET", PODS, listed(broken)),
                ("GET", f"/api/v1/namespaces/{NAMESPACE}/events", body("45") | {"metadata": {}}),
            ),
            GREEN,
        )
    assert caught.value.message == (
        f"deployment/{GREEN} cannot be rolled out, 0 of 4 ready, 2 updated, 3 of the old revision "
        'left: ProgressDeadlineExceeded: ReplicaSet "claude-enhancer-green-66ddbf6bd" has timed '
        "out progressing."
    )
    assert any("SuccessfulCreate" in line for line in caught.value.evidence)


def test_patches_in_three_forms(play: Play, servers: list[Server]) -> None:
    service = "claude-enhancer-service"
    path = f"/api/v1/namespaces/{NAMESPACE}/services/{service}"
    before = body("26")
    strategic = kubectl.patch(
        play(("GET", path, before), "28"),
        "Service",
        service,
        {"spec": {"selector": {"version": "5.1"}}},
    )
    assert "+    version: '5.1'" in strategic.diff
    assert strategic.data["object"]["spec"]["selector"]["version"] == "5.1"
    operations = [{"op": "replace", "path": "/spec/selector/version", "value": "5.0"}]
    same = kubectl.patch(
        play(("GET", path, before), "29"), "svc", service, operations, type_="json"
    )
    assert not same.changed
    spec = recorded("43")["request"]["body"]
    istio = "/apis/networking.istio.io/v1beta1/namespaces/claude-enhancer/virtualservices"
    custom = kubectl.patch(
        play(("GET", f"{istio}/claude-enhancer-traffic", body("42")), "43"),
        "VirtualService",
        "claude-enhancer-traffic",
        spec,
    )
    assert "-      weight: 95" in custom.diff


def test_a_custom_resource_has_no_strategic_patch(play: Play) -> None:
    with pytest.raises(Refused, match="no strategic merge patch"):
        kubectl.patch(play(), "VirtualService", "x", {"spec": {}}, type_="strategic")


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "add", "path": "/spec/ports/-", "value": {}},
        {"op": "remove", "path": "/spec/ports/0"},
        {"op": "move", "from": "/a", "path": "/b"},
    ],
)
def test_a_json_patch_that_would_not_bear_repetition_needs_a_test(
    play: Play, operation: dict[str, Any]
) -> None:
    with pytest.raises(Refused, match="would do it again"):
        kubectl.patch(play(), "Service", "x", [operation], type_="json")


def test_undo_puts_the_template_of_the_earlier_revision_back(
    play: Play, servers: list[Server]
) -> None:
    replica_sets = f"/apis/apps/v1/namespaces/{NAMESPACE}/replicasets"
    result = kubectl.rollout_undo(
        play(
            ("GET", f"{DEPLOYMENTS}/{GREEN}", "31"),
            ("GET", replica_sets, "32"),
            ("PATCH", f"{DEPLOYMENTS}/{GREEN}", body("14")),
        ),
        GREEN,
        wait=False,
    )
    assert (result.data["revision"], result.data["from_revision"]) == (1, 2)
    test, replace, *_ = servers[0].requests[-1].json()
    assert (test["op"], test["value"]) == ("test", "2")
    template = replace["value"]
    assert template["spec"]["containers"][0]["image"] == "claude-enhancer:5.1"
    assert template["metadata"]["labels"] == {"app": "claude-enhancer", "version": "5.1"}


def test_undo_to_a_revision_that_is_not_there_names_those_that_are(play: Play) -> None:
    replica_sets = f"/apis/apps/v1/namespaces/{NAMESPACE}/replicasets"
    ctx = play(("GET", f"{DEPLOYMENTS}/{GREEN}", "31"), ("GET", replica_sets, "32"))
    with pytest.raises(Failed, match="no revision 7") as caught:
        kubectl.rollout_undo(ctx, GREEN, to_revision=7)
    assert caught.value.hint == "its revisions are 1, 2"


def test_delete_takes_the_object_that_was_seen(play: Play, servers: list[Server]) -> None:
    ctx = play("14", ("DELETE", f"{DEPLOYMENTS}/{GREEN}", "47"))
    result = kubectl.delete(ctx, "Deployment", GREEN, wait=False, propagation="foreground")
    assert result.data["objects"][0]["result"] == "deleted"
    sent = servers[0].requests[1].json()
    assert sent == {
        **recorded("47")["request"]["body"],
        "preconditions": {"uid": body("14")["metadata"]["uid"]},
    }


def test_deleting_what_is_missing_is_a_failure_unless_it_is_fine(play: Play) -> None:
    path = f"{DEPLOYMENTS}/claude-enhancer-canary"
    with pytest.raises(Failed, match="claude-enhancer-canary not found"):
        kubectl.delete(play(("GET", path, "48")), "Deployment", "claude-enhancer-canary")
    result = kubectl.delete(
        play(("GET", path, "48")), "Deployment", "claude-enhancer-canary", missing_ok=True
    )
    assert not result.changed
    assert result.data["objects"][0]["result"] == "missing"


def test_top_without_a_metrics_server_says_so(play: Play) -> None:
    with pytest.raises(Refused, match="no metrics server"):
        kubectl.top(play("46"))


def test_a_stale_write_is_told_apart_from_other_conflicts() -> None:
    access: Any = None
    error = kube_errors.refusal(409, json.dumps(body("39")).encode(), "PUT x", access)
    assert isinstance(error, kube_errors.Modified)
    error = kube_errors.refusal(409, json.dumps(body("11")).encode(), "POST x", access)
    assert type(error) is Failed


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_a_cluster_that_cannot_answer_now_is_unreachable(play: Play, status: int) -> None:
    ctx = play(("GET", f"{DEPLOYMENTS}/x", (status, {"message": "etcd is busy"})))
    with pytest.raises(Unreachable, match="etcd is busy"):
        kubectl.get(ctx, "deploy", "x")


def test_an_answer_that_is_not_json_is_told_as_such(play: Play) -> None:
    ctx = play(("GET", f"{DEPLOYMENTS}/x", (200, "<html>log in</html>")))
    with pytest.raises(Failed, match="not JSON") as caught:
        kubectl.get(ctx, "deploy", "x")
    assert "<html>log in</html>" in caught.value.evidence


def test_a_manifest_file_is_a_template_with_several_documents(
    play: Play, root: Path, servers: list[Server]
) -> None:
    (root / "app.yml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n"
        'data: {version: "{{ version }}"}\n---\n---\n'
        "apiVersion: v1\nkind: List\nitems:\n"
        "- {apiVersion: v1, kind: ConfigMap, metadata: {name: b, namespace: other}}\n"
    )
    path = "/api/v1/namespaces/{}/configmaps/{}"
    one, two = path.format(NAMESPACE, "a"), path.format("other", "b")
    stored = {"metadata": {"name": "x", "resourceVersion": "1"}}
    ctx = play(
        ("GET", one, "48"),
        ("PATCH", one, stored),
        ("GET", two, "48"),
        ("PATCH", two, stored),
        scope={"version": "5.1"},
    )
    result = kubectl.apply(ctx, Path("app.yml"))
    assert [one["name"] for one in result.data["objects"]] == ["a", "b"]
    assert servers[0].requests[1].json()["data"] == {"version": "5.1"}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("kind: ConfigMap\nmetadata: {name: a}", "no `apiVersion`"),
        ("apiVersion: v1\nkind: ConfigMap", "no `metadata.name`"),
        ("- a", "must be a mapping"),
        ("a: [", "app.yml:2:1 is not YAML"),
        ("# nothing", "nothing to apply"),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(
    play: Play, root: Path, text: str, words: str
) -> None:
    (root / "app.yml").write_text(text)
    with pytest.raises(Refused) as caught:
        kubectl.apply(play(), Path("app.yml"))
    assert words in caught.value.message


def test_the_values_of_secrets_are_not_shown(play: Play) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "s", "namespace": NAMESPACE, "resourceVersion": "1"},
        "data": {"password": "aHVudGVyMg=="},
    }
    path = f"/api/v1/namespaces/{NAMESPACE}/secrets/s"
    read = kubectl.get(play(("GET", path, secret)), "secret", "s")
    after = {**secret, "data": {"password": "aHVudGVyMw=="}}
    applied = kubectl.apply(play(("GET", path, secret), ("PATCH", path, after)), objects=[after])
    assert applied.changed
    for result in (read, applied):
        assert "aHVudGVy" not in str(result.data) + result.diff
    assert "hidden, 7 bytes" in applied.diff


# -- connections --------------------------------------------------------------------------------
def test_a_request_that_hangs_is_cut_off_by_cancellation_and_deadline(
    serve: Serve, make_context: MakeContext, cancel_when: Callable[..., object]
) -> None:
    release, overslept = threading.Event(), threading.Event()

    def hang(request: Request) -> Answer:
        if not release.wait(5):
            overslept.set()
        return 200, {}

    server = serve(hang)
    section = {"kubectl": {"server": server.url}}
    with pytest.raises(TimedOut):
        kubectl.get(make_context(section, seconds=0.2), "pods")
    ctx = make_context(section)
    cancel_when(ctx, lambda: len(server.requests) > 1)
    with pytest.raises(Cancelled):
        kubectl.get(ctx, "pods")
    watching = make_context(section)
    cancel_when(watching, lambda: len(server.requests) > 2)
    with pytest.raises(Cancelled):
        kubectl.rollout_status(watching, GREEN)
    assert not overslept.is_set()
    release.set()


def test_a_kept_connection_that_the_server_closes_is_replaced(
    make_context: MakeContext,
) -> None:
    """The server may close an idle connection in the very moment in which it is used again."""
    listener = socket.create_server(("127.0.0.1", 0))
    text = json.dumps(body("14")).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {len(text)}"

    def answer() -> None:
        for answers in (1, 1):
            connection, _ = listener.accept()
            with connection:
                for _ in range(answers):
                    connection.recv(65536)
                    connection.sendall(head.encode() + b"\r\n\r\n" + text)
                connection.recv(65536)  # the next request: not answered, but hung up on

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    ctx = make_context({"kubectl": {"server": f"http://127.0.0.1:{listener.getsockname()[1]}"}})
    for _ in range(2):
        assert kubectl.get(ctx, "deploy", GREEN).data["found"]
    listener.close()


def test_under_check_what_is_yet_to_come_is_no_failure(play: Play) -> None:
    ctx = play(("GET", f"{DEPLOYMENTS}/{GREEN}", "08"), mode="check")
    assert kubectl.rollout_status(ctx, GREEN).data["done"] is False
    ctx = play(("GET", f"{DEPLOYMENTS}/{GREEN}", "08"), mode="check")
    assert kubectl.get(ctx, "deploy", GREEN).data == {"found": False, "object": None}
    ctx = play(("GET", DEPLOYMENTS, listed()), mode="check")
    assert kubectl.wait(ctx, "deploy", GREEN, for_="create").data["names"] == []
    pods = ("GET", PODS, listed())
    nothing = {"pods": {}, "count": 0, "unread": {}}
    assert kubectl.logs(play(pods, mode="check"), selector="a=b").data == nothing
    data = kubectl.exec_read(play(pods, mode="check"), "true", selector="a=b").data
    assert (data["code"], data["stdout"]) == (0, "")


# -- pods in trouble ----------------------------------------------------------------------------
READY = {"type": "Ready", "status": "True"}


def waiting(reason: str, restarts: int = 0) -> dict[str, Any]:
    state = {"waiting": {"reason": reason, "message": f"because of {reason}"}}
    return {"name": "app", "image": "app:1", "state": state, "restartCount": restarts}


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        ({"containerStatuses": [waiting("RunContainerError")]}, "RunContainerError"),
        ({"containerStatuses": [waiting("CrashLoopBackOff", 1)]}, "CrashLoopBackOff"),
        ({"initContainerStatuses": [waiting("InvalidImageName")]}, "InvalidImageName"),
        ({"containerStatuses": [waiting("ContainerCreating", 2)]}, "restarted 2 times"),
        ({"containerStatuses": [waiting("ContainerCreating", 1)]}, None),
        ({"containerStatuses": [waiting("PodInitializing")]}, None),
        ({"conditions": [{"type": "PodScheduled", "status": "False"}]}, "Unschedulable"),
        ({"conditions": [READY], "containerStatuses": [waiting("x", 9)]}, None),
    ],
)
def test_what_keeps_a_pod_from_getting_ready(status: dict[str, Any], reason: str | None) -> None:
    found = kube_pods.trouble({"metadata": {"name": "p"}, "status": status})
    assert (found.reason if found else None) == reason


# -- rollouts of other kinds --------------------------------------------------------------------
def workload(kind: str, spec: dict[str, Any], status: dict[str, Any]) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"generation": 2}, "spec": spec, "status": status}


SEEN = {"observedGeneration": 2}
HALF = {
    **SEEN,
    "updateRevision": "b",
    "currentRevision": "a",
    "replicas": 3,
    "updatedReplicas": 1,
}
PARTED = {"updateStrategy": {"rollingUpdate": {"partition": 2}}}


@pytest.mark.parametrize(
    ("item", "done", "text"),
    [
        (workload("Deployment", {"replicas": 2}, {"observedGeneration": 1}), False, "not yet seen"),
        (workload("Deployment", {"replicas": 0}, SEEN), True, "0 of 0 ready"),
        (
            workload(
                "Deployment",
                {"replicas": 2},
                {**SEEN, "replicas": 3, "updatedReplicas": 1, "readyReplicas": 2},
            ),
            False,
            "0 of 2 ready, 1 updated, 2 of the old revision left",
        ),
        (
            workload("StatefulSet", {"replicas": 3}, {**HALF, "readyReplicas": 3}),
            False,
            "3 of 3 ready, 1 updated",
        ),
        (
            workload("StatefulSet", {"replicas": 3, **PARTED}, {**HALF, "readyReplicas": 3}),
            True,
            "3 of 3 ready",
        ),
        (
            workload(
                "DaemonSet",
                {},
                {
                    **SEEN,
                    "desiredNumberScheduled": 4,
                    "updatedNumberScheduled": 4,
                    "numberAvailable": 3,
                },
            ),
            False,
            "3 of 4 ready",
        ),
    ],
)
def test_how_far_a_rollout_is(item: dict[str, Any], done: bool, text: str) -> None:
    now = kube_rollout.progress(item)
    assert now.done is done
    assert text in now.text
