"""Going on with a run that stopped or died, and what people decide about it before."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine import VERSION
from engine.clock import SystemClock
from engine.errors import (
    IllegalEvent,
    InvalidRunbook,
    JournalError,
    NothingLeft,
    ResumeRefused,
    UsageError,
)
from engine.events import (
    AnyEvent,
    GateAnswered,
    Overridden,
    Person,
    Record,
    RunResumed,
    RunStarted,
    RunStopped,
    Warned,
)
from engine.fold import answer_refusal, apply, override_refusal
from engine.inventory import Inventory
from engine.loader import load
from engine.people import this_person
from engine.plan import Plan, build_plan
from engine.registry import Registry
from engine.session.composition import Description, Surroundings
from engine.session.edits import changed_inventory, compare_plans, fold_anew
from engine.session.options import Options, approver, registry_for
from engine.session.recorded import fold_recorded, old_plan, recorded_options
from engine.session.session import Session
from engine.state import RunState
from engine.store import Command, RunEntry, RunInfo, append_event
from engine.text import did_you_mean


class Decision(msgspec.Struct, frozen=True):
    """What an operator decides about a step before a resume."""

    step: str
    decision: str
    reason: str = ""


class Wishes(msgspec.Struct, frozen=True):
    """What is asked of a resume."""

    decisions: Sequence[Decision] = ()
    give_up: str | None = None
    """Why the run is given up: its rescue or undo runs. None: it goes on."""
    after: str = ""
    """(A part of) the run that has owned a lock of this one in between: somebody has looked at
    what it did."""
    yes: bool = False
    """Every gate is answered with yes, by whoever resumes."""


def resume(entry: RunEntry, surroundings: Surroundings, wishes: Wishes | None = None) -> Session:
    """Go on with a run that stopped or died.

    Raises ResumeRefused, LockHeld, JournalDamaged, InvalidRunbook.
    """
    entry.own()
    try:
        return _resumed(entry, surroundings, wishes or Wishes())
    except BaseException:
        entry.disown()
        raise


def _refuse_if_simulated(entry: RunEntry, records: Sequence[Record]) -> None:
    """A simulated run cannot go on: what it did was done to a world that is gone."""
    start = records[0].event
    if isinstance(start, RunStarted) and start.mode == "simulate":
        raise ResumeRefused(
            f"run {entry.run_id} was simulated, and its world ended with its process",
            hint=f"rehearse it anew: ce-run {start.runbook} --simulate",
        )


def _resumed(entry: RunEntry, surroundings: Surroundings, wishes: Wishes) -> Session:
    records, journal = entry.reopen()
    if not records:
        raise ResumeRefused(
            f"run {entry.run_id} was never started: its journal is empty",
            hint="start it anew",
        )
    if surroundings.world is None:
        _refuse_if_simulated(entry, records)
    info = entry.info()
    options = recorded_options(entry)
    options = msgspec.structs.replace(options, yes=wishes.yes)  # of this process, not the first
    old = old_plan(entry, options)
    state = fold_recorded(entry, old, records)
    _refuse_if_over(entry, state, wishes)
    _forget_commands(entry)
    redone = frozenset(each.step for each in wishes.decisions if each.decision == "redo")
    plan, inventory, registry, changed = _plan_for_resume(entry, info, options, old, state, redone)
    if plan is not old:
        state = fold_anew(old, state, plan, records)
    assert state.start is not None
    by = surroundings.by or this_person()
    session = Session(
        Description(
            plan=plan,
            inventory=inventory,
            registry=registry,
            options=options,
            mode=state.start.mode,
            entry=entry,
            journal=journal,
            state=state,
            clock=surroundings.clock(max(records[-1].time, entry.last_beat())),
            surroundings=surroundings,
            approver=approver(options, by, forced_by=state.start.by),
        )
    )
    _refuse_if_overtaken(session, wishes.after)
    session.take_locks(by)
    if plan is not old:
        entry.keep_runbook(plan.runbook, len(records))
    _append_resume(session, wishes, changed, surroundings.attended, by)
    _tell_cut(session, journal.cut)
    _tell_origin(session, records, by)
    return session


def _tell_origin(session: Session, records: Sequence[Record], by: Person) -> None:
    """Warn of a journal that came about on another machine: it says what was done elsewhere, and
    whoever copied it here (a clone, an artifact) may have written it."""
    carried = [each.event.by for each in records if isinstance(each.event, RunStarted | RunResumed)]
    last = carried[-1] if carried else None
    if last is not None and last.host and by.host and last.host != by.host:
        session.runner.append(
            Warned(
                f"until now this run was carried on {last.host} (by {last.name}), and this is "
                f"{by.host}: its journal was brought here, and is believed as it stands"
            )
        )


def _tell_cut(session: Session, cut: int) -> None:
    """Warn of a journal whose end, so many bytes, was not whole."""
    if cut:
        session.runner.append(
            Warned(
                f"the journal ended in the middle of a line, which was cut off ({cut} "
                "bytes): the disk had not confirmed it, so nothing was done because of it"
            )
        )


def _forget_commands(folder: RunEntry) -> None:
    """What was said to a process that is gone is not meant for the one that goes on."""
    with contextlib.suppress(OSError, JournalError):
        folder.take_commands()


def _refuse_if_overtaken(session: Session, after: str) -> None:
    """What another run did to the environment meanwhile is not undone by its being over."""
    other = session.locks.taken_since(session.state.tokens) if session.locks else None
    run = (other.run or other.last) if other is not None else ""
    if other is None or run in ("", session.entry.run_id):  # only unlocked: nothing has changed
        return
    if after and after in run:
        return
    raise ResumeRefused(
        f"run {run} has owned {other.name} since this run stopped, and may have changed what it "
        "relies on",
        hint=f"look at `ce-run show {run}`; then start the runbook anew, or go on all the same "
        f"with `ce-run resume {session.entry.run_id} --after {run}`",
    )


def _append_resume(
    session: Session, wishes: Wishes, changed: tuple[str, ...], attended: bool, by: Person
) -> None:
    runner = session.runner
    for event in _found_dead(session.entry, session.state):
        runner.append(event)
    for each in wishes.decisions:
        _override(session, each, by)
    runner.append(RunResumed(by, VERSION, attended, changed))
    session.note_locks()
    if wishes.give_up is not None:
        session.mailbox.put(Command("abandon", by, reason=wishes.give_up))


def _found_dead(folder: RunEntry, state: RunState) -> list[AnyEvent]:
    """What a process that died could not note itself."""
    if state.life not in ("running", "stopping"):
        return []
    return [RunStopped("interrupted", "its process ended without a word", folder.last_beat())]


def answer(folder: RunEntry, event: GateAnswered) -> None:
    """Note a person's answer in the journal of a run that no process carries.

    Raises ResumeRefused when one does, and UsageError when nobody waits for the answer any more.
    """

    def before(records: list[Record]) -> list[AnyEvent]:
        plan = old_plan(folder, recorded_options(folder))
        state = fold_recorded(folder, plan, records)
        stopped = _found_dead(folder, state)
        now = records[-1].time
        late = answer_refusal(state, event, max(SystemClock().now(), now))
        if late:
            raise UsageError(late, hint=f"see `ce-run show {folder.run_id}`")
        try:
            for number, each in enumerate((*stopped, event), len(records) + 1):
                apply(state, Record(number, now, each))
        except IllegalEvent as error:
            raise UsageError(
                f"step '{event.step}' does not wait for an answer any more",
                hint=f"see `ce-run show {folder.run_id}`",
            ) from error
        return stopped

    append_event(folder, event, before)


def _override(session: Session, each: Decision, by: Person) -> None:
    state = session.state
    index = state.plan.by_path.get(each.step)
    if index is None:
        paths = [node.path for node in state.walk() if node.index in state.steps]
        raise UsageError(
            f"there is no step '{each.step}' in this run",
            hint=did_you_mean(each.step, paths, what="there are"),
        )
    why = override_refusal(state, state.plan.nodes[index])
    if why:
        raise ResumeRefused(f"--{each.decision} {each.step}: {why}")
    decision: Any = each.decision
    session.runner.append(Overridden(each.step, decision, by, each.reason))


def _refuse_if_over(folder: RunEntry, state: RunState, wishes: Wishes) -> None:
    if state.stop is not None and state.stop.kind == "preempted" and state.life == "stopped":
        raise ResumeRefused(
            f"run {folder.run_id} was preempted ({state.stop.reason}) and cannot go on",
            hint="start the runbook anew once the other run is over",
        )
    if state.life == "finished" and not wishes.decisions:
        if state.outcome == "succeeded" and wishes.give_up is None:
            raise NothingLeft(
                f"run {folder.run_id} has succeeded: nothing is left to do",
                hint=f"see `ce-run show {folder.run_id}`",
            )
        raise ResumeRefused(
            f"run {folder.run_id} is finished: {state.outcome}",
            hint="a failed step can be taken up with --redo, --done or --skip"
            if state.outcome in ("failed", "needs_person")
            else f"see `ce-run show {folder.run_id}`",
        )


def _plan_for_resume(
    folder: RunEntry,
    info: RunInfo,
    options: Options,
    old: Plan,
    state: RunState,
    redone: frozenset[str],
) -> tuple[Plan, Inventory, Registry, tuple[str, ...]]:
    """The plan to go on with: that of the files as they are now, if that is allowed."""
    with _inside(info.cwd):
        registry = registry_for(info.runbook, options.modules)
        try:
            runbook, inventory = load(
                info.runbook,
                registry=registry,
                inventory_path=info.inventory or options.inventory,
                more_inventories=options.more_inventories,
            )
        except InvalidRunbook as error:
            error.hint = (
                f"the files as they were when the run started are beside {folder.place}, in source/"
            )
            raise
    new = build_plan(runbook, tags=options.tags, skip_tags=options.skip_tags)
    changed, refused = compare_plans(old, new, state, redone)
    if refused:
        raise ResumeRefused(
            f"the runbook changed where this run has been already: {', '.join(refused)}",
            hint="put these steps back as they were (see `source/` in the run's folder), "
            "or start a new run",
        )
    inventories = changed_inventory(folder, info, inventory)
    return (new if changed else old), inventory, registry, (*changed, *inventories)


@contextlib.contextmanager
def _inside(folder: str) -> Iterator[None]:
    """Relative paths of the command line mean what they meant when the run was started."""
    before = Path.cwd()
    if Path(folder).is_dir():
        os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
