"""The simulated production: a cluster, load balancers, users, monitoring, people, in virtual time.

The cluster and its pods are the models of `engine.production`, which the lab's cluster is made of,
too. From its objects, the balancers' weights and the faults follows who answers whom; from that
follows what users meet, and from that what monitoring says. Nobody sets a figure: whoever wants to
see an error rate has to break something.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from engine.module_api import Context
from engine.production.cluster.cluster import Cluster
from engine.production.cluster.identities import Identities
from engine.production.cluster.objects.store import Change
from engine.production.cluster.runtime import Usage
from engine.production.counts import UNKNOWN
from engine.production.faults import Fault, Faults
from engine.production.metrics import ALL, Measurement, PodSample
from engine.production.names import (
    CANARY_VERSION,
    NAMESPACE,
    STABLE_VERSION,
)
from engine.production.objects import production
from engine.production.pods import Habits, ModelPods
from engine.production.routing import Routes
from engine.simulation.balancers import BalancedServer, Balancer
from engine.simulation.clock import SimulatedClock
from engine.simulation.commands import Commands
from engine.simulation.databases import Database
from engine.simulation.kubernetes import Kubernetes
from engine.simulation.load import Flow, Load
from engine.simulation.monitoring import Monitoring, Sight, known_metrics
from engine.simulation.people import Inbox, Notice
from engine.simulation.standing import Standing, by_version, standing_of
from engine.simulation.timeline import ClockTimeline
from engine.simulation.web import Web

WARM_UP = 900.0
"""Seconds that the production has been running when a rehearsal begins."""

_TRAFFIC_KINDS = frozenset(
    (
        "pods",
        "endpoints",
        "services",
        "configmaps",
        "virtualservices.networking.istio.io",
        "destinationrules.networking.istio.io",
    )
)
_MEBIBYTE = 1 << 20
_OVERLOAD_DELAY = 2.0
"""Seconds that answers of an overloaded version take longer."""


class Scale(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How large the production is, and how fast things go in it."""

    requests_per_second: float = 1200.0
    stable_replicas: int = 10
    pods_for_full_load: int = 5
    mesh_share: float = 0.5
    """Share of the users that comes in through the mesh's gateway; the rest through HAProxy."""
    pod_start: float = 8.0
    pod_stop: float = 2.0
    disk: float = 41.0
    """How full the database's volume is, in percent."""
    seed: int = 1


class Edge(msgspec.Struct, frozen=True):
    """The backend of a balancer that splits the traffic between two versions."""

    balancer: str
    backend: str
    parts: dict[str, str]
    """Server → ``stable`` (where the Service leads) or ``canary`` (the pods of the new version)."""


class World:
    """One simulated production; it goes on with its clock."""

    def __init__(self, clock: SimulatedClock, scale: Scale | None = None) -> None:
        self.clock = clock
        self.scale = scale or Scale()
        self.random = random.Random(self.scale.seed)
        self.faults = Faults()
        self.images: dict[str, str] = {}
        """Image with tag → digest, as the registry has them."""
        self.built: dict[str, str] = {}
        """Image with tag → id, as they were built here."""
        self.inbox = Inbox()
        self._databases: dict[str, Database] = {}
        self.fronts: list[str] = []
        """URLs of the application's front doors."""
        self.web = Web(self, lambda: self.fronts)
        self.commands = Commands()
        self.parts: dict[str, Any] = {}
        """What modules keep here of their own systems, by a name of theirs."""
        self._stale = False
        self._changes = 0
        self._listeners: list[Callable[[], None]] = []
        self._stood: Standing | None = None
        self._timeline = ClockTimeline(clock)
        self.pods = ModelPods(
            self._timeline,
            self.faults,
            self._version_in,
            Habits(start=self.scale.pod_start, stop=self.scale.pod_stop),
        )
        self.cluster = Cluster(
            self.pods, self._timeline, Identities(self.random), namespace=NAMESPACE
        )
        self.balancers: dict[str, Balancer] = {}
        self.edge: Edge | None = None
        self.kubernetes = Kubernetes(self.cluster, self._usage, lambda pod: "")
        self.load = Load(clock.now)
        self.monitoring = Monitoring(
            self.load,
            Sight(self._samples, lambda: self.scale.disk, self._leaking),
            lambda: (clock.now(), self._changes),
        )
        self._begin()

    def _begin(self) -> None:
        """Make the objects of the production, and follow what changes."""
        self.cluster.subscribe(self._follow)
        self.faults.subscribe(self._change)
        self.cluster.begin(["node-1", "node-2", "node-3"], istio=True)
        self.cluster.serve_metrics(True)
        for obj in production(self.scale.stable_replicas):
            self.cluster.apply(obj)

    # -- what is there -----------------------------------------------------------------------------
    def add_balancer(self, name: str, backends: Mapping[str, Mapping[str, int]]) -> Balancer:
        """A HAProxy: backend → server → weight."""
        made = {
            backend: {server: BalancedServer(server, weight) for server, weight in servers.items()}
            for backend, servers in backends.items()
        }
        balancer = self.balancers[name] = Balancer(name, made, self._change)
        self._change()
        return balancer

    def runtime(self, balancer: str, command: str) -> str:
        """What a balancer's runtime API answers. Raises ConnectionRefusedError if nobody does."""
        chosen = self.balancers.get(balancer)
        if chosen is None or not chosen.reachable:
            raise ConnectionRefusedError(f"no HAProxy answers for {balancer}")
        return chosen.runtime(command)

    def warm_up(self) -> None:
        """Let the production run for a while, so that pods serve and figures exist."""
        self.clock.pass_time(WARM_UP)

    def fault(self, version: str, **changes: Any) -> Fault:
        """Make something wrong with the pods of a version (or `all`); see `Fault`."""
        return self.faults.set(version, changes)

    def tell(
        self,
        channel: str,
        transport: str,
        subject: str,
        text: str,
        *,
        severity: str,
        step: str,
        key: str,
    ) -> bool | None:
        """Send people a notice; whether they had it already, None if the channel is dead."""
        if channel in self.inbox.dead:
            return None
        now = self.clock.now()
        return self.inbox.receive(
            Notice(now, channel, transport, subject, text, severity, step, key)
        )

    def database(self, name: str) -> Database:
        """A database by the name of its connection."""
        if name not in self._databases:
            self._databases[name] = Database(self._acknowledged)
        return self._databases[name]

    def databases(self) -> list[Database]:
        """All that were ever spoken of."""
        return list(self._databases.values())

    def _acknowledged(self) -> int:
        self._refresh()
        return self.load.acknowledged()

    # -- waiting -----------------------------------------------------------------------------------
    def until(
        self, ctx: Context, condition: Callable[[], bool], seconds: float | None = None
    ) -> bool:
        """Wait, in a task, until a condition of the world holds; whether it does.

        It is tested again after everything that happens. Raises Cancelled or TimedOut when the
        task has to end.
        """
        left = ctx.remaining(seconds)
        self.clock.wait_until(lambda: ctx.stopping or condition(), left)
        ctx.checkpoint()
        return condition()

    # -- what users and monitoring see -------------------------------------------------------------
    def measure(self, name: str, version: str, window: float) -> Measurement | None:
        """A metric of the inventory, over the last `window` seconds; None without data.

        Raises KeyError for a name that the model gives no meaning.
        """
        self._refresh()
        return self.monitoring.measure(name, version, window)

    def lasting(self, name: str, version: str, window: float) -> Callable[[], bool] | None:
        """Whether a metric is still what it is now, to be asked after each change of the world;
        None for one that changes by itself, just now or always."""
        self._refresh()
        return self.monitoring.lasting(name, version, window)

    def known_metrics(self) -> list[str]:
        """Names of metrics that mean something in this world."""
        return sorted({*known_metrics(), *self.monitoring.constants})

    def shares(self, entrance: str = "") -> dict[str, float]:
        """Version → percent of the users' requests (of one entrance) that it answers now."""
        self._refresh()
        return self.load.shares(entrance)

    def ready(self, version: str) -> int:
        """How many pods of a version serve."""
        return self._ready(version)

    @property
    def writes_paused(self) -> bool:
        """Whether orders are refused."""
        return self._standing().writes_paused

    @property
    def agents(self) -> int:
        """How many agents have a configuration."""
        return self._standing().agents

    def routes(self) -> Routes:
        """Who should serve what, by the cluster's objects."""
        return self._standing().routes

    def _standing(self) -> Standing:
        """What follows from the cluster's objects; made anew when one of them has changed."""
        store = self.cluster.store
        if self._stood is None or self._stood.version != store.version:
            self._stood = standing_of(store)
        return self._stood

    # -- how flows follow --------------------------------------------------------------------------
    def _follow(self, change: Change) -> None:
        if change.resource in _TRAFFIC_KINDS:
            self._change()

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each change of what users or monitoring see."""
        self._listeners.append(listener)

    def changed(self) -> None:
        """Something about it was changed from outside: whoever watches looks again."""
        self._change()

    def _change(self) -> None:
        """Something has changed; flows are made anew at this moment, once."""
        self._changes += 1
        if not self._stale:
            self._stale = True
            self.clock.schedule(self.clock.now(), self._refresh)

    def _refresh(self) -> None:
        if self._stale:
            self._stale = False
            self.load.change(self._flows())
            for listener in self._listeners:
                listener()

    def _leaking(self) -> bool:
        return any(fault.memory_growth for fault in self.faults.table().values())

    def _flows(self) -> list[Flow]:
        table = self.routes()
        versions = self._standing().versions
        rates: dict[tuple[str, str], float] = {}
        mesh = self.scale.requests_per_second * self.scale.mesh_share
        edge = self.scale.requests_per_second - mesh
        stable_weight, canary_weight = table.mesh_weights
        for entrance, rate, parts in (
            ("mesh", mesh, {"stable": stable_weight / 100, "canary": canary_weight / 100}),
            ("edge", edge, self._edge_parts()),
        ):
            left = rate
            for part, share in parts.items():
                pods = table.canary if part == "canary" else table.stable
                for version, portion in by_version(pods, versions).items():
                    place = entrance, version
                    rates[place] = rates.get(place, 0.0) + rate * share * portion
                left -= rate * share
            if left > rate / 1e6:
                rates[entrance, UNKNOWN] = rates.get((entrance, UNKNOWN), 0.0) + left
        return [self._flow(*place, rate, rates) for place, rate in sorted(rates.items()) if rate]

    def _edge_parts(self) -> dict[str, float]:
        """What the edge sends to stable and to canary; without a HAProxy all goes to stable."""
        if self.edge is None:
            return {"stable": 1.0}
        parts: dict[str, float] = {}
        for server, share in self.balancers[self.edge.balancer].shares(self.edge.backend).items():
            part = self.edge.parts.get(server, "stable")
            parts[part] = parts.get(part, 0.0) + share
        return parts

    def _flow(
        self, entrance: str, version: str, rate: float, rates: Mapping[tuple[str, str], float]
    ) -> Flow:
        if version == UNKNOWN:
            return Flow(entrance, version, rate, failing=1.0, reason="no_server")
        fault = self.faults.of(version)
        total = sum(each for (_, other), each in rates.items() if other == version)
        room = self.scale.requests_per_second / self.scale.pods_for_full_load
        carried = min(1.0, room * self._ready(version) / total) if total else 1.0
        overload = 1.0 - carried
        return Flow(
            entrance,
            version,
            rate,
            failing=1.0 - (1.0 - fault.error_rate) * (1.0 - overload),
            reason="overload" if overload > fault.error_rate else "http_500",
            delay=fault.latency + (_OVERLOAD_DELAY if overload else 0.0),
            workflow_errors=fault.workflow_error_rate,
            agents_down=fault.agents_down / max(1, self.agents),
            paused=self.writes_paused,
        )

    def _ready(self, version: str) -> int:
        return self._standing().ready.get(version, 0)

    def _version_in(self, image: str) -> str | None:
        """Which version of the application an image holds; every image can be pulled, unless the
        registry is asked for one of ours that nobody pushed."""
        tag = image.partition("@")[0].rpartition(":")[2]
        return tag if tag in (STABLE_VERSION, CANARY_VERSION) else ""

    def _usage(self, uid: str) -> Usage:
        """What a pod uses now."""
        version = self._standing().versions.get(uid, "")
        return Usage(cpu=self._cpu(version), memory=round(self.pods.memory(uid) * _MEBIBYTE))

    def _cpu(self, version: str) -> int:
        """Millicores that each pod of a version uses now."""
        rate = sum(flow.rate for flow in self.load.flows if flow.version == version)
        room = self.scale.requests_per_second / self.scale.pods_for_full_load
        return round(150 + 1000 * rate / max(1, self._ready(version)) / room)

    def _samples(self, version: str) -> list[PodSample]:
        """What the application's pods of a version (or `all`) tell on their metrics ports."""
        standing, now = self._standing(), self.clock.now()
        told: dict[str, tuple[dict[str, float], int]] = {}
        samples = []
        for pod in standing.running:
            if version not in (ALL, pod.version):
                continue
            if pod.version not in told:
                active = standing.agents - self.faults.of(pod.version).agents_down
                agents = {
                    "ce_agents_total": float(standing.agents),
                    "ce_agents_active": float(max(0, active)),
                }
                told[pod.version] = agents, self._cpu(pod.version)
            metrics, cpu = told[pod.version]
            samples.append(
                PodSample(
                    pod=pod.name,
                    version=pod.version,
                    at=now,
                    metrics=metrics,
                    usage=Usage(cpu=cpu, memory=round(self.pods.memory(pod.uid) * _MEBIBYTE)),
                    cpu_limit=2000,
                    memory_limit=4096 * _MEBIBYTE,
                )
            )
        return samples
