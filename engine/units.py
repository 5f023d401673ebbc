"""Quantities as people write and read them: durations, percentages, counts, measured values.

The loader, the templates, the modules and the reports read the same words from people and tell
them the same way, so what a unit means stands here, once. ``parse_*`` takes what somebody wrote
and answers None where that is none; ``read_*`` does the same for an action and refuses it in
words; the other functions give text.
"""

from __future__ import annotations

import re

from engine.errors import Refused

_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_PERCENT = re.compile(r"([+-]?\d+(?:\.\d+)?)\s*%?")
_LONGEST = 10 * 365 * 86400.0
_BOUNDLESS = 1e300
"""Numbers beyond this stand for infinity, which JSON cannot say."""


# -- as they are written --------------------------------------------------------------------------
def parse_duration(value: object) -> float | None:
    """Seconds of ``90s``, ``1h30m``, ``250ms``, ``1.5h``, ``90`` or a number; None if it is none.

    Negative durations and such beyond ten years are none.
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if 0 <= value <= _LONGEST else None
    if not isinstance(value, str) or len(value) > 64:
        return None
    text = value.strip().replace(" ", "")
    if _NUMBER.fullmatch(text):
        seconds = float(text)
    elif _DURATION.fullmatch(text):
        seconds = sum(float(n) * _SECONDS[unit] for n, unit in _DURATION_PART.findall(text))
    else:
        return None
    return seconds if seconds <= _LONGEST else None


def read_milliseconds(value: object) -> float:
    """A duration with its unit, in milliseconds; a bare number could mean anything: Refused."""
    if not isinstance(value, str) or _NUMBER.fullmatch(value.strip()):
        raise Refused(f"{value!r} lacks its unit", hint=f"write {value}ms or {value}s")
    seconds = parse_duration(value)
    if seconds is None:
        raise Refused(f"{value!r} is not a duration", hint="write it like 500ms, 30s or 1h30m")
    return seconds * 1000


def read_percent(value: object) -> float:
    """``0.1`` or ``0.1 %``, both a tenth of a percent; Refused if it is none."""
    match = None if isinstance(value, bool) else _PERCENT.fullmatch(str(value).strip())
    if match is None:
        raise Refused(f"{value!r} is not a percentage", hint="write it like 0.1 or '0.1 %'")
    return float(match[1])


# -- as they are read -----------------------------------------------------------------------------
def format_duration(seconds: float) -> str:
    """A duration as people write it: ``1h30m``, ``90s`` → ``1m30s``, ``250ms``, ``0s``."""
    sign, left = ("-", -seconds) if seconds < 0 else ("", seconds)
    milliseconds = round(left * 1000)
    if milliseconds < 1000:
        return f"{sign}{milliseconds}ms" if milliseconds else "0s"
    whole, rest = divmod(milliseconds, 1000)
    parts = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        number, whole = divmod(whole, length)
        if number:
            parts.append(f"{number}{unit}")
    if rest:
        parts.append(f"{whole + rest / 1000:.3f}".rstrip("0") + "s")
    elif whole:
        parts.append(f"{whole}s")
    return sign + "".join(parts)


def took(seconds: float) -> str:
    """A measured time with the precision that people care for: ``0.04s``, ``2.3s``, ``1m05s``."""
    if seconds < 0.1:
        return f"{max(seconds, 0.0):.2f}s"
    if seconds < 60:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    hours, rest = divmod(whole, 3600)
    minutes, left = divmod(rest, 60)
    if hours >= 24:
        return f"{hours // 24}d{hours % 24:02d}h"
    return f"{hours}h{minutes:02d}m{left:02d}s" if hours else f"{minutes}m{left:02d}s"


def format_milliseconds(milliseconds: float) -> str:
    """``0.42 ms``, ``36.9 ms``, ``1729 ms``."""
    return f"{milliseconds:.0f} ms" if milliseconds >= 100 else f"{milliseconds:.3g} ms"


def count(number: int, word: str, plural: str = "") -> str:
    """``1 row``, ``3 rows``, ``20,000 rows``."""
    return f"{number:,} {word if number == 1 else plural or word + 's'}"


def figure(value: float, digits: int = 6) -> str:
    """``0.18``, ``5391.61``, ``12345678``, ``+Inf``: a measured value, never with an exponent."""
    if value != value:
        return "NaN"
    if abs(value) >= _BOUNDLESS:
        return "+Inf" if value > 0 else "-Inf"
    if abs(value) >= 10 ** min(digits, 6):
        return f"{value:.0f}"
    text = f"{value:.{digits}g}"
    return f"{value:.12f}".rstrip("0").rstrip(".") if "e" in text else text
