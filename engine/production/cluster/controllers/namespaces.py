"""How a namespace ends: it waits, empties itself, waits for what is held back, and goes.

A real controller lets five seconds pass before it touches the content, so that an end is seen by
everybody first; until the namespace has gone, it says in its conditions what it still waits for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from engine.production.cluster.api import Api
from engine.production.cluster.controllers.dispatcher import Dispatcher
from engine.production.cluster.objects.common import (
    Key,
    Obj,
    copy_json,
    find_condition,
    is_deleting,
    key_of,
)
from engine.production.cluster.objects.resources import Resource
from engine.production.cluster.objects.store import Change

_SETTLING = 5.0
_Content = list[tuple[Resource, Obj]]


class NamespaceController:
    """Empties a namespace that is being deleted, then lets it go."""

    name = "namespaces"

    def __init__(self, api: Api, dispatcher: Dispatcher) -> None:
        self._api = api
        self._store = api.store
        self._dispatcher = dispatcher
        self._due: dict[str, float] = {}
        """uid of a namespace that ends -> when its content is touched, in the cluster's seconds."""

    def concerns(self, change: Change) -> Iterable[Key]:
        if change.resource == "namespaces":
            if change.type == "DELETED":
                self._due.pop(change.object["metadata"]["uid"], None)
            yield key_of(change.object)
        elif change.object["metadata"].get("namespace") and (
            change.type == "DELETED" or is_deleting(change.object)
        ):
            yield ("", change.object["metadata"]["namespace"])

    def reconcile(self, key: Key) -> bool:
        namespace = self._store.get("namespaces", *key)
        if namespace is None or not is_deleting(namespace):
            return False
        now = self._api.timeline.elapsed()
        due = self._due.setdefault(namespace["metadata"]["uid"], now + _SETTLING)
        if due > now:
            self._dispatcher.later(self.name, key, due - now, "end")
            return False
        for resource, obj in self._content(key[1]):
            if not is_deleting(obj):
                self._api.delete(resource, *key_of(obj))
        left = self._content(key[1])
        if left:
            self._tell(namespace, left)
            return False
        changed = copy_json(namespace)
        changed["spec"].pop("finalizers", None)
        self._api.save(changed)
        return False

    def _content(self, name: str) -> _Content:
        return [
            (resource, obj)
            for resource in self._api.catalog
            if resource.namespaced and not resource.view
            for obj in self._store.items(resource.storage, name)
        ]

    def _tell(self, namespace: Obj, left: _Content) -> None:
        """Say what the namespace waits for, unless it says so already."""
        conditions = [
            _condition(*words, now=self._api.timestamp()) for words in _conditions_of(left)
        ]
        for condition in conditions:
            known = find_condition(namespace["status"], condition["type"])
            if known is not None and known["status"] == condition["status"]:
                condition["lastTransitionTime"] = known["lastTransitionTime"]
        if conditions != namespace["status"].get("conditions"):
            changed = copy_json(namespace)
            changed["status"]["conditions"] = conditions
            self._api.save(changed, subresource="status")


def _conditions_of(left: _Content) -> list[tuple[str, str, str, str]]:
    """(type, status, reason, message) of each condition while this content is left."""
    kinds = Counter(resource.storage for resource, _ in left)
    held = Counter(name for _, obj in left for name in obj["metadata"].get("finalizers") or ())
    remaining = ", ".join(
        # A kind of the core group is named with the dot that stands before no group.
        f"{kind if '.' in kind else f'{kind}.'} has {count} resource instances"
        for kind, count in sorted(kinds.items())
    )
    holding = ", ".join(f"{name} in {held[name]} resource instances" for name in sorted(held))
    deleted = "All content successfully deleted, may be waiting on finalization"
    finalizers = f"Some content in the namespace has finalizers remaining: {holding}"
    return [
        (
            "NamespaceDeletionDiscoveryFailure",
            "False",
            "ResourcesDiscovered",
            "All resources successfully discovered",
        ),
        (
            "NamespaceDeletionGroupVersionParsingFailure",
            "False",
            "ParsedGroupVersions",
            "All legacy kube types successfully parsed",
        ),
        ("NamespaceDeletionContentFailure", "False", "ContentDeleted", deleted),
        (
            "NamespaceContentRemaining",
            "True",
            "SomeResourcesRemain",
            f"Some resources are remaining: {remaining}",
        ),
        (
            "NamespaceFinalizersRemaining",
            "True" if held else "False",
            "SomeFinalizersRemain" if held else "ContentHasNoFinalizers",
            finalizers if held else "All content-preserving finalizers finished",
        ),
    ]


def _condition(kind: str, status: str, reason: str, message: str, *, now: str) -> Obj:
    return {
        "type": kind,
        "status": status,
        "lastTransitionTime": now,
        "reason": reason,
        "message": message,
    }
