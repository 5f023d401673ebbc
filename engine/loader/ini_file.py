"""An Ansible inventory in INI form: ``[group]``, ``[group:vars]``, ``[group:children]``."""

from __future__ import annotations

import ast
import re
import shlex
from typing import Any

from engine.inventory import Inventory
from engine.inventory.hosts import Group
from engine.loader.book import Book
from engine.loader.host_tree import HostTree
from engine.loader.source import Spot
from engine.registry.types import as_written
from engine.templating import RESERVED
from engine.text import did_you_mean

_SECTION = re.compile(r"\[([^:\]\s]+)(?::(\w+))?\]\s*(?:[#;].*)?")
_KINDS = ("hosts", "vars", "children")


def read_ini(book: Book, inventory: Inventory) -> None:
    """Add what an inventory in INI form says to `inventory`."""
    text = book.source.text
    if text.startswith("#!"):
        said = "this is an inventory script, which is not run here"
        hint = "write what it gives to a file: ansible-inventory -i … --list --yaml > FILE"
        book.problem((1, 1), said, hint)
        return
    _Ini(book, inventory).read(text)


class _Ini:
    """One file under way."""

    def __init__(self, book: Book, inventory: Inventory) -> None:
        self.book = book
        self.tree = HostTree(inventory, book)
        self.groups = inventory.groups
        self.group: Group | None = None
        self.kind = "hosts"
        self._declared = {"all", "ungrouped", *inventory.groups}
        self._expected: dict[str, Spot] = {}
        """Groups that have variables or are children, and whose section may come yet."""

    def read(self, text: str) -> None:
        """All lines; then what was named and never came."""
        for number, line in enumerate(text.splitlines(), 1):
            stripped = line.strip()
            if not stripped or stripped[0] in "#;":
                continue
            at = (number, len(line) - len(line.lstrip()) + 1)
            if stripped[0] == "[":
                self._section(stripped, at)
            elif self.kind == "vars":
                self._variable(stripped, at)
            elif self.kind == "children":
                self._child(stripped, at)
            else:
                self._host(stripped, at)
        for name, at in self._expected.items():
            if name not in self._declared:
                hint = did_you_mean(name, sorted(self._declared), what="there are")
                self.book.problem(at, f"there is no group '{name}'", hint)
        self.tree.report_cycles()

    def _section(self, text: str, at: Spot) -> None:
        found = _SECTION.fullmatch(text)
        kind = found[2] or "hosts" if found else "hosts"
        if found is None or kind not in _KINDS:
            hint = "write [group], [group:vars] or [group:children]"
            self.book.problem(at, f"'{text}' is no section of an inventory", hint)
            return
        self.kind, name = kind, found[1]
        if kind == "vars":
            self._expected.setdefault(name, at)
        else:
            self._declared.add(name)
        self.group = self.groups.setdefault(name, Group(name))

    def _variable(self, text: str, at: Spot) -> None:
        name, equals, value = text.partition("=")
        if not equals:
            hint = "write NAME=VALUE"
            self.book.problem(at, f"'{text}' is no variable", hint)
            return
        assert self.group is not None
        self.tree.group_variables(self.group, self._values([(name.strip(), value.strip())], at))

    def _child(self, text: str, at: Spot) -> None:
        name = text.split("#", 1)[0].strip()
        assert self.group is not None
        self._expected.setdefault(name, at)
        self.tree.child(self.group, name, at)

    def _host(self, text: str, at: Spot) -> None:
        try:
            words = shlex.split(text, comments=True)
        except ValueError as error:
            self.book.problem(at, f"this line cannot be read: {error}".lower(), "close the quote")
            return
        pairs = []
        for word in words[1:]:
            name, equals, value = word.partition("=")
            if not equals:
                self.book.problem(at, f"'{word}' is no variable of a host", "write NAME=VALUE")
            else:
                pairs.append((name, value))
        if words:
            self.tree.host(self.group, words[0], self._values(pairs, at), at)

    def _values(self, pairs: list[tuple[str, str]], at: Spot) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, text in pairs:
            if name in RESERVED:
                said = f"the variable '{name}' takes a name that means something else here"
                self.book.problem(at, said)
                continue
            found[name] = value_of(text)
            self.book.note(found[name], at, None, variable=name)
        return found


def value_of(text: str) -> Any:
    """What a value means: a literal of Python, as in Ansible, else the text."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return as_written(value, text) if _is_plain(value) else text


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(_is_plain(each) for each in value)
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_plain(each) for k, each in value.items())
    return value is None or isinstance(value, str | int | float)
