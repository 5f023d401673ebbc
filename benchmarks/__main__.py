"""``python -m benchmarks``: every figure beside its floor; ``--only NAME`` for one file's, again.

The engine and the modules are compiled first, as an installation does it, and children may write
what they compile: starting up is measured as people have it.
"""

from __future__ import annotations

import compileall
import importlib
import os
import pkgutil
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import click

import benchmarks
from benchmarks.figures import Figure

ROOT = Path(__file__).resolve().parent.parent


def files() -> dict[str, tuple[Callable[[], list[Figure]], ...]]:
    """The functions that measure, by the file that they are in (those with an `ALL`)."""
    found = {}
    for each in pkgutil.iter_modules(benchmarks.__path__):
        if each.name.startswith("_"):
            continue
        measures = getattr(importlib.import_module(f"benchmarks.{each.name}"), "ALL", None)
        if measures is not None:
            found[each.name] = tuple(measures)
    return found


def prepare() -> None:
    """Make this and all child processes those of a normal installation."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    sys.dont_write_bytecode = False
    for folder in ("engine", "modules"):
        compileall.compile_dir(ROOT / folder, quiet=1)


@click.command()
@click.option("--only", multiple=True, metavar="NAME", help="A file of figures; may be repeated.")
def main(only: Sequence[str]) -> None:
    """Measure, each figure against a floor measured in the same run."""
    found = files()
    for name in only:
        if name not in found:
            raise click.BadParameter(f"no '{name}'; there are: {', '.join(found)}")
    prepare()
    over = 0
    for name in only or found:
        click.echo(name)
        for measure in found[name]:
            for figure in measure():
                click.echo(f"  {figure}")
                over += figure.ratio > figure.goal
    if over:
        raise SystemExit(f"{over} figures are over their goal")


if __name__ == "__main__":
    main(prog_name="python -m benchmarks")
