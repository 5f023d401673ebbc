"""What pods and nodes use, from the cluster's metrics server, as numbers."""

from __future__ import annotations

from typing import Any

from engine.module_api import Context, Refused
from modules._kube.api import Cluster, Object
from modules._kube.errors import NotFound
from modules._kube.kinds import Kind, known

_SUFFIXES = {
    "n": 1e-9,
    "u": 1e-6,
    "m": 1e-3,
    "": 1.0,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "P": 1e15,
    "E": 1e18,
    "Ki": 2.0**10,
    "Mi": 2.0**20,
    "Gi": 2.0**30,
    "Ti": 2.0**40,
    "Pi": 2.0**50,
    "Ei": 2.0**60,
}


def quantity(text: str) -> float:
    """Kubernetes' ``250m``, ``2Gi``, ``1e3`` as a number (cores, bytes)."""
    number = text.rstrip("KMGTPEiknmu")
    suffix = text[len(number) :]
    try:
        return float(number) * _SUFFIXES[suffix]
    except (ValueError, KeyError):
        raise Refused(f"{text!r} is not a quantity") from None


def pods(ctx: Context, cluster: Cluster, namespace: str, labels: str) -> list[dict[str, Any]]:
    """Use of each pod: ``name``, ``cpu`` (cores), ``memory`` (bytes), ``containers``."""
    metrics = _metrics(ctx, cluster, _kind("PodMetrics"), namespace, labels)
    return [_pod(item) for item in metrics]


def nodes(ctx: Context, cluster: Cluster, labels: str) -> list[dict[str, Any]]:
    """Use of each node: as of pods, and ``cpu_percent`` and ``memory_percent`` of its capacity."""
    metrics = _metrics(ctx, cluster, _kind("NodeMetrics"), "", labels)
    items, _ = cluster.list(ctx, _kind("Node"), "", labels=labels)
    room = {item["metadata"]["name"]: _room(item) for item in items}
    return [_node(item, room.get(item["metadata"]["name"], {})) for item in metrics]


def _metrics(
    ctx: Context, cluster: Cluster, kind: Kind, namespace: str, labels: str
) -> list[Object]:
    try:
        return cluster.list(ctx, kind, namespace, labels=labels)[0]
    except NotFound as error:
        raise Refused(
            "the cluster has no metrics server, so nobody knows what its pods use",
            hint="install metrics-server, or read the figures from Prometheus with `metrics.read`",
            evidence=error.evidence,
        ) from error


def _pod(item: Object) -> dict[str, Any]:
    containers = {
        one["name"]: {
            "cpu": quantity(one["usage"]["cpu"]),
            "memory": int(quantity(one["usage"]["memory"])),
        }
        for one in item.get("containers") or []
    }
    return {
        "name": item["metadata"]["name"],
        "cpu": round(sum(one["cpu"] for one in containers.values()), 6),
        "memory": sum(int(one["memory"]) for one in containers.values()),
        "containers": containers,
    }


def _node(item: Object, room: dict[str, float]) -> dict[str, Any]:
    cpu, memory = quantity(item["usage"]["cpu"]), quantity(item["usage"]["memory"])
    return {
        "name": item["metadata"]["name"],
        "cpu": round(cpu, 6),
        "memory": int(memory),
        "cpu_percent": _percent(cpu, room.get("cpu")),
        "memory_percent": _percent(memory, room.get("memory")),
    }


def _room(node: Object) -> dict[str, float]:
    status = node.get("status") or {}
    room = status.get("allocatable") or status.get("capacity") or {}
    return {name: quantity(str(room[name])) for name in ("cpu", "memory") if name in room}


def _percent(used: float, room: float | None) -> float | None:
    return round(100 * used / room, 1) if room else None


def _kind(word: str) -> Kind:
    kind = known(word)
    assert kind is not None
    return kind
