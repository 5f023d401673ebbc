"""The inventory: where a run works. Variables, secrets, connections, hosts and their patterns.

The loader reads an inventory from a file; here is what it becomes and how it is asked: which
hosts a pattern means, which variables a host has, what a secret's value is. Values that may hold
templates are kept as written and rendered where they are used.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Iterable
from typing import Any, Literal

import msgspec

from engine import regex
from engine.errors import UsageError
from engine.model import Place
from engine.text import did_you_mean

COMMON_KEYS = ("name", "vars", "secrets", "endpoints", "metrics", "hosts", "traffic")
"""Top-level keys besides the names of modules."""


class SecretSource(msgspec.Struct, frozen=True):
    """Where a secret's value lives: an environment variable, a file, or a command's output."""

    name: str
    kind: Literal["env", "file", "command"]
    where: tuple[str, ...]
    place: Place | None = None


class Group(msgspec.Struct):
    """A group of hosts: direct hosts, child groups, variables."""

    name: str
    hosts: list[str] = []
    children: list[str] = []
    vars: dict[str, Any] = {}
    file_vars: dict[str, Any] = {}
    """Those of ``group_vars/`` beside the inventory, which come before `vars` of any group."""
    priority: int = 1
    """``ansible_group_priority``: of groups as deep as each other, the higher one wins."""


class Inventory(msgspec.Struct, dict=True):
    """An inventory as data. `folder` is what its relative paths start from (absolute)."""

    file: str = ""
    name: str = ""
    folder: str = "."
    vars: dict[str, Any] = {}
    secrets: dict[str, SecretSource] = {}
    endpoints: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    sections: dict[str, Any] = {}
    """Connections by the canonical names of the modules they are for (``http-check``)."""
    groups: dict[str, Group] = {}
    hosts: dict[str, dict[str, Any]] = {}
    """Each host's own variables, in the order of the file."""
    host_file_vars: dict[str, dict[str, Any]] = {}
    """Those of ``host_vars/`` beside the inventory, which come before the host's own."""
    files: tuple[str, ...] = ()
    """Every file that took part, by the path it was found under."""

    def section(self, name: str) -> dict[str, Any]:
        """A part of the inventory as written: ``endpoints``, ``metrics`` or a module's; may be
        {}."""
        if name in ("endpoints", "metrics"):
            entry: Any = getattr(self, name)
        else:
            entry = self.sections.get(name.replace("_", "-"))
        return entry if isinstance(entry, dict) else {}

    def variables(self) -> dict[str, Any]:
        """What templates see of the inventory: its variables, ``endpoints``, ``metrics``,
        ``groups`` (names of hosts by group) and ``hosts`` (variables by host)."""
        return {
            **self.vars,
            "endpoints": self.endpoints,
            "metrics": self.metrics,
            "groups": {name: self.hosts_of(name) for name in (*self.groups, "all")},
            "hosts": {name: self.host_vars(name) for name in self.hosts},
        }

    def hosts_of(self, group: str) -> list[str]:
        """Names of the hosts of a group and of its children, in the order of the file."""
        if group == "all":
            return list(self.hosts)
        if group == "ungrouped" and group not in self.groups:
            grouped = {
                host for each in self.groups if each != "all" for host in self._members[each]
            }
            return [name for name in self.hosts if name not in grouped]
        members = self._members.get(group, frozenset())
        return [name for name in self.hosts if name in members]

    def host_vars(self, host: str) -> dict[str, Any]:
        """A host's variables, as Ansible has them: those of its groups, outer before inner, those
        of ``group_vars/``, its own, those of ``host_vars/``; later ones win."""
        variables: dict[str, Any] = {}
        own = [
            self.groups[group]
            for group in self._outer_first
            if group == "all" or host in self._members[group]
        ]
        for group in own:
            variables.update(group.vars)
        for group in own:
            variables.update(group.file_vars)
        variables.update(self.hosts.get(host, {}))
        variables.update(self.host_file_vars.get(host, {}))
        return variables

    def variable_names(self) -> dict[str, None]:
        """Names of variables that it, a group or any host has."""
        layers = [self.vars, *self.hosts.values(), *self.host_file_vars.values()]
        for group in self.groups.values():
            layers += [group.vars, group.file_vars]
        return dict.fromkeys(name for layer in layers for name in layer)

    def select(self, pattern: str | Iterable[str], limit: str | None = None) -> list[str]:
        """Names of the hosts that a pattern means, as in Ansible, in the order of the file.

        ``all``, a group, a host, globs, ``~regex``, ``group[0]`` and ``group[0:2]``; parts are
        joined by ``:`` or ``,``; ``!`` takes away, ``&`` keeps only. `limit` is a second pattern
        that hosts have to match too. Raises UsageError for a name that is neither.
        """
        names = self._select(pattern)
        if limit is not None:
            allowed = set(self._select(limit))
            names = [name for name in names if name in allowed]
        return names

    def _select(self, pattern: str | Iterable[str]) -> list[str]:
        texts = [pattern] if isinstance(pattern, str) else list(pattern)
        parts = [part for text in texts for part in split_pattern(str(text))]
        chosen = {name for part in parts if part[0] not in "!&" for name in self._match(part)}
        if parts and all(part[0] in "!&" for part in parts):
            chosen = set(self.hosts)
        for part in parts:
            if part.startswith("&"):
                chosen &= set(self._match(part[1:]))
        for part in parts:
            if part.startswith("!"):
                chosen -= set(self._match(part[1:]))
        return [name for name in self.hosts if name in chosen]

    def _match(self, part: str) -> list[str]:
        if part.startswith("~"):
            return self._matching_regex(part[1:])
        name, subscript = _subscript(part)
        if name in ("all", "*"):
            names = list(self.hosts)
        elif name in self.groups or name == "ungrouped":
            names = self.hosts_of(name)
        elif name in self.hosts:
            names = [name]
        elif any(character in name for character in "*?["):
            names = self._matching_glob(name)
        else:
            raise UsageError(
                f"the inventory has no host or group '{name}'",
                hint=did_you_mean(name, ["all", *self.groups, *self.hosts], what="it has"),
            )
        return names if subscript is None else names[subscript]

    def _matching_regex(self, pattern: str) -> list[str]:
        names = [*self.groups, *self.hosts]
        try:
            matches = set(regex.beginning_with(pattern, names))
        except re.error as error:
            raise UsageError(
                f"the host pattern '~{pattern}' is no regular expression: {error}"
            ) from None
        except (ValueError, RecursionError, OverflowError) as error:
            raise UsageError(f"the host pattern '~{pattern}' cannot be used: {error}") from None
        groups = {h for g in self.groups if g in matches for h in self.hosts_of(g)}
        return [name for name in self.hosts if name in groups or name in matches]

    def _matching_glob(self, pattern: str) -> list[str]:
        groups = {
            host
            for group in self.groups
            if fnmatch.fnmatchcase(group, pattern)
            for host in self.hosts_of(group)
        }
        return [name for name in self.hosts if name in groups or fnmatch.fnmatchcase(name, pattern)]

    @functools.cached_property
    def _outer_first(self) -> list[str]:
        """Names of groups, parents before children; as in Ansible by depth, then by priority, then
        by name."""
        depth = dict.fromkeys(self.groups, 0)
        for _ in self.groups:
            deeper = {
                child: depth[name] + 1
                for name, group in self.groups.items()
                for child in group.children
                if child in depth and depth[child] <= depth[name]
            }
            if not deeper:
                break
            depth.update(deeper)
        return sorted(
            self.groups,
            key=lambda name: (name != "all", depth[name], self.groups[name].priority, name),
        )

    @functools.cached_property
    def _members(self) -> dict[str, frozenset[str]]:
        """Hosts of each group, those of its children included."""
        members: dict[str, frozenset[str]] = {}
        for name in reversed(self._outer_first):
            group = self.groups[name]
            inner = (members.get(child, frozenset()) for child in group.children)
            members[name] = frozenset(group.hosts).union(*inner)
        if "ungrouped" in members:
            grouped = frozenset().union(
                *(members[name] for name in members if name not in ("all", "ungrouped"))
            )
            members["ungrouped"] |= frozenset(self.hosts) - grouped
        return members


def split_pattern(text: str) -> list[str]:
    """The parts of a host pattern: ``web:!web1`` → ``web``, ``!web1``; subscripts stay whole."""
    parts = re.split(r"[:,](?![^\[]*\])", text)
    return [part.strip() for part in parts if part.strip()]


def _subscript(part: str) -> tuple[str, slice | None]:
    match = re.fullmatch(r"([^\[\]]+)\[(-?\d+)?(?:([:-])(-?\d+)?)?\]", part)
    if match is None or (match[2] is None and match[3] is None):
        return part, None
    start = int(match[2]) if match[2] else 0
    if match[3] is None:
        return match[1], slice(start, start + 1 or None)
    # Ansible counts the end in: web[0:1] are the first two.
    end = int(match[4]) + 1 if match[4] else None
    return match[1], slice(start, end or None)
