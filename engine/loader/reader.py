"""YAML text → values that know where they stand.

Built on the event stream of PyYAML's C parser, without its node tree and without its
constructors: there is no tag that could make an object and no guess that turns ``no`` into False
or ``1:30`` into 90.

What is refused: tags, several documents, duplicate keys, aliases that expand to too much or into
themselves, more than `DEEPEST` levels, more than `LARGEST` bytes, anything that is not UTF-8.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import yaml

from engine.loader.problems import Problems
from engine.loader.source import Map, Seq, Source, Spot
from engine.text import display_name

LARGEST = 8 << 20
DEEPEST = 64
MOST_ALIASED = 20_000
"""Values that aliases and merge keys may stand for in one file."""

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})")
_FLOAT = re.compile(r"[-+]?(?:[0-9]{1,20}\.[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]{1,15}")
_WORDS: dict[str, Any] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_ANSIBLE_WORDS: dict[str, Any] = {
    **_WORDS,
    **{form: True for word in ("yes", "on") for form in (word, word.title(), word.upper())},
    **{form: False for word in ("no", "off") for form in (word, word.title(), word.upper())},
}
_OCTAL = re.compile(r"[-+]?0[0-7]{1,20}")
_GROUPED = re.compile(r"[-+]?[1-9][0-9_]{0,20}")
_VAULT = "is encrypted with ansible-vault, which is not opened here"
_VAULT_HINT = (
    "make it a secret of the inventory: `secrets: {NAME: {command: [ansible-vault, view, FILE]}}`, "
    "and read it with secret('NAME')"
)
_QUOTED_VALUE = re.compile(r"\s*(?:- )?(?:[\w.-]+:\s+)?'")
_UNPRINTABLE = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff]")


def read_text(path: Path, problems: Problems) -> Source | None:
    """Read a file of text, whatever it is in; None (and a problem) if it is no text."""
    name = display_name(path)
    data = _bytes(path, name, problems)
    text = _decode(data, name, problems) if data is not None else None
    if data is None or text is None:
        return None
    source = Source(path, text, hashlib.sha256(data).hexdigest())
    problems.register(source.name, source.line)
    return source


def read(path: Path, problems: Problems, *, ansible: bool = False) -> Source | None:
    """Read a YAML file; None (and problems) if there is nothing that could be understood.

    `ansible`: plain words and numbers mean what they mean to Ansible (YAML 1.1): ``yes`` is true.
    """
    source = read_text(path, problems)
    if source is None:
        return None
    if source.text.startswith("$ANSIBLE_VAULT"):
        problems.add(source.name, (1, 1), f"the file {_VAULT}", _VAULT_HINT)
        return None
    try:
        source.root = _Reader(source, problems, ansible).document()
    except yaml.YAMLError as error:
        _syntax_problem(error, source, problems)
    except _Stop:
        pass
    else:
        return source
    return None


def _bytes(path: Path, name: str, problems: Problems) -> bytes | None:
    try:
        if path.exists() and not path.is_file():  # a pipe or device may never end
            problems.add(name, (0, 0), "this is not a file")
            return None
        with path.open("rb") as stream:
            data = stream.read(LARGEST + 1)
    except FileNotFoundError:
        problems.add(name, (0, 0), "there is no such file")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        problems.add(name, (0, 0), f"the file cannot be read: {reason}")
    else:
        if len(data) <= LARGEST:
            return data
        problems.add(name, (0, 0), f"the file is larger than {LARGEST >> 20} MiB")
    return None


def _decode(data: bytes, name: str, problems: Problems) -> str | None:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        byte = data[error.start]
        said = f"this is not UTF-8 text: the byte 0x{byte:02x} stands where a character is due"
        problems.add(name, (line, column), said)
        return None
    found = _UNPRINTABLE.search(text)
    if found is not None:
        line = text.count("\n", 0, found.start()) + 1
        column = found.start() - (text.rfind("\n", 0, found.start()) + 1) + 1
        said = f"this is not text: it holds the control character U+{ord(found[0]):04X}"
        problems.add(name, (line, column), said)
        return None
    return text


def _syntax_problem(error: yaml.YAMLError, source: Source, problems: Problems) -> None:
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    at = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
    said = str(getattr(error, "problem", None) or error).split("\n", 1)[0]
    line = source.line(at[0])
    hint = _hint_for(said, line, at, error, source)
    if "\t" in line[: at[1]] and ("token" in said or "tab" in said):
        said, hint = "a tab stands where YAML wants spaces", "indent with spaces"
    elif said == "mapping values are not allowed in this context":
        said = "there is a second ':' in this line, or the line is indented too far"
        hint = "put text that holds ': ' in quotes"
    elif "{{" in line and ("flow" in said or "expected" in said):
        hint = "put a value that begins with '{{' in quotes"
    problems.add(source.name, at, f"this is no YAML: {said}", hint)


def _hint_for(said: str, line: str, at: Spot, error: yaml.YAMLError, source: Source) -> str:
    """What to write instead of what the YAML parser stumbled over."""
    began = getattr(error, "context_mark", None)
    doing = str(getattr(error, "context", None) or "")
    if began is not None and ("quoted scalar" in doing or "flow" in doing):
        what = "quote" if "quoted" in doing else "bracket"
        number, column = began.line + 1, began.column + 1
        sign = source.line(number)[column - 1 : column]
        return f"the {what} {sign} of line {number}, column {column}, is not closed"
    if "cannot start any token" in said:
        return f"put text that begins with '{line[at[1] - 1 : at[1]]}' in quotes"
    if "alphabetic or numeric character" in said:
        return f"put text that begins with '{line[max(at[1] - 2, 0) : at[1] - 1]}' in quotes"
    if "did not find expected" in said and not line[: at[1] - 1].strip():
        return "indent this line like those it belongs to"
    if "did not find expected key" in said and _QUOTED_VALUE.match(line):
        return "a ' inside '…' is written twice, or put the whole text in \"…\""
    if "did not find expected" in said and ": " in line[: at[1]]:
        return "put text that holds ': ' in quotes"
    return ""


class _Stop(Exception):
    """Nothing sensible can follow; the problem has been noted."""


class _Frame:
    """A mapping or list under construction."""

    __slots__ = ("anchor", "key", "key_at", "merges", "size", "value")

    def __init__(self, value: Map | Seq, anchor: str | None) -> None:
        self.value = value
        self.anchor = anchor
        self.key: str | None = None
        self.key_at: Spot = (0, 0)
        self.merges: list[tuple[Any, Spot]] = []
        self.size = 1


class _Reader:
    """Turns the events of one document into a value."""

    def __init__(self, source: Source, problems: Problems, ansible: bool = False) -> None:
        self._source = source
        self._resolve = resolve_as_ansible if ansible else resolve
        self._problems = problems
        self._stack: list[_Frame] = []
        self._anchors: dict[str, tuple[Any, Spot, str | None, int]] = {}
        self._aliased = 0
        self._root: Any = None

    def document(self) -> Any:
        """The value of the only document; None for an empty file."""
        documents = 0
        handlers = {
            yaml.ScalarEvent: self._scalar,
            yaml.MappingStartEvent: self._begin_map,
            yaml.SequenceStartEvent: self._begin_seq,
            yaml.MappingEndEvent: self._end,
            yaml.SequenceEndEvent: self._end,
            yaml.AliasEvent: self._alias,
        }
        for event in yaml.parse(self._source.text, Loader=_Loader):
            handle = handlers.get(type(event))
            if handle is not None:
                handle(event)
            elif isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    at = _spot(event.start_mark)
                    self._stop(at, "a second document begins here; a file holds one", "")
        return self._root

    def _add(self, at: Spot, message: str, suggestion: str = "") -> None:
        self._problems.add(self._source.name, at, message, suggestion)

    def _stop(self, at: Spot, message: str, suggestion: str = "") -> None:
        self._add(at, message, suggestion)
        raise _Stop

    # -- events -------------------------------------------------------------------------------
    def _scalar(self, event: Any) -> None:
        mark = event.start_mark
        at = (mark.line + 1, mark.column + 1)
        text: str = event.value
        if event.tag is not None and event.tag != "!":
            self._refuse_tag(event, at)
        if event.implicit[0] and self._stack and self._awaits_key(self._stack[-1]):
            self._key(text, at, plain=True)
        elif event.implicit[0]:
            value = self._resolve(text)
            raw = None if isinstance(value, str) else text
            self._value(value, at, raw, event.anchor, 1)
        elif self._stack and self._awaits_key(self._stack[-1]):
            self._key(text, at, plain=False)
        else:
            self._value(text, at, None, event.anchor, 1)

    def _begin_map(self, event: Any) -> None:
        self._begin(event, Map(_spot(event.start_mark)))

    def _begin_seq(self, event: Any) -> None:
        self._begin(event, Seq(_spot(event.start_mark)))

    def _begin(self, event: Any, value: Map | Seq) -> None:
        if event.tag is not None and event.tag != "!":
            self._refuse_tag(event, value.at)
        if len(self._stack) >= DEEPEST:
            self._stop(value.at, f"this is nested more than {DEEPEST} levels deep")
        if self._stack and self._awaits_key(self._stack[-1]):
            braces = self._source.line(value.at[0])[: value.at[1]].endswith("{{")
            hint = "put a value that begins with '{{' in quotes" if braces else ""
            self._stop(value.at, "a key has to be a word, not a list or mapping", hint)
        self._stack.append(_Frame(value, event.anchor))

    def _end(self, event: Any) -> None:
        frame = self._stack.pop()
        if isinstance(frame.value, Map):
            for merged, at in frame.merges:
                self._merge(frame.value, merged, at)
        self._value(frame.value, frame.value.at, None, frame.anchor, frame.size)

    def _alias(self, event: Any) -> None:
        at = _spot(event.start_mark)
        if any(frame.anchor == event.anchor for frame in self._stack):
            self._stop(at, f"the alias *{event.anchor} stands inside what it stands for")
        if event.anchor not in self._anchors:
            said = f"there is no anchor &{event.anchor} before this alias"
            self._stop(at, said, "put text that begins with '*' in quotes")
        if self._stack and self._awaits_key(self._stack[-1]):
            self._stop(at, "a key has to be a word, not an alias")
        value, _, raw, size = self._anchors[event.anchor]
        self._aliased += size
        if self._aliased > MOST_ALIASED:
            said = f"the aliases up to here stand for more than {MOST_ALIASED} values"
            self._stop(at, said, "write out what is really needed")
        self._value(value, at, raw, None, size)

    # -- putting values into their places -----------------------------------------------------
    @staticmethod
    def _awaits_key(frame: _Frame) -> bool:
        return frame.key is None and type(frame.value) is Map

    def _key(self, text: str, at: Spot, *, plain: bool) -> None:
        frame = self._stack[-1]
        frame.key, frame.key_at = text, at
        if plain and text == "":
            self._stop(at, "a key is missing before the ':'")

    def _value(self, value: Any, at: Spot, raw: str | None, anchor: str | None, size: int) -> None:
        if anchor is not None:
            self._anchors[anchor] = (value, at, raw, size)
        if not self._stack:
            self._root = value
            return
        frame = self._stack[-1]
        frame.size += size
        if isinstance(frame.value, Seq):
            frame.value.put(value, at, raw)
            return
        key, frame.key = frame.key, None
        assert key is not None
        if key == "<<":
            frame.merges.append((value, at))
        elif key in frame.value:
            first = frame.value.key_at(key)[0]
            self._add(
                frame.key_at, f"the key '{key}' is here twice; it stands in line {first}, too"
            )
        else:
            frame.value.put(key, value, frame.key_at, at, raw)

    def _merge(self, into: Map, merged: Any, at: Spot) -> None:
        """``<<``: entries of other mappings, unless the mapping has them itself."""
        for each in merged if isinstance(merged, Seq) else [merged]:
            if not isinstance(each, Map):
                self._stop(at, "`<<` takes a mapping or a list of mappings")
            self._aliased += len(each)
            if self._aliased > MOST_ALIASED:
                self._stop(at, f"merge keys up to here bring more than {MOST_ALIASED} values")
            for key, value in each.items():
                if key not in into:
                    raw = each.raws.get(key) if each.raws else None
                    into.put(key, value, each.key_at(key), each.value_at(key), raw)

    def _refuse_tag(self, event: Any, at: Spot) -> None:
        tag = str(event.tag).replace("tag:yaml.org,2002:", "!!")
        if tag == "!vault":
            self._stop(at, f"the tag !vault is not allowed: the value {_VAULT}", _VAULT_HINT)
        if tag == "!unsafe":
            hint = "write the text without it, its braces between {% raw %} and {% endraw %}"
            self._stop(at, "the tag !unsafe is not allowed", hint)
        hint = "a runbook holds plain values only"
        if tag[:1] == "!" and tag[1:2] != "!":
            hint = "put text that begins with '!' in quotes"
        self._stop(at, f"the tag {tag} is not allowed", hint)


_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


def _spot(mark: Any) -> Spot:
    return (mark.line + 1, mark.column + 1)


def resolve(text: str) -> Any:
    """What a plain scalar means: null, true, false, a number, else text.

    ``yes`` and ``off`` are text, and so are numbers that would lose something: ``007``,
    ``1_000``, ``12:30``, more digits than a machine number holds.
    """
    if text in _WORDS:
        return _WORDS[text]
    first = text[0]
    if first not in "-+.0123456789":
        return text
    if _INTEGER.fullmatch(text):
        return int(text)
    if _FLOAT.fullmatch(text):
        number = float(text)
        return number if abs(number) < 1e300 else text
    return int(text, 16) if _HEXADECIMAL.fullmatch(text) else text


def resolve_as_ansible(text: str) -> Any:
    """The same in a file of Ansible's: ``yes`` and ``off`` are booleans, ``0644`` is octal."""
    if text in _ANSIBLE_WORDS:
        return _ANSIBLE_WORDS[text]
    if _OCTAL.fullmatch(text):
        return int(text, 8)
    if _GROUPED.fullmatch(text) and "_" in text:
        return int(text.replace("_", ""))
    return resolve(text)
