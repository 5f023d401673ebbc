"""metrics.k8s.io: what pods and nodes use now, for `kubectl top`."""

from __future__ import annotations

from engine.lab.cluster.node.runtime import NodeRuntime
from engine.production.cluster.api import Api
from engine.production.cluster.objects.common import Obj, labels_of
from engine.production.cluster.runtime import Usage

_WINDOW = "15s"


class Metrics:
    """Renders the runtime's figures as PodMetrics and NodeMetrics."""

    def __init__(self, api: Api, runtime: NodeRuntime) -> None:
        self._api = api
        self._store = api.store
        self._runtime = runtime

    def pods(self, namespace: str | None) -> list[Obj]:
        """PodMetrics of every running pod; a pod's usage is its first container's."""
        return [
            self._pod(pod)
            for pod in self._store.items("pods", namespace)
            if pod["status"].get("phase") == "Running"
        ]

    def _pod(self, pod: Obj) -> Obj:
        use = self._runtime.usage(pod["metadata"]["uid"])
        containers = [
            {"name": container["name"], "usage": _shown(use if index == 0 else Usage(0, 0))}
            for index, container in enumerate(pod["spec"]["containers"])
        ]
        return {**_head("PodMetrics", pod, self._api.timestamp()), "containers": containers}

    def nodes(self) -> list[Obj]:
        """NodeMetrics: the sum of what a node's pods use."""
        totals: dict[str, Usage] = {}
        for pod in self._store.items("pods"):
            if pod["status"].get("phase") == "Running":
                use = self._runtime.usage(pod["metadata"]["uid"])
                node = pod["spec"]["nodeName"]
                known = totals.get(node, Usage(0, 0))
                totals[node] = Usage(known.cpu + use.cpu, known.memory + use.memory)
        return [
            {
                **_head("NodeMetrics", node, self._api.timestamp()),
                "usage": _shown(totals.get(node["metadata"]["name"], Usage(0, 0))),
            }
            for node in self._store.items("nodes")
        ]


def _shown(use: Usage) -> Obj:
    return {"cpu": f"{use.cpu}m", "memory": f"{use.memory // 1024}Ki"}


def _head(kind: str, obj: Obj, now: str) -> Obj:
    metadata = obj["metadata"]
    place = {"namespace": metadata["namespace"]} if "namespace" in metadata else {}
    return {
        "kind": kind,
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": {
            "name": metadata["name"],
            **place,
            "creationTimestamp": now,
            "labels": labels_of(obj),
        },
        "timestamp": now,
        "window": _WINDOW,
    }
