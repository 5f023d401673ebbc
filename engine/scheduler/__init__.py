"""The scheduler: ``decide(plan, state, now)`` says what is to be done next, and does nothing.

It is a pure function: it reads no clock, renders no template, knows no module. Whatever it wants
changed it asks for, as actions; the journal records them as events; the fold changes the state;
and the next decision sees the result. So a decision can be replayed, tested with a table and
taken a hundred thousand times a minute.

Here is what starts and what time does; `engine.scheduler.groups` leads groups to their end, and
`engine.scheduler.leaving` leaves a run before its end. Order matters in the result: the runner
carries it out from front to back.
"""

from __future__ import annotations

from engine.actions import Abandon, Action, Append, AskProbe, Observe, Prepare, Start
from engine.events import RunStopped, StepFinished, StepOpened, StepSkipped
from engine.fold.rules import latched, may_start
from engine.plan import Node, Plan
from engine.scheduler.groups import advance, cancel, failure, over_budget
from engine.scheduler.leaving import leave
from engine.state import FINAL, WHOLE_STEP, RunState, TimerKey

DEFAULT_FORKS = 20
"""Tasks that run at the same time unless ``--forks`` says otherwise."""

UNBOUND_AT_ONCE = 64
"""Steps that need no slot (skips, groups, preparations) in one decision."""

__all__ = ["DEFAULT_FORKS", "decide", "is_over", "unfinished", "wake_at"]


def decide(plan: Plan, state: RunState, now: float, forks: int = DEFAULT_FORKS) -> list[Action]:
    """What to do at time `now`. An empty list means: wait for an outcome or for `wake_at`."""
    if state.life == "stopping":
        return leave(plan, state, now, lambda actions: _launch(plan, state, now, forks, actions))
    if state.life != "running":
        return []
    actions: list[Action] = []
    if state.timers:
        for key in state.timers.due(now):
            if _timer(plan, state, key, actions):
                return actions  # what it changes may change all the rest
    for index in state.attention:
        if advance(plan, plan.nodes[index], state, actions):
            return actions
    for node, task in state.doubts:
        if state.task((node, task)).verdict == "":
            actions.append(AskProbe(node, task))
    _launch(plan, state, now, forks, actions)
    if not actions and _only_people_can_go_on(state):
        actions.append(Append(RunStopped(kind="waiting", reason=_waits_for(plan, state))))
    return actions


def wake_at(state: RunState, now: float) -> float | None:
    """When to decide again if nothing happens before."""
    return state.timers.next(now)


def is_over(state: RunState) -> bool:
    """Whether this process has nothing more to do for the run."""
    return state.life in ("stopped", "finished")


def unfinished(state: RunState) -> list[Node]:
    """The steps that have no final status, in file order."""
    steps = (node for node in state.walk() if node.step is not None)
    return [node for node in steps if state.status(node) not in FINAL]


# -- starting what is ready ----------------------------------------------------------------------
def _launch(plan: Plan, state: RunState, now: float, forks: int, actions: list[Action]) -> None:
    """Start what can start: retries first, then what is ready, in the order it became so."""
    free = forks - len(state.running)
    if free > 0 and state.timers.retries:
        free -= _launch_retries(plan, state, now, free, actions)
    unbound = UNBOUND_AT_ONCE
    for index, task in state.ready:
        node = plan.nodes[index]
        needs_slot = task != WHOLE_STEP or (
            node.prepared and not node.is_group and not node.deselected
        )
        if needs_slot:
            if free <= 0:
                return
            free -= 1
            attempt = 1 if task == WHOLE_STEP else state.task((index, task)).attempt + 1
            actions.append(Start(index, max(task, 0), attempt))
        else:
            if unbound == 0:
                return
            unbound -= 1
            actions.append(_opening(node))


def _launch_retries(
    plan: Plan, state: RunState, now: float, free: int, actions: list[Action]
) -> int:
    started = 0
    for _, index, which in state.timers.due_retries(now):
        node = plan.nodes[index]
        if latched(state, node, state.steps[index]) or not may_start(state, node):
            continue
        actions.append(Start(index, which, state.task((index, which)).attempt + 1))
        started += 1
        if started == free:
            break
    return started


def _opening(node: Node) -> Action:
    if node.deselected:
        return Append(StepSkipped(node.path, node.deselected))
    if not node.prepared:
        return Prepare(node.index)
    budget = node.budget if isinstance(node.budget, float | int) else None
    return Append(StepOpened(node.path, budget=budget))


# -- waiting for people --------------------------------------------------------------------------
def _only_people_can_go_on(state: RunState) -> bool:
    """Nothing runs, nothing is ready, and the answers that are missing cannot be had here.

    A retry will start by itself, and guards at the end of a soak will have their last word;
    otherwise guards and time limits lead nowhere.
    """
    if state.running or state.ready or state.timers.retries:
        return False
    if any(state.group(index).in_body for index in state.attention):
        return False
    unanswered = bool(state.gates) and not state.attended
    return unanswered or bool(state.doubts)  # all probed, or an AskProbe were among the actions


def _waits_for(plan: Plan, state: RunState) -> str:
    doubts = [plan.nodes[index].path for index, _ in state.doubts]
    gates = [plan.nodes[index].path for index in state.gates]
    parts = []
    if doubts:
        parts.append("in doubt: " + ", ".join(dict.fromkeys(doubts)))
    if gates:
        parts.append("waiting for an answer: " + ", ".join(gates))
    return "; ".join(parts)


# -- time ----------------------------------------------------------------------------------------
def _timer(plan: Plan, state: RunState, key: TimerKey, actions: list[Action]) -> bool:
    """What a timer that has come up leads to; whether that is a decision."""
    kind, index, which = key
    node = plan.nodes[index]
    before = len(actions)
    if kind == "deadline":
        cancel(node, which, "timed_out", "its timeout passed", actions)
    elif kind == "grace":
        actions.append(Abandon(index, which))
    elif kind == "gate":
        unanswered = failure(node, "gate_timed_out", "nobody answered in time")
        actions.append(Append(StepFinished(node.path, "failed", unanswered)))
    elif kind == "budget" and not state.steps[index].asked:
        over_budget(state, node, actions)
    elif kind == "guard":
        actions.append(Observe(index, which))
        return False
    return len(actions) > before
