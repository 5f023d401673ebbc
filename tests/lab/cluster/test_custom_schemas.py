"""Custom resources are held to the schema of their definition, in a real server's words."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.lab.cluster.objects import NAMESPACE
from tests.lab.cluster.running_server import RunningServer

GIZMOS = f"/apis/rk.example.com/v1/namespaces/{NAMESPACE}/gizmos"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
MUST_BE = "spec.size in body must be of type"
SPEC = {
    "type": "object",
    "required": ["size"],
    "properties": {
        "size": {"type": "integer", "minimum": 1, "maximum": 9},
        "mode": {"type": "string", "enum": ["a", "b"]},
        "replicas": {"type": "integer", "default": 2},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True},
    },
}
DEFINITION = {
    "metadata": {"name": "gizmos.rk.example.com"},
    "spec": {
        "group": "rk.example.com",
        "names": {"plural": "gizmos", "kind": "Gizmo"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": SPEC}}},
                "subresources": {
                    "status": {},
                    "scale": {
                        "specReplicasPath": ".spec.replicas",
                        "statusReplicasPath": ".status.replicas",
                    },
                },
            }
        ],
    },
}


def gizmo(name: str = "g1", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "rk.example.com/v1",
        "kind": "Gizmo",
        "metadata": {"name": name},
        "spec": spec,
    }


@pytest.fixture
def gizmos(http: httpx.Client) -> httpx.Client:
    assert http.post(DEFINITIONS, json=DEFINITION).status_code == 201
    return http


def test_defaults_are_filled_in(gizmos: httpx.Client) -> None:
    answer = gizmos.post(GIZMOS, json=gizmo(size=3))
    assert (answer.status_code, answer.json()["spec"]) == (201, {"size": 3, "replicas": 2})


@pytest.mark.parametrize(
    ("spec", "reason", "message"),
    [
        ({}, "FieldValueRequired", "spec.size: Required value"),
        (
            {"size": 10},
            "FieldValueInvalid",
            "spec.size: Invalid value: 10: spec.size in body should be less than or equal to 9",
        ),
        (
            {"size": "x"},
            "FieldValueTypeInvalid",
            f'spec.size: Invalid value: "string": {MUST_BE} integer: "string"',
        ),
        (
            {"size": 1, "mode": "z"},
            "FieldValueNotSupported",
            'spec.mode: Unsupported value: "z": supported values: "a", "b"',
        ),
    ],
)
def test_what_the_schema_forbids_is_refused(
    gizmos: httpx.Client, spec: dict[str, Any], reason: str, message: str
) -> None:
    answer = gizmos.post(GIZMOS, json=gizmo(**spec))
    assert answer.status_code == 422
    body = answer.json()
    assert body["message"] == f'Gizmo.rk.example.com "g1" is invalid: {message}'
    assert body["details"]["causes"][0]["reason"] == reason


def test_a_patch_cannot_make_it_invalid(gizmos: httpx.Client) -> None:
    gizmos.post(GIZMOS, json=gizmo(size=3))
    headers = {"Content-Type": "application/merge-patch+json"}
    answer = gizmos.patch(f"{GIZMOS}/g1", json={"spec": {"size": 99}}, headers=headers)
    assert answer.status_code == 422
    assert gizmos.get(f"{GIZMOS}/g1").json()["spec"]["size"] == 3


def test_unknown_fields_are_pruned_with_a_warning(gizmos: httpx.Client) -> None:
    answer = gizmos.post(GIZMOS, json=gizmo(size=3, colour="red", free={"any": 1}))
    assert answer.json()["spec"] == {"size": 3, "replicas": 2, "free": {"any": 1}}
    assert answer.headers["Warning"] == '299 - "unknown field \\"spec.colour\\""'


def test_unknown_fields_are_refused_when_asked_to(gizmos: httpx.Client) -> None:
    answer = gizmos.post(f"{GIZMOS}?fieldValidation=Strict", json=gizmo(size=3, colour="red"))
    assert (answer.status_code, answer.json()["message"]) == (
        400,
        (
            'Gizmo in version "v1" cannot be handled as a Gizmo: strict decoding error: unknown '
            'field "spec.colour"'
        ),
    )


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"size": 3, "colour": "red"}, ".spec.colour: field not declared in schema"),
        ({"size": "3"}, ".spec.size: expected numeric (int or float), got string"),
    ],
)
def test_apply_is_held_to_the_schema(gizmos: httpx.Client, spec: dict[str, Any], why: str) -> None:
    headers = {"Content-Type": "application/apply-patch+yaml"}
    answer = gizmos.patch(f"{GIZMOS}/g1?fieldManager=t", json=gizmo(**spec), headers=headers)
    assert answer.status_code == 500
    assert answer.json()["message"].endswith(why)


def test_a_custom_resource_has_the_scale_that_its_definition_names(gizmos: httpx.Client) -> None:
    gizmos.post(GIZMOS, json=gizmo(size=3))
    headers = {"Content-Type": "application/merge-patch+json"}
    answer = gizmos.patch(f"{GIZMOS}/g1/scale", json={"spec": {"replicas": 5}}, headers=headers)
    assert (answer.status_code, answer.json()["kind"]) == (200, "Scale")
    assert answer.json()["spec"] == {"replicas": 5}
    assert gizmos.get(f"{GIZMOS}/g1").json()["spec"] == {"size": 3, "replicas": 5}


def test_a_schema_without_a_type_is_refused(http: httpx.Client) -> None:
    version = {
        **DEFINITION["spec"]["versions"][0],  # type: ignore[index]
        "schema": {"openAPIV3Schema": {"properties": {"spec": SPEC}}},
    }
    definition = {**DEFINITION, "spec": {**DEFINITION["spec"], "versions": [version]}}  # type: ignore[dict-item]
    answer = http.post(DEFINITIONS, json=definition)
    assert answer.status_code == 422
    assert (
        "openAPIV3Schema.type: Required value: must not be empty at the root"
        in (answer.json()["message"])
    )


def test_a_definition_waits_for_its_objects(cluster: RunningServer, gizmos: httpx.Client) -> None:
    held = gizmo(size=3)
    held["metadata"]["finalizers"] = ["example.com/hold"]
    gizmos.post(GIZMOS, json=held)
    cluster.settle()
    place = f"{DEFINITIONS}/gizmos.rk.example.com"
    ending = gizmos.delete(place).json()
    assert ending["metadata"]["finalizers"] == ["customresourcecleanup.apiextensions.k8s.io"]
    cluster.settle()
    conditions = gizmos.get(place).json()["status"]["conditions"]
    assert [c["type"] for c in conditions] == ["NamesAccepted", "Established", "Terminating"]
    late = gizmos.post(GIZMOS, json=gizmo("late", size=3))
    assert late.status_code == 405
    assert late.json()["message"] == (
        "create not allowed while custom resource definition is terminating"
    )
    headers = {"Content-Type": "application/merge-patch+json"}
    gizmos.patch(f"{GIZMOS}/g1", json={"metadata": {"finalizers": None}}, headers=headers)
    cluster.settle()
    assert gizmos.get(place).status_code == 404
    assert gizmos.get(GIZMOS).status_code == 404
