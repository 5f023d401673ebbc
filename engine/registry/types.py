"""The types of arguments: what an annotation takes, how a value becomes one, what is said if not.

An annotation is turned into an `ArgumentType` once (``annotations``), which does three things: it
converts a rendered value (``"5m"`` → 300.0 for a Duration), it takes a value of a file as it was
*written* (a text argument that is given ``5.10`` or ``true`` gets exactly these characters), and
it describes itself in words and as JSON schema.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine.module_api import FileName, Name
from engine.templating import is_template
from engine.text import did_you_mean, parse_boolean
from engine.units import parse_duration

At = tuple[str | int, ...]
"""Where inside an argument: keys and indices from the argument's own name on."""

MISSED: Any = object()
"""Stands in for a value that did not fit; that has been noted."""


class Mismatch(msgspec.Struct, frozen=True):
    """A value that does not fit: where, what is wrong, what to write instead."""

    at: At
    message: str
    suggestion: str = ""
    of_key: bool = False
    """Whether the key itself is wrong, not its value."""


class Walk:
    """One conversion under way: collects mismatches; with `templates`, lets templates pass."""

    __slots__ = ("mismatches", "templates")

    def __init__(self, templates: bool = False) -> None:
        self.templates = templates
        self.mismatches: list[Mismatch] = []

    def miss(self, at: At, message: str, suggestion: str = "", of_key: bool = False) -> Any:
        """Note a mismatch."""
        self.mismatches.append(Mismatch(at, message, suggestion, of_key))
        return MISSED


def spell(at: At) -> str:
    """``expect.status``, ``rows[0].name``."""
    text = ""
    for part in at:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def describe(value: object) -> str:
    """A value in the words of a message; long text is cut."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        shown = value if len(value) <= 40 else value[:37] + "…"
        return f"the text '{shown}'"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, Sequence):
        return "a list"
    return f"a {type(value).__name__}"


class ArgumentType:
    """A type of argument. This one takes anything; the others narrow it."""

    words = "anything"

    def convert(self, value: Any, walk: Walk, at: At) -> Any:
        """The value as the action wants it; mismatches go to `walk`."""
        if walk.templates and isinstance(value, str) and is_template(value):
            return value
        return self._make(value, walk, at)

    def _make(self, value: Any, walk: Walk, at: At) -> Any:
        return value

    def refuse(self, value: Any, walk: Walk, at: At, suggestion: str = "") -> Any:
        """Note that `value` is no such thing."""
        message = f"`{spell(at)}` wants {self.words}, not {describe(value)}"
        return walk.miss(at, message, suggestion)

    def takes(self, value: Any) -> bool:
        """Whether the value is one as it stands, without being converted."""
        return True

    def written(self, value: Any, raw: str | None) -> Any:
        """The value as it was written, if it stands for text; `raw` are its characters if plain."""
        return plain(value)

    def schema(self) -> dict[str, Any]:
        """As JSON schema (2020-12)."""
        return {}

    def parts(self) -> Sequence[ArgumentType]:
        """The kinds that it is made of."""
        return ()

    def inner(self, key: str | int) -> ArgumentType | None:
        """The kind of what stands under a key or index of such a value."""
        return None

    @property
    def names(self) -> Name | None:
        """What entry of the inventory text of this kind names; None if it is no name."""
        return None

    @property
    def file_name(self) -> FileName | None:
        """What file text of this kind names by its stem; None if it names none."""
        return None

    @property
    def is_closed(self) -> bool:
        """Whether an expression reads only names that the runbook gives."""
        return False

    @property
    def is_expression(self) -> bool:
        """Whether text that is given is an expression."""
        return False

    @property
    def stays_written(self) -> bool:
        """Whether text reaches the action as it was written, because the action itself renders or
        evaluates it. All other text is rendered before the action, and is data from then on."""
        return self.is_expression

    @functools.cached_property
    def holds_written(self) -> bool:
        """Whether it is text that stays as it was written, or can have such inside."""
        return self.stays_written or any(part.holds_written for part in self.parts())

    def key_kind(self) -> ArgumentType | None:
        """The kind of the keys of such a value, where they are more than names."""
        return None

    @functools.cached_property
    def holds_files(self) -> bool:
        """Whether it is a file that has to exist, or can have one inside."""
        return any(part.holds_files for part in self.parts())


def plain(value: Any) -> Any:
    """Lists and mappings without the places that the loader's own carry."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [plain(each) for each in value]
    return value


_LOSES_A_ZERO = re.compile(r"[-+]?\d+\.\d*0")


def as_written(value: Any, raw: str | None = None) -> Any:
    """The same where nobody says what is wanted: a plain ``5.10``, which no number can be, is text.

    `raw` are the characters of a plain value. Templates count and compare such text as a number.
    """
    if raw is not None and isinstance(value, float):
        return raw if _LOSES_A_ZERO.fullmatch(raw) and repr(value) != raw else value
    raws: Mapping[Any, str] = getattr(value, "raws", None) or {}
    if isinstance(value, dict):
        return {key: as_written(each, raws.get(key)) for key, each in value.items()}
    if isinstance(value, list):
        return [as_written(each, raws.get(n)) for n, each in enumerate(value)]
    return value


class Text(ArgumentType):
    """Text; a plain number or word is taken as it was written."""

    words = "text"

    def _make(self, value: Any, walk: Walk, at: At) -> Any:
        if isinstance(value, str):
            return value
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int | float):
            return str(value)
        return self.refuse(value, walk, at)

    def takes(self, value: Any) -> bool:
        return isinstance(value, str)

    def written(self, value: Any, raw: str | None) -> Any:
        return plain(value) if raw is None or value is None else raw

    def schema(self) -> dict[str, Any]:
        return {"type": ["string", "number", "boolean"]}


class ExpressionText(Text):
    """An expression without braces, kept as text."""

    words = "an expression"

    def __init__(self, *, closed: bool = False) -> None:
        """`closed`: the action evaluates it without names of its own, so that those it reads can be
        checked before the run."""
        self._closed = closed

    @property
    def is_closed(self) -> bool:
        return self._closed

    @property
    def is_expression(self) -> bool:
        return True

    def schema(self) -> dict[str, Any]:
        return {"type": ["string", "boolean"]}


class Anything(ArgumentType):
    """Anything, for people to read: a plain ``5.10`` stays what was written."""

    def written(self, value: Any, raw: str | None) -> Any:
        return as_written(value, raw)


class NameText(Text):
    """The name of an entry of the inventory."""

    def __init__(self, name: Name) -> None:
        self._name = name
        self.words = f"the name of a {name.word}"

    @property
    def names(self) -> Name | None:
        return self._name


class FileNameText(Text):
    """The name of a file in a folder of files in several languages."""

    def __init__(self, mark: FileName) -> None:
        self._mark = mark
        self.words = f"the name of a {mark.word}"

    @property
    def file_name(self) -> FileName | None:
        return self._mark


class TemplateText(Text):
    """Text whose templates the action renders itself, once, with names of its own."""

    words = "text"

    @property
    def stays_written(self) -> bool:
        return True


class Integer(ArgumentType):
    """A whole number."""

    words = "a whole number"

    def _make(self, value: Any, walk: Walk, at: At) -> Any:
        if self.takes(value):
            return value
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if isinstance(value, str) and re.fullmatch(r"\s*[-+]?\d{1,18}\s*", value):
            return int(value)
        return self.refuse(value, walk, at)

    def takes(self, value: Any) -> bool:
        return isinstance(value, int) and not isinstance(value, bool)

    def schema(self) -> dict[str, Any]:
        return {"type": "integer"}


class Number(ArgumentType):
    """A number."""

    words = "a number"

    def _make(self, value: Any, walk: Walk, at: At) -> Any:
        if self.takes(value):
            return float(value)
        if isinstance(value, str) and re.fullmatch(
            r"\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d{1,2})?\s*", value
        ):
            return float(value)
        return self.refuse(value, walk, at)

    def takes(self, value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool)

    def schema(self) -> dict[str, Any]:
        return {"type": "number"}


class Boolean(ArgumentType):
    """True or false."""

    words = "true or false"

    def _make(self, value: Any, walk: Walk, at: At) -> Any:
        parsed = parse_boolean(value)
        return self.refuse(value, walk, at) if parsed is None else parsed

    def takes(self, value: Any) -> bool:
        return isinstance(value, bool)

    def schema(self) -> dict[str, Any]:
        return {"type": "boolean"}


class Nothing(ArgumentType):
    """No value at all."""

    words = "nothing"

    def _make(self, value: Any, walk: Walk, at: At) -> Any:
        return None if value is None else self.refuse(value, walk, at)

    def takes(self, value: Any) -> bool:
        return value is None

    def schema(self) -> dict[str, Any]:
        return {"type": "null"}


class DurationSeconds(ArgumentType):
    """A length of time; seconds for the action."""

    words = "a duration such as 90s, 5m or 1h30m"

    def _make(self, value: Any, walk: Walk, at: At) -> Any:
        parsed = parse_duration(value)
        return self.refuse(value, walk, at) if parsed is None else parsed

    def takes(self, value: Any) -> bool:
        return isinstance(value, int | float) and not isinstance(value, bool)

    def schema(self) -> dict[str, Any]:
        return {"type": ["string", "number"]}


class FilePath(ArgumentType):
    """`below` says that the file has to exist below the runbook's folder before a run starts."""

    words = "the path of a file"

    def __init__(self, below: bool) -> None:
        self.below = below
        self.holds_files = below

    def _make(self, value: Any, walk: Walk, at: At) -> Any:
        if isinstance(value, Path):
            return value
        if isinstance(value, str) and value and "\0" not in value:
            return Path(value)
        return self.refuse(value, walk, at)

    def takes(self, value: Any) -> bool:
        return isinstance(value, Path)

    def written(self, value: Any, raw: str | None) -> Any:
        return plain(value) if raw is None or value is None else raw

    def schema(self) -> dict[str, Any]:
        return {"type": "string"}


class Choice(ArgumentType):
    """One of certain values."""

    def __init__(self, values: tuple[Any, ...]) -> None:
        self.values = values
        shown = [str(describe_choice(each)) for each in values]
        self.words = f"one of {', '.join(shown)}" if len(shown) > 1 else shown[0]

    def _make(self, value: Any, walk: Walk, at: At) -> Any:
        for each in self.values:
            if type(each) is type(value) and each == value:
                return each
        texts = [each for each in self.values if isinstance(each, str)]
        if isinstance(value, int | float) and not isinstance(value, bool) and str(value) in texts:
            return str(value)
        hint = did_you_mean(value, texts) if isinstance(value, str) else ""
        return self.refuse(value, walk, at, hint if hint.startswith("did") else "")

    def takes(self, value: Any) -> bool:
        return any(type(each) is type(value) and each == value for each in self.values)

    def written(self, value: Any, raw: str | None) -> Any:
        if raw is not None and not self.takes(value) and raw in self.values:
            return raw
        return plain(value)

    def schema(self) -> dict[str, Any]:
        return {"enum": list(self.values)}


def describe_choice(value: object) -> str:
    """A choice as one would write it in YAML."""
    return "true" if value is True else "false" if value is False else str(value)
