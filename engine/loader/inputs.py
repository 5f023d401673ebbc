"""Inputs of runbooks: their declarations, and the values that are given for them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, get_args

import msgspec

from engine import regex
from engine.errors import UsageError
from engine.loader.book import Book
from engine.loader.calls import has_templates
from engine.loader.fields import Fields
from engine.loader.source import Map, Seq
from engine.loader.tree import StepNode
from engine.model import Input, InputType
from engine.registry import describe
from engine.registry.containers import Many, MappingType
from engine.registry.types import (
    ArgumentType,
    Boolean,
    DurationSeconds,
    Integer,
    Number,
    Text,
    Walk,
    as_written,
)
from engine.text import did_you_mean, quoted_list

TYPES: tuple[InputType, ...] = get_args(InputType)

_KINDS: dict[InputType, ArgumentType] = {
    "string": Text(),
    "integer": Integer(),
    "number": Number(),
    "boolean": Boolean(),
    "duration": DurationSeconds(),
    "list": Many(ArgumentType(), list),
    "mapping": MappingType(ArgumentType()),
}
_OTHER_WORDS: dict[str, InputType] = {
    **dict.fromkeys(("str", "text"), "string"),
    **dict.fromkeys(("int",), "integer"),
    **dict.fromkeys(("float", "decimal"), "number"),
    **dict.fromkeys(("bool",), "boolean"),
    **dict.fromkeys(("dict", "map", "object"), "mapping"),
    **dict.fromkeys(("array", "sequence"), "list"),
    **dict.fromkeys(("time", "seconds", "timeout"), "duration"),
}
_KEYS = ("type", "default", "pattern", "choices", "help")


def read_inputs(book: Book, fields: Fields) -> dict[str, Input]:
    """The ``inputs`` of a runbook."""
    map = fields.mapping("inputs")
    found: dict[str, Input] = {}
    for name, value in (map or {}).items():
        assert map is not None
        if not fields.variable_name(name, map.key_at(name), "the input"):
            continue
        if value is None:
            found[name] = Input(name, required=True)
        elif isinstance(value, Map):
            found[name] = _read_input(name, Fields(value, book.source, book.problems))
        else:
            said = f"an input is described by a mapping, not {describe(value)}"
            raw = (map.raws or {}).get(name, value)
            fields.problem(map.value_at(name), said, f"write {{default: {raw}}}")
    return found


def _read_input(name: str, fields: Fields) -> Input:
    map = fields.map
    if "required" in map:
        said = "an input without a `default` is required; there is no key for it"
        fields.problem(map.key_at("required"), said)
    fields.unknown_keys((*_KEYS, "required"), f"the input '{name}'")
    type_ = _read_type(fields)
    choices = _read_choices(fields, type_)
    pattern = _read_pattern(fields, type_)
    made = Input(
        name=name,
        type=type_,
        required="default" not in map,
        pattern=pattern,
        choices=choices,
        help=fields.text("help", "") or "",
    )
    default = map.get("default")
    if default is None:
        return made
    if has_templates(default):
        said = "a default cannot be a template"
        fields.problem(map.value_at("default"), said, "use a variable under `vars:` instead")
        return made
    value, wrong, hint = fit(made, default, fields.raw("default"))
    if wrong:
        fields.problem(map.value_at("default"), f"the default does not fit: {wrong}", hint)
    return msgspec.structs.replace(made, default=value)


def _read_type(fields: Fields) -> InputType:
    given = fields.text("type", "string") or "string"
    for each in TYPES:
        if each == given:
            return each
    other = _OTHER_WORDS.get(given.lower())
    hint = f"write '{other}'" if other else did_you_mean(given, TYPES, what="there are")
    fields.problem(fields.map.value_at("type"), f"unknown type '{given}'", hint)
    return other or "string"


def _read_pattern(fields: Fields, type_: InputType) -> str | None:
    if "pattern" not in fields.map:
        return None
    pattern = fields.text("pattern")
    at = fields.map.value_at("pattern")
    if pattern is None:
        return None
    if type_ != "string":
        fields.problem(at, f"a pattern is for text, but this input is of type {type_}")
        return None
    try:
        re.compile(pattern)
    except (re.error, RecursionError, OverflowError) as error:
        fields.problem(at, f"the pattern is no regular expression: {error}")
        return None
    return pattern


def _read_choices(fields: Fields, type_: InputType) -> tuple[Any, ...]:
    values = fields.map.get("choices")
    if "choices" not in fields.map:
        return ()
    if not isinstance(values, Seq) or not values:
        fields.wrong("choices", "a list of values")
        return ()
    found = []
    for index, each in enumerate(values):
        raw = values.raws.get(index) if values.raws else None
        value, wrong, hint = fit(Input("choices", type_), each, raw)
        if wrong:
            fields.problem(values.item_at(index), wrong, hint)
        else:
            found.append(value)
    return tuple(found)


def fit(input: Input, value: Any, raw: str | None = None) -> tuple[Any, str, str]:
    """A value as an input takes it, what is wrong with it ("" if nothing), what to do about it.

    `raw` is what was written for a plain value that is not text. Durations become seconds.
    """
    walk = Walk()
    kind = _KINDS[input.type]
    made = kind.convert(kind.written(value, raw), walk, (input.name,))
    if walk.mismatches:
        return value, walk.mismatches[0].message, walk.mismatches[0].suggestion
    if input.choices and made not in input.choices:
        options = [str(each) for each in input.choices]
        hint = did_you_mean(str(made), options, what="there are")
        return value, f"`{input.name}` cannot be {describe(made)}", hint
    if input.pattern is not None and (wrong := _misfit(input, made)):
        return value, wrong, ""
    return made, "", ""


def _misfit(input: Input, text: str) -> str:
    """What to say if the text does not match the input's pattern; "" if it does."""
    pattern = input.pattern or ""
    try:
        if regex.matches(pattern, text):
            return ""
    except (re.error, RecursionError, OverflowError, ValueError) as error:
        return f"`{input.name}` cannot be compared with its pattern: {error}"
    return f"`{input.name}` wants text like {pattern}, not {describe(text)}"


class Extra(dict[str, Any]):
    """Variables of the command line; `raws` holds what was written for numbers and the like, since
    only the type of an input tells whether `5.10` is a number or a version."""

    def __init__(self) -> None:
        super().__init__()
        self.raws: dict[str, str] = {}

    def give(self, name: str, value: Any, raw: str | None = None) -> None:
        """Add a variable; a later one wins."""
        self[name] = value
        self.raws.pop(name, None)
        if raw is not None:
            self.raws[name] = raw

    def as_written(self) -> dict[str, Any]:
        """The variables where no input says what is wanted: a plain ``5.10`` is the text."""
        return {name: as_written(value, self.raws.get(name)) for name, value in self.items()}

    def add(self, other: Mapping[str, Any]) -> None:
        """Add all of some others."""
        raws = other.raws if isinstance(other, Extra) else {}
        for name, value in other.items():
            self.give(name, value, raws.get(name))


def convert_inputs(
    inputs: Mapping[str, Input],
    given: Mapping[str, Any],
) -> dict[str, Any]:
    """Values for all inputs: as given and converted, else their defaults.

    `given` holds rendered values (from ``-e`` or ``with``); names that are no inputs are left
    out. Raises UsageError that names everything that does not fit or is missing.
    """
    wrong: list[str] = []
    made: dict[str, Any] = {}
    raws = given.raws if isinstance(given, Extra) else {}
    way = "-e NAME=VALUE"
    for name, input in inputs.items():
        if name in given:
            made[name], said, hint = fit(input, given[name], raws.get(name))
            if said and input.type in ("list", "mapping"):
                way = "-e '{\"NAME\": […]}' or -e @FILE"
            if said:
                wrong.append(f"{said} ({hint})" if hint else said)
        elif input.required:
            wrong.append(
                f"the input '{name}' has no value" + (f": {input.help}" if input.help else "")
            )
        else:
            made[name] = input.default
    if wrong:
        raise UsageError("; ".join(wrong), hint=f"give inputs with {way}")
    return made


def read_with(
    book: Book, fields: Fields, inputs: Mapping[str, Input], step: StepNode
) -> dict[str, Any]:
    """``with``: values for the inputs of an included runbook, checked as far as they are known."""
    map = fields.mapping("with")
    given: dict[str, Any] = {}
    for name, value in (map or {}).items():
        assert map is not None
        input = inputs.get(name)
        if input is None:
            said = f"the runbook has no input '{name}'"
            fields.problem(
                map.key_at(name), said, did_you_mean(name, inputs, what="its inputs are")
            )
            continue
        if book.note(value, map.value_at(name), step):
            given[name] = _KINDS[input.type].written(value, None)
            continue
        given[name], wrong, hint = fit(input, value, (map.raws or {}).get(name))
        if wrong:
            fields.problem(map.value_at(name), wrong, hint)
    missing = [name for name, input in inputs.items() if input.required and name not in given]
    if missing and (map is not None or fields.map.get("with") is None):
        at = fields.map.key_at("with" if "with" in fields.map else "runbook")
        plural = "s" if len(missing) > 1 else ""
        fields.problem(at, f"the runbook lacks the input{plural} {quoted_list(missing)}")
    return given
