"""The traffic as it is: shares in every layer, ready pods of every version, and the rule.

The rule is a matter of figures: a version may be given a share if its ready pods, against the
number that carries everything, are enough for it.
"""

from __future__ import annotations

from typing import NamedTuple

from engine.module_api import ActionError, Context, Refused
from modules._haproxy import runtime as haproxy_runtime
from modules._kube import api as kube_api
from modules._kube import pods as kube_pods
from modules._traffic.balancers import HAProxy
from modules._traffic.istio import Istio
from modules._traffic.layers import Layer, Weighted, kind
from modules._traffic.service import Service
from modules._traffic.setup import Setup, Shares, setup


class Capacity(NamedTuple):
    """What a version can carry now."""

    ready: int
    percent: int

    @property
    def data(self) -> dict[str, int]:
        """For a result."""
        return {"ready": self.ready, "percent": self.percent}


class Traffic:
    """The traffic of the inventory: its versions, layers and pods."""

    def __init__(self, ctx: Context) -> None:
        self._cluster: kube_api.Cluster | ActionError
        try:
            self._cluster = kube_api.cluster(ctx)
        except ActionError as error:
            self._cluster = error  # whoever needs the cluster is told; HAProxy needs none
        self.lost = isinstance(self._cluster, ActionError)
        namespace = "" if isinstance(self._cluster, ActionError) else self._cluster.namespace
        self.setup: Setup = setup(ctx, namespace)
        self.istio = Istio(self.setup, self.reach) if self.setup.virtual_service else None
        self.haproxy = None
        if self.setup.backend:
            edge = haproxy_runtime.connect(ctx, self.setup.connection)
            self.haproxy = HAProxy(self.setup, edge)
        self.service = Service(self.setup, self.reach) if self.setup.service else None
        self.seen = ""
        """The cluster's version when the pods were last counted."""

    def reach(self) -> kube_api.Cluster:
        """The cluster; raises what kept it from being found, such as a login that failed."""
        if isinstance(self._cluster, ActionError):
            raise self._cluster
        return self._cluster

    @property
    def weighted(self) -> list[Weighted]:
        """The layers that have weights."""
        return [layer for layer in (self.istio, self.haproxy) if layer is not None]

    @property
    def layers(self) -> list[Layer]:
        """All layers, in the order in which a shift forward goes through them."""
        return [*self.weighted, *([self.service] if self.service else [])]

    def shares(self, to: str, percent: int) -> Shares:
        """The shares asked for; Refused for an unknown version or a bad percentage."""
        if to not in self.setup.versions:
            raise Refused(
                f"there is no version {to!r} to shift traffic to",
                hint=f"`traffic.versions` in the inventory has {' and '.join(self.setup.versions)}",
            )
        if not 0 <= percent <= 100:
            raise Refused(f"`percent` must be 0 to 100, not {percent}")
        return {to: percent, self.setup.other(to): 100 - percent}

    def capacity(self, ctx: Context) -> dict[str, Capacity]:
        """What each version can carry: its ready pods against those that carry all."""
        labels = ",".join(f"{key}={value}" for key, value in self.setup.selector.items())
        pods, self.seen = self.reach().list(ctx, kind("Pod"), self.setup.namespace, labels=labels)
        counted = dict.fromkeys(self.setup.versions, 0)
        for pod in pods:
            version = (pod["metadata"].get("labels") or {}).get(self.setup.label)
            if version in counted and kube_pods.is_ready(pod):
                counted[version] += 1
        return {
            version: Capacity(ready, min(100, 100 * ready // self.setup.full_load))
            for version, ready in counted.items()
        }

    def read(self, ctx: Context) -> dict[str, Shares | None]:
        """The shares of every layer."""
        return {layer.name: layer.read(ctx) for layer in self.layers}

    def standing(self, ctx: Context, goal: Shares) -> dict[str, Shares | None]:
        """The shares of every layer before a shift, also where an earlier one was cut off."""
        return {layer.name: layer.standing(ctx, goal) for layer in self.layers}

    def settled(self, shares: Shares, now: dict[str, Shares | None]) -> dict[str, Shares]:
        """What each layer should say.

        Where weights lead to the stable version they lead to what the Service selects, so it
        selects stable until the other version has everything. Without weights it keeps its
        version while that has a share.
        """
        goal: dict[str, Shares] = {layer.name: shares for layer in self.weighted}
        if self.service:
            chosen = selected(now.get("service"))
            if self.weighted and 100 not in shares.values():
                chosen = self.setup.stable
            elif chosen is None or not shares[chosen] or 100 in shares.values():
                chosen = max(shares, key=lambda version: shares[version])
            goal["service"] = {one: 100 if one == chosen else 0 for one in shares}
        return goal


def rising(shares: Shares, before: dict[str, Shares | None]) -> list[str]:
    """Versions that some layer would give more than it does."""
    weights = [now for name, now in before.items() if name != "service" or 100 in shares.values()]
    return [
        version
        for version, share in shares.items()
        if share and any(now is None or share > now.get(version, 0) for now in weights)
    ]


def overload(
    traffic: Traffic, shares: Shares, growing: list[str], capacity: dict[str, Capacity]
) -> list[str]:
    """The figures of every version that would get more than its ready pods can carry."""
    full = traffic.setup.full_load
    return [
        f"{version} has {capacity[version].ready} of the {-(-shares[version] * full // 100)} "
        f"ready pods that {shares[version]} % of the traffic need"
        for version in growing
        if capacity[version].ready * 100 < shares[version] * full
    ]


def selected(shares: Shares | None) -> str | None:
    """The version that has all, as a Service's selector says it."""
    return next((version for version, share in (shares or {}).items() if share == 100), None)
