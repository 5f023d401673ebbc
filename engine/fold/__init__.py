"""``apply``: how each event changes the state. The table at the end is the whole protocol.

What may follow at all says the table of `engine.transitions`; finer conditions are checked by
every function before it changes anything, so a refused event leaves the state as it was.
Decisions are not taken here: where the outcome of an event is open (does a failed group run its
rescue?), the group is put into `attention` and the scheduler decides. What is *not* open (a task
that failed for good ends its step, a finished step makes those that need it ready) follows from
the plan and is done here, so that the journal needs no event for it.

::

    run       the run as a whole: started, stopped, resumed, finished
    steps     a step is opened, skipped, ended; what that means for those around it
    tasks     attempts and their outcomes; when they end the step
    failures  latches, gates, guards
    people    what time people take, and until when they may answer
    fans      what a group fans out into, and when its batches have failed
    reopen    what a person takes back; and working out anew what can go on
    rules     what all of these ask: may this start, may that be opened
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from engine.errors import IllegalEvent
from engine.events import (
    CancelRequested,
    FailureLatched,
    GateAnswered,
    GateOpened,
    GuardObserved,
    LocksTaken,
    Overridden,
    ReasonGiven,
    Record,
    RunFinished,
    RunResumed,
    RunStarted,
    RunStopped,
    StepFinished,
    StepOpened,
    StepSkipped,
    StopRequested,
    TaskFinished,
    TaskProbed,
    TaskStarted,
    Warned,
)
from engine.fold.failures import failure_latched, gate_answered, gate_opened, guard_observed
from engine.fold.people import answer_refusal
from engine.fold.reopen import overridden, override_refusal, rebuild
from engine.fold.rules import CANCEL_GRACE, STOP_TIME
from engine.fold.run import (
    locks_taken,
    reason_given,
    run_finished,
    run_resumed,
    run_started,
    run_stopped,
    stop_requested,
    warned,
)
from engine.fold.steps import step_finished, step_opened, step_skipped
from engine.fold.tasks import (
    cancel_requested,
    retry_delay,
    task_finished,
    task_probed,
    task_started,
)
from engine.plan import Plan
from engine.state import RunState
from engine.transitions import check, missing

__all__ = [
    "CANCEL_GRACE",
    "STOP_TIME",
    "answer_refusal",
    "apply",
    "fold",
    "override_refusal",
    "rebuild",
    "retry_delay",
]


def fold(plan: Plan, records: Iterable[Record]) -> RunState:
    """The state after all these records; raises IllegalEvent where one cannot follow."""
    state = RunState(plan)
    for record in records:
        apply(state, record)
    return state


def apply(state: RunState, record: Record) -> None:
    """Let one record change the state; raises IllegalEvent, having changed nothing."""
    if record.seq != state.seq + 1:
        raise IllegalEvent(f"record {record.seq} cannot follow record {state.seq}")
    event = record.event
    kind = type(event)
    check(state, event)
    _TABLE[kind](state, event, record.time)
    state.seq = record.seq
    state.time = record.time


_TABLE: dict[type, Callable[[RunState, Any, float], None]] = {
    RunStarted: run_started,
    LocksTaken: locks_taken,
    RunResumed: run_resumed,
    StopRequested: stop_requested,
    RunStopped: run_stopped,
    Warned: warned,
    ReasonGiven: reason_given,
    RunFinished: run_finished,
    StepOpened: step_opened,
    StepSkipped: step_skipped,
    StepFinished: step_finished,
    FailureLatched: failure_latched,
    GateOpened: gate_opened,
    GateAnswered: gate_answered,
    TaskStarted: task_started,
    TaskFinished: task_finished,
    CancelRequested: cancel_requested,
    TaskProbed: task_probed,
    Overridden: overridden,
    GuardObserved: guard_observed,
}

if missing(_TABLE):
    raise RuntimeError(f"the fold or the table of transitions lacks {', '.join(missing(_TABLE))}")
