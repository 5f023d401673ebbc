"""What the load counts: slices of a tenth of a second that can be added up to any window.

Latencies are kept in buckets that are 4 % wide, so a percentile over any stretch of time comes
from adding small tables, and is right to within 2 %.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TypeVar

import msgspec

_Key = TypeVar("_Key", str, int)

_WIDTH = math.log(1.04)
_SMALLEST = 1e-5  # seconds

UNKNOWN = "unknown"
"""Version of an answer that no pod gave."""


def bucket(seconds: float) -> int:
    """The number of the bucket for a latency."""
    return max(0, math.ceil(math.log(max(seconds, _SMALLEST) / _SMALLEST) / _WIDTH))


def latency(number: int) -> float:
    """Seconds in the middle of a bucket."""
    return _SMALLEST * math.exp((number - 0.5) * _WIDTH)


def increase(counts: dict[_Key, int], key: _Key, by: int = 1) -> None:
    """Count one more, or some more, under this key."""
    counts[key] = counts.get(key, 0) + by


class Slice(msgspec.Struct):
    """Counts of one version through one entrance over some stretch of time."""

    entrance: str
    version: str
    requests: int = 0
    failures: dict[str, int] = msgspec.field(default_factory=dict)
    """Reason → number."""
    latencies: dict[int, int] = msgspec.field(default_factory=dict)
    """Bucket → number, of every request that was answered."""
    satisfied: float = 0.0
    """Answered well within half a second 1, within two seconds 0.5, else 0: as Apdex does."""
    workflows: int = 0
    workflow_errors: int = 0
    workflow_jumps: int = 0
    """Transitions that did not lead to the phase after the last one known."""
    agent_failures: int = 0
    paused: int = 0
    """Writes refused because writes are paused; not failures."""
    sessions_lost: int = 0
    writes: int = 0
    """Orders that were acknowledged."""
    bytes: int = 0

    @property
    def failed(self) -> int:
        """Requests that failed, for whatever reason."""
        return sum(self.failures.values())

    def add(self, other: Slice) -> None:
        """Count the other's figures in."""
        self.requests += other.requests
        for reason, number in other.failures.items():
            increase(self.failures, reason, number)
        for place, number in other.latencies.items():
            increase(self.latencies, place, number)
        self.satisfied += other.satisfied
        self.workflows += other.workflows
        self.workflow_errors += other.workflow_errors
        self.workflow_jumps += other.workflow_jumps
        self.agent_failures += other.agent_failures
        self.paused += other.paused
        self.sessions_lost += other.sessions_lost
        self.writes += other.writes
        self.bytes += other.bytes

    def percentile(self, share: float) -> float | None:
        """Latency in seconds that this share of the requests stayed within; None without any."""
        total = sum(self.latencies.values())
        if not total:
            return None
        rest = math.ceil(total * share)
        for number in sorted(self.latencies):
            rest -= self.latencies[number]
            if rest <= 0:
                return latency(number)
        raise AssertionError("a share is at most 1")


def total(slices: Iterable[Slice], version: str = "all") -> Slice:
    """All slices in one, of whatever entrance."""
    result = Slice("all", version)
    for each in slices:
        result.add(each)
    return result


def ranges(numbers: Iterable[int]) -> list[tuple[int, int]]:
    """Numbers as sorted first-and-last pairs."""
    result: list[tuple[int, int]] = []
    for number in sorted(numbers):
        if result and result[-1][1] + 1 == number:
            result[-1] = (result[-1][0], number)
        else:
            result.append((number, number))
    return result
