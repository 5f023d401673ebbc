"""Values as people write them (``500ms``, ``0.1 %``, ``< 0.1``), and figures made of samples."""

from __future__ import annotations

import re
from collections.abc import Sequence

from engine.module_api import Refused

_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(text: str) -> float:
    """``90s``, ``1h30m`` or ``250ms`` in seconds; Refused where the unit is missing."""
    compact = text.replace(" ", "")
    parts = _DURATION.findall(compact)
    if not parts or "".join(number + unit for number, unit in parts) != compact:
        raise Refused(f"{text!r} is not a duration", hint="write it like 500ms, 30s or 1h30m")
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def milliseconds(value: object) -> float:
    """A duration with its unit, in milliseconds; a bare number could mean anything: Refused."""
    if not isinstance(value, str):
        raise Refused(f"{value!r} lacks its unit", hint=f"write {value}ms or {value}s")
    return seconds(value) * 1000


def percent(value: object) -> float:
    """``0.1`` or ``0.1 %``, both a tenth of a percent."""
    text = str(value).removesuffix("%").strip()
    try:
        return float(text)
    except ValueError:
        raise Refused(
            f"{value!r} is not a percentage", hint="write it like 0.1 or '0.1 %'"
        ) from None


def is_local(host: str) -> bool:
    """Whether a host is this machine: a loopback address, ``localhost`` or a socket's folder."""
    name = host.strip("[]")
    return name in ("", "localhost", "::1") or name.startswith(("127.", "/", "@"))


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
