"""The state of a run: what all its events so far add up to.

Law 1: *state is* ``fold(apply, events)``. Nothing else writes to it, so whoever has the journal
has the state: the runner while it works, ``ce-run resume`` after a crash, ``ce-run show`` years
later. The shape of this file follows from that:

- `RunState` and the small records in it (`engine.state.records`) only hold; the functions
  that change them are in `engine.fold`, one per event, in a table. An event that cannot follow
  raises `IllegalEvent`: a journal that folds is a journal that makes sense.
- What the scheduler asks again and again (what is ready, what runs, which group needs a
  decision, which deadline is next) is kept up to date by the fold instead of being searched
  for. That makes a decision cost as much as there is to decide, not as much as there are steps.
- A step that nothing has happened to has no record; 100,000 waiting steps cost two list cells
  each.

The life of a step::

    pending ─┬─> gate ──> opened ─┬─> succeeded
             ├─> opened           ├─> failed      (also with ignore_errors: `ignored` is set)
             └─> skipped          ├─> rescued     (a group whose rescue succeeded)
                                  ├─> cancelled
             not_run <── pending, once the group around it has failed

A group that is opened is in one of four phases: *body*, then, if a failure latched, *rescue*
or (for the run itself) *undo*, and in every case *always*. An action with `guards`, `rescue` or
`always` of its own is a group, too: its tasks are the body.

A group that *fans out* (`hosts`, `loop`) has its instances as children, batch by batch; each of
them is a group with the body and the blocks.

The life of a task::

    pending ──> running ─┬─> succeeded | failed | cancelled
       ^                 ├─> retrying ──> running …
       │                 └─> doubt        (the process went away; no outcome is known)
       └───────────────────────┘          (read and idempotent effects simply run again)
"""

from engine.state.records import (
    FINAL,
    PLAIN,
    SATISFYING,
    TASK_FINAL,
    WHOLE_STEP,
    FanState,
    GroupPhase,
    GroupState,
    GuardState,
    Status,
    StepState,
    TaskKey,
    TaskLife,
    TaskState,
)
from engine.state.run import RunState
from engine.state.timers import TimerKey, TimerKind, Timers

__all__ = [
    "FINAL",
    "PLAIN",
    "SATISFYING",
    "TASK_FINAL",
    "WHOLE_STEP",
    "FanState",
    "GroupPhase",
    "GroupState",
    "GuardState",
    "RunState",
    "Status",
    "StepState",
    "TaskKey",
    "TaskLife",
    "TaskState",
    "TimerKey",
    "TimerKind",
    "Timers",
]
