"""The ReplicaSet controller: as many pods as wanted, and their count in the status."""

from __future__ import annotations

from collections.abc import Iterable

from engine.production.cluster.api import Api
from engine.production.cluster.controllers.dispatcher import Dispatcher
from engine.production.cluster.controllers.pod_owner import BURST, RETRY_AFTER, PodOwner
from engine.production.cluster.controllers.progress import set_condition
from engine.production.cluster.controllers.rollout import size_of
from engine.production.cluster.objects.common import (
    Key,
    Obj,
    is_deleting,
    is_pod_active,
    is_pod_ready,
    key_of,
    labels_of,
    parse_time,
    without_empty,
)
from engine.production.cluster.objects.store import Change


class ReplicaSetController:
    """Creates and deletes the pods of ReplicaSets."""

    name = "replicasets"

    def __init__(self, api: Api, dispatcher: Dispatcher) -> None:
        self._api = api
        self._store = api.store
        self._dispatcher = dispatcher
        self._owner = PodOwner(api, "replicasets.apps", "ReplicaSet", "replicaset-controller")
        self._ready_since: dict[str, float] = {}

    def concerns(self, change: Change) -> Iterable[Key]:
        if change.resource == "pods":
            self._note_readiness(change)
        yield from self._owner.concerned(change)

    def _note_readiness(self, change: Change) -> None:
        """Remember when a pod became ready, more exactly than its condition's time tells."""
        uid = change.object["metadata"]["uid"]
        if change.type == "DELETED" or not is_pod_ready(change.object):
            self._ready_since.pop(uid, None)
        else:
            self._ready_since.setdefault(uid, self._api.timeline.elapsed())

    def reconcile(self, key: Key) -> bool:
        replica_set = self._store.get("replicasets.apps", *key)
        if replica_set is None:
            return False
        if not is_deleting(replica_set):
            if self._owner.sort_out(replica_set):
                return True
            active = [pod for pod in self._owner.pods(replica_set) if is_pod_active(pod)]
            missing = size_of(replica_set) - len(active)
            refused = ""
            for _ in range(min(missing, BURST)):
                refused = self._owner.create(replica_set)
                if refused:
                    self._dispatcher.later(self.name, key, RETRY_AFTER, "refused")
                    break
            surplus = sorted(active, key=_worth)[:-missing] if missing < 0 else []
            for pod in surplus:
                self._owner.delete(replica_set, pod)
            self._report(replica_set, refused)
            return missing > BURST and not refused
        self._report(replica_set, "")
        return False

    def _report(self, replica_set: Obj, refused: str) -> None:
        pods = self._owner.pods(replica_set)
        active = [pod for pod in pods if is_pod_active(pod)]
        ready = [pod for pod in active if is_pod_ready(pod)]
        labels = replica_set["spec"]["template"]["metadata"].get("labels") or {}
        counts = without_empty(
            {
                "fullyLabeledReplicas": sum(
                    labels.items() <= labels_of(pod).items() for pod in active
                ),
                "readyReplicas": len(ready),
                "availableReplicas": self._count_available(replica_set, ready),
            }
        )
        status = {
            "replicas": len(active),
            **counts,
            "terminatingReplicas": sum(is_deleting(pod) for pod in pods),
            "observedGeneration": replica_set["metadata"]["generation"],
        }
        if refused:
            old = replica_set.get("status", {})
            status["conditions"] = [dict(each) for each in old.get("conditions") or ()]
            now = self._api.timestamp()
            set_condition(status, "ReplicaFailure", "True", "FailedCreate", refused, now=now)
        self._owner.report(replica_set, status)

    def _count_available(self, replica_set: Obj, ready: list[Obj]) -> int:
        """How many have been ready for minReadySeconds; looks again when the next one will be."""
        seconds = replica_set["spec"].get("minReadySeconds", 0)
        if not seconds:
            return len(ready)
        now = self._api.timeline.elapsed()
        remaining = [
            seconds - (now - self._ready_since.get(pod["metadata"]["uid"], now)) for pod in ready
        ]
        soonest = min((rest for rest in remaining if rest > 0), default=None)
        if soonest is not None:
            self._dispatcher.later(self.name, key_of(replica_set), soonest + 0.001)
        return sum(rest <= 0 for rest in remaining)


def _worth(pod: Obj) -> tuple[object, ...]:
    """Sort key: the pods that are missed least come first."""
    status = pod["status"]
    phases = {"Pending": 0, "Unknown": 1, "Running": 2}
    restarts = max((c["restartCount"] for c in status.get("containerStatuses") or ()), default=0)
    cost = (
        pod["metadata"]
        .get("annotations", {})
        .get("controller.kubernetes.io/pod-deletion-cost", "0")
    )
    return (
        bool(pod["spec"].get("nodeName")),
        phases.get(status.get("phase", "Unknown"), 1),
        is_pod_ready(pod),
        int(cost) if cost.lstrip("-").isdigit() else 0,
        -restarts,
        _newest_first(pod),
    )


def _newest_first(pod: Obj) -> float:
    return -parse_time(pod["metadata"]["creationTimestamp"]).timestamp()
