"""What users do and meet, as flows: so many requests a second that fare so and so.

Between two changes of the world every flow is constant, so what happened during any stretch of
time is a matter of multiplying; no request is ever simulated by itself. A `View` of any window has
the form that the lab's monitoring has, so that a metric means the same in both.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

import msgspec

from engine.production.counts import UNKNOWN, Slice, bucket
from engine.production.metrics import ALL

_T = TypeVar("_T")

KEEP = 3600.0
"""Seconds that flows are remembered: the longest window that anybody asks for."""

_MEDIAN, _SPREAD = 0.06, 0.4
"""Latency of a healthy version: log-normal around 60 ms, so that P95 is 116 ms and P99 152 ms."""


def _deviation(share: float) -> float:
    """Below how many standard deviations a share of a normal distribution lies, by halving; the
    library's own takes longer to import than this to compute."""
    low, high = -6.0, 6.0
    for _ in range(40):
        middle = (low + high) / 2
        below = (1 + math.erf(middle / math.sqrt(2))) / 2
        low, high = (middle, high) if below < share else (low, middle)
    return (low + high) / 2


_POINTS = tuple(
    _MEDIAN * math.exp(_SPREAD * _deviation((number + 0.5) / 50)) for number in range(50)
)
"""Fifty latencies in seconds, each as frequent as the others."""

_SATISFIED, _TOLERATED = 0.5, 2.0
"""Seconds within which a user is satisfied, or not quite (Apdex)."""

WORKFLOWS, WRITES, AGENT_CALLS = 0.30, 0.25, 0.10
"""Shares of requests that move a workflow on, order, and ask for the agents: the lab's users."""

BYTES = 2_000
"""Of an answer, on average."""


class Fare(NamedTuple):
    """How the requests of a flow fare: its shares, and whether anybody answers."""

    failing: float
    reason: str
    delay: float
    workflow_errors: float
    agents_down: float
    paused: bool
    unanswered: bool

    @property
    def is_well(self) -> bool:
        """Nothing of it fails, so that also the number of failures stays what it is: none."""
        return not (self.failing or self.workflow_errors or self.agents_down or self.paused)


class Flow(msgspec.Struct, frozen=True):
    """Requests of one entrance that one version answers (or nobody)."""

    entrance: str
    version: str
    rate: float
    """Requests a second."""
    failing: float = 0.0
    """Share of them that fails, 0 to 1."""
    reason: str = "http_500"
    delay: float = 0.0
    """Seconds that each answer takes longer than it should."""
    workflow_errors: float = 0.0
    """Share of workflow transitions that fail."""
    agents_down: float = 0.0
    """Share of the agents that do not answer."""
    paused: bool = False
    """Writes are refused, and nobody takes that for a failure."""

    @property
    def fare(self) -> Fare:
        """How each of its requests fares, however many they are."""
        return Fare(
            self.failing,
            self.reason,
            self.delay,
            self.workflow_errors,
            self.agents_down,
            self.paused,
            self.version == UNKNOWN,
        )


class _Stretch(msgspec.Struct):
    """Flows from one change to the next."""

    began: float
    ended: float
    flows: Sequence[Flow]


class Load:
    """Everything that users met so far.

    `now` tells the time, in seconds.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._began = now()
        self._stretches: list[_Stretch] = []
        self._earlier: dict[str, Slice] = {}
        """By version, and of `all`: what happened before the stretch that lasts."""

    def change(self, flows: Sequence[Flow]) -> None:
        """From now on it is these flows."""
        now = self._now()
        flows = tuple(flows)
        if self._stretches:
            last = self._stretches[-1]
            if last.flows == flows:
                return
            last.ended = now
            if last.ended == last.began:
                self._stretches.pop()
            else:
                self._sum_up(last)
        self._stretches.append(_Stretch(now, math.inf, flows))
        while len(self._stretches) > 1 and self._stretches[0].ended < now - KEEP:
            self._stretches.pop(0)

    @property
    def flows(self) -> Sequence[Flow]:
        """What flows now."""
        return self._stretches[-1].flows if self._stretches else ()

    def shares(self, entrance: str = "") -> dict[str, float]:
        """Version → percent of the requests (of one entrance) that it answers now; nobody's are
        `unknown`."""
        flows = [flow for flow in self.flows if entrance in ("", flow.entrance)]
        total = sum(flow.rate for flow in flows)
        shares: dict[str, float] = {}
        for flow in flows:
            shares[flow.version] = shares.get(flow.version, 0.0) + flow.rate
        return {version: 100 * rate / total for version, rate in shares.items()} if total else {}

    def counts(self, version: str, window: float) -> Slice:
        """What happened to the requests of a version (or `all`) in the last `window` seconds."""
        now = self._now()
        counts = Slice(ALL, version)
        for stretch in self._within(now - window):
            seconds = min(stretch.ended, now) - max(stretch.began, now - window)
            _add(counts, stretch.flows, version, seconds)
        return counts

    def ever(self, version: str) -> Slice:
        """What happened to the requests of a version (or `all`) so far."""
        counts = Slice(ALL, version)
        if version in self._earlier:
            counts.add(self._earlier[version])
        if self._stretches:
            last = self._stretches[-1]
            _add(counts, last.flows, version, self._now() - last.began)
        return counts

    def observed(self, window: float) -> float:
        """How many seconds of a window there were users."""
        return min(window, self._now() - self._began)

    def is_even(self, version: str, window: float) -> bool:
        """Whether shares and percentiles of a version stay what they are until flows change.

        That is so if flows did not change during the window; or if all its requests fared alike and
        well, and there are not fewer of them now, so that the window will hold no less.
        """
        if self.is_steady(window):
            return True
        stretches = list(self._within(self._now() - window))
        if stretches[0].began == self._now() and _rate(stretches[0].flows, version):
            return False  # of what begins just now nobody has seen anything
        rates = [_rate(stretch.flows, version) for stretch in stretches]
        fares = _fares(stretches, version)
        return len(fares) < 2 and all(fare.is_well for fare in fares) and rates[0] == max(rates)

    def is_steady(self, window: float) -> bool:
        """Whether nothing has changed during the window: every figure of it stays what it is."""
        return not self._stretches or self._now() - self._stretches[-1].began >= window

    def _within(self, moment: float) -> Iterator[_Stretch]:
        """The stretches that lasted beyond a moment, the last one first."""
        for stretch in reversed(self._stretches):
            if stretch.ended <= moment:
                return
            yield stretch

    def acknowledged(self) -> int:
        """How many orders users were promised so far."""
        return self.ever(ALL).writes

    def failed_since(self, moment: float) -> float:
        """How many requests failed since then."""
        return self.counts(ALL, self._now() - moment).failed

    def longest_failing(self, since: float, share: float = 0.01) -> float:
        """The longest stretch in seconds during which more than `share` of the requests failed."""
        longest = length = 0.0
        now = self._now()
        for stretch in self._stretches:
            seconds = min(stretch.ended, now) - max(stretch.began, since)
            if seconds <= 0:
                continue
            total = sum(flow.rate for flow in stretch.flows)
            failing = sum(flow.rate * flow.failing for flow in stretch.flows)
            length = length + seconds if total and failing > share * total else 0.0
            longest = max(longest, length)
        return longest

    def _sum_up(self, stretch: _Stretch) -> None:
        """Remember a stretch that is over."""
        for version in {ALL, *(flow.version for flow in stretch.flows)}:
            earlier = self._earlier.setdefault(version, Slice(ALL, version))
            _add(earlier, stretch.flows, version, stretch.ended - stretch.began)


def _fares(stretches: Iterable[_Stretch], version: str) -> set[Fare]:
    return {
        flow.fare
        for stretch in stretches
        for flow in stretch.flows
        if version in (ALL, flow.version)
    }


def _rate(flows: Iterable[Flow], version: str) -> float:
    return sum(flow.rate for flow in flows if version in (ALL, flow.version))


def _add(counts: Slice, flows: Iterable[Flow], version: str, seconds: float) -> None:
    """Count in what the flows of a version bring in so many seconds."""
    if seconds <= 0:
        return
    for flow in flows:
        if version in (ALL, flow.version):
            _count(counts, flow, flow.rate * seconds)


def _count(counts: Slice, flow: Flow, number: float) -> None:
    requests = round(number)
    failed = round(number * flow.failing)
    workflows = round(number * WORKFLOWS)
    writes = round(number * WRITES)
    agent_failures = round(number * AGENT_CALLS * flow.agents_down)
    workflow_errors = round(workflows * flow.workflow_errors)
    paused = writes if flow.paused else 0
    failed = min(requests, failed + agent_failures + workflow_errors)
    counts.requests += requests
    counts.paused += paused
    counts.bytes += requests * BYTES
    if failed:
        counts.failures[flow.reason] = counts.failures.get(flow.reason, 0) + failed
    counts.workflows += workflows
    counts.workflow_errors += workflow_errors
    counts.agent_failures += agent_failures
    counts.writes += round((writes - paused) * (1 - flow.failing))
    if flow.version != UNKNOWN:
        _answers(counts, flow, requests - paused, failed)


class _Table(NamedTuple):
    """How answers of one delay are distributed: parts of the fifty points, from first to last."""

    buckets: tuple[tuple[int, int, int], ...]
    """(bucket of the latency, its first point, the first point after it)."""
    pleased: tuple[tuple[float, int, int], ...]
    """(how pleased such an answer makes, 0 to 1, first point, first point after it)."""


@functools.lru_cache(maxsize=256)
def _table(delay: float) -> _Table:
    latencies = [point + delay for point in _POINTS]
    pleased = [
        1.0 if each <= _SATISFIED else 0.5 if each <= _TOLERATED else 0.0 for each in latencies
    ]
    return _Table(_runs([bucket(each) for each in latencies]), _runs(pleased))


def _runs(values: Sequence[_T]) -> tuple[tuple[_T, int, int], ...]:
    """Equal neighbours as (value, place of the first, place after the last)."""
    runs = []
    for value, places in itertools.groupby(range(len(values)), key=lambda place: values[place]):
        first, *others = places
        runs.append((value, first, first + len(others) + 1))
    return tuple(runs)


def _answers(counts: Slice, flow: Flow, answered: int, failed: int) -> None:
    """Latencies of the answers, and how many of the users were pleased."""
    well = max(0, answered - failed)
    table = _table(flow.delay)
    latencies, points = counts.latencies, len(_POINTS)
    for place, first, after in table.buckets:
        several = answered * after // points - answered * first // points
        latencies[place] = latencies.get(place, 0) + several
    for pleased, first, after in table.pleased:
        counts.satisfied += pleased * (well * after // points - well * first // points)
