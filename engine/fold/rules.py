"""What the other parts of the fold ask: may this start now, may that be opened, is this latched.

The times that people have been promised stand here, too.
"""

from __future__ import annotations

from typing import Any

from engine.errors import FailureKind, IllegalEvent
from engine.plan import NONE, Node
from engine.state import RunState, StepState

CANCEL_GRACE = 2.5
"""Seconds a running task has to end after it was cancelled, before it is given up."""

STOP_TIME = 4.0
"""Seconds from a signal until the run leaves whatever happens: the design promises 5 in all."""

ENDS_STEP: frozenset[FailureKind] = frozenset(("timed_out", "budget_exceeded"))
"""Kinds of cancellation that are the step's own failure, not something done to it."""

LEAVES_OPEN: frozenset[FailureKind] = frozenset(("interrupted",))
"""Kinds of cancellation after which the run may go on later, so the task stays in doubt."""


def illegal(event: object, why: str) -> IllegalEvent:
    """The error for an event that cannot follow."""
    return IllegalEvent(f"{type(event).__name__} cannot follow: {why} ({event!r})")


def require(condition: bool, event: object, why: str) -> None:
    """Raise IllegalEvent unless the condition holds."""
    if not condition:
        raise illegal(event, why)


def node_of(state: RunState, event: Any) -> Node:
    """The node that an event is about; raises IllegalEvent when the plan has none."""
    index = state.plan.by_path.get(event.step)
    if index is None:
        raise illegal(event, "the runbook has no such step")
    return state.plan.nodes[index]


def may_start(state: RunState, node: Node) -> bool:
    """Whether the run starts such a node: while it stops, only what is in an always block."""
    if state.life == "running":
        return True
    return (
        state.life == "stopping"
        and state.stop is not None
        and state.stop.kind == "interrupted"
        and inside_always(state, node)
    )


def inside_always(state: RunState, node: Node) -> bool:
    """Whether the node is an always block or inside one, at any depth."""
    return node.role == "always" or any(up.role == "always" for up in state.plan.ancestors(node))


def may_open(state: RunState, node: Node) -> bool:
    """Whether a node's surroundings allow it to be opened now."""
    owner = state.steps.get(node.parent)
    if owner is None:
        return False
    if node.role == "undo":
        return owner.status == "succeeded" and _undoes(state)
    group = owner.group
    if group is None or owner.status != "opened":
        return False
    if node.role == "body":
        fan = state.fans.get(node.parent)
        in_turn = fan is None or node.index in fan.current
        return group.in_body and state.unmet[node.index] == 0 and in_turn
    if node.role == "rescue":
        return group.phase == "body" and group.latch is not None
    return group.phase != "always"


def _undoes(state: RunState) -> bool:
    root = state.group(0)
    return root.phase in ("body", "undo") and root.latch is not None and root.undoing is None


def latched(state: RunState, node: Node, step: StepState) -> bool:
    """Whether a failure forbids new attempts of this step: its own or that of its group."""
    if step.group is not None and not step.group.in_body:
        return True
    return state.group(node.parent).latch is not None


def in_body(state: RunState, node: Node) -> bool:
    """Whether the node belongs to the run proper, not to a rescue, undo or always block."""
    return node.role == "body" and all(up.role == "body" for up in state.plan.ancestors(node))


def too_many_failed(node: Node, failed: int, of: int, *, hosts: bool) -> bool:
    """Whether a batch has failed. As in Ansible: the percentage has to be exceeded, or no host of
    the batch is left."""
    if failed and failed == of and hosts:
        return True
    allowed = node.step.fan.max_fail_percentage if node.step and node.step.fan else 0.0
    return failed > 0 and 100.0 * failed / of > allowed


def seconds(value: float | str | None) -> float | None:
    """A duration that needs no template; None for the others."""
    return float(value) if isinstance(value, int | float) else None


def take_ready(state: RunState, key: tuple[int, int]) -> None:
    """Take a key out of the queue, where it mostly is the first."""
    ready = state.ready
    if ready and ready[0] == key:
        ready.popleft()
    elif key in ready:
        ready.remove(key)


def drop_group_timers(state: RunState, index: int, guards: int) -> None:
    """Stop a group's budget and its guards."""
    if not state.timers:
        return
    state.timers.clear(("budget", index, 0))
    for number in range(guards):
        state.timers.clear(("guard", index, number))


def is_root(node: Node) -> bool:
    """Whether the node is the run itself."""
    return node.parent == NONE
