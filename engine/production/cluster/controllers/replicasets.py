"""The ReplicaSet controller: as many pods as wanted, and their count in the status."""

from __future__ import annotations

from collections.abc import Iterable

from engine.production.cluster.api import CONTROLLER, Api
from engine.production.cluster.controllers.dispatcher import Dispatcher
from engine.production.cluster.controllers.events import Recorder
from engine.production.cluster.controllers.rollout import size_of
from engine.production.cluster.intake import WriteOptions
from engine.production.cluster.objects.common import (
    Key,
    Obj,
    controller_of,
    copy_json,
    is_deleting,
    is_pod_active,
    is_pod_ready,
    key_of,
    labels_of,
    owner_reference,
    parse_time,
    without_empty,
)
from engine.production.cluster.objects.selectors import matches
from engine.production.cluster.objects.store import Change


class ReplicaSetController:
    """Creates and deletes the pods of ReplicaSets."""

    name = "replicasets"

    def __init__(self, api: Api, dispatcher: Dispatcher) -> None:
        self._api = api
        self._store = api.store
        self._dispatcher = dispatcher
        self._events = Recorder(api, "replicaset-controller", CONTROLLER)
        self._ready_since: dict[str, float] = {}

    def concerns(self, change: Change) -> Iterable[Key]:
        if change.resource == "replicasets.apps":
            yield key_of(change.object)
        elif change.resource == "pods":
            self._note_readiness(change)
            owner = controller_of(change.object)
            namespace = change.object["metadata"]["namespace"]
            if owner is not None and owner["kind"] == "ReplicaSet":
                yield (namespace, owner["name"])
            elif owner is None:
                for each in self._store.items("replicasets.apps", namespace):
                    if matches(each["spec"]["selector"], labels_of(change.object)):
                        yield key_of(each)

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
            if self._sort_out(replica_set):
                return True
            active = [pod for pod in self._pods(replica_set) if is_pod_active(pod)]
            missing = size_of(replica_set) - len(active)
            for _ in range(missing):
                self._create_pod(replica_set)
            for pod in sorted(active, key=_worth)[: max(0, -missing)]:
                self._delete_pod(replica_set, pod)
        return self._report(replica_set)

    def _pods(self, replica_set: Obj) -> list[Obj]:
        uid = replica_set["metadata"]["uid"]
        return [obj for resource, obj in self._store.owned_by(uid) if resource == "pods"]

    def _sort_out(self, replica_set: Obj) -> bool:
        """Let go of a pod that no longer matches, adopt one that does and has no owner."""
        selector = replica_set["spec"]["selector"]
        uid = replica_set["metadata"]["uid"]
        for pod in self._pods(replica_set):
            if not matches(selector, labels_of(pod)) and not is_deleting(pod):
                released = copy_json(pod)
                kept = [r for r in released["metadata"]["ownerReferences"] if r["uid"] != uid]
                released["metadata"]["ownerReferences"] = kept
                self._api.save(released)
                return True
        for pod in self._store.items("pods", replica_set["metadata"]["namespace"]):
            if controller_of(pod) is None and is_pod_active(pod):
                if not matches(selector, labels_of(pod)):
                    continue
                adopted = copy_json(pod)
                references = adopted["metadata"].setdefault("ownerReferences", [])
                references.append(owner_reference(replica_set))
                self._api.save(adopted)
                return True
        return False

    def _create_pod(self, replica_set: Obj) -> None:
        metadata = replica_set["metadata"]
        template = copy_json(replica_set["spec"]["template"])
        pod = {
            "metadata": {
                **{k: v for k, v in template["metadata"].items() if k in ("labels", "annotations")},
                "generateName": f"{metadata['name']}-",
                "ownerReferences": [owner_reference(replica_set)],
            },
            "spec": template["spec"],
        }
        created = self._api.create(
            self._api.catalog["pods"], "v1", metadata["namespace"], pod, WriteOptions(CONTROLLER)
        )
        message = f"Created pod: {created['metadata']['name']}"
        self._events.tell(replica_set, "Normal", "SuccessfulCreate", message)

    def _delete_pod(self, replica_set: Obj, pod: Obj) -> None:
        self._api.delete(self._api.catalog["pods"], *key_of(pod))
        message = f"Deleted pod: {pod['metadata']['name']}"
        self._events.tell(replica_set, "Normal", "SuccessfulDelete", message)

    def _report(self, replica_set: Obj) -> bool:
        pods = self._pods(replica_set)
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
        if status == replica_set.get("status"):
            return False
        current = self._store.get("replicasets.apps", *key_of(replica_set))
        if current is not None:
            metadata = copy_json(current["metadata"])
            changed = {**current, "metadata": metadata, "status": status}
            self._api.save(changed, subresource="status")
        return False

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
