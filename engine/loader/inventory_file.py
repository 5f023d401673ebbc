"""Reads an inventory file: `Inventory` from YAML, with every problem at its place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from engine.inventory import COMMON_KEYS, Group, Inventory, SecretSource
from engine.loader.book import Book, Session
from engine.loader.fields import Fields
from engine.loader.reader import read
from engine.loader.source import Map, Seq
from engine.registry import describe
from engine.registry.types import as_written, plain
from engine.templating import is_template
from engine.text import fold

MOST_HOSTS = 10_000

_RANGE = re.compile(r"\[(\d+|[a-zA-Z]):(\d+|[a-zA-Z])(?::(\d+))?\]")
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.:-]*[A-Za-z0-9_])?")
_GROUP_KEYS = ("hosts", "vars", "children")


def read_inventory(session: Session, path: Path) -> Inventory | None:
    """The inventory at an absolute path; None if it cannot be read at all.

    Its templates are noted in the session's `inventory_book`, to be checked later.
    """
    source = read(path, session.problems)
    if source is None:
        return None
    book = session.inventory_book = Book(session, source)
    book.of_inventory = True
    return _inventory_of(book)


def _inventory_of(book: Book) -> Inventory:
    source, problems = book.source, book.problems
    inventory = Inventory(file=source.name, folder=str(source.path.parent), name=source.path.stem)
    if source.root is None:
        return inventory
    if not isinstance(source.root, Map):
        said = (
            f"an inventory is a mapping with `vars`, `hosts` and so on, not {describe(source.root)}"
        )
        problems.add(source.name, (1, 1), said)
        return inventory
    fields = Fields(source.root, source, problems)
    inventory.name = fields.text("name", inventory.name) or inventory.name
    inventory.vars = _variables(book, fields, "vars")
    inventory.endpoints = _table(book, fields, "endpoints")
    inventory.metrics = _table(book, fields, "metrics")
    _check_metrics(book, fields)
    inventory.secrets = _secrets(fields)
    _Hosts(inventory, book).read(fields)
    inventory.sections = _sections(book, fields)
    return inventory


def _sections(book: Book, fields: Fields) -> dict[str, Any]:
    found: dict[str, Any] = {}
    registry = book.session.registry
    modules = registry.names()
    for key, value in fields.map.items():
        if key in COMMON_KEYS and key != "traffic":
            continue
        if key != "traffic" and not registry.has_module(key):
            fields.unknown_key(key, (*COMMON_KEYS, *modules), "an inventory")
        elif value is None or isinstance(value, Map):
            found[fold(key)] = plain(value or {})
            book.note(value, fields.map.value_at(key), None, variable=key)
        else:
            fields.wrong(key, "a mapping")
    return found


def _variables(book: Book, fields: Fields, key: str) -> dict[str, Any]:
    map = fields.mapping(key)
    return {} if map is None else _variables_of(book, map)


def _variables_of(book: Book, map: Map) -> dict[str, Any]:
    fields = Fields(map, book.source, book.problems)
    found: dict[str, Any] = {}
    for name, value in map.items():
        if fields.variable_name(name, map.key_at(name), "the variable"):
            found[name] = as_written(value, fields.raw(name))
            book.note(value, map.value_at(name), None, variable=name)
    return found


def _table(book: Book, fields: Fields, key: str) -> dict[str, Any]:
    map = fields.mapping(key)
    if map is None:
        return {}
    book.note(map, map.at, None, variable=key)
    return {name: plain(value) for name, value in map.items()}


def _check_metrics(book: Book, fields: Fields) -> None:
    """`value` and `samples` of a JSON endpoint are expressions, which nothing may write but people:
    no template."""
    metrics = fields.map.get("metrics")
    for definition in metrics.values() if isinstance(metrics, Map) else ():
        if not isinstance(definition, Map):
            continue
        for key in ("value", "samples"):
            text = definition.get(key)
            if isinstance(text, str) and is_template(text):
                said = f"`{key}` of a metric is an expression: written without braces"
                book.problem(definition.value_at(key), said)


# -- secrets --------------------------------------------------------------------------------------
def _secrets(fields: Fields) -> dict[str, SecretSource]:
    map = fields.mapping("secrets")
    found: dict[str, SecretSource] = {}
    for name, value in (map or {}).items():
        assert map is not None
        source = _secret(name, value, Fields(map, fields.source, fields.problems))
        if source is not None:
            found[name] = source
    return found


def _secret(name: str, value: Any, fields: Fields) -> SecretSource | None:
    at = fields.map.value_at(name)
    ways = "say where it lives: {env: NAME}, {file: PATH} or {command: [PROGRAM, …]}"
    if not isinstance(value, Map):
        # the value itself may be the secret, so it is not repeated here
        said = f"the secret '{name}' has to say where its value lives, not what it is"
        fields.problem(at, said, ways)
        return None
    inner = Fields(value, fields.source, fields.problems)
    kinds = [key for key in value if key in ("env", "file", "command")]
    inner.unknown_keys(("env", "file", "command"), f"the secret '{name}'")
    if len(kinds) != 1:
        if len(kinds) == len(value):
            fields.problem(at, f"the secret '{name}' needs exactly one place", ways)
        return None
    place = fields.source.place(at)
    if kinds[0] == "command":
        words = tuple(word for word, _ in inner.words("command"))
        if not isinstance(value["command"], Seq) or not words:
            inner.problem(
                value.value_at("command"), "`command` wants a list: the program and its arguments"
            )
            return None
        return SecretSource(name, "command", words, place)
    where = inner.text(kinds[0])
    if not where:
        return None
    return SecretSource(name, "env" if kinds[0] == "env" else "file", (where,), place)


# -- hosts ----------------------------------------------------------------------------------------
class _Hosts:
    """Reads ``hosts``: groups with hosts, variables and children, as Ansible writes them."""

    def __init__(self, inventory: Inventory, book: Book) -> None:
        self.inventory = inventory
        self.book = book
        self.source = book.source
        self.problems = book.problems
        self._members: set[tuple[str, str]] = set()
        self._children: dict[tuple[str, str], tuple[int, int]] = {}

    def read(self, fields: Fields) -> None:
        """Fill in groups and hosts."""
        map = fields.mapping("hosts")
        for name, value in (map or {}).items():
            assert map is not None
            self._group(name, value, Fields(map, self.source, self.problems), ())
        self._report_cycles(fields)

    def _group(self, name: str, value: Any, around: Fields, way: tuple[str, ...]) -> None:
        at = around.map.key_at(name)
        group = self.inventory.groups.setdefault(name, Group(name))
        if value is None:
            return
        if not isinstance(value, Map):
            around.problem(at, f"the group '{name}' wants a mapping, not {describe(value)}")
            return
        if len(value) and not any(key in _GROUP_KEYS for key in value):
            hint = "hosts stand below a group: write `all: {hosts: {…}}`"
            around.problem(at, f"the group '{name}' has no `hosts`, `vars` or `children`", hint)
            return
        fields = Fields(value, self.source, self.problems)
        fields.unknown_keys(_GROUP_KEYS, f"the group '{name}'")
        group.vars.update(_variables(self.book, fields, "vars"))
        self._hosts_of(group, fields)
        children = fields.mapping("children")
        for child, inner in (children or {}).items():
            assert children is not None
            if child not in group.children:
                group.children.append(child)
                self._children[name, child] = children.key_at(child)
            self._group(child, inner, Fields(children, self.source, self.problems), (*way, name))

    def _hosts_of(self, group: Group, fields: Fields) -> None:
        given = fields.map.get("hosts")
        if isinstance(given, Seq):
            for name, at in fields.words("hosts"):
                self._host(group, name, None, fields, at)
            return
        map = fields.mapping("hosts")
        for name, value in (map or {}).items():
            assert map is not None
            self._host(
                group, name, value, Fields(map, self.source, self.problems), map.key_at(name)
            )

    def _host(
        self, group: Group, pattern: str, value: Any, fields: Fields, at: tuple[int, int]
    ) -> None:
        if value is not None and not isinstance(value, Map):
            said = f"the host '{pattern}' wants a mapping of its variables, not {describe(value)}"
            fields.problem(at, said)
            return
        if next(expand_range(pattern), None) is None:
            fields.problem(at, f"the range in '{pattern}' is empty: it ends before it begins")
        for name in expand_range(pattern):
            if len(self.inventory.hosts) >= MOST_HOSTS:
                fields.problem(at, f"the inventory has more than {MOST_HOSTS} hosts")
                return
            if not _HOST.fullmatch(name):
                fields.problem(at, f"'{name}' is no name of a host")
                return
            variables = self.inventory.hosts.setdefault(name, {})
            if isinstance(value, Map):
                variables.update(_variables_of(self.book, value))
            if (group.name, name) not in self._members:
                self._members.add((group.name, name))
                group.hosts.append(name)

    def _report_cycles(self, fields: Fields) -> None:
        groups = self.inventory.groups
        state: dict[str, int] = {}

        def walk(name: str, way: list[str]) -> None:
            if state.get(name) == 2 or name not in groups:
                return
            if name in way:
                path = " → ".join([*way[way.index(name) :], name])
                said = f"these groups are each other's children: {path}"
                fields.problem(self._children[way[-1], name], said)
                groups[way[-1]].children.remove(name)
                return
            for child in list(groups[name].children):
                walk(child, [*way, name])
            state[name] = 2

        for name in list(groups):
            walk(name, [])


def expand_range(pattern: str) -> Iterator[str]:
    """``web[01:03]`` → web01, web02, web03; ``db-[a:c]`` → db-a, db-b, db-c; ``w[1:9:4]`` → w1, w5,
    w9; else itself."""
    found = _RANGE.search(pattern)
    if found is None:
        yield pattern
        return
    first, last, step = found[1], found[2], int((found[3] or "1")[:9]) or 1
    if first.isdigit() != last.isdigit():
        yield pattern
        return
    low, high = (int(first), int(last)) if first.isdigit() else (ord(first), ord(last))
    for number in range(low, min(high, low + MOST_HOSTS * step) + 1, step):
        text = str(number).zfill(len(first)) if first.isdigit() else chr(number)
        yield from expand_range(pattern[: found.start()] + text + pattern[found.end() :])
