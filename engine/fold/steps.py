"""A step is opened, skipped or ended, and what that means for the group around it.

A step that *leads* (a group, a block, an action with `guards`, `rescue` or `always`) does not
end when its body is over: its group is put into `attention`, and the scheduler leads it on.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from engine.events import StepFinished, StepOpened, StepSkipped
from engine.fold.fans import failure_of, fan_out, instance_closed, was_answered
from engine.fold.people import drop_gate
from engine.fold.rules import (
    drop_group_timers,
    in_body,
    inside_always,
    is_root,
    may_open,
    may_start,
    node_of,
    require,
    take_ready,
)
from engine.plan import NONE, Node
from engine.state import (
    FINAL,
    TASK_FINAL,
    WHOLE_STEP,
    GroupState,
    GuardState,
    RunState,
    Status,
    StepState,
    TaskState,
)


# -- beginning -----------------------------------------------------------------------------------
def step_opened(state: RunState, event: StepOpened, time: float) -> None:
    """A step's turn has come and what it consists of is known."""
    node = node_of(state, event)
    require(may_start(state, node), event, "the run is stopping")
    if not is_root(node):
        require(may_open(state, node), event, "the group around it does not start steps now")
    if not node.is_group or node.fans:
        what = "a group that fans out" if node.fans else "an action"
        require(bool(event.tasks), event, f"{what} needs at least one task")
        fits = not event.batches or sum(event.batches) == len(event.tasks)
        require(fits, event, "the batches do not add up to the tasks")
    step = open_step(state, node, time)
    set_times(state, node, step, event.timeout, event.budget, time)
    if node.leads:
        _open_group(state, node, step, event, time)
    if node.is_group:
        return
    step.tasks = [TaskState(spec) for spec in event.tasks]
    step.batches = event.batches
    step.to_batch(0)
    state.ready.extend((node.index, task) for task in step.batch_range())


def open_step(state: RunState, node: Node, time: float) -> StepState:
    """The node's record, opened; takes it out of the queue and counts it in its group."""
    step = state.steps.get(node.index)
    if step is None:
        step = state.steps[node.index] = StepState("opened")
    elif step.status == "gate":
        drop_gate(state, node.index, time)
    step.status = "opened"
    step.opened = time
    take_ready(state, (node.index, WHOLE_STEP))
    if node.role == "body" and node.parent != NONE:
        state.group(node.parent).opened[node.index] = None
    return step


def set_times(
    state: RunState,
    node: Node,
    step: StepState,
    timeout: float | None,
    budget: float | None,
    time: float,
) -> None:
    """Note a step's times and begin to count its budget."""
    step.timeout = timeout
    step.budget = budget
    if budget is not None:
        state.timers.set(("budget", node.index, 0), time + budget)


def _open_group(
    state: RunState, node: Node, step: StepState, event: StepOpened, time: float
) -> None:
    if node.fans:
        fan_out(state, node, event)
    children = state.children(node)
    group = step.group = GroupState(len(children) if node.is_group else 1)
    state.groups[node.index] = None
    group.guards = [GuardState(timing) for timing in event.guards]
    for number, timing in enumerate(event.guards):
        state.timers.set(("guard", node.index, number), time + timing.every)
    if node.role in ("rescue", "always"):
        _enter_phase(state, node)
    elif node.role == "undo":
        root = state.group(0)
        root.phase = "undo"
        root.undoing = node.parent
        state.attention.pop(0, None)
    if group.left == 0:
        state.attention[node.index] = None
    if node.fans:
        children = state.fans[node.index].current
    state.ready.extend((child, WHOLE_STEP) for child in children if state.unmet[child] == 0)


def _enter_phase(state: RunState, block: Node) -> None:
    """The group around a rescue or always block is in that phase from now on.

    While the run stops, for a while only: the block runs again when the group really ends.
    """
    owner = state.group(block.parent)
    state.attention.pop(block.parent, None)
    if state.life == "stopping" and not inside_always(state, state.plan.nodes[block.parent]):
        owner.phase_before_stop = owner.phase
        owner.phase = "always"
        return
    drop_group_timers(state, block.parent, len(owner.guards))
    if block.role == "always":
        owner.phase = "always"
        return
    owner.phase = "rescue"
    forget_undo(state, state.plan.nodes[block.parent])


# -- ending --------------------------------------------------------------------------------------
def step_skipped(state: RunState, event: StepSkipped, time: float) -> None:
    """The step is left out; those that need it go on."""
    node = node_of(state, event)
    require(node.step is not None, event, "only steps are skipped")
    require(may_open(state, node), event, "its group starts nothing")
    step = open_step(state, node, time)
    step.reason = event.reason
    close(state, node, step, "skipped", time)


def step_finished(state: RunState, event: StepFinished, time: float) -> None:
    """A group is over, or a step ended without a task of its own ending it."""
    node = node_of(state, event)
    require(not is_root(node), event, "the run ends with RunFinished")
    step = state.steps.get(node.index)
    if step is None or step.status == "pending":  # it failed while it was being prepared
        begins = node.step is not None and event.status in ("failed", "cancelled")
        require(begins, event, "it has not begun")
        require(may_open(state, node), event, "its group starts nothing")
    else:
        require(step.running == 0, event, "tasks of it are running")
        require(step.group is None or not step.group.opened, event, "steps inside are under way")
        if event.status == "succeeded":
            over = step.group is not None and step.group.left == 0
            require(over, event, "its body is not over")
    if step is None or step.status != "opened":
        step = open_step(state, node, time)
    step.failure = event.failure
    cancel_rest(state, node, step)
    close(state, node, step, event.status, time)


def cancel_rest(
    state: RunState, node: Node, step: StepState, *, waiting_only: bool = False
) -> None:
    """The tasks that have no outcome will have none; or only those that have to begin (again)."""
    if not step.tasks:
        return
    pending = False
    for number, task in enumerate(step.tasks):
        if task.life in TASK_FINAL or (waiting_only and task.life in ("running", "doubt")):
            continue
        pending = pending or task.life == "pending"
        task.life = "cancelled"
        state.doubts.pop((node.index, number), None)
        state.timers.clear(("retry", node.index, number))
    if pending:
        drop_ready(state, lambda index: index == node.index)


def drop_ready(state: RunState, unwanted: Callable[[int], bool]) -> None:
    """Take the nodes for which `unwanted` holds out of the queue."""
    if state.ready:
        state.ready = deque(key for key in state.ready if not unwanted(key[0]))


def body_over(state: RunState, node: Node, step: StepState, status: Status, time: float) -> None:
    """The tasks of a step have come to an end: so has the step, unless it leads."""
    group = step.group
    if group is None:
        close(state, node, step, status, time)
        return
    group.left = 0
    group.last_child = time
    if status != "succeeded" and group.latch is None and step.failure is not None:
        group.passed_up = (step.failure, False)
    state.attention[node.index] = None


def close(state: RunState, node: Node, step: StepState, status: Status, time: float) -> None:
    """Give a step its final status and tell the group around it."""
    if step.group is not None:
        _close_group(state, node, step.group)
    if node.is_group and status != "succeeded":
        leave_pending(state, node, time, "skipped" if status == "skipped" else "not_run")
    step.status = status
    step.finished = time
    if step.budget is not None:
        state.timers.clear(("budget", node.index, 0))
    if node.step is not None:
        step.ignored = (node.step.ignore_errors and status in ("failed", "rescued")) or (
            node.step.after_rescue == "continue" and status == "rescued"
        )
        if node.step.register:
            register(state, node, node.step.register)
        if status == "succeeded" and node.undo != NONE and in_body(state, node):
            remember_undo(state, node)
    if node.parent == NONE:
        return
    if node.role == "body":
        _child_closed(state, node, step, time)
    else:
        _block_closed(state, node, step)


def register(state: RunState, node: Node, name: str) -> None:
    """The step's result can be read by this name."""
    for names, index in state.plan.names_of(node):
        state.registered[names, name] = index


def _close_group(state: RunState, node: Node, group: GroupState) -> None:
    drop_group_timers(state, node.index, len(group.guards))
    state.attention.pop(node.index, None)
    state.groups.pop(node.index, None)


def leave_pending(state: RunState, group: Node, time: float, status: Status) -> None:
    """Give the steps of a group's body that never started their final status, at every depth.

    What is in a rescue, undo or always block stays as it is: it was not needed.
    """
    for child in state.children(group):
        record = state.steps.get(child)
        if record is None:
            record = state.steps[child] = StepState(status)
        elif record.status in FINAL:
            continue
        elif record.status == "gate":
            drop_gate(state, child, time)
        record.status = status
        record.finished = time
        leave_pending(state, state.plan.nodes[child], time, status)


# -- what the end of a step means for others -------------------------------------------------------
def _child_closed(state: RunState, node: Node, step: StepState, time: float) -> None:
    group = state.group(node.parent)
    group.opened.pop(node.index, None)
    group.left -= 1
    group.last_child = time
    fan = state.fans.get(node.parent)
    if fan is not None and group.latch is None:
        instance_closed(state, state.plan.nodes[node.parent], group, fan)
    elif state.satisfied(node.index):
        startable = group.in_body and may_start(state, node)
        for other in node.dependents:
            state.unmet[other] -= 1
            if startable and state.unmet[other] == 0 and _is_to_come(state, other):
                state.ready.append((other, WHOLE_STEP))
    else:
        _pass_up(group, node, step)
        state.attention[node.parent] = None
    if group.left == 0 or group.latch is not None:
        state.attention[node.parent] = None


def _is_to_come(state: RunState, index: int) -> bool:
    """Whether a step has not begun; it has, where one before it is run again whose failure had
    been ignored."""
    record = state.steps.get(index)
    return record is None or record.status == "pending"


def _pass_up(group: GroupState, node: Node, step: StepState) -> None:
    """A child's failure becomes that of its group; one that no rescue handled goes first.

    A child that was cancelled because the group has failed already adds nothing.
    """
    handled = step.status == "rescued"
    failure = failure_of(node, step)
    if group.latch is None:
        if group.passed_up is None or (group.passed_up[1] and not handled):
            group.passed_up = (failure, handled)
            group.answered = was_answered(step)
    elif group.handled and step.status == "failed":
        group.latch = failure
        group.handled = False
        group.answered = was_answered(step)


def _block_closed(state: RunState, block: Node, step: StepState) -> None:
    if block.role == "undo":
        state.group(0).undoing = None
        state.undone[block.parent] = step.status
        state.undoable.pop(block.parent, None)
        state.attention[0] = None
        return
    owner = state.group(block.parent)
    if block.role == "rescue":
        owner.rescue_status = step.status
    else:
        owner.always_status = step.status
    state.attention[block.parent] = None


def remember_undo(state: RunState, node: Node) -> None:
    """The step can be undone. What a whole group can undo replaces what its steps could."""
    forget_undo(state, node)
    state.undoable[node.index] = None


def forget_undo(state: RunState, node: Node) -> None:
    """What is inside the node is not undone any more: something else answers for it."""
    if not node.is_group or not state.undoable:
        return
    inside = node.end - node.index
    if inside > len(state.undoable) or state.fans:
        undoable = [index for index in state.undoable if state.plan.is_inside(index, node)]
    else:
        undoable = [index for index in range(node.index + 1, node.end) if index in state.undoable]
    for index in undoable:
        del state.undoable[index]
