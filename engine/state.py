"""The state of a run: what all its events so far add up to.

Law 1: *state is* ``fold(apply, events)``. Nothing else writes to it, so whoever has the journal
has the state: the runner while it works, ``ce-run resume`` after a crash, ``ce-run show`` years
later. The shape of this file follows from that:

- `RunState` and the two small records in it (`StepState`, `TaskState`) only hold; the functions
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

The life of a task::

    pending ──> running ─┬─> succeeded | failed | cancelled
       ^                 ├─> retrying ──> running …
       │                 └─> doubt        (the process went away; no outcome is known)
       └───────────────────────┘          (read and idempotent effects simply run again)
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator
from typing import Any, Literal, TypeAlias

from engine.errors import FailureKind
from engine.events import (
    Failure,
    GateOpened,
    GuardTiming,
    Outcome,
    Person,
    ReasonGiven,
    RunStarted,
    StopRequested,
    TaskSpec,
    Verdict,
)
from engine.plan import Node, Plan

Status = Literal[
    "pending",
    "gate",
    "opened",
    "succeeded",
    "skipped",
    "failed",
    "rescued",
    "cancelled",
    "not_run",
]
Phase = Literal["body", "rescue", "undo", "always"]
TaskLife = Literal["pending", "running", "retrying", "doubt", "succeeded", "failed", "cancelled"]

FINAL: frozenset[Status] = frozenset(
    ("succeeded", "skipped", "failed", "rescued", "cancelled", "not_run")
)
SATISFYING: frozenset[Status] = frozenset(("succeeded", "skipped"))
TASK_FINAL: frozenset[TaskLife] = frozenset(("succeeded", "failed", "cancelled"))

PLAIN = TaskSpec()
WHOLE_STEP = -1
"""In `RunState.ready`, in place of a task: the step itself has to be prepared or opened."""

TaskKey: TypeAlias = tuple[int, int]
"""Node index and task index."""

TimerKind = Literal["deadline", "grace", "retry", "budget", "gate", "guard", "stop"]
TimerKey: TypeAlias = tuple[TimerKind, int, int]
"""What a timer is for, node index, and task or guard index (0 where there is none)."""


class Timers:
    """What is due when. Kept by the fold, read by the scheduler.

    The earliest are found without looking at the others: two heaps, whose tops are always valid;
    what was cleared or moved further down is dropped when it comes up. Retries have a heap of
    their own, since they wait for a free slot as well as for their time.
    """

    __slots__ = ("_at", "_others", "_retries")

    def __init__(self) -> None:
        self._at: dict[TimerKey, float] = {}
        self._others: list[tuple[float, TimerKey]] = []
        self._retries: list[tuple[float, TimerKey]] = []

    def __bool__(self) -> bool:
        return bool(self._at)

    def at(self, key: TimerKey) -> float | None:
        """When the timer is due, None when it is not set."""
        return self._at.get(key)

    def all(self) -> dict[TimerKey, float]:
        """Every timer with its time."""
        return dict(self._at)

    def set(self, key: TimerKey, at: float) -> None:
        """Have the key come up at time `at`, and no more at its former time."""
        self._at[key] = at
        heap = self._heap_of(key)
        heapq.heappush(heap, (at, key))
        self._trim(heap)

    def clear(self, key: TimerKey) -> None:
        """Forget a timer; unknown ones are fine."""
        if self._at.pop(key, None) is not None:
            self._trim(self._heap_of(key))

    def shift(self, kind: TimerKind, seconds: float) -> None:
        """Move all timers of a kind by some seconds."""
        for key, at in list(self._at.items()):
            if key[0] == kind:
                self.set(key, at + seconds)

    def drop(self, *kinds: TimerKind) -> None:
        """Forget all timers of these kinds."""
        for key in [key for key in self._at if key[0] in kinds]:
            self.clear(key)

    def due(self, now: float) -> Iterator[TimerKey]:
        """What has come up, earliest first, except retries."""
        return _walk(self._others, self._at, now)

    @property
    def retries(self) -> bool:
        """Whether any task will be tried again by itself."""
        return bool(self._retries)

    def due_retries(self, now: float) -> Iterator[TimerKey]:
        """The retries that have come up, earliest first."""
        return _walk(self._retries, self._at, now)

    def next(self, after: float) -> float | None:
        """When the first timer later than `after` comes up.

        A retry that is due already waits for a free slot; so do the ones behind it.
        """
        times = []
        if self._retries and self._retries[0][0] > after:
            times.append(self._retries[0][0])
        if self._others and self._others[0][0] > after:
            times.append(self._others[0][0])
        elif self._others:
            times += [at for key, at in self._at.items() if at > after and key[0] != "retry"]
        return min(times, default=None)

    def _heap_of(self, key: TimerKey) -> list[tuple[float, TimerKey]]:
        return self._retries if key[0] == "retry" else self._others

    def _trim(self, heap: list[tuple[float, TimerKey]]) -> None:
        """Drop what is stale from the top; all of it once it is the larger part."""
        at = self._at
        while heap and at.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        if len(heap) > 2 * len(at) + 64:
            heap[:] = {entry for entry in heap if at.get(entry[1]) == entry[0]}
            heapq.heapify(heap)


def _walk(
    heap: list[tuple[float, TimerKey]], valid: dict[TimerKey, float], now: float
) -> Iterator[TimerKey]:
    """The valid entries of a heap up to `now`, in order, leaving the heap as it is."""
    if not heap or heap[0][0] > now:
        return
    candidates = [(heap[0], 0)]
    last: tuple[float, TimerKey] | None = None
    while candidates:
        entry, place = heapq.heappop(candidates)
        if valid.get(entry[1]) == entry[0] and entry != last:
            last = entry
            yield entry[1]
        for child in (2 * place + 1, 2 * place + 2):
            if child < len(heap) and heap[child][0] <= now:
                heapq.heappush(candidates, (heap[child], child))


class TaskState:
    """A task: one host or item of a step. Times are epoch seconds.

    `attempt` numbers its attempts, `failures` counts those that failed: one that was cut off by a
    crash uses up no retry.
    `first_started` is moved by the time in which no process carried the run, so that what is
    counted from it (what is left of a `wait`) is time in which the run was at work.
    """

    __slots__ = (
        "attempt",
        "cancel",
        "cancel_reason",
        "changed",
        "data",
        "failure",
        "failures",
        "figures",
        "finished",
        "first_started",
        "life",
        "message",
        "spec",
        "started",
        "verdict",
    )

    def __init__(self, spec: TaskSpec = PLAIN) -> None:
        self.spec = spec
        self.life: TaskLife = "pending"
        self.attempt = 0
        self.failures = 0
        self.first_started = 0.0
        self.started = 0.0
        self.finished = 0.0
        self.cancel: FailureKind | None = None
        self.cancel_reason = ""
        self.changed = False
        self.data: dict[str, Any] = {}
        self.figures: dict[str, float | str] = {}
        self.message = ""
        self.failure: Failure | None = None
        self.verdict: Literal["", "unknown"] = ""


class GuardState:
    """What a guard has seen since it began to observe."""

    __slots__ = ("failing_since", "last", "message", "observations", "observed", "timing", "value")

    def __init__(self, timing: GuardTiming) -> None:
        self.timing = timing
        self.last: Verdict | None = None
        self.observed = 0.0
        self.observations = 0
        self.failing_since: float | None = None
        self.value: Any = None
        self.message = ""

    @property
    def tripped(self) -> bool:
        """Whether it has been failing for as long as it takes, and fails still."""
        since = self.failing_since
        if since is None or self.last != "fail":
            return False
        return self.observed - since >= self.timing.hold


class GroupState:
    """What only a group, a block or the run has.

    `left` counts what has no final status yet, `opened` holds the children that are under way.
    `passed_up` is the failure of a child, and whether a rescue further in has handled it;
    `latch` is set once the group has taken notice of that or failed by itself (a guard, its
    budget, from outside). `answered` says that a rescue was tried on the failure's way here.
    """

    __slots__ = (
        "always_status",
        "answered",
        "guards",
        "handled",
        "last_child",
        "latch",
        "left",
        "opened",
        "passed_up",
        "phase",
        "phase_before_stop",
        "rescue_status",
        "undoing",
    )

    def __init__(self, children: int) -> None:
        self.phase: Phase = "body"
        self.left = children
        self.opened: dict[int, None] = {}
        self.last_child = 0.0
        self.latch: Failure | None = None
        self.handled = False
        self.passed_up: tuple[Failure, bool] | None = None
        self.rescue_status: Status | None = None
        self.always_status: Status | None = None
        self.answered = False
        self.undoing: int | None = None
        self.guards: list[GuardState] = []
        self.phase_before_stop: Phase | None = None

    @property
    def in_body(self) -> bool:
        """Whether steps of the body may begin."""
        return self.phase == "body" and self.latch is None and self.passed_up is None


class StepState:
    """A step, block or the run, once something has happened to it.

    Of its tasks, those from `first` on are the current batch, `left` of which have no final
    state yet; `cut_off` says that one of them was cancelled.
    """

    __slots__ = (
        "batch",
        "batches",
        "budget",
        "cut_off",
        "failure",
        "finished",
        "first",
        "gate",
        "gate_passed",
        "group",
        "ignored",
        "left",
        "opened",
        "reason",
        "running",
        "status",
        "tasks",
        "timeout",
    )

    def __init__(self, status: Status) -> None:
        self.status: Status = status
        self.opened = 0.0
        self.finished = 0.0
        self.tasks: list[TaskState] = []
        self.running = 0
        self.batches: tuple[int, ...] = ()
        self.batch = 0
        self.first = 0
        self.left = 0
        self.cut_off = False
        self.timeout: float | None = None
        self.budget: float | None = None
        self.gate: GateOpened | None = None
        self.gate_passed: Person | None = None
        self.group: GroupState | None = None
        self.failure: Failure | None = None
        self.ignored = False
        self.reason = ""

    def batch_range(self) -> range:
        """The tasks of the current batch."""
        size = self.batches[self.batch] if self.batches else len(self.tasks)
        return range(self.first, self.first + size)

    def to_batch(self, number: int) -> None:
        """Make a batch the current one. For the fold."""
        if number != self.batch + 1:
            self.first = sum(self.batches[:number])
        else:
            self.first += self.batches[self.batch]
        self.batch = number
        tasks = self.tasks
        self.left = sum(tasks[index].life not in TASK_FINAL for index in self.batch_range())


class RunState:
    """Everything known about a run; see the module's docstring for who may change it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.seq = 0
        self.time = 0.0
        self.life: Literal["new", "running", "stopping", "stopped", "finished"] = "new"
        self.start: RunStarted | None = None
        self.started = 0.0
        self.finished = 0.0
        self.attended = False
        self.tokens: dict[str, int] = {}
        self.warnings: dict[str, str] = {}
        """What people were warned of → the first step that did it."""
        self.reason: ReasonGiven | None = None
        """Why the run was started, if that was told afterwards."""
        self.stop: StopRequested | None = None
        self.outcome: Outcome | None = None
        self.steps: dict[int, StepState] = {}
        self.unmet: list[int] = [len(node.needs) for node in plan.nodes]
        self.ready: deque[TaskKey] = deque()
        self.running: dict[TaskKey, None] = {}
        self.doubts: dict[TaskKey, None] = {}
        self.gates: dict[int, None] = {}
        self.groups: dict[int, None] = {}
        self.attention: dict[int, None] = {}
        self.undoable: dict[int, None] = {}
        self.undone: dict[int, Status] = {}
        self.registered: dict[tuple[int, str], int] = {}
        """`Plan.runbook_of` a step and the name that it registers → its index."""
        self.timers = Timers()
        self.left_at: float | None = None

    # -- looking things up ----------------------------------------------------------------------
    def status(self, node: Node) -> Status:
        """The status of a node."""
        found = self.steps.get(node.index)
        return found.status if found is not None else "pending"

    def step(self, index: int) -> StepState:
        """The record of a node that something has happened to; KeyError otherwise."""
        return self.steps[index]

    def group(self, index: int) -> GroupState:
        """The group record of an opened group; raises AssertionError otherwise."""
        group = self.steps[index].group
        assert group is not None
        return group

    def task(self, key: TaskKey) -> TaskState:
        """A task of a step that has been opened."""
        return self.steps[key[0]].tasks[key[1]]

    def satisfied(self, index: int) -> bool:
        """Whether what needs this step may go on."""
        found = self.steps.get(index)
        return found is not None and (found.status in SATISFYING or found.ignored)

    def open_groups(self) -> Iterator[Node]:
        """Every group that is under way, outermost first."""
        return (self.plan.nodes[index] for index in sorted(self.groups))

    @property
    def failure(self) -> Failure | None:
        """What made the run fail, if it did."""
        root = self.steps.get(0)
        if root is None or root.group is None:
            return None
        return root.failure or root.group.latch
