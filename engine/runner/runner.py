"""The runner: the only loop, and the only one that appends to the journal.

::

    run
    └─ _round                      until the run is over for this process
       ├─ _handle(message)         outcomes, answers, signals → events
       ├─ decide(plan, state, now) what to do (engine.scheduler)
       └─ _carry_out(actions)
          ├─ Append, Prepare       → events
          ├─ Start                 → TaskStarted for all of them; *sync*; then the jobs begin
          └─ AskProbe, Observe        → jobs
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
from typing import Literal

import msgspec

from engine.actions import Abandon, Action, Append, AskProbe, Cancel, Observe, Prepare, Start
from engine.clock import Clock, Mailbox
from engine.errors import FailureKind, JournalError
from engine.events import (
    AnyEvent,
    Failure,
    FailureLatched,
    GateAnswered,
    GateOpened,
    Person,
    ReasonGiven,
    StepFinished,
    StopRequested,
    TaskFinished,
    TaskProbed,
    TaskStarted,
    TaskStatus,
    Warned,
)
from engine.executor import Executor, Job, JobResult, carry_out
from engine.fold import CANCEL_GRACE, answer_refusal, apply
from engine.journal import Journal
from engine.plan import Node, Plan
from engine.runner.messages import Broken, Caution, Progress, Signal, Wake
from engine.runner.ports import Evaluator, Observer
from engine.runner.questions import PROBE_TIME, SHORTEST_OBSERVATION, QuestionKey, Questions
from engine.runner.repeats import Repeats
from engine.scheduler import DEFAULT_FORKS, decide, is_over, wake_at
from engine.state import RunState, TaskKey
from engine.store import Command


class Parts(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a runner is made of."""

    plan: Plan
    state: RunState
    journal: Journal
    clock: Clock
    mailbox: Mailbox
    executor: Executor
    evaluator: Evaluator
    forks: int = DEFAULT_FORKS
    observers: Sequence[Observer] = ()
    approver: Person | None = None
    """Answers every gate with yes at once (``--yes``)."""
    lost: Callable[[], StopRequested | None] = lambda: None
    """Tells when the run no longer owns its locks."""
    tick: float | None = None
    """The longest time in seconds without a look around."""


class Runner:
    """Carries one run from where its state is to its end, or until this process has to leave."""

    def __init__(self, parts: Parts) -> None:
        self.plan = parts.plan
        self.state = parts.state
        self.journal = parts.journal
        self.clock = parts.clock
        self.mailbox = parts.mailbox
        self.executor = parts.executor
        self.evaluator = parts.evaluator
        self.forks = parts.forks
        self.observers = list(parts.observers)
        self.approver = parts.approver
        self.lost = parts.lost
        self.tick = parts.tick
        self._jobs: dict[TaskKey, Job] = {}
        self._questions = Questions(parts.clock, parts.executor)
        self._repeats = Repeats()

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
                if isinstance(message, JobResult) and message.job in jobs:
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
        tick = None if self.tick is None else now + self.tick
        guards = self._repeats.wake_at(now)
        times = (self._questions.wake_at(), wake_at(self.state, now), guards, tick)
        return min((each for each in times if each is not None), default=None)

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

    def _request(self, action: Abandon | AskProbe | Observe) -> bool:
        node = self.plan.nodes[action.node]
        match action:
            case Abandon(task=task):
                self._abandon(node, task)
                return True
            case AskProbe(task=task):
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
                self._answer(GateAnswered(path, "approved", self.approver))

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

    def _finished(self, outcome: JobResult) -> None:
        job = outcome.job
        node = self.plan.node(job.step)
        key = (node.index, job.task)
        if self._jobs.get(key) is not job:
            return  # given up before; the journal has said so
        del self._jobs[key]
        self.append(self.evaluator.judge(self.state, node, outcome))

    def _abandon(self, node: Node, task: int) -> None:
        self._jobs.pop((node.index, task))
        record = self.state.task((node.index, task))
        kind = record.cancel or "cancelled"
        failure = Failure(
            kind=kind,
            message=f"it did not end within {CANCEL_GRACE:g} s of being asked to",
            step=node.path,
            hint="what it was doing may still happen: look before you go on",
            retryable=False,
        )
        status: TaskStatus = "failed" if kind == "timed_out" else "cancelled"
        self.append(TaskFinished(node.path, status, record.attempt, task, failure=failure))

    # -- questions to the world: probes and guards ----------------------------------------------
    def _probe(self, node: Node, task: int) -> bool:
        key = QuestionKey("probe", node.index, task)
        if key in self._questions:
            return False
        job = self.evaluator.probe(self.state, node, task)
        if job is None:
            message = "its action has no way to find out"
            self.append(TaskProbed(node.path, "unknown", task, message=message))
            return True
        self._questions.ask(key, job, PROBE_TIME)
        return False

    def _observe(self, node: Node, guard: int) -> bool:
        key = QuestionKey("guard", node.index, guard)
        group = self.state.group(node.index)
        needed = not group.left and group.guards[guard].last != "pass"  # its last word is
        if key in self._questions:
            return False
        if not needed and self._repeats.spares(key, self.clock.now()):
            return False
        job = self.evaluator.observation(self.state, node, guard)
        if isinstance(job, Failure):
            self.append(self.evaluator.judge_observation(self.state, node, guard, job))
            return True
        every = group.guards[guard].timing.every
        self._questions.ask(key, job, max(every, SHORTEST_OBSERVATION))
        return False

    def _answered(self, outcome: JobResult) -> None:
        job = outcome.job
        node = self.plan.node(job.step)
        if self._questions.answered(QuestionKey(job.purpose, node.index, job.task), outcome):
            self._take_answer(node, outcome)

    def _give_up_questions(self, now: float) -> bool:
        overdue = self._questions.overdue(now)
        for key, outcome in overdue:
            self._take_answer(self.plan.nodes[key.node], outcome)
        return bool(overdue)

    def _take_answer(self, node: Node, outcome: JobResult) -> None:
        number = outcome.job.task
        if outcome.job.purpose == "probe":
            if (node.index, number) in self.state.doubts:
                self.append(self.evaluator.judge_probe(node, outcome))
            return
        step = self.state.steps.get(node.index)
        group = step.group if step is not None and step.status == "opened" else None
        if group is not None and group.in_body:
            self.append(self.evaluator.judge_observation(self.state, node, number, outcome))
            key = QuestionKey("guard", node.index, number)
            self._repeats.keep(key, outcome, group.guards[number])

    # -- messages -------------------------------------------------------------------------------
    def _handle(self, message: object) -> None:
        match message:
            case JobResult():
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
            case Broken(error=error):
                raise error
            case Wake():
                self._repeats.something_happened()
            case _:
                raise AssertionError(f"unknown message {message!r}")

    def _progress(self, line: Progress) -> None:
        self._tell(lambda observer: observer.progress(line.step, line.task, line.text))

    def _warn(self, step: str, text: str) -> None:
        if text not in self.state.warnings:
            self.append(Warned(text, step))

    def _outcome(self, outcome: JobResult) -> None:
        self._check_locks()  # a refusal by the fence must not look like a failure to rescue
        if outcome.job.purpose == "run":
            self._finished(outcome)
        else:
            self._answered(outcome)

    def _command(self, command: Command) -> None:
        if command.verb == "stop":
            reason = command.reason or f"stopped by {command.by.shown}"
            self._stop(StopRequested("interrupted", command.by, reason))
        elif command.verb in ("rescue", "abandon"):
            kind: FailureKind = "cancelled" if command.verb == "rescue" else "interrupted"
            self._give_up(kind, f"given up by {command.by.shown}", command.reason)
        elif command.verb in ("approve", "reject"):
            answer: Literal["approved", "rejected"] = (
                "approved" if command.verb == "approve" else "rejected"
            )
            self._answer(
                GateAnswered(command.step, answer, command.by, command.reason, command.ticked)
            )
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
        if not answer_refusal(self.state, answer, self.clock.now()):
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
        return [*self._jobs.values(), *self._questions.jobs()]

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
