"""Refuses arithmetic and formatting that could fill the memory, before it is done."""

from __future__ import annotations

import re
from typing import Any

MOST_OUTPUT = 1 << 20
"""Characters that a template may give."""

_MOST_BITS = 4096


def too_big() -> ValueError:
    """The error for a result beyond `MOST_OUTPUT`."""
    return ValueError(f"the result would be larger than {MOST_OUTPUT} characters")


def bound_product(left: Any, right: Any) -> None:
    """ValueError if ``left * right`` would be too long a text or list, or too large a number."""
    for sequence, count in ((left, right), (right, left)):
        if isinstance(sequence, str | list | tuple | bytes) and isinstance(count, int):
            if len(sequence) * count > MOST_OUTPUT:
                raise too_big()
            return
    if isinstance(left, int) and isinstance(right, int):
        _bound_bits(left.bit_length() + right.bit_length())


def bound_power(left: Any, right: Any) -> None:
    """ValueError if ``left ** right`` would be too large a number."""
    if isinstance(left, int) and isinstance(right, int) and right > 0:
        _bound_bits(max(left.bit_length(), 1) * right)


def _bound_bits(bits: int) -> None:
    if bits > _MOST_BITS:
        raise ValueError("the number would be too large")


def bound_format(text: str) -> None:
    """ValueError if a format asks for a width that is long, or not to be seen in it."""
    if re.search(r"\d{6,}|\*", text):
        raise too_big()


def bound_method(owner: str, name: str, args: tuple[Any, ...]) -> None:
    """ValueError if a method of a text would make one that is too long."""
    if name in ("format", "format_map"):
        bound_format(owner)
    numbers = [each for each in args if isinstance(each, int)]
    if name in ("ljust", "rjust", "center", "zfill", "expandtabs") and numbers:
        bound_product(owner if name == "expandtabs" else " ", max(numbers))
    texts = [len(each) for each in args if isinstance(each, str)]
    if name in ("replace", "join", "translate") and texts:
        bound_product(" " * min(len(owner) + 1, MOST_OUTPUT), max(texts))
