"""Beginning a run: what is asked for is checked, recorded, locked and started in the journal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import msgspec

from engine import VERSION
from engine.events import Person, RunStarted, Warned
from engine.inventory import Inventory
from engine.loader import Extra, load
from engine.loader.inputs import convert_inputs
from engine.model import Runbook
from engine.people import this_person
from engine.plan import Plan, build_plan
from engine.registry import Registry
from engine.session.composition import Description, Surroundings
from engine.session.options import (
    Options,
    approver,
    check_options,
    known_extras,
    refuse_what_cannot_be_simulated,
    registry_for,
)
from engine.session.selection import check_selection
from engine.session.session import Session
from engine.state import RunState
from engine.store import RunEntry, RunInfo, Store, project_state
from engine.text import as_json, writable


def begin(runbook_path: str, options: Options, surroundings: Surroundings) -> Session:
    """A new run, started in the journal and owning its locks.

    Raises InvalidRunbook, UsageError (inputs), LockHeld, JournalError; then nothing is left.
    """
    options = msgspec.structs.replace(
        options, extra=as_json(_extra(options)), reason=writable(options.reason)
    )
    registry = registry_for(runbook_path, options.modules)
    plan, inventory, inputs = _load_checked(runbook_path, registry, options)
    by = surroundings.by or this_person()
    clock = surroundings.clock(0.0)
    began = clock.now() + surroundings.warm_up
    entry = _create_entry(surroundings.store, plan.runbook, inventory, options, began)
    try:
        session = Session(
            Description(
                plan=plan,
                inventory=inventory,
                registry=registry,
                options=options,
                mode=options.mode,
                entry=entry,
                journal=entry.journal(durable=options.mode != "simulate"),
                state=RunState(plan),
                clock=clock,
                surroundings=surroundings,
                approver=approver(options, by),
            )
        )
        session.take_locks(by)
    except BaseException:
        entry.disown()
        entry.remove()
        raise
    _append_start(session, inputs, surroundings.attended, by)
    _tell_reach(session, surroundings.store)
    return session


def _load_checked(
    runbook_path: str, registry: Registry, options: Options
) -> tuple[Plan, Inventory, dict[str, Any]]:
    """The plan, the inventory and the inputs, once all that is asked for was found to fit."""
    runbook, inventory = load(
        runbook_path,
        registry=registry,
        inventory_path=options.inventory,
        more_inventories=options.more_inventories,
        strict=True,
    )
    check_options(runbook, options)
    inputs = convert_inputs(runbook.inputs, options.extra)
    plan = build_plan(runbook, tags=options.tags, skip_tags=options.skip_tags)
    check_selection(
        plan, inventory, tags=options.tags, skip_tags=options.skip_tags, limit=options.limit
    )
    known_extras(plan, inventory, options.extra)
    if options.mode == "simulate":
        refuse_what_cannot_be_simulated(plan, registry)
    return plan, inventory, inputs


def _append_start(session: Session, inputs: dict[str, Any], attended: bool, by: Person) -> None:
    options, runbook = session.options, session.plan.runbook
    session.runner.append(
        RunStarted(
            run=session.entry.run_id,
            runbook=runbook.file,
            name=runbook.name,
            mode=session.mode,
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


def _tell_reach(session: Session, store: Store) -> None:
    """Warn where others who run the same runbook do not meet this run at its locks."""
    usual = project_state(Path(session.plan.runbook.file))
    if session.locks is not None and session.mode == "run" and store.local != usual:
        names = ", ".join(session.plan.runbook.locks)
        session.runner.append(
            Warned(
                f"{names}: locked in {store.name}, which is not the state of this project "
                f"({usual}): whoever works there is neither kept out nor taken over from"
            )
        )


def _extra(options: Options) -> dict[str, Any]:
    """What ``-e`` gave, as it was written; an input makes a number of it again if it wants one."""
    extra = options.extra
    return extra.as_written() if isinstance(extra, Extra) else extra


def _create_entry(
    store: Store, runbook: Runbook, inventory: Inventory, options: Options, now: float
) -> RunEntry:
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
    entry = store.create(label, now, info, sources)
    entry.keep_runbook(runbook)
    return entry


def _sources(runbook: Runbook, inventory: Inventory) -> dict[str, Path]:
    """Names below ``source/`` for every file that the run was made from."""
    files = [Path(name).absolute() for name in (runbook.file, *runbook.sources)]
    files += [Path(name).absolute() for name in inventory.files]
    unique = list(dict.fromkeys(files))
    common = Path(os.path.commonpath([file.parent for file in unique]))
    return {str(file.relative_to(common)): file for file in unique if file.is_file()}
