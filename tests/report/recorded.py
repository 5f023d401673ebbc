"""Records runs of real runbooks in virtual time, so that what is told of them can be compared.

Loader, evaluator, scheduler, runner, fold and journal are the real ones; the modules are real or
the toys beside this file. Only time, the run's id and who started it are given. An attempt takes
as long as its arguments ``seconds`` or ``for`` say.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from engine.clock import Mailbox, VirtualClock
from engine.evaluation import Material, StepEvaluator
from engine.events import AnyEvent, Person, Record, RunResumed, RunStarted, StopRequested
from engine.executor import Job, Services, carry_out
from engine.fold import fold
from engine.inventory import Inventory
from engine.journal import Journal, records_of
from engine.loader import load
from engine.model import Runbook
from engine.plan import Plan, build_plan
from engine.redaction import Redactor
from engine.registry import Registry
from engine.runner import Observer, Parts, Runner
from engine.state import RunState
from engine.templating import Templates

TOYS = Path(__file__).parent / "toys"
START = 1_769_868_309.0
"""2026-01-31T14:05:09Z."""

RUN = "20260131-140509-deploy-ab12"
ADA = Person("ada", "ops1", "/dev/pts/0")


class MemoryDisk:
    """A file in memory."""

    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> None:
        """Append."""
        self.data += data

    def sync(self) -> None:
        """It is as safe as it can be."""

    def size(self) -> int:
        """Bytes so far."""
        return len(self.data)

    def check(self) -> None:
        """Nobody else has it."""

    def truncate(self, size: int) -> None:
        """Cut."""
        self.data = self.data[:size]

    def close(self) -> None:
        """Nothing to let go of."""


class TimedExecutor:
    """Carries out an attempt once its time has passed, or at once when it is cancelled."""

    def __init__(self, clock: VirtualClock, mailbox: Mailbox) -> None:
        self._clock = clock
        self._mailbox = mailbox
        self._open: list[Job] = []

    def start(self, job: Job) -> None:
        """Have the attempt end when its time has passed."""
        self._open.append(job)
        took = float(job.arguments.get("seconds") or job.arguments.get("for_") or 0.0)
        self._clock.schedule(self._clock.now() + took, lambda: self._end(job))

    def cancel(self, job: Job) -> None:
        """End it now."""
        job.context.cancel()
        self._clock.schedule(self._clock.now(), lambda: self._end(job))

    def close(self) -> None:
        """Nothing will be started any more."""

    def _end(self, job: Job) -> None:
        if job in self._open:
            self._open.remove(job)
            self._mailbox.put(carry_out(job))


class Recorded:
    """A run of a runbook: its plan, its state, its records."""

    def __init__(
        self,
        folder: Path,
        text: str,
        *,
        mode: Literal["run", "check"] = "run",
        extra: Mapping[str, Any] | None = None,
        attended: bool = False,
        yes: bool = False,
        reason: str = "",
        force: bool = False,
        observers: Sequence[Observer] = (),
        name: str = "deploy.yml",
    ) -> None:
        path = folder / name
        path.write_text(textwrap.dedent(text), encoding="utf-8")
        self.registry = Registry([TOYS])
        self.runbook, self.inventory = load(path, registry=self.registry)
        self.runbook = msgspec.structs.replace(self.runbook, file=f"runbooks/{name}")
        self.plan: Plan = build_plan(self.runbook)
        self.state = RunState(self.plan)
        self.clock = VirtualClock(START)
        self.disk = MemoryDisk()
        self.journal = Journal(self.disk)
        self.mode: Literal["run", "check"] = mode
        self.yes = yes
        self.observers = observers
        self.options = {"force": force} if force else {}
        self.lost: Callable[[], StopRequested | None] = lambda: None
        self.runner = self._runner()
        self.runner.append(
            RunStarted(
                run=RUN,
                runbook=self.runbook.file,
                name=self.runbook.name,
                mode=mode,
                by=ADA,
                version="0.1.0",
                attended=attended,
                inputs=dict(extra or {}),
                options=self.options,
                reason=reason,
            )
        )

    @classmethod
    def reopened(cls, runbook: Runbook, journal: bytes) -> Recorded:
        """A run as a journal tells it, whoever wrote that; no process carries it."""
        run = cls.__new__(cls)
        run.registry = Registry([TOYS])
        run.runbook, run.inventory = runbook, Inventory()
        run.plan = build_plan(runbook)
        run.disk = MemoryDisk()
        run.disk.data = journal
        records = [record for record, _ in records_of(journal, "journal")]
        run.state = fold(run.plan, records)
        run.clock = VirtualClock(max(START, run.state.time))
        run.journal = Journal(run.disk, len(records))
        run.mode, run.yes, run.observers, run.options = "run", False, (), {}
        run.lost = lambda: None
        return run

    def _runner(self) -> Runner:
        mailbox = Mailbox()
        services = Services(run_id=RUN, clock=self.clock, root=Path(self.runbook.root))
        material = Material(
            plan=self.plan,
            inventory=self.inventory or Inventory(),
            registry=self.registry,
            templates=Templates(),
            services=services,
            redactor=Redactor(),
            mode=self.mode,
        )
        return Runner(
            Parts(
                plan=self.plan,
                state=self.state,
                journal=self.journal,
                clock=self.clock,
                mailbox=mailbox,
                executor=TimedExecutor(self.clock, mailbox),
                evaluator=StepEvaluator(material),
                observers=self.observers,
                approver=Person("ada", "ops1", "--yes") if self.yes else None,
                lost=lambda: self.lost(),
            )
        )

    def at(self, seconds: float, message: object) -> Recorded:
        """Have a message arrive that many seconds after the start."""
        self.clock.schedule(START + seconds, lambda: self.runner.mailbox.put(message))
        return self

    def look(self, seconds: float, do: Callable[[RunState, float], None]) -> Recorded:
        """Have `do(state, now)` called that many seconds after the start."""
        self.clock.schedule(START + seconds, lambda: do(self.state, self.clock.now()))
        return self

    def run(self) -> Recorded:
        """Work until the run is over for this process."""
        self.runner.run()
        return self

    def append(self, event: AnyEvent) -> Recorded:
        """Write an event, as an operator's command does between two processes."""
        self.runner.append(event)
        return self

    def resume(self, later: float = 60.0) -> Recorded:
        """A new process goes on after some seconds."""
        self.clock.schedule(self.clock.now() + later, lambda: None)
        self.clock.wait(Mailbox(), self.clock.now() + later)
        self.runner = self._runner()
        self.runner.append(RunResumed(ADA, "0.1.0"))
        return self.run()

    @property
    def records(self) -> list[Record]:
        """What the journal holds."""
        self.journal.sync()
        return [record for record, _ in records_of(self.disk.data, "journal")]

    def folded(self, count: int) -> RunState:
        """The state after so many records."""
        return fold(self.plan, self.records[:count])
