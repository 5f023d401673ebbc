"""The session itself: a run, signals, and the watch over both.

It says what a signal means, listens to other shells, watches the run's locks, and knows the exit
status in the end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from typing import NoReturn

from engine.errors import CeRunError, JournalError
from engine.events import LocksTaken, Person, Warned
from engine.processes import end_commands
from engine.runner import Broken, Caution, Signal, Wake
from engine.session.composition import Description, assemble
from engine.state import RunState

WATCH_INTERVAL = 0.1
"""Seconds between two looks at the run's control folder and its locks."""

EXIT_OUTCOME = {"succeeded": 0, "failed": 1, "rescued": 1, "undone": 1, "needs_person": 3}
EXIT_STOPPED = {"waiting": 5, "preempted": 6, "interrupted": 130}


class Session:
    """A run in this process. `state` is live; read it from the runner's thread only."""

    def __init__(self, description: Description) -> None:
        parts = assemble(description)
        self.plan = description.plan
        self.entry = description.entry
        self.state = description.state
        self.options = description.options
        self.mode = description.mode
        self.clock = description.clock
        self.mailbox = parts.mailbox
        self.redactor = parts.redactor
        self.locks = parts.locks
        self.templates = parts.templates
        self.scopes = parts.evaluator.scopes
        self.runner = parts.runner
        self._services = parts.services
        self._journal = description.journal
        self._signal = ""

    def run(self) -> int:
        """Work until the run ends or has to be left; the process's exit status.

        Raises JournalError when the journal could not be written.
        """
        _leave_no_core()
        with self._signals():
            try:
                with self._watch():  # ends before what it looks at is closed
                    self.runner.run()
            finally:
                self.close()
        return exit_status(self.state, self._signal)

    def take_locks(self, by: Person) -> None:
        """Own the run's locks, taking them over with ``--force``. Raises LockHeld."""
        if self.locks is None:
            return
        force = self.options.force and self.plan.runbook.preempts
        reason = self.options.reason or self.plan.runbook.name
        try:
            self.locks.take(by, self.clock.now(), reason, force=force)
        except OSError as error:
            raise JournalError(
                f"the run's locks cannot be written: {error.strerror or error}",
                hint="nothing was started; give a folder you can write to with --state",
            ) from error

    def note_locks(self) -> None:
        """Have the journal know with which tokens the run owns its locks."""
        if self.locks is not None:
            self.runner.append(LocksTaken(self.locks.tokens, self.locks.over))
            for doubt in dict.fromkeys(self.locks.doubts):
                self.runner.append(Warned(doubt))

    def close(self) -> None:
        """Let go of everything that the run held, whatever of it cannot be."""
        try:
            self._services.close()
            with contextlib.suppress(OSError, CeRunError):
                self.entry.beat(self.clock.now(), self._journal.confirmed)
            with contextlib.suppress(OSError):
                self._journal.close()
            if self.locks is not None:
                self.locks.release()
        finally:
            self.entry.disown()

    # -- signals and other shells -----------------------------------------------------------------
    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """The first SIGINT or SIGTERM asks to leave, a second SIGINT leaves at once.

        So does a terminal that went away (SIGHUP), unless the run is to outlive it (nohup).
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, frame: object) -> None:
            name = signal.Signals(number).name
            if self._signal and number == signal.SIGINT:
                self._leave_at_once()
            self._signal = self._signal or name
            self.mailbox.put(Signal(name))

        asking = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            asking.append(signal.SIGHUP)
        before = {each: signal.signal(each, handle) for each in asking}
        try:
            yield
        finally:
            for each, former in before.items():
                signal.signal(each, former)

    def _leave_at_once(self) -> NoReturn:
        """End what was started, as far as it obeys, and say what may go on; nothing is noted."""
        left = end_commands(self.entry.run_id, os.getpid())
        text = "left at once: what was running has been ended"
        if left:
            text = f"left at once; processes {', '.join(map(str, left))} could not be ended"
        text += f"; requests that were sent may still happen. ce-run resume {self.entry.run_id}"
        with contextlib.suppress(OSError):
            os.write(2, f"\nce-run: {text}\n".encode())
        os._exit(130)

    @contextlib.contextmanager
    def _watch(self) -> Iterator[None]:
        """A thread that passes on what other shells say, wakes the runner for its locks, and leaves
        signs of life."""
        if self.mode == "simulate":  # nobody else takes part in a world of its own
            yield
            return
        over = threading.Event()

        def look() -> None:
            while not over.wait(WATCH_INTERVAL):
                try:
                    mended = self.entry.beat(self.clock.now(), self._journal.confirmed)
                    if mended:
                        self.mailbox.put(Caution("", mended))
                    self._journal.check()
                except JournalError as error:
                    self.mailbox.put(Broken(error))
                    return
                except OSError:
                    pass
                with contextlib.suppress(CeRunError, OSError):
                    for command in self.entry.take_commands():
                        self.mailbox.put(command)
                with contextlib.suppress(OSError):
                    if self.locks is not None and self.locks.lost() is not None:
                        self.mailbox.put(Wake())

        thread = threading.Thread(target=look, name="watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _leave_no_core() -> None:
    """The memory of a process that crashes holds secrets; it shall not become a file."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def exit_status(state: RunState, signal_name: str = "") -> int:
    """The status of design §3 for a run that this process is done with."""
    if state.life == "finished":
        return EXIT_OUTCOME[state.outcome or "failed"]
    kind = state.stop.kind if state.stop is not None else "interrupted"
    if kind == "interrupted" and signal_name:
        return 128 + signal.Signals[signal_name]
    return EXIT_STOPPED[kind]
