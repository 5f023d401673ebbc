"""Rendering the arguments of an action, once.

What a template gave is data for ever after. So the type of an argument says whether its text is
rendered here, or reaches the action as it was written, which then renders it (`Template`) or
evaluates it (`Expression`) itself; and what was rendered here can become neither.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from engine.registry.types import MISSED, ArgumentType, At, Walk, spell
from engine.templating import is_template

_PATH = re.compile(r"[A-Za-z_]\w*(?:\.\w+|\[\d+\])*")
"""A key such as ``status`` or ``agents[0].name``: it names a place and does nothing, so that a
table of what is expected may come from a variable."""

Render = Callable[[Any], Any]
"""Renders every template in a value."""


def rendered(kind: ArgumentType | None, value: Any, render: Render, walk: Walk, at: At) -> Any:
    """An argument as the action gets it; mismatches go to `walk`."""
    if kind is None or not kind.holds_written:
        return render(value)
    if isinstance(value, str):
        if not is_template(value) or (kind.stays_written and not may_be_table(kind, value)):
            return value
        text = render(value)
        return MISSED if _becomes_template(kind, text, walk, at) else text
    if isinstance(value, dict):
        keys = kind.key_kind()
        return {
            (key if keys is not None or not isinstance(key, str) else render(key)): rendered(
                kind.inner(key), each, render, walk, (*at, str(key))
            )
            for key, each in value.items()
        }
    if isinstance(value, list):
        return [
            rendered(kind.inner(index), each, render, walk, (*at, index))
            for index, each in enumerate(value)
        ]
    return value


def may_be_table(kind: ArgumentType, text: str) -> bool:
    """Whether text in the place of expressions is ``{{ … }}`` for a whole mapping of them."""
    whole = text.strip()
    return kind.key_kind() is not None and whole.startswith("{{") and whole.endswith("}}")


def _becomes_template(kind: ArgumentType, value: Any, walk: Walk, at: At) -> bool:
    """Whether a value that a template gave has text where the action renders or evaluates it."""
    if isinstance(value, str):
        if not kind.stays_written:
            return False
        what = "an expression" if kind.is_expression else "a template"
        message = f"`{spell(at)}` is text that a template gave, and such text never becomes {what}"
        walk.miss(at, message, "write it out in the runbook")
        return True
    pairs: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        pairs = [(str(key), each) for key, each in value.items()]
        keys = kind.key_kind()
        for key, _ in pairs if keys is not None else ():
            if keys is not None and not _PATH.fullmatch(str(key)):
                return _becomes_template(keys, key, walk, at)
    elif isinstance(value, list | tuple):
        pairs = list(enumerate(value))
    inner = [(kind.inner(key), each, (*at, key)) for key, each in pairs]
    return any(_becomes_template(k, each, walk, place) for k, each, place in inner if k is not None)
