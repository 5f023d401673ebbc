"""What words mean: yes and no, names of this machine, the nearest of the valid names.

The loader, the templates and the conversion of arguments read the same words from people and
have to agree on them, so their meaning stands here once.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

_YES = frozenset(("true", "yes", "on", "y", "1"))
_NO = frozenset(("false", "no", "off", "n", "0"))
_MOST_CANDIDATES = 2000


def parse_boolean(value: object) -> bool | None:
    """True for yes, on, true, y, 1; False for their opposites; None for anything else."""
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower() if isinstance(value, str | int) else ""
    if word in _YES:
        return True
    return False if word in _NO else None


def is_local(host: str) -> bool:
    """Whether a host is this machine: a loopback address, ``localhost`` or a socket's folder."""
    name = host.strip("[]")
    return name in ("", "localhost", "::1") or name.startswith(("127.", "/", "@"))


def fold(name: str) -> str:
    """A name with ``-`` and ``_`` made the same."""
    return name.replace("_", "-")


def nearest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate that `name` is most likely a misspelling of, if any is near."""
    known = _plausible(name, candidates)
    key = fold(name).casefold()
    folded = {fold(each).casefold(): each for each in reversed(known)}
    if key in folded:
        return folded[key]
    from difflib import get_close_matches

    matches = get_close_matches(key, folded, n=1, cutoff=0.65)
    return folded[matches[0]] if matches else None


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
    near = nearest(name, names)
    if near is not None:
        return f"did you mean '{near}'?"
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
