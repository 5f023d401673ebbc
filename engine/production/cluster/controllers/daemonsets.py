"""The DaemonSet controller: one pod on every node that its template selects."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from engine.production.cluster.api import Api
from engine.production.cluster.controllers.dispatcher import Dispatcher
from engine.production.cluster.controllers.pod_owner import RETRY_AFTER, PodOwner
from engine.production.cluster.controllers.revisions import HASH_LABEL, Revisions, name_of
from engine.production.cluster.objects.common import (
    Key,
    Obj,
    is_deleting,
    is_pod_active,
    is_pod_ready,
    key_of,
    labels_of,
    without_empty,
)
from engine.production.cluster.objects.store import Change


class DaemonSetController:
    """Keeps the pods of DaemonSets."""

    name = "daemonsets"

    def __init__(self, api: Api, dispatcher: Dispatcher) -> None:
        self._store = api.store
        self._dispatcher = dispatcher
        self._owner = PodOwner(api, "daemonsets.apps", "DaemonSet", "daemonset-controller")
        self._revisions = Revisions(api)

    def concerns(self, change: Change) -> Iterable[Key]:
        yield from self._owner.concerned(change)
        if change.resource == "nodes":
            yield from (key_of(each) for each in self._store.items("daemonsets.apps"))

    def reconcile(self, key: Key) -> bool:
        daemon_set = self._store.get("daemonsets.apps", *key)
        if daemon_set is None:
            return False
        nodes = self._nodes(daemon_set)
        if not is_deleting(daemon_set):
            if self._owner.sort_out(daemon_set):
                return True
            revision = self._revisions.current(daemon_set)
            self._place(daemon_set, nodes, name_of(revision))
            self._update(daemon_set, nodes, name_of(revision))
        return self._owner.report(daemon_set, self._status(daemon_set, nodes))

    def _nodes(self, daemon_set: Obj) -> list[str]:
        """The nodes that should have a pod; a cordoned one keeps its own."""
        selector = daemon_set["spec"]["template"]["spec"].get("nodeSelector") or {}
        nodes = self._store.items("nodes")
        return [n["metadata"]["name"] for n in nodes if selector.items() <= labels_of(n).items()]

    def _by_node(self, daemon_set: Obj) -> dict[str, list[Obj]]:
        pods: dict[str, list[Obj]] = {}
        for pod in self._owner.pods(daemon_set):
            pods.setdefault(_node_of(pod), []).append(pod)
        return pods

    def _place(self, daemon_set: Obj, nodes: list[str], revision: str) -> None:
        """Make pods where there are none, end them where there should be none."""
        pods = self._by_node(daemon_set)
        for node in nodes:
            here = pods.get(node, [])
            ended = [p for p in here if not is_pod_active(p) and not is_deleting(p)]
            for pod in ended:
                self._owner.delete(daemon_set, pod)
            if not here and not self._create(daemon_set, node, revision):
                return
        for node in pods.keys() - set(nodes):
            for pod in pods[node]:
                if not is_deleting(pod):
                    self._owner.delete(daemon_set, pod)

    def _create(self, daemon_set: Obj, node: str, revision: str) -> bool:
        refused = self._owner.create(
            daemon_set,
            labels={HASH_LABEL: revision, "pod-template-generation": _generation(daemon_set)},
            spec={"affinity": _only_on(node)},
        )
        if refused:
            self._dispatcher.later(self.name, key_of(daemon_set), RETRY_AFTER, "refused")
        return not refused

    def _update(self, daemon_set: Obj, nodes: list[str], revision: str) -> None:
        """End pods of old templates, as many as may be missing at a time."""
        strategy = daemon_set["spec"].get("updateStrategy") or {}
        if strategy.get("type") == "OnDelete":
            return
        pods = [pod for group in self._by_node(daemon_set).values() for pod in group]
        well = sum(is_pod_ready(pod) and not is_deleting(pod) for pod in pods)
        allowed = _pods((strategy.get("rollingUpdate") or {}).get("maxUnavailable", 1), len(nodes))
        room = allowed - (len(nodes) - well)
        for pod in pods:
            if is_deleting(pod) or labels_of(pod).get(HASH_LABEL) == revision:
                continue
            if is_pod_ready(pod):
                if room <= 0:
                    continue
                room -= 1
            self._owner.delete(daemon_set, pod)

    def _status(self, daemon_set: Obj, nodes: list[str]) -> Obj:
        pods = self._by_node(daemon_set)
        here = [pods[node][-1] for node in nodes if pods.get(node)]
        ready = [pod for pod in here if is_pod_ready(pod) and not is_deleting(pod)]
        revisions = self._revisions.of(daemon_set)
        newest = name_of(revisions[-1]) if revisions else ""
        counts = without_empty(
            {
                "observedGeneration": daemon_set["metadata"]["generation"],
                "updatedNumberScheduled": sum(
                    labels_of(pod).get(HASH_LABEL) == newest for pod in here
                ),
                "numberAvailable": len(ready),
                "numberUnavailable": len(nodes) - len(ready),
            }
        )
        return {
            "currentNumberScheduled": len(here),
            "numberMisscheduled": len(pods.keys() - set(nodes)),
            "desiredNumberScheduled": len(nodes),
            "numberReady": len(ready),
            **counts,
        }


def _only_on(node: str) -> Obj:
    """The affinity by which a pod of a DaemonSet is bound to its node."""
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
    required = {"nodeSelectorTerms": [term]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": required}}


def _node_of(pod: Obj) -> str:
    """The node that a pod was made for."""
    affinity = (pod["spec"].get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    for term in required.get("nodeSelectorTerms") or ():
        for field in term.get("matchFields") or ():
            node: str = field["values"][0]
            return node
    return str(pod["spec"].get("nodeName", ""))


def _generation(daemon_set: Obj) -> str:
    return str(daemon_set["metadata"].get("generation", 1))


def _pods(value: Any, total: int) -> int:
    """An int-or-percent value as a number of pods, at least one."""
    if isinstance(value, int):
        return max(1, value)
    return max(1, math.ceil(int(str(value).rstrip("%") or 0) * total / 100))
