"""What the inventory's metrics are called in the model, and how some come from others."""

from __future__ import annotations

from collections.abc import Callable

from engine.production.metrics import ALL, METRICS, Value, View
from engine.simulation.load import Load

Moment = tuple[float, int]
"""Time, and how many changes of the world there were before."""

_EVERY_VERSION = ("", ".*", "all")

_OTHER_NAMES = {
    "p50": "p50_ms",
    "p95": "p95_ms",
    "p99": "p99_ms",
    "agents_loaded": "agents_active",
    "satisfaction": "user_satisfaction",
    "task_completion": "workflow_success",
}


def _coordination(view: View) -> Value | None:
    requests = view.counts.requests
    return Value(100 - 100 * view.counts.agent_failures / requests, requests) if requests else None


def _interruption(view: View) -> Value | None:
    workflows = view.counts.workflows
    return Value(100 * view.counts.workflow_jumps / workflows, workflows) if workflows else None


def _transition(view: View) -> Value | None:
    value = _interruption(view)
    return None if value is None else Value(100 - value.value, value.samples)


_DERIVED: dict[str, Callable[[View], Value | None]] = {
    "agent_coordination": _coordination,
    "workflow_interruption": _interruption,
    "phase_transition": _transition,
}


_OF_PODS = frozenset(
    (
        "agents_total",
        "agents_active",
        "agents_loaded",
        "agent_availability",
        "cpu",
        "memory",
        "disk",
    )
)
_OF_RATES = frozenset(("requests_per_second", "network"))
_SINCE_EVER = frozenset(
    ("requests_total", "failures_total", "sessions_lost", "writes_acknowledged")
)


def known_metrics() -> list[str]:
    """Names of the inventory that the model gives a meaning."""
    hidden = set(_OTHER_NAMES.values())
    return sorted({*METRICS, *_OTHER_NAMES, *_DERIVED} - hidden)


def version_of(version: str) -> str:
    """A version as the model knows it: a pattern for every version is `all`."""
    return ALL if version in _EVERY_VERSION else version


class Monitoring:
    """Measures what the users met; what was seen at one moment is looked up once.

    Args:
        load: what they met.
        moment: the time, with the number of the world's changes before it.
        leaking: whether the memory of some pod grows.
    """

    def __init__(
        self, load: Load, moment: Callable[[], Moment], leaking: Callable[[], bool]
    ) -> None:
        self._load = load
        self._moment = moment
        self._leaking = leaking
        self._seen: Moment = (0.0, -1)
        self._views: dict[tuple[str, float], View] = {}

    def measure(self, name: str, version: str, window: float) -> Value | None:
        """A metric over the last `window` seconds; None without data.

        Raises KeyError for a name without a meaning.
        """
        measure = _DERIVED.get(name) or METRICS.get(_OTHER_NAMES.get(name, name))
        if measure is None:
            raise KeyError(name)
        return measure(self._view(version_of(version), window))

    def lasting(self, name: str, version: str, window: float) -> Callable[[], bool] | None:
        """A test whether a metric is still what it is now; None if it changes by itself."""
        if not self._stays(name, version, window):
            return None
        value = self._value(name, version, window)
        return lambda: (
            self._stays(name, version, window) and self._value(name, version, window) == value
        )

    def _value(self, name: str, version: str, window: float) -> float | None:
        measured = self.measure(name, version, window)
        return None if measured is None else measured.value

    def _stays(self, name: str, version: str, window: float) -> bool:
        """Whether a metric stays what it is until flows, pods or faults change.

        What counts since ever never does; what is told of pods does, but for a memory that leaks.
        """
        if name in _SINCE_EVER or (name == "memory" and self._leaking()):
            return False
        if name in _OF_RATES:
            return self._load.is_steady(window)
        return name in _OF_PODS or self._load.is_even(version_of(version), window)

    def _view(self, version: str, window: float) -> View:
        moment = self._moment()
        if moment != self._seen:
            self._seen = moment
            self._views.clear()
        view = self._views.get((version, window))
        if view is None:
            view = self._views[version, window] = self._load.view(version, window)
        return view
