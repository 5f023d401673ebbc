"""What follows from the objects of the cluster at one moment: who serves, who runs, what pauses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from engine.production.cluster.objects.store import ObjectStore
from engine.production.counts import UNKNOWN
from engine.production.names import (
    AGENTS_CONFIGMAP,
    APP_LABEL,
    DESTINATION_RULE,
    MAINTENANCE_CONFIGMAP,
    NAMESPACE,
    SERVICE,
    VIRTUAL_SERVICE,
)
from engine.production.routing import Routes, Server, routes


class Pod(msgspec.Struct, frozen=True):
    """A running pod of the application."""

    uid: str
    name: str
    version: str


class Standing(msgspec.Struct, frozen=True):
    """What follows from the cluster's objects at one of their versions."""

    version: int
    routes: Routes
    versions: dict[str, str]
    """uid of a pod → version."""
    ready: dict[str, int]
    """Version → pods that serve."""
    running: list[Pod]
    writes_paused: bool
    agents: int


def standing_of(store: ObjectStore) -> Standing:
    """Read the objects that decide about traffic; they are looked at, never changed."""
    pods = list(store.items("pods", NAMESPACE))
    table = routes(
        pods,
        store.get("endpoints", NAMESPACE, SERVICE),
        store.get("virtualservices.networking.istio.io", NAMESPACE, VIRTUAL_SERVICE),
        store.get("destinationrules.networking.istio.io", NAMESPACE, DESTINATION_RULE),
    )
    versions = {pod["metadata"]["uid"]: _label(pod, "version") for pod in pods}
    ready: dict[str, int] = {}
    for uid in {*table.stable, *table.canary}:
        ready[versions[uid]] = ready.get(versions[uid], 0) + 1
    key, value = APP_LABEL
    running = [
        Pod(pod["metadata"]["uid"], pod["metadata"]["name"], _label(pod, "version"))
        for pod in pods
        if _label(pod, key) == value and pod["status"].get("phase") == "Running"
    ]
    maintenance = store.get("configmaps", NAMESPACE, MAINTENANCE_CONFIGMAP) or {}
    agents = store.get("configmaps", NAMESPACE, AGENTS_CONFIGMAP) or {}
    return Standing(
        version=store.version,
        routes=table,
        versions=versions,
        ready=ready,
        running=running,
        writes_paused=(maintenance.get("data") or {}).get("writes") == "paused",
        agents=len(agents.get("data") or {}),
    )


def _label(pod: Mapping[str, Any], name: str) -> str:
    return str((pod["metadata"].get("labels") or {}).get(name, ""))


def by_version(pods: Mapping[str, Server], versions: Mapping[str, str]) -> dict[str, float]:
    """Version → its part of the requests to these pods, which take turns; nobody: `unknown`."""
    if not pods:
        return {UNKNOWN: 1.0}
    parts: dict[str, float] = {}
    for uid in pods:
        version = versions.get(uid, UNKNOWN)
        parts[version] = parts.get(version, 0.0) + 1 / len(pods)
    return parts
