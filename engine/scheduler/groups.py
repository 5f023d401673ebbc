"""How a group is led to its end, one decision at a time::

    body ──all children over──> guards pass ──> always ──> succeeded
      │
      └─failure latched─> children in flight cancelled ─> rescue ──> always ──> rescued
                                        │ none declared     └─ fails ─> always ──> failed
                                        └─ (the run itself) undo ──> always ──> failed

A group is looked at while it is in `RunState.attention`. Steps that lead themselves (actions with
guards, a rescue or an always block) are groups whose body is their tasks.
"""

from __future__ import annotations

from engine.actions import Action, Append, Cancel, Observe
from engine.errors import FailureKind
from engine.events import (
    CancelRequested,
    Failure,
    FailureLatched,
    Outcome,
    RunFinished,
    StepFinished,
    StepOpened,
    StepStatus,
)
from engine.plan import NONE, Node, Plan
from engine.state import GroupState, GuardState, RunState, StepState
from engine.units import format_duration


def advance(plan: Plan, node: Node, state: RunState, actions: list[Action]) -> bool:
    """The next decision about one group; whether one was made."""
    step = state.step(node.index)
    group = step.group
    if group is None or step.status != "opened":
        return False
    before = len(actions)
    if group.phase == "body":
        if group.latch is None:
            return _advance_body(plan, node, state, group, actions)
        if _calm(plan, state, node, step, group.latch, actions):
            _after_body(plan, node, state, group, actions)
    elif group.phase == "rescue":
        if group.rescue_status is not None:
            _to_always(plan, node, state, group, actions)
    elif group.phase == "undo":
        if group.undoing is None:
            _undo_next(plan, node, state, group, actions)
    elif group.always_status is not None:
        _finish(node, state, group, actions)
    return len(actions) > before


def failure(node: Node, kind: FailureKind, message: str, hint: str = "") -> Failure:
    """A failure that the engine itself states; no retry helps against it."""
    return Failure(kind=kind, message=message, step=node.path, hint=hint, retryable=False)


def cancel(node: Node, task: int, kind: FailureKind, reason: str, actions: list[Action]) -> None:
    """Have a running task end."""
    actions.append(Append(CancelRequested(node.path, kind, task, reason)))
    actions.append(Cancel(node.index, task))


def _tripped(node: Node, number: int, guard: GuardState) -> Failure:
    guard_plan = node.guards[number]
    held = f" for {format_duration(guard.timing.hold)}" if guard.timing.hold else ""
    message = f"guard {guard_plan.name!r} tripped: {guard.message}"
    return failure(node, "guard_tripped", message, f"it trips at {guard_plan.trip}{held}")


# -- the body ------------------------------------------------------------------------------------
def _advance_body(
    plan: Plan, node: Node, state: RunState, group: GroupState, actions: list[Action]
) -> bool:
    if group.passed_up is not None:
        cause, handled = group.passed_up
        actions.append(Append(FailureLatched(node.path, cause, handled)))
        return True
    for number, guard in enumerate(group.guards):
        if guard.tripped:
            cause = _tripped(node, number, guard)
            actions.append(Append(FailureLatched(node.path, cause)))
            return True
    if group.left:
        return False
    said_in_the_end = _gate_of_soak(node, group, actions)
    if said_in_the_end is not None:
        actions.append(Append(FailureLatched(node.path, said_in_the_end)))
        return True
    if any(guard.last != "pass" for guard in group.guards):
        return False
    _to_always(plan, node, state, group, actions)
    return True


def _gate_of_soak(node: Node, group: GroupState, actions: list[Action]) -> Failure | None:
    """The gate at the end of a soak: every guard's last word has to be *pass*.

    One that is failing, but not for long enough to trip, is observed until it is one or the
    other. One that could not tell gets one more observation; then the gate fails.
    """
    for number, guard in enumerate(group.guards):
        if guard.last in ("pass", "fail"):
            continue
        if guard.observations and guard.observed >= group.last_child:
            name = node.guards[number].name
            return failure(
                node,
                "inconclusive",
                f"guard {name!r} could not tell in the end: {guard.message or 'no data'}",
                hint="see whether the metric has data; not knowing is not passing",
            )
        actions.append(Observe(node.index, number))
    return None


def over_budget(state: RunState, node: Node, actions: list[Action]) -> None:
    """A budget has run out."""
    step = state.step(node.index)
    cause = failure(
        node,
        "budget_exceeded",
        "it took longer than its budget",
        hint="see with `ce-run show` where the time went",
    )
    if step.group is not None:
        actions.append(Append(FailureLatched(node.path, cause)))
    elif step.running:
        _cancel_tasks(node, step, "budget_exceeded", cause.message, actions)
    else:
        actions.append(Append(StepFinished(node.path, "failed", cause)))


# -- after a failure -------------------------------------------------------------------------------
def _calm(
    plan: Plan, state: RunState, node: Node, step: StepState, latch: Failure, actions: list[Action]
) -> bool:
    """Whether nothing of the group's body is in flight; asks for the end of what is."""
    group = step.group
    assert group is not None
    reason = f"stopped because of {latch.summary}"
    for index in group.opened:
        _end_child(state, plan.nodes[index], reason, actions)
    if step.running:
        _cancel_tasks(node, step, "cancelled", reason, actions)
        return False
    return not group.opened and not _unanswered(state, node, step)


def _end_child(state: RunState, child: Node, reason: str, actions: list[Action]) -> None:
    step = state.step(child.index)
    because = failure(child, "cancelled", reason)
    if step.group is not None:
        if step.group.latch is None and step.group.phase == "body":
            actions.append(Append(FailureLatched(child.path, because)))
    elif step.running:
        _cancel_tasks(child, step, "cancelled", reason, actions)
    elif not _unanswered(state, child, step):
        if any(task.life == "doubt" for task in step.tasks):
            because = failure(
                child,
                "cancelled",
                f"it may have happened before the interruption, or not; {reason}",
                hint="look before you go on: nobody will ask again",
            )
        actions.append(Append(StepFinished(child.path, "cancelled", because)))


def _unanswered(state: RunState, node: Node, step: StepState) -> bool:
    """Whether the world is still being asked about a task of the step."""
    return bool(state.doubts) and any(
        (node.index, number) in state.doubts and not task.verdict
        for number, task in enumerate(step.tasks)
    )


def _cancel_tasks(
    node: Node, step: StepState, kind: FailureKind, reason: str, actions: list[Action]
) -> None:
    for number, task in enumerate(step.tasks):
        if task.life == "running" and task.cancel is None:
            cancel(node, number, kind, reason, actions)


def _after_body(
    plan: Plan, node: Node, state: RunState, group: GroupState, actions: list[Action]
) -> None:
    """The body of a group with a failure is at rest: rescue, undo, or neither."""
    if group.handled:
        _to_always(plan, node, state, group, actions)
    elif node.rescue != NONE:
        actions.append(Append(StepOpened(plan.nodes[node.rescue].path)))
    else:
        _undo_next(plan, node, state, group, actions)


def _undo_next(
    plan: Plan, node: Node, state: RunState, group: GroupState, actions: list[Action]
) -> None:
    """At the top, where no rescue answered: undo what was completed, last things first.

    A rescue that was tried, with or without success, takes the place of undoing.
    """
    at_top = node.parent == NONE and node.rescue == NONE
    if at_top and not group.answered and state.undoable:
        last = next(reversed(state.undoable))
        actions.append(Append(StepOpened(plan.nodes[plan.nodes[last].undo].path)))
    else:
        _to_always(plan, node, state, group, actions)


def _to_always(
    plan: Plan, node: Node, state: RunState, group: GroupState, actions: list[Action]
) -> None:
    if node.always != NONE:
        actions.append(Append(StepOpened(plan.nodes[node.always].path)))
    else:
        _finish(node, state, group, actions)


# -- the end -------------------------------------------------------------------------------------
def _finish(node: Node, state: RunState, group: GroupState, actions: list[Action]) -> None:
    """The group is over: say how."""
    cause = group.latch
    rescued = cause is not None and (group.handled or group.rescue_status == "succeeded")
    if group.always_status not in (None, "succeeded"):
        cause = cause or state.steps[node.always].failure
        cause = cause or failure(node, "failed", "its always block failed")
        rescued = False
    if node.parent == NONE:
        actions.append(Append(RunFinished(_outcome(state, cause, rescued), cause)))
    else:
        actions.append(Append(StepFinished(node.path, _status(cause, rescued), cause)))


def _status(cause: Failure | None, rescued: bool) -> StepStatus:
    if cause is None:
        return "succeeded"
    if rescued:
        return "rescued"
    return "cancelled" if cause.kind == "cancelled" else "failed"


def _outcome(state: RunState, cause: Failure | None, rescued: bool) -> Outcome:
    if cause is None:
        return "succeeded"
    if rescued:
        return "rescued"
    unrescued = any(
        step.group is not None
        and step.group.rescue_status not in (None, "succeeded")
        and step.status != "rescued"
        for step in state.steps.values()
    )
    if unrescued or any(status != "succeeded" for status in state.undone.values()):
        return "needs_person"
    return "undone" if state.undone else "failed"
