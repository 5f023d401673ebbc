"""Whatever a client sends, it gets an answer in the API's words, and the server lives on."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.lab.cluster.objects import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    PODS,
    SERVICES,
    config_map,
    deployment,
    pod,
    service,
)
from tests.lab.cluster.running_server import RunningServer

QUIET = settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
PATCHES = {
    "json-patch+json",
    "merge-patch+json",
    "strategic-merge-patch+json",
    "apply-patch+yaml",
    "unknown",
}
# The beginning of a protobuf body with a Deployment; what follows is read as the object.
ENVELOPE = b"k8s\0\n\x15\n\x07apps/v1\x12\nDeployment\x12"
junk = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 99999) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.dictionaries(st.sampled_from(["name", "spec", "metadata", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)
ROLLING = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": 1}}
OWNER = {"apiVersion": "v1", "kind": "ConfigMap", "name": "gone", "uid": "1-2-3"}
OWNED = {
    **config_map(a="1")["metadata"],
    "annotations": {"a": "1"},
    "finalizers": ["orphan"],
    "ownerReferences": [OWNER],
}
KINDS = {
    DEPLOYMENTS: deployment(strategy=ROLLING, minReadySeconds=0, revisionHistoryLimit=2),
    PODS: pod(),
    SERVICES: service(),
    CONFIG_MAPS: {**config_map(a="1"), "metadata": OWNED},
}


@pytest.fixture(autouse=True)
def no_controller_fails(cluster: RunningServer, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """What was let in must be something that the controllers can work with."""
    yield
    cluster.settle()
    assert [record.getMessage() for record in caplog.records if record.levelname == "ERROR"] == []


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    items: Any = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        yield from _places(item, (*path, key))


def _with(value: Any, path: tuple[Any, ...], replacement: Any) -> Any:
    if not path:
        return replacement
    changed = copy.deepcopy(value)
    place = changed
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = replacement
    return changed


@st.composite
def broken_objects(draw: st.DrawFn) -> tuple[str, Any]:
    """An object of some kind in which one place has been replaced by junk."""
    path, obj = draw(st.sampled_from(sorted(KINDS.items(), key=lambda pair: pair[0])))
    place = draw(st.sampled_from(list(_places(obj))))
    return path, _with(obj, place, draw(junk))


def _is_an_answer(answer: httpx.Response) -> bool:
    """2xx, or a Status; 500 only where a real server says so too."""
    if answer.status_code < 300:
        return True
    body = answer.json()
    typed = body["message"].startswith("failed to create typed patch object")
    return body["kind"] == "Status" and (answer.status_code < 500 or typed)


@QUIET
@given(broken_objects())
def test_a_broken_object_is_created_or_refused(http: httpx.Client, broken: tuple[str, Any]) -> None:
    path, obj = broken
    answer = http.post(path, json=obj)
    assert _is_an_answer(answer), answer.text
    http.delete(path)


@QUIET
@given(broken_objects(), st.sampled_from(sorted(PATCHES)))
def test_a_broken_patch_is_applied_or_refused(
    http: httpx.Client, broken: tuple[str, Any], kind: str
) -> None:
    path, obj = broken
    name = KINDS[path]["metadata"]["name"]
    http.post(path, json=KINDS[path])
    answer = http.patch(
        f"{path}/{name}",
        params={"fieldManager": "me", "force": "true"},
        json=obj,
        headers={"Content-Type": f"application/{kind}"},
    )
    assert _is_an_answer(answer), answer.text
    put = http.put(f"{path}/{name}", json=obj)
    assert _is_an_answer(put), put.text


@QUIET
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "op": st.sampled_from(["add", "replace", "remove", "move", "copy", "test"]),
                "path": st.sampled_from(["/spec", "/metadata/labels/a", "/spec/x/0", "", "a"]),
            },
            optional={"value": junk, "from": st.sampled_from(["/spec", "/kind", "/none"])},
        ),
        max_size=3,
    )
)
def test_any_json_patch_is_answered(http: httpx.Client, operations: list[Any]) -> None:
    http.post(DEPLOYMENTS, json=deployment())
    answer = http.patch(
        f"{DEPLOYMENTS}/web",
        json=operations,
        headers={"Content-Type": "application/json-patch+json"},
    )
    assert _is_an_answer(answer), answer.text


@QUIET
@given(junk, st.sampled_from(["PUT", "PATCH"]))
def test_any_scale_is_answered(http: httpx.Client, body: Any, method: str) -> None:
    http.post(DEPLOYMENTS, json=deployment())
    kind = "application/json" if method == "PUT" else "application/merge-patch+json"
    answer = http.request(
        method, f"{DEPLOYMENTS}/web/scale", json=body, headers={"Content-Type": kind}
    )
    assert _is_an_answer(answer), answer.text


@QUIET
@given(
    st.dictionaries(
        st.sampled_from(
            [
                "gracePeriodSeconds",
                "preconditions",
                "dryRun",
                "propagationPolicy",
                "orphanDependents",
                "deleteOptions",
            ]
        ),
        junk | st.sampled_from(["Foreground", ["All"], {"uid": "1"}]),
        max_size=3,
    )
    | junk,
    st.sampled_from(["pod", "eviction", "collection"]),
)
def test_any_deletion_is_answered(http: httpx.Client, body: Any, what: str) -> None:
    http.post(PODS, json=pod())
    if what == "eviction":
        answer = http.post(f"{PODS}/postgres-0/eviction", json=body)
    else:
        answer = http.request("DELETE", f"{PODS}/postgres-0" if what == "pod" else PODS, json=body)
    assert _is_an_answer(answer), answer.text


@pytest.mark.parametrize(
    "query",
    [
        f"{CONFIG_MAPS}?watch=1&timeoutSeconds=soon",
        f"{CONFIG_MAPS}?resourceVersion=-1",
        f"{CONFIG_MAPS}?limit=many",
        f"{CONFIG_MAPS}?fieldSelector=metadata.name",
        f"{CONFIG_MAPS}?labelSelector=a%20in",
        f"{PODS}/postgres-0/log?tailLines=all",
        f"{PODS}/postgres-0/log?sinceTime=yesterday",
        f"{PODS}/postgres-0/exec?command=x",
    ],
)
def test_a_query_that_makes_no_sense_is_refused(
    cluster: RunningServer, http: httpx.Client, query: str
) -> None:
    http.post(PODS, json=pod())
    cluster.settle()
    answer = http.get(query)
    assert (answer.status_code, answer.json()["reason"]) == (400, "BadRequest")


@QUIET
@given(
    st.binary(max_size=40) | st.binary(max_size=40).map(ENVELOPE.__add__),
    st.sampled_from(["json", "yaml", "vnd.kubernetes.protobuf", "unknown"]),
)
def test_any_bytes_are_answered(http: httpx.Client, body: bytes, form: str) -> None:
    kind = f"application/{form}"
    answer = http.post(DEPLOYMENTS, content=body, headers={"Content-Type": kind})
    assert _is_an_answer(answer), answer.text
    answer = http.request(
        "DELETE", f"{DEPLOYMENTS}/web", content=body, headers={"Content-Type": kind}
    )
    assert _is_an_answer(answer), answer.text


def test_a_body_that_is_nested_too_deeply_is_refused(http: httpx.Client) -> None:
    deep = b'{"metadata":{"name":"x"},"data":' + b'{"a":' * 5000 + b"1" + b"}" * 5000 + b"}"
    answer = http.post(CONFIG_MAPS, content=deep, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400


def test_a_body_that_is_too_large_is_refused(http: httpx.Client) -> None:
    answer = http.post(CONFIG_MAPS, json=config_map(a="x" * 4_000_000))
    assert (answer.status_code, answer.json()["reason"]) == (413, "RequestEntityTooLarge")
