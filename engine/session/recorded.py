"""A run as it is on disk: with the runbook that it was last carried out with."""

from __future__ import annotations

import msgspec

from engine.errors import JournalError, UsageError
from engine.events import Record
from engine.fold import fold
from engine.model import Runbook
from engine.plan import Plan, build_plan
from engine.runs import RunFolder
from engine.session.options import Options
from engine.state import RunState


def old_plan(folder: RunFolder, options: Options) -> Plan:
    """The plan as it was when the run started."""
    path = folder.path / "runbook.json"
    try:
        runbook = msgspec.json.decode(path.read_bytes(), type=Runbook)
    except (OSError, msgspec.MsgspecError) as error:
        raise JournalError(f"{path} cannot be read: {error}") from error
    return build_plan(runbook, tags=options.tags, skip_tags=options.skip_tags)


def read_run(folder: RunFolder) -> tuple[Plan, RunState, list[Record]]:
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
