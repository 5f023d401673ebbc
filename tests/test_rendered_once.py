"""What a template gave is data: no action's argument renders it again or evaluates it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from engine.registry import ActionInfo, Registry
from engine.registry.actions import BadArguments
from engine.registry.containers import Structure
from engine.registry.rendering import may_be_table
from engine.registry.types import ArgumentType
from engine.templating import Scope, Templates
from engine.templating.references import references

HOSTILE = "{{ secret('api_key') }}"
SCOPE = Scope({"world": HOSTILE, "many": [HOSTILE], "table": {HOSTILE: HOSTILE}})


def secret(name: str) -> str:
    raise AssertionError(f"the secret {name} was fetched for text of the world")


TEMPLATES = Templates(secret=secret)


def every_argument() -> Iterator[tuple[ActionInfo, str, ArgumentType]]:
    for module in Registry().modules():
        for info in module.actions.values():
            for name, parameter in info.parameters.items():
                yield info, name, parameter.kind


ARGUMENTS = list(every_argument())


def places(kind: ArgumentType, depth: int = 0) -> Iterator[tuple[Any, ArgumentType | None]]:
    """Values of a kind with a template at one place, and the kind of that place."""
    yield "{{ world }}", kind
    if depth > 3:
        return
    inner = kind.inner(0)
    if inner is not None:
        yield from (([value], place) for value, place in places(inner, depth + 1))
    names = ["key"]
    for each in (kind, *kind.parts()):
        names += list(each.fields) if isinstance(each, Structure) else []
    for name in names:
        inner = kind.inner(name)
        if inner is not None:
            yield from (({name: value}, place) for value, place in places(inner, depth + 1))


def leaf(value: Any) -> Any:
    while isinstance(value, dict | list):
        value = next(iter(value.values())) if isinstance(value, dict) else value[0]
    return value


@pytest.mark.parametrize(
    ("info", "name", "kind"), ARGUMENTS, ids=[f"{info.name}:{name}" for info, name, _ in ARGUMENTS]
)
def test_text_of_the_world_is_rendered_by_no_argument(
    info: ActionInfo, name: str, kind: ArgumentType
) -> None:
    for value, place in places(kind):
        if place is not None and may_be_table(place, leaf(value)):
            continue  # see below
        made = info.render({name: value}, lambda each: TEMPLATES.render(each, SCOPE))
        written = place is not None and place.stays_written
        assert leaf(made[name]) == ("{{ world }}" if written else HOSTILE)


@pytest.mark.parametrize(
    ("info", "name", "kind"),
    [each for each in ARGUMENTS if each[2].holds_written and not each[2].stays_written],
    ids=lambda each: each.name if isinstance(each, ActionInfo) else str(each)[:20],
)
def test_a_structure_that_a_template_gave_holds_no_expression(
    info: ActionInfo, name: str, kind: ArgumentType
) -> None:
    def hostile(kind: ArgumentType) -> Any:
        if kind.stays_written:
            return HOSTILE
        if kind.key_kind() is not None:
            return {HOSTILE: 1}
        fields = [
            f
            for each in (kind, *kind.parts())
            if isinstance(each, Structure)
            for f, v in each.fields.items()
            if v.kind.holds_written
        ]
        if fields:
            inner = kind.inner(fields[0])
            assert inner is not None
            return {fields[0]: hostile(inner)}
        item = kind.inner(0)
        if item is not None and item.holds_written:
            return [hostile(item)]
        keyed = kind.inner("key")
        assert keyed is not None
        return {"key": hostile(keyed)}

    scope = Scope({"whole": hostile(kind)})
    with pytest.raises(BadArguments, match="never becomes"):
        info.render({name: "{{ whole }}"}, lambda each: TEMPLATES.render(each, scope))


@pytest.mark.parametrize(
    "expression",
    [
        "'{{ mode }}' != 'bad'",
        'result.stdout == "{{ wanted }}"',
        "'{% if x %}a{% endif %}' in result.stdout",
        "result.x | default('{{ y }}')",
    ],
)
def test_braces_in_quotes_are_refused_in_an_expression(expression: str) -> None:
    faults = references(expression, True).faults
    assert len(faults) == 1
    assert "nothing renders it" in faults[0].message
    assert "without quotes" in faults[0].suggestion


def test_a_table_from_a_variable_may_name_places_and_nothing_else() -> None:
    info = Registry().action("http-check")
    assert info is not None
    given = {"url": "http://x", "expect": {"json": "{{ table }}"}}

    def render(table: object) -> object:
        scope = Scope({"table": table})
        return info.render(given, lambda each: TEMPLATES.render(each, scope))["expect"]["json"]

    assert render({"agents[0].name": 1, "status": HOSTILE}) == {
        "agents[0].name": 1,
        "status": HOSTILE,
    }
    for hostile in ({"secret('api_key')": 1}, ["true"], "true", {"a if b else c": 2}):
        with pytest.raises(BadArguments, match="never becomes an expression"):
            render(hostile)


def test_a_brace_that_is_no_template_is_text() -> None:
    assert references("'{{' in result.stdout or result.stdout == '{\"a\": {}}'", True).faults == ()
