"""The three plain patches obey their laws, and the server merges as each of them prescribes."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.production.cluster.objects.patch import json_patch, merge_patch, strategic_merge
from engine.production.cluster.objects.refusals import ApiError
from engine.production.cluster.objects.schema import type_of
from tests.lab.cluster.objects import DEPLOYMENTS, deployment

scalars = st.none() | st.booleans() | st.integers(0, 9) | st.sampled_from(["x", "y"])
json_values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=10,
)
json_objects = st.dictionaries(st.sampled_from("abc"), json_values, max_size=3)
DEPLOYMENT = type_of("Deployment")


def _has_null(value: Any) -> bool:
    if isinstance(value, dict):
        return any(item is None or _has_null(item) for item in value.values())
    return False


@given(json_values, json_values)
def test_a_merge_patch_applied_twice_changes_nothing_more(document: Any, patch: Any) -> None:
    once = merge_patch(document, patch)
    assert merge_patch(once, patch) == once


@given(json_values, json_objects)
def test_a_merge_patch_to_nothing_is_the_patch_without_nulls(document: Any, patch: Any) -> None:
    assert not _has_null(merge_patch({}, patch))


@given(json_objects)
def test_an_empty_merge_patch_changes_nothing(document: Any) -> None:
    assert merge_patch(document, {}) == document


@given(json_objects, json_objects)
def test_patches_leave_the_old_document_alone(document: Any, patch: Any) -> None:
    before = repr(document)
    merge_patch(document, patch)
    strategic_merge(document, patch, DEPLOYMENT)
    json_patch(document, [{"op": "add", "path": "/new", "value": patch}])
    assert repr(document) == before


@given(json_objects, json_values)
def test_what_a_json_patch_adds_it_can_test_and_remove(document: Any, value: Any) -> None:
    path = "/d~1e~0f"
    added = json_patch(document, [{"op": "add", "path": path, "value": value}])
    assert added["d/e~f"] == value
    operations = [{"op": "test", "path": path, "value": value}, {"op": "remove", "path": path}]
    assert json_patch(added, operations) == document


@given(json_objects, json_values)
def test_a_json_patch_can_move_and_copy(document: Any, value: Any) -> None:
    start = {**document, "from": value}
    moved = json_patch(start, [{"op": "move", "from": "/from", "path": "/to"}])
    assert moved == {**document, "to": value}
    copied = json_patch(start, [{"op": "copy", "from": "/from", "path": "/to"}])
    assert copied == {**start, "to": value}


def test_json_patch_works_on_lists() -> None:
    operations = [
        {"op": "add", "path": "/-", "value": 4},
        {"op": "add", "path": "/0", "value": 0},
        {"op": "remove", "path": "/1"},
        {"op": "replace", "path": "/1", "value": 22},
    ]
    assert json_patch([1, 2, 3], operations) == [0, 22, 3, 4]
    with pytest.raises(ApiError):
        json_patch([1], [{"op": "add", "path": "/5", "value": 1}])


def _merged(patch: dict[str, Any], containers: list[dict[str, Any]]) -> Any:
    spec = type_of("PodSpec")
    return strategic_merge({"containers": containers}, patch, spec)["containers"]


def test_a_strategic_patch_merges_containers_by_name() -> None:
    patch = {"containers": [{"name": "b", "image": "b:2"}, {"name": "c", "image": "c:1"}]}
    merged = _merged(
        patch, [{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1", "tty": True}]
    )
    assert merged == [
        {"name": "a", "image": "a:1"},
        {"name": "b", "image": "b:2", "tty": True},
        {"name": "c", "image": "c:1"},
    ]


def test_a_strategic_patch_deletes_replaces_and_orders() -> None:
    live = [{"name": "a"}, {"name": "b"}, {"name": "c"}]
    gone = {"containers": [{"name": "b", "$patch": "delete"}]}
    assert _merged(gone, live) == [{"name": "a"}, {"name": "c"}]
    replaced = {"containers": [{"$patch": "replace"}, {"name": "z"}]}
    assert _merged(replaced, live) == [{"name": "z"}]
    order = {"$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "b"}]}
    assert [item["name"] for item in _merged(order, live)] == ["c", "a", "b"]


def test_a_strategic_patch_retains_only_named_keys() -> None:
    live = {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}
    patch = {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}
    merged = strategic_merge(live, patch, type_of("DeploymentSpec"))
    assert merged["strategy"] == {"type": "Recreate"}


def test_a_strategic_patch_edits_lists_of_plain_values() -> None:
    live = {"finalizers": ["a", "b"]}
    patch = {"finalizers": ["c"], "$deleteFromPrimitiveList/finalizers": ["a"]}
    merged = strategic_merge(live, patch, type_of("ObjectMeta"))
    assert merged["finalizers"] == ["b", "c"]


def test_a_merge_patch_replaces_lists_where_a_strategic_one_merges_them(
    http: httpx.Client,
) -> None:
    http.post(DEPLOYMENTS, json=deployment())
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "more", "image": "m:1"}]}}}}

    def names(kind: str) -> list[str]:
        answer = http.patch(
            f"{DEPLOYMENTS}/web", json=patch, headers={"Content-Type": f"application/{kind}+json"}
        )
        return [c["name"] for c in answer.json()["spec"]["template"]["spec"]["containers"]]

    assert names("strategic-merge-patch") == ["app", "more"]
    assert names("merge-patch") == ["more"]
