"""``ce-run graph``: a runbook as a picture, with the chain of steps that decides how long it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from engine.cli.options import (
    Workspace,
    color_option,
    inventory_option,
    modules_option,
    state_option,
)
from engine.cli.terminal import echo

if TYPE_CHECKING:
    from engine.cli.drawing.times import Times

FORMATS = ("text", "mermaid", "dot", "svg")


@click.command()
@click.argument("runbook", metavar="RUNBOOK", type=click.Path())
@click.option(
    "--format",
    "kind",
    type=click.Choice(FORMATS),
    default="text",
    show_default=True,
    help="For people, for a page, for Graphviz, or as a picture.",
)
@click.option("--run", "former", metavar="RUN", help="Take times from this run (or `last`).")
@click.option(
    "--depth",
    type=click.IntRange(1),
    help="Levels of groups that the SVG shows open.  [default: as many as are readable]",
)
@click.option("-o", "--out", metavar="PATH", type=click.Path(), help="Write to this file.")
@inventory_option
@modules_option
@state_option
@color_option
def graph(
    runbook: str,
    kind: str,
    former: str | None,
    depth: int | None,
    out: str | None,
    inventories: tuple[str, ...],
    modules: tuple[str, ...],
    state: str | None,
    no_color: bool,
) -> None:
    """Draw a runbook: what runs after what, what runs at the same time, the critical path.

    Times come from waits, soaks, timeouts and budgets; with --run they are those of a former run.
    The SVG is one file without scripts, for light and dark pages.

    \b
    Examples:
      ce-run graph runbooks/deploy-5.1.yml
      ce-run graph runbooks/deploy-5.1.yml --format svg -o deploy.svg
      ce-run graph runbooks/deploy-5.1.yml --run last
      ce-run graph runbooks/deploy-5.1.yml --format dot | dot -Tpng -o deploy.png
    """
    times = _times(runbook, inventories, modules, former, state)
    if kind == "text" and out is None:
        from engine.cli.drawing.text import draw_text
        from engine.cli.terminal import Writer

        Writer(no_color=no_color).lines(draw_text(times.plan, times))
    elif out is None:
        echo(_draw(kind, times, depth).removesuffix("\n"))
    else:
        _write(out, _draw(kind, times, depth))


def _write(path: str, text: str) -> None:
    from pathlib import Path

    from engine.errors import UsageError

    try:
        Path(path).write_text(text, encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{path} cannot be written: {error.strerror or error}") from error


def _times(
    runbook: str,
    inventories: tuple[str, ...],
    modules: tuple[str, ...],
    former: str | None,
    state: str | None,
) -> Times:
    from engine.cli.drawing.times import measured_times, planned_times
    from engine.loader import load
    from engine.plan import build_plan
    from engine.registry import Registry

    loaded, where = load(
        runbook,
        registry=Registry(imports=False),
        more_inventories=inventories,
        modules_dirs=modules,
    )
    plan = build_plan(loaded)
    if former is None:
        return planned_times(plan, where)
    from engine.session import read_run

    _, seen, _ = read_run(Workspace(state).find(former))
    return measured_times(plan, seen)


def _draw(kind: str, times: Times, depth: int | None) -> str:
    """The picture as text, with nothing in it that is not to be seen."""
    from engine.report.encoding import visible_lines

    return visible_lines(_drawn(kind, times, depth))


def _drawn(kind: str, times: Times, depth: int | None) -> str:
    if kind == "text":
        from engine.cli.drawing.text import draw_text
        from engine.report.words import text_of

        return "".join(f"{text_of(each)}\n" for each in draw_text(times.plan, times))
    if kind == "mermaid":
        from engine.cli.drawing.mermaid import draw_mermaid

        return draw_mermaid(times.plan, times)
    if kind == "dot":
        from engine.cli.drawing.dot import draw_dot

        return draw_dot(times.plan, times)
    from engine.cli.drawing.svg import draw_svg

    return draw_svg(times.plan, times, depth)
