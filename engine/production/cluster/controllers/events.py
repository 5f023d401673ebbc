"""Events: what controllers tell about what they do, for `kubectl describe` and for evidence."""

from __future__ import annotations

from engine.production.cluster.api import Api
from engine.production.cluster.intake import WriteOptions
from engine.production.cluster.objects.common import Obj, copy_json

_LIMIT = 1000


class Recorder:
    """Writes events about objects on behalf of one component."""

    def __init__(self, api: Api, component: str, manager: str) -> None:
        self._api = api
        self._component = component
        self._manager = manager
        self._names: dict[tuple[str, str, str], str] = {}

    def tell(self, obj: Obj, kind: str, reason: str, message: str, *, field_path: str = "") -> None:
        """Record an event; the same one again raises its count. `kind` is Normal or Warning."""
        metadata = obj["metadata"]
        namespace = metadata.get("namespace", "default")
        name = self._names.get((metadata["uid"], reason, message))
        seen = self._api.store.get("events", namespace, name) if name else None
        if seen is not None:
            again = copy_json(seen)
            again |= {"count": seen["count"] + 1, "lastTimestamp": self._api.timestamp()}
            self._api.save(again, manager=self._manager)
            return
        if self._api.store.get("namespaces", "", namespace) is None:
            return
        self._create(obj, namespace, kind, reason, message, field_path)

    def _create(
        self, obj: Obj, namespace: str, kind: str, reason: str, message: str, field_path: str
    ) -> None:
        metadata = obj["metadata"]
        name = self._api.identities.event(metadata["name"], self._api.timeline.now())
        involved = {
            "kind": obj["kind"],
            "namespace": metadata.get("namespace", ""),
            "name": metadata["name"],
            "uid": metadata["uid"],
            "apiVersion": obj["apiVersion"],
            "resourceVersion": metadata["resourceVersion"],
            "fieldPath": field_path,
        }
        now = self._api.timestamp()
        event = {
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": {key: value for key, value in involved.items() if value},
            "reason": reason,
            "message": message,
            "source": {"component": self._component},
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
            "type": kind,
            "eventTime": None,
            "reportingComponent": self._component,
            "reportingInstance": "",
        }
        self._store(event, namespace)
        self._names[(metadata["uid"], reason, message)] = name

    def _store(self, event: Obj, namespace: str) -> None:
        self._trim()
        resource = self._api.catalog["events"]
        home = self._api.store.get("namespaces", "", namespace)
        if home is not None and "deletionTimestamp" not in home["metadata"]:
            self._api.create(resource, "v1", namespace, event, WriteOptions(self._manager))

    def _trim(self) -> None:
        """A server forgets events after an hour; here the oldest go when there are many."""
        store = self._api.store
        if store.count("events") < _LIMIT:
            return
        by_age = sorted(store.items("events"), key=lambda e: int(e["metadata"]["resourceVersion"]))
        for event in by_age[: _LIMIT // 4]:
            store.remove("events", event["metadata"]["namespace"], event["metadata"]["name"])
        self._names.clear()
