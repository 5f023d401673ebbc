"""Attempts and their outcomes: a task starts, is tried again, and in the end ends its step."""

from __future__ import annotations

import zlib
from typing import Any

from engine.events import CancelRequested, Failure, TaskFinished, TaskProbed, TaskStarted
from engine.fold.rules import (
    CANCEL_GRACE,
    ENDS_STEP,
    LEAVES_OPEN,
    illegal,
    latched,
    may_open,
    may_start,
    node_of,
    require,
    seconds,
    take_ready,
    too_many_failed,
)
from engine.fold.steps import body_over, cancel_rest, drop_ready, open_step, set_times
from engine.model import Retry
from engine.plan import Node
from engine.state import RunState, StepState, TaskState

LONGEST_DELAY = 86400.0
"""Seconds; no backoff makes a retry wait for longer than a day."""


# -- beginning -----------------------------------------------------------------------------------
def task_started(state: RunState, event: TaskStarted, time: float) -> None:
    """An attempt is announced. Opens a step that needs no preparation."""
    node = node_of(state, event)
    step = state.steps.get(node.index)
    if not may_start(state, node):
        raise illegal(event, "the run is stopping")
    opened_now = step is None
    if step is None:
        step = _open_plain(state, node, event, time)
    elif step.status != "opened" or not 0 <= event.task < len(step.tasks):
        raise illegal(event, "there is no such task")
    task = step.tasks[event.task]
    if event.attempt != task.attempt + 1:
        raise illegal(event, f"attempt {task.attempt} was the last")
    if task.life == "retrying":
        state.timers.clear(("retry", node.index, event.task))
    elif not opened_now:
        take_ready(state, (node.index, event.task))
    if task.attempt == 0:
        task.first_started = time
    task.life = "running"
    task.attempt = event.attempt
    task.started = time
    step.running += 1
    state.running[node.index, event.task] = None
    if step.timeout is not None:
        state.timers.set(("deadline", node.index, event.task), time + step.timeout)


def _open_plain(state: RunState, node: Node, event: TaskStarted, time: float) -> StepState:
    """Open a step about which no template has to be asked."""
    if not node.prepared or node.is_group:
        raise illegal(event, "the step has to be opened first")
    if not may_open(state, node):
        raise illegal(event, "the group around it does not start steps now")
    if event.task != 0 or event.attempt != 1:
        raise illegal(event, "its first attempt comes first")
    step = open_step(state, node, time)
    set_times(state, node, step, seconds(node.timeout), seconds(node.budget), time)
    step.tasks = [TaskState()]
    step.left = 1
    return step


# -- ending --------------------------------------------------------------------------------------
def cancel_requested(state: RunState, event: CancelRequested, time: float) -> None:
    """A running task was asked to end; nothing else of its step begins but for a timeout."""
    node, step, task = _running_task(state, event)
    require(task.cancel is None, event, "that was requested before")
    task.cancel = event.kind
    task.cancel_reason = event.reason
    state.timers.clear(("deadline", node.index, event.task))
    state.timers.set(("grace", node.index, event.task), time + CANCEL_GRACE)
    if event.kind != "timed_out" and len(step.tasks) > 1:
        drop_ready(state, lambda index: index == node.index)


def task_finished(state: RunState, event: TaskFinished, time: float) -> None:
    """The outcome of an attempt: the task is over, is tried again, or stays in doubt."""
    node, step, task = _running_task(state, event)
    if event.attempt != task.attempt:
        raise illegal(event, f"attempt {task.attempt} is running")
    if event.failure is None and event.status != "succeeded":
        raise illegal(event, "it gives no failure")
    del state.running[node.index, event.task]
    step.running -= 1
    if state.timers:
        state.timers.clear(("deadline", node.index, event.task))
        state.timers.clear(("grace", node.index, event.task))
    task.finished = time
    task.changed = event.changed
    task.data = event.data
    task.figures = event.figures
    task.message = event.message
    task.failure = event.failure
    if event.status == "succeeded":
        task.life = "succeeded"
    elif event.status == "cancelled" and task.cancel in LEAVES_OPEN:
        task.life = "doubt"
        return
    elif event.status == "cancelled":
        task.life = "cancelled"
    else:
        task.failures += 1
        if _is_retried(state, node, step, task):
            _retry(state, node, task, event)
            return
        task.life = "failed"
    settle(state, node, step, task, time)


def _may_have_happened(node: Node, task: TaskState) -> bool:
    """Whether a once-only effect was cut off by a deadline: as much in doubt as after a crash."""
    assert node.step is not None
    assert node.step.call is not None
    assert task.failure is not None
    return node.step.call.effect == "once" and task.failure.kind == "timed_out"


def _retry(state: RunState, node: Node, task: TaskState, event: TaskFinished) -> None:
    task.cancel = None
    if _may_have_happened(node, task):
        task.life = "doubt"
        task.verdict = ""
        state.doubts[node.index, event.task] = None
        return
    task.life = "retrying"
    if may_start(state, node):  # else after a resume
        set_retry(state, node, event.task, task)


def set_retry(state: RunState, node: Node, number: int, task: TaskState) -> None:
    """Have the task tried again once its delay is over, counted from its failure."""
    assert state.start is not None
    delay = retry_delay(node.retry, task.failures, f"{state.start.run}/{node.path}/{number}")
    state.timers.set(("retry", node.index, number), task.finished + delay)


def _running_task(state: RunState, event: Any) -> tuple[Node, StepState, TaskState]:
    node = node_of(state, event)
    if (node.index, event.task) not in state.running:
        raise illegal(event, "the task is not running")
    step = state.steps[node.index]
    return node, step, step.tasks[event.task]


def _is_retried(state: RunState, node: Node, step: StepState, task: TaskState) -> bool:
    """Whether a failed attempt is repeated: in this process, or after a resume."""
    failure = task.failure
    assert failure is not None
    if task.failures >= node.retry.attempts or not failure.retryable:
        return False
    if task.cancel not in (None, "timed_out", "interrupted"):
        return False
    return not latched(state, node, step)


def retry_delay(retry: Retry, failures: int, seed: str) -> float:
    """Seconds to wait after so many failed attempts; the jitter is a function of the seed."""
    try:
        delay = retry.delay * float(retry.backoff) ** (failures - 1)
    except OverflowError:
        delay = LONGEST_DELAY
    delay = min(delay, LONGEST_DELAY if retry.max_delay is None else retry.max_delay)
    if not retry.jitter:
        return delay
    spread = zlib.crc32(f"{seed}/{failures}".encode()) / 0xFFFFFFFF * 2 - 1
    return max(0.0, delay * (1 + retry.jitter * spread))


def settle(state: RunState, node: Node, step: StepState, task: TaskState, time: float) -> None:
    """A task has come to its end: so has the step, or its next batch begins, or neither."""
    if len(step.tasks) == 1:
        if task.life == "succeeded":
            body_over(state, node, step, "succeeded", time)
        else:
            _fail(state, node, step, task.failure, time)
        return
    step.left -= 1
    if task.life == "cancelled" and not step.cut_off:
        step.cut_off = True
        drop_ready(state, lambda index: index == node.index)
    if not step.running and (step.cut_off or step.left == 0):
        _settle_batch(state, node, step, time)


def _settle_batch(state: RunState, node: Node, step: StepState, time: float) -> None:
    batch = [step.tasks[index] for index in step.batch_range()]
    if step.cut_off:
        cancelled = next(task for task in batch if task.life == "cancelled")
        _fail(state, node, step, cancelled.failure, time)
    elif too_many_failed(
        node,
        sum(task.life == "failed" for task in batch),
        len(batch),
        hosts=batch[0].spec.host is not None,
    ):
        _fail(state, node, step, _fan_failure(node, step), time)
    elif step.batch + 1 < len(step.batches):
        step.to_batch(step.batch + 1)
        if may_start(state, node) and not latched(state, node, step):
            state.ready.extend((node.index, index) for index in step.batch_range())
    else:
        body_over(state, node, step, "succeeded", time)


def _fan_failure(node: Node, step: StepState) -> Failure:
    failed = [task for task in step.tasks if task.life == "failed"]
    first = failed[0].failure
    assert first is not None
    where = failed[0].spec.host or failed[0].spec.item
    return Failure(
        kind=first.kind,
        message=f"{len(failed)} of {len(step.tasks)} tasks failed, first {where}: {first.message}",
        step=node.path,
        hint=first.hint,
        evidence=first.evidence,
    )


def _fail(
    state: RunState, node: Node, step: StepState, failure: Failure | None, time: float
) -> None:
    step.failure = failure
    cancelled = any(task.life == "cancelled" for task in step.tasks)
    own = any(task.cancel in ENDS_STEP for task in step.tasks)
    cancel_rest(state, node, step)
    body_over(state, node, step, "cancelled" if cancelled and not own else "failed", time)


# -- after a crash -------------------------------------------------------------------------------
def task_probed(state: RunState, event: TaskProbed, time: float) -> None:
    """The world was asked whether a task in doubt did its work.

    When nobody knows, a person has to say, unless the attempt had been cut off by its deadline:
    then it has simply failed.
    """
    node = node_of(state, event)
    key = (node.index, event.task)
    require(key in state.doubts, event, "the task is not in doubt")
    step = state.steps[node.index]
    task = step.tasks[event.task]
    timed_out = task.failure is not None and task.failure.kind == "timed_out"
    if event.verdict == "unknown" and not timed_out:
        task.verdict = "unknown"
        task.message = event.message
        return
    del state.doubts[key]
    if event.verdict == "unknown":
        task.life = "failed"
        settle(state, node, step, task, time)
        return
    if event.verdict == "done":
        mark_done(task, time, event.changed, event.data, event.message)
        settle(state, node, step, task, time)
        return
    task.life = "pending"
    if may_start(state, node) and not latched(state, node, step):
        state.ready.append(key)


def mark_done(
    task: TaskState, time: float, changed: bool, data: dict[str, Any], message: str
) -> None:
    """The task has succeeded, whoever found out."""
    task.life = "succeeded"
    task.finished = time
    task.changed = changed
    task.data = data
    task.message = message
    task.failure = None
