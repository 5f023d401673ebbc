"""Somebody who runs `ce-run` from a shell and, when it died, goes on with the run.

Every command is a process of its own. Where a run stops in doubt, the operator looks at the world
and decides as a person would.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec

from engine.events import Record
from engine.session import read_run
from engine.state import RunState
from engine.store.files import FileRun, FileStore
from tests.crash.killed import Death, Spot, When
from tests.crash.killed_in_sql import SqlSpot
from tests.surroundings import ROOT, surroundings

WAITING = 5
MOST_PROCESSES = 80
TOO_LONG = 120.0

AnySpot = Spot | SqlSpot
Spots = Sequence[AnySpot]
Where = Callable[[list[Death]], AnySpot | None]
"""Where to die next, given all deaths so far."""


def nowhere(deaths: list[Death]) -> AnySpot | None:
    """Do not die."""
    return None


Judge = Callable[[str], bool]
"""Whether the effect of a step in doubt is there."""


class Ended(msgspec.Struct):
    """How a run ended, and what it took."""

    outcome: str | None
    output: str
    folder: FileRun
    state: RunState
    records: list[Record]
    deaths: list[Death]
    decided: list[str]


class Operator:
    """Runs commands in one state folder."""

    def __init__(self, state: Path, notes: Path, judge: Judge) -> None:
        """`notes` is a file for deaths; `judge` looks at the world."""
        self.state = state
        self.notes = notes
        self.judge = judge
        self.output: list[str] = []
        self._before: set[str] = set()

    def start(self, *arguments: str, spot: AnySpot | None = None) -> subprocess.Popen[str]:
        """Start a command; at `spot` it kills itself."""
        module = ["engine.cli"]
        if spot is not None:
            kind = "killed" if isinstance(spot, Spot) else "killed_in_sql"
            module = [f"tests.crash.{kind}", str(self.notes), msgspec.json.encode(spot).decode()]
        return subprocess.Popen(
            [sys.executable, "-m", *module, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env=self.environment(),
            start_new_session=True,
        )

    def environment(self) -> dict[str, str]:
        """What commands find in their environment."""
        return surroundings(CE_RUN_STATE=str(self.state))

    def command(self, *arguments: str, spot: AnySpot | None = None) -> int:
        """Carry a command out; its exit status, negative if a signal ended it."""
        process = self.start(*arguments, spot=spot)
        try:
            output, _ = process.communicate(timeout=TOO_LONG)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            raise AssertionError(f"{arguments} does not end:\n{output}") from None
        self.output.append(f"$ ce-run {' '.join(arguments)}\n{output}[{process.returncode}]\n")
        return process.returncode

    def carry(self, *arguments: str, where: Where = nowhere) -> Ended:
        """Run a runbook to its end, however often it dies."""
        self.begin()
        return self.finish(
            *arguments, where=where, status=self._start_over(*arguments, spot=where([]))
        )

    def begin(self) -> None:
        """Whatever run is found from now on is the one that is meant."""
        self.output.clear()
        self.notes.unlink(missing_ok=True)
        self._before = {folder.run_id for folder in FileStore(self.state).runs()}

    def finish(
        self, *arguments: str, where: Where = nowhere, status: int = -signal.SIGKILL
    ) -> Ended:
        """Resume the run since `begin` until it is over; if there is none yet, start one."""
        decided: list[str] = []
        for _ in range(MOST_PROCESSES):
            folder = self.run()
            if status not in (-signal.SIGKILL, WAITING) or (folder and _is_over(folder)):
                break
            spot = where(self.deaths())
            if folder is None:  # it died before there was a run
                status = self._start_over(*arguments, spot=spot)
                continue
            decisions = self._decisions(folder) if status == WAITING else []
            decided += decisions
            status = self.command("resume", folder.run_id, "--yes", *decisions, spot=spot)
        folder = self.run()
        assert folder is not None, self.told()
        _, state, records = read_run(folder)
        return Ended(state.outcome, self.told(), folder, state, records, self.deaths(), decided)

    def _start_over(self, *arguments: str, spot: AnySpot | None) -> int:
        return self.command("run", *arguments, "--yes", spot=spot)

    def deaths(self) -> list[Death]:
        """Where processes of the run died so far."""
        if not self.notes.exists():
            return []
        lines = self.notes.read_bytes().splitlines()
        return [msgspec.json.decode(line, type=Death) for line in lines]

    def told(self) -> str:
        """What all commands wrote."""
        return "".join(self.output)

    def run(self) -> FileRun | None:
        """The run since `begin`, once it has begun."""
        new = [each for each in FileStore(self.state).runs() if each.run_id not in self._before]
        begun = [each for each in new if _begun(each)]
        return begun[0] if begun else None

    def _decisions(self, folder: FileRun) -> list[str]:
        _, state, _ = read_run(folder)
        paths = dict.fromkeys(state.plan.nodes[index].path for index, _ in state.doubts)
        return [f"--{'done' if self.judge(path) else 'redo'}={path}" for path in paths]


def _is_over(folder: FileRun) -> bool:
    return read_run(folder)[1].life == "finished"


def _begun(folder: FileRun) -> bool:
    """Whether the first record is whole; a run whose first one is torn has done nothing."""
    return bool(folder.records())


def at_all(when: When, type: str) -> Where:
    """Die at every step's event of a type, once at each."""

    def where(deaths: list[Death]) -> AnySpot | None:
        return Spot(when, type=type, past=tuple(death.step for death in deaths))

    return where


def at_records(when: When, seqs: Sequence[int]) -> Where:
    """Die at these records, in turn."""

    def where(deaths: list[Death]) -> AnySpot | None:
        last = max((death.seq for death in deaths), default=0)
        left = tuple(number for number in seqs if number > last)
        return Spot(when, seqs=left) if left else None

    return where


def every(stride: int, first: int) -> Where:
    """Die at each such record from the first on: before it, in its write, and after its sync."""
    whens: Sequence[When] = ("before", "written", "synced", "torn")

    def where(deaths: list[Death]) -> AnySpot | None:
        last = max((death.seq for death in deaths), default=first - stride)
        numbers = tuple(range(first, 1000, stride))
        left = tuple(number for number in numbers if number > last)
        return Spot(whens[len(deaths) % len(whens)], seqs=left)

    return where


def in_turn(*spots: AnySpot) -> Where:
    """Die at these spots, in turn."""
    return lambda deaths: spots[len(deaths)] if len(deaths) < len(spots) else None
