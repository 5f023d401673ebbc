"""Lets the dataplane and the kubelet follow the cluster: a change of an object, and they act."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from typing import Any, Protocol

from engine.lab.balancers.dataplane import Dataplane
from engine.lab.cluster.node.kubelet import Kubelet
from engine.production.names import DESTINATION_RULE, NAMESPACE, SERVICE, VIRTUAL_SERVICE
from engine.production.routing import Routes, as_ready, endpoints_of, routes

_log = logging.getLogger(__name__)

_VIRTUAL_SERVICES = "virtualservices.networking.istio.io"
_DESTINATION_RULES = "destinationrules.networking.istio.io"
_ROUTED_BY = {"pods", "endpoints", _VIRTUAL_SERVICES, _DESTINATION_RULES}


class Objects(Protocol):
    """The cluster's objects, as the store of `engine.lab.cluster` has them."""

    def get(self, resource: str, namespace: str, name: str) -> dict[str, Any] | None:
        """One object."""

    def items(self, resource: str, namespace: str | None = None) -> list[dict[str, Any]]:
        """All objects of a resource."""


def configmap(objects: Objects, namespace: str, name: str) -> Mapping[str, str] | None:
    """The data of a ConfigMap, or None if there is none."""
    obj = objects.get("configmaps", namespace, name)
    return None if obj is None else obj.get("data") or {}


class Wiring:
    """Called with every change of the cluster; several changes at once are one reaction."""

    def __init__(self, objects: Objects, dataplane: Dataplane, kubelet: Kubelet) -> None:
        self._objects = objects
        self._dataplane = dataplane
        self._kubelet = kubelet
        self._pending = False
        self._tasks: set[asyncio.Task[None]] = set()

    def changed(self, resource: str) -> None:
        """An object of this resource was created, changed or deleted."""
        if resource == "configmaps":
            self._kubelet.refresh()
        elif resource in _ROUTED_BY and not self._pending:
            self._pending = True
            asyncio.get_running_loop().call_soon(self._follow)

    async def admit(self, uid: str) -> None:
        """Let the balancers take in a pod that is about to be called ready."""
        pods = self._objects.items("pods", NAMESPACE)
        pod = next((pod for pod in pods if pod["metadata"]["uid"] == uid), None)
        if pod is not None and not pod["metadata"].get("deletionTimestamp"):
            ready = as_ready(pod, self._kubelet.address(uid))
            service = self._objects.get("services", NAMESPACE, SERVICE)
            await self._dataplane.admit(uid, self._routes([ready], endpoints_of(service, ready)))

    def routes(self) -> Routes:
        """What the balancers should do now."""
        pods = self._objects.items("pods", NAMESPACE)
        return self._routes(pods, self._objects.get("endpoints", NAMESPACE, SERVICE))

    def _routes(self, pods: list[dict[str, Any]], endpoints: dict[str, Any] | None) -> Routes:
        return routes(
            pods,
            endpoints,
            self._objects.get(_VIRTUAL_SERVICES, NAMESPACE, VIRTUAL_SERVICE),
            self._objects.get(_DESTINATION_RULES, NAMESPACE, DESTINATION_RULE),
        )

    def _follow(self) -> None:
        self._pending = False
        task = asyncio.get_running_loop().create_task(self._dataplane.set_routes(self.routes()))
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("the balancers could not follow the cluster: %s", error)
