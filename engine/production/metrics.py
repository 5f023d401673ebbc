"""What a metric means: a stretch of observations turned into one named value.

Each value comes with the number of samples behind it. Where there is nothing to tell, there is no
value: never a 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from engine.production.cluster.runtime import Usage
from engine.production.counts import Slice

ALL = "all"
NETWORK_BYTES = 125_000_000 / 8
"""Per second: a link of 125 Mbit/s is the 100 % of the metric `network`."""


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
class Measurement:
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


def _share(part: float, whole: float) -> Measurement | None:
    return Measurement(100 * part / whole, round(whole)) if whole else None


def _answered(view: View) -> int:
    """Requests that count for availability: a write refused during a pause does not."""
    return view.counts.requests - view.counts.paused


def _percentile(share: float) -> Callable[[View], Measurement | None]:
    def measure_it(view: View) -> Measurement | None:
        seconds = view.counts.percentile(share)
        if seconds is None:
            return None
        return Measurement(1000 * seconds, sum(view.counts.latencies.values()))

    return measure_it


def _counted(field: Callable[[Slice], float]) -> Callable[[View], Measurement | None]:
    """A number of things that happened in the window, if anything could have happened."""

    def measure_it(view: View) -> Measurement | None:
        requests = view.counts.requests
        return Measurement(field(view.counts), requests) if requests else None

    return measure_it


def _ever(field: Callable[[Slice], float]) -> Callable[[View], Measurement | None]:
    """A number of things that happened since the start of the load."""

    def measure_it(view: View) -> Measurement | None:
        requests = view.ever.requests
        return Measurement(field(view.ever), requests) if requests else None

    return measure_it


def _of_pods(
    reading: Callable[[PodSample], float | None], fold: Callable[[list[float]], float]
) -> Callable[[View], Measurement | None]:
    def measure_it(view: View) -> Measurement | None:
        values = [value for pod in view.pods if (value := reading(pod)) is not None]
        return Measurement(fold(values), len(values)) if values else None

    return measure_it


def _mean(values: list[float]) -> float:
    return sum(values) / len(values)


def _rate(view: View) -> Measurement | None:
    requests = view.counts.requests
    return Measurement(requests / max(view.seconds, 0.1), requests) if requests else None


def _network(view: View) -> Measurement | None:
    if not view.counts.requests:
        return None
    per_second = view.counts.bytes / max(view.seconds, 0.1)
    return Measurement(100 * per_second / NETWORK_BYTES, view.counts.requests)


def _agent_availability(view: View) -> Measurement | None:
    active = sum(pod.metrics.get("ce_agents_active", 0) for pod in view.pods)
    expected = sum(pod.metrics.get("ce_agents_total", 0) for pod in view.pods)
    return Measurement(100 * active / expected, len(view.pods)) if expected else None


METRICS: dict[str, Callable[[View], Measurement | None]] = {
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
    "disk": lambda view: None if view.disk is None else Measurement(view.disk, 1),
    "network": _network,
}
"""Name → how it is measured. Shares are percent, latencies milliseconds."""
