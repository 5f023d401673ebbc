"""The session itself: the parts that carry a run, put together and taken apart again.

It says what a signal means, listens to other shells, watches the run's locks, and knows the exit
status in the end.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine.clock import Clock, Mailbox
from engine.errors import JournalError, UsageError
from engine.evaluation import Material, StepEvaluator
from engine.events import LocksTaken, Person, StopRequested
from engine.executor import NoFence, Services, ThreadExecutor
from engine.inventory import Inventory, Secrets
from engine.journal import Journal
from engine.lab.addresses import LabAddresses
from engine.people import this_person
from engine.plan import Plan
from engine.redaction import Redactor
from engine.registry import Registry
from engine.runner import Caution, Observer, Parts, Progress, Runner, Signal, Wake
from engine.session.options import Options, extra_vars
from engine.state import RunState
from engine.store import OwnedLocks, RunEntry, Store
from engine.templating import Entries, Scope, Templates

WATCH_INTERVAL = 0.1
"""Seconds between two looks at the run's control folder and its locks."""

EXIT_OUTCOME = {"succeeded": 0, "failed": 1, "rescued": 1, "undone": 1, "needs_person": 3}
EXIT_STOPPED = {"waiting": 5, "preempted": 6, "interrupted": 130}


class Session:
    """A run in this process. `state` is live; read it from the runner's thread only."""

    def __init__(
        self,
        *,
        plan: Plan,
        inventory: Inventory,
        registry: Registry,
        folder: RunEntry,
        store: Store,
        state: RunState,
        book: Journal,
        options: Options,
        clock: Clock,
        attended: bool,
        observers: Sequence[Observer] = (),
        tick: float | None = None,
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.state = state
        self.options = options
        self.clock = clock
        self.attended = attended
        self.mailbox = Mailbox()
        self.redactor = Redactor()
        self.locks: OwnedLocks | None = None
        if plan.runbook.locks and not options.check:
            self.locks = OwnedLocks(store, plan.runbook.locks, folder.run_id)
        secrets = Secrets(inventory, mask=self.redactor.add, warn=self._warn)
        secrets.prepare([] if state.life == "new" else _secrets_named_in(folder))
        self.templates = Templates(
            secret=secrets.get,
            lab=LabAddresses(store.local, self.redactor.add),
            now=clock.now,
        )
        self._inventory = inventory
        self._sections: dict[str, Mapping[str, Any]] = {}
        self.services = Services(
            run_id=folder.run_id,
            clock=clock,
            root=Path(plan.runbook.root),
            folders=[Path(each) for each in plan.runbook.folders],
            logs=folder.logs,
            fence=self.locks or NoFence(folder.run_id),
            section=self._section,
            secret=secrets.get,
            mask=self.redactor.add,
            masked=self.redactor.mask,
            report=lambda step, task, text: self.mailbox.put(Progress(step, task, text)),
            warn=lambda step, text: self.mailbox.put(Caution(step, text)),
        )
        self._extra = extra_vars(plan.runbook, options.extra)
        self.evaluator = StepEvaluator(
            Material(
                plan=plan,
                inventory=inventory,
                registry=registry,
                templates=self.templates,
                services=self.services,
                redactor=self.redactor,
                extra=self._extra,
                mode="check" if options.check else "run",
                limit=options.limit,
            )
        )
        self.runner = Runner(
            Parts(
                plan=plan,
                state=state,
                journal=book,
                clock=clock,
                mailbox=self.mailbox,
                executor=ThreadExecutor(self.mailbox),
                evaluator=self.evaluator,
                forks=options.forks,
                observers=observers,
                approver=_approver(options),
                lost=self._lost,
                tick=tick,
            )
        )
        self._book = book
        self._signal = ""

    def _warn(self, text: str) -> None:
        self.mailbox.put(Caution("", text))

    def _section(self, name: str) -> Mapping[str, Any]:
        """A section of the inventory, its entries rendered when a module first asks for them."""
        found = self._sections.get(name)
        if found is None:
            scope = Scope(
                vars=self.plan.runbook.vars,
                extra=self._extra,
                inventory=self._inventory.variables(),
                place=f"inventory, {name}",
            )
            found = self._sections[name] = Entries(
                self._inventory.section(name), scope, self.templates
            )
        return found

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

    def close(self) -> None:
        """Let go of everything that the run held, whatever of it cannot be."""
        try:
            self.services.close()
            with contextlib.suppress(OSError):
                self._book.close()
            if self.locks is not None:
                self.locks.release()
        finally:
            self.folder.disown()

    def _lost(self) -> StopRequested | None:
        record = self.locks.lost() if self.locks is not None else None
        if record is None:
            return None
        run = record.run or ("" if record.unlocked else record.last)
        who = f"run {run}" if run else "an operator (`ce-run unlock`)"
        why = f": {record.reason}" if record.reason else ""
        return StopRequested("preempted", record.by, f"{who} took over {record.name}{why}")

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
                os._exit(130)
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

    @contextlib.contextmanager
    def _watch(self) -> Iterator[None]:
        """A thread that passes on what other shells say, wakes the runner for its locks, and leaves
        signs of life."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(WATCH_INTERVAL):
                with contextlib.suppress(UsageError, OSError):
                    self.folder.beat(self.clock.now())
                    for command in self.folder.take_commands():
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


def _secrets_named_in(folder: RunEntry) -> list[str]:
    """Names of the secrets that the runbook of a run asks for; its steps may have done so."""
    text = msgspec.json.encode(folder.runbook()).decode()
    return re.findall(r"""\bsecret\(\s*\\?['"](\w+)""", text)


def _approver(options: Options) -> Person | None:
    if not (options.yes or options.force):
        return None
    by = this_person()
    word = "--force" if options.force else "--yes"
    return Person(by.name, by.host, f"{by.via}, by {word}")


def exit_status(state: RunState, signal_name: str = "") -> int:
    """The status of design §3 for a run that this process is done with."""
    if state.life == "finished":
        return EXIT_OUTCOME[state.outcome or "failed"]
    kind = state.stop.kind if state.stop is not None else "interrupted"
    if kind == "interrupted" and signal_name:
        return 128 + signal.Signals[signal_name]
    return EXIT_STOPPED[kind]
