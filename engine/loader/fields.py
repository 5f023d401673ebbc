"""Reads typed values out of a mapping of a file and notes what does not fit, with its place."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from engine.loader.problems import Problems
from engine.loader.source import Map, Seq, Source, Spot
from engine.registry import describe
from engine.templating import RESERVED, is_template
from engine.text import did_you_mean, parse_boolean
from engine.units import parse_duration

NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")

COMMON = (
    *("id", "name", "needs", "when", "hosts", "on", "loop", "serial", "max_fail_percentage"),
    *("retry",),
    *("until", "failed_when", "changed_when", "register", "timeout", "budget", "guards"),
    *("confirm", "undo", "rescue", "always", "ignore_errors", "no_log", "tags", "vars"),
    "after_rescue",
)
"""Keys that every step may have."""

STRUCTURE = ("steps", "runbook", "with", "parallel")
"""Keys of groups and included runbooks."""

FOREIGN = {
    "block": "a group is written `steps:`",
    "tasks": "a group is written `steps:`",
    "depends_on": "dependencies are written `needs:`",
    "if": "a condition is written `when:`",
    "with_items": "a loop is written `loop:`",
    "retries": "it is written `retry: {attempts: 3, delay: 5s}`",
    "delay": "it is written `retry: {attempts: 3, delay: 5s}`",
    "uses": "another runbook is included with `runbook:`",
    "import_playbook": "another runbook is included with `runbook:`",
    "include_tasks": "another runbook is included with `runbook:`",
    "run": "a command is written `shell:`",
    "command": "a command is written `shell:`",
    "variables": "variables are written `vars:`",
    "timeout_minutes": "it is written `timeout: 20m`",
    "timeout-minutes": "it is written `timeout: 20m`",
    "continue-on-error": "it is written `ignore_errors: true`",
}
"""Words of other systems, and what is written here instead."""

FOREIGN_IN_STEPS = {
    **FOREIGN,
    **dict.fromkeys(("depends", "after", "requires"), "dependencies are written `needs:`"),
    **dict.fromkeys(("condition", "only_if"), "a condition is written `when:`"),
    **dict.fromkeys(("foreach", "for_each", "items"), "a loop is written `loop:`"),
    **dict.fromkeys(("on_failure", "catch"), "what runs after a failure is written `rescue:`"),
    **dict.fromkeys(("finally", "post"), "what runs in every case is written `always:`"),
    **dict.fromkeys(("rollback", "revert"), "what takes a step back is written `undo:`"),
    **dict.fromkeys(("environment", "env"), "it is an argument: `shell: {command: …, env: {…}}`"),
    **dict.fromkeys(("debug", "print", "echo"), "write `shell: echo …`"),
    "set_fact": "variables are written `vars:`, results are `register:`ed",
    "fail": "write `assert:` with `that` and `fail_msg`",
    **dict.fromkeys(
        ("delegate_to", "connection", "local_action", "run_on"),
        "a step of many hosts says `on: controller` or `on: hosts`",
    ),
    **dict.fromkeys(
        ("become", "become_user", "sudo"),
        "write `shell: sudo …`, or connect as that user",
    ),
    **dict.fromkeys(
        (
            *("apt", "yum", "dnf", "package", "pip", "service", "systemd", "systemd_service"),
            *("copy", "file", "template", "lineinfile", "blockinfile", "get_url", "unarchive"),
            *("user", "group", "cron", "mount", "git", "script", "raw", "stat", "slurp", "fetch"),
            *("meta", "setup", "k8s", "docker_container", "postgresql_query", "wait_for"),
        ),
        "modules of Ansible are not there: write the command with `shell:` and `on: hosts`, or "
        "look at `ce-run modules`",
    ),
    "handlers": "a handler is a step with `when: steps.ID.changed`",
    "uri": "write `http-check:` or `http.request:`",
    "pause": "write `wait:` for a time, `confirm:` for a person",
    "description": "what a step is for is written `name:`",
}
"""The same, with words that would mean something else outside a step."""


class Fields:
    """One mapping of a file being read: values by key, problems at their places."""

    __slots__ = ("map", "problems", "source")

    def __init__(self, map: Map, source: Source, problems: Problems) -> None:
        self.map = map
        self.source = source
        self.problems = problems

    def problem(self, at: Spot, message: str, suggestion: str = "") -> None:
        """Note a problem in this file."""
        self.problems.add(self.source.name, at, message, suggestion)

    def wrong(self, key: str, wanted: str) -> None:
        """Note that a value is not what is wanted."""
        said = f"`{key}` wants {wanted}, not {describe(self.map[key])}"
        self.problem(self.map.value_at(key), said)

    def unknown_keys(self, known: Iterable[str], where: str) -> None:
        """Note keys that mean nothing here."""
        allowed = list(known)
        for key in self.map:
            if key not in allowed:
                self.unknown_key(key, allowed, where)

    def unknown_key(self, key: str, known: Iterable[str], where: str) -> None:
        """Note a key that means nothing here."""
        hint = FOREIGN.get(key) or ("" if self.problems.many else did_you_mean(key, known))
        self.problem(self.map.key_at(key), f"unknown key '{key}' in {where}", hint)

    # -- values -------------------------------------------------------------------------------
    def raw(self, key: str) -> str | None:
        """What was written for a plain value that is not text."""
        return self.map.raws.get(key) if self.map.raws else None

    def text(self, key: str, default: str | None = None) -> str | None:
        """Text; plain numbers and booleans count as what was written."""
        value = self.map.get(key)
        if value is None:
            if key in self.map:
                self.wrong(key, "text")
            return default
        if isinstance(value, str):
            return value
        raw = self.raw(key)
        if raw is not None:
            return raw
        self.wrong(key, "text")
        return default

    def fixed_text(self, key: str) -> str | None:
        """Text that nobody renders, so that it cannot be a template."""
        found = self.text(key)
        if found is not None and is_template(found):
            self.problem(self.map.value_at(key), f"`{key}` cannot be a template")
        return found

    def boolean(self, key: str, default: bool = False) -> bool:
        """true or false, yes or no, on or off."""
        if key not in self.map:
            return default
        found = parse_boolean(self.map[key])
        if found is None:
            self.wrong(key, "true or false")
            return default
        return found

    def duration(self, key: str, default: Any = None) -> Any:
        """Seconds, or a template that will give them."""
        if key not in self.map:
            return default
        value = self.map[key]
        if isinstance(value, str) and is_template(value):
            return value
        found = parse_duration(value)
        if found is None:
            self.wrong(key, "a duration such as 90s, 5m or 1h30m")
            return default
        return found

    def number(self, key: str, default: float, *, least: float, most: float = 1e9) -> float:
        """A number within bounds, given literally."""
        value = self.map.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.wrong(key, "a number")
            return default
        if not least <= value <= most:
            bounds = f"from {least:g} to {most:g}" if most < 1e9 else f"of at least {least:g}"
            self.wrong(key, f"a number {bounds}")
            return default
        return value

    def mapping(self, key: str) -> Map | None:
        """A mapping; None if there is none."""
        value = self.map.get(key)
        if value is None or isinstance(value, Map):
            return value
        self.wrong(key, "a mapping")
        return None

    def words(self, key: str) -> list[tuple[str, Spot]]:
        """A list of texts, or one text, with their places."""
        value = self.map.get(key)
        if isinstance(value, Seq):
            return self._words_of(key, value)
        if value is None or isinstance(value, Map):
            if key in self.map:
                self.wrong(key, "a list of words")
            return []
        text = value if isinstance(value, str) else self.raw(key) or str(value)
        return [(text, self.map.value_at(key))]

    def _words_of(self, key: str, values: Seq) -> list[tuple[str, Spot]]:
        found: list[tuple[str, Spot]] = []
        for index, each in enumerate(values):
            raw = values.raws.get(index) if values.raws else None
            if isinstance(each, str) or (raw and each is not None):
                found.append((raw or str(each), values.item_at(index)))
            else:
                said = f"`{key}` wants a list of words, not {describe(each)} in it"
                self.problem(values.item_at(index), said)
        return found

    def variable_name(self, name: str, at: Spot, what: str) -> bool:
        """Check that a name can be used in templates."""
        if not NAME.fullmatch(name):
            hint = re.sub(r"\W", "_", name, flags=re.ASCII)
            hint = f"write '{hint}'" if NAME.fullmatch(hint) else ""
            said = f"{what} '{name}' has to be a word of letters, digits and _"
            self.problem(at, said, hint)
            return False
        if name in RESERVED:
            self.problem(at, f"{what} '{name}' takes a name that means something else here")
            return False
        return True
