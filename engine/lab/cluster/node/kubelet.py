"""The lab's kubelet: carries out pods as real processes, and tells what has become of them.

It implements `runtime.NodeRuntime`. A pod of the application is a process forked by the zygote,
with an address and a folder of its own; the kubelet mounts its configuration, probes its readiness
over HTTP, watches its memory, and carries out `exec` and `logs`. Pods of the data layer
(`postgres-0`, `redis-0`) stand for the lab's own servers: they are ready at once and have no
process.

A pod that is stopped is first taken out of the load balancers (`drain`), then asked to end: as a
preStop hook would do it, so that no request meets a closed door.
"""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import signal
import socket
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from engine.lab.application.pod import PodSpec, PodUpdate
from engine.lab.cluster.node import mounts
from engine.lab.cluster.node.pod_shell import PodShell
from engine.lab.cluster.node.probes import probe, readiness
from engine.lab.cluster.node.runtime import ExecResult
from engine.lab.layout import Layout
from engine.lab.network import Network
from engine.lab.processes import usage
from engine.lab.processes.channel import Channel
from engine.lab.settings import Settings
from engine.lab.wire import Connection
from engine.production.cluster.runtime import PodReport, Usage
from engine.production.faults import Faults
from engine.production.names import AGENTS_CONFIGMAP, MAINTENANCE_CONFIGMAP, NAMESPACE, PHASES
from engine.production.pods import Report

_FIRST_PROBES = 0.02  # between two probes of a pod that is not ready yet
_DOUBTFUL = 0.15  # after a probe of a ready pod that failed
_REFUSALS = 3  # answers "not ready" that make a pod unready
_SILENCES = 4  # missing answers that do: a busy machine is late, not ill
_OUT_OF_MEMORY = "OOMKilled"


async def _nothing(uid: str) -> None:
    return None


@dataclass
class Neighbours:
    """What the kubelet needs from the rest of the lab."""

    dsn: str
    redis: tuple[str, int]
    resolve_image: Callable[[str], str | None]
    """An image reference → the version of the application in it, or None if there is no such."""
    configmap: Callable[[str, str], Mapping[str, str] | None]
    """(namespace, name) → the data of a ConfigMap."""
    admit: Callable[[str], Awaitable[None]] = _nothing
    """Called with a pod's uid when it has become ready, before that is reported."""
    drain: Callable[[str], Awaitable[None]] = _nothing
    """Called with a pod's uid before it is asked to end; returns when it gets no new request."""
    forget: Callable[[str], Awaitable[None]] = _nothing
    """Called with a pod's uid when its process is gone, before its address is used again."""
    standing: Mapping[str, str] = field(default_factory=dict)
    """First word of an image's name → the address of the lab's own server that it stands for."""
    environment: Mapping[str, str] = field(default_factory=dict)
    """What every container finds in its environment beside its own `env`."""
    tools: str = ""
    """Folders of programs that `exec` finds before the system's: psql, pg_dump, redis-cli."""


def _set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


@dataclass
class _Pod:
    """One pod, from its first start to its removal; restarts keep its address and folder."""

    uid: str
    obj: dict[str, Any]
    report: Report
    image: str
    standing: str = ""
    version: str = ""
    address: str = ""
    pid: int = 0
    ready: bool = False
    stopping: bool = False
    killed_for: str = ""
    update: PodUpdate | None = None
    meter: usage.Meter | None = None
    probe: asyncio.Task[None] | None = None
    gone: asyncio.Event = field(default_factory=_set_event)
    """Set while no process of it exists or is being made."""


class Kubelet:
    """Runs the pods of one lab. Everything happens in one event loop."""

    def __init__(
        self,
        layout: Layout,
        network: Network,
        settings: Settings,
        faults: Faults,
        neighbours: Neighbours,
    ) -> None:
        self._layout = layout
        self._network = network
        self._settings = settings
        self._faults = faults
        self._neighbours = neighbours
        self._mounts = mounts.Mounts(layout.configmaps)
        self._pods: dict[str, _Pod] = {}
        self._zygote: Channel | None = None
        self._sampler: asyncio.Task[None] | None = None
        self._hurrying = False
        faults.subscribe(self.refresh)

    async def begin(self, zygote: socket.socket, lost: Callable[[], None]) -> None:
        """Take up the channel to the zygote; `lost` is called if the zygote dies."""
        self._zygote = await Channel.on(zygote, self._heard, lost)
        self._sampler = asyncio.get_running_loop().create_task(self._sample())

    async def end(self) -> None:
        """Let go of everything; the pods die with the zygote."""
        for task in [self._sampler, *(pod.probe for pod in self._pods.values())]:
            if task is not None:
                task.cancel()
        if self._zygote is not None:
            self._zygote.close()

    # -- PodRuntime ------------------------------------------------------------------------

    def start(self, pod: dict[str, Any], report: Report) -> None:
        """Begin to run a pod, or run it again after a crash or a failed pull."""
        uid = pod["metadata"]["uid"]
        image = pod["spec"]["containers"][0]["image"]
        known = self._pods.get(uid)
        if known is None:
            known = self._pods[uid] = _Pod(uid, pod, report, image)
        known.obj, known.report, known.image = pod, report, image
        asyncio.get_running_loop().call_soon(self._launch, known)

    async def stop(self, uid: str, grace_seconds: float) -> None:
        """Take the pod out of the balancers, ask it to end, and wait until it is gone."""
        pod = self._pods.get(uid)
        if pod is None:
            return
        pod.stopping = True
        if pod.probe is not None:
            pod.probe.cancel()
        if not pod.gone.is_set() and not self._hurrying:
            await self._neighbours.drain(uid)
            self._signal(pod, signal.SIGTERM)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(pod.gone.wait(), max(grace_seconds, 0.001))
        if not pod.gone.is_set():
            self._signal(pod, signal.SIGKILL)
            await pod.gone.wait()
        if not self._hurrying:
            await self._neighbours.forget(uid)
        self._pods.pop(uid, None)
        if pod.address and not pod.standing:
            self._network.return_pod_address(pod.address)
        shutil.rmtree(self._folder(uid), ignore_errors=True)

    async def logs(self, uid: str, container: str, *, previous: bool = False) -> bytes:
        """What the pod's process wrote."""
        name = "previous.log" if previous else "current.log"
        try:
            return (self._folder(uid) / name).read_bytes()
        except OSError:
            return b""

    async def exec(
        self, uid: str, container: str, command: list[str], stdin: bytes | None
    ) -> ExecResult:
        """Run a command for real, in the pod's folder and with its environment."""
        pod = self._pods.get(uid)
        if pod is None or not (pod.pid or pod.standing):
            return ExecResult(b"", b"the container is not running\n", 126)
        shell = PodShell(
            app=self._folder(uid) / "app",
            address=pod.address,
            ports=self._network.pod_ports,
            environment=self._environment(pod),
            tools=self._neighbours.tools,
        )
        return await shell.run(command, stdin)

    def usage(self, uid: str) -> Usage:
        """CPU and memory of the pod's process now."""
        pod = self._pods.get(uid)
        if pod is None or pod.meter is None or not pod.pid:
            return Usage(cpu=1, memory=8 * 1024 * 1024)
        return Usage(cpu=pod.meter.millicores, memory=usage.memory_bytes(pod.pid))

    # -- what else the lab asks ------------------------------------------------------------

    def refresh(self) -> None:
        """Pass changed faults and ConfigMaps on to the pods, and try failed pulls again."""
        for pod in list(self._pods.values()):
            if pod.pid:
                self._tell(pod)
            elif not pod.stopping and pod.probe is None and not pod.address:
                self._launch(pod)

    def hurry(self) -> None:
        """The lab ends: kill pods instead of letting them finish."""
        self._hurrying = True

    def cpu_limit(self, uid: str) -> int:
        """Thousandths of a core that a pod may use; one core if it sets no limit."""
        container = self._pods[uid].obj["spec"]["containers"][0] if uid in self._pods else {}
        text = str(((container.get("resources") or {}).get("limits") or {}).get("cpu", "1"))
        return int(text[:-1]) if text.endswith("m") else round(1000 * float(text))

    def summary(self) -> list[tuple[str, str, str, bool]]:
        """(name, version, address, ready) of each pod of the application that has a process."""
        return [
            (p.obj["metadata"]["name"], p.version, p.address, p.ready)
            for p in self._pods.values()
            if p.pid
        ]

    def address(self, uid: str) -> str:
        """A pod's address; empty if it has none."""
        return self._pods[uid].address if uid in self._pods else ""

    def serving(self) -> list[tuple[str, str, str]]:
        """(uid, version, address) of each pod of the application that has a process."""
        return [(p.uid, p.version, p.address) for p in self._pods.values() if p.pid]

    # -- a pod's life ----------------------------------------------------------------------

    def _launch(self, pod: _Pod) -> None:
        if pod.stopping or not pod.gone.is_set():
            return
        pod.standing = self._neighbours.standing.get(_words(pod.image)[0], "")
        if pod.standing:
            pod.address, pod.ready = pod.standing, True
            self._folder(pod.uid, "app")
            pod.report(PodReport("running", ready=True, ip=pod.address))
            return
        version = self._neighbours.resolve_image(pod.image)
        if version is None or self._faults.of(version).bad_image:
            why = "not found" if version is None else "unexpected end of the image's layers"
            message = f'Failed to pull image "{pod.image}": {pod.image}: {why}'
            pod.report(PodReport("image_pull_error", message=message))
            return
        pod.report(PodReport("creating"))
        pod.version = version
        pod.address = pod.address or self._network.take_pod_address()
        pod.gone.clear()
        self._send("start", msgspec.to_builtins(self._spec(pod), str_keys=True))

    def _spec(self, pod: _Pod) -> PodSpec:
        app = self._folder(pod.uid, "app")
        log = self._folder(pod.uid) / "current.log"
        if log.exists():
            log.replace(log.with_name("previous.log"))
        environment = self._environment(pod)
        pod.update = self._update(pod)
        return PodSpec(
            uid=pod.uid,
            name=pod.obj["metadata"]["name"],
            version=pod.version,
            mode=environment.get("CLAUDE_MODE", "stable"),
            address=pod.address,
            ports=self._network.pod_ports,
            folder=str(app),
            log=str(log),
            dsn=self._neighbours.dsn,
            redis_host=self._neighbours.redis[0],
            redis_port=self._neighbours.redis[1],
            agent_count=int(environment.get("AGENT_COUNT", "61")),
            phase_count=int(environment.get("PHASE_COUNT", str(len(PHASES)))),
            update=pod.update,
        )

    def _update(self, pod: _Pod) -> PodUpdate:
        namespace = pod.obj["metadata"].get("namespace", NAMESPACE)
        agents = self._neighbours.configmap(namespace, AGENTS_CONFIGMAP)
        maintenance = self._neighbours.configmap(namespace, MAINTENANCE_CONFIGMAP) or {}
        folder = str(self._mounts.folder(AGENTS_CONFIGMAP, agents)) if agents else ""
        if not folder and pod.update is not None:
            folder = pod.update.agents  # what is mounted stays, as it does on a real node
        if folder:
            mounts.link(self._folder(pod.uid, "app") / "config" / "agents", Path(folder))
        return PodUpdate(
            fault=self._faults.of(pod.version),
            writes_paused=maintenance.get("writes") == "paused",
            agents=folder,
        )

    def _tell(self, pod: _Pod) -> None:
        update = self._update(pod)
        if update != pod.update:
            pod.update = update
            self._send("tell", pod.uid, msgspec.to_builtins(update))

    def _heard(self, event: list[Any]) -> None:
        pod = self._pods.get(event[1])
        if pod is None:
            return
        match event:
            case ["started", _, pid]:
                self._started(pod, pid)
            case ["exited", _, status]:
                self._exited(pod, status)

    def _started(self, pod: _Pod, pid: int) -> None:
        pod.pid, pod.ready, pod.killed_for = pid, False, ""
        pod.meter = usage.Meter(pid)
        pod.meter.read()
        if pod.stopping:
            return
        self._tell(pod)  # what changed between the order to start and now
        pod.report(PodReport("running", ip=pod.address))
        pod.probe = asyncio.get_running_loop().create_task(self._watch(pod))

    def _exited(self, pod: _Pod, status: int) -> None:
        pod.pid, pod.ready = 0, False
        pod.gone.set()
        if pod.probe is not None:
            pod.probe.cancel()
            pod.probe = None
        if not pod.stopping:
            pod.report(
                PodReport("crashed", ip=pod.address, exit_code=status, message=pod.killed_for)
            )

    def _signal(self, pod: _Pod, number: int) -> None:
        self._send("signal", pod.uid, int(number))

    def _send(self, *command: Any) -> None:
        assert self._zygote is not None, "begin first"
        self._zygote.send(command)

    # -- probes and memory -----------------------------------------------------------------

    async def _watch(self, pod: _Pod) -> None:
        """Probe a pod's readiness for as long as it runs, and report each change."""
        path, port = readiness(pod.obj, self._network.pod_ports)
        connection = Connection(pod.address, port)
        silences = refusals = 0
        await asyncio.sleep(self._settings.start_delay)
        try:
            while True:
                passed = await probe(connection, path)
                refusals = refusals + 1 if passed is False else 0
                silences = silences + 1 if passed is None else 0
                endures = refusals < _REFUSALS and silences < _SILENCES
                ready = bool(passed) or (pod.ready and endures)
                if ready != pod.ready:
                    if ready:
                        await self._neighbours.admit(pod.uid)
                    pod.ready = ready
                    pod.report(PodReport("running", ready=ready, ip=pod.address))
                await asyncio.sleep(self._until_next_probe(pod.ready, bool(passed)))
        finally:
            connection.close()

    def _until_next_probe(self, ready: bool, passed: bool) -> float:
        if not ready:
            return _FIRST_PROBES
        return self._settings.probe_period if passed else _DOUBTFUL

    async def _sample(self) -> None:
        """Read each pod's use of CPU and memory, and kill those that use too much."""
        limit = self._settings.pod_memory * 1024 * 1024
        while True:
            await asyncio.sleep(self._settings.scrape_period)
            for pod in self._pods.values():
                if not pod.pid or pod.meter is None:
                    continue
                pod.meter.read()
                if usage.memory_bytes(pod.pid) > limit:
                    pod.killed_for = _OUT_OF_MEMORY
                    self._signal(pod, signal.SIGKILL)

    # -- small things ----------------------------------------------------------------------

    def _folder(self, uid: str, inner: str = "") -> Path:
        folder = self._layout.pods / uid / inner
        if inner:
            folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _environment(self, pod: _Pod) -> dict[str, str]:
        declared = pod.obj["spec"]["containers"][0].get("env") or []
        return {
            **self._neighbours.environment,
            "HOSTNAME": pod.obj["metadata"]["name"],
            **{item["name"]: item.get("value", "") for item in declared},
        }


def _words(image: str) -> list[str]:
    """`registry:5000/claude-enhancer:5.1` → [`claude-enhancer`, `5.1`]."""
    return image.rpartition("/")[2].split(":")
