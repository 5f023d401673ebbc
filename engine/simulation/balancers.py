"""Load balancers as models: HAProxy's backends with their servers, weights and states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

Admin = Literal["ready", "drain", "maint"]

_ADMIN_FLAGS = {"ready": 0, "maint": 0x01, "drain": 0x08}
"""Bits of ``srv_admin_state`` (haproxy, ``include/haproxy/server-t.h``)."""

_STATE_COLUMNS = (
    "be_id", "be_name", "srv_id", "srv_name", "srv_addr", "srv_op_state", "srv_admin_state",
    "srv_uweight", "srv_iweight", "srv_time_since_last_change", "srv_check_status",
    "srv_check_result", "srv_check_health", "srv_check_state", "srv_agent_state", "bk_f_forced_id",
    "srv_f_forced_id", "srv_fqdn", "srv_port", "srvrecord", "srv_use_ssl", "srv_check_port",
    "srv_check_addr", "srv_agent_addr", "srv_agent_port",
)  # fmt: skip
"""Of ``show servers state``, format version 1 (management manual, section 9.3)."""


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
    takes_changes: bool = True
    """Otherwise it shows what is, and whoever wants to change something waits in vain."""

    def shares(self, backend: str) -> dict[str, float]:
        """Server's name → its part of a backend's new sessions, 0 to 1; empty if none takes any."""
        servers = self.backends.get(backend, {})
        total = sum(server.share for server in servers.values())
        if not total:
            return {}
        return {name: server.share / total for name, server in servers.items() if server.share}

    def runtime(self, line: str) -> str:
        """The answer of the runtime API to commands that `;` separates, in HAProxy's own words.

        Raises ConnectionResetError for a change that it does not take.
        """
        if not self.takes_changes and any(each.split()[:1] == ["set"] for each in line.split(";")):
            raise ConnectionResetError("the connection was closed without an answer")
        return "\n".join(filter(None, (self._command(each.split()) for each in line.split(";"))))

    def _command(self, words: list[str]) -> str:
        match words:
            case ["show", "servers", "state"]:
                return self._states(list(self.backends))
            case ["show", "servers", "state", backend]:
                if backend not in self.backends:
                    return "Can't find backend."
                return self._states([backend])
            case ["show", "backend"]:
                return "\n".join(["# name", *self.backends])
            case ["show", "stat", *_]:
                return self._statistics()
            case ["set", "server", place, "weight", weight]:
                return self._set(place, lambda one: setattr(one, "weight", int(weight)))
            case ["set", "server", place, "state", ("ready" | "drain" | "maint") as admin]:
                return self._set(place, lambda one: setattr(one, "admin", admin))
            case _:
                return f"Unknown command: '{' '.join(words)}'"

    def _set(self, place: str, change: Callable[[BalancedServer], None]) -> str:
        backend, _, name = place.partition("/")
        server = self.backends.get(backend, {}).get(name)
        if server is None:
            return "No such server." if backend in self.backends else "No such backend."
        change(server)
        self.changed()
        return ""

    def _states(self, backends: list[str]) -> str:
        lines = ["1", f"# {' '.join(_STATE_COLUMNS)}"]
        servers = [(each, one) for each in backends for one in self.backends[each].values()]
        for number, (backend, server) in enumerate(servers, 1):
            row = {
                "be_id": "3", "be_name": backend, "srv_id": str(number), "srv_name": server.name,
                "srv_addr": "127.0.0.1", "srv_op_state": "2" if server.up else "0",
                "srv_admin_state": str(_ADMIN_FLAGS[server.admin]),
                "srv_uweight": str(server.weight), "srv_iweight": "100", "srv_port": "8080",
            }  # fmt: skip
            lines.append(" ".join(row.get(column, "0") for column in _STATE_COLUMNS))
        return "\n".join(lines) + "\n"

    def _statistics(self) -> str:
        lines = ["# pxname,svname,scur,stot,status,weight,"]
        for backend, servers in self.backends.items():
            for server in servers.values():
                status = {"ready": "UP", "drain": "DRAIN", "maint": "MAINT"}[server.admin]
                shown = status if server.up else "DOWN"
                lines.append(f"{backend},{server.name},0,0,{shown},{server.weight},")
            lines.append(f"{backend},BACKEND,0,0,UP,0,")
        return "\n".join(lines) + "\n"

    def set_weight(self, backend: str, server: str, weight: int) -> None:
        """Give a server another weight, 0 to 256. Raises KeyError where there is none."""
        self.backends[backend][server].weight = weight
        self.changed()

    def set_admin(self, backend: str, server: str, admin: Admin) -> None:
        """Put a server into another state. Raises KeyError where there is none."""
        self.backends[backend][server].admin = admin
        self.changed()
