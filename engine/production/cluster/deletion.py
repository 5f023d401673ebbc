"""How an object begins to end: what a deletion asks for first, and the object marked by it."""

from __future__ import annotations

from engine.production.cluster.objects import refusals
from engine.production.cluster.objects.common import Obj, is_deleting, timestamp
from engine.production.cluster.objects.resources import Resource


def check_preconditions(resource: Resource, live: Obj, conditions: Obj) -> None:
    """Raise ApiError (409) where the object is not the one that the client means."""
    for name, label, end in (
        ("uid", "UID", "deleted and then recreated"),
        ("resourceVersion", "ResourceVersion", "modified"),
    ):
        actual = live["metadata"][name]
        if conditions.get(name) not in (None, actual):
            why = (
                f"the {label} in the precondition ({conditions[name]}) does not match the "
                f"{label} in record ({actual}). The object might have been {end}"
            )
            raise refusals.conflict(resource.kind, resource.group, live["metadata"]["name"], why)


def begin(resource: Resource, live: Obj, finalizers: list[str], grace: int, now: float) -> Obj:
    """`live`, on its way out: it has `grace` seconds from `now` (an epoch time) on.

    A grace period that runs already is only ever shortened.
    """
    metadata = dict(live["metadata"])
    already = is_deleting(live)
    if already and metadata.get("deletionGracePeriodSeconds", 0) <= grace:
        grace = metadata.get("deletionGracePeriodSeconds", 0)
    else:
        metadata["deletionTimestamp"] = timestamp(now + grace)
        metadata["deletionGracePeriodSeconds"] = grace
    if not already and "generation" in metadata:
        metadata["generation"] += 1
    if resource.key == "namespaces":
        metadata.pop("deletionGracePeriodSeconds", None)
    if finalizers:
        metadata["finalizers"] = finalizers
    new = {**live, "metadata": metadata}
    if resource.key == "namespaces":
        new["status"] = {**live.get("status", {}), "phase": "Terminating"}
    return new
