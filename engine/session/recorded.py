"""A run as it is on disk: with the runbook that it was last carried out with."""

from __future__ import annotations

import msgspec

from engine.errors import UsageError
from engine.events import Record
from engine.fold import fold
from engine.plan import Plan, build_plan
from engine.session.options import Options
from engine.state import RunState
from engine.store import RunEntry


def old_plan(folder: RunEntry, options: Options) -> Plan:
    """The plan as it was when the run started."""
    runbook = folder.runbook()
    return build_plan(runbook, tags=options.tags, skip_tags=options.skip_tags)


def read_run(folder: RunEntry) -> tuple[Plan, RunState, list[Record]]:
    """A run as its journal tells it, for looking at. Raises JournalError, and UsageError when the
    run has not begun."""
    options = msgspec.convert(folder.info().options, Options, strict=False)
    plan = old_plan(folder, options)
    records = folder.records()
    if not records:
        raise UsageError(
            f"run {folder.run_id} has not begun: its journal is empty",
            hint="it is starting right now, or was ended before it could; `ce-run runs` tells",
        )
    return plan, fold(plan, records), records
