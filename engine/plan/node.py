"""A node of the plan: one step, one rescue, undo or always block, or the run itself."""

from __future__ import annotations

from typing import Literal

from engine.model import Guard, Retry, Seconds, Step

Role = Literal["body", "rescue", "undo", "always"]

NONE = -1
"""Stands for "no such node"."""

UNTIL_DELAY = 1.0
"""Seconds between the attempts of a step that has `until` but no `retry`."""

UNTIL_BUDGET = 300.0
"""Seconds after which such a step gives up when it has neither `budget` nor `timeout`."""

_ONCE = Retry()
_UNTIL = Retry(attempts=1_000_000_000, delay=UNTIL_DELAY)


class Node:
    """A step, block or the run in the plan. Indices refer to `Plan.nodes`; `NONE` is none.

    `leads` says that its end has to be decided about when its body is over: that of a group, and
    of an action with guards, a rescue or an always block of its own. `prepared` says that nothing
    has to be rendered before its first task can start.

    A group that `fans` out has no blocks of its own: each of its instances has them. `blocks` are
    those that were written, for who draws a runbook; `origin` is the node as written that an
    instance, or a node inside one, stands for (every other node's own index).
    """

    __slots__ = (
        "always",
        "blocks",
        "budget",
        "children",
        "dependents",
        "deselected",
        "end",
        "fans",
        "guards",
        "index",
        "is_group",
        "leads",
        "needs",
        "origin",
        "parent",
        "path",
        "prepared",
        "rescue",
        "retry",
        "role",
        "step",
        "timeout",
        "undo",
    )

    def __init__(self, index: int, path: str, parent: int, role: Role, step: Step | None) -> None:
        self.index = index
        self.path = path
        self.parent = parent
        self.role: Role = role
        self.step = step
        self.end = index + 1
        self.needs: tuple[int, ...] = ()
        self.dependents: list[int] | tuple[int, ...] = ()
        self.children: tuple[int, ...] = ()
        self.is_group = step is None or step.block is not None
        self.fans = step is not None and step.fan is not None and step.block is not None
        self.origin = index
        self.blocks: tuple[int, ...] = ()
        self.leads = self.is_group or (step is not None and _leads(step))
        self.rescue = NONE
        self.undo = NONE
        self.always = NONE
        own = step is not None and not (self.fans and step.included is not None)
        self.guards: tuple[Guard, ...] = step.guards if step is not None and own else ()
        self.budget: Seconds | None = _budget_of(step) if step is not None and own else None
        self.timeout: Seconds | None = None if step is None else step.timeout
        self.retry = _retry_of(step)
        self.deselected = ""
        self.prepared = step is None or not _needs_preparation(step)

    def __repr__(self) -> str:
        return f"Node({self.index}, {self.path!r})"


def _retry_of(step: Step | None) -> Retry:
    if step is None:
        return _ONCE
    if step.retry is None:
        return _UNTIL if step.until is not None else _ONCE
    return step.retry


def _budget_of(step: Step) -> Seconds | None:
    """What repeats until a condition holds has to end some time: `timeout` bounds it as a whole."""
    if step.budget is not None or step.until is None or step.retry is not None:
        return step.budget
    return UNTIL_BUDGET if step.timeout is None else step.timeout


def _leads(step: Step) -> bool:
    return bool(step.guards) or step.rescue is not None or step.always is not None


def _needs_preparation(step: Step) -> bool:
    """Whether the step has to be opened by an event of its own before its first task."""
    return bool(
        step.when
        or step.fan
        or step.gate
        or step.guards
        or (step.block is None and _leads(step))
        or step.included
        or isinstance(step.timeout, str)
        or isinstance(step.budget, str)
    )
