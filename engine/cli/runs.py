"""``ce-run runs`` and ``ce-run show``: what runs there are, and what happened in one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from engine.cli.options import Workspace, color_option, json_option, run_argument, state_option
from engine.cli.terminal import columns, echo, echo_json
from engine.clock import SystemClock

if TYPE_CHECKING:
    from engine.report.overview import Overview
    from engine.report.words import Line


@click.command()
@click.option(
    "-n",
    "--number",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="How many of the latest runs.",
)
@click.option("--all", "every", is_flag=True, help="All of them.")
@state_option
@color_option
@json_option
def runs(number: int, every: bool, state: str | None, no_color: bool, output: str) -> None:
    """List the runs, newest first, and how they stand.

    A run whose process is gone is "dead, resumable"; one that waits for a person says at which
    step.

    \b
    Examples:
      ce-run runs
      ce-run runs --all --output json
    """
    from engine.cli.terminal import Writer
    from engine.report.overview import overview
    from engine.session import read_run

    workspace = Workspace(state)
    folders = workspace.store.runs()
    now = SystemClock().now()
    shown = folders if every else folders[:number]
    found = [overview(folder, read_run, now) for folder in shown]
    if output == "json":
        _print_json(found)
        return
    writer = Writer(no_color=no_color)
    writer.lines(_table(found, str(workspace.folder)))
    if len(shown) < len(folders):
        echo(f"and {len(folders) - len(shown)} older ones (--all)")


def _table(found: list[Overview], folder: str) -> list[Line]:
    from engine.report.words import Span, day_time, line, table, who
    from engine.units import took

    if not found:
        return [line(f"no runs in {folder}")]
    rows = [("RUN", "STATUS", "STARTED", "TOOK", "BY", "RUNBOOK")]
    for each in found:
        kind = f" ({_KINDS[each.mode]})" if each.mode in _KINDS else ""
        rows.append(
            (
                each.run,
                each.status + kind,
                day_time(each.started) if each.started else "-",
                took(each.seconds) if each.seconds is not None else "-",
                who(each.by) if each.by else "-",
                each.name or each.runbook or "-",
            )
        )
    head, *texts = table(rows)
    lines = [line(Span(head, "dim"))]
    for each, text in zip(found, texts, strict=True):
        start = len(each.run)
        while text[start : start + 1] == " ":
            start += 1
        end = start + len(each.status)
        lines.append(line(text[:start], Span(text[start:end], _style(each.status)), text[end:]))
    return lines


_KINDS = {"check": "check", "simulate": "simulated"}
"""What stands behind the status of a run that was not for real."""


def _style(status: str) -> Any:
    word = status.split(":")[0].split(",")[0]
    return {
        "succeeded": "good",
        "running": "name",
        "stopping": "warn",
        "failed": "bad",
        "a person must act": "bad",
        "preempted": "bad",
        "unreadable": "bad",
    }.get(word, "warn")


def _print_json(value: Any) -> None:
    import msgspec

    echo_json(msgspec.json.format(msgspec.json.encode(value), indent=2))


@click.command()
@run_argument
@click.option("--diff", is_flag=True, help="With the diff of every change.")
@click.option("--events", is_flag=True, help="The timeline: everything that happened, in order.")
@state_option
@color_option
@json_option
def show(
    run: str, diff: bool, events: bool, state: str | None, no_color: bool, output: str
) -> None:
    """Show a run, finished or under way: steps, what waits for whom, why it failed, what changed.

    RUN is an id, a part of one that fits no other, or `last`. With `--output json` all of it for
    programs; with `--events --output json` the journal's records, one a line.

    \b
    Examples:
      ce-run show last
      ce-run show 20260131-140509 --diff
      ce-run show last --events
      ce-run show last --output json
    """
    from engine.cli.terminal import Writer
    from engine.journal import encode
    from engine.report.gather import gather
    from engine.report.next_steps import advise
    from engine.report.showing import show as page
    from engine.report.showing import timeline
    from engine.session import read_run

    workspace = Workspace(state)
    folder = workspace.find(run)
    plan, now_state, records = read_run(folder)
    if events and output == "json":
        for record in records:
            echo_json(encode(record))
        return
    writer = Writer(no_color=no_color)
    if events:
        writer.lines(timeline(plan, records, diffs=diff))
        return
    facts = gather(plan, now_state, records, now=SystemClock().now(), alive=folder.alive())
    if output == "json":
        _print_json(facts)
        return
    advice = advise(facts, workspace.commands, options=folder.info().options)
    lines = page(facts, plan, advice, folder.place, diffs=diff, columns=columns())
    writer.lines(lines)
