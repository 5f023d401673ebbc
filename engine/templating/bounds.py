"""What a template may cost, and how an operation is refused before it is done.

Two bounds hold together. Each operation that could make something huge in one go (`'a' * 10**9`, a
format with a wide field, ``replace``) is looked at first: `refuse_*`. And everything that a
rendering does, each step and each character or item that it touches, is charged to its `WorkMeter`,
so that many small things cannot add up for ever either. Work is counted, not timed: the same
template fails in the same place on every machine.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

MOST_OUTPUT = 1 << 20
"""Characters that a template may give."""

MOST_TEXT = 1 << 24
"""Characters of a text on the way to that."""

MOST_WORK = 50_000_000
"""What a rendering may cost: some seconds of work. `STEP`, `ROUND` and `ITEM` are what it pays."""

STEP = 100
"""What calling anything costs."""

ROUND = 25
"""What going round a loop costs."""

ITEM = 4
"""What looking at an item of a list or mapping costs, or at four characters of a text."""

_MOST_WEIGHT = 1 << 26  # characters that a list or mapping would have as text, parts repeated
_MOST_BITS = 4096
_DEEPEST = 100
_PERCENT_FIELD = re.compile(r"%(?:\([^)]*\))?[-#0 +]*(\d+|\*)?(?:\.(\d+|\*))?[a-zA-Z]")
_BRACE_FIELD = re.compile(r"\{[^{}:]*(?::([^{}]*(?:\{[^{}]*\}[^{}]*)*))?\}")


def too_big(most: int = MOST_OUTPUT) -> ValueError:
    """The error for a result that is too large."""
    return ValueError(f"the result would be larger than {most} characters")


class WorkMeter:
    """What one rendering has cost so far."""

    def __init__(self) -> None:
        self._left = MOST_WORK
        self._weights: dict[int, tuple[Any, int]] = {}

    def spend(self, work: int) -> None:
        """Charge some work. ValueError when it is too much."""
        self._left -= work
        if self._left < 0:
            raise ValueError("the template works too much: it repeats, copies or compares for ever")

    def step(self, *touched: Any) -> None:
        """Charge one step that goes through some values."""
        self.spend(STEP + sum(self.weigh(each) for each in touched) // ITEM)

    def weigh(self, value: Any, depth: int = 0) -> int:
        """About how many characters a value would be as text.

        A list that holds another one twice weighs it twice: as text, or compared, it is there
        twice. Each list is gone through once, for inside a template it cannot change.
        """
        if isinstance(value, str | bytes):
            return len(value) + 2
        if type(value) not in (list, tuple, dict, set, frozenset):
            return 8
        known = self._weights.get(id(value))
        if known is not None:
            return known[1]
        if depth > _DEEPEST:
            raise ValueError("the value is nested too deeply")
        self.spend(len(value) * ITEM)
        total = 2 + sum(self.weigh(each, depth + 1) + 2 for each in value)
        if type(value) is dict:
            total += sum(self.weigh(each, depth + 1) + 2 for each in value.values())
        if total > _MOST_WEIGHT:
            raise too_big(_MOST_WEIGHT)
        self._weights[id(value)] = (value, total)
        return total

    def made(self, value: Any) -> Any:
        """Charge a result; what is an iterator is charged while somebody goes through it."""
        if isinstance(value, str | bytes):
            if len(value) > MOST_TEXT:
                raise too_big(MOST_TEXT)
            self.spend(len(value) // ITEM)
        elif isinstance(value, Iterator):
            return self._items(value)
        else:
            self.weigh(value)
        return value

    def _items(self, items: Iterator[Any]) -> Iterator[Any]:
        for each in items:
            self.spend(STEP)
            yield self.made(each)


class _Current(threading.local):
    """The meter of the rendering on this thread."""

    meter: WorkMeter | None = None


_current = _Current()


def meter() -> WorkMeter:
    """The meter of this thread's rendering; one for nothing if there is none."""
    return _current.meter or WorkMeter()


class Metered:
    """``with Metered():`` charges what happens inside to one meter; that of the outer rendering
    if there is one."""

    __slots__ = ("_outer",)

    def __enter__(self) -> None:
        self._outer = _current.meter
        if self._outer is None:
            _current.meter = WorkMeter()

    def __exit__(self, *_: object) -> None:
        _current.meter = self._outer


# -- operations that are refused before they are done --------------------------------------------
def refuse_long(length: float, most: int = MOST_TEXT) -> None:
    """ValueError if a text or list would be longer than that."""
    if length > most:
        raise too_big(most)


def refuse_sum(left: Any, right: Any) -> None:
    """ValueError if ``left + right`` would be too long a text or list."""
    if isinstance(left, str | list | tuple | bytes) and isinstance(right, type(left)):
        most = MOST_TEXT if isinstance(left, str | bytes) else MOST_OUTPUT
        refuse_long(len(left) + len(right), most)


def refuse_product(left: Any, right: Any) -> None:
    """ValueError if ``left * right`` would be too long a text or list, or too large a number."""
    for sequence, count in ((left, right), (right, left)):
        if isinstance(sequence, str | list | tuple | bytes) and isinstance(count, int):
            refuse_long(len(sequence) * count, MOST_OUTPUT)
            return
    if isinstance(left, int) and isinstance(right, int):
        _refuse_bits(left.bit_length() + right.bit_length())


def refuse_power(left: Any, right: Any) -> None:
    """ValueError if ``left ** right`` would be too large a number."""
    if isinstance(left, int) and isinstance(right, int) and right > 0:
        _refuse_bits(max(left.bit_length(), 1) * right)


def _refuse_bits(bits: int) -> None:
    if bits > _MOST_BITS:
        raise ValueError("the number would be too large")


def refuse_percent(text: str | bytes, values: Any) -> None:
    """ValueError if ``text % values`` would be too long."""
    shown = text if isinstance(text, str) else text.decode("latin-1")
    fields = _PERCENT_FIELD.findall(shown)
    given = values if isinstance(values, tuple) else (values,)
    if isinstance(values, Mapping):
        given = tuple(values.values())
    widths = _widths(width for field in fields for width in field)
    if any("*" in field for field in fields):
        widths += len(fields) * _largest(given)
    refuse_long(len(text) + widths + len(fields) * max(map(meter().weigh, given), default=0))


def refuse_braces(text: str, values: Sequence[Any]) -> None:
    """ValueError if ``text.format(values)`` would be too long."""
    specs = _BRACE_FIELD.findall(text)
    widths = _widths(number for spec in specs for number in re.findall(r"\d+", spec))
    if any("{" in spec for spec in specs):
        widths += len(specs) * _largest(values)
    fields = text.count("{")
    refuse_long(len(text) + widths + fields * max(map(meter().weigh, values), default=0))


def _widths(numbers: Iterable[str]) -> int:
    return sum(int(each[:12]) for each in numbers if each.isdigit())


def _largest(values: Iterable[Any]) -> int:
    """The largest number among some values and what they hold."""
    found = 0
    for each in values:
        if isinstance(each, int):
            found = max(found, abs(each))
        elif isinstance(each, str):
            found = max(found, int(each[:12]) if each.isdigit() else 0)
        elif isinstance(each, Mapping):
            found = max(found, _largest(each.values()))
    return found


def refuse_replacing(text: Any, old: Any, new: Any) -> None:
    """ValueError if replacing would make the text too long."""
    if type(text) in (str, bytes) and type(text) is type(old) is type(new):
        times = text.count(old) if old else len(text) + 1
        refuse_long(len(text) + times * max(len(new) - len(old), 0))


def refuse_joining(between: Any, parts: Any) -> None:
    """ValueError if joining would make too long a text."""
    if isinstance(parts, list | tuple):
        refuse_long(len(between) * len(parts) + meter().weigh(parts))


def refuse_method(owner: str | bytes, name: str, args: tuple[Any, ...], named: Any) -> None:
    """ValueError if a method of a text would make one that is too long."""
    numbers = [each for each in (*args, *named.values()) if isinstance(each, int)]
    if isinstance(owner, str) and name in ("format", "format_map"):
        values = [*args, *named.values()]
        refuse_braces(
            owner, [*values, *(v for m in args if isinstance(m, dict) for v in m.values())]
        )
    elif name in ("ljust", "rjust", "center", "zfill") and numbers:
        refuse_long(max(numbers))
    elif name == "expandtabs" and numbers:
        tab: Any = "\t" if isinstance(owner, str) else b"\t"
        refuse_long(len(owner) + owner.count(tab) * max(numbers))
    elif name == "replace" and len(args) >= 2:
        refuse_replacing(owner, args[0], args[1])
    elif name == "join" and args:
        refuse_joining(owner, args[0])
    elif name == "translate" and args and isinstance(args[0], dict):
        longest = max((len(each) for each in args[0].values() if isinstance(each, str)), default=1)
        refuse_long(len(owner) * longest)
