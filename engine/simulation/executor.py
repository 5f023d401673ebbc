"""Carries jobs out in virtual time: on the runner's own thread, in the order of what happens."""

from __future__ import annotations

from greenlet import getcurrent, greenlet

from engine.clock import Mailbox
from engine.executor import Job, carry_out
from engine.simulation.clock import SimulatedClock


class SimulatedExecutor:
    """The `Executor` of a simulated world; one for a run."""

    def __init__(self, clock: SimulatedClock, mailbox: Mailbox) -> None:
        self._clock = clock
        self._mailbox = mailbox
        self._tasks: dict[int, greenlet] = {}

    def start(self, job: Job) -> None:
        """Begin the job at this moment, before whatever comes later; its Outcome arrives in the
        mailbox."""
        task = greenlet(self._work, parent=self._clock.hub)
        self._tasks[id(job)] = task
        self._clock.schedule(self._clock.now(), lambda: self._begin(task, job))

    def _begin(self, task: greenlet, job: Job) -> None:
        if self._tasks.get(id(job)) is task:  # else the run was left meanwhile
            task.switch(job)

    def cancel(self, job: Job) -> None:
        """Ask the job to end; where it waits, it goes on at once."""
        job.context.cancel()
        self._clock.schedule(self._clock.now(), lambda: None)

    def close(self) -> None:
        """No job will be started any more; those that wait are let go."""
        for task in list(self._tasks.values()):
            if task:
                task.parent = getcurrent()  # where it ends, this loop goes on
                task.throw()
        self._tasks.clear()

    def _work(self, job: Job) -> None:
        outcome = carry_out(job)
        if self._tasks.pop(id(job), None) is not None:
            self._mailbox.put(outcome)
