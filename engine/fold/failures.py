"""Latches, gates and guards: what stops a group, and what people and observations say."""

from __future__ import annotations

from engine.events import Failure, FailureLatched, GateAnswered, GateOpened, GuardObserved
from engine.fold.people import ask, drop_gate
from engine.fold.rules import (
    drop_group_timers,
    may_open,
    may_start,
    node_of,
    require,
    take_ready,
)
from engine.fold.steps import cancel_rest, close, drop_ready, open_step
from engine.state import FINAL, WHOLE_STEP, RunState, StepState


def failure_latched(state: RunState, event: FailureLatched, time: float) -> None:
    """The group starts nothing more and asks nobody any more."""
    node = node_of(state, event)
    step = state.steps.get(node.index)
    group = step.group if step is not None and step.status == "opened" else None
    if group is None:
        require(False, event, "the group is not under way")
        return
    require(group.latch is None, event, "a failure is latched already")
    require(group.phase == "body", event, f"the group is in its {group.phase}")
    group.latch = event.failure
    group.handled = event.handled
    drop_group_timers(state, node.index, len(group.guards))
    nodes = state.plan.nodes
    if any(
        _may_be_waiting(state, child) for child in state.children(node)
    ):  # else the queue is long
        drop_ready(state, lambda index: nodes[index].parent == node.index)
    if step is not None:
        cancel_rest(state, node, step, waiting_only=True)
    for child in [index for index in state.gates if nodes[index].parent == node.index]:
        state.steps[child].status = "pending"
        drop_gate(state, child, time)
    state.attention[node.index] = None


def _may_be_waiting(state: RunState, index: int) -> bool:
    """Whether a step, or a task of it, can be in the queue of what is ready."""
    step = state.steps.get(index)
    return state.unmet[index] == 0 and (step is None or step.status not in FINAL)


# -- people --------------------------------------------------------------------------------------
def gate_opened(state: RunState, event: GateOpened, time: float) -> None:
    """A person is asked before the step begins."""
    node = node_of(state, event)
    has_gate = node.step is not None and node.step.gate is not None
    require(has_gate, event, "the step has no gate")
    require(may_start(state, node), event, "the run is stopping")
    require(may_open(state, node), event, "the group around it does not start steps now")
    step = state.steps.get(node.index)
    if step is None:
        step = state.steps[node.index] = StepState("gate")
    require(step.gate_passed is None, event, "it was approved before")
    step.status = "gate"
    step.opened = time
    step.gate = event
    ask(state, node, time)
    take_ready(state, (node.index, WHOLE_STEP))
    if event.timeout is not None:
        state.timers.set(("gate", node.index, 0), time + event.timeout)


def gate_answered(state: RunState, event: GateAnswered, time: float) -> None:
    """The step may begin, or has failed as refused."""
    node = node_of(state, event)
    require(node.index in state.gates, event, "the step does not wait for an answer")
    step = state.steps[node.index]
    drop_gate(state, node.index, time)
    if event.answer == "approved":
        step.status = "pending"
        step.gate_passed = event.by
        if may_start(state, node):
            state.ready.append((node.index, WHOLE_STEP))
        return
    open_step(state, node, time)
    reason = f": {event.reason}" if event.reason else ""
    step.failure = Failure(
        kind="gate_refused",
        message=f"refused by {event.by.shown}{reason}",
        step=node.path,
        retryable=False,
    )
    close(state, node, step, "failed", time)


# -- guards --------------------------------------------------------------------------------------
def guard_observed(state: RunState, event: GuardObserved, time: float) -> None:
    """One more observation. Not knowing neither trips a guard nor calms it."""
    node = node_of(state, event)
    step = state.steps.get(node.index)
    group = step.group if step is not None and step.status == "opened" else None
    if group is None:
        require(False, event, "the group is not under way")
        return
    require(0 <= event.guard < len(group.guards), event, "there is no such guard")
    guard = group.guards[event.guard]
    guard.last = event.verdict
    guard.observed = time
    guard.observations += 1
    guard.value = event.value
    guard.message = event.message
    if event.verdict == "pass":
        guard.failing_since = None
    elif event.verdict == "fail" and guard.failing_since is None:
        guard.failing_since = time
    if not group.in_body:
        return
    if state.life == "running":
        state.timers.set(("guard", node.index, event.guard), time + guard.timing.every)
    if guard.tripped or group.left == 0:
        state.attention[node.index] = None
