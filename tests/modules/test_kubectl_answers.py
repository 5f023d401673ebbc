"""What counts as a success of the cluster, and what of its words people get to see."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from engine.executor import TaskContext
from engine.module_api import ActionError, Failed, Refused
from modules import kubectl
from modules._kube import words as kube_words
from tests.modules.conftest import Answer, MakeContext, Request, Serve, Told

NAMESPACE = "claude-enhancer"
PASSWORD = "not-a-secret-but-hidden"
ENCODED = base64.b64encode(PASSWORD.encode()).decode()

CONFIG = {
    "apiVersion": "v1",
    "kind": "ConfigMap",
    "metadata": {"name": "a", "uid": "1"},
    "data": {"k": "1"},
}
SCALE = {"kind": "Scale", "apiVersion": "autoscaling/v1", "spec": {"replicas": 2}}

Reach = Callable[[Callable[[Request], Answer]], TaskContext]


@pytest.fixture
def reach(serve: Serve, make_context: MakeContext) -> Reach:
    """A context whose cluster answers as a function says."""
    return lambda answer: make_context(
        {"kubectl": {"server": serve(answer).url, "namespace": NAMESPACE}}, seconds=20
    )


WRITES: dict[str, Callable[[TaskContext], Any]] = {
    "apply": lambda ctx: kubectl.apply(ctx, objects=[CONFIG]),
    "delete": lambda ctx: kubectl.delete(ctx, "ConfigMap", "a"),
    "delete, not waited for": lambda ctx: kubectl.delete(ctx, "ConfigMap", "a", wait=False),
    "patch": lambda ctx: kubectl.patch(ctx, "ConfigMap", "a", {"data": {"k": "2"}}),
    "scale": lambda ctx: kubectl.scale(ctx, "web", 5),
    "scale, not waited for": lambda ctx: kubectl.scale(ctx, "web", 5, wait=False),
}

READS: dict[str, Callable[[TaskContext], Any]] = {
    "get": lambda ctx: kubectl.get(ctx, "ConfigMap", "a"),
    "list": lambda ctx: kubectl.get(ctx, "ConfigMap"),
    "wait": lambda ctx: kubectl.wait(ctx, "ConfigMap", "a", for_="create"),
    "logs": lambda ctx: kubectl.logs(ctx, selector="app=web"),
    "rollout-status": lambda ctx: kubectl.rollout_status(ctx, "web"),
    "top": lambda ctx: kubectl.top(ctx),
    "exec": lambda ctx: kubectl.exec_read(ctx, "true", pod="web-1"),
}

CALLS = WRITES | READS
TEXTS = ("logs", "exec")
"""Whose answers are a text and a websocket."""


@pytest.mark.parametrize("status", [301, 302, 304, 307, 207, 226])
@pytest.mark.parametrize("write", WRITES)
def test_a_write_that_is_not_answered_as_done_is_a_failure(
    reach: Reach, write: str, status: int
) -> None:
    def answer(request: Request) -> Answer:
        if request.method == "GET":
            return 200, SCALE if request.path.endswith("/scale") else CONFIG
        return status, b"", {"Location": "https://login.example.com/in?next=token"}

    with pytest.raises(Failed, match=f"status {status}") as caught:
        WRITES[write](reach(answer))
    error = caught.value
    assert ("https://login.example.com/in" in error.message) == (300 < status < 400)
    assert "token" not in " ".join([error.message, error.hint, *error.evidence])


@pytest.mark.parametrize("read", READS)
def test_a_read_that_is_redirected_is_a_failure_that_says_where_to(reach: Reach, read: str) -> None:
    ctx = reach(lambda request: (302, b"", {"Location": "https://login.example.com/in"}))
    with pytest.raises(Failed, match=r"302.* to https://login\.example\.com/in"):
        READS[read](ctx)


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{}", b'"yes"'])
@pytest.mark.parametrize("call", [call for call in CALLS if call not in TEXTS])
def test_a_success_without_the_object_is_a_failure(reach: Reach, call: str, body: bytes) -> None:
    with pytest.raises(ActionError) as caught:
        CALLS[call](reach(lambda request: (200, body)))
    assert "not the object" in caught.value.message


def test_a_failure_inside_of_a_success_is_a_failure(reach: Reach) -> None:
    status = {"kind": "Status", "status": "Failure", "message": "etcd is full", "code": 500}
    with pytest.raises(Failed, match="etcd is full"):
        kubectl.get(reach(lambda request: (200, status)), "ConfigMap", "a")


def quoted(item: Any) -> str:
    """An object as a server quotes it in a message: JSON as Go's %q writes it."""
    return json.dumps(json.dumps(item))


STORED = {
    "apiVersion": "v1",
    "kind": "Secret",
    "metadata": {"name": "s", "namespace": NAMESPACE, "uid": "1"},
    "data": {"password": ENCODED, "other": "b3RoZXItc2VjcmV0"},
}


@pytest.mark.parametrize(
    "complaint",
    [
        f'Invalid value: {quoted(STORED)}: strict decoding error: unknown field "dataa"',
        f'Invalid value: {quoted(STORED)[:90]} unknown field "dataa"',
        f'Invalid value: "map[dataa:map[password:{PASSWORD}]]": unknown field "dataa"',
        f'Invalid value: map[string]interface {{}}{{"dataa":"{ENCODED}"}}: unknown field "dataa"',
        f'.dataa: expected map, got &value.valueUnstructured{{Value:"{PASSWORD}"}}',
        f'admission webhook "w" denied the request: "dataa" holds {PASSWORD}',
    ],
)
def test_a_slip_in_a_patch_of_a_secret_does_not_print_it(
    reach: Reach, told: Told, complaint: str
) -> None:
    status = {
        "kind": "Status",
        "status": "Failure",
        "reason": "Invalid",
        "message": f' "" is invalid: patch: {complaint}',
        "details": {"causes": [{"field": "patch", "message": complaint}]},
        "code": 422,
    }
    ctx = reach(lambda request: (200, STORED) if request.method == "GET" else (422, status))
    with pytest.raises(Refused) as caught:
        kubectl.patch(
            ctx, "Secret", "s", {"dataa": {"x": "y"}, "stringData": {"password": PASSWORD}}
        )
    error = caught.value
    text = "\n".join([error.message, error.hint, *error.evidence, *told.warnings, *told.progress])
    for value in (PASSWORD, ENCODED, "b3RoZXItc2VjcmV0"):
        assert value not in text
    if complaint.endswith(': unknown field "dataa"'):
        assert 'unknown field "dataa"' in text


def test_a_whole_object_is_cut_to_what_is_said_of_it() -> None:
    item = {"kind": "Deployment", "spec": {"template": {"env": [{"value": PASSWORD}]}}}
    message = f'patch: Invalid value: {quoted(item)}: unknown field "spec.replica"'
    assert kube_words.brief(message) == 'patch: Invalid value: {…}: unknown field "spec.replica"'


@pytest.mark.parametrize(
    "message",
    [
        'Deployment.apps "Bad_Name" is invalid: [spec.containers[0].name: Required value, x: y]',
        'pods "a" is forbidden: User "me" cannot get resource "pods" in the namespace "b"',
        'Operation cannot be fulfilled on configmaps "a": the object has been modified',
        'spec.ports[0].port: Invalid value: "abc": must be a number',
    ],
)
def test_words_without_objects_are_left_as_they_are(message: str) -> None:
    assert kube_words.brief(message) == message


def test_a_warning_is_told_to_people_as_it_was_meant(reach: Reach, told: Told) -> None:
    header = '299 - "v1 Endpoints is deprecated; use \\"EndpointSlice\\""'
    kubectl.get(reach(lambda request: (200, CONFIG, {"Warning": header})), "ConfigMap", "a")
    assert told.warnings == ['the cluster warns: v1 Endpoints is deprecated; use "EndpointSlice"']


def test_a_busy_server_may_name_a_date_to_be_asked_again(reach: Reach, told: Told) -> None:
    asked: list[Request] = []

    def answer(request: Request) -> Answer:
        asked.append(request)
        if len(asked) > 1:
            return 200, CONFIG
        return (
            429,
            {"kind": "Status", "message": "busy"},
            {"Retry-After": format_datetime(now - timedelta(seconds=2))},
        )

    ctx = reach(answer)
    now = ctx.now()
    assert kubectl.get(ctx, "ConfigMap", "a").data["found"]
    assert told.progress == ["the cluster is too busy (429), to be asked again in 1 s"]


@pytest.mark.parametrize(("limit", "pages"), [(700, ["500", "200"]), (500, ["500"]), (3, ["3"])])
def test_a_limit_is_what_it_says(reach: Reach, limit: int, pages: list[str]) -> None:
    sizes: list[str] = []

    def answer(request: Request) -> Answer:
        size = request.path.partition("limit=")[2].partition("&")[0]
        sizes.append(size)
        item = {"metadata": {"name": "x"}}
        return 200, {"metadata": {"continue": "more"}, "items": [item] * 500}

    data = kubectl.get(reach(answer), "ConfigMap", limit=limit).data
    assert (data["count"], sizes) == (limit, pages)


@pytest.mark.parametrize(
    ("message", "advice"),
    [
        ('User "me" cannot patch resource "deployments"', "a Role and RoleBinding"),
        ('pods "a" is forbidden: exceeded quota: q, requested: pods=1', "ResourceQuota"),
        ("unable to create: namespace ns because it is being terminated", "being deleted"),
        ('error looking up service account ns/app: serviceaccount "app" not found', "create it"),
        ('admission webhook "w.example.com" denied the request: no', "admission webhook"),
        ('pods "a" is forbidden: violates PodSecurity "restricted:latest": x', "pod security"),
        ("maximum cpu usage per Container is 1, but limit is 2", "LimitRange"),
    ],
)
def test_a_refusal_is_explained_by_its_own_words(reach: Reach, message: str, advice: str) -> None:
    status = {"kind": "Status", "message": message, "reason": "Forbidden", "code": 403}
    with pytest.raises(Refused) as caught:
        kubectl.get(reach(lambda request: (403, status)), "ConfigMap", "a")
    assert advice in caught.value.hint
