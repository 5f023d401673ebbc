"""The inventory's `sql` section: how a database is reached, and where its tools and backups are."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from engine.module_api import Context, Name, Refused, is_local
from modules._pg import failures as pg_failures

DatabaseName = Annotated[str, Name("sql", "database", "primary")]
"""Which entry of the inventory's `sql`; the only one, or ``primary``, where none is named."""

_OWN_KEYS = frozenset(("dsn", "bin", "backups", "maintenance"))


class Database:
    """An entry of the inventory's `sql`; Refused where it is no connection."""

    def __init__(self, name: str, entry: Mapping[str, Any]) -> None:
        from psycopg import ProgrammingError, conninfo

        self.name = name
        self.bin = str(entry.get("bin") or "")
        self.backups = str(entry.get("backups") or "")
        self.maintenance = str(entry.get("maintenance") or "postgres")
        parameters = {
            key: str(value)
            for key, value in entry.items()
            if key not in _OWN_KEYS and value is not None
        }
        try:
            parsed = conninfo.conninfo_to_dict(str(entry.get("dsn") or ""), **parameters)
        except ProgrammingError as error:
            raise Refused(
                f"sql.{name} of the inventory is not a connection: {pg_failures.first_line(error)}",
                hint="give a `dsn`, or libpq's parameters: host, port, dbname, user, sslmode, ...",
            ) from None
        self.parameters: dict[str, str] = {key: str(value) for key, value in parsed.items()}
        self.dbname = self.parameters.get("dbname") or self.parameters.get("user") or ""

    def conninfo(self, dbname: str = "") -> str:
        """A connection string, for another database of the same server if one is named."""
        from psycopg.conninfo import make_conninfo

        chosen = {**self.parameters, **({"dbname": dbname} if dbname else {})}
        return make_conninfo("", **chosen)

    def __str__(self) -> str:
        where = self.parameters.get("host") or self.parameters.get("hostaddr") or "local socket"
        port = self.parameters.get("port")
        return f"{self.dbname} at {where}{f':{port}' if port else ''}"


def lookup(ctx: Context, name: str) -> Database:
    """A connection by name; without one the only one there is, or ``primary``."""
    section = ctx.connection("sql")
    if not name:
        name = next(iter(section)) if len(section) == 1 else "primary"
    if name not in section:
        known = ", ".join(section) or "none"
        raise Refused(
            f"the inventory has no database {name!r} (it has: {known})",
            hint=f"add it: `sql: {{{name}: {{dsn: postgresql://…}}}}`",
        )
    entry = section[name]  # of this one alone: others may need secrets that are not here
    if not isinstance(entry, Mapping):
        raise Refused(
            f"sql.{name} of the inventory must be a mapping, not {type(entry).__name__}",
            hint=f"write `sql: {{{name}: {{dsn: postgresql://…}}}}`",
        )
    database = Database(name, entry)
    for key in ("password", "sslpassword"):
        if database.parameters.get(key):
            ctx.mask(database.parameters[key])
    _see_to_tls(ctx, database)
    return database


def _see_to_tls(ctx: Context, database: Database) -> None:
    """libpq verifies no certificate unless told so; here one has to be told not to.

    Without TLS are connections on this machine, and such of a service file, whose host is unknown.
    """
    parameters = database.parameters
    host = parameters.get("host") or parameters.get("hostaddr") or os.environ.get("PGHOST", "")
    if all(is_local(each) for each in host.split(",")):
        return
    mode = parameters.get("sslmode") or os.environ.get("PGSSLMODE")
    if not mode:
        parameters["sslmode"] = "verify-full"
        roots = Path("~/.postgresql/root.crt").expanduser()
        if "PGSSLROOTCERT" not in os.environ and not roots.exists():
            parameters.setdefault("sslrootcert", "system")
    elif not mode.startswith("verify-"):
        ctx.warn(
            f"the TLS certificate of the database {database} is not verified: sslmode={mode} of "
            f"`sql.{database.name}` says so"
        )
