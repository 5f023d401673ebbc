"""What a person takes back, and working out anew what can go on.

A failure stays until somebody names the step that failed and says what is to become of it. Then
the groups around it are under way again, and what they had cancelled goes on where it was. What
had succeeded stays as it is: no effect is repeated because something else failed.
"""

from __future__ import annotations

from engine.events import Overridden
from engine.fold.fans import failure_of, judge_batches
from engine.fold.people import drop_gate
from engine.fold.rules import in_body, is_root, latched, node_of, require
from engine.fold.steps import leave_pending, register, remember_undo
from engine.fold.tasks import mark_done
from engine.plan import NONE, Node
from engine.state import (
    FINAL,
    TASK_FINAL,
    WHOLE_STEP,
    GroupState,
    RunState,
    StepState,
    TaskState,
)


def overridden(state: RunState, event: Overridden, time: float) -> None:
    """A step in doubt or failed is to run again, counts as done, or is left out."""
    node = node_of(state, event)
    why = override_refusal(state, node)
    require(not why, event, why)
    if state.life != "stopped":
        _leave(state)
    _reopen_around(state, node, time)
    if event.decision == "redo":
        _redo(state, node, time)
    else:
        _decide(state, node, event, time)
    rebuild(state)


def _leave(state: RunState) -> None:
    """The process that carried the run is gone, or had finished it: it has to be resumed."""
    state.left_at = state.finished if state.life == "finished" else state.time
    state.life = "stopped"
    state.outcome = None
    for index, which in state.running:
        state.steps[index].tasks[which].life = "doubt"
        state.steps[index].running -= 1
    state.running.clear()


def _redo(state: RunState, node: Node, time: float) -> None:
    """Forget the step; of several tasks or instances only those that did not succeed."""
    step = state.steps[node.index]
    if _redo_instances(state, node, step, time):
        return
    lives = {task.life for task in step.tasks}
    if "succeeded" not in lives or lives == {"succeeded"}:
        reset(state, node)
        return
    for block in (node.rescue, node.always):
        if block != NONE:
            reset(state, state.plan.nodes[block])
    if step.group is not None:
        fresh = GroupState(1)
        fresh.guards = step.group.guards
        step.group = fresh
        state.groups[node.index] = None
    for number, task in enumerate(step.tasks):
        if task.life != "succeeded":
            _forget_task(state, node, number)
            step.tasks[number] = TaskState(task.spec)
    _reopen_tasks(state, node, step)


def _redo_instances(state: RunState, node: Node, step: StepState, time: float) -> bool:
    """Forget the instances that did not succeed; False where none did, or none is known."""
    fan = state.fans.get(node.index)
    if fan is None or step.group is None:
        return False
    done = [member for member in fan.specs if _has_succeeded(state, member)]
    if not done or len(done) == len(fan.specs):
        return False
    for member in fan.specs:
        if member not in done:
            reset(state, state.plan.nodes[member])
    _open_again(state, node, step, step.group, time)
    step.group.to_body()
    return True


def _has_succeeded(state: RunState, index: int) -> bool:
    step = state.steps.get(index)
    return step is not None and step.status == "succeeded"


def _decide(state: RunState, node: Node, event: Overridden, time: float) -> None:
    reason = f"{event.decision} by {event.by.shown}"
    if event.reason:
        reason += f": {event.reason}"
    step = state.steps[node.index]
    for number, task in enumerate(step.tasks):
        if task.life != "succeeded":
            mark_done(task, time, task.changed, task.data, reason)
            _forget_task(state, node, number)
    if step.group is not None and step.tasks and step.status == "opened":
        step.reason = reason  # its always block is still to come
        step.group.left = 0
        return
    _close_as_decided(state, node, step, event.decision == "skip", reason, time)


def _close_as_decided(
    state: RunState, node: Node, old: StepState, skipped: bool, reason: str, time: float
) -> None:
    if not node.is_group:
        reset(state, node)
    state.groups.pop(node.index, None)
    state.timers.clear(("budget", node.index, 0))
    step = state.steps[node.index] = StepState("skipped" if skipped else "succeeded")
    step.opened = step.finished = time
    step.reason = reason
    step.tasks = old.tasks
    if node.is_group:
        _leave_inside(state, node, time)
    if node.step is not None and node.step.register:
        register(state, node, node.step.register)
    if not skipped and node.undo != NONE and in_body(state, node):
        remember_undo(state, node)


def _leave_inside(state: RunState, node: Node, time: float) -> None:
    """What a group decided about had not finished counts as skipped."""
    for inside in list(state.plan.below(node)):
        inner = state.steps.get(inside.index)
        if inner is not None and inner.status not in FINAL:
            reset(state, inside)
    leave_pending(state, node, time, "skipped")


# -- what can be taken back --------------------------------------------------------------------
def override_refusal(state: RunState, node: Node) -> str:
    """Why no person can override this step now; empty when one can."""
    if node.step is None:
        return "only a step can be overridden, not a block or the run"
    step = state.steps.get(node.index)
    if step is None or step.status in ("pending", "not_run"):
        return "it was not started"
    if step.status in ("succeeded", "skipped"):
        return f"it has {'succeeded' if step.status == 'succeeded' else 'been skipped'}"
    if step.status == "gate":
        return "it waits for an answer: approve or reject it"
    if step.status == "opened" and not any(
        task.life in ("doubt", "running") for task in step.tasks
    ):
        return "it is neither failed nor in doubt"
    return _refusal_around(state, node)


def _refusal_around(state: RunState, node: Node) -> str:
    below = node
    for up in state.plan.ancestors(node):
        step = state.steps[up.index]
        if below.role == "undo":
            return ""
        if step.group is None and step.status in FINAL:
            return f"{up.path} has been decided about as a whole ({step.reason})"
        if step.group is not None and below.role == "body":
            why = _refusal_by(up, step, step.group)
            if why:
                return why
        if is_root(up) and state.undone and below.role == "body":
            return "the run was undone; start a new run instead"
        below = up
    return ""


def _refusal_by(node: Node, step: StepState, group: GroupState) -> str:
    if group.rescue_status is not None or group.phase in ("rescue", "undo"):
        answer = "undo" if group.phase == "undo" else "rescue"
        return f"its failure was answered by {answer}; start a new run instead"
    if step.status in FINAL and group.latch is not None and group.passed_up is None:
        if node.step is None:
            return f"the run itself failed ({group.latch.summary}); start a new run instead"
        if group.latch.kind != "cancelled":
            return f"{node.path} itself failed ({group.latch.kind}); decide about that instead"
    return ""


# -- going back ---------------------------------------------------------------------------------
def _reopen_around(state: RunState, node: Node, time: float) -> None:
    """Take back the failure of this node from every group around it."""
    below = node
    for up in state.plan.ancestors(node):
        step = state.steps[up.index]
        if below.role == "undo":
            _reopen_undo(state, below, time)
            return
        if step.group is not None:
            _reopen_group(state, up, step, step.group, below, time)
        below = up


def _reopen_undo(state: RunState, block: Node, time: float) -> None:
    """The run goes on undoing, with this block; groups between it and the run stay over."""
    root = state.steps[0]
    assert root.group is not None
    state.undone.pop(block.parent, None)
    state.undoable[block.parent] = None
    _open_again(state, state.plan.root, root, root.group, time)
    root.group.phase = "undo"
    root.group.undoing = block.parent
    _forget_always(state, state.plan.root, root.group)


def _reopen_group(
    state: RunState, node: Node, step: StepState, group: GroupState, below: Node, time: float
) -> None:
    was_over = step.status in FINAL
    _open_again(state, node, step, group, time)
    if below.role != "always":
        forget_always_of_stop(state, node, group)
    if below.role == "rescue":
        group.phase = "rescue"
        group.rescue_status = None
    elif below.role == "body" and (was_over or group.passed_up is not None):
        group.to_body()
    if below.role == "always":
        group.always_status = None
    else:
        _forget_always(state, node, group)
    if below.role == "body" and group.latch is None:
        _revive_children(state, node, time)


def _open_again(
    state: RunState, node: Node, step: StepState, group: GroupState, time: float
) -> None:
    if step.status == "opened":
        return
    step.status = "opened"
    step.failure = None
    step.ignored = False
    state.groups[node.index] = None
    if step.budget is not None:  # a named override starts it anew
        state.timers.set(("budget", node.index, 0), time + step.budget)


def forget_always_of_stop(state: RunState, node: Node, group: GroupState) -> None:
    """An always block that ran for an interruption runs again when its group really ends."""
    if group.phase_before_stop is None:
        return
    group.phase = group.phase_before_stop
    _forget_always(state, node, group)


def _forget_always(state: RunState, node: Node, group: GroupState) -> None:
    group.always_status = None
    group.phase_before_stop = None
    if node.always != NONE:
        reset(state, state.plan.nodes[node.always])


def _revive_children(state: RunState, node: Node, time: float) -> None:
    """What was not started, or cancelled because of the failure, goes on where it was."""
    for child in state.children(node):
        record = state.steps.get(child)
        if record is None:
            continue
        if record.status == "not_run":
            reset(state, state.plan.nodes[child])
        elif record.status == "cancelled":
            _revive(state, state.plan.nodes[child], record, time)


def _revive(state: RunState, node: Node, step: StepState, time: float) -> None:
    if not step.tasks and step.group is None:  # it had not begun
        reset(state, node)
        return
    if step.group is not None:
        group = step.group
        _open_again(state, node, step, group, time)
        group.to_body()
        group.rescue_status = None
        if node.rescue != NONE:  # it answered the cancellation; a failure of its own may follow
            reset(state, state.plan.nodes[node.rescue])
        _forget_always(state, node, group)
        _revive_children(state, node, time)
    if step.tasks:
        _reopen_tasks(state, node, step)


def _reopen_tasks(state: RunState, node: Node, step: StepState) -> None:
    """Unfinished tasks run again; a once-only one that was cut off is in doubt."""
    assert node.step is not None
    assert node.step.call is not None
    step.status = "opened"
    step.failure = None
    step.ignored = False
    step.cut_off = False
    for number, task in enumerate(step.tasks):
        if task.life in ("succeeded", "failed"):
            continue
        cut_off = task.attempt > 0 and node.step.call.effect == "once"
        task.life = "doubt" if cut_off else "pending"
        task.cancel = None
        task.failure = None
        if cut_off:
            task.verdict = ""
            state.doubts[node.index, number] = None
    step.to_batch(0)
    while step.left == 0 and step.batch + 1 < len(step.batches):
        step.to_batch(step.batch + 1)
    if step.group is not None:
        step.group.left = int(any(task.life not in TASK_FINAL for task in step.tasks))


def reset(state: RunState, node: Node) -> None:
    """Forget all that happened to a node and inside it."""
    for inside in [node, *state.plan.below(node)]:
        index = inside.index
        state.fans.pop(index, None)
        step = state.steps.pop(index, None)
        if step is None:
            continue
        state.timers.clear(("budget", index, 0))
        drop_gate(state, index, state.time)
        state.undoable.pop(index, None)
        state.groups.pop(index, None)
        state.attention.pop(index, None)
        if inside.step is not None and inside.step.register:
            names, _ = state.plan.names_of(inside)[0]
            state.registered.pop((names, inside.step.register), None)
        for number in range(len(step.tasks)):
            _forget_task(state, inside, number)


def _forget_task(state: RunState, node: Node, number: int) -> None:
    """Nobody is to say what became of the task, and nothing is to be tried again."""
    state.doubts.pop((node.index, number), None)
    state.timers.clear(("retry", node.index, number))


# -- working out anew ------------------------------------------------------------------------------
def rebuild(state: RunState) -> None:
    """Work out anew, from the steps' records alone, what is ready and what needs attention."""
    state.ready.clear()
    state.attention.clear()
    if 0 not in state.steps:
        state.ready.append((0, WHOLE_STEP))
        return
    for node in state.plan.nodes:
        if node.needs:
            state.unmet[node.index] = sum(not state.satisfied(need) for need in node.needs)
    for node in state.open_groups():
        _rebuild_group(state, node, state.group(node.index))


def _rebuild_group(state: RunState, node: Node, group: GroupState) -> None:
    if node.is_group:
        _recount(state, node, group)
    if group.left == 0 or not group.in_body:
        state.attention[node.index] = None
    if node.step is not None and node.step.call is not None:
        _ready_tasks(state, node)
    if not group.in_body:
        return
    fan = state.fans.get(node.index)
    for child in node.children if fan is None else fan.current:
        step = state.steps.get(child)
        if step is None or step.status == "pending":
            if state.unmet[child] == 0:
                state.ready.append((child, WHOLE_STEP))
        elif step.status == "opened" and step.group is None:
            _ready_tasks(state, state.plan.nodes[child])


def _recount(state: RunState, node: Node, group: GroupState) -> None:
    """What is left and under way in a group; a failure that was not taken back still counts."""
    group.left = 0
    group.opened = {}
    fan = state.fans.get(node.index)
    for child in state.children(node):
        step = state.steps.get(child)
        if step is None or step.status not in FINAL:
            group.left += 1
            if step is not None and step.status == "opened":
                group.opened[child] = None
        elif fan is not None:
            continue
        elif group.latch is None and group.passed_up is None and not state.satisfied(child):
            handled = step.status == "rescued"
            group.passed_up = (failure_of(state.plan.nodes[child], step), handled)
    if fan is not None:
        fan.batch = fan.first = 0
        if group.latch is None and group.passed_up is None:
            judge_batches(state, node, group, fan)


def _ready_tasks(state: RunState, node: Node) -> None:
    step = state.steps[node.index]
    if not latched(state, node, step):
        state.ready.extend(
            (node.index, index)
            for index in step.batch_range()
            if step.tasks[index].life == "pending"
        )
