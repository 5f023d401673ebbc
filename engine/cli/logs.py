"""``ce-run logs``: what a step's attempts wrote, all of them, and as they write it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from engine.cli.options import Workspace, run_argument, state_option, step_argument
from engine.cli.terminal import echo
from engine.clock import look_until
from engine.errors import UsageError

if TYPE_CHECKING:
    from engine.plan import Node, Plan
    from engine.state import RunState
    from engine.store import RunEntry

_POLL = 0.1
"""Seconds between two looks at a log that is being followed."""


@click.command()
@run_argument
@step_argument()
@click.option("-f", "--follow", is_flag=True, help="Go on until the step is over.")
@state_option
def logs(run: str, step: str, follow: bool, state: str | None) -> None:
    """Show what a step's attempts wrote: each attempt, its outcome, its log.

    A group shows the logs of all steps inside it.

    \b
    Examples:
      ce-run logs last canary/route
      ce-run logs last migrate -f
    """
    folder = Workspace(state).find(run)
    if follow:
        _follow(folder, step)
    else:
        _print_all(folder, step)


def _print_all(folder: RunEntry, step: str) -> None:
    from engine.session import read_run

    plan, state, records = read_run(folder)
    nodes = _nodes(plan, state, step)
    told = False
    for node in nodes:
        for lines in _attempts(folder, plan, node, records, state):
            told = True
            for each in lines:
                echo(each)
    if not told:
        echo(f"{step} has not been started")


def _nodes(plan: Plan, state: RunState, path: str) -> list[Node]:
    """The step, or the steps with an action inside a group."""
    from engine.text import did_you_mean

    if path not in plan.by_path:
        known = [node.path for node in state.walk() if node.step is not None]
        raise UsageError(f"this run has no step '{path}'", hint=did_you_mean(path, known))
    node = plan.node(path)
    inside = [node, *plan.below(node)] if node.is_group else [node]
    return [each for each in inside if not each.is_group or each.guards]


def _attempts(
    folder: RunEntry, plan: Plan, node: Node, records: object, state: RunState
) -> Iterator[list[str]]:
    """Heading and log of each attempt of a step, in the order they were made."""
    from engine.events import Record, TaskFinished, TaskStarted
    from engine.executor import log_stem
    from engine.report.failures import kind_words
    from engine.report.telling import task_name
    from engine.report.words import clock_time
    from engine.units import took

    assert isinstance(records, list)
    started: dict[tuple[int, int], Record] = {}
    ended: dict[tuple[int, int], Record] = {}
    for record in records:
        event = record.event
        if isinstance(event, TaskStarted | TaskFinished) and event.step == node.path:
            into = started if isinstance(event, TaskStarted) else ended
            into[event.task, event.attempt] = record
    for (task, attempt), record in started.items():
        name = task_name(node.path, state.task((node.index, task)).spec)
        head = f"--- {name}, attempt {attempt}, {clock_time(record.time)}"
        end = ended.get((task, attempt))
        lines: list[str] = []
        if end is None:
            head += ", no outcome yet"
        else:
            finished = end.event
            assert isinstance(finished, TaskFinished)
            head += f", {finished.status} after {took(end.time - record.time)}"
            if finished.failure is not None:
                lines.append(f"    {kind_words(finished.failure)}")
            elif finished.message:
                lines.append(f"    {finished.message}")
        stem = log_stem(node.path, task, attempt)
        yield [head, *lines, *_log_lines(folder, stem)]
    prefix = log_stem(node.path, 0, 0).rsplit(".", 2)[0]
    for name in folder.log_names():
        if name.startswith(f"{prefix}.") and ".guard-" in name:
            yield [f"--- {node.path}, {name.rsplit('.', 1)[-1]}", *_lines(folder, name)]


def _log_lines(folder: RunEntry, name: str) -> list[str]:
    """The log of an attempt, and the names of what else it kept."""
    return _lines(folder, name) + [f"    also: {each}" for each in folder.captures(name)]


def _lines(folder: RunEntry, name: str) -> list[str]:
    text = folder.read_log(name).decode("utf-8", errors="replace")
    return text.removesuffix("\n").split("\n") if text else []


# -- following ----------------------------------------------------------------------------------
def _follow(folder: RunEntry, step: str) -> None:
    """Print what there is, then what comes, until the step is over or nobody carries the run."""
    from engine.session import read_run
    from engine.state import FINAL

    seen: dict[str, int] = {}
    while True:
        alive = folder.alive()
        plan, state, _ = read_run(folder)
        nodes = _nodes(plan, state, step)
        over = state.status(plan.node(step)) in FINAL
        for node in nodes:
            _print_new(folder, node.path, seen)
        if over or not alive:
            return
        _wait_for_more(folder)


def _wait_for_more(folder: RunEntry) -> None:
    """Until the journal or a log grows, or something new appears."""
    before = folder.size()
    look_until(lambda: not folder.alive() or folder.size() != before, math.inf, every=_POLL)


def _print_new(folder: RunEntry, path: str, seen: dict[str, int]) -> None:
    from engine.executor import log_stem

    prefix = log_stem(path, 0, 0).rsplit(".", 2)[0]
    for name in folder.log_names():
        if not name.startswith(f"{prefix}.") or "~" in name[len(prefix) :]:
            continue
        if name not in seen:
            echo(f"--- {name.replace('~', '/')}")
        start = seen.get(name, 0)
        data = folder.read_log(name, start)
        end = data.rfind(b"\n") + 1
        if end:
            echo(data[: end - 1].decode(errors="replace"))
        seen[name] = start + end
