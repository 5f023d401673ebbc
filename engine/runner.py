"""The runner: the only loop, and the only one that appends to the journal.

::

    run
    └─ _round                      until the run is over for this process
       ├─ _handle(message)         outcomes, answers, signals → events
       ├─ decide(plan, state, now) what to do (engine.scheduler)
       └─ _carry_out(actions)
          ├─ Append, Prepare       → events
          ├─ Start                 → TaskStarted for all of them; *sync*; then the jobs begin
          └─ Probe, Observe        → jobs
          sync and wait            when there was nothing to carry out

Every event goes through `append`: to the journal first, then to the state, then to observers.
Effects begin after `Journal.sync`, so whatever may have happened in the world has been announced
on disk before. What a template says about a step is asked of the `Evaluator`; the runner itself
knows neither templates nor modules.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from typing import Literal, Protocol

import msgspec

from engine.actions import Abandon, Action, Append, Cancel, Observe, Prepare, Probe, Start
from engine.clock import Clock, Mailbox
from engine.errors import FailureKind, JournalError, TimedOut
from engine.events import (
    AnyEvent,
    Failure,
    FailureLatched,
    GateAnswered,
    GateOpened,
    GuardObserved,
    Person,
    ReasonGiven,
    Record,
    StepFinished,
    StopRequested,
    TaskFinished,
    TaskProbed,
    TaskStarted,
    TaskStatus,
    Warned,
)
from engine.executor import Executor, Job, Outcome, carry_out
from engine.fold import CANCEL_GRACE, apply
from engine.journal import Journal
from engine.plan import NONE, Node, Plan
from engine.scheduler import DEFAULT_FORKS, decide, is_over, wake_at
from engine.state import RunState, TaskKey
from engine.store import Command

PROBE_TIME = 30.0
"""Seconds that a probe may take; then nothing is known about the task in doubt."""

SHORTEST_OBSERVATION = 5.0
"""Seconds that an observation may take at least; else as long as its guard's interval."""


class Evaluator(Protocol):
    """Answers what templates, inventory and modules have to say about a step.

    None of its methods raises for a mistake in a runbook; such a mistake is a failure and comes
    back as an event.
    """

    def prepare(self, state: RunState, node: Node) -> AnyEvent:
        """StepOpened, StepSkipped, GateOpened, or StepFinished when a template failed."""
        ...

    def job(self, state: RunState, node: Node, task: int) -> Job | Failure:
        """The job for the attempt that has just been announced."""
        ...

    def probe(self, state: RunState, node: Node, task: int) -> Job | None:
        """A job that finds out about a task in doubt; None when its action cannot."""
        ...

    def observation(self, state: RunState, node: Node, guard: int) -> Job | Failure:
        """A job for one observation of a guard."""
        ...

    def judge(self, state: RunState, node: Node, outcome: Outcome) -> TaskFinished:
        """What an outcome means for the task: until, failed_when, changed_when, masking."""
        ...

    def judge_probe(self, node: Node, outcome: Outcome) -> TaskProbed:
        """What a probe's outcome means."""
        ...

    def judge_observation(
        self, state: RunState, node: Node, guard: int, outcome: Outcome | Failure
    ) -> GuardObserved:
        """The verdict of an observation."""
        ...


class Observer(Protocol):
    """Watches a run. An observer that raises is switched off; the run goes on."""

    def event(self, state: RunState, record: Record) -> None:
        """A record was appended and applied."""
        ...

    def progress(self, step: str, task: int, text: str) -> None:
        """A running task says how far it is."""
        ...

    def tick(self, state: RunState, now: float) -> None:
        """Some time passed (at least every `Runner.tick` seconds); `now` in epoch seconds."""
        ...


class Progress(msgspec.Struct, frozen=True):
    """Message: a line from a running task."""

    step: str
    task: int
    text: str


class Caution(msgspec.Struct, frozen=True):
    """Message: something unsafe goes on all the same."""

    step: str
    text: str


class Signal(msgspec.Struct, frozen=True):
    """Message: the process was asked to leave."""

    name: str


class Wake(msgspec.Struct, frozen=True):
    """Message: have a look (at the locks, for instance)."""


class _Question(msgspec.Struct, frozen=True):
    """A probe or an observation on its way, and until when an answer is awaited."""

    job: Job
    until: float


class Runner:
    """Carries one run from where its state is to its end, or until this process has to leave."""

    def __init__(
        self,
        *,
        plan: Plan,
        state: RunState,
        journal: Journal,
        clock: Clock,
        mailbox: Mailbox,
        executor: Executor,
        evaluator: Evaluator,
        forks: int = DEFAULT_FORKS,
        observers: Sequence[Observer] = (),
        approver: Person | None = None,
        lost: Callable[[], StopRequested | None] = lambda: None,
        tick: float | None = None,
    ) -> None:
        """`approver` answers every gate with yes at once (``--yes``); `lost` tells when the run
        no longer owns its locks; `tick` is the longest time in seconds without a look around."""
        self.plan = plan
        self.state = state
        self.journal = journal
        self.clock = clock
        self.mailbox = mailbox
        self.executor = executor
        self.evaluator = evaluator
        self.forks = forks
        self.observers = list(observers)
        self.approver = approver
        self.lost = lost
        self.tick = tick
        self._jobs: dict[TaskKey, Job] = {}
        self._questions: dict[tuple[str, int, int], _Question] = {}

    def run(self) -> RunState:
        """Work until the run is finished or this process has to leave it; returns the state.

        Raises JournalError when the journal cannot be written: then everything in flight has
        been cancelled and nothing more was started.
        """
        try:
            self._approve_what_waits()
            while not is_over(self.state):
                self._round()
            self.journal.sync()
        except JournalError:
            self._end_what_runs()
            raise
        finally:
            for job in self._in_flight():
                self.executor.cancel(job)
            self.executor.close()
        return self.state

    def _end_what_runs(self) -> None:
        """Give what is in flight the time to end: nobody is there to look after it any more."""
        jobs = list(self._jobs.values())
        for job in jobs:
            self.executor.cancel(job)
        until = self.clock.now() + CANCEL_GRACE
        while jobs and self.clock.now() < until:
            for message in self.clock.wait(self.mailbox, until):
                if isinstance(message, Outcome) and message.job in jobs:
                    jobs.remove(message.job)

    def append(self, event: AnyEvent) -> None:
        """Write an event, let it change the state, tell the observers."""
        state = self.state
        record = self.journal.append(event, max(self.clock.now(), state.time))
        apply(state, record)
        if self.observers:
            self._tell(lambda observer: observer.event(state, record))

    # -- one round ----------------------------------------------------------------------------
    def _round(self) -> None:
        for message in self.mailbox.take():
            self._handle(message)
        self._check_locks()
        if is_over(self.state):
            return
        now = self.clock.now()
        if self._carry_out(decide(self.plan, self.state, now, self.forks)):
            return
        if self._give_up_questions(now):
            return
        self.journal.sync()
        self._tell(lambda observer: observer.tick(self.state, now))
        for message in self.clock.wait(self.mailbox, self._until(now)):
            self._handle(message)

    def _until(self, now: float) -> float | None:
        times = [question.until for question in self._questions.values()]
        wake = wake_at(self.state, now)
        if wake is not None:
            times.append(wake)
        if self.tick is not None:
            times.append(now + self.tick)
        return min(times, default=None)

    def _carry_out(self, actions: list[Action]) -> bool:
        """Do what was decided; whether that made any difference."""
        moved = False
        starting: list[Start] = []
        ending: list[Job] = []
        for action in actions:
            if isinstance(action, Start):
                path = self.plan.nodes[action.node].path
                self.append(TaskStarted(path, action.attempt, action.task))
                starting.append(action)
            elif isinstance(action, Append):
                self.append(action.event)
                moved = True
            elif isinstance(action, Cancel):
                ending.append(self._jobs[action.node, action.task])
            elif isinstance(action, Prepare):
                moved = True
                if not self._prepare(self.plan.nodes[action.node]):
                    break  # a failure: what was to begin after it has to be decided anew
            else:
                moved |= self._request(action)
        if starting or ending:
            moved = True
            self.journal.sync()
            for job in ending:
                self.executor.cancel(job)
            for start in starting:
                self._begin(start)
        return moved

    def _request(self, action: Abandon | Probe | Observe) -> bool:
        node = self.plan.nodes[action.node]
        match action:
            case Abandon(task=task):
                self._abandon(node, task)
                return True
            case Probe(task=task):
                return self._probe(node, task)
            case Observe(guard=guard):
                return self._observe(node, guard)

    def _prepare(self, node: Node) -> bool:
        """Open, skip or ask about a step; False when that failed."""
        event = self.evaluator.prepare(self.state, node)
        self.append(event)
        if isinstance(event, GateOpened) and self.approver is not None:
            self.append(GateAnswered(node.path, "approved", self.approver))
        return not isinstance(event, StepFinished)

    def _approve_what_waits(self) -> None:
        """Gates that were left open by an earlier process, if all are to be approved now."""
        if self.approver is not None and self.state.life == "running":
            for index in list(self.state.gates):
                path = self.plan.nodes[index].path
                self.append(GateAnswered(path, "approved", self.approver))

    # -- tasks ----------------------------------------------------------------------------------
    def _begin(self, start: Start) -> None:
        node = self.plan.nodes[start.node]
        job = self.evaluator.job(self.state, node, start.task)
        if isinstance(job, Failure):
            self.append(TaskFinished(node.path, "failed", start.attempt, start.task, failure=job))
            return
        self._jobs[start.node, start.task] = job
        if job.inline:
            self._finished(carry_out(job))
        else:
            self.executor.start(job)

    def _finished(self, outcome: Outcome) -> None:
        job = outcome.job
        node = self.plan.node(job.step)
        key = (node.index, job.task)
        if self._jobs.get(key) is not job:
            return  # given up before; the journal has said so
        del self._jobs[key]
        self.append(self.evaluator.judge(self.state, node, outcome))

    def _abandon(self, node: Node, task: int) -> None:
        self._jobs.pop((node.index, task))
        found = self.state.task((node.index, task))
        kind = found.cancel or "cancelled"
        failure = Failure(
            kind=kind,
            message=f"it did not end within {CANCEL_GRACE:g} s of being asked to",
            step=node.path,
            hint="what it was doing may still happen: look before you go on",
            retryable=False,
        )
        status: TaskStatus = "failed" if kind == "timed_out" else "cancelled"
        self.append(TaskFinished(node.path, status, found.attempt, task, failure=failure))

    # -- questions to the world: probes and guards ----------------------------------------------
    def _probe(self, node: Node, task: int) -> bool:
        key = ("probe", node.index, task)
        if key in self._questions:
            return False
        job = self.evaluator.probe(self.state, node, task)
        if job is None:
            message = "its action has no way to find out"
            self.append(TaskProbed(node.path, "unknown", task, message=message))
            return True
        self._ask(key, job, PROBE_TIME)
        return False

    def _observe(self, node: Node, guard: int) -> bool:
        key = ("guard", node.index, guard)
        if key in self._questions:
            return False
        job = self.evaluator.observation(self.state, node, guard)
        if isinstance(job, Failure):
            self.append(self.evaluator.judge_observation(self.state, node, guard, job))
            return True
        every = self.state.group(node.index).guards[guard].timing.every
        self._ask(key, job, max(every, SHORTEST_OBSERVATION))
        return False

    def _ask(self, key: tuple[str, int, int], job: Job, patience: float) -> None:
        until = self.clock.now() + patience + CANCEL_GRACE
        self._questions[key] = _Question(job, until)
        self.executor.start(job)

    def _answered(self, node: Node, outcome: Outcome) -> None:
        job = outcome.job
        key = (job.purpose, node.index, job.task)
        question = self._questions.get(key)
        if question is None or question.job is not job:
            return  # it was given up
        del self._questions[key]
        self._take_answer(node, job, outcome)

    def _give_up_questions(self, now: float) -> bool:
        """Questions that got no answer: not knowing is an answer, too."""
        overdue = {key: each for key, each in self._questions.items() if each.until <= now}
        for key, question in overdue.items():
            del self._questions[key]
            self.executor.cancel(question.job)
            error = TimedOut("no answer came in time")
            node = self.plan.nodes[key[1]]
            self._take_answer(node, question.job, Outcome(question.job, error=error))
        return bool(overdue)

    def _take_answer(self, node: Node, job: Job, outcome: Outcome) -> None:
        if job.purpose == "probe":
            if (node.index, job.task) in self.state.doubts:
                self.append(self.evaluator.judge_probe(node, outcome))
            return
        step = self.state.steps.get(node.index)
        group = step.group if step is not None and step.status == "opened" else None
        if group is not None and group.in_body:
            self.append(self.evaluator.judge_observation(self.state, node, job.task, outcome))

    # -- messages -------------------------------------------------------------------------------
    def _handle(self, message: object) -> None:
        match message:
            case Outcome():
                self._outcome(message)
            case Progress():
                self._progress(message)
            case Caution(step=step, text=text):
                self._warn(step, text)
            case Signal(name=name):
                self._stop(StopRequested("interrupted", reason=name))
            case Command():
                self._command(message)
            case GateAnswered():
                self._answer(message)
            case Wake():
                pass
            case _:
                raise AssertionError(f"unknown message {message!r}")

    def _progress(self, told: Progress) -> None:
        self._tell(lambda observer: observer.progress(told.step, told.task, told.text))

    def _warn(self, step: str, text: str) -> None:
        if text not in self.state.warnings:
            self.append(Warned(text, step))

    def _outcome(self, outcome: Outcome) -> None:
        self._check_locks()  # a refusal by the fence must not look like a failure to rescue
        if outcome.job.purpose == "run":
            self._finished(outcome)
        else:
            self._answered(self.plan.node(outcome.job.step), outcome)

    def _command(self, command: Command) -> None:
        if command.verb == "stop":
            reason = command.reason or f"stopped by {command.by.name}"
            self._stop(StopRequested("interrupted", command.by, reason))
        elif command.verb in ("rescue", "abandon"):
            kind: FailureKind = "cancelled" if command.verb == "rescue" else "interrupted"
            self._give_up(kind, f"given up by {command.by.name}", command.reason)
        elif command.verb in ("approve", "reject"):
            answer: Literal["approved", "rejected"] = (
                "approved" if command.verb == "approve" else "rejected"
            )
            self._answer(GateAnswered(command.step, answer, command.by, command.reason))
        elif command.verb == "reason":
            self.append(ReasonGiven(command.reason, command.by))

    def _stop(self, event: StopRequested) -> None:
        if self.state.life == "running":
            self.append(event)

    def _give_up(self, kind: FailureKind, who: str, why: str) -> None:
        """Latch a failure in every innermost group at work, so that its rescue or undo runs."""
        if self.state.life != "running":
            return
        if 0 not in self.state.steps:
            self._prepare(self.plan.root)
        message = f"{who}: {why}" if why else who
        for node in list(self.state.open_groups()):
            group = self.state.group(node.index)
            inner = any(self.state.steps[child].group is not None for child in group.opened)
            if group.phase == "body" and group.latch is None and not inner:
                failure = Failure(kind, message, step=node.path, retryable=False)
                self.append(FailureLatched(node.path, failure))

    def _answer(self, answer: GateAnswered) -> None:
        node = self.plan.by_path.get(answer.step, NONE)
        if node in self.state.gates:
            self.append(answer)

    def _check_locks(self) -> None:
        if is_over(self.state):
            return
        if self.state.stop is not None and self.state.stop.kind == "preempted":
            return
        lost = self.lost()
        if lost is not None:
            self.append(lost)

    # -- small things -----------------------------------------------------------------------------
    def _in_flight(self) -> list[Job]:
        return [*self._jobs.values(), *(each.job for each in self._questions.values())]

    def _tell(self, call: Callable[[Observer], None]) -> None:
        for observer in list(self.observers):
            try:
                call(observer)
            except Exception as error:
                self.observers.remove(observer)
                with contextlib.suppress(Exception):
                    print(f"ce-run: {self._silenced(observer, error)}", file=sys.stderr)

    def _silenced(self, observer: Observer, error: Exception) -> str:
        if isinstance(error, OSError):  # the reader of a pipe has left, or its disk is full
            run = self.state.start.run if self.state.start is not None else "last"
            return (
                f"what happens cannot be shown any more ({error.strerror or error}); "
                f"the run goes on, `ce-run show {run}` tells about it"
            )
        return f"{type(observer).__name__} failed and was switched off: {error!r}"
