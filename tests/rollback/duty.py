"""Somebody on duty: deploys 5.1, waits for a phase, takes it back, reads what was done."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from engine.events import AnyEvent, Record, StepOpened
from engine.journal import read
from engine.session import read_run
from engine.state import RunState
from engine.store.files import FileStore
from tests.runbooks.desk import PATIENCE, Desk, patience
from tests.surroundings import ROOT, surroundings

PHASES = {"canary": 5, "expand": 20, "blue-green": 50, "switch": 100}
"""The four phases of a deployment, and the percentage of traffic that each gives to 5.1."""

LAB = ("-i", "inventories/lab.yml", "-e", json.dumps(patience()))

GUARDS_ALONE = {
    "stage": {"error_rate": "<= 100 %"},
    "canary_stage": {"error_rate": "<= 100 %"},
    "expand_stage": {"error_rate": "<= 100 %"},
    "agent_stage": {"error_rate": "<= 100 %"},
    "workflow_stage": {"error_rate": "<= 100 %"},
}
"""Variables with which a stage's own validation never fails: what is left are its guards."""


class Ended:
    """A process that has ended, and the run that it carried."""

    def __init__(self, status: int, output: str, run: str, records: Sequence[Record]) -> None:
        self.status = status
        self.output = output
        self.run = run
        self.records = records

    def when(self, holds: Callable[[AnyEvent], bool]) -> float:
        """When the first such event was journaled, epoch seconds."""
        return next(record.time for record in self.records if holds(record.event))

    def events(self, kind: type[AnyEvent]) -> list[AnyEvent]:
        """Its events of a kind, oldest first."""
        return [record.event for record in self.records if isinstance(record.event, kind)]


class Process:
    """A `ce-run` that is at work; what it writes is kept from its first line on."""

    def __init__(self, state: Path, popen: subprocess.Popen[str], known: set[str]) -> None:
        self.popen = popen
        self._runs = FileStore(state)
        self._known = known
        self._run = ""
        self._said: list[str] = []
        self._reader = threading.Thread(target=self._listen, name="listen")
        self._reader.start()

    def _listen(self) -> None:
        assert self.popen.stdout is not None
        self._said.extend(self.popen.stdout)

    @property
    def run(self) -> str:
        """The id of its run; empty as long as there is none."""
        if not self._run:
            new = [each.run_id for each in self._runs.runs() if each.run_id not in self._known]
            self._run = new[0] if new else ""
        return self._run

    def records(self) -> list[Record]:
        """What its run has journaled so far."""
        run = self.run
        return list(read(self._runs.find(run).journal_path)) if run else []

    def has(self, holds: Callable[[AnyEvent], bool]) -> bool:
        """Whether there is such an event yet; a process that is over will not get there."""
        found = any(holds(record.event) for record in self.records())
        assert found or self.popen.poll() is None, "".join(self._said)
        return found

    def end(self) -> Ended:
        """Wait for its end."""
        status = self.popen.wait(timeout=PATIENCE)
        self._reader.join()
        return Ended(status, "".join(self._said), self.run, self.records())

    def leave(self) -> None:
        """Nothing of it goes on."""
        self.popen.kill()
        self.popen.wait()
        self._reader.join()
        assert self.popen.stdout is not None
        self.popen.stdout.close()


class Duty(Desk):
    """The command line, and processes of it that run beside each other."""

    @contextlib.contextmanager
    def at_work(self, *words: str) -> Iterator[Process]:
        """A `ce-run` with these words, until the block ends."""
        known = {each.run_id for each in FileStore(self.state).runs()}
        popen = subprocess.Popen(
            [sys.executable, "-m", "engine.cli", *words],
            cwd=ROOT,
            env=surroundings(CE_RUN_STATE=str(self.state)),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        process = Process(self.state, popen, known)
        try:
            yield process
        finally:
            process.leave()

    def ce_run(self, *words: str) -> Ended:
        """A `ce-run` with these words, to its end."""
        with self.at_work(*words) as process:
            return process.end()

    @contextlib.contextmanager
    def deploying(self, phase: str, **variables: Any) -> Iterator[Process]:
        """A deployment that has given a phase's share of the users to 5.1 and watches them."""
        extra = ("-e", json.dumps(variables))
        watch = f"execute/phases/{phase}/watch"
        with self.at_work("runbooks/deploy-5.1.yml", *LAB, *extra, "--yes") as process:
            self.wait_for(f"{phase} is watched", lambda: process.has(lambda e: began(e, watch)))
            yield process

    def roll_back(self, *options: str) -> Ended:
        """The emergency rollback, to its end."""
        return self.ce_run("runbooks/emergency-rollback.yml", *LAB, *options)

    def folded(self, run: str) -> RunState:
        """What the journal of a run adds up to."""
        return read_run(FileStore(self.state).find(run))[1]


def began(event: AnyEvent, step: str) -> bool:
    """Whether the event begins this step, be it a group or not."""
    return getattr(event, "step", None) == step and event.__struct_config__.tag in (
        StepOpened.__struct_config__.tag,
        "task_started",
    )
