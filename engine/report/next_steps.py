"""What a person can do next with a run: exact commands, and what each is for."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from engine.report.facts import RunFacts
from engine.report.words import Line, Span, line, pad, width

_PREEMPTS = re.compile(r"^preempts:\s*(true|yes|on)\b", re.MULTILINE)
_MOST_SCANNED = 64
_MOST_BYTES = 1 << 20


class Advice(NamedTuple):
    """A command and what it is for."""

    command: str
    why: str


class CommandLines:
    """Spells commands that work where the reader is: with ``--state`` if it had to be given."""

    def __init__(self, state_option: str | None = None, program: str = "ce-run") -> None:
        self._program = program
        self._tail = ["--state", state_option] if state_option else []

    def spell(self, *words: str) -> str:
        """The command line of ``ce-run`` with these words."""
        return shlex.join([self._program, *words, *self._tail])


def program(called: str) -> str:
    """How a shell finds the program that was called so: by its name, or by where it lies.

    `make deploy` calls ``.venv/bin/ce-run``, which the reader's PATH does not know.
    """
    path = Path(called)
    if path.name != "ce-run" or not path.is_file():
        return "ce-run"
    found = shutil.which("ce-run")
    if found is not None and path.samefile(found):
        return "ce-run"
    whole = path.absolute()
    here = Path.cwd()
    return str(whole.relative_to(here) if whole.is_relative_to(here) else whole)


def _inventories(options: Mapping[str, Any]) -> list[str]:
    """``-i`` for every inventory that was given."""
    first = [options["inventory"]] if options.get("inventory") else []
    return [w for each in (*first, *options.get("more_inventories", ())) for w in ("-i", each)]


def start_words(runbook: str, options: Mapping[str, Any]) -> list[str]:
    """The words after ``ce-run`` that start such a run again."""
    words = [runbook]
    words += _inventories(options)
    for name, value in (options.get("extra") or {}).items():
        words += ["-e", f"{name}={value}"]
    for option in ("tags", "skip_tags"):
        if options.get(option):
            words += [f"--{option.replace('_', '-')}", ",".join(options[option])]
    if options.get("limit"):
        words += ["--limit", options["limit"]]
    return words


def advise(
    facts: RunFacts,
    commands: CommandLines,
    *,
    options: Mapping[str, Any] | None = None,
) -> list[Advice]:
    """What to run next, the likeliest first."""
    if facts.mode == "simulate":
        return _rehearse(facts, commands, options or {})
    advice = _ADVICE[facts.status](facts, commands, options or {})
    if facts.forced and not facts.reason:
        tell = commands.spell("reason", facts.run, "WHY")
        advice = [*advice, Advice(tell, "tell why it was forced; kept in the journal")]
    show = Advice(commands.spell("show", facts.run), "what happened, step by step")
    return advice if any(each.command == show.command for each in advice) else [*advice, show]


def _rehearse(facts: RunFacts, commands: CommandLines, options: Mapping[str, Any]) -> list[Advice]:
    """After a simulated run there is nothing to go on with, and nothing to take back."""
    show = Advice(commands.spell("show", facts.run), "what happened, step by step")
    anew = commands.spell(*start_words(facts.runbook, options), "--simulate")
    return [*_last_words(facts, commands), show, Advice(anew, "rehearse it anew")]


def _last_words(facts: RunFacts, commands: CommandLines) -> list[Advice]:
    """The log of the step that failed last; only an attempt writes one."""
    causes = [failure for failure in facts.failures if not failure.final]
    where = causes[-1].step if causes else ""
    if not any(each.path == where and each.attempts for each in facts.steps):
        return []
    return [Advice(commands.spell("logs", facts.run, where), f"what {where} said")]


def _running(facts: RunFacts, commands: CommandLines, options: Mapping[str, Any]) -> list[Advice]:
    return [Advice(commands.spell("stop", facts.run), "interrupt it; it can be resumed")]


def _waiting(facts: RunFacts, commands: CommandLines, options: Mapping[str, Any]) -> list[Advice]:
    run = facts.run
    advice = []
    for gate in facts.gates:
        words = (run, gate.step, *(("--tick", "all") if gate.checklist else ()))
        advice.append(Advice(commands.spell("approve", *words), "say yes (`reject` says no)"))
    advice += _decide(facts, commands)
    if facts.gates and not facts.doubts:
        advice.append(Advice(commands.spell("resume", run), "go on after the answer"))
    return advice


def _interrupted(
    facts: RunFacts, commands: CommandLines, options: Mapping[str, Any]
) -> list[Advice]:
    run = facts.run
    back = commands.spell("resume", run, "--rescue", "--reason", "WHY")
    return [
        Advice(commands.spell("resume", run), "go on from where it was"),
        *_decide(facts, commands),
        Advice(back, "or give it up: run its rescue or undo"),
    ]


def _decide(facts: RunFacts, commands: CommandLines) -> list[Advice]:
    advice = []
    for step in facts.doubts:
        redo = commands.spell("resume", facts.run, "--redo", step)
        done = commands.spell("resume", facts.run, "--done", step)
        advice.append(Advice(redo, f"{step} did not happen: do it again"))
        advice.append(Advice(done, f"{step} did happen: take it as done"))
    return advice


def _failed(facts: RunFacts, commands: CommandLines, options: Mapping[str, Any]) -> list[Advice]:
    run = facts.run
    found = _last_words(facts, commands)
    for step in facts.reopenable[:3]:
        redo = commands.spell("resume", run, "--redo", step)
        found.append(Advice(redo, "once the cause is gone: try it again and go on"))
    for step in facts.reopenable[:1]:
        skip = commands.spell("resume", run, "--skip", step, "--reason", "WHY")
        found.append(Advice(skip, "or go on without it"))
    if not facts.check:
        found += _rollbacks(facts, commands, options)
    if not facts.reopenable:
        found.append(_anew(facts, commands, options))
    return found


def _anew(facts: RunFacts, commands: CommandLines, options: Mapping[str, Any]) -> Advice:
    words = start_words(facts.runbook, options)
    if facts.forced:
        words += ["--force", "--reason", facts.reason or "WHY"]
    return Advice(commands.spell(*words), "once the cause is gone: start anew")


def _rollbacks(facts: RunFacts, commands: CommandLines, options: Mapping[str, Any]) -> list[Advice]:
    if facts.status in ("rescued", "undone") or not facts.effects:
        return []
    return _spelled(rollbacks_beside(Path(facts.runbook)), commands, options, "roll back")


def _spelled(
    rollbacks: Sequence[str], commands: CommandLines, options: Mapping[str, Any], why: str
) -> list[Advice]:
    found = []
    for file in rollbacks:
        words = [file]
        words += _inventories(options)
        words += ["--force", "--reason", "WHY"]
        found.append(Advice(commands.spell(*words), why))
    return found


def rollbacks_beside(runbook: Path) -> Sequence[str]:
    """Runbooks in the same folder that take over from others (``preempts: true``)."""
    try:
        beside = sorted(runbook.parent.glob("*.y*ml"))[:_MOST_SCANNED]
    except OSError:
        return []
    others = (path for path in beside if path.name != runbook.name)
    return [str(path) for path in others if _PREEMPTS.search(_text(path))]


def _text(path: Path) -> str:
    """What a file says; nothing if it is none, cannot be read, or is too long to be a runbook.

    Whatever lies in a folder is somebody else's: a pipe must not be waited for.
    """
    try:
        file = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        return ""
    try:
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MOST_BYTES:
            return ""
        return os.read(file, _MOST_BYTES).decode("utf-8", errors="replace")
    except OSError:
        return ""
    finally:
        os.close(file)


def _own_rollbacks(runbook: Path) -> Sequence[str]:
    """Of the rollbacks beside a runbook those that it names itself."""
    text = _text(runbook)
    return [file for file in rollbacks_beside(runbook) if Path(file).name in text]


def _preempted(facts: RunFacts, commands: CommandLines, options: Mapping[str, Any]) -> list[Advice]:
    return [
        Advice(commands.spell("locks"), "who has taken over"),
        Advice(
            commands.spell(*start_words(facts.runbook, options)),
            "once that is over: start anew (a preempted run cannot be resumed)",
        ),
    ]


def _succeeded(facts: RunFacts, commands: CommandLines, options: Mapping[str, Any]) -> list[Advice]:
    if facts.check:
        words = start_words(facts.runbook, options)
        return [Advice(commands.spell(*words), "do it for real")]
    return _spelled(_own_rollbacks(Path(facts.runbook)), commands, options, "if it has to go back")


_ADVICE = {
    "running": _running,
    "stopping": _running,
    "dead": _interrupted,
    "waiting": _waiting,
    "interrupted": _interrupted,
    "preempted": _preempted,
    "succeeded": _succeeded,
    "failed": _failed,
    "rescued": _failed,
    "undone": _failed,
    "needs_person": _failed,
}


# -- as lines -------------------------------------------------------------------------------------
_WIDEST = 76


def advice_lines(advice: Sequence[Advice], columns: int | None = None) -> list[Line]:
    """Commands, each with what it is for on the same line where there is room.

    On a terminal of so many columns a longer one is continued on the next line, between words and
    as a shell reads it, so that it can be copied.
    """
    widest = _WIDEST if columns is None else min(_WIDEST, columns)
    longest = max((width(e.command) for e in advice if width(e.command) <= widest), default=0)
    lines: list[Line] = []
    for each in advice:
        why = Span(f"# {each.why}", "dim")
        fits = width(each.command) <= longest
        whole = longest if fits else width(each.command)
        if columns is None or whole + width(why.text) + 4 <= columns:
            lines.append(line("  ", Span(pad(each.command, whole), "name"), "  ", why))
            continue
        lines.append(line("  ", why))
        lines += [line("  ", Span(row, "name")) for row in _continued(each.command, columns - 2)]
    return lines


def _continued(command: str, columns: int) -> list[str]:
    """A command over lines of at most so many columns, as far as its words allow."""
    rows = [""]
    for word in map(shlex.quote, shlex.split(command)):
        row = f"{rows[-1]} {word}" if rows[-1] else word
        if rows[-1].strip() and width(row) > columns - 2:
            rows[-1] += " \\"
            row = f"    {word}"
            rows.append(row)
        else:
            rows[-1] = row
    return rows
