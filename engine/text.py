"""What words mean: durations, yes and no, the nearest of the valid names.

The loader, the templates and the conversion of arguments read the same words from people and
have to agree on them, so their meaning stands here once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|s|m|h|d))+")
_DURATION_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_LONGEST = 10 * 365 * 86400.0
_YES = frozenset(("true", "yes", "on", "y", "1"))
_NO = frozenset(("false", "no", "off", "n", "0"))
_MOST_CANDIDATES = 2000


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
        seconds = sum(float(n) * _UNITS[unit] for n, unit in _DURATION_PART.findall(text))
    else:
        return None
    return seconds if seconds <= _LONGEST else None


def format_duration(seconds: float) -> str:
    """A duration as people write it: ``1h30m``, ``90s`` → ``1m30s``, ``250ms``, ``0s``."""
    sign, left = ("-", -seconds) if seconds < 0 else ("", seconds)
    milliseconds = round(left * 1000)
    if milliseconds < 1000:
        return f"{sign}{milliseconds}ms" if milliseconds else "0s"
    whole, rest = divmod(milliseconds, 1000)
    parts = []
    for unit, length in (("d", 86400), ("h", 3600), ("m", 60)):
        count, whole = divmod(whole, length)
        if count:
            parts.append(f"{count}{unit}")
    if rest:
        parts.append(f"{whole + rest / 1000:.3f}".rstrip("0") + "s")
    elif whole:
        parts.append(f"{whole}s")
    return sign + "".join(parts)


def parse_boolean(value: object) -> bool | None:
    """True for yes, on, true, y, 1; False for their opposites; None for anything else."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower() if isinstance(value, str | int) else ""
    if word in _YES:
        return True
    return False if word in _NO else None


def fold(name: str) -> str:
    """A name with ``-`` and ``_`` made the same."""
    return name.replace("_", "-")


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `name` is most likely a misspelling of, if any is near."""
    known = _plausible(name, candidates)
    wanted = fold(name).casefold()
    folded = {fold(each).casefold(): each for each in reversed(known)}
    if wanted in folded:
        return folded[wanted]
    from difflib import get_close_matches

    found = get_close_matches(wanted, folded, n=1, cutoff=0.65)
    return folded[found[0]] if found else None


def _plausible(name: str, candidates: Iterable[str]) -> list[str]:
    """Candidates of similar length; of very many only some, so that a big file stays quick."""
    longest = len(name) * 2 + 2
    similar = [each for each in candidates if len(each) <= longest]
    if len(similar) > _MOST_CANDIDATES:
        similar = [each for each in similar if each[:1] == name[:1]][:_MOST_CANDIDATES]
    return similar


def did_you_mean(name: str, candidates: Iterable[str], *, what: str = "known are") -> str:
    """``did you mean 'backup'?``, or the list of what there is if it is short, or nothing."""
    names = list(candidates)
    found = nearest(name, names)
    if found is not None:
        return f"did you mean '{found}'?"
    if 0 < len(names) <= 12:
        return f"{what}: {', '.join(names)}"
    return ""


def quoted_list(names: Iterable[str]) -> str:
    """``'a', 'b' and 'c'``."""
    words = [f"'{name}'" for name in names]
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} and {words[-1]}"


def display_name(path: Path) -> str:
    """A path as problems name it: relative to the working directory if it lies below it."""
    try:
        return str(path.relative_to(Path.cwd()))
    except (ValueError, OSError):
        return str(path)


DEEPEST = 100
"""Levels of lists and mappings in a value that is written down; what lies deeper is left out."""


def writable(text: str) -> str:
    """A text that can be written as UTF-8: halves of characters, and bytes that were none when
    they were read, become ``�``."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def as_json(value: Any, depth: int = DEEPEST) -> Any:
    """A value as JSON can say it, of whatever it is made: numbers that are none become None,
    keys text, and what is no data becomes the text that it prints as."""
    if isinstance(value, str):
        return writable(value)
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, float):
        return value if abs(value) < float("inf") else None
    if isinstance(value, dict | list | tuple | set | frozenset) and depth == 0:
        return "…"
    if isinstance(value, dict):
        return {writable(str(key)): as_json(each, depth - 1) for key, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [as_json(each, depth - 1) for each in value]
    try:
        return writable(str(value))
    except Exception:  # whatever a stranger's __str__ does
        return f"<{type(value).__name__}>"
