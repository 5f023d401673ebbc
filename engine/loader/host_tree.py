"""Groups and hosts of an inventory, in the shape that Ansible has for them in YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from engine.inventory import Group, Inventory
from engine.loader.book import Book
from engine.loader.fields import Fields
from engine.loader.source import Map, Seq, Spot
from engine.registry import describe
from engine.registry.types import as_written
from engine.templating import RESERVED

MOST_HOSTS = 10_000

_RANGE = re.compile(r"\[(\d+|[a-zA-Z]):(\d+|[a-zA-Z])(?::(\d+))?\]")
_HOST = re.compile(
    r"(?:[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]+)"
)
_GROUP_KEYS = ("hosts", "vars", "children")


class HostTree:
    """Reads groups with hosts, variables and children, as Ansible writes them.

    Whatever is read is added to the inventory: what a later file says of a host or group wins.
    """

    def __init__(self, inventory: Inventory, book: Book) -> None:
        self.inventory = inventory
        self.book = book
        self.source = book.source
        self.problems = book.problems
        self._members: dict[str, set[str]] = {}
        self._children: dict[tuple[str, str], tuple[int, int]] = {}

    def read(self, map: Map) -> None:
        """A mapping of groups, as it stands below ``hosts`` or at the top of Ansible's files."""
        fields = Fields(map, self.source, self.problems)
        for name, value in map.items():
            self._group(name, value, fields, ())
        self.report_cycles()

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
        for key in value:
            if key.startswith("ansible_"):
                said = f"'{key}' is a variable, and stands beside `vars` of the group '{name}'"
                fields.problem(value.key_at(key), said, "move it below `vars:`")
            elif key not in _GROUP_KEYS:
                fields.unknown_key(key, _GROUP_KEYS, f"the group '{name}'")
        variables = fields.mapping("vars")
        if variables is not None:
            self.group_variables(group, host_variables(self.book, variables))
        self._hosts_of(group, fields)
        children = fields.mapping("children")
        for child, inner in (children or {}).items():
            assert children is not None
            self.child(group, child, children.key_at(child))
            self._group(child, inner, Fields(children, self.source, self.problems), (*way, name))

    def child(self, group: Group, name: str, at: Spot) -> None:
        """Note that a group is inside another."""
        self.inventory.groups.setdefault(name, Group(name))
        if name not in group.children:
            group.children.append(name)
            self._children[group.name, name] = at

    def group_variables(self, group: Group, variables: dict[str, Any]) -> None:
        """Variables of a group; its priority is none of them."""
        priority = variables.pop("ansible_group_priority", None)
        if isinstance(priority, str) and priority.strip("+-").isdigit():
            priority = int(priority)
        if isinstance(priority, int):
            group.priority = priority
        group.vars.update(variables)

    def _hosts_of(self, group: Group, fields: Fields) -> None:
        given = fields.map.get("hosts")
        if isinstance(given, Seq | str):
            for name, at in fields.words("hosts"):
                self.host(group, name, {}, at)
            return
        map = fields.mapping("hosts")
        for name, value in (map or {}).items():
            assert map is not None
            if isinstance(value, Map):
                self.host(group, name, host_variables(self.book, value), map.key_at(name))
            elif value is None:
                self.host(group, name, {}, map.key_at(name))
            else:
                said = f"the host '{name}' wants a mapping of its variables, not {describe(value)}"
                self.book.problem(map.key_at(name), said)

    def host(self, group: Group | None, pattern: str, variables: dict[str, Any], at: Spot) -> None:
        """A host, or several by a range, in a group; a port may stand behind a ``:``."""
        if next(expand_range(pattern), None) is None:
            self.book.problem(at, f"the range in '{pattern}' is empty: it ends before it begins")
        for each in expand_range(pattern):
            name, port = split_port(each)
            if len(self.inventory.hosts) >= MOST_HOSTS:
                self.book.problem(at, f"the inventory has more than {MOST_HOSTS} hosts")
                return
            if not _HOST.fullmatch(name):
                self.book.problem(at, f"'{each}' is no name of a host")
                return
            own = self.inventory.hosts.setdefault(name, {})
            own.update({"ansible_port": port} if port else {})
            own.update(variables)
            if group is not None and name not in self._members.setdefault(group.name, set()):
                self._members[group.name].add(name)
                if name not in group.hosts:
                    group.hosts.append(name)

    def report_cycles(self) -> None:
        """Problems of groups that are inside each other; they are taken apart."""
        groups = self.inventory.groups
        state: dict[str, int] = {}

        def walk(name: str, way: list[str]) -> None:
            if state.get(name) == 2 or name not in groups:
                return
            if name in way:
                path = " → ".join([*way[way.index(name) :], name])
                said = f"these groups are each other's children: {path}"
                at = self._children.get((way[-1], name), (0, 0))
                self.book.problem(at, said)
                groups[way[-1]].children.remove(name)
                return
            for child in list(groups[name].children):
                walk(child, [*way, name])
            state[name] = 2

        for name in list(groups):
            walk(name, [])


def host_variables(book: Book, map: Map) -> dict[str, Any]:
    """Variables of hosts and groups. As in Ansible any name will do: one that is no word is read as
    ``host['http-port']``."""
    fields = Fields(map, book.source, book.problems)
    found: dict[str, Any] = {}
    for name, value in map.items():
        if name in RESERVED:
            said = f"the variable '{name}' takes a name that means something else here"
            book.problem(map.key_at(name), said)
            continue
        found[name] = as_written(value, fields.raw(name))
        book.note(value, map.value_at(name), None, variable=name)
    return found


def split_port(pattern: str) -> tuple[str, int | None]:
    """``web1:2222`` → web1 and 2222; ``[2001:db8::1]:22`` likewise; an address of IPv6 has none."""
    bracketed = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::(\d{1,5}))?", pattern)
    plain = bracketed or re.fullmatch(r"([^:]+):(\d{1,5})", pattern)
    if plain is None:
        return pattern, None
    return plain[1], int(plain[2]) if plain[2] else None


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
