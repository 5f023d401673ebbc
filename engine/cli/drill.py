"""``ce-run drill``: scenarios, played in a simulated world and judged by what was expected."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from engine.cli.options import color_option, inventory_option, json_option, state_option

if TYPE_CHECKING:
    from engine.drill import Played


def _print_schema(ctx: click.Context, param: click.Parameter, wanted: bool) -> None:
    """``--schema``: whatever else was said."""
    if not wanted:
        return
    from engine.cli.terminal import echo_json
    from engine.drill import Scenario
    from engine.loader.structures import schema_of

    echo_json(json.dumps(schema_of(Scenario), indent=2))
    ctx.exit()


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path())
@inventory_option
@click.option("--case", default="", metavar="TEXT", help="Only cases with this in their name.")
@click.option(
    "-j",
    "--jobs",
    type=click.IntRange(1, 64),
    default=None,
    help="Drills that are played at the same time.  [default: one for each core]",
)
@click.option("--junit", metavar="FILE", type=click.Path(), help="Also write JUnit XML.")
@click.option("--list", "listed", is_flag=True, help="List the drills; play none.")
@click.option(
    "--schema",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_schema,
    help="Print the JSON schema of scenarios, for editors.",
)
@click.option("-v", "--verbose", is_flag=True, help="Also tell what happened, and when.")
@state_option
@color_option
@json_option
def drill(
    files: tuple[str, ...],
    inventories: tuple[str, ...],
    case: str,
    jobs: int | None,
    junit: str | None,
    listed: bool,
    state: str | None,
    **shown: Any,
) -> int:
    """Play drills: a world, what goes wrong in it, and what is expected of the runbook.

    Nothing real is touched, and hours take seconds. Each expectation is told as met or not, with
    what was measured. What the drills' runs did is kept like that of any run, below `drills` of
    the state folder. Exit status: 0 when every expectation was met, 1 otherwise, 2 for a scenario
    that cannot be played.

    \b
    Examples:
      ce-run drill runbooks/drills/*.yml
      ce-run drill runbooks/drills/automatic-rollback.yml --case "error rate" -v
      ce-run drill runbooks/drills/*.yml --junit drills.xml
    """
    from engine.cli.terminal import echo

    if len(inventories) > 1:
        raise click.UsageError("a drill takes one inventory")
    inventory = inventories[0] if inventories else None
    chosen = _chosen(files, inventory, case)
    if listed:
        for _, _, name in chosen:
            echo(name)
        return 0
    folder = _state(state, files[0])
    telling = _Telling(folder, junit, **shown)
    for one in _play_all(chosen, inventory, folder, jobs or os.cpu_count() or 1):
        telling.add(one)
    return telling.end()


Chosen = tuple[str, int, str]
"""A drill: its file, which case of it, and its name."""


def _chosen(files: tuple[str, ...], inventory: str | None, case: str) -> list[Chosen]:
    """The drills of the files, all of them checked. Raises InvalidRunbook with all problems."""
    from engine.drill import read_drills
    from engine.errors import InvalidRunbook, UsageError

    problems, chosen = [], []
    for file in files:
        try:
            drills = read_drills(Path(file), inventory)
        except InvalidRunbook as error:
            problems += error.problems
            continue
        chosen += [
            (file, number, each.name)
            for number, each in enumerate(drills)
            if case.lower() in each.name.lower()
        ]
    if problems:
        raise InvalidRunbook(problems)
    if not chosen:
        raise UsageError(f"no drill has '{case}' in its name", hint="--list tells their names")
    return chosen


def _state(state: str | None, first: str) -> Path:
    """Where the drills' runs are kept: apart from those of the real production."""
    from engine.store import state_folder

    return state_folder(state, Path(first)) / "drills"


def _play_all(chosen: list[Chosen], inventory: str | None, folder: Path, jobs: int) -> Any:
    """What became of each drill, in their order, as soon as it is known."""
    tasks = [(file, number, inventory, str(folder)) for file, number, _ in chosen]
    if jobs == 1 or len(tasks) == 1:
        yield from map(_play, tasks)
        return
    import multiprocessing

    with multiprocessing.get_context("spawn").Pool(min(jobs, len(tasks))) as pool:
        yield from pool.imap(_play, tasks)


def _play(task: tuple[str, int, str | None, str]) -> Played:
    """Play one drill, perhaps in a process of its own."""
    from engine.drill import play, read_drills

    file, number, inventory, folder = task
    return play(read_drills(Path(file), inventory)[number], Path(folder), inventory)


class _Telling:
    """What is told of the drills, one after the other and as a whole."""

    def __init__(
        self, folder: Path, junit: str | None, output: str, no_color: bool, verbose: bool
    ) -> None:
        from engine.cli.terminal import Writer

        self._folder = folder
        self._junit = Path(junit) if junit is not None else None
        self._plain = output == "plain"
        self._verbose = verbose
        self._writer = Writer(no_color=no_color)
        self._played: list[Played] = []
        if self._junit is not None and not self._junit.absolute().parent.is_dir():
            raise click.UsageError(f"--junit: there is no folder {self._junit.absolute().parent}")

    def add(self, one: Played) -> None:
        """Tell of a drill that was played."""
        from engine.drill.show import drill_lines

        self._played.append(one)
        if self._plain:
            self._writer.lines(drill_lines(one, self._verbose))

    def end(self) -> int:
        """Tell of all of them, write the report; the exit status."""
        from engine.cli.terminal import echo_json
        from engine.drill.show import play_data

        if self._junit is not None:
            from engine.drill.junit import junit_xml

            self._junit.write_text(junit_xml(self._played), encoding="utf-8")
        if self._plain:
            self._tell_whole()
        else:
            drills = [play_data(each) for each in self._played]
            echo_json(json.dumps({"drills": drills}, indent=2))
        return 0 if all(each.passed for each in self._played) else 1

    def _tell_whole(self) -> None:
        from engine.report.words import Span, line
        from engine.units import count

        failed = sum(not each.passed for each in self._played)
        said = f"{count(len(self._played), 'drill')}: {len(self._played) - failed} passed"
        if failed:
            said += f", {failed} failed"
        self._writer.lines(
            [
                line(""),
                line(Span(said, "bad" if failed else "good")),
                line(Span(f"their runs: ce-run runs --state {self._folder}", "dim")),
            ]
        )
