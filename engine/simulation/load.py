"""What users do and meet, as flows: so many requests a second that fare so and so.

Between two changes of the world every flow is constant, so what happened during any stretch of
time is a matter of multiplying; no request is ever simulated by itself. A `View` of any window has
the form that the lab's monitoring has, so that a metric means the same in both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from statistics import NormalDist

import msgspec

from engine.production.counts import UNKNOWN, Slice, bucket
from engine.production.metrics import ALL, PodSample, View

KEEP = 3600.0
"""Seconds that flows are remembered: the longest window that anybody asks for."""

_MEDIAN, _SPREAD = 0.06, 0.4
"""Latency of a healthy version: log-normal around 60 ms, so that P95 is 116 ms and P99 152 ms."""

_POINTS = tuple(
    _MEDIAN * math.exp(_SPREAD * NormalDist().inv_cdf((number + 0.5) / 50)) for number in range(50)
)
"""Fifty latencies in seconds, each as frequent as the others."""

_SATISFIED, _TOLERATED = 0.5, 2.0
"""Seconds within which a user is satisfied, or not quite (Apdex)."""

WORKFLOWS, WRITES, AGENT_CALLS = 0.30, 0.25, 0.10
"""Shares of requests that move a workflow on, order, and ask for the agents: the lab's users."""

BYTES = 2_000
"""Of an answer, on average."""


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


class _Stretch(msgspec.Struct):
    """Flows from one change to the next."""

    began: float
    ended: float
    flows: Sequence[Flow]


class Load:
    """Everything that users met so far.

    Args:
        now: the time, in seconds.
        pods: what monitoring sees of the pods now.
        disk: how full the database's volume is, in percent.
    """

    def __init__(
        self,
        now: Callable[[], float],
        pods: Callable[[], list[PodSample]],
        disk: Callable[[], float],
    ) -> None:
        self._now = now
        self._pods = pods
        self._disk = disk
        self._began = now()
        self._stretches: list[_Stretch] = []
        self._earlier: dict[str, Slice] = {}
        """By version: what happened before the stretches that are remembered."""

    def change(self, flows: Sequence[Flow]) -> None:
        """From now on it is these flows."""
        now = self._now()
        if self._stretches:
            last = self._stretches[-1]
            if last.flows == flows:
                return
            last.ended = now
            if last.ended == last.began:
                self._stretches.pop()
        self._stretches.append(_Stretch(now, math.inf, tuple(flows)))
        while len(self._stretches) > 1 and self._stretches[0].ended < now - KEEP:
            self._forget(self._stretches.pop(0))

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

    def view(self, version: str, window: float) -> View:
        """What was seen of a version (or `all`) during the last `window` seconds."""
        now = self._now()
        counts, ever = Slice(ALL, version), Slice(ALL, version)
        for stretch in self._stretches:
            ended = min(stretch.ended, now)
            _add(ever, stretch.flows, version, ended - stretch.began)
            _add(counts, stretch.flows, version, ended - max(stretch.began, now - window))
        for each, earlier in self._earlier.items():
            if version in (ALL, each):
                ever.add(earlier)
        return View(
            counts=counts,
            ever=ever,
            seconds=min(window, now - self._began),
            pods=[pod for pod in self._pods() if version in (ALL, pod.version)],
            disk=self._disk() if version == ALL else None,
        )

    def acknowledged(self) -> int:
        """How many orders users were promised so far."""
        now = self._now()
        remembered = sum(
            flow.rate * WRITES * (1 - flow.failing) * (min(stretch.ended, now) - stretch.began)
            for stretch in self._stretches
            for flow in stretch.flows
            if not flow.paused
        )
        return int(remembered) + sum(earlier.writes for earlier in self._earlier.values())

    def failed_since(self, moment: float) -> float:
        """How many requests failed since then."""
        return self.view(ALL, self._now() - moment).counts.failed

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

    def _forget(self, stretch: _Stretch) -> None:
        for version in {flow.version for flow in stretch.flows}:
            earlier = self._earlier.setdefault(version, Slice(ALL, version))
            _add(earlier, stretch.flows, version, stretch.ended - stretch.began)


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


def _answers(counts: Slice, flow: Flow, answered: int, failed: int) -> None:
    """Latencies of the answers, and how many of the users were pleased."""
    well = max(0, answered - failed)
    for number, point in enumerate(_POINTS):
        latency = point + flow.delay
        place = bucket(latency)
        several = _part(answered, number)
        counts.latencies[place] = counts.latencies.get(place, 0) + several
        pleased = 1.0 if latency <= _SATISFIED else 0.5 if latency <= _TOLERATED else 0.0
        counts.satisfied += pleased * _part(well, number)


def _part(total: int, number: int) -> int:
    """How many of `total` fall to one point, so that all points together have them all."""
    points = len(_POINTS)
    return total * (number + 1) // points - total * number // points
