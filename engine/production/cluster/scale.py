"""The scale subresource: the one number of a workload, as an autoscaling/v1 Scale."""

from __future__ import annotations

from typing import Any

from engine.production.cluster.api import APPLY_PATCH, MERGE_PATCH, Api
from engine.production.cluster.decoding import read_body, read_yaml
from engine.production.cluster.intake import WriteOptions, read
from engine.production.cluster.objects import refusals
from engine.production.cluster.objects.common import Obj, copy_json
from engine.production.cluster.objects.patch import json_patch, merge_patch
from engine.production.cluster.objects.resources import Resource
from engine.production.cluster.objects.selectors import to_text

_SCALE = Resource("autoscaling", ("v1",), "scales", "Scale", namespaced=True)
_SHOWN = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def scale_of(obj: Obj) -> Obj:
    """The Scale of a Deployment, ReplicaSet or StatefulSet."""
    metadata = obj["metadata"]
    replicas = obj["spec"].get("replicas", 0)
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: metadata[name] for name in _SHOWN if name in metadata},
        "spec": {"replicas": replicas} if replicas else {},
        "status": {
            "replicas": obj.get("status", {}).get("replicas", 0),
            "selector": to_text(obj["spec"].get("selector")),
        },
    }


def set_scale(
    api: Api,
    resource: Resource,
    live: Obj,
    body: bytes,
    content_type: str,
    options: WriteOptions,
    *,
    patch: bool,
) -> Obj:
    """Write a Scale (PUT) or patch one; returns the workload. Raises ApiError."""
    name = live["metadata"]["name"]
    scale = scale_of(live)
    if patch:
        document: Any = _patched(scale, read_yaml(body, "Scale"), content_type)
    else:
        document = read_body(body, content_type, "Scale")
    read_scale = read(_SCALE, "v1", document, options)
    version = read_scale["metadata"].get("resourceVersion")
    if version not in (None, "", live["metadata"]["resourceVersion"]):
        raise refusals.conflict(resource.plural, resource.group, name)
    replicas = read_scale.get("spec", {}).get("replicas", 0)
    if replicas < 0:
        error = refusals.invalid_value(
            "spec.replicas", replicas, "must be greater than or equal to 0"
        )
        raise refusals.invalid("Scale", "autoscaling", name, [error])
    changed = copy_json(live)
    changed["spec"]["replicas"] = replicas
    return api.update_part(resource, live, changed, options, "scale")


def _patched(scale: Obj, document: Any, content_type: str) -> Any:
    if content_type == "application/json-patch+json":
        return json_patch(scale, document)
    accepted = (MERGE_PATCH, "application/strategic-merge-patch+json", APPLY_PATCH)
    if content_type not in accepted:
        raise refusals.unsupported_media_type(("application/json-patch+json", *accepted))
    return merge_patch(scale, document)
