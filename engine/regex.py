"""Regular expressions of runbooks and inventories, matched in bounded time.

The patterns come from files, the texts from the world, and some pairs of them keep Python's
matcher busy for years: ``(a+)+$`` on thirty a's. It can be stopped neither by a signal (it may run
on any thread) nor by another thread. So whatever could take long, judged by a glance at the
pattern, is matched in a process of its own that can be killed; the rest, which is nearly all,
is matched here.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import Any

SECONDS = 5.0
"""How long a pattern may take."""

_CHEAP = 50_000_000
_CHARACTER_SET = re.compile(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", re.DOTALL)
_REPEATED = re.compile(r"[*+]|\{\d*,?\d*\}")
_OPTIONAL = re.compile(r"(?<![(*+?}])\?")

_APART = """
import json, re, resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_CPU, (6, 6))  # also if nobody is left to kill it
work, pattern, texts, replacement, count = json.load(sys.stdin)
found = re.compile(pattern)
if work == "sub":
    done = [found.sub(replacement, text, count=count) for text in texts]
elif work == "findall":
    done = [found.findall(text) for text in texts]
elif work == "groups":
    done = [m and {**{str(i): m.group(i) for i in range(m.re.groups + 1)}, **m.groupdict()}
            for m in map(found.search, texts)]
else:
    done = [match and match.group(0) for match in map(getattr(found, work), texts)]
json.dump(done, sys.stdout)
"""


def matches(pattern: str, text: str) -> bool:
    """Whether the whole text matches. ValueError if that takes too long, re.error for a pattern
    that is none; so do the others here."""
    return _work("fullmatch", pattern, [text])[0] is not None


def search(pattern: str, text: str) -> str | None:
    """The first match in the text; None if there is none."""
    found: str | None = _work("search", pattern, [text])[0]
    return found


def containing(pattern: str, texts: Sequence[str]) -> list[str]:
    """Those texts in which there is a match."""
    found = _work("search", pattern, texts)
    return [text for text, match in zip(texts, found, strict=True) if match is not None]


def search_groups(pattern: str, text: str) -> dict[str, str | None] | None:
    """The groups of the first match, by number and by name; None if there is none."""
    found: dict[str, str | None] | None = _work("groups", pattern, [text])[0]
    return found


def find_all(pattern: str, text: str) -> list[Any]:
    """Every match; with groups, the list of those of each."""
    found = _work("findall", pattern, [text])[0]
    return [list(each) if isinstance(each, tuple) else each for each in found]


def beginning_with(pattern: str, texts: Sequence[str]) -> list[str]:
    """Those texts that begin with a match."""
    found = _work("match", pattern, texts)
    return [text for text, match in zip(texts, found, strict=True) if match is not None]


def replace(pattern: str, text: str, replacement: str, count: int = 0, most: int = 1 << 20) -> str:
    """The text with every match replaced. ValueError if it grows beyond `most` characters."""
    made: str = _work("sub", pattern, [text], replacement, count, most)[0]
    if len(made) > most:
        raise _too_long(most)
    return made


def _too_long(most: int) -> ValueError:
    return ValueError(f"the result would be larger than {most} characters")


def _work(
    work: str,
    pattern: str,
    texts: Sequence[str],
    replacement: str = "",
    count: int = 0,
    most: int = 0,
) -> list[Any]:
    compiled = re.compile(pattern)
    if any(_steps(pattern, len(text)) > _CHEAP for text in texts):
        return _apart([work, pattern, list(texts), replacement, count])
    if work == "sub":
        return [_sub(compiled, text, replacement, count, most) for text in texts]
    if work == "findall":
        return [compiled.findall(text) for text in texts]
    if work == "groups":
        return [_groups(compiled.search(text)) for text in texts]
    tried = [getattr(compiled, work)(text) for text in texts]
    return [match and match.group(0) for match in tried]


def _groups(match: re.Match[str] | None) -> dict[str, str | None] | None:
    if match is None:
        return None
    numbered = {str(index): match.group(index) for index in range(match.re.groups + 1)}
    return {**numbered, **match.groupdict()}


def _sub(compiled: re.Pattern[str], text: str, replacement: str, count: int, most: int) -> str:
    """``re.sub`` that stops as soon as what it puts in is too much."""
    groups = replacement.count("\\")
    if len(replacement) * (len(text) + 1) + groups * len(text) <= most:
        return compiled.sub(replacement, text, count=count)
    length = 0

    def put_in(match: re.Match[str]) -> str:
        nonlocal length
        made = match.expand(replacement) if groups else replacement
        length += len(made)
        if length > most:
            raise _too_long(most)
        return made

    return compiled.sub(put_in, text, count=count)


def _apart(given: list[Any]) -> list[Any]:
    """The same in a process of its own."""
    import subprocess  # hardly ever needed, and slow to import

    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", _APART],
            input=json.dumps(given),
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise ValueError(f"the pattern {given[1]} takes longer than {SECONDS:g} s") from None
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it needs too much memory"])[-1]
        raise ValueError(f"the pattern {given[1]} cannot be matched: {last}")
    found: list[Any] = json.loads(done.stdout)
    return found


def _steps(pattern: str, length: int) -> float:
    """How many steps the matcher may need at worst, by the quantifiers in the pattern."""
    bare = _CHARACTER_SET.sub("c", pattern)
    if _is_nested(bare):
        return 2.0 ** min(length, 1000)
    repeated, optional = len(_REPEATED.findall(bare)), len(_OPTIONAL.findall(bare))
    return float(max(length, 2)) ** min(repeated + 1, 50) * 2.0 ** min(optional, 500)


def _is_nested(bare: str) -> bool:
    """Whether something is repeated that is itself repeated, optional, or one of several."""
    inner = [False]
    for index, character in enumerate(bare):
        if character == "(":
            inner.append(False)
        elif character == ")" and len(inner) > 1:
            varies = inner.pop()
            if varies and bare[index + 1 : index + 2] in ("*", "+", "{"):
                return True
            inner[-1] = inner[-1] or varies
        elif character in "*+{|" or (character == "?" and bare[index - 1 : index] != "("):
            inner[-1] = True
    return False
