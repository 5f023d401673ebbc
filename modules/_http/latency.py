"""How fast answers came: figures made of samples."""

from __future__ import annotations

from collections.abc import Sequence


def percentile(ordered: Sequence[float], share: float) -> float:
    """The nearest-rank percentile of values in ascending order; `share` from 0 to 1."""
    rank = max(1, -(-len(ordered) * round(share * 10000) // 10000))
    return ordered[rank - 1]


def latencies(samples: Sequence[float]) -> dict[str, float]:
    """p50, p95, p99 and max of durations in seconds, as milliseconds; {} of none."""
    if not samples:
        return {}
    ordered = sorted(samples)
    figures = {f"p{share}": percentile(ordered, share / 100) for share in (50, 95, 99)}
    figures["max"] = ordered[-1]
    return {name: round(value * 1000, 3) for name, value in figures.items()}
