"""What HTTP servers of the simulated world answer: the application behind its front doors, and the
others, which are up unless a scenario says otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import msgspec

from engine.clock import time_text
from engine.production.counts import UNKNOWN
from engine.production.names import CANARY_HEADER, CANARY_VERSION

if TYPE_CHECKING:
    from engine.simulation.world import World

_ANSWER = 0.03
"""Seconds that an answer takes which nothing slows down."""

CERTIFICATE_DAYS = 90.0
"""Days that the certificate of every server is still good for."""


class Answer(msgspec.Struct):
    """An answer; with status 0 there is none: nobody listens, or it did not come in time."""

    status: int
    body: bytes = b""
    headers: dict[str, str] = {}
    seconds: float = _ANSWER
    tls_days: float = CERTIFICATE_DAYS
    """Days that the server's certificate is still good for."""


class Site(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the servers below a URL answer, instead of as they would."""

    url: str
    status: int = 200
    body: Any = None
    seconds: float = _ANSWER


class Web:
    """All servers that are asked by HTTP.

    Args:
        world: whose servers they are.
        fronts: URLs of the application's front doors.
    """

    def __init__(self, world: World, fronts: Callable[[], list[str]]) -> None:
        self._world = world
        self._fronts = fronts
        self._turn: dict[str, float] = {}
        self.sites: list[Site] = []
        """What a scenario says; the last one that fits counts."""

    def answer(self, method: str, url: str, headers: Mapping[str, str]) -> Answer:
        """What comes back from a URL."""
        for site in reversed(self.sites):
            if url.startswith(site.url):
                return _of_site(site)
        place = urlsplit(url)
        front = f"{place.scheme}://{place.netloc}"
        if front in (each.rstrip("/") for each in self._fronts()) and method == "GET":
            return self._application(place.path or "/", headers)
        return Answer(200, b"{}", {"content-type": "application/json"})

    # -- the application ---------------------------------------------------------------------------
    def _application(self, path: str, headers: Mapping[str, str]) -> Answer:
        version = self._whose_turn(headers)
        if version == UNKNOWN:
            return Answer(503, b"no server is available", {"content-type": "text/plain"})
        fault = self._world.faults.of(version)
        flow = next((each for each in self._world.load.flows if each.version == version), None)
        seconds = _ANSWER + (flow.delay if flow is not None else 0.0)
        status, body = self._page(path, version, fault.never_ready)
        if path.startswith("/api/") and fault.error_rate and self._fails(version, fault.error_rate):
            status, body = 500, {"error": "agent_coordination_failed"}
        known = {"content-type": "application/json", "x-ce-version": version}
        return Answer(status, json.dumps(body).encode(), known, seconds)

    def _whose_turn(self, headers: Mapping[str, str]) -> str:
        """The version that answers: each as often as its share says, in turn."""
        chosen = {name.lower(): value for name, value in headers.items()}
        if chosen.get(CANARY_HEADER) == "true" and self._world.ready(CANARY_VERSION):
            return CANARY_VERSION
        shares = self._world.shares("edge")
        if not shares:
            return UNKNOWN
        for version, share in shares.items():
            self._turn[version] = self._turn.get(version, 0.0) + share / 100
        version = max(shares, key=lambda each: self._turn[each])
        self._turn[version] -= 1.0
        return version

    def _fails(self, version: str, rate: float) -> bool:
        """Whether it is the turn of a request that fails."""
        key = f"failing {version}"
        self._turn[key] = self._turn.get(key, 0.0) + rate
        if self._turn[key] < 1.0:
            return False
        self._turn[key] -= 1.0
        return True

    def _page(self, path: str, version: str, never_ready: bool) -> tuple[int, dict[str, Any]]:
        total = self._world.agents
        active = total - min(total, self._world.faults.of(version).agents_down)
        identity = {
            "version": version,
            "timestamp": time_text(self._world.clock.now()),
            "uptime": 3600.0,
        }
        match path:
            case "/" | "/health" | "/health/live":
                return 200, {"status": "healthy", **identity}
            case "/ready" | "/health/ready":
                return self._readiness(active, total, never_ready, identity)
            case "/health/startup":
                parts = {"config": True, "agents": True, "workflow_engine": True, "hooks": True}
                return 200, {"status": "started", **parts, **identity}
            case "/api/v1/agents":
                return 200, {"total": total, "active": active, "agents": []}
            case "/haproxy-stats":
                return 200, identity
            case _:
                return 404, {"error": "not_found"}

    def _readiness(
        self, active: int, total: int, never_ready: bool, identity: dict[str, Any]
    ) -> tuple[int, dict[str, Any]]:
        names = ("agents_loaded", "workflow_initialized", "database", "redis")
        checks = dict.fromkeys(names, True) | {"external_services": not never_ready}
        body = {
            "status": "not_ready" if never_ready else "ready",
            "ready_for_traffic": not never_ready,
            "checks": checks,
            "agents": {"active": active, "total": total},
            "writes": "paused" if self._world.writes_paused else "open",
            **identity,
        }
        return (503 if never_ready else 200), body


def _of_site(site: Site) -> Answer:
    if isinstance(site.body, str):
        return Answer(site.status, site.body.encode(), {"content-type": "text/plain"}, site.seconds)
    body = json.dumps({} if site.body is None else site.body).encode()
    return Answer(site.status, body, {"content-type": "application/json"}, site.seconds)
