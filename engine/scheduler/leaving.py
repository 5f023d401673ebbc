"""Leaving a run before its end: after a signal, ``ce-run stop``, or when its locks were taken.

What runs is cancelled and stays in doubt. When a person asked to stop, ``always`` blocks run
before the process leaves, those of inner groups first; when the locks are gone, nothing does.
All of it within `engine.fold.STOP_TIME`.
"""

from __future__ import annotations

from collections.abc import Callable

from engine.actions import Abandon, Action, Append
from engine.events import RunStopped, StepOpened
from engine.fold.rules import inside_always
from engine.plan import NONE, Plan
from engine.scheduler.groups import advance, cancel
from engine.state import RunState


def leave(
    plan: Plan, state: RunState, now: float, launch: Callable[[list[Action]], None]
) -> list[Action]:
    """A stop was requested: cancel, run always blocks, and say good-bye."""
    stop = state.stop
    assert stop is not None
    actions: list[Action] = []
    late = (state.timers.at(("stop", 0, 0)) or 0.0) <= now
    cleans_up = stop.kind == "interrupted" and not late
    busy = False
    for index, which in state.running:
        task = state.task((index, which))
        if cleans_up and inside_always(state, plan.nodes[index]):
            continue
        busy = True
        if task.cancel is None:
            cancel(plan.nodes[index], which, "interrupted", stop.reason, actions)
        elif late or _grace_is_over(state, index, which, now):
            actions.append(Abandon(index, which))
    if busy or actions:
        return actions
    if cleans_up:
        if _lead_always_blocks(plan, state, actions):
            return actions
        launch(actions)
        if actions or state.running or _retries_in_time(plan, state):
            return actions
    return [Append(RunStopped(stop.kind, stop.reason))]


def _retries_in_time(plan: Plan, state: RunState) -> bool:
    """Whether a task of an always block will be tried again before the time to leave."""
    until = state.timers.at(("stop", 0, 0)) or 0.0
    return any(
        inside_always(state, plan.nodes[index]) for _, index, _ in state.timers.due_retries(until)
    )


def _grace_is_over(state: RunState, index: int, which: int, now: float) -> bool:
    until = state.timers.at(("grace", index, which))
    return until is not None and until <= now


def _lead_always_blocks(plan: Plan, state: RunState, actions: list[Action]) -> bool:
    """Begin the always block of every group in which nothing is open, or go on with it."""
    waits: set[int] = set()
    for node in reversed(list(state.open_groups())):
        group = state.group(node.index)
        if inside_always(state, node):
            waits.update(up.index for up in plan.ancestors(node))
            advance(plan, node, state, actions)
        elif node.always != NONE and group.phase != "always":
            if node.index not in waits:
                actions.append(Append(StepOpened(plan.nodes[node.always].path)))
            waits.update(up.index for up in plan.ancestors(node))
    return bool(actions)
