"""Guards' conditions and steps' limits, with numbers for variables, for the live view."""

from __future__ import annotations

import re
from collections.abc import Callable

from engine.errors import CeRunError
from engine.plan import Node
from engine.session import Session
from engine.units import parse_duration

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


def limits_of(session: Session) -> Callable[[Node], float | None]:
    """A function that tells the budget or timeout of a step that has not begun, as far as known."""
    known: dict[int, float | None] = {}

    def tell(node: Node) -> float | None:
        if node.index not in known:
            known[node.index] = _limit(session, node)
        return known[node.index]

    return tell


def _limit(session: Session, node: Node) -> float | None:
    given = node.budget if node.budget is not None else node.timeout
    if given is None or isinstance(given, int | float):
        return given
    try:
        scope = session.scopes.scope(session.state, node)
        return parse_duration(session.templates.render(given, scope))
    except CeRunError:
        return None


def _told(session: Session, node: Node, trip: str) -> str:
    def value(found: re.Match[str]) -> str:
        name = found[0]
        if name.split(".")[0] == "result" or name.lower() in _WORDS:
            return name
        try:
            scope = session.scopes.scope(session.state, node)
            given = session.templates.evaluate(name, scope)
        except CeRunError:
            return name
        plain = isinstance(given, int | float | str) and not isinstance(given, bool)
        return str(given) if plain else name

    return _NAME.sub(value, trip).removeprefix("result.value ")
