"""Load balancers as models: HAProxy's backends with their servers, weights and states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

Admin = Literal["ready", "drain", "maint"]


class BalancedServer(msgspec.Struct):
    """A server of a backend."""

    name: str
    weight: int = 100
    admin: Admin = "ready"
    up: bool = True

    @property
    def share(self) -> int:
        """Its weight as far as it takes new sessions."""
        return self.weight if self.up and self.admin == "ready" else 0


class Balancer(msgspec.Struct):
    """One HAProxy: backend → server's name → server; whoever changes one says so."""

    name: str
    backends: dict[str, dict[str, BalancedServer]]
    changed: Callable[[], None]
    reachable: bool = True

    def shares(self, backend: str) -> dict[str, float]:
        """Server's name → its part of a backend's new sessions, 0 to 1; empty if none takes any."""
        servers = self.backends.get(backend, {})
        total = sum(server.share for server in servers.values())
        if not total:
            return {}
        return {name: server.share / total for name, server in servers.items() if server.share}

    def set_weight(self, backend: str, server: str, weight: int) -> None:
        """Give a server another weight, 0 to 256. Raises KeyError where there is none."""
        self.backends[backend][server].weight = weight
        self.changed()

    def set_admin(self, backend: str, server: str, admin: Admin) -> None:
        """Put a server into another state. Raises KeyError where there is none."""
        self.backends[backend][server].admin = admin
        self.changed()
