"""What is told of a run, as data: the summary, ``show`` and its JSON all come from here.

Times are epoch seconds, durations seconds; a duration of something under way is what it took
until the moment for which the facts were gathered (`engine.report.gather`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from engine.events import Failure, Person
from engine.state import Status


class TaskFacts(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A task of a step that fanned out."""

    name: str
    status: str
    attempts: int
    seconds: float
    changed: bool = False
    message: str = ""
    failure: Failure | None = None


class StepFacts(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A step, or a rescue, undo or always block. `word` is its status in a word for people."""

    path: str
    status: Status
    word: str
    depth: int
    name: str = ""
    role: str = "body"
    action: str = ""
    group: bool = False
    started: float | None = None
    seconds: float | None = None
    charged: float | None = None
    """Of these those that count for its budget: while it was carried, and nobody was asked."""
    planned: float | None = None
    """Its budget, else its timeout."""
    attempts: int = 0
    changed: bool = False
    message: str = ""
    waits_for: list[str] = []
    """Paths of steps that have to be over first, or what it waits for in words."""
    failure: Failure | None = None
    place: str = ""
    tasks: list[TaskFacts] = []


class GateFacts(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A question that waits for a person."""

    step: str
    message: str
    since: float
    checklist: list[str] = []
    until: float | None = None


class GuardFacts(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A guard as it stands. `failing` is for how many seconds it has been failing."""

    step: str
    name: str
    trip: str
    verdict: str = "not yet observed"
    value: Any = None
    message: str = ""
    failing: float | None = None
    hold: float = 0.0
    observations: int = 0


class ChangeFacts(msgspec.Struct, omit_defaults=True, kw_only=True):
    """Something that a task changed (or would change, in a check)."""

    step: str
    task: str
    message: str = ""
    diff: str = ""


class RunFacts(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A run. `status` is one of: running, stopping, dead, waiting, interrupted, preempted,
    succeeded, failed, rescued, undone, needs_person."""

    run: str
    name: str
    runbook: str
    mode: str
    status: str
    by: Person
    version: str
    started: float
    seconds: float
    charged: float = 0.0
    """Of these those that count for the budget: while it was carried, and nobody was asked."""
    reason: str = ""
    finished: float | None = None
    budget: float | None = None
    forced: bool = False
    inputs: dict[str, Any] = {}
    locks: dict[str, int] = {}
    warnings: dict[str, str] = {}
    """What people were warned of → the first step that did it, empty for the run itself."""
    reason_by: Person | None = None
    """Who told the reason, if that was done afterwards."""
    stop_reason: str = ""
    stopped_by: Person | None = None
    failure: Failure | None = None
    phases: list[StepFacts] = []
    steps: list[StepFacts] = []
    gates: list[GateFacts] = []
    guards: list[GuardFacts] = []
    unwatched: list[str] = []
    """Groups under way whose guards observe nothing, because no process carries the run."""
    doubts: list[str] = []
    changes: list[ChangeFacts] = []
    failures: list[Failure] = []
    """Every failure that a step ended with, in the order they happened."""
    effects: bool = True
    """Whether anything was changed, or may have been by a step that failed."""
    undone: dict[str, str] = {}
    """Steps that were undone, and how that ended."""
    rescues: dict[str, str] = {}
    """Rescue blocks that ran, and how they ended."""
    reopenable: list[str] = []
    """Failed steps and such in doubt that a person can decide about, to resume from there."""
    measured: dict[str, float | str] = {}
    """Figures of results, of each name the last."""
    figures: dict[str, Any] = {}
    """An answer with requests, failures and sessions_lost: how users fared."""
    notes: dict[str, str] = {}
    """What steps said whose id is `figures`, or that stand in a group of that id."""
    resumed: int = 0

    @property
    def over(self) -> bool:
        """Whether the run came to its end, so that it will not go on by itself or be resumed."""
        return self.status in ENDED

    @property
    def check(self) -> bool:
        """Whether nothing was changed."""
        return self.mode == "check"


ENDED = frozenset(("succeeded", "failed", "rescued", "undone", "needs_person", "preempted"))
"""Statuses of runs that will neither go on by themselves nor be resumed as they stand."""
