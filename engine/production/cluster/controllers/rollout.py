"""The arithmetic of a rollout: which ReplicaSet should have how many pods next. Pure.

A Deployment owns ReplicaSets, one of which (the *new* one) has its current template. A rolling
update moves pods from the old ones to it within two bounds: never more than replicas + maxSurge
pods in all, never fewer than replicas - maxUnavailable available ones.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from engine.production.cluster.identities import SAFE_ALPHABET
from engine.production.cluster.objects.common import Obj, annotations_of

REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED = "deployment.kubernetes.io/desired-replicas"
MAXIMUM = "deployment.kubernetes.io/max-replicas"
HASH_LABEL = "pod-template-hash"


def template_hash(template: Obj) -> str:
    """A short name for a pod template: the same template, the same name."""
    digest = str(zlib.crc32(msgspec.json.encode(template, order="deterministic")))
    return "".join(SAFE_ALPHABET[ord(digit) % len(SAFE_ALPHABET)] for digit in digest)


def same_template(left: Obj, right: Obj) -> bool:
    """Whether two pod templates differ in nothing but the hash label."""
    return _bare(left) == _bare(right)


def _bare(template: Obj) -> Obj:
    metadata = dict(template.get("metadata") or {})
    metadata["labels"] = {k: v for k, v in metadata.get("labels", {}).items() if k != HASH_LABEL}
    return {**template, "metadata": metadata}


def revision_of(obj: Obj) -> int:
    """The number in its revision annotation; 0 when there is none."""
    text = annotations_of(obj).get(REVISION, "0")
    return int(text) if text.isdigit() else 0


def size_of(replica_set: Obj) -> int:
    """How many pods a ReplicaSet should have."""
    replicas: int = replica_set["spec"].get("replicas", 0)
    return replicas


def _available(replica_set: Obj) -> int:
    """How many of the pods that it should have are available (its status lags behind)."""
    available: int = replica_set.get("status", {}).get("availableReplicas", 0)
    return min(available, size_of(replica_set))


def _share(value: Any, total: int, *, up: bool) -> int:
    """An int-or-percent value as a number of pods."""
    if isinstance(value, int):
        return value
    fraction = int(str(value).rstrip("%")) * total / 100
    return math.ceil(fraction) if up else math.floor(fraction)


def bounds(deployment: Obj) -> tuple[int, int]:
    """(maxSurge, maxUnavailable) in pods; both 0 for a strategy without rolling update."""
    spec = deployment["spec"]
    rolling = spec["strategy"].get("rollingUpdate")
    replicas = spec["replicas"]
    if spec["strategy"]["type"] != "RollingUpdate" or rolling is None:
        return 0, 0
    surge = _share(rolling.get("maxSurge", "25%"), replicas, up=True)
    unavailable = _share(rolling.get("maxUnavailable", "25%"), replicas, up=False)
    if surge == 0 and unavailable == 0:
        unavailable = 1
    return surge, min(unavailable, replicas)


@dataclass(frozen=True)
class Scaling:
    """One ReplicaSet is to have another number of pods."""

    replica_set: Obj
    replicas: int


@dataclass(frozen=True)
class Rollout:
    """A Deployment and its ReplicaSets as they are now; `old` in the order of their creation."""

    deployment: Obj
    new: Obj | None
    old: Sequence[Obj]

    @property
    def replicas(self) -> int:
        count: int = self.deployment["spec"]["replicas"]
        return count

    @property
    def all(self) -> list[Obj]:
        return [*self.old, *([self.new] if self.new is not None else [])]

    @property
    def total(self) -> int:
        return sum(size_of(each) for each in self.all)

    @property
    def maximum(self) -> int:
        return self.replicas + bounds(self.deployment)[0]

    @property
    def is_recreate(self) -> bool:
        return bool(self.deployment["spec"]["strategy"]["type"] == "Recreate")

    @property
    def has_old_pods(self) -> bool:
        """Pods of old templates exist, be it that they are about to end."""
        return any(
            each.get("status", {}).get(count, 0)
            for each in self.old
            for count in ("replicas", "terminatingReplicas")
        )

    def replicas_of_a_new_set(self) -> int:
        """How many pods the new ReplicaSet may have now, given what the old ones have."""
        if self.is_recreate:
            return self.replicas
        now = size_of(self.new) if self.new is not None else 0
        room = self.maximum - self.total
        return min(now + max(0, room), self.replicas) if now <= self.replicas else self.replicas

    def scaled_deployment(self) -> Scaling | None:
        """What follows from a change of spec.replicas, as against a change of the template."""
        active = [each for each in self.all if size_of(each) > 0]
        single = active[0] if len(active) == 1 else None if active else self._latest()
        if single is not None:
            return Scaling(single, self.replicas)
        if self.new is not None and _is_saturated(self.deployment, self.new):
            return next((Scaling(each, 0) for each in self.old if size_of(each)), None)
        return None if self.is_recreate else self._proportional(active)

    def _latest(self) -> Obj | None:
        return self.new or (self.old[-1] if self.old else None)

    def is_scaling(self) -> bool:
        """Whether spec.replicas was changed since the ReplicaSets were last told."""
        for each in self.all:
            desired = annotations_of(each).get(DESIRED)
            if size_of(each) > 0 and desired is not None and desired != str(self.replicas):
                return True
        return False

    def _proportional(self, active: list[Obj]) -> Scaling | None:
        """The next ReplicaSet to get its share of a change of size in mid-rollout."""
        stale = [each for each in active if annotations_of(each).get(DESIRED) != str(self.replicas)]
        if not stale:
            return None
        room = (self.maximum if self.replicas > 0 else 0) - self.total
        largest = max(stale, key=size_of)
        share = room
        if len(stale) > 1:
            before = int(annotations_of(largest).get(MAXIMUM, "0")) or self.total
            share = round(size_of(largest) * self.maximum / before) - size_of(largest)
            share = min(share, room) if room > 0 else max(share, room)
        return Scaling(largest, max(0, size_of(largest) + share))

    def next_scaling(self) -> Scaling | None:
        """The next ReplicaSet to be scaled in the course of an update, or None."""
        if self.new is None:
            return None
        if self.is_recreate:
            return self._next_of_recreate()
        replicas = self.replicas_of_a_new_set()
        if replicas != size_of(self.new):
            return Scaling(self.new, replicas)
        return self._next_down()

    def _next_of_recreate(self) -> Scaling | None:
        assert self.new is not None
        for each in self.old:
            if size_of(each) > 0:
                return Scaling(each, 0)
        if not self.has_old_pods and size_of(self.new) != self.replicas:
            return Scaling(self.new, self.replicas)
        return None

    def _next_down(self) -> Scaling | None:
        """Take pods from the old ones: those that do not work first, then the oldest."""
        assert self.new is not None
        active = [each for each in self.old if size_of(each) > 0]
        minimum = self.replicas - bounds(self.deployment)[1]
        waiting = max(0, size_of(self.new) - _available(self.new))
        removable = self.total - minimum - waiting
        if removable <= 0 or not active:
            return None
        for each in active:
            broken = size_of(each) - _available(each)
            if broken > 0:
                return Scaling(each, size_of(each) - min(broken, removable))
        spare = sum(_available(each) for each in self.all) - minimum
        if spare <= 0:
            return None
        return Scaling(active[0], size_of(active[0]) - min(spare, size_of(active[0])))


def _is_saturated(deployment: Obj, replica_set: Obj) -> bool:
    replicas = deployment["spec"]["replicas"]
    desired = annotations_of(replica_set).get(DESIRED)
    return bool(
        size_of(replica_set) == replicas
        and desired == str(replicas)
        and _available(replica_set) == replicas
    )
