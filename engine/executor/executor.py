"""Who carries out jobs: threads, because every driver is synchronous."""

from __future__ import annotations

import queue
import threading
from typing import Protocol

from engine.clock import Mailbox
from engine.executor.jobs import Job, carry_out


class Executor(Protocol):
    """What the runner needs of whoever carries out jobs."""

    def start(self, job: Job) -> None:
        """Begin the job; its Outcome arrives in the mailbox."""
        ...

    def cancel(self, job: Job) -> None:
        """Ask the job to end; its Outcome still arrives, unless it cannot be stopped."""
        ...

    def close(self) -> None:
        """No job will be started any more."""
        ...


class ThreadExecutor:
    """Runs jobs on daemon threads, made when needed and kept for the next job."""

    def __init__(self, mailbox: Mailbox) -> None:
        self._mailbox = mailbox
        self._jobs: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._threads = 0
        self._idle = threading.Semaphore(0)

    def start(self, job: Job) -> None:
        """Queue the job; a thread is made when none is idle."""
        if not self._idle.acquire(blocking=False):
            self._threads += 1
            threading.Thread(target=self._work, name=f"task-{self._threads}", daemon=True).start()
        self._jobs.put(job)

    def cancel(self, job: Job) -> None:
        """Wake the job's sleeps and run its cancel callbacks, without waiting for them."""
        threading.Thread(target=job.context.cancel, daemon=True).start()

    def close(self) -> None:
        """Let idle threads end; a busy one ends after its job."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            outcome = carry_out(job)
            self._idle.release()
            self._mailbox.put(outcome)
