"""How an object begins to end: what a deletion asks for first, and the object marked by it."""

from __future__ import annotations

from engine.production.cluster.objects import refusals
from engine.production.cluster.objects.common import Obj, is_deleting, timestamp
from engine.production.cluster.objects.refusals import ApiError
from engine.production.cluster.objects.resources import Resource
from engine.production.cluster.objects.store import ObjectStore

DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"
CLEAN_UP = "customresourcecleanup.apiextensions.k8s.io"
"""The finalizer by which a definition waits for the objects that it defines."""


def finalizers_of(resource: Resource, live: Obj, propagation: str) -> list[str]:
    """What has to be done before the object goes, by its own wish and by this deletion's."""
    finalizers = list(live["metadata"].get("finalizers") or ())
    more = [{"Foreground": "foregroundDeletion", "Orphan": "orphan"}.get(propagation)]
    if resource.key == DEFINITIONS and not is_deleting(live):
        more.append(CLEAN_UP)
    return finalizers + [name for name in more if name and name not in finalizers]


def check_definition(store: ObjectStore, resource: Resource) -> None:
    """Raise ApiError (405) for a new object of a definition that ends."""
    definition = store.get(DEFINITIONS, "", resource.storage) if resource.custom else None
    if definition is not None and is_deleting(definition):
        message = "create not allowed while custom resource definition is terminating"
        raise ApiError(405, "MethodNotAllowed", message, {"kind": resource.plural})


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
