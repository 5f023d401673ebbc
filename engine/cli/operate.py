"""What an operator does to a run from another shell: stop, approve, give a reason, unlock."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal, NamedTuple

import click

from engine.cli.options import (
    Workspace,
    color_option,
    json_option,
    run_argument,
    state_option,
    step_argument,
)
from engine.cli.terminal import echo, echo_json
from engine.clock import SystemClock, look_until
from engine.errors import CeRunError, LockHeld, UsageError

if TYPE_CHECKING:
    from engine.events import GateAnswered, Record
    from engine.report.facts import RunFacts
    from engine.state import RunState
    from engine.store import RunEntry

_POLL = 0.05
PATIENCE = 10.0
"""Seconds to wait for a run to take notice; it is promised to leave within 5."""


def _wait(condition: Callable[[], bool]) -> bool:
    return look_until(condition, PATIENCE, every=_POLL)


def _facts(folder: RunEntry) -> RunFacts:
    from engine.report.gather import gather
    from engine.session import read_run

    plan, state, records = read_run(folder)
    return gather(plan, state, records, now=SystemClock().now(), alive=folder.alive())


# -- stop ---------------------------------------------------------------------------------------
@click.command()
@run_argument
@click.option("--rescue", is_flag=True, help="Do not leave it: have it run its rescue or undo.")
@click.option("--reason", default="", metavar="TEXT", help="Why; kept in the journal.")
@state_option
def stop(run: str, rescue: bool, reason: str, state: str | None) -> int:
    """Interrupt a run that another process carries, or have it roll back.

    Without --rescue it starts nothing more, cancels what is running, and ends within 5 s so that
    `ce-run resume` can go on. With --rescue what is under way fails as cancelled, and its rescue
    runs, or its undo.

    \b
    Examples:
      ce-run stop last
      ce-run stop last --rescue --reason "customers complain"
    """
    from engine.people import this_person
    from engine.store import Command

    workspace = Workspace(state)
    folder = workspace.find(run)
    if not folder.alive():
        return _not_running(folder, workspace, rescue)
    before = len(folder.records())
    message = folder.send(Command("rescue" if rescue else "stop", this_person(), reason=reason))
    if rescue:
        done = _wait(lambda: _latched(folder, before) or not folder.alive())
        said = "has been told to roll back"
    else:
        done = _wait(lambda: not folder.alive())
        said = "has stopped"
    message.withdraw()  # whoever resumes the run later is not meant
    if not done:
        raise CeRunError(
            f"run {folder.run_id} did not take notice within {PATIENCE:g} s",
            hint=f"it is carried by {folder.owner()}; look at `ce-run show {folder.run_id}`",
        )
    echo(f"run {folder.run_id} {said}")
    word = "show" if rescue else "resume"
    echo(f"next: {workspace.commands.spell(word, folder.run_id)}")
    return 0


def _latched(folder: RunEntry, before: int) -> bool:
    from engine.events import FailureLatched

    return any(isinstance(each.event, FailureLatched) for each in folder.records()[before:])


def _not_running(folder: RunEntry, workspace: Workspace, rescue: bool) -> int:
    from engine.report.overview import status_text

    facts = _facts(folder)
    echo(f"run {folder.run_id} is not running: {status_text(facts)}")
    if not facts.over:
        more = ("--rescue", "--reason", "WHY") if rescue else ()
        echo(f"next: {workspace.commands.spell('resume', folder.run_id, *more)}")
    return 0 if not rescue or facts.over else 1


# -- approve and reject -------------------------------------------------------------------------
def _answer_options(function: Callable[..., int]) -> Callable[..., int]:
    for option in (
        state_option,
        click.option("--reason", default="", metavar="TEXT", help="Why; kept in the journal."),
        click.option("--by", metavar="NAME", help="Who answers; unless it is you, a claim."),
        step_argument(required=False),
        run_argument,
    ):
        function = option(function)
    return function


@click.command()
@_answer_options
@click.option(
    "--tick",
    multiple=True,
    metavar="POINT",
    help="Tick a point of the checklist: its number, its text, or all.",
)
def approve(
    run: str,
    step: str | None,
    by: str | None,
    reason: str,
    state: str | None,
    tick: tuple[str, ...],
) -> int:
    """Say yes to a run that waits for a person, so that the step goes on.

    STEP may be left out when only one step waits. The answer is in the journal when this command
    ends; a run that no process carries needs `ce-run resume` afterwards. All points of a checklist
    have to be ticked.

    \b
    Examples:
      ce-run approve last switch --reason "figures look good"
      ce-run approve last switch --tick 1 --tick "on-call informed"
      ce-run approve 20260131-140509 switch --tick all
    """
    return _answer(GateAnswer("approved", by, reason, tick), run, step, Workspace(state))


@click.command()
@_answer_options
def reject(run: str, step: str | None, by: str | None, reason: str, state: str | None) -> int:
    """Say no to a run that waits for a person: the step fails, and its rescue or undo runs.

    STEP may be left out when only one step waits. The answer is in the journal when this command
    ends; a run that no process carries needs `ce-run resume` afterwards.

    \b
    Examples:
      ce-run reject last switch --reason "error rate is rising"
    """
    return _answer(GateAnswer("rejected", by, reason), run, step, Workspace(state))


class GateAnswer(NamedTuple):
    """What was said to a question, on the command line."""

    answer: Literal["approved", "rejected"]
    by: str | None
    reason: str
    tick: tuple[str, ...] = ()


def _answer(said: GateAnswer, run: str, step: str | None, workspace: Workspace) -> int:
    from engine.events import GateAnswered
    from engine.people import this_person
    from engine.report.words import who
    from engine.session import answer as note
    from engine.session import read_run

    folder = workspace.find(run)
    person = this_person(said.by)
    _, state, records = read_run(folder)
    path = _open_gate(folder, state, step)
    ticked = _ticked(state, path, said) if said.answer == "approved" else ()
    event = GateAnswered(path, said.answer, person, said.reason, ticked)
    if folder.alive() and _taken(folder, event, len(records)):
        echo(f"{path} {said.answer} by {who(person)}; run {folder.run_id} goes on")
        return 0
    note(folder, event)
    echo(f"{path} {said.answer} by {who(person)}; no process carries run {folder.run_id} now")
    echo(f"next: {workspace.commands.spell('resume', folder.run_id)}")
    return 0


def _taken(folder: RunEntry, event: GateAnswered, before: int) -> bool:
    """Tell the process that carries the run; False when it is gone and has not taken the answer."""
    from engine.store import Command

    verb = "approve" if event.answer == "approved" else "reject"
    message = folder.send(Command(verb, event.by, event.step, event.reason, event.ticked))

    def taken() -> bool:
        return _answered(folder.records()[before:], event.step)

    try:
        if not _wait(lambda: taken() or not folder.alive()):
            raise CeRunError(
                f"run {folder.run_id} did not take the answer within {PATIENCE:g} s",
                hint=f"look at `ce-run show {folder.run_id}` before you try again",
            )
    finally:
        message.withdraw()
    return taken()


def _answered(records: list[Record], step: str) -> bool:
    from engine.events import GateAnswered

    return any(isinstance(r.event, GateAnswered) and r.event.step == step for r in records)


def _ticked(state: RunState, path: str, said: GateAnswer) -> tuple[str, ...]:
    """The points of a gate's checklist that were ticked; UsageError unless it is all of them."""
    gate = state.steps[state.plan.by_path[path]].gate
    points = gate.checklist if gate is not None else ()
    ticked: set[int] = set()
    for word in said.tick:
        if word in points:
            ticked.add(points.index(word))
        elif word.isdigit() and 1 <= int(word) <= len(points):
            ticked.add(int(word) - 1)
        elif word == "all" and points:
            ticked.update(range(len(points)))
        else:
            numbers = f"1 to {len(points)}" if points else "none"
            raise UsageError(
                f"--tick {word}: step '{path}' has no such point in its checklist",
                hint=f"there are {numbers}" if points else "it has no checklist",
            )
    left = [f"{n}. {point}" for n, point in enumerate(points, 1) if n - 1 not in ticked]
    if left:
        raise UsageError(
            f"step '{path}' has a checklist, and not ticked is: {'; '.join(left)}",
            hint="tick each point with --tick NUMBER, or `--tick all` when all of them hold",
        )
    return points


def _open_gate(folder: RunEntry, state: RunState, step: str | None) -> str:
    """The path of the gate that is meant; UsageError when none is open there."""
    from engine.text import did_you_mean

    gates = [state.plan.nodes[index].path for index in state.gates]
    preempted = state.stop is not None and state.stop.kind == "preempted"
    if not gates or state.life == "finished" or preempted:
        raise UsageError(
            f"run {folder.run_id} does not wait for an answer",
            hint=f"see `ce-run show {folder.run_id}`",
        )
    if step is None:
        if len(gates) > 1:
            raise UsageError(f"several steps wait for an answer: {', '.join(gates)}")
        return gates[0]
    if step not in gates:
        raise UsageError(
            f"step '{step}' does not wait for an answer",
            hint=did_you_mean(step, gates, what="waiting are"),
        )
    return step


# -- reason ------------------------------------------------------------------------------------
@click.command()
@run_argument
@click.argument("text", metavar="TEXT")
@click.option("--by", metavar="NAME", help="Who tells it; unless it is you, a claim.")
@state_option
def reason(run: str, text: str, by: str | None, state: str | None) -> int:
    """Tell afterwards why a run was started; the last word counts, the journal keeps them all.

    An emergency rollback is not held up by the question why: `--force` works without --reason,
    and asks for it at its end. The run may be over, or still at work.

    \b
    Examples:
      ce-run reason last "error rate of 5.1 at 30 %, INC-2024-001"
    """
    from engine.events import ReasonGiven
    from engine.people import this_person
    from engine.report.words import who
    from engine.store import Command, append_event

    if not text.strip():
        raise click.UsageError("the reason is empty")
    folder = Workspace(state).find(run)
    told = ReasonGiven(text.strip(), this_person(by))
    if folder.alive():
        folder.send(Command("reason", told.by, reason=told.reason))
        if not _wait(lambda: any(each.event == told for each in folder.records())):
            raise CeRunError(
                f"run {folder.run_id} did not take notice within {PATIENCE:g} s",
                hint="tell it again once the run is over",
            )
    else:
        append_event(folder, told)
    echo(f"run {folder.run_id}: {told.reason} (told by {who(told.by)})")
    return 0


# -- locks --------------------------------------------------------------------------------------
@click.command()
@state_option
@color_option
@json_option
def locks(state: str | None, no_color: bool, output: str) -> None:
    """List the locks: who holds each, since when and why.

    A lock whose owner's process is gone is free; nobody has to unlock it.

    \b
    Examples:
      ce-run locks
      ce-run locks --output json
    """
    import msgspec

    from engine.cli.terminal import Writer
    from engine.report.words import day_time, line, table, who

    rows = [("LOCK", "STATUS", "TOKEN", "SINCE", "BY", "RUN", "WHY")]
    plain = []
    for lock in Workspace(state).store.locks():
        try:
            record, held = lock.record(), lock.owner() is not None
        except LockHeld as error:
            rows.append((lock.name, "damaged", *"-----"))
            plain.append({"name": lock.name, "status": "damaged"})
            echo(f"{error.message}: {error.hint}", err=True)
            continue
        status = "held" if held else "free, owner died" if record.run else "free"
        plain.append({"status": status, **msgspec.to_builtins(record)})
        known = bool(record.run or record.unlocked)
        more = (day_time(record.since), who(record.by), record.run or "-", record.reason or "-")
        rows.append((lock.name, status, str(record.token), *(more if known else "----")))
    if output == "json":
        echo_json(msgspec.json.format(msgspec.json.encode(plain), indent=2))
        return
    lines = table(rows)
    Writer(no_color=no_color).lines([line(text) for text in lines] or [line("no locks")])


@click.command()
@click.argument("name", metavar="NAME")
@click.option("--reason", default="", metavar="TEXT", help="Why; required, kept in the lock.")
@state_option
def unlock(name: str, reason: str, state: str | None) -> int:
    """Take a lock away from whoever owns it, for nobody.

    A run that holds it can do nothing more from this moment on: it ends as preempted and cannot
    be resumed. That is rarely what you want: `ce-run stop RUN` interrupts a run so that it can be
    resumed, and the lock of a dead run is free by itself.

    \b
    Examples:
      ce-run unlock production --reason "its machine is unreachable, INC-2024-001"
    """
    from engine.people import this_person
    from engine.report.words import who
    from engine.text import did_you_mean

    if not reason.strip():
        raise click.UsageError(
            "--reason is required: whoever holds the lock loses it for good, and has to read why"
        )
    known = {lock.name: lock for lock in Workspace(state).store.locks()}
    if name not in known:
        raise UsageError(f"there is no lock '{name}'", hint=did_you_mean(name, known))
    lock = known[name]
    try:
        owner = lock.owner()
    except LockHeld:  # its file is damaged
        lock.break_open(this_person(), SystemClock().now(), reason)
        lock.wait_for_effects()
        echo(f"the file of lock {name} was damaged and has been made anew; it is free")
        echo("a run that held it ends as preempted")
        return 0
    before = lock.break_open(this_person(), SystemClock().now(), reason)
    if owner is None:
        echo(f"lock {name} was free already; its token is {before.token + 1} now")
        return 0
    lock.wait_for_effects()
    echo(f"lock {name} was taken from run {before.run} of {who(before.by)}")
    echo("that run ends as preempted: it can do nothing more, and cannot be resumed")
    return 0
