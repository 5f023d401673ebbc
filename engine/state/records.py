"""What is known of a task, a guard, a group, a fan and a step once something has happened to it.

Records only hold; each names its fields once. The fold alone writes to them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from engine.errors import FailureKind
from engine.events import Failure, GateOpened, GuardTiming, Person, TaskSpec, Verdict

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
GroupPhase = Literal["body", "rescue", "undo", "always"]
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


@dataclass(slots=True, eq=False)
class TaskState:
    """A task: one host or item of a step. Times are epoch seconds.

    `attempt` numbers its attempts, `failures` counts those that failed: one that was cut off by a
    crash uses up no retry.
    `first_started` is moved by the time in which no process carried the run, so that what is
    counted from it (what is left of a `wait`) is time in which the run was at work.
    """

    spec: TaskSpec = PLAIN
    life: TaskLife = "pending"
    attempt: int = 0
    failures: int = 0
    first_started: float = 0.0
    started: float = 0.0
    finished: float = 0.0
    cancel: FailureKind | None = None
    cancel_reason: str = ""
    changed: bool = False
    data: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, float | str] = field(default_factory=dict)
    message: str = ""
    failure: Failure | None = None
    verdict: Literal["", "unknown"] = ""


@dataclass(slots=True, eq=False)
class GuardState:
    """What a guard has seen since it began to observe."""

    timing: GuardTiming
    last: Verdict | None = None
    observed: float = 0.0
    observations: int = 0
    failing_since: float | None = None
    value: Any = None
    message: str = ""

    @property
    def tripped(self) -> bool:
        """Whether it has been failing for as long as it takes, and fails still."""
        since = self.failing_since
        if since is None or self.last != "fail":
            return False
        return self.observed - since >= self.timing.hold


@dataclass(slots=True, eq=False)
class GroupState:
    """What only a group, a block or the run has.

    `left` counts what has no final status yet, `opened` holds the children that are under way.
    `passed_up` is the failure of a child, and whether a rescue further in has handled it;
    `latch` is set once the group has taken notice of that or failed by itself (a guard, its
    budget, from outside). `answered` says that a rescue was tried on the failure's way here.
    """

    left: int
    phase: GroupPhase = "body"
    opened: dict[int, None] = field(default_factory=dict)
    last_child: float = 0.0
    latch: Failure | None = None
    handled: bool = False
    passed_up: tuple[Failure, bool] | None = None
    rescue_status: Status | None = None
    always_status: Status | None = None
    answered: bool = False
    undoing: int | None = None
    guards: list[GuardState] = field(default_factory=list)
    phase_before_stop: GroupPhase | None = None

    @property
    def in_body(self) -> bool:
        """Whether steps of the body may begin."""
        return self.phase == "body" and self.latch is None and self.passed_up is None

    def to_body(self) -> None:
        """Back in its body, with no failure. For the fold."""
        self.phase = "body"
        self.latch = None
        self.handled = False
        self.passed_up = None
        self.answered = False


@dataclass(slots=True, eq=False)
class FanState:
    """What a group fans out into: its instances with their items and hosts, and their batches.

    `batch` is the one under way, `first` its first instance. Without `batches` all are one.
    """

    specs: dict[int, TaskSpec]
    batches: tuple[int, ...] = ()
    batch: int = 0
    first: int = 0

    @property
    def members(self) -> tuple[int, ...]:
        """The nodes of the instances, in order."""
        return tuple(self.specs)

    @property
    def current(self) -> tuple[int, ...]:
        """The nodes of the batch under way."""
        size = self.batches[self.batch] if self.batches else len(self.specs)
        return self.members[self.first : self.first + size]

    @property
    def has_more(self) -> bool:
        """Whether a batch is still to come."""
        return self.batch + 1 < len(self.batches)

    def next_batch(self) -> None:
        """The next batch is under way. For the fold."""
        self.first += self.batches[self.batch]
        self.batch += 1


@dataclass(slots=True, eq=False)
class StepState:
    """A step, block or the run, once something has happened to it.

    Of its tasks, those from `first` on are the current batch, `left` of which have no final
    state yet; `cut_off` says that one of them was cancelled.
    """

    status: Status
    opened: float = 0.0
    finished: float = 0.0
    tasks: list[TaskState] = field(default_factory=list)
    running: int = 0
    batches: tuple[int, ...] = ()
    batch: int = 0
    first: int = 0
    left: int = 0
    cut_off: bool = False
    timeout: float | None = None
    budget: float | None = None
    gate: GateOpened | None = None
    gate_passed: Person | None = None
    asked: int = 0
    """Gates inside that wait for a person now."""
    asked_since: float = 0.0
    waited: float = 0.0
    """Seconds in which people were waited for inside, before now."""
    group: GroupState | None = None
    failure: Failure | None = None
    ignored: bool = False
    reason: str = ""

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
