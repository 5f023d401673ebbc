"""The run as a whole: it starts, is asked to stop, leaves, goes on, and ends.

A process that dies writes nothing. So whatever a resumed run finds running, with no outcome, has
been cut off: reading and idempotent tasks run again, a once-only task is in doubt. The time
between the last sign of life and the resume counts for no budget and for no `wait`; the delay
before a retry goes on meanwhile.
"""

from __future__ import annotations

from engine.events import (
    LocksTaken,
    ReasonGiven,
    RunFinished,
    RunResumed,
    RunStarted,
    RunStopped,
    StopRequested,
    Warned,
)
from engine.fold.reopen import forget_always_of_stop, rebuild
from engine.fold.rules import STOP_TIME, may_start, require
from engine.fold.steps import close, drop_ready
from engine.fold.tasks import set_retry
from engine.plan import Node
from engine.state import WHOLE_STEP, GroupState, GuardState, RunState, Status, StepState


def run_started(state: RunState, event: RunStarted, time: float) -> None:
    """The first event: the run itself can be opened."""
    state.life = "running"
    state.start = event
    state.started = time
    state.attended = event.attended
    state.ready.append((0, WHOLE_STEP))


def locks_taken(state: RunState, event: LocksTaken, time: float) -> None:
    """The run owns its locks, with these tokens."""
    state.tokens = dict(event.tokens)


def warned(state: RunState, event: Warned, time: float) -> None:
    """People were told of something unsafe; it changes nothing in what the run does."""
    state.warnings.setdefault(event.message, event.step)


def reason_given(state: RunState, event: ReasonGiven, time: float) -> None:
    """Somebody told why the run was started, whatever has become of it; the last word counts."""
    state.reason = event


def stop_requested(state: RunState, event: StopRequested, time: float) -> None:
    """Nothing new begins, except what is in an always block when a person asked to stop."""
    running = state.life == "running"
    taken_over = state.life == "stopping" and event.kind == "preempted"
    require(running or taken_over, event, f"the run is {state.life}")
    state.life = "stopping"
    state.stop = event
    nodes = state.plan.nodes
    drop_ready(state, lambda index: not may_start(state, nodes[index]))
    for kind, index, which in state.timers.all():
        if kind == "retry" and not may_start(state, nodes[index]):
            state.timers.clear((kind, index, which))
    state.timers.drop("guard")
    state.timers.set(("stop", 0, 0), time + STOP_TIME)


def run_stopped(state: RunState, event: RunStopped, time: float) -> None:
    """The process that carried the run has left it, or was found dead."""
    if state.stop is None:
        state.stop = StopRequested(kind=event.kind, reason=event.reason)
    state.life = "stopped"
    state.finished = time
    state.left_at = max(state.time, min(event.seen, time))
    for index, which in state.running:
        state.steps[index].tasks[which].life = "doubt"
        state.steps[index].running -= 1
    state.running.clear()
    state.ready.clear()
    state.timers.drop("deadline", "grace", "stop", "guard")


def run_resumed(state: RunState, event: RunResumed, time: float) -> None:
    """A process goes on with the run; see the module's docstring."""
    require(state.life != "finished", event, "the run is finished")
    preempted = state.stop is not None and state.stop.kind == "preempted"
    require(not preempted, event, "the run was preempted")
    left_at = state.time if state.left_at is None else state.left_at
    state.life = "running"
    state.stop = None
    state.left_at = None
    state.finished = 0.0
    state.attended = event.attended
    state.timers.drop("deadline", "grace", "stop", "guard")
    state.timers.shift("budget", time - left_at)
    state.pauses.append((left_at, time))
    for node in list(state.open_groups()):
        step = state.steps.get(node.index)  # one inside an always block may be forgotten with it
        if step is not None and step.group is not None:
            forget_always_of_stop(state, node, step.group)
    for index, step in state.steps.items():
        if step.asked:
            step.asked_since += time - left_at
        if step.status == "opened" and step.tasks:
            _doubt_unfinished(state, state.plan.nodes[index], step, time - left_at)
    for node in state.open_groups():
        _restart_guards(state, node.index, state.group(node.index), time)
    state.running.clear()
    rebuild(state)


def _doubt_unfinished(state: RunState, node: Node, step: StepState, downtime: float) -> None:
    assert node.step is not None
    assert node.step.call is not None
    for index, task in enumerate(step.tasks):
        if task.life == "retrying":
            set_retry(state, node, index, task)
        if task.life not in ("running", "doubt"):
            continue
        task.cancel = None
        task.verdict = ""
        task.first_started += downtime
        if node.step.call.effect == "once":
            task.life = "doubt"
            state.doubts[node.index, index] = None
        else:
            task.life = "pending"
    step.running = 0


def _restart_guards(state: RunState, index: int, group: GroupState, time: float) -> None:
    group.guards = [GuardState(guard.timing) for guard in group.guards]
    if group.in_body:
        for number, guard in enumerate(group.guards):
            state.timers.set(("guard", index, number), time + guard.timing.every)


def run_finished(state: RunState, event: RunFinished, time: float) -> None:
    """The run has come to its end."""
    root = state.steps.get(0)
    group = root.group if root is not None and root.status == "opened" else None
    if root is None or group is None:
        require(False, event, "the run is not under way")
        return
    require(not state.running and not group.opened, event, "steps are under way")
    state.life = "finished"
    state.outcome = event.outcome
    state.finished = time
    root.failure = event.failure
    close(state, state.plan.root, root, _STATUS.get(event.outcome, "failed"), time)


_STATUS: dict[str, Status] = {"succeeded": "succeeded", "rescued": "rescued"}
