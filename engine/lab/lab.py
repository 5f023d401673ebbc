"""All parts of one running lab, in one event loop: started in order, ended in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import psycopg
from aiohttp import web

from engine.errors import CeRunError, LabError
from engine.lab import entrances
from engine.lab.balancers.certificate import make_certificate
from engine.lab.balancers.dataplane import BACKENDS, EDGE, MESH, Dataplane
from engine.lab.balancers.haproxy import HAProxy, Runtime
from engine.lab.clock import CLOCK
from engine.lab.cluster.api.server import KubeServer, ServerSettings
from engine.lab.cluster.node.kubelet import Kubelet, Neighbours
from engine.lab.control_server import ControlServer
from engine.lab.databases.postgres import Postgres
from engine.lab.databases.redis import Redis
from engine.lab.databases.volume import Volume
from engine.lab.images.docker_engine import DockerEngine
from engine.lab.images.registry import ImageRegistry
from engine.lab.layout import LabInfo, Layout, bind_unix
from engine.lab.monitoring.metrics import Monitoring, Scraper
from engine.lab.network import Network
from engine.lab.operations import Operations
from engine.lab.people.inbox import Inbox
from engine.lab.people.load_process import LoadProcess
from engine.lab.processes.zygote import ZygoteProcess
from engine.lab.settings import Settings
from engine.lab.status import LabStatus, PodStatus
from engine.lab.wiring import Wiring, configmap
from engine.production.faults import Faults
from engine.production.metrics import ALL, Measurement
from engine.production.names import CANARY_VERSION, HOST, IMAGE, NAMESPACE, STABLE_VERSION
from engine.production.objects import production
from engine.production.observations import Observations, measure

_log = logging.getLogger("engine.lab")

_READY_PATIENCE = 20.0
_CLEAN_UP = 1.0
"""Seconds that a node takes to clear away a pod whose processes have ended."""
_WATCH_SECONDS = 0.5
"""How often the lab looks whether its folder and its servers are still there."""


class Lab:
    """One lab. `run` starts it, tells, and returns when it has ended."""

    def __init__(
        self,
        layout: Layout,
        settings: Settings,
        network: Network,
        postgres: Postgres,
        zygote: ZygoteProcess,
        load: LoadProcess | None,
    ) -> None:
        self.layout = layout
        self.settings = settings
        self.network = network
        self.postgres = postgres
        self.load = load
        self.faults = Faults()
        self.inbox = Inbox(layout.inbox)
        now = CLOCK.monotonic
        volume = Volume(layout.postgres, now)
        self.observations = Observations(now, 3 * settings.scrape_period + 1, volume.share)
        self.runtime = Runtime(network.host("haproxy"), network.port("haproxy"))
        self.dataplane = Dataplane(self.runtime, network.pod_ports)
        self.registry = ImageRegistry()
        self.kubelet = Kubelet(layout, network, settings, self.faults, self._neighbours())
        api = ServerSettings(
            host=network.host("kubernetes"),
            port=network.port("kubernetes"),
            pace=settings.pace,
            nodes=("node-1", "node-2", "node-3"),
            namespace=NAMESPACE,
            context=entrances.CONTEXT,
            request_log=layout.requests,
            clean_up=_CLEAN_UP,
        )
        self.kube = KubeServer(self.kubelet, layout.kubernetes, api)
        self._wiring = Wiring(self.kube.store, self.dataplane, self.kubelet)
        self._zygote = zygote
        self._redis = Redis()
        self._control = ControlServer(Operations(self).table())
        self._haproxy: HAProxy | None = None
        self._info: LabInfo | None = None
        self._ready_at = 0.0
        self._ended = asyncio.Event()
        self._ending = contextlib.AsyncExitStack()

    # -- life ------------------------------------------------------------------------------

    async def run(self, tell: Callable[[dict[str, Any]], None]) -> None:
        """Start everything, tell the outcome, and run until the end.

        Raises LabError if a part does not start.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.end, f"signal {number.name}")
        async with self._ending:
            info = await self._start()
            _log.info("ready on %s.0/24", self.network.prefix)
            tell({"result": msgspec.to_builtins(info, str_keys=True)})
            await self._ended.wait()
        _log.info("ended")

    def end(self, why: str) -> None:
        """Let the lab end."""
        if not self._ended.is_set():
            _log.info("ending: %s", why)
            self._ended.set()

    async def _start(self) -> LabInfo:
        """Start the parts, each remembering how it is ended."""
        self._haproxy, ca_file = self._start_haproxy()
        await self._start_servers()
        self.postgres.wait_ready()
        await self.kubelet.begin(self._zygote.channel, lambda: self.end("the zygote died"))
        self._at_end(self.kubelet.end)
        await self._start_cluster()
        self._begin_task(self._scrape())
        self._begin_task(self._watch())
        if self.load is not None:
            await self.load.begin(
                self.observations.add_slices, lambda: self.end("the load's process died")
            )
            self.observations.restart()
        self._at_end(self._stop_load)
        self._ready_at = CLOCK.monotonic()
        self._info = entrances.describe(self, ca_file, self._haproxy)
        await self._control.start(self.layout.control)
        self._at_end(self._control.stop)
        self.layout.write_info(self._info)
        return self._info

    def _start_haproxy(self) -> tuple[HAProxy, str]:
        """Launch HAProxy; it, and the file with the certificate of its TLS entrance."""
        address = self.network.host("edge_tls")
        bundle, ca_file = make_certificate(self.layout.run, HOST, address)
        haproxy = HAProxy(self.layout, self.network, bundle)
        haproxy.launch()
        self._ending.callback(haproxy.stop)
        return haproxy, str(ca_file)

    async def _start_servers(self) -> None:
        """Everything that depends on nothing else."""
        network = self.network
        for version in (STABLE_VERSION, CANARY_VERSION):
            self.registry.add_release(IMAGE, version)
        engine = DockerEngine(network.host("registry"), network.port("registry"))
        monitoring = Monitoring(self.observations, self.settings)
        for name, app in (
            ("registry", self.registry.app()),
            ("inbox", self.inbox.app()),
            ("metrics", monitoring.app()),
        ):
            await self._serve(app, network.host(name), network.port(name))
        await self._serve(engine.app(), unix=True)
        smtp = await entrances.serve_mail(self.inbox, network.host("smtp"), network.port("smtp"))
        self._ending.callback(smtp.close)
        await self._redis.start(network.host("redis"), network.port("redis"))
        self._at_end(self._redis.stop)

    async def _start_cluster(self) -> None:
        """The Kubernetes API with the production in it; returns when 5.0 serves."""
        assert self._haproxy is not None
        await self.kube.start()
        self._at_end(self._stop_cluster)
        self.kube.subscribe(lambda change: self._wiring.changed(change.resource))
        for obj in production(self.settings.blue_replicas):
            self.kube.apply(obj)
        self._haproxy.wait_ready()
        stable = BACKENDS[0]
        try:
            async with asyncio.timeout(_READY_PATIENCE):
                await self.dataplane.until(
                    lambda: len(self.dataplane.taking(stable)) >= self.settings.blue_replicas
                )
        except TimeoutError as error:
            raise LabError(
                "the pods of 5.0 did not become ready", hint=f"see {self.layout.pods}/*/current.log"
            ) from error

    async def _stop_cluster(self) -> None:
        self.kubelet.hurry()
        await self.kube.stop()

    async def _stop_load(self) -> None:
        if self.load is not None:
            self.load.stop()

    async def _serve(
        self, app: web.Application, host: str = "", port: int = 0, *, unix: bool = False
    ) -> None:
        runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
        await runner.setup()
        self._at_end(runner.cleanup)
        if unix:
            await web.SockSite(runner, bind_unix(self.layout.docker_socket)).start()
        else:
            await web.TCPSite(runner, host, port).start()

    def _at_end(self, ending: Callable[[], Awaitable[None]]) -> None:
        self._ending.push_async_callback(ending)

    def _begin_task(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._ending.callback(task.cancel)

    # -- while it runs ---------------------------------------------------------------------

    async def _scrape(self) -> None:
        port = self.network.pod_ports[9090]
        scraper = Scraper(self.observations, self.settings, port)
        await scraper.run(self.kubelet.serving, self.kubelet.usage, self.kubelet.cpu_limit)

    async def _watch(self) -> None:
        """End the lab when its folder is gone or a server that carries it has died."""
        assert self._haproxy is not None
        lock = self.layout.lock.stat().st_ino
        while True:
            await asyncio.sleep(_WATCH_SECONDS)
            try:
                if self.layout.lock.stat().st_ino != lock:
                    self.end("its folder was replaced")
            except OSError:
                self.end("its folder is gone")
            for name, server in (("PostgreSQL", self.postgres), ("HAProxy", self._haproxy)):
                if not server.runs:
                    self.end(f"{name} died; see {self.layout.logs}")

    def measure(self, name: str, version: str = ALL, window: float = 0.0) -> Measurement | None:
        """A metric over the last `window` seconds, the usual window if 0; None without data."""
        return measure(self.observations, name, version, window or self.settings.metrics_window)

    async def orders(self, source: str) -> set[int]:
        """The numbers of a source's orders that are in the database."""
        try:
            connection = await psycopg.AsyncConnection.connect(self.postgres.dsn)
            async with connection:
                rows = await connection.execute(
                    "SELECT seq FROM orders WHERE source = %s", (source,)
                )
                return {int(row[0]) for row in await rows.fetchall()}
        except psycopg.Error as error:
            raise LabError(f"the orders cannot be read: {error}") from error

    async def status(self) -> LabStatus:
        """How the lab is now."""
        assert self._info is not None
        rate, errors = self.measure("requests_per_second"), self.measure("error_rate")
        return LabStatus(
            info=self._info,
            uptime=round(CLOCK.monotonic() - self._ready_at, 3),
            pods=[
                PodStatus(name=name, version=version, address=address, ready=ready)
                for name, version, address, ready in self.kubelet.summary()
            ],
            weights={
                "edge": await self.runtime.weights(EDGE),
                "mesh": await self.runtime.weights(MESH),
            },
            serving={backend: self.dataplane.taking(backend) for backend in BACKENDS},
            faults=self.faults.table(),
            requests_per_second=None if rate is None else round(rate.value, 1),
            error_rate=None if errors is None else round(errors.value, 3),
        )

    def _neighbours(self) -> Neighbours:
        return Neighbours(
            dsn=self.postgres.dsn,
            redis=(self.network.host("redis"), self.network.port("redis")),
            resolve_image=self.registry.version_of,
            configmap=lambda namespace, name: configmap(self.kube.store, namespace, name),
            admit=self._quietly(lambda uid: self._wiring.admit(uid)),
            drain=self._quietly(self.dataplane.drain),
            forget=self._quietly(self.dataplane.forget),
            standing={name: self.network.host(name) for name in ("postgres", "redis")},
            environment=entrances.pod_environment(self.postgres, self.network),
            tools=entrances.make_tools(self.layout, self.postgres),
        )

    def _quietly(self, work: Callable[[str], Awaitable[None]]) -> Callable[[str], Awaitable[None]]:
        """A pod must be able to end even when the balancer does not answer."""

        async def attempt(uid: str) -> None:
            try:
                await work(uid)
            except CeRunError as error:
                _log.warning("%s", error.message)

        return attempt
