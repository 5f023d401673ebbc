"""A drill's scenario as its file says it (docs/rehearsing.md): a world, what happens to it, who
answers what, and what is expected.

Times are seconds since the drill's own run began. What can be an expression is one, written without
braces, over the names of `engine.drill.names`.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from engine.loader.structures import Condition, Duration
from engine.production.faults import ALL_VERSIONS, Fault
from engine.simulation.commands import Saying
from engine.simulation.databases import ORDERS, Telling
from engine.simulation.description import WorldDescription
from engine.simulation.web import Site

MAIN = "main"
"""Names the run that a scenario is about; another run has the id of the entry that begins it."""

START, ROLLBACK = "start", "rollback"
"""Moments that every drill knows: its run begins; something begins to be taken back."""


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Base of the parts of a scenario."""


class VersionFault(Fault, frozen=True, kw_only=True):
    """What becomes wrong with a version."""

    version: str = ALL_VERSIONS


class Loss(_Part, frozen=True):
    """Rows that vanish from a table, as by a mistaken DELETE."""

    rows: int
    table: str = ORDERS
    database: str = ""


class OperatorStart(_Part, frozen=True):
    """An operator starts a run: a second one, in the same world."""

    runbook: str
    inputs: dict[str, Any] = {}
    force: bool = False
    reason: str = ""
    by: str = ""


class Stop(_Part, frozen=True):
    """An operator stops a run, so that it can be resumed; with `rescue` it is given up."""

    run: str = MAIN
    rescue: bool = False
    reason: str = ""
    by: str = ""


class Crash(_Part, frozen=True):
    """The engine dies at this moment, without a word."""

    run: str = MAIN
    resume: Duration | None = None
    """Somebody resumes the run so much later; without it nobody does."""


class ScenarioEntry(_Part, frozen=True):
    """Something that happens: at a time, or when a condition first holds."""

    id: str = ""
    """A moment's name, for `of` and `since`."""
    at: Duration | None = None
    when: Condition = ""
    after: Duration = 0.0
    """So much later than the condition began to hold."""
    note: str = ""
    """What is told to those who take part (an inject), or what this means."""
    fault: VersionFault | None = None
    heal: str = ""
    """A version (or `all`) with which nothing is wrong any more."""
    down: list[str] = []
    """What stops to answer: `cluster`, `monitoring`, `metrics` (monitoring answers, without
    data), `database NAME`, `balancer NAME`, `changes of balancer NAME`, `channel NAME`, a URL."""
    up: list[str] = []
    """What answers again."""
    command: Saying | None = None
    query: Telling | None = None
    site: Site | None = None
    lose: Loss | None = None
    run: OperatorStart | None = None
    stop: Stop | None = None
    crash: Crash | None = None


class ScenarioAnswer(_Part, frozen=True):
    """Who answers a confirmation, and how."""

    gate: str = "*"
    """The step's path; `*` stands for any text."""
    answer: Literal["approve", "reject", "never"] = "approve"
    after: Duration = 60.0
    by: str = ""
    reason: str = ""


class Expectation(_Part, frozen=True):
    """Something that has to be true: when the drill is over, within a time, or always."""

    that: Condition = ""
    """Holds when all is over; with `within`, so soon after a moment."""
    always: Condition = ""
    """Holds all the time."""
    within: Duration | None = None
    of: str = START
    """The moment from which `within` counts: `start`, `rollback` or an entry's id."""
    name: str = ""
    """How it is called in the table; default: as it is written."""

    @property
    def shown(self) -> str:
        """What people read."""
        return self.name or (f"always {self.always}" if self.always else self.that)


class Scenario(_Part, frozen=True):
    """One drill, or one for each combination of its matrix."""

    name: str
    runbook: str
    about: str = ""
    """What is practised and why, for those who take part."""
    objectives: list[str] = []
    inventory: str = ""
    inputs: dict[str, Any] = {}
    force: bool = False
    reason: str = ""
    by: str = ""
    world: WorldDescription | str = WorldDescription()
    """A world, or the name of a world file."""
    matrix: dict[str, list[dict[str, Any]]] = {}
    """Name → its variants: the drill is played once for every combination, and texts of the
    scenario read them: `"{{ case.trigger.fault }}"`, in expressions `case.trigger.within`."""
    timeline: list[ScenarioEntry] = []
    answers: list[ScenarioAnswer] = []
    expect: list[Expectation | str] = []
    lasts: Duration = 86400.0
    """The drill is over after so long, whatever still runs."""
