"""From one state of an object to the next: what a write may change, and what that means."""

from __future__ import annotations

from engine.production.cluster.objects import managed_fields, refusals
from engine.production.cluster.objects.common import Obj
from engine.production.cluster.objects.resources import Resource

_RESTORED = (
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)
METADATA_ORDER = (*_RESTORED, "labels", "annotations", "ownerReferences", "finalizers")
"""In which order metadata is shown."""


def grace_period(resource: Resource, live: Obj, asked: int | None) -> int:
    """Seconds a pod is given; everything else goes at once."""
    if resource.key != "pods":
        return 0
    if not live["spec"].get("nodeName") or live["status"].get("phase") in ("Succeeded", "Failed"):
        return 0
    default: int = live["spec"].get("terminationGracePeriodSeconds", 30)
    if asked is None:
        return default
    return 1 if asked < 0 else asked  # what was once written to mean "at once, but in order"


def within(resource: Resource, live: Obj, new: Obj, subresource: str) -> Obj:
    """What a write through this endpoint can make of the object.

    Raises ApiError (409) when `new` was made from another state of the object.
    """
    old, metadata = live["metadata"], new["metadata"]
    name = old["name"]
    if metadata.get("uid") not in (None, "", old["uid"]):
        why = (
            f"Precondition failed: UID in precondition: {metadata['uid']}, "
            f"UID in object meta: {old['uid']}"
        )
        raise refusals.conflict(resource.plural, resource.group, name, why)
    if metadata.get("resourceVersion") not in (None, "", old["resourceVersion"]):
        raise refusals.conflict(resource.plural, resource.group, name)
    kept = {name: old[name] for name in _RESTORED if name in old}
    own = {k: v for k, v in metadata.items() if k not in _RESTORED and v not in ({}, [])}
    if metadata.get("managedFields") == []:
        own["managedFields"] = []
    result = {**new, "apiVersion": live["apiVersion"], "metadata": {**kept, **own}}
    if subresource in ("status", "scale"):
        return _part_of(live, result, subresource)
    if resource.has_status:
        result.pop("status", None)
        if "status" in live:
            result["status"] = live["status"]
    return result


def _part_of(live: Obj, result: Obj, subresource: str) -> Obj:
    if subresource == "status":
        state = {"status": result["status"]} if "status" in result else {}
        return {**live, "metadata": result["metadata"], **state}
    return {**live, "metadata": {**live["metadata"]}, "spec": result["spec"]}


def is_new_generation(resource: Resource, live: Obj, new: Obj, subresource: str) -> bool:
    """Whether a change is one of the specification, which counts generations."""
    if subresource == "status":
        return False
    if resource.custom:
        ignored = ("metadata", "status") if resource.has_status else ("metadata",)
        return _without(live, ignored) != _without(new, ignored)
    if resource.key == "deployments.apps":
        old, now = live["metadata"].get("annotations"), new["metadata"].get("annotations")
        if (old or {}) != (now or {}):
            return True
    return bool(live.get("spec") != new.get("spec"))


def _without(obj: Obj, names: tuple[str, ...]) -> Obj:
    return {name: value for name, value in obj.items() if name not in names}


def is_same(live: Obj, new: Obj) -> bool:
    """Nothing differs but the time stamps of managedFields."""
    if _without(live, ("metadata",)) != _without(new, ("metadata",)):
        return False
    old, now = live["metadata"], new["metadata"]
    if _without(old, ("managedFields",)) != _without(now, ("managedFields",)):
        return False
    before = managed_fields.read(old.get("managedFields"))
    after = managed_fields.read(now.get("managedFields"))
    return {i: own.fields for i, own in before.items()} == {
        i: own.fields for i, own in after.items()
    }
