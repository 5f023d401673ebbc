"""The events of a run: everything that the journal knows and that the state is folded from.

An event says what *has been decided or has happened*, never what should. Events are frozen and
refer to steps by path, since paths survive an edit of the runbook where numbers would not. The
type of an event is written as ``type`` in the journal.

Which event may follow which is not written here but in `engine.state`, which refuses every
other one.
"""

from __future__ import annotations

from typing import Any, Literal, TypeAlias

import msgspec

from engine.errors import FailureKind
from engine.model import Mode

SCHEMA_VERSION = 1
"""Raised whenever an older ce-run could misread what a newer one wrote."""

TaskStatus = Literal["succeeded", "failed", "cancelled"]
StepStatus = Literal["succeeded", "failed", "rescued", "cancelled"]
Outcome = Literal["succeeded", "failed", "rescued", "undone", "needs_person"]
StopKind = Literal["interrupted", "preempted", "waiting"]
Verdict = Literal["pass", "fail", "inconclusive"]


class Event(msgspec.Struct, frozen=True, tag_field="type", omit_defaults=True, gc=False):
    """Base of all events."""


class Failure(msgspec.Struct, frozen=True, omit_defaults=True):
    """Why something failed: the kind, in words, where, what to try next, and evidence."""

    kind: FailureKind
    message: str
    step: str = ""
    hint: str = ""
    evidence: tuple[str, ...] = ()
    retryable: bool = True
    final: bool = False
    """The step can only fail: to do it again is no advice."""

    @property
    def summary(self) -> str:
        """One line: ``canary/route: unreachable: no answer from edge``."""
        where = f"{self.step}: " if self.step else ""
        speaks = self.kind in ("failed", "guard_tripped")  # the message says it
        kind = "" if speaks else f"{self.kind.replace('_', ' ')}: "
        return f"{where}{kind}{self.message}"


class TaskSpec(msgspec.Struct, frozen=True, omit_defaults=True):
    """A task that a step fans out into: its item and its host, where it has them."""

    item: Any = None
    host: str | None = None


class GuardTiming(msgspec.Struct, frozen=True):
    """A guard's numbers once their templates are rendered; seconds."""

    every: float
    hold: float
    min_samples: int


class Person(msgspec.Struct, frozen=True, omit_defaults=True):
    """Who did something and from where: user name, host, and terminal, CI job or program."""

    name: str
    host: str = ""
    via: str = ""
    claims: str = ""
    """Another name, which the person gave and nothing vouches for."""

    @property
    def shown(self) -> str:
        """The name, and which one is claimed."""
        return f"{self.name} (claims to be {self.claims})" if self.claims else self.name


# -- the run -----------------------------------------------------------------------------------
class RunStarted(Event, tag="run_started", frozen=True):
    """First event of every journal. `attended` says that a person can be asked."""

    run: str
    runbook: str
    name: str
    mode: Mode
    by: Person
    version: str
    attended: bool = False
    inputs: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    options: dict[str, Any] = {}
    reason: str = ""
    digest: str = ""


class LocksTaken(Event, tag="locks_taken", frozen=True):
    """The run owns these locks; each with its fencing token. `over` names runs preempted."""

    tokens: dict[str, int]
    over: dict[str, str] = {}


class RunResumed(Event, tag="run_resumed", frozen=True):
    """A new process goes on with the run; what had no outcome is in doubt now."""

    by: Person
    version: str
    attended: bool = False
    changed: tuple[str, ...] = ()


class StopRequested(Event, tag="stop_requested", frozen=True):
    """Start nothing more, cancel what is running, leave."""

    kind: StopKind
    by: Person | None = None
    reason: str = ""


class RunStopped(Event, tag="run_stopped", frozen=True):
    """This process leaves the run before its end; all but a preempted run can be resumed.

    One that died says nothing: whoever finds that notes it, with when it was last `seen` alive.
    """

    kind: StopKind
    reason: str = ""
    seen: float = 0.0


class Warned(Event, tag="warned", frozen=True):
    """Something unsafe goes on all the same, and people have to know; told once a run.

    `step` is empty for what concerns the run as a whole.
    """

    message: str
    step: str = ""


class ReasonGiven(Event, tag="reason_given", frozen=True):
    """Why the run was started, told afterwards: at three in the morning nobody asks first."""

    reason: str
    by: Person


class RunFinished(Event, tag="run_finished", frozen=True):
    """Last event of a run that came to its end."""

    outcome: Outcome
    failure: Failure | None = None


# -- steps -------------------------------------------------------------------------------------
class StepOpened(Event, tag="step_opened", frozen=True):
    """A prepared step: its conditions hold, its tasks and times are known.

    For a group, and for a rescue, undo or always block, `tasks` is empty. Times are seconds.
    """

    step: str
    tasks: tuple[TaskSpec, ...] = ()
    batches: tuple[int, ...] = ()
    timeout: float | None = None
    budget: float | None = None
    guards: tuple[GuardTiming, ...] = ()


class StepSkipped(Event, tag="step_skipped", frozen=True):
    """The step does not run; what needs it goes on."""

    step: str
    reason: str


class StepFinished(Event, tag="step_finished", frozen=True):
    """A group or block is over, or a step ended without a task of its own ending it."""

    step: str
    status: StepStatus
    failure: Failure | None = None


class FailureLatched(Event, tag="failure_latched", frozen=True):
    """The group starts nothing more. With `handled`, a rescue further in took care of it."""

    step: str
    failure: Failure
    handled: bool = False


class GateOpened(Event, tag="gate_opened", frozen=True):
    """The step waits for a person's answer, at most `timeout` seconds."""

    step: str
    message: str
    checklist: tuple[str, ...] = ()
    timeout: float | None = None


class GateAnswered(Event, tag="gate_answered", frozen=True):
    """A person answered."""

    step: str
    answer: Literal["approved", "rejected"]
    by: Person
    reason: str = ""
    ticked: tuple[str, ...] = ()
    """The points of the checklist that the person has ticked."""


# -- tasks -------------------------------------------------------------------------------------
class TaskStarted(Event, tag="task_started", frozen=True):
    """Announces an effect: synced to disk before the action is called."""

    step: str
    attempt: int = 1
    task: int = 0


class TaskFinished(Event, tag="task_finished", frozen=True):
    """The outcome of an attempt. `data` is the result, `shares` and `figures` are its headlines
    (all empty for ``no_log``)."""

    step: str
    status: TaskStatus
    attempt: int = 1
    task: int = 0
    changed: bool = False
    data: dict[str, Any] = {}
    message: str = ""
    diff: str = ""
    failure: Failure | None = None
    shares: dict[str, float] = {}
    figures: dict[str, float | str] = {}


class CancelRequested(Event, tag="cancel_requested", frozen=True):
    """A running task was asked to end; `kind` is what its failure will be called."""

    step: str
    kind: FailureKind
    task: int = 0
    reason: str = ""


class TaskProbed(Event, tag="task_probed", frozen=True):
    """What the world says about a task in doubt."""

    step: str
    verdict: Literal["done", "not_done", "unknown"]
    task: int = 0
    changed: bool = False
    data: dict[str, Any] = {}
    message: str = ""


class Overridden(Event, tag="overridden", frozen=True):
    """A person decided about a step in doubt or failed: run it again, take it as done, leave it."""

    step: str
    decision: Literal["redo", "done", "skip"]
    by: Person
    reason: str = ""


# -- guards ------------------------------------------------------------------------------------
class GuardObserved(Event, tag="guard_observed", frozen=True):
    """One observation of a guard of the group `step`."""

    step: str
    guard: int
    verdict: Verdict
    value: Any = None
    samples: int | None = None
    message: str = ""


AnyEvent: TypeAlias = (
    RunStarted
    | LocksTaken
    | RunResumed
    | StopRequested
    | RunStopped
    | Warned
    | ReasonGiven
    | RunFinished
    | StepOpened
    | StepSkipped
    | StepFinished
    | FailureLatched
    | GateOpened
    | GateAnswered
    | TaskStarted
    | TaskFinished
    | CancelRequested
    | TaskProbed
    | Overridden
    | GuardObserved
)


class Record(msgspec.Struct, frozen=True, gc=False):
    """An event with its place in the journal: sequence number from 1, epoch seconds."""

    seq: int
    time: float
    event: AnyEvent
