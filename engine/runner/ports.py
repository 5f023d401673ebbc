"""What the runner needs of others: who evaluates steps, and who watches."""

from __future__ import annotations

from typing import Protocol

from engine.events import AnyEvent, Failure, GuardObserved, Record, TaskFinished, TaskProbed
from engine.executor import Job, JobResult
from engine.plan import Node
from engine.state import RunState


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

    def judge(self, state: RunState, node: Node, outcome: JobResult) -> TaskFinished:
        """What an outcome means for the task: until, failed_when, changed_when, masking."""
        ...

    def judge_probe(self, node: Node, outcome: JobResult) -> TaskProbed:
        """What a probe's outcome means."""
        ...

    def judge_observation(
        self, state: RunState, node: Node, guard: int, outcome: JobResult | Failure
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
