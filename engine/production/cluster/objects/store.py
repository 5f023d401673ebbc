"""Where the objects are: current state, one growing resourceVersion, and a bounded history.

The store knows nothing of kinds or rules. It hands the very dictionaries it holds to readers, so
nobody may change them (see common.py). Everything runs in one event loop, so a write is seen by
all subscribers before `put` returns and no lock is needed.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from engine.production.cluster.objects.common import Key, Obj, key_of

_log = logging.getLogger(__name__)

ChangeType = Literal["ADDED", "MODIFIED", "DELETED"]


@dataclass(frozen=True, slots=True)
class Change:
    """One write. `resource` is a store key such as "pods" or "deployments.apps".

    `object` is the state after it (of a deletion: the last one, with the deletion's version),
    `previous` the state before it, None when the object is new.
    """

    type: ChangeType
    resource: str
    object: Obj
    previous: Obj | None
    version: int


Subscriber = Callable[[Change], None]


class Expired(Exception):
    """The history does not reach back to the version that was asked for."""

    def __init__(self, asked: int, oldest: int) -> None:
        super().__init__(f"too old resource version: {asked} ({oldest})")


class ObjectStore:
    """All objects of the cluster.

    `history` is how many changes are remembered per resource, so that a watch can resume.
    """

    def __init__(self, history: int = 1000) -> None:
        self.version = 1
        self._history_limit = history
        self._objects: dict[str, dict[Key, Obj]] = {}
        self._history: dict[str, deque[Change]] = {}
        self._forgotten: dict[str, int] = {}
        self._owned: dict[str, dict[tuple[str, Key], None]] = {}
        self._subscribers: list[Subscriber] = []

    def get(self, resource: str, namespace: str, name: str) -> Obj | None:
        return self._objects.get(resource, {}).get((namespace, name))

    def items(self, resource: str, namespace: str | None = None) -> list[Obj]:
        """The objects of a resource in the order of their keys; None means all namespaces."""
        objects = self._objects.get(resource, {})
        keys = sorted(key for key in objects if namespace is None or key[0] == namespace)
        return [objects[key] for key in keys]

    def count(self, resource: str) -> int:
        return len(self._objects.get(resource, ()))

    def resources(self) -> Iterator[str]:
        """The resources that have objects now."""
        return (resource for resource, objects in list(self._objects.items()) if objects)

    def owned_by(self, uid: str) -> Iterator[tuple[str, Obj]]:
        """(resource, object) of everything that names `uid` among its owners, oldest first."""
        for resource, key in list(self._owned.get(uid, ())):
            yield resource, self._objects[resource][key]

    def put(self, resource: str, obj: Obj) -> Obj:
        """ObjectStore `obj` (which now belongs to the store) with the next resourceVersion."""
        key = key_of(obj)
        objects = self._objects.setdefault(resource, {})
        previous = objects.get(key)
        self.version += 1
        obj["metadata"]["resourceVersion"] = str(self.version)
        objects[key] = obj
        self._index_owners(resource, key, previous, obj)
        kind: ChangeType = "ADDED" if previous is None else "MODIFIED"
        self._publish(Change(kind, resource, obj, previous, self.version))
        return obj

    def remove(self, resource: str, namespace: str, name: str) -> Obj:
        """Take the object out; returns its last state. Raises KeyError when there is none."""
        key = (namespace, name)
        previous = self._objects[resource].pop(key)
        self.version += 1
        metadata = {**previous["metadata"], "resourceVersion": str(self.version)}
        last = {**previous, "metadata": metadata}
        self._index_owners(resource, key, previous, None)
        self._publish(Change("DELETED", resource, last, previous, self.version))
        return last

    def since(self, resource: str, version: int) -> list[Change]:
        """What happened to a resource after `version`, oldest first.

        Raises Expired when some of that is no longer remembered.
        """
        forgotten = self._forgotten.get(resource, 0)
        if version < forgotten:
            raise Expired(version, forgotten)
        return [change for change in self._history.get(resource, ()) if change.version > version]

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call `subscriber` with every change from now on; returns what ends that."""
        self._subscribers.append(subscriber)

        def unsubscribe() -> None:
            if subscriber in self._subscribers:
                self._subscribers.remove(subscriber)

        return unsubscribe

    def _publish(self, change: Change) -> None:
        history = self._history.setdefault(change.resource, deque())
        history.append(change)
        if len(history) > self._history_limit:
            self._forgotten[change.resource] = history.popleft().version
        for subscriber in tuple(self._subscribers):
            try:
                subscriber(change)
            except Exception:
                # The write has happened, and the others must hear of it all the same.
                _log.exception("a subscriber failed on %s %s", change.type, change.resource)

    def _index_owners(self, resource: str, key: Key, old: Obj | None, new: Obj | None) -> None:
        before, after = _owners(old), _owners(new)
        for uid in before - after:
            children = self._owned[uid]
            children.pop((resource, key), None)
            if not children:
                del self._owned[uid]
        for uid in after - before:
            self._owned.setdefault(uid, {})[(resource, key)] = None


def _owners(obj: Obj | None) -> set[str]:
    if obj is None:
        return set()
    return {reference["uid"] for reference in obj["metadata"].get("ownerReferences") or ()}
