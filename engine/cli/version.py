"""``ce-run version``."""

from __future__ import annotations

import click

from engine import VERSION


@click.command()
def version() -> None:
    """Show the version.

    The same as `ce-run --version`, which is quick enough for scripts to ask every time.

    \b
    Examples:
      ce-run version
    """
    click.echo(f"ce-run {VERSION}")
