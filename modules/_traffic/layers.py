"""The three places that decide who gets traffic: Istio's weights, HAProxy's, a Service's selector.

Each layer reads and writes *shares*: a mapping from version to percent, which sums up to 100. A
Service knows only all or nothing: its selector names the one version that it leads to.
"""

from __future__ import annotations

import json
import math
from typing import Protocol

from engine.module_api import Context, Failed, Refused
from modules._haproxy import runtime as haproxy_runtime
from modules._haproxy import text as haproxy_text
from modules._kube import errors as kube_errors
from modules._kube.api import Cluster, Object
from modules._kube.kinds import Kind, known
from modules._traffic.setup import Setup, Shares

_HEAVIEST = 256
_LED_ASIDE = "ce-run/canary-routes"
_AGAIN = 5
"""Times that a VirtualService is read anew when somebody else writes it between."""


class Layer(Protocol):
    """A place where traffic is split."""

    name: str
    title: str

    def read(self, ctx: Context) -> Shares | None:
        """The shares in force; None where they cannot be told (the object is not there)."""
        ...

    def standing(self, ctx: Context, wanted: Shares) -> Shares | None:
        """`read`, before a shift to `wanted`, also where a shift was cut off half-way."""
        ...

    def write(self, ctx: Context, shares: Shares) -> bool:
        """Put the shares in force; False where they were so already and nothing was sent."""
        ...

    def refusals(self, ctx: Context, shares: Shares, rising: list[str]) -> list[str]:
        """Why this layer cannot give `rising` versions more, as far as it knows itself."""
        ...


class Weighted(Layer, Protocol):
    """A layer that knows shares between nothing and all."""

    def replaced(self, ctx: Context, shares: Shares) -> tuple[Shares | None, bool]:
        """`write` with as few requests as can be: the shares before, and what `write` returns."""
        ...


class Istio:
    """A VirtualService: the weights of its routes between the versions' subsets.

    Routes with weights share the traffic. A route with conditions (a header) that leads to the
    canary's subset alone is for those who opt in. While the canary has no share nothing need
    serve it, so such a route leads to the stable version then, and an annotation remembers which
    routes are to go back when the canary has a share again.
    """

    name = "istio"

    def __init__(self, setup: Setup, cluster: Cluster) -> None:
        self.title = f"VirtualService {setup.virtual_service}"
        self._setup = setup
        self._cluster = cluster
        self._kind = _kind("VirtualService")
        self._versions = {subset: version for version, subset in setup.subsets.items()}

    def read(self, ctx: Context) -> Shares | None:
        """The shares of the weighted routes; Failed when they differ among themselves."""
        found = self._cluster.find(
            ctx, self._kind, self._setup.namespace, self._setup.virtual_service
        )
        return None if found is None else self._shares(found)

    def standing(self, ctx: Context, wanted: Shares) -> Shares | None:
        """The shares: all routes are written at once, so none is ever cut off."""
        return self.read(ctx)

    def write(self, ctx: Context, shares: Shares) -> bool:
        """Set the weights, on the newest version of the object."""
        return self.replaced(ctx, shares)[1]

    def replaced(self, ctx: Context, shares: Shares) -> tuple[Shares | None, bool]:
        """Set the weights with one read and one write; before is None where routes differed."""
        for _ in range(_AGAIN):
            found = self._get(ctx)
            seen = self._each(found)
            before = seen[0] if all(one == seen[0] for one in seen) else None
            try:
                return before, self._patch(ctx, found, shares)
            except kube_errors.Modified as error:
                ctx.log(f"{self.title} was changed meanwhile, once more: {error.message}")
                ctx.checkpoint()
        raise Failed(
            f"{self.title} is changed all the time by somebody else",
            hint="stop what else manages its weights (a rollout controller?)",
        )

    def pending(self, ctx: Context, shares: Shares) -> bool:
        """Whether the routes would change, those of people who opted in among them."""
        found = self._get(ctx)
        return self._routes(found, shares)[0] != (found.get("spec", {}).get("http") or [])

    def refusals(self, ctx: Context, shares: Shares, rising: list[str]) -> list[str]:
        """Istio itself does not tell whether a subset serves; pods do."""
        return []

    def _get(self, ctx: Context) -> Object:
        return self._cluster.get(
            ctx, self._kind, self._setup.namespace, self._setup.virtual_service
        )

    def _patch(self, ctx: Context, found: Object, shares: Shares) -> bool:
        wanted, led = self._routes(found, shares)
        if wanted == found.get("spec", {}).get("http"):
            return False
        patch = {
            "metadata": {
                "resourceVersion": found["metadata"]["resourceVersion"],
                "annotations": {_LED_ASIDE: json.dumps(led) if led else None},
            },
            "spec": {"http": wanted},
        }
        self._cluster.patch(
            ctx, self._kind, self._setup.namespace, self._setup.virtual_service, patch
        )
        return True

    def _routes(self, found: Object, shares: Shares) -> tuple[list[Object], list[str]]:
        """The routes for these shares, and which of them lead to stable instead of canary."""
        led = _led_aside(found)
        routes = []
        for route in found.get("spec", {}).get("http") or []:
            if self._is_weighted(route):
                routes.append({**route, "route": self._weighted(route["route"], shares)})
            else:
                routes.append(self._opted_in(route, shares, led))
        return routes, led

    def _opted_in(self, route: Object, shares: Shares, led: list[str]) -> Object:
        """A route of people who opted in; `led` is brought up to date with it."""
        destinations = route.get("route") or []
        if len(destinations) != 1 or not route.get("match"):
            return route
        destination = destinations[0].get("destination") or {}
        name, version = _name_of(route), self._versions.get(destination.get("subset", ""))
        if version == self._setup.canary and not shares[self._setup.canary]:
            led += [name] if name not in led else []
            subset = self._setup.subsets[self._setup.stable]
        elif version == self._setup.stable and shares[self._setup.canary] and name in led:
            led.remove(name)
            subset = self._setup.subsets[self._setup.canary]
        else:
            return route
        return {
            **route,
            "route": [{**destinations[0], "destination": {**destination, "subset": subset}}],
        }

    def _shares(self, found: Object) -> Shares:
        seen = self._each(found)
        if any(shares != seen[0] for shares in seen):
            raise Failed(
                f"the routes of {self.title} have different weights",
                hint="set them alike by hand, or roll back: that sets all of them",
                evidence=[_text(shares) for shares in seen],
            )
        return seen[0]

    def _each(self, found: Object) -> list[Shares]:
        """The shares of each weighted route; Failed where there is none."""
        seen: list[Shares] = []
        for route in found.get("spec", {}).get("http") or []:
            if self._is_weighted(route):
                shares = dict.fromkeys(self._setup.versions, 0)
                for one in route["route"]:
                    version = self._versions[one["destination"]["subset"]]
                    shares[version] += int(
                        one.get("weight", 100 if len(route["route"]) == 1 else 0)
                    )
                seen.append(shares)
        if not seen:
            subsets = " and ".join(self._setup.subsets.values())
            raise Failed(
                f"{self.title} has no route between the subsets {subsets}",
                hint="give it an http route whose destinations are these subsets",
            )
        return seen

    def _is_weighted(self, route: Object) -> bool:
        subsets = [(one.get("destination") or {}).get("subset") for one in route.get("route") or []]
        ours = [subset for subset in subsets if subset in self._versions]
        if not ours or (len(subsets) == 1 and route.get("match")):
            return False
        if strangers := [str(subset) for subset in subsets if subset not in self._versions]:
            raise Refused(
                f"a route of {self.title} also leads to subset {', '.join(strangers)}",
                hint="name all its subsets in the inventory's `traffic.subsets`, or split it",
            )
        return True

    def _weighted(self, destinations: list[Object], shares: Shares) -> list[Object]:
        by_subset = {one["destination"]["subset"]: one for one in destinations}
        order = [*by_subset, *(s for s in self._setup.subsets.values() if s not in by_subset)]
        model = destinations[0]
        return [
            {
                **by_subset.get(
                    subset, {"destination": {**model["destination"], "subset": subset}}
                ),
                "weight": shares[self._versions[subset]],
            }
            for subset in order
        ]


class HAProxy:
    """A backend of HAProxy whose servers stand for versions."""

    name = "haproxy"

    def __init__(self, setup: Setup, edge: haproxy_runtime.Edge) -> None:
        self.title = f"HAProxy {edge.name}, backend {setup.backend}"
        self._setup = setup
        self._edge = edge

    def parts(self) -> list[HAProxy]:
        """Each load balancer for itself: in an emergency one that is gone stops no other."""
        parts = []
        for address in self._edge.addresses:
            edge = haproxy_runtime.Edge(self._edge.name, (address,), self._edge.timeout)
            parts.append(HAProxy(self._setup, edge))
            parts[-1].title = f"HAProxy at {address}"
        return parts

    def read(self, ctx: Context) -> Shares | None:
        """The shares that the weights give; Failed when the load balancers disagree."""
        return self._shares(self._edge.agreed(ctx, self._setup.backend))

    def standing(self, ctx: Context, wanted: Shares) -> Shares | None:
        """Where load balancers differ, a shift was cut off between them: the shares before it."""
        found = self._edge.alike(ctx, self._setup.backend, weights=False)
        return max(
            (self._shares(servers) for servers in found),
            key=lambda shares: sum(abs(share - wanted[one]) for one, share in shares.items()),
        )

    def write(self, ctx: Context, shares: Shares) -> bool:
        """Set the weights of all servers together."""
        before, after = haproxy_runtime.set_weights(
            ctx, self._edge, self._setup.backend, self._weights(shares)
        )
        return before != after

    def replaced(self, ctx: Context, shares: Shares) -> tuple[Shares | None, bool]:
        """Set the weights, knowing those before."""
        found = self._edge.servers(ctx, self._setup.backend)
        before = self._shares(next(iter(found.values())))
        return before, self.write(ctx, shares)

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


class Service:
    """A Service whose selector names a version: the blue/green switch."""

    name = "service"

    def __init__(self, setup: Setup, cluster: Cluster) -> None:
        self.title = f"Service {setup.service}"
        self._setup = setup
        self._cluster = cluster
        self._kind = _kind("Service")

    def read(self, ctx: Context) -> Shares | None:
        """All to the version that the selector names; None if it is not there."""
        found = self._cluster.find(ctx, self._kind, self._setup.namespace, self._setup.service)
        if found is None:
            return None
        version = str((found["spec"].get("selector") or {}).get(self._setup.label, ""))
        return {one: 100 if one == version else 0 for one in self._setup.versions}

    def standing(self, ctx: Context, wanted: Shares) -> Shares | None:
        """The shares: a selector is never half-written."""
        return self.read(ctx)

    def write(self, ctx: Context, shares: Shares) -> bool:
        """Switch the selector to the version that has all; sent in any case."""
        chosen = [version for version, share in shares.items() if share == 100]
        if not chosen:
            raise Failed(f"the selector of {self.title} named none of the versions before")
        self.switch(ctx, chosen[0])
        return True

    def switch(self, ctx: Context, version: str) -> Object:
        """Switch the selector without looking first; the Service as it is then."""
        selector = {**self._setup.selector, self._setup.label: version}
        return self._cluster.patch(
            ctx,
            self._kind,
            self._setup.namespace,
            self._setup.service,
            {"spec": {"selector": selector}},
            form="strategic",
        )

    def refusals(self, ctx: Context, shares: Shares, rising: list[str]) -> list[str]:
        """A Service does not tell; pods do."""
        return []


def _name_of(route: Object) -> str:
    """What a route can be known by again: its name, else its conditions."""
    return str(route.get("name") or json.dumps(route.get("match"), sort_keys=True))


def _led_aside(found: Object) -> list[str]:
    """Routes that lead to stable only while the canary has no share."""
    noted = (found["metadata"].get("annotations") or {}).get(_LED_ASIDE)
    try:
        names = json.loads(noted) if noted else []
    except ValueError:
        return []
    return [str(name) for name in names] if isinstance(names, list) else []


def _kind(word: str) -> Kind:
    kind = known(word)
    assert kind is not None
    return kind


def _text(shares: Shares) -> str:
    return ", ".join(f"{version} {share} %" for version, share in shares.items())
