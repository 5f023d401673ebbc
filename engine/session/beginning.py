"""Beginning a run: what is asked for is checked, recorded, locked and started in the journal."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import msgspec

from engine import VERSION, journal
from engine.clock import SystemClock
from engine.errors import JournalError
from engine.events import Person, RunStarted
from engine.inventory import Inventory
from engine.loader import load
from engine.loader.inputs import convert_inputs
from engine.model import Runbook
from engine.plan import build_plan
from engine.runner import Observer
from engine.runs import RunFolder, RunInfo, Runs, this_person, write_private
from engine.session.options import Options, check_options, known_extras, registry_for
from engine.session.session import Session
from engine.state import RunState
from engine.text import as_json, writable


def begin(
    runbook_path: str,
    options: Options,
    *,
    state_folder: Path,
    attended: bool = False,
    observers: Sequence[Observer] = (),
    tick: float | None = None,
    by: Person | None = None,
) -> Session:
    """A new run, started in the journal and owning its locks.

    Raises InvalidRunbook, UsageError (inputs), LockHeld, JournalError; then nothing is left.
    """
    options = msgspec.structs.replace(
        options, extra=as_json(options.extra), reason=writable(options.reason)
    )
    registry = registry_for(runbook_path, options.modules)
    runbook, inventory = load(
        runbook_path, registry=registry, inventory_path=options.inventory, strict=True
    )
    check_options(runbook, options)
    inputs = convert_inputs(runbook.inputs, options.extra)
    plan = build_plan(runbook, tags=options.tags, skip_tags=options.skip_tags)
    known_extras(plan, inventory, options.extra)
    by = by or this_person()
    clock = SystemClock()
    folder = _create_folder(state_folder, runbook, inventory, options, clock.now())
    try:
        session = Session(
            plan=plan,
            inventory=inventory,
            registry=registry,
            folder=folder,
            state_folder=state_folder,
            state=RunState(plan),
            book=journal.Journal(journal.FileDisk(folder.journal_path)),
            options=options,
            clock=clock,
            attended=attended,
            observers=observers,
            tick=tick,
        )
        session.take_locks(by)
    except BaseException:
        folder.disown()
        shutil.rmtree(folder.path, ignore_errors=True)
        raise
    session.runner.append(
        RunStarted(
            run=folder.run_id,
            runbook=runbook.file,
            name=runbook.name,
            mode="check" if options.check else "run",
            by=by,
            version=VERSION,
            attended=attended,
            inputs=inputs,
            extra=options.extra,
            options=msgspec.to_builtins(options),
            reason=session.redactor.mask(options.reason),
        )
    )
    session.note_locks()
    return session


def _create_folder(
    state_folder: Path, runbook: Runbook, inventory: Inventory, options: Options, now: float
) -> RunFolder:
    label = Path(runbook.file).stem.replace("_", "-")
    sources = _sources(runbook, inventory)
    info = RunInfo(
        run="",
        runbook=str(Path(runbook.file).absolute()),
        inventory=str(Path(inventory.file).absolute()) if inventory.file else None,
        cwd=str(Path.cwd()),
        options=msgspec.to_builtins(options),
        sources={name: str(path) for name, path in sources.items()},
    )
    try:
        folder = Runs(state_folder).create(label, now, info, sources)
        write_private(folder.path / "runbook.json", msgspec.json.encode(runbook), synced=True)
        for each in (folder.path, folder.path.parent, state_folder):
            journal.sync_folder(each)
    except OSError as error:
        raise JournalError(
            f"no run can be recorded in {state_folder}: {error.strerror or error}",
            hint="nothing was started; give a folder you can write to with --state",
        ) from error
    return folder


def _sources(runbook: Runbook, inventory: Inventory) -> dict[str, Path]:
    """Names below ``source/`` for every file that the run was made from."""
    files = [Path(name).absolute() for name in (runbook.file, *runbook.sources)]
    if inventory.file:
        files.append(Path(inventory.file).absolute())
    unique = list(dict.fromkeys(files))
    common = Path(os.path.commonpath([file.parent for file in unique]))
    return {str(file.relative_to(common)): file for file in unique if file.is_file()}
