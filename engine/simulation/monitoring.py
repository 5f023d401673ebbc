"""What the inventory's metrics are called in the model, and how some come from others."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from engine.errors import Unreachable
from engine.production.counts import Slice
from engine.production.metrics import ALL, METRICS, Measurement, PodSample, View
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


def _coordination(view: View) -> Measurement | None:
    requests = view.counts.requests
    return (
        Measurement(100 - 100 * view.counts.agent_failures / requests, requests)
        if requests
        else None
    )


def _interruption(view: View) -> Measurement | None:
    workflows = view.counts.workflows
    return (
        Measurement(100 * view.counts.workflow_jumps / workflows, workflows) if workflows else None
    )


def _transition(view: View) -> Measurement | None:
    value = _interruption(view)
    return None if value is None else Measurement(100 - value.value, value.samples)


_DERIVED: dict[str, Callable[[View], Measurement | None]] = {
    "agent_coordination": _coordination,
    "workflow_interruption": _interruption,
    "phase_transition": _transition,
}


_OF_PODS = "agents_total agents_active agents_loaded agent_availability cpu memory disk"
_SINCE_EVER = "requests_total failures_total sessions_lost writes_acknowledged"
_KINDS = dict.fromkeys(_OF_PODS.split(), "pods") | dict.fromkeys(_SINCE_EVER.split(), "ever")
"""What a metric looks at, if not at what users met during a window."""

_OF_RATES = frozenset(("requests_per_second", "network"))


def known_metrics() -> list[str]:
    """Names of the inventory that the model gives a meaning."""
    hidden = set(_OTHER_NAMES.values())
    return sorted({*METRICS, *_OTHER_NAMES, *_DERIVED} - hidden)


def version_of(version: str) -> str:
    """A version as the model knows it: a pattern for every version is `all`."""
    return ALL if version in _EVERY_VERSION else version


class Sight(msgspec.Struct, frozen=True):
    """What monitoring can see of the world beside its users."""

    pods: Callable[[str], list[PodSample]]
    """The pods of a version (or `all`)."""
    disk: Callable[[], float]
    """How full the database's volume is, in percent."""
    leaking: Callable[[], bool]
    """Whether the memory of some pod grows."""


class Monitoring:
    """Measures what the users met; what was seen at one moment is looked up once.

    Args:
        load: what they met.
        sight: what else can be seen.
        moment: the time, with the number of the world's changes before it.
    """

    def __init__(self, load: Load, sight: Sight, moment: Callable[[], Moment]) -> None:
        self.reachable = True
        self.silent = False
        """It answers, but has no data: the scrapes fail."""
        self.constants: dict[str, float] = {}
        """Metrics that the model does not know → what they always are."""
        self._load = load
        self._sight = sight
        self._moment = moment
        self._seen: Moment = (0.0, -1)
        self._views: dict[tuple[str, str, float], View] = {}

    def measure(self, name: str, version: str, window: float) -> Measurement | None:
        """A metric over the last `window` seconds; None without data.

        Raises KeyError for a name without a meaning, Unreachable when nobody answers.
        """
        if not self.reachable:
            raise Unreachable("the monitoring does not answer", hint="is it up?")
        constant = self.constants.get(name)
        measure = _DERIVED.get(name) or METRICS.get(_OTHER_NAMES.get(name, name))
        if measure is None and constant is None:
            raise KeyError(name)
        if self.silent:
            return None
        if constant is not None or measure is None:
            return Measurement(constant or 0.0, 1)
        kind = _KINDS.get(name, "users")
        return measure(self._view(kind, version_of(version), window))

    def lasting(self, name: str, version: str, window: float) -> Callable[[], bool] | None:
        """A test whether a metric is still what it is now; None if it changes by itself."""
        if not self._stays(name, version, window):
            return None
        value, answers = self._value(name, version, window), (self.reachable, self.silent)
        return lambda: (
            answers == (self.reachable, self.silent)
            and self._stays(name, version, window)
            and self._value(name, version, window) == value
        )

    def _value(self, name: str, version: str, window: float) -> float | None:
        measured = self.measure(name, version, window)
        return None if measured is None else measured.value

    def _stays(self, name: str, version: str, window: float) -> bool:
        """Whether a metric stays what it is until flows, pods or faults change.

        What counts since ever never does; what is told of pods does, but for a memory that leaks.
        """
        if self.silent or name in self.constants:
            return True
        kind = _KINDS.get(name, "users")
        if kind == "pods":
            return name != "memory" or not self._sight.leaking()
        if name in _OF_RATES:
            return self._load.is_steady(window)
        return kind == "users" and self._load.is_even(version_of(version), window)

    def _view(self, kind: str, version: str, window: float) -> View:
        moment = self._moment()
        if moment != self._seen:
            self._seen = moment
            self._views.clear()
        view = self._views.get((kind, version, window))
        if view is None:
            view = self._views[kind, version, window] = self._look(kind, version, window)
        return view

    def _look(self, kind: str, version: str, window: float) -> View:
        nothing = Slice(ALL, version)
        return View(
            counts=self._load.counts(version, window) if kind == "users" else nothing,
            ever=self._load.ever(version) if kind == "ever" else nothing,
            seconds=self._load.observed(window),
            pods=self._sight.pods(version) if kind == "pods" else [],
            disk=self._sight.disk() if version == ALL else None,
        )
