"""The scale subresource: the one number of a workload, as an autoscaling/v1 Scale."""

from __future__ import annotations

from typing import Any

from engine.production.cluster.api import APPLY_PATCH, MERGE_PATCH, Api
from engine.production.cluster.decoding import read_body, read_patch, read_yaml
from engine.production.cluster.intake import WriteOptions, read
from engine.production.cluster.objects import refusals
from engine.production.cluster.objects.common import Obj, copy_json
from engine.production.cluster.objects.patch import json_patch, merge_patch
from engine.production.cluster.objects.resources import Resource
from engine.production.cluster.objects.selectors import to_text

_SCALE = Resource("autoscaling", ("v1",), "scales", "Scale", namespaced=True)
_SHOWN = ("name", "namespace", "uid", "resourceVersion", "creationTimestamp")


def scale_of(resource: Resource, obj: Obj) -> Obj:
    """The Scale of a workload, or of a custom resource by the paths of its definition."""
    metadata = obj["metadata"]
    replicas = _at(obj, resource.scale.get("specReplicasPath", ".spec.replicas")) or 0
    selector = resource.scale.get("labelSelectorPath", "")
    shown = _at(obj, selector) or "" if resource.custom else to_text(obj["spec"].get("selector"))
    current = _at(obj, resource.scale.get("statusReplicasPath", ".status.replicas")) or 0
    return {
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": {name: metadata[name] for name in _SHOWN if name in metadata},
        "spec": {"replicas": replicas} if replicas else {},
        "status": {
            "replicas": current,
            **({"selector": shown} if shown or not resource.custom else {}),
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
    scale = scale_of(resource, live)
    if patch:
        document: Any = _patched(scale, _read(body, content_type), content_type)
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
    *above, last = _names(resource.scale.get("specReplicasPath", ".spec.replicas"))
    place = changed
    for step in above:
        place = place.setdefault(step, {})
    place[last] = replicas
    return api.update_part(resource, live, changed, options, "scale")


def _names(path: str) -> list[str]:
    """The names in a plain JSON path: `.spec.replicas` → spec, replicas."""
    return [name for name in path.split(".") if name]


def _at(obj: Any, path: str) -> Any:
    """What stands at a plain JSON path; None where nothing does."""
    for name in _names(path):
        obj = obj.get(name) if isinstance(obj, dict) else None
    return obj if path else None


def _read(body: bytes, content_type: str) -> Any:
    return read_yaml(body, "Scale") if content_type == APPLY_PATCH else read_patch(body)


def _patched(scale: Obj, document: Any, content_type: str) -> Any:
    if content_type == "application/json-patch+json":
        return json_patch(scale, document)
    accepted = (MERGE_PATCH, "application/strategic-merge-patch+json", APPLY_PATCH)
    if content_type not in accepted:
        raise refusals.unsupported_media_type(("application/json-patch+json", *accepted))
    return merge_patch(scale, document)
