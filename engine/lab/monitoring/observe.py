"""What the lab's monitoring knows: the load's counts over time, and the pods' own metrics.

`Observations` collects; `measure` turns a stretch of it into one named value together with the
number of samples behind it. Where there is nothing to tell, there is no value: never a 0.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from engine.lab.cluster.node.runtime import Usage
from engine.lab.monitoring.tally import Slice, total

ALL = "all"
_KEEP_SECONDS = 900.0
_NETWORK_BYTES = 125_000_000 / 8  # per second: a link of 125 Mbit/s is the metric network's 100 %
_DISK_BYTES = 1 << 30  # the database's volume: the metric disk's 100 %
_DISK_AGE = 10.0


@dataclass(frozen=True)
class PodSample:
    """One pod as monitoring saw it last."""

    pod: str
    version: str
    at: float
    """On the monotonic clock."""
    metrics: dict[str, float]
    usage: Usage
    cpu_limit: int
    memory_limit: int


@dataclass(frozen=True)
class Value:
    """A metric's value and the number of samples that it rests on."""

    value: float
    samples: int


@dataclass(frozen=True)
class View:
    """What was seen of one version (or all) during a window that ends now."""

    counts: Slice
    """Within the window."""
    ever: Slice
    """Since the start of the load."""
    seconds: float
    """How much of the window has been observed."""
    pods: list[PodSample]
    disk: float | None


class Observations:
    """Everything observed so far, added up on demand."""

    def __init__(self, data_folder: Path, sample_age: float) -> None:
        self._data_folder = data_folder
        self._sample_age = sample_age
        self._slices: deque[tuple[float, list[Slice]]] = deque()
        self._ever: dict[tuple[str, str], Slice] = {}
        self._pods: dict[str, PodSample] = {}
        self._began = time.monotonic()
        self._disk: tuple[float, float] | None = None

    def restart(self) -> None:
        """Forget what the load counted."""
        self._slices.clear()
        self._ever.clear()
        self._began = time.monotonic()

    def add_slices(self, raw: list[Any]) -> None:
        """Take in what the load reports."""
        now = time.monotonic()
        slices = msgspec.convert(raw, list[Slice], str_keys=True)
        self._slices.append((now, slices))
        while self._slices and self._slices[0][0] < now - _KEEP_SECONDS:
            self._slices.popleft()
        for each in slices:
            key = (each.entrance, each.version)
            self._ever.setdefault(key, Slice(*key)).add(each)

    def add_pod(self, sample: PodSample) -> None:
        """Take in what a pod's metrics port said."""
        self._pods[sample.pod] = sample

    def keep_pods(self, pods: Iterable[str]) -> None:
        """Forget what was sampled from all others: they are gone."""
        for pod in self._pods.keys() - set(pods):
            del self._pods[pod]

    def versions(self) -> list[str]:
        """Every version that has been seen, and `all`."""
        seen = {version for _, version in self._ever} | {p.version for p in self._fresh_pods()}
        return [*sorted(seen), ALL]

    def ever(self) -> list[Slice]:
        """Counts since the start of the load, by entrance and version."""
        return list(self._ever.values())

    def view(self, version: str, window: float) -> View:
        """What was seen of a version during the last `window` seconds."""
        now = time.monotonic()
        recent: list[Slice] = []
        for at, slices in reversed(self._slices):
            if at < now - window:
                break
            recent += slices
        return View(
            counts=total(_of(version, recent), version),
            ever=total(_of(version, self._ever.values()), version),
            seconds=min(window, now - self._began),
            pods=[p for p in self._fresh_pods() if version in (ALL, p.version)],
            disk=self._disk_share() if version == ALL else None,
        )

    def _fresh_pods(self) -> list[PodSample]:
        oldest = time.monotonic() - self._sample_age
        self._pods = {name: pod for name, pod in self._pods.items() if pod.at >= oldest}
        return list(self._pods.values())

    def _disk_share(self) -> float:
        now = time.monotonic()
        if self._disk is None or now - self._disk[0] > _DISK_AGE:
            self._disk = (now, 100 * _folder_bytes(self._data_folder) / _DISK_BYTES)
        return self._disk[1]


def _of(version: str, slices: Iterable[Slice]) -> Iterable[Slice]:
    return (each for each in slices if version in (ALL, each.version))


def _folder_bytes(folder: Path) -> int:
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                size += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118 - a thousand files
            except OSError:
                continue
    return size


# -- metrics by name -------------------------------------------------------------------------


def _share(part: float, whole: float) -> Value | None:
    return Value(100 * part / whole, round(whole)) if whole else None


def _answered(view: View) -> int:
    """Requests that count for availability: a write refused during a pause does not."""
    return view.counts.requests - view.counts.paused


def _percentile(share: float) -> Callable[[View], Value | None]:
    def measure_it(view: View) -> Value | None:
        seconds = view.counts.percentile(share)
        if seconds is None:
            return None
        return Value(1000 * seconds, sum(view.counts.latencies.values()))

    return measure_it


def _counted(field: Callable[[Slice], float]) -> Callable[[View], Value | None]:
    """A number of things that happened in the window, if anything could have happened."""

    def measure_it(view: View) -> Value | None:
        requests = view.counts.requests
        return Value(field(view.counts), requests) if requests else None

    return measure_it


def _ever(field: Callable[[Slice], float]) -> Callable[[View], Value | None]:
    """A number of things that happened since the start of the load."""

    def measure_it(view: View) -> Value | None:
        requests = view.ever.requests
        return Value(field(view.ever), requests) if requests else None

    return measure_it


def _of_pods(
    reading: Callable[[PodSample], float | None], fold: Callable[[list[float]], float]
) -> Callable[[View], Value | None]:
    def measure_it(view: View) -> Value | None:
        values = [value for pod in view.pods if (value := reading(pod)) is not None]
        return Value(fold(values), len(values)) if values else None

    return measure_it


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _rate(view: View) -> Value | None:
    requests = view.counts.requests
    return Value(requests / max(view.seconds, 0.1), requests) if requests else None


def _network(view: View) -> Value | None:
    if not view.counts.requests:
        return None
    per_second = view.counts.bytes / max(view.seconds, 0.1)
    return Value(100 * per_second / _NETWORK_BYTES, view.counts.requests)


def _agent_availability(view: View) -> Value | None:
    active = sum(pod.metrics.get("ce_agents_active", 0) for pod in view.pods)
    expected = sum(pod.metrics.get("ce_agents_total", 0) for pod in view.pods)
    return Value(100 * active / expected, len(view.pods)) if expected else None


METRICS: dict[str, Callable[[View], Value | None]] = {
    "error_rate": lambda view: _share(view.counts.failed, _answered(view)),
    "availability": lambda view: _share(_answered(view) - view.counts.failed, _answered(view)),
    "p50_ms": _percentile(0.50),
    "p95_ms": _percentile(0.95),
    "p99_ms": _percentile(0.99),
    "requests_per_second": _rate,
    "requests_total": _ever(lambda counts: counts.requests),
    "failures_total": _ever(lambda counts: counts.failed),
    "sessions_lost": _ever(lambda counts: counts.sessions_lost),
    "writes_acknowledged": _ever(lambda counts: counts.writes),
    "user_satisfaction": lambda view: _share(view.counts.satisfied, _answered(view)),
    "agents_total": _of_pods(lambda pod: pod.metrics.get("ce_agents_total"), max),
    "agents_active": _of_pods(lambda pod: pod.metrics.get("ce_agents_active"), min),
    "agent_availability": _agent_availability,
    "agent_failures": _counted(lambda counts: counts.agent_failures),
    "workflow_success": lambda view: _share(
        view.counts.workflows - view.counts.workflow_errors, view.counts.workflows
    ),
    "workflow_errors": _counted(lambda counts: counts.workflow_errors),
    "workflow_interruptions": _counted(lambda counts: counts.workflow_jumps),
    "cpu": _of_pods(lambda pod: 100 * pod.usage.cpu / pod.cpu_limit, _mean),
    "memory": _of_pods(lambda pod: 100 * pod.usage.memory / pod.memory_limit, max),
    "disk": lambda view: None if view.disk is None else Value(view.disk, 1),
    "network": _network,
}
"""Name → how it is measured. Shares are percent, latencies milliseconds."""


def measure(observations: Observations, name: str, version: str, window: float) -> Value | None:
    """A metric of a version (or `all`) over the last `window` seconds, or None without data.

    Raises KeyError for a name that is no metric.
    """
    return METRICS[name](observations.view(version, window))
