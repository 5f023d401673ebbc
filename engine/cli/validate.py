"""``ce-run validate``: everything that is wrong, before anything runs."""

from __future__ import annotations

import gc
import json
from typing import TYPE_CHECKING, Any

import click

from engine.cli.options import inventory_option, json_option, modules_option

if TYPE_CHECKING:
    from engine.model import Block


@click.command()
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path())
@inventory_option
@modules_option
@json_option
def validate(
    files: tuple[str, ...], inventories: tuple[str, ...], modules: tuple[str, ...], output: str
) -> int:
    """Check runbooks, and the inventories they name, without running them.

    Each problem is told with its file, line and column, the source line, and the nearest valid
    name; all of them, not the first. Exit status: 0 when every FILE is fine, 2 otherwise.

    \b
    Examples:
      ce-run validate runbooks/deploy-5.1.yml
      ce-run validate runbooks/*.yml -i inventories/staging.yml
      ce-run validate runbooks/*.yml --output json
    """
    from engine.cli.terminal import echo_json

    gc.disable()  # nothing that a short process builds is garbage: a tenth of its time
    try:
        results = [_check(file, inventories, modules) for file in files]
        if output == "json":
            echo_json(json.dumps({"files": [_plain(each) for each in results]}, indent=2))
        else:
            _tell(results)
    finally:
        gc.enable()
    return 2 if any(each["problems"] for each in results) else 0


def _check(file: str, inventories: tuple[str, ...], modules: tuple[str, ...]) -> dict[str, Any]:
    """What there is to say about one file."""
    from engine.errors import InvalidRunbook
    from engine.loader import load
    from engine.registry import Registry

    try:
        runbook, _ = load(
            file,
            registry=Registry(imports=False),
            more_inventories=inventories,
            modules_dirs=modules,
        )
    except InvalidRunbook as error:
        return {"file": file, "ok": False, "steps": None, "problems": error.problems}
    blocks = (runbook.block, runbook.rescue, runbook.always)
    steps = sum(_steps_in(block) for block in blocks)
    return {"file": file, "ok": True, "name": runbook.name, "steps": steps, "problems": []}


def _steps_in(block: Block | None) -> int:
    """Steps with an action, at every depth, those in rescue, undo and always included."""
    if block is None:
        return 0
    return sum(
        (step.block is None)
        + sum(_steps_in(inner) for inner in (step.block, step.undo, step.rescue, step.always))
        for step in block.steps
    )


def _plain(result: dict[str, Any]) -> dict[str, Any]:
    from engine.cli.problems import problem_data

    return {**result, "problems": [problem_data(each) for each in result["problems"]]}


def _tell(results: list[dict[str, Any]]) -> None:
    from engine.cli.problems import tell_problem
    from engine.cli.terminal import Writer
    from engine.report.words import Span, line
    from engine.units import count

    writer = Writer()
    told = set()
    for result in results:
        if result["ok"]:
            said = f": ok, {count(result['steps'], 'step')}"
            writer.lines([line(result["file"], Span(said, "good"))])
        for problem in result["problems"]:
            if str(problem) in told:  # two runbooks may share a file that is wrong
                continue
            told.add(str(problem))
            tell_problem(writer, problem)
    problems = len(told)
    if problems:
        files = sum(not each["ok"] for each in results)
        said = f"{count(problems, 'problem')} in {count(files, 'file')}"
        writer.lines([line(Span(said, "bad"))])
