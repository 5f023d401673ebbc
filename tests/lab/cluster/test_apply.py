"""Server-side apply: who owns a field, who may change it, and what goes when nobody wants it."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.production.cluster.objects import managed_fields
from engine.production.cluster.objects.fields import compare, decode, encode, owned_fields
from engine.production.cluster.objects.managed_fields import FieldWriter, ManagerId, Managers
from engine.production.cluster.objects.schema import free_type, type_of
from tests.lab.cluster.objects import CONFIG_MAPS, DEPLOYMENTS, config_map, deployment
from tests.lab.cluster.running_server import RunningServer

APPLY = {"Content-Type": "application/apply-patch+yaml"}
MERGE = {"Content-Type": "application/merge-patch+json"}


def apply(
    http: httpx.Client, obj: dict[str, Any], manager: str = "me", *, force: bool = False
) -> httpx.Response:
    path = CONFIG_MAPS if obj["kind"] == "ConfigMap" else DEPLOYMENTS
    return http.patch(
        f"{path}/{obj['metadata']['name']}",
        params={"fieldManager": manager, "force": str(force).lower()},
        json=obj,
        headers=APPLY,
    )


def owners(obj: dict[str, Any], path: str) -> list[str]:
    """Who owns the field at this FieldsV1 path, its elements divided by blanks."""
    wanted = tuple(path.split(" "))
    return [
        entry["manager"]
        for entry in obj["metadata"]["managedFields"]
        if wanted in decode(entry["fieldsV1"])
    ]


def test_what_is_no_longer_applied_goes(http: httpx.Client) -> None:
    apply(http, config_map(a="1", b="2"))
    changed = apply(http, config_map(a="1")).json()
    assert changed["data"] == {"a": "1"}


def test_the_last_label_goes_without_the_rest_of_the_metadata(http: httpx.Client) -> None:
    labelled = config_map(a="1")
    labelled["metadata"]["labels"] = {"color": "red"}
    apply(http, labelled)
    bare = apply(http, config_map(a="1")).json()
    assert "labels" not in bare["metadata"]
    assert bare["metadata"]["name"] == "settings"


def test_what_somebody_else_owns_stays(http: httpx.Client) -> None:
    apply(http, config_map(a="1", b="2"))
    apply(http, config_map(b="2"), "other")
    assert apply(http, config_map(a="1")).json()["data"] == {"a": "1", "b": "2"}


def test_the_same_value_can_have_two_owners(http: httpx.Client) -> None:
    apply(http, config_map(a="1"))
    shared = apply(http, config_map(a="1"), "other")
    assert shared.status_code == 200
    assert owners(shared.json(), "f:data f:a") == ["me", "other"]


def test_a_forced_apply_takes_the_field_over(http: httpx.Client) -> None:
    apply(http, config_map(a="1"))
    assert apply(http, config_map(a="2"), "other").status_code == 409
    forced = apply(http, config_map(a="2"), "other", force=True).json()
    assert owners(forced, "f:data f:a") == ["other"]


def test_several_conflicts_are_listed_by_manager(http: httpx.Client) -> None:
    apply(http, config_map(a="1", b="1"))
    http.patch(f"{CONFIG_MAPS}/settings", json={"data": {"c": "1"}}, headers=MERGE)
    refused = apply(http, config_map(a="2", b="2", c="2"), "other").json()
    assert refused["message"] == (
        'Apply failed with 3 conflicts: conflicts with "me":\n- .data.a\n- .data.b\n'
        'conflicts with "test" using v1:\n- .data.c'
    )
    assert [cause["field"] for cause in refused["details"]["causes"]] == [
        ".data.a",
        ".data.b",
        ".data.c",
    ]


def test_replicas_left_to_somebody_else_are_not_reset(http: httpx.Client) -> None:
    apply(http, deployment(replicas=2))
    http.patch(f"{DEPLOYMENTS}/web/scale", json={"spec": {"replicas": 5}}, headers=MERGE)
    conflict = apply(http, deployment(replicas=3)).json()
    assert conflict["message"] == (
        'Apply failed with 1 conflict: conflict with "test" with subresource "scale" using '
        "apps/v1: .spec.replicas"
    )
    without = deployment()
    del without["spec"]["replicas"]
    assert apply(http, without).json()["spec"]["replicas"] == 5


def test_a_structure_goes_with_its_defaults(http: httpx.Client) -> None:
    with_probe = deployment()
    container = with_probe["spec"]["template"]["spec"]["containers"][0]
    container["readinessProbe"] = {"httpGet": {"path": "/ready", "port": 8080}}
    first = apply(http, with_probe).json()["spec"]["template"]["spec"]["containers"][0]
    assert first["readinessProbe"]["periodSeconds"] == 10
    second = apply(http, deployment()).json()["spec"]["template"]["spec"]["containers"][0]
    assert "readinessProbe" not in second


def test_list_items_are_merged_by_key_and_keep_the_order_of_the_configuration(
    http: httpx.Client,
) -> None:
    def with_env(*names: str) -> dict[str, Any]:
        obj = deployment()
        env = [{"name": name, "value": "x"} for name in names]
        obj["spec"]["template"]["spec"]["containers"][0]["env"] = env
        return obj

    def names(answer: httpx.Response) -> list[str]:
        container = answer.json()["spec"]["template"]["spec"]["containers"][0]
        return [variable["name"] for variable in container["env"]]

    apply(http, with_env("A", "B"))
    assert names(apply(http, with_env("C"), "other")) == ["A", "B", "C"]
    assert names(apply(http, with_env("B", "A"))) == ["B", "A", "C"]
    assert names(apply(http, with_env("A"))) == ["A", "C"]


def test_quantities_are_the_same_however_they_are_written(
    cluster: RunningServer, http: httpx.Client
) -> None:
    def with_cpu(cpu: Any) -> dict[str, Any]:
        obj = deployment()
        container = obj["spec"]["template"]["spec"]["containers"][0]
        container["resources"] = {"requests": {"cpu": cpu, "memory": "2048Mi"}}
        return obj

    apply(http, with_cpu("1000m"))
    cluster.settle()
    first = http.get(f"{DEPLOYMENTS}/web").json()
    container = first["spec"]["template"]["spec"]["containers"][0]
    assert container["resources"]["requests"] == {"cpu": "1", "memory": "2Gi"}
    second = apply(http, with_cpu(1)).json()
    assert second["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]


def test_apply_through_the_status_subresource_changes_nothing_else(
    cluster: RunningServer, http: httpx.Client
) -> None:
    apply(http, deployment())
    cluster.settle()
    patch = {"spec": {"replicas": 9}, "status": {"observedGeneration": 7}}
    answer = http.patch(f"{DEPLOYMENTS}/web/status", json=patch, headers=MERGE).json()
    assert answer["spec"]["replicas"] == 2
    assert answer["status"]["observedGeneration"] == 7


def test_yaml_can_be_applied(http: httpx.Client) -> None:
    text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: settings}\ndata: {a: '1'}\n"
    answer = http.patch(
        f"{CONFIG_MAPS}/settings", params={"fieldManager": "me"}, content=text, headers=APPLY
    )
    assert (answer.status_code, answer.json()["data"]) == (201, {"a": "1"})


def test_ownership_can_be_reset(http: httpx.Client) -> None:
    apply(http, config_map(a="1"))
    reset = http.patch(
        f"{CONFIG_MAPS}/settings", json={"metadata": {"managedFields": [{}]}}, headers=MERGE
    )
    assert reset.json()["metadata"]["managedFields"] == []
    assert apply(http, config_map(a="2"), "other").status_code == 200


# -- laws -------------------------------------------------------------------------------------

values = st.recursive(
    st.integers(0, 3) | st.sampled_from(["x", "y"]) | st.booleans(),
    lambda inner: (
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3) | st.lists(inner, max_size=2)
    ),
    max_leaves=8,
)
documents = st.dictionaries(st.sampled_from("abc"), values, max_size=3)


def _named(names: str, **optional: st.SearchStrategy[Any]) -> st.SearchStrategy[list[Any]]:
    """Lists keyed by name."""
    required: dict[str, st.SearchStrategy[Any]] = {"name": st.sampled_from(names)}
    items: st.SearchStrategy[Any] = st.fixed_dictionaries(required, optional=optional)
    return st.lists(items, max_size=3, unique_by=lambda item: str(item["name"]))


containers = _named(
    "xyz",
    image=st.sampled_from(["i:1", "i:2"]),
    env=_named("AB", value=st.sampled_from("12")),
    args=st.lists(st.sampled_from("xy"), max_size=2),
)
pod_specs: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "containers": containers,
        "nodeSelector": st.dictionaries(st.sampled_from("ab"), st.sampled_from("12")),
    },
)
POD_SPEC = type_of("PodSpec")


def _writer(manager: str) -> FieldWriter:
    return FieldWriter(ManagerId(manager, "Apply", "v1"), "2026-01-01T00:00:00Z")


@given(pod_specs)
def test_fields_survive_their_encoding(spec: dict[str, Any]) -> None:
    fields = owned_fields(spec, POD_SPEC)
    assert decode(encode(fields)) == fields


@given(pod_specs, pod_specs)
def test_applying_twice_is_applying_once(live: dict[str, Any], config: dict[str, Any]) -> None:
    once, managers = managed_fields.apply(live, config, {}, POD_SPEC, _writer("me"), force=True)
    twice, again = managed_fields.apply(once, config, managers, POD_SPEC, _writer("me"), force=True)
    assert (twice, again) == (once, managers)


@example([("me", {"containers": [{"name": "x"}]}), ("me", {"containers": []})])
@given(st.lists(st.tuples(st.sampled_from(["me", "you"]), pod_specs), max_size=5))
def test_forced_applies_leave_their_own_configuration_in_place(
    steps: list[tuple[str, dict[str, Any]]],
) -> None:
    live: dict[str, Any] = {}
    managers: Managers = {}
    for manager, config in steps:
        live, managers = managed_fields.apply(
            live, config, managers, POD_SPEC, _writer(manager), force=True
        )
        merged = managed_fields.merge(live, config, POD_SPEC)
        assert not compare(live, merged, POD_SPEC)
        owned = managers.get(_writer(manager).identity)
        assert (owned.fields if owned else frozenset()) == owned_fields(config, POD_SPEC)


@example({"a": {"b": 1}}, {"a": {}})
@example({"a": "x"}, {"a": {}})
@given(documents, documents)
def test_the_first_owner_of_everything_leaves_nothing_behind(
    config: dict[str, Any], other: dict[str, Any]
) -> None:
    kind = free_type()
    writer = _writer("me")
    live, managers = managed_fields.apply({}, config, {}, kind, writer, force=False)
    live, managers = managed_fields.apply(live, other, managers, kind, writer, force=False)
    assert not compare(live, other, kind)


@given(documents, documents)
def test_an_update_owns_what_it_changed(old: dict[str, Any], new: dict[str, Any]) -> None:
    kind = free_type()
    difference = compare(old, new, kind)
    managers = managed_fields.after_update({}, old, new, kind, _writer("me"))
    owned = {path for own in managers.values() for path in own.fields}
    assert owned == difference.taken
    assert (old == new) == (not difference)


@pytest.mark.parametrize("config", [{}, {"containers": []}])
def test_nothing_applied_is_nothing_owned(config: dict[str, Any]) -> None:
    live, managers = managed_fields.apply({}, {}, {}, POD_SPEC, _writer("me"), force=False)
    assert (live, managers) == ({}, {})
