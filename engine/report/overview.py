"""One line a run, for ``ce-run runs``: read from the ends of the journal where that is enough."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from engine.errors import CeRunError
from engine.events import Person, Record, RunFinished, RunStarted, RunStopped
from engine.plan import Plan
from engine.report.facts import RunFacts
from engine.report.gather import gather
from engine.state import RunState
from engine.store import RunEntry

_WORDS = {
    "dead": "dead, resumable",
    "interrupted": "interrupted, resumable",
    "needs_person": "a person must act",
    "waiting": "waiting for a person",
}


class Overview(msgspec.Struct, omit_defaults=True, kw_only=True):
    """A run at a glance. `status` is for people; times are epoch seconds."""

    run: str
    status: str
    runbook: str = ""
    name: str = ""
    mode: str = "run"
    started: float | None = None
    seconds: float | None = None
    by: Person | None = None
    alive: bool = False


Reader = Callable[[RunEntry], tuple[Plan, RunState, list[Record]]]


def overview(folder: RunEntry, read: Reader, now: float) -> Overview:
    """How a run stands; a run that cannot be read says why instead of a status."""
    alive = folder.alive()
    try:
        ends = _ends(folder)
        if ends is None or not isinstance(ends[0].event, RunStarted):
            word = "starting" if alive else "never started"
            return Overview(run=folder.run_id, status=word, alive=alive)
        (first, last), started = ends, ends[0].event
        base = Overview(
            run=folder.run_id,
            status="",
            runbook=started.runbook,
            name=started.name,
            mode=started.mode,
            started=first.time,
            seconds=last.time - first.time,
            by=started.by,
            alive=alive,
        )
        base.status = _status_of_end(last)
        if not base.status:
            plan, state, _ = read(folder)
            facts = gather(plan, state, now=now, alive=alive)
            base.status = status_text(facts)
            base.seconds = facts.seconds
        if started.mode == "simulate":  # its world ended with its process
            base.status = base.status.removesuffix(", resumable")
        return base
    except CeRunError as error:
        return Overview(run=folder.run_id, status=f"unreadable: {error.message}", alive=alive)


def status_text(facts: RunFacts) -> str:
    """The status in words, with the step where a person is waited for."""
    word = _WORDS.get(facts.status, facts.status)
    waits = [*(gate.step for gate in facts.gates), *facts.doubts]
    return f"{word}: {', '.join(waits)}" if facts.status == "waiting" and waits else word


def _status_of_end(last: Record) -> str:
    """The status, if the last event alone tells it."""
    event = last.event
    if isinstance(event, RunFinished):
        return _WORDS.get(event.outcome, event.outcome)
    if isinstance(event, RunStopped) and event.kind != "waiting":
        return _WORDS.get(event.kind, event.kind)
    return ""


def _ends(folder: RunEntry) -> tuple[Record, Record] | None:
    """The first and the last record of a journal; None while it is empty."""
    records = folder.records()
    return (records[0], records[-1]) if records else None
