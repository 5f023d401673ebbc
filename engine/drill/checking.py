"""What a scenario may speak of: steps, confirmations, channels, metrics of what it plays."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from jinja2 import nodes

from engine.drill.names import FUNCTIONS, SEVERITIES, VALUES
from engine.errors import CeRunError, InvalidRunbook
from engine.inventory import Inventory
from engine.loader import convert_inputs, load
from engine.loader.problems import Problems
from engine.plan import Plan, build_plan
from engine.session import registry_for
from engine.session.options import refuse_what_cannot_be_simulated
from engine.templating.references import references
from engine.templating.sandbox import parse
from engine.text import did_you_mean

_OUTAGES = ("cluster", "monitoring", "metrics")
_NAMED_OUTAGES = ("database", "balancer", "changes of balancer", "channel")

_TRANSPORTS = ("slack", "pagerduty", "smtp", "webhook", "statuspage")

Complain = Callable[[str, str, str], None]
"""Note a problem: the key that it is about, what is wrong, what to write instead."""


class Books:
    """The runbooks that a scenario plays, each read once."""

    def __init__(self, problems: Problems, inventory: str | None) -> None:
        self._problems = problems
        self._above = inventory
        self._loaded: dict[tuple[Path, Path | None], tuple[Plan, Inventory] | None] = {}
        self.plans: dict[str, Plan] = {}
        self.inventory: Inventory | None = None

    def load(
        self,
        run: str,
        path: Path,
        inventory: Path | None,
        inputs: Mapping[str, Any],
        complain: Complain,
    ) -> None:
        """Read the runbook of a run; its problems are noted with those of the scenario."""
        chosen = Path(self._above) if self._above else inventory
        key = path, chosen
        if key not in self._loaded:
            self._loaded[key] = self._load(path, chosen, complain)
        found = self._loaded[key]
        if found is None:
            return
        self.plans[run] = found[0]
        self.inventory = self.inventory or found[1]
        try:
            convert_inputs(found[0].runbook.inputs, dict(inputs))
        except CeRunError as error:
            complain("inputs" if inputs else "runbook", error.message, "give them under `inputs:`")

    def _load(
        self, path: Path, inventory: Path | None, complain: Complain
    ) -> tuple[Plan, Inventory] | None:
        registry = registry_for(str(path))
        try:
            runbook, found = load(path, registry=registry, inventory_path=inventory, strict=True)
            plan = build_plan(runbook)
            refuse_what_cannot_be_simulated(plan, registry)
        except InvalidRunbook as error:
            self._problems.extend(error.problems)
            return None
        except CeRunError as error:
            complain("runbook", error.message, error.hint)
            return None
        return plan, found

    def gates(self) -> list[str]:
        """Paths of all confirmations."""
        return [
            node.path
            for plan in self.plans.values()
            for node in plan.steps()
            if node.step is not None
            and node.step.call is not None
            and node.step.call.action == "confirm"
        ]

    def section(self, name: str) -> Mapping[str, Any]:
        """A section of the inventory, as it is written."""
        return self.inventory.section(name) if self.inventory is not None else {}


def check_outage(what: str, books: Books) -> tuple[str, str]:
    """What is wrong with a word of `down` or `up`, and what to write; nothing: two empty texts."""
    if what in _OUTAGES or what.startswith(("http://", "https://")):
        return "", ""
    kind, _, name = what.rpartition(" ")
    if kind not in _NAMED_OUTAGES or not name:
        forms = [*_OUTAGES, *(f"{each} NAME" for each in _NAMED_OUTAGES), "a URL"]
        hint = did_you_mean(what, _OUTAGES) or f"there are {', '.join(forms)}"
        return f"nothing is called '{what}'", hint
    section = {"database": "sql", "channel": "notify"}.get(kind, "haproxy")
    table = books.section(section)
    known = list(table.get("channels") or {}) if section == "notify" else list(table)
    if books.inventory is None or name in known:
        return "", ""
    return f"the inventory has no {kind} '{name}'", did_you_mean(name, known, what="there are")


def check_condition(text: str, books: Books, runs: list[str]) -> Iterator[tuple[str, str, str]]:
    """What is wrong with an expression: in words, what to write, and the part that it is about."""
    found = references(text, True)
    for fault in found.faults:
        yield fault.message, fault.suggestion, fault.fragment
    if found.faults:
        return
    known = [*FUNCTIONS, *VALUES]
    for name in found.names:
        if name not in known:
            yield f"'{name}' means nothing here", did_you_mean(name, known, what="there are"), name
        elif name in FUNCTIONS and name not in found.called:
            yield f"'{name}' is a function", f"{FUNCTIONS[name]}", name
    for call in parse(text, True).find_all(nodes.Call):
        if isinstance(call.node, nodes.Name):
            yield from _check_call(call, call.node.name, books, runs)


def _check_call(
    call: nodes.Call, name: str, books: Books, runs: list[str]
) -> Iterator[tuple[str, str, str]]:
    values = [each.value if isinstance(each, nodes.Const) else None for each in call.args]
    first = values[0] if values else None
    if name in ("status", "started"):
        run = values[1] if len(values) > 1 else "main"
        plan = books.plans.get(str(run))
        if plan is not None and isinstance(first, str):
            yield from _unknown(first, list(plan.by_path), "step")
        if run is not None:
            yield from _unknown(str(run), runs, "run")
    elif name == "outcome_of" and first is not None:
        yield from _unknown(str(first), runs, "run")
    elif books.inventory is None or not isinstance(first, str):
        return
    elif name == "metric":
        yield from _unknown(first, list(books.inventory.metrics), "metric")
    elif name == "notified":
        channels = list(books.section("notify").get("channels") or {})
        words = [*channels, *_TRANSPORTS, *SEVERITIES, *SEVERITIES.values()]
        yield from _unknown(first, words, "channel, transport or severity")
    elif name in ("traffic", "ready"):
        versions = books.section("traffic").get("versions") or {}
        if isinstance(versions, Mapping) and versions:
            yield from _unknown(first, [*map(str, versions.values()), "unknown"], "version")


def _unknown(word: str, known: list[str], what: str) -> Iterator[tuple[str, str, str]]:
    if known and word not in known:
        yield f"there is no {what} '{word}'", did_you_mean(word, known, what="there are"), word
