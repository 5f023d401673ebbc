"""What every store says in the same words: which run is meant, and who holds a lock."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

from engine.clock import time_text
from engine.errors import LockHeld, UsageError
from engine.store.protocol import LockRecord, RunEntry

R = TypeVar("R", bound=RunEntry)


def find_run(runs: Sequence[R], name: str, store: str) -> R:
    """What `Store.find` promises, for runs that are sorted newest first."""
    if not runs:
        raise UsageError(
            f"there are no runs in {store}",
            hint="--state names another folder; `ce-run FILE` starts a run",
        )
    if name in ("last", "latest"):
        return runs[0]
    matches = [run for run in runs if run.run_id == name] or [
        run for run in runs if name and name in run.run_id
    ]
    if len(matches) == 1:
        return matches[0]
    if matches:
        ids = ", ".join(run.run_id for run in matches[:5])
        raise UsageError(f"{name!r} fits several runs: {ids}", hint="give more of the id")
    raise UsageError(
        f"there is no run {name!r} in {store}",
        hint="`ce-run runs` lists them; `--state` names another folder",
    )


def lock_is_held(owner: LockRecord) -> LockHeld:
    """The refusal of a lock that a living run owns."""
    why = f" ({owner.reason})" if owner.reason else ""
    return LockHeld(
        f"{owner.name} is locked by run {owner.run}, which {_who(owner)} started at "
        f"{time_text(owner.since)}{why}",
        hint=f"wait for it (`ce-run show {owner.run}`), stop it (`ce-run stop {owner.run}`), "
        "or run a runbook that preempts with --force",
    )


def _who(record: LockRecord) -> str:
    if record.by is None:
        return "somebody"
    return f"{record.by.shown}@{record.by.host}" if record.by.host else record.by.shown
