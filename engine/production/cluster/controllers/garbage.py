"""What goes when its owner goes.

Background deletion removes an owner at once and its dependents afterwards; foreground keeps the
owner until its dependents are gone; orphan lets them live without it.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.production.cluster.api import Api
from engine.production.cluster.objects.common import Key, Obj, copy_json, is_deleting, key_of
from engine.production.cluster.objects.store import Change

_FOREGROUND = "foregroundDeletion"
_ORPHAN = "orphan"


class GarbageController:
    """Cascading deletion. Its keys are (resource, "namespace/name/uid")."""

    name = "garbage"

    def __init__(self, api: Api) -> None:
        self._api = api
        self._store = api.store

    def concerns(self, change: Change) -> Iterable[Key]:
        metadata = change.object["metadata"]
        if change.type == "DELETED":
            for resource, dependent in self._store.owned_by(metadata["uid"]):
                yield _key(resource, dependent)
            for reference in metadata.get("ownerReferences") or ():
                owner = self._owner(change.object, reference)
                if owner is not None:
                    yield owner
            return
        ends = is_deleting(change.object) and metadata.get("finalizers")
        begins = change.previous is None and metadata.get("ownerReferences")
        if ends or begins:
            yield _key(change.resource, change.object)

    def _owner(self, dependent: Obj, reference: Obj) -> Key | None:
        resource = self._api.catalog.for_kind(reference["apiVersion"], reference["kind"])
        if resource is None:
            return None
        namespace = dependent["metadata"].get("namespace", "") if resource.namespaced else ""
        return (resource.storage, f"{namespace}/{reference['name']}/{reference['uid']}")

    def reconcile(self, key: Key) -> bool:
        resource, path = key
        namespace, name, uid = path.split("/", 2)
        obj = self._store.get(resource, namespace, name)
        if obj is None or obj["metadata"]["uid"] != uid:
            return False
        if is_deleting(obj):
            self._finish(resource, obj)
        else:
            self._look_for_owners(resource, obj)
        return False

    def _look_for_owners(self, resource: str, obj: Obj) -> None:
        """Delete what has lost all its owners; of several, forget those that are gone."""
        references = obj["metadata"].get("ownerReferences") or []
        there = [reference for reference in references if self._exists(obj, reference)]
        if references and not there:
            self._delete(resource, obj, "Background")
        elif there != references:
            self._keep(obj, there)

    def _exists(self, dependent: Obj, reference: Obj) -> bool:
        key = self._owner(dependent, reference)
        if key is None:
            return True
        namespace, name, uid = key[1].split("/", 2)
        owner = self._store.get(key[0], namespace, name)
        return owner is not None and owner["metadata"]["uid"] == uid

    def _finish(self, resource: str, obj: Obj) -> None:
        finalizers = obj["metadata"].get("finalizers") or ()
        dependents = list(self._store.owned_by(obj["metadata"]["uid"]))
        if _ORPHAN in finalizers:
            for _, dependent in dependents:
                self._release(obj, dependent)
            self._drop_finalizer(obj, _ORPHAN)
        elif _FOREGROUND in finalizers:
            blocking = [pair for pair in dependents if _blocks(pair[1], obj)]
            for of_resource, dependent in blocking:
                self._take_along(of_resource, dependent, obj)
            if not any(_blocks(each, obj) for _, each in self._store.owned_by(_uid(obj))):
                self._drop_finalizer(obj, _FOREGROUND)

    def _take_along(self, resource: str, dependent: Obj, owner: Obj) -> None:
        """Delete a dependent before its owner, unless it has another one to live for."""
        references = dependent["metadata"]["ownerReferences"]
        others = [r for r in references if r["uid"] != _uid(owner) and self._exists(dependent, r)]
        if others:
            self._keep(dependent, others)
        elif not is_deleting(dependent):
            more = any(True for _ in self._store.owned_by(_uid(dependent)))
            self._delete(resource, dependent, "Foreground" if more else "Background")

    def _release(self, owner: Obj, dependent: Obj) -> None:
        references = dependent["metadata"]["ownerReferences"]
        self._keep(dependent, [r for r in references if r["uid"] != _uid(owner)])

    def _keep(self, dependent: Obj, references: list[Obj]) -> None:
        changed = copy_json(dependent)
        changed["metadata"]["ownerReferences"] = copy_json(references)
        self._api.save(changed)

    def _drop_finalizer(self, obj: Obj, finalizer: str) -> None:
        changed = copy_json(obj)
        changed["metadata"]["finalizers"].remove(finalizer)
        self._api.save(changed)

    def _delete(self, resource: str, obj: Obj, propagation: str) -> None:
        self._api.delete(self._api.catalog[resource], *key_of(obj), propagation=propagation)


def _uid(obj: Obj) -> str:
    uid: str = obj["metadata"]["uid"]
    return uid


def _blocks(dependent: Obj, owner: Obj) -> bool:
    """Whether the owner waits for it when it is deleted in the foreground."""
    references = dependent["metadata"].get("ownerReferences") or ()
    return any(r["uid"] == _uid(owner) and r.get("blockOwnerDeletion") for r in references)


def _key(resource: str, obj: Obj) -> Key:
    namespace, name = key_of(obj)
    return (resource, f"{namespace}/{name}/{obj['metadata']['uid']}")
