"""What stays what it is through a run: templates that read nothing but inputs and variables.

Asked for the observations of guards in a simulated world: one whose question never changes need
not be put again while the answer cannot change.
"""

from __future__ import annotations

from typing import Any

from engine.templating import Scope, is_template

_CONSTANT = frozenset(("inputs", "result", "true", "false", "none", "True", "False", "None"))
"""Names that every reading of a guard finds the same; its own `result` is compared by itself."""


def is_constant(value: Any, scope: Scope, *, expression: bool = False) -> bool:
    """Whether a value as written, with all variables behind it, renders to the same again."""
    return _constant(value, scope, expression, set())


def _constant(value: Any, scope: Scope, expression: bool, seen: set[str]) -> bool:
    if isinstance(value, dict):
        parts = [*value, *value.values()]
        return all(_constant(each, scope, False, seen) for each in parts)
    if isinstance(value, list | tuple):
        return all(_constant(each, scope, False, seen) for each in value)
    if not isinstance(value, str) or not (expression or is_template(value)):
        return True
    from engine.templating.references import references

    return all(_name(name, scope, seen) for name in references(value, expression).names)


def _name(name: str, scope: Scope, seen: set[str]) -> bool:
    if name in _CONSTANT or name in seen:
        return True
    seen.add(name)
    if name in scope.names or name in scope.registered:
        return False
    nothing = object()
    raw = scope.raw(name, nothing)
    return raw is not nothing and _constant(raw, scope, False, seen)
