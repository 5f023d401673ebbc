"""What becomes of a pod without a process: it starts, gets ready, ends, and obeys its faults.

The lab's application does the same for real (`engine/lab/application/app.py`); here it is told as a
model in the cluster's time, so that a rollout goes in a simulation as it would in the lab.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from engine.production.cluster.runtime import Done, PodReport
from engine.production.cluster.timeline import Timeline, Timer
from engine.production.faults import Fault, Faults
from engine.production.names import APP_LABEL

Report = Callable[[PodReport], None]

OUT_OF_MEMORY = "OOMKilled"
_KILLED, _FAILED = 137, 1


@dataclass(frozen=True, kw_only=True)
class Habits:
    """How long what takes, in seconds of the cluster, and how much memory there is, in MiB."""

    start: float = 2.0
    """From a container's creation to a running process."""
    crash: float = 1.0
    """From the start of a process that is to crash until it does."""
    stop: float = 1.0
    """From SIGTERM to the end."""
    memory: float = 200.0
    """What a process uses that does not leak."""
    memory_limit: float = 4096.0


@dataclass
class _Process:
    """A pod that was started and has not been stopped."""

    pod: dict[str, Any]
    report: Report
    version: str
    address: str
    runs: bool = False
    ready: bool = False
    leaked: float = 0.0
    """MiB until the moment `counted`."""
    counted: float = 0.0
    leak: float = 0.0
    """MiB a second since then."""
    next_step: Timer | None = None

    def plan(self, timer: Timer | None) -> None:
        """Have this happen next, instead of what was planned before."""
        if self.next_step is not None:
            self.next_step.cancel()
        self.next_step = timer


class ModelPods:
    """A `PodRuntime` of pods that are only told of.

    Args:
        timeline: the cluster's time.
        faults: what is wrong with the pods of a version, now and later.
        version_of: an image → the version in it; None for one that cannot be pulled.
        habits: how long what takes.
    """

    def __init__(
        self,
        timeline: Timeline,
        faults: Faults,
        version_of: Callable[[str], str | None],
        habits: Habits | None = None,
    ) -> None:
        self._time = timeline
        self._faults = faults
        self._version_of = version_of
        self._habits = habits or Habits()
        self._processes: dict[str, _Process] = {}
        self._addresses = 0
        faults.subscribe(self._follow)

    def start(self, pod: dict[str, Any], report: Report) -> None:
        """Begin a pod's life, or a new try of it at the address that it has."""
        uid = pod["metadata"]["uid"]
        before = self._processes.get(uid)
        if before is not None:
            before.plan(None)
        image = pod["spec"]["containers"][0]["image"]
        version = self._version_of(image)
        address = before.address if before is not None else self._take_address()
        process = _Process(pod, report, version or "", address)
        self._processes[uid] = process
        if version is None or self._fault(process).bad_image:
            missing = PodReport("image_pull_error", message=f'"{image}": not found')
            process.plan(self._time.soon(lambda: report(missing)))
        else:
            process.plan(self._time.later(self._habits.start, lambda: self._run(process)))

    def stop(self, uid: str, grace_seconds: float, done: Done) -> None:
        """End a pod: it needs its time, but no more than it is given."""
        process = self._processes.pop(uid, None)
        if process is None or not process.runs:
            self._time.soon(done)
            return
        process.plan(None)
        process.runs = False
        self._time.later(min(self._habits.stop, grace_seconds), done)

    def run_hook(self, uid: str, container: str, command: list[str], done: Done) -> None:
        """A preStop command: over at once."""
        self._time.soon(done)

    def memory(self, uid: str) -> float:
        """MiB that a pod's process uses now; 0 without one."""
        process = self._processes.get(uid)
        if process is None or not process.runs:
            return 0.0
        return self._habits.memory + process.leaked + self._leaked_since(process)

    def _take_address(self) -> str:
        self._addresses += 1
        return f"10.244.{self._addresses >> 8 & 255}.{self._addresses & 255}"

    def _fault(self, process: _Process) -> Fault:
        labels = process.pod["metadata"].get("labels") or {}
        if labels.get(APP_LABEL[0]) != APP_LABEL[1]:
            return Fault()
        return self._faults.of(process.version)

    # -- a process --------------------------------------------------------------------------

    def _run(self, process: _Process) -> None:
        process.runs = True
        self._settle_memory(process)
        process.report(PodReport("running", ip=process.address))
        self._plan(process, _first_probe(process.pod))

    def _plan(self, process: _Process, until_probe: float) -> None:
        """What happens to it next if no fault changes: a crash, its readiness, a full memory."""
        fault = self._fault(process)
        if fault.crash:
            process.plan(
                self._time.later(self._habits.crash, lambda: self._end(process, _FAILED, ""))
            )
        elif process.ready == fault.never_ready:
            process.plan(self._time.later(until_probe, lambda: self._probe(process)))
        elif fault.memory_growth:
            room = self._habits.memory_limit - self._habits.memory - process.leaked
            process.plan(
                self._time.later(
                    max(0.0, room) / fault.memory_growth,
                    lambda: self._end(process, _KILLED, OUT_OF_MEMORY),
                )
            )
        else:
            process.plan(None)

    def _probe(self, process: _Process) -> None:
        process.ready = not self._fault(process).never_ready
        process.report(PodReport("running", ready=process.ready, ip=process.address))
        if process.runs:
            self._settle_memory(process)
            self._plan(process, _probe_period(process.pod))

    def _end(self, process: _Process, status: int, why: str) -> None:
        process.runs = process.ready = False
        process.plan(None)
        process.leaked = process.leak = 0.0
        process.report(PodReport("crashed", ip=process.address, exit_code=status, message=why))

    # -- faults -------------------------------------------------------------------------------

    def _follow(self) -> None:
        """The faults have changed: running processes obey at once, later ones at their start."""
        for process in list(self._processes.values()):
            if not process.runs:
                continue
            if self._fault(process).crash:
                self._end(process, _FAILED, "")
            else:
                self._settle_memory(process)
                self._plan(process, _probe_period(process.pod))

    def _leaked_since(self, process: _Process) -> float:
        return (self._time.elapsed() - process.counted) * process.leak

    def _settle_memory(self, process: _Process) -> None:
        """Book what was leaked at the old rate, and go on with the new one."""
        process.leaked += self._leaked_since(process)
        process.counted = self._time.elapsed()
        process.leak = self._fault(process).memory_growth


def _readiness(pod: dict[str, Any]) -> dict[str, Any]:
    return pod["spec"]["containers"][0].get("readinessProbe") or {}


def _first_probe(pod: dict[str, Any]) -> float:
    return float(_readiness(pod).get("initialDelaySeconds", 0))


def _probe_period(pod: dict[str, Any]) -> float:
    return float(_readiness(pod).get("periodSeconds", 10))
