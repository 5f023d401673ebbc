"""Custom resources: a stored CustomResourceDefinition is served, and goes with its objects."""

from __future__ import annotations

from collections.abc import Iterable

from engine.production.cluster.api import Api
from engine.production.cluster.deletion import CLEAN_UP, DEFINITIONS
from engine.production.cluster.objects.common import (
    Key,
    Obj,
    copy_json,
    find_condition,
    is_deleting,
    key_of,
)
from engine.production.cluster.objects.resources import from_definition
from engine.production.cluster.objects.store import Change


class DefinitionController:
    """Accepts definitions. Serving begins with the store's change itself, not with a later turn."""

    name = "definitions"

    def __init__(self, api: Api) -> None:
        self._api = api
        self._store = api.store

    def concerns(self, change: Change) -> Iterable[Key]:
        if change.resource != DEFINITIONS:
            if change.type == "DELETED" and self._ending(change.resource):
                yield ("", change.resource)
            return
        if change.type == "DELETED":
            self._withdraw(change.object)
        else:
            self._api.catalog.add(from_definition(change.object))
        yield key_of(change.object)

    def reconcile(self, key: Key) -> bool:
        definition = self._store.get(DEFINITIONS, *key)
        if definition is not None and is_deleting(definition):
            self._finish(definition)
            return False
        if definition is None or find_condition(definition["status"], "Established"):
            return False
        changed = copy_json(definition)
        now = self._api.timestamp()
        changed["status"] = {
            "conditions": [
                _condition("NamesAccepted", "NoConflicts", "no conflicts found", now),
                _condition(
                    "Established",
                    "InitialNamesAccepted",
                    "the initial names have been accepted",
                    now,
                ),
            ],
            "acceptedNames": copy_json(definition["spec"]["names"]),
            "storedVersions": definition["status"]["storedVersions"],
        }
        self._api.save(changed, manager="kube-apiserver", subresource="status")
        return False

    def _ending(self, name: str) -> bool:
        definition = self._store.get(DEFINITIONS, "", name)
        return definition is not None and is_deleting(definition)

    def _finish(self, definition: Obj) -> None:
        """Delete the objects of a definition that ends; it goes when they have gone."""
        resource = from_definition(definition)
        for obj in self._store.items(resource.storage):
            if not is_deleting(obj):
                self._api.delete(resource, *key_of(obj))
        changed = copy_json(definition)
        finalizers = changed["metadata"].get("finalizers") or []
        if self._store.items(resource.storage):
            if find_condition(definition["status"], "Terminating") is None:
                words = ("InstanceDeletionInProgress", "CustomResource deletion is in progress")
                condition = _condition("Terminating", *words, self._api.timestamp())
                changed["status"]["conditions"].append(condition)
                self._api.save(changed, manager="kube-apiserver", subresource="status")
        elif CLEAN_UP in finalizers:
            finalizers.remove(CLEAN_UP)
            self._api.save(changed, manager="kube-apiserver")

    def _withdraw(self, definition: Obj) -> None:
        resource = from_definition(definition)
        for obj in self._store.items(resource.storage):
            self._store.remove(resource.storage, *key_of(obj))
        self._api.catalog.drop(resource.key)


def _condition(kind: str, reason: str, message: str, now: str) -> Obj:
    return {
        "type": kind,
        "status": "True",
        "lastTransitionTime": now,
        "reason": reason,
        "message": message,
    }
