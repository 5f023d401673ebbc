"""A lab, runbooks and an operator: what a crash needs to be told from no crash."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from engine.lab import control
from engine.lab.layout import Layout
from tests.crash.operator import Operator
from tests.crash.world import ledger, world
from tests.lab.production import Production

TRACES = {"prepare/register": "registered", "prepare/mark": "marked"}
"""Steps of quick-deploy.yml whose effect only a look at a file can tell."""


class Stage:
    """A running lab in `state`; `runbooks` are those that it is worked on with."""

    def __init__(self, state: Path, runbooks: Path, folder: Path) -> None:
        self.state = state
        self.runbooks = runbooks
        self.folder = folder
        self.trace = folder / "trace"
        self.notes = folder / "deaths.jsonl"
        self.operator = Operator(state, self.notes, self.is_there)
        self.lab = self._open()
        self._fresh = True

    def reset(self) -> None:
        """A lab on 5.0, in which nothing has happened."""
        if not self._fresh:
            self.lab.close()
            control.reset(self.state)
            self.lab = self._open()
        self._fresh = False

    def _open(self) -> Production:
        info = Layout(self.state).read_info()
        assert info is not None
        shutil.rmtree(Path(info.folder) / "backups", ignore_errors=True)
        shutil.rmtree(self.trace, ignore_errors=True)
        self.trace.mkdir()
        return Production(self.state, info)

    def world(self) -> dict[str, Any]:
        """The world that a run has left."""
        return world(self.lab, self.trace)

    def is_there(self, step: str) -> bool:
        """Whether a step's effect is there, for a person who goes and looks."""
        if step in TRACES:
            return (self.trace / TRACES[step]).exists()
        return step in ledger(self.lab)

    def arguments(self, runbook: str, **extra: str) -> tuple[str, ...]:
        """The command line of one of the runbooks."""
        given = [f"{name}={value}" for name, value in extra.items()]
        return (
            str(self.runbooks / runbook),
            "-i",
            str(self.folder / "inventories" / "lab.yml"),
            *(word for each in given for word in ("-e", each)),
        )
