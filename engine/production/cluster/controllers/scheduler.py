"""The scheduler: which node a new pod goes to."""

from __future__ import annotations

from collections.abc import Iterable

from engine.production.cluster.api import Api
from engine.production.cluster.controllers.events import Recorder
from engine.production.cluster.objects.common import (
    Key,
    Obj,
    copy_json,
    find_condition,
    is_deleting,
    key_of,
    labels_of,
)
from engine.production.cluster.objects.store import Change


class Scheduler:
    """Gives every new pod the node that has the fewest."""

    name = "scheduler"

    def __init__(self, api: Api) -> None:
        self._api = api
        self._store = api.store
        self._events = Recorder(api, "default-scheduler", "kube-scheduler")

    def concerns(self, change: Change) -> Iterable[Key]:
        if change.resource == "pods" and change.type == "ADDED":
            yield key_of(change.object)
        elif change.resource == "nodes" and change.type != "DELETED":
            for pod in self._store.items("pods"):
                if not pod["spec"].get("nodeName"):
                    yield key_of(pod)

    def reconcile(self, key: Key) -> bool:
        pod = self._store.get("pods", *key)
        if pod is None or pod["spec"].get("nodeName") or is_deleting(pod):
            return False
        nodes = self._store.items("nodes")
        free = [node for node in nodes if _fits(pod, node)]
        if not free:
            self._refuse(pod, len(nodes))
            return False
        load: dict[str, int] = {node["metadata"]["name"]: 0 for node in free}
        for other in self._store.items("pods"):
            name = other["spec"].get("nodeName")
            if name in load:
                load[name] += 1
        chosen = min(load, key=lambda name: load[name])
        self._bind(pod, chosen)
        message = f"Successfully assigned {key[0]}/{key[1]} to {chosen}"
        self._events.tell(pod, "Normal", "Scheduled", message)
        return False

    def _bind(self, pod: Obj, node: str) -> None:
        """A binding is not a write to the pod: it owns no fields."""
        bound = copy_json(pod)
        bound["spec"]["nodeName"] = node
        bound["status"]["conditions"] = [
            pod_condition("PodScheduled", "True", now=self._api.timestamp())
        ]
        self._store.put("pods", bound)

    def _refuse(self, pod: Obj, nodes: int) -> None:
        message = f"0/{nodes} nodes are available"
        message += f": {nodes} node(s) were unschedulable." if nodes else "."
        known = find_condition(pod["status"], "PodScheduled")
        if known is None or known.get("message") != message:
            changed = copy_json(pod)
            now = self._api.timestamp()
            condition = pod_condition("PodScheduled", "False", "Unschedulable", message, now=now)
            changed["status"]["conditions"] = [condition]
            self._api.save(changed, manager="kube-scheduler", subresource="status")
        self._events.tell(pod, "Warning", "FailedScheduling", message)


def _fits(pod: Obj, node: Obj) -> bool:
    """Whether the node takes new pods, and the pod this node. A DaemonSet's pod names its own."""
    selector = pod["spec"].get("nodeSelector") or {}
    if not selector.items() <= labels_of(node).items():
        return False
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    names = [
        name
        for term in required.get("nodeSelectorTerms") or ()
        for field in term.get("matchFields") or ()
        if field.get("key") == "metadata.name"
        for name in field.get("values") or ()
    ]
    if names:
        return node["metadata"]["name"] in names
    return not node["spec"].get("unschedulable")


def pod_condition(kind: str, value: str, reason: str = "", message: str = "", *, now: str) -> Obj:
    """A condition of a pod, as of `now`."""
    why = {"reason": reason, "message": message} if reason else {}
    return {
        "type": kind,
        "status": value,
        "lastProbeTime": None,
        "lastTransitionTime": now,
        **why,
    }
