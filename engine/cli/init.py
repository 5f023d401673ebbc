"""``ce-run init``: a first project, with a runbook that works at once and tells what to try."""

from __future__ import annotations

import os
from pathlib import Path

import click

from engine.cli.terminal import echo

STARTER = Path(__file__).with_name("starter")

PLACES = {
    "runbooks/release.yml": "runbooks/release.yml",
    "runbooks/site/version": "runbooks/site/version",
    "inventories/local.yml": "inventories/local.yml",
    "workflows/runbooks.yml": ".github/workflows/runbooks.yml",
    "gitignore": ".gitignore",
}
"""Files of the starter, and where they go in a project."""


@click.command()
@click.argument("folder", default=".", type=click.Path(file_okay=False, path_type=Path))
def init(folder: Path) -> None:
    """Start a project: a runbook, an inventory and a check for CI.

    FOLDER is made if it is not there; default: the working folder. Files that are there already are
    never changed: then nothing is written.

    \b
    Examples:
      ce-run init
      ce-run init my-runbooks
    """
    places = dict(PLACES)
    if os.path.lexists(folder / ".gitignore"):  # most projects have one, and it is theirs
        del places["gitignore"]
    there = [place for place in places.values() if os.path.lexists(folder / place)]
    if there:
        raise click.ClickException(
            f"there already: {', '.join(str(folder / place) for place in there)}; nothing was "
            "written; name an empty folder: ce-run init FOLDER"
        )
    try:
        for source, place in places.items():
            _write(folder / place, (STARTER / source).read_text(encoding="utf-8"))
            echo(f"wrote {folder / place}")
    except OSError as error:
        raise click.ClickException(
            f"{error.filename or folder} cannot be written: {error.strerror or error}"
        ) from error
    if "gitignore" not in places:
        echo(f"{folder / '.gitignore'} is left as it is: add .ce-run/ to it")
    echo("\nNext:")
    if folder != Path():
        echo(f"  cd {folder}")
    echo("  ce-run validate runbooks/release.yml")
    echo("  ce-run runbooks/release.yml --check --diff")
    echo("  ce-run runbooks/release.yml")


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("x", encoding="utf-8") as file:  # never over what came meanwhile
        file.write(text)
