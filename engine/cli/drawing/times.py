"""How long steps take, as far as a runbook or a former run tells, and which chain decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from engine.errors import CeRunError
from engine.inventory import Inventory
from engine.plan import Node, Plan
from engine.state import RunState
from engine.templating import Scope, Templates
from engine.units import format_duration, parse_duration, took

_GOES_ON = ("for", "duration")
"""Arguments that say how long an action goes on: of a wait, a soak, a health check over a time."""

UNKNOWN = 1.0
"""Seconds that a step counts for whose time nothing is known of."""


class Time(NamedTuple):
    """How long something takes: exactly (a wait), at most (a limit), as measured, or unknown."""

    seconds: float
    kind: Literal["exact", "limit", "measured", "unknown"]

    def text(self) -> str:
        """``5m``, ``≤ 20m``, ``2.3s``; nothing when unknown."""
        if self.kind == "unknown":
            return ""
        if self.kind == "measured":
            return took(self.seconds)
        mark = "≤ " if self.kind == "limit" else ""
        return f"{mark}{format_duration(self.seconds)}"


class Times:
    """The times of all steps of a plan, and its critical path."""

    def __init__(self, plan: Plan, of: Mapping[int, Time], measured: bool = False) -> None:
        self.plan = plan
        self._of = of
        self.measured = measured
        chain, self.total = plan.critical_path(self.seconds)
        self.critical = frozenset(node.index for node in chain)

    def of(self, node: Node) -> Time:
        """A step's time; a group's is its own limit, or as measured."""
        return self._of.get(node.index, Time(UNKNOWN, "unknown"))

    def seconds(self, node: Node) -> float:
        """For the critical path."""
        return self.of(node).seconds

    @property
    def guessed(self) -> bool:
        """Whether steps of which nothing is known stand on the critical path."""
        return any(
            self.of(self.plan.nodes[index]).kind == "unknown"
            for index in self.critical
            if not self.plan.nodes[index].is_group
        )

    @property
    def bounded(self) -> bool:
        """Whether limits stand on the critical path: it may well be over sooner."""
        return any(
            self.of(self.plan.nodes[index]).kind == "limit"
            for index in self.critical
            if not self.plan.nodes[index].is_group
        )


def planned_times(plan: Plan, inventory: Inventory) -> Times:
    """From waits, soaks, timeouts and budgets; templates are read with the inventory's values."""
    reader = _Reader(plan, inventory)
    return Times(plan, {node.index: reader.time(node) for node in plan.steps()})


def measured_times(plan: Plan, former: RunState) -> Times:
    """From a run of the same runbook; steps that it did not get to are unknown."""
    found: dict[int, Time] = {}
    for node in plan.steps():
        index = former.plan.by_path.get(node.path)
        step = former.steps.get(index) if index is not None else None
        if step is not None and step.opened and step.finished:
            found[node.index] = Time(max(0.0, step.finished - step.opened), "measured")
    return Times(plan, found, measured=True)


class _Reader:
    def __init__(self, plan: Plan, inventory: Inventory) -> None:
        self._plan = plan
        self._templates = Templates()
        inputs = {name: each.default for name, each in plan.runbook.inputs.items()}
        self._scope = Scope(
            {"inputs": inputs}, vars=plan.runbook.vars, inventory=inventory.variables()
        )

    def time(self, node: Node) -> Time:
        scope = self._scope_of(node)
        call = node.step.call if node.step is not None else None
        arguments = call.arguments if call is not None else {}
        for name in _GOES_ON:
            seconds = self._seconds(arguments.get(name), scope)
            if seconds is not None:
                return Time(seconds, "exact")
        for limit in (node.timeout, node.budget):
            seconds = self._seconds(limit, scope)
            if seconds is not None:
                return Time(seconds, "limit")
        return Time(UNKNOWN, "unknown")

    def _scope_of(self, node: Node) -> Scope:
        scope = self._scope
        for each in [*reversed(list(self._plan.ancestors(node))), node]:
            if each.step is not None and each.step.vars:
                scope = scope.child(vars=each.step.vars)
            if each.step is not None and each.step.included is not None and each is not node:
                included = each.step.included
                given = {name: one.default for name, one in included.inputs.items()}
                scope = scope.included(
                    {"inputs": given | self._known(included.arguments, scope)}, vars=included.vars
                )
        return scope

    def _known(self, arguments: dict[str, Any], scope: Scope) -> dict[str, Any]:
        """Those arguments that can be told before a run."""
        found = {}
        for name, value in arguments.items():
            try:
                found[name] = self._templates.render(value, scope)
            except CeRunError:
                continue
        return found

    def _seconds(self, value: Any, scope: Scope) -> float | None:
        """None where only a run can tell."""
        try:
            return parse_duration(self._templates.render(value, scope))
        except CeRunError:
            return None
