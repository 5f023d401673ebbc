"""The production's cluster on virtual time, with everything that happened in it written down."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from engine.production.cluster.cluster import Cluster
from engine.production.cluster.identities import Identities
from engine.production.cluster.objects.common import copy_json
from engine.production.cluster.objects.store import Change
from engine.production.cluster.timeline import VirtualTimeline
from engine.production.faults import Faults
from engine.production.names import IMAGE, NAMESPACE
from engine.production.objects import production
from engine.production.pods import Habits, ModelPods

START = 1_800_000_000.0
PULLABLE = {f"{IMAGE}:5.0": "5.0", f"{IMAGE}:5.1": "5.1", "postgres:17": "", "redis:7": ""}


class VirtualCluster:
    """A cluster with the production in it; time goes on when `let_pass` says so."""

    def __init__(self, seed: int = 1, *, blue: int = 3, habits: Habits | None = None) -> None:
        self.time = VirtualTimeline(START)
        self.faults = Faults()
        self.pods = ModelPods(self.time, self.faults, PULLABLE.get, habits)
        self.cluster = Cluster(
            self.pods, self.time, Identities(random.Random(seed)), namespace=NAMESPACE
        )
        self.history: list[tuple[float, str, str, dict[str, Any]]] = []
        self.cluster.subscribe(self._write_down)
        self.cluster.begin(["node-1", "node-2"], istio=True)
        for obj in production(blue):
            self.cluster.apply(obj)

    def _write_down(self, change: Change) -> None:
        obj = copy_json(change.object)
        self.history.append((self.time.now() - START, change.type, change.resource, obj))

    def let_pass(self, seconds: float) -> None:
        """Let so many seconds pass."""
        self.time.advance(self.time.now() + seconds)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """An object that must be there."""
        obj = self.cluster.get(kind, name)
        assert obj is not None
        return obj

    def change(self, kind: str, name: str, edit: Callable[[dict[str, Any]], None]) -> None:
        """Change an object that is there."""
        obj = self.get(kind, name)
        edit(obj)
        self.cluster.api.save(obj, manager="test")

    def scale(self, name: str, replicas: int) -> None:
        """Another size of a Deployment."""
        self.change("Deployment", name, lambda obj: obj["spec"].update(replicas=replicas))

    def condition(self, name: str, kind: str) -> tuple[str, str]:
        """(status, reason) of a Deployment's condition."""
        conditions = self.get("Deployment", name)["status"].get("conditions") or ()
        return next(((c["status"], c["reason"]) for c in conditions if c["type"] == kind), ("", ""))

    def containers(self, version: str) -> list[dict[str, Any]]:
        """The container statuses of a version's pods."""
        return [
            status
            for pod in self.cluster.list("Pod", NAMESPACE)
            if (pod["metadata"].get("labels") or {}).get("version") == version
            for status in pod["status"].get("containerStatuses") or ()
        ]

    def ready(self, version: str) -> int:
        """How many pods of a version are ready."""
        return sum(status["ready"] for status in self.containers(version))

    def told(self) -> list[tuple[str, str]]:
        """(reason, message) of every event, in the order of their first appearance."""
        return [
            (obj["reason"], obj["message"])
            for _, kind, resource, obj in self.history
            if resource == "events" and kind == "ADDED"
        ]
