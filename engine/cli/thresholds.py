"""A guard's condition with numbers in the place of variables, for the live view."""

from __future__ import annotations

import re
from collections.abc import Callable

from engine.errors import CeRunError
from engine.plan import Node
from engine.session import Session

_NAME = re.compile(r"(?<![\w.'\"\]])[A-Za-z_]\w*(?:\.\w+)*(?![\w'\"(\[])")
_WORDS = frozenset(("and", "or", "not", "in", "is", "if", "else", "true", "false", "none"))


def thresholds_of(session: Session) -> Callable[[Node, int], str]:
    """A function that tells a guard's condition; for the runner's thread, like the session.

    ``result.value > triggers.error_rate`` becomes ``> 0.5``; what has no plain value stays.
    """
    known: dict[tuple[int, int], str] = {}

    def tell(node: Node, guard: int) -> str:
        key = (node.index, guard)
        if key not in known:
            known[key] = _told(session, node, node.guards[guard].trip)
        return known[key]

    return tell


def _told(session: Session, node: Node, trip: str) -> str:
    def value(found: re.Match[str]) -> str:
        name = found[0]
        if name.split(".")[0] == "result" or name.lower() in _WORDS:
            return name
        try:
            scope = session.evaluator.scope(session.state, node)
            given = session.templates.evaluate(name, scope)
        except CeRunError:
            return name
        plain = isinstance(given, int | float | str) and not isinstance(given, bool)
        return str(given) if plain else name

    return _NAME.sub(value, trip).removeprefix("result.value ")
