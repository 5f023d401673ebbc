"""Programs HAProxy with the routes that the cluster asks for, as kube-proxy and istiod would.

Servers are added to and removed from the two backends over the runtime API. A pod that is no
longer wanted is drained: what it works on it finishes, it gets nothing new. It stays there,
drained, as long as it lives, so that switching back is one command; its entry goes when its
process is gone. Nothing here polls: a change of the cluster wakes the one task that reconciles.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from engine.errors import LabError
from engine.lab.balancers.haproxy import Runtime
from engine.production.routing import Routes, Server

BACKENDS = ("claude_stable", "claude_canary")
MESH = "mesh_split"
EDGE = "claude_split"

# The kubelet knows at once when a pod dies; these checks are a second opinion, and a machine that
# is merely busy must not make them take pods out.
_CHECKS = "check inter 2s fastinter 500ms downinter 200ms fall 5 rise 1"
_FORGET_TRIES = 100
_FORGET_PAUSE = 0.01


@dataclass
class _Entry:
    """A server as HAProxy has it."""

    name: str
    server: Server
    taking: bool


class Dataplane:
    """Keeps HAProxy as `set_routes` last asked for."""

    def __init__(self, runtime: Runtime, pod_ports: Mapping[int, int]) -> None:
        self._runtime = runtime
        self._pod_ports = pod_ports
        self._routes = Routes()
        self._entries: dict[str, dict[str, _Entry]] = {name: {} for name in BACKENDS}
        self._mesh_weights = (100, 0)
        self._mesh_headers: dict[str, str] = {}
        self._admitted: dict[str, set[str]] = {}
        self._turn = asyncio.Lock()
        self._changed = asyncio.Event()

    async def set_routes(self, routes: Routes) -> None:
        """Ask for these routes; returns when HAProxy follows them, or newer ones."""
        self._routes = routes
        async with self._turn:
            if self._routes is routes:
                await self._reconcile(routes)
                changed, self._changed = self._changed, asyncio.Event()
                changed.set()

    def taking(self, backend: str) -> list[str]:
        """The names of a backend's servers that take new requests."""
        return sorted(entry.name for entry in self._entries[backend].values() if entry.taking)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when a condition on the servers holds."""
        while not condition():
            await self._changed.wait()

    async def admit(self, uid: str, routes: Routes) -> None:
        """Take a pod in before the cluster calls it ready, as `routes` would have it then.

        Who gives a version a share of traffic as soon as its pods are ready must find them served.
        """
        for backend, servers in _by_backend(routes).items():
            if uid in servers:
                async with self._turn:
                    self._admitted.setdefault(uid, set()).add(backend)
                    await self._take_in(backend, servers[uid])

    async def drain(self, uid: str) -> None:
        """Return when this pod gets no new request."""
        self._admitted.pop(uid, None)
        async with self._turn:
            # Who replaces it may be waiting for its turn behind us.
            await self._reconcile(self._routes)
            for backend in BACKENDS:
                entry = self._entries[backend].get(uid)
                if entry is not None and entry.taking:
                    await self._drain(backend, entry)

    async def forget(self, uid: str) -> None:
        """Remove a pod whose process is gone."""
        self._admitted.pop(uid, None)
        async with self._turn:
            for backend in BACKENDS:
                entry = self._entries[backend].pop(uid, None)
                if entry is not None:
                    await self._remove(backend, entry)

    async def reset_weights(self) -> None:
        """All traffic to stable at the edge, as after a start."""
        await self._runtime.change(f"set weight {EDGE}/stable 100", f"set weight {EDGE}/canary 0")

    async def _reconcile(self, routes: Routes) -> None:
        targets = _by_backend(routes)
        # Who is to come comes before anybody goes, and before a share is given to them.
        for backend, servers in targets.items():
            for server in servers.values():
                await self._take_in(backend, server)
        await self._set_mesh(routes)
        for backend, servers in targets.items():
            for uid, entry in self._entries[backend].items():
                if uid in servers:
                    self._admitted.pop(uid, None)  # the cluster knows it now
                elif entry.taking and backend not in self._admitted.get(uid, ()):
                    await self._drain(backend, entry)

    async def _take_in(self, backend: str, server: Server) -> None:
        entry = self._entries[backend].get(server.uid)
        if entry is None:
            entry = _Entry(self._free_name(backend, server.colour), server, taking=True)
            place = f"{backend}/{entry.name}"
            port = self._pod_ports.get(server.port, server.port)
            answer = await self._runtime.command(
                f"add server {place} {server.address}:{port} {_CHECKS}"
            )
            if "registered" not in answer:
                raise LabError(f"HAProxy refused server {place}: {answer}")
            self._entries[backend][server.uid] = entry
            await self._runtime.change(f"enable health {place}", f"enable server {place}")
        elif not entry.taking:
            await self._runtime.change(f"set server {backend}/{entry.name} state ready")
            entry.taking = True

    async def _drain(self, backend: str, entry: _Entry) -> None:
        await self._runtime.change(f"set server {backend}/{entry.name} state drain")
        entry.taking = False

    async def _remove(self, backend: str, entry: _Entry) -> None:
        place = f"{backend}/{entry.name}"
        await self._runtime.change(f"disable health {place}", f"set server {place} state maint")
        for _ in range(_FORGET_TRIES):
            # Refused until HAProxy has noticed that the pod's connections are closed.
            if "deleted" in await self._runtime.command(f"del server {place}"):
                return
            await asyncio.sleep(_FORGET_PAUSE)
        raise LabError(f"HAProxy does not let go of server {place}")

    async def _set_mesh(self, routes: Routes) -> None:
        if routes.mesh_weights != self._mesh_weights:
            stable, canary = routes.mesh_weights
            await self._runtime.change(
                f"set weight {MESH}/stable {stable}", f"set weight {MESH}/canary {canary}"
            )
            self._mesh_weights = routes.mesh_weights
        if dict(routes.mesh_headers) != self._mesh_headers:
            await self._runtime.change("clear map mesh_headers.map")
            for value, subset in routes.mesh_headers.items():
                await self._runtime.change(f"add map mesh_headers.map {value} {subset}")
            self._mesh_headers = dict(routes.mesh_headers)

    def _free_name(self, backend: str, colour: str) -> str:
        taken = {entry.name for entry in self._entries[backend].values()}
        number = 1
        while f"claude-{colour}-{number}" in taken:
            number += 1
        return f"claude-{colour}-{number}"


def _by_backend(routes: Routes) -> dict[str, Mapping[str, Server]]:
    return dict(zip(BACKENDS, (routes.stable, routes.canary), strict=True))
