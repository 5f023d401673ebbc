"""The figures of a lab as its clients see them, and how they come from what was counted."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from engine.production.counts import Slice, increase, total


class VersionFigures(msgspec.Struct, frozen=True, kw_only=True):
    """What users saw of one version. Latencies are milliseconds, None without an answer."""

    requests: int
    failures: int
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What the load has counted since it began."""

    seconds: float
    requests: int
    requests_per_second: float
    failures: int
    reasons: dict[str, int]
    """Why requests failed → how many."""
    paused: int
    """Writes refused while writes were paused; not failures."""
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    versions: dict[str, VersionFigures]
    """Version → its share; `unknown` where no pod answered."""
    entrances: dict[str, dict[str, int]]
    """Entrance → version → requests."""
    sessions: int
    """Users who are signed in."""
    sessions_lost: int
    workflow_jumps: int
    """Workflows found in another phase than the one after their last."""
    writes_acknowledged: int
    writes_lost: int | None
    """Acknowledged orders that are not in the database; None if that was not asked for."""


def make_figures(
    slices: Iterable[Slice], seconds: float, sessions: int, writes_lost: int | None
) -> Figures:
    """The figures that these counts add up to."""
    counted = list(slices)
    everything = total(counted)
    entrances: dict[str, dict[str, int]] = {}
    for each in counted:
        increase(entrances.setdefault(each.entrance, {}), each.version, each.requests)
    versions = sorted({each.version for each in counted})
    return Figures(
        seconds=round(seconds, 3),
        requests=everything.requests,
        requests_per_second=round(everything.requests / max(seconds, 0.1), 1),
        failures=everything.failed,
        reasons=everything.failures,
        paused=everything.paused,
        p50_ms=_milliseconds(everything, 0.50),
        p95_ms=_milliseconds(everything, 0.95),
        p99_ms=_milliseconds(everything, 0.99),
        versions={
            version: _of_version(total(each for each in counted if each.version == version))
            for version in versions
        },
        entrances=entrances,
        sessions=sessions,
        sessions_lost=everything.sessions_lost,
        workflow_jumps=everything.workflow_jumps,
        writes_acknowledged=everything.writes,
        writes_lost=writes_lost,
    )


def _of_version(counts: Slice) -> VersionFigures:
    return VersionFigures(
        requests=counts.requests,
        failures=counts.failed,
        p50_ms=_milliseconds(counts, 0.50),
        p95_ms=_milliseconds(counts, 0.95),
        p99_ms=_milliseconds(counts, 0.99),
    )


def _milliseconds(counts: Slice, share: float) -> float | None:
    seconds = counts.percentile(share)
    return None if seconds is None else round(1000 * seconds, 2)
