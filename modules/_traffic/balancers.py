"""HAProxy's layer: the weights of servers that stand for versions."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping

from engine.module_api import Context, Refused
from modules._haproxy import runtime as haproxy_runtime
from modules._haproxy import text as haproxy_text
from modules._traffic.setup import Setup, Shares

_HEAVIEST = 256


class HAProxy:
    """A backend of HAProxy whose servers stand for versions."""

    name = "haproxy"

    def __init__(self, setup: Setup, edge: haproxy_runtime.Edge) -> None:
        self.title = f"HAProxy {edge.name}, backend {setup.backend}"
        self._setup = setup
        self._edge = edge

    def parts(self, patience: float) -> list[HAProxy]:
        """Each load balancer for itself: in an emergency one that is gone stops no other.

        `patience`: seconds that one may take for an answer, at most.
        """
        parts = []
        timeout = min(patience, self._edge.timeout)
        for address in self._edge.addresses:
            edge = haproxy_runtime.Edge(self._edge.name, (address,), timeout)
            parts.append(HAProxy(self._setup, edge))
            parts[-1].title = f"HAProxy at {address}"
        return parts

    def read(self, ctx: Context) -> Shares | None:
        """The shares that the weights give.

        Raises Failed when the load balancers disagree, Refused when other servers take traffic.
        """
        servers = self._edge.agreed(ctx, self._setup.backend)
        self._refuse_strangers(ctx, {self._edge.addresses[0]: servers})
        return self._shares(servers)

    def standing(self, ctx: Context, goal: Shares) -> Shares | None:
        """Where load balancers differ, a shift was cut off between them: the shares before it."""
        tables = self._edge.alike(ctx, self._setup.backend, weights=False)
        self._refuse_strangers(ctx, dict(zip(self._edge.addresses, tables, strict=True)))
        return max(
            (self._shares(servers) for servers in tables),
            key=lambda shares: sum(abs(share - goal[one]) for one, share in shares.items()),
        )

    def write(self, ctx: Context, shares: Shares) -> bool:
        """Set the weights of all servers together."""
        before, after = haproxy_runtime.set_weights(
            ctx, self._edge, self._setup.backend, self._weights(shares)
        )
        return before != after

    def replaced(self, ctx: Context, shares: Shares) -> tuple[Shares | None, bool]:
        """Set the weights, knowing those before."""
        tables = self._edge.servers(ctx, self._setup.backend)
        before = self._shares(next(iter(tables.values())))
        changed = self.write(ctx, shares)
        self._refuse_strangers(ctx, tables)
        return before, changed

    def refusals(self, ctx: Context, shares: Shares, rising: list[str]) -> list[str]:
        """A version whose servers are down, drained or in maintenance can take nothing more."""
        lines = []
        for address, servers in self._edge.servers(ctx, self._setup.backend).items():
            for version in rising:
                named = [
                    haproxy_runtime.find(servers, self._setup.backend, name)
                    for name in self._setup.servers[version]
                ]
                if not any(one.serves for one in named):
                    states = ", ".join(f"{one.name} {one.operational}/{one.admin}" for one in named)
                    lines.append(f"HAProxy at {address} has no server for {version}: {states}")
        return lines

    def by_hand(self, shares: Shares) -> str:
        """The commands of the runtime API, sent with socat to each load balancer."""
        lines = "; ".join(
            f"set server {self._setup.backend}/{name} weight {weight}"
            for name, weight in self._weights(shares).items()
        )
        sockets = [haproxy_runtime.socat(address) for address in self._edge.addresses]
        return " && ".join(f"echo {shlex.quote(lines)} | {one}" for one in sockets)

    def _shares(self, servers: haproxy_text.Backend) -> Shares:
        sums = {
            version: sum(
                one.weight
                for name in self._setup.servers[version]
                if (one := haproxy_runtime.find(servers, self._setup.backend, name)).admin
                == "ready"
            )
            for version in self._setup.versions
        }
        total = sum(sums.values())
        return {
            version: round(100 * weight / total) if total else 0 for version, weight in sums.items()
        }

    def _refuse_strangers(self, ctx: Context, tables: Mapping[str, haproxy_text.Backend]) -> None:
        """Refused where servers of no version take traffic, too; backup servers take none."""
        ours = {name for names in self._setup.servers.values() for name in names}
        for address, servers in tables.items():
            strangers = [
                one.name
                for one in servers.values()
                if one.name not in ours and one.weight and one.admin == "ready"
            ]
            if not strangers:
                continue
            spare = self._edge.backups(ctx, address, self._setup.backend)
            if names := [name for name in strangers if name not in spare]:
                raise Refused(
                    f"backend {self._setup.backend} of HAProxy at {address} also sends traffic to "
                    f"{', '.join(names)}, which belongs to no version",
                    hint="name it in `traffic.haproxy.servers`, or give it weight 0",
                )

    def _weights(self, shares: Shares) -> dict[str, int]:
        """Whole weights in the right proportion, also where versions have several servers."""
        counts = {version: len(self._setup.servers[version]) for version in shares}
        common = math.lcm(*counts.values())
        each = {version: shares[version] * common / counts[version] for version in shares}
        shrink = min(1.0, _HEAVIEST / max(*each.values(), 1))
        return {
            name: max(round(each[version] * shrink), 1 if shares[version] else 0)
            for version in shares
            for name in self._setup.servers[version]
        }
