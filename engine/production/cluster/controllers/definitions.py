"""Custom resources: a stored CustomResourceDefinition is served, and goes with its objects."""

from __future__ import annotations

from collections.abc import Iterable

from engine.production.cluster.api import Api
from engine.production.cluster.objects.common import Key, Obj, copy_json, find_condition, key_of
from engine.production.cluster.objects.resources import from_definition
from engine.production.cluster.objects.store import Change

DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"


class DefinitionController:
    """Accepts definitions. Serving begins with the store's change itself, not with a later turn."""

    name = "definitions"

    def __init__(self, api: Api) -> None:
        self._api = api
        self._store = api.store

    def concerns(self, change: Change) -> Iterable[Key]:
        if change.resource != DEFINITIONS:
            return
        if change.type == "DELETED":
            self._withdraw(change.object)
        else:
            self._api.catalog.add(from_definition(change.object))
        yield key_of(change.object)

    def reconcile(self, key: Key) -> bool:
        definition = self._store.get(DEFINITIONS, *key)
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
