"""A run as it is on disk: with the runbook that it was last carried out with."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from engine.errors import JournalDamaged, JournalError, UsageError
from engine.events import Record
from engine.fold import apply
from engine.plan import Plan, build_plan
from engine.session.options import Options
from engine.state import RunState
from engine.store import RunEntry


def old_plan(folder: RunEntry, options: Options) -> Plan:
    """The plan as it was when the run started."""
    runbook = folder.runbook()
    return build_plan(runbook, tags=options.tags, skip_tags=options.skip_tags)


def recorded_options(folder: RunEntry) -> Options:
    """What the command line said when the run was started. Raises JournalError."""
    try:
        return msgspec.convert(folder.info().options, Options, strict=False)
    except msgspec.ValidationError as error:
        raise JournalError(
            f"how run {folder.run_id} was started cannot be read: {error}",
            hint="its run.json was changed, or a newer ce-run wrote it",
        ) from error


def fold_recorded(folder: RunEntry, plan: Plan, records: Sequence[Record]) -> RunState:
    """The state that a run's journal leads to. Raises JournalDamaged at an event that is none of
    this run's, or not in its place: whoever wrote it, a checksum is soon computed."""
    state = RunState(plan)
    for record in records:
        try:
            apply(state, record)
        except Exception as error:
            kind = type(record.event).__name__
            reason = f"{kind} does not belong there ({type(error).__name__}: {error})"
            raise JournalDamaged(folder.place, record.seq, reason) from error
    return state


def read_run(folder: RunEntry) -> tuple[Plan, RunState, list[Record]]:
    """A run as its journal tells it, for looking at. Raises JournalError, and UsageError when the
    run has not begun."""
    plan = old_plan(folder, recorded_options(folder))
    records = folder.records()
    if not records:
        raise UsageError(
            f"run {folder.run_id} has not begun: its journal is empty",
            hint="it is starting right now, or was ended before it could; `ce-run runs` tells",
        )
    return plan, fold_recorded(folder, plan, records), records
