"""PostgreSQL for modules: connections of the inventory, cancellation, errors in our words.

A connection lives as long as one action. The server knows it by its application name (run and
fencing token), stops its query when the task is cancelled or its time is up, and, should this
process die, notices within a second; a server that does not even answer is left by closing the
socket. `psycopg` is imported at first use.
"""

from __future__ import annotations

import contextlib
import datetime
import decimal
import math
import os
import re
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.module_api import ActionError, Context, Failed, Refused, TimedOut, Unreachable, is_local

if TYPE_CHECKING:
    import psycopg

CONNECT_TIMEOUT = 5
"""Seconds to wait for a server at most."""

_GRACE = 1.0
"""Seconds in which a cancelled query must have ended before its connection is cut."""

_OWN_KEYS = frozenset(("dsn", "bin", "backups", "maintenance"))


class Database:
    """An entry of the inventory's `sql`: how to reach a database, and where its tools are."""

    def __init__(self, name: str, entry: Mapping[str, Any]) -> None:
        from psycopg import ProgrammingError, conninfo

        self.name = name
        self.bin = str(entry.get("bin") or "")
        self.backups = str(entry.get("backups") or "")
        self.maintenance = str(entry.get("maintenance") or "postgres")
        given = {key: str(value) for key, value in entry.items() if key not in _OWN_KEYS}
        try:
            parsed = conninfo.conninfo_to_dict(str(entry.get("dsn") or ""), **given)
        except ProgrammingError as error:
            raise Refused(
                f"sql.{name} of the inventory is not a connection: {_first_line(error)}",
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


def database(ctx: Context, name: str) -> Database:
    """A connection by name; without one the only one there is, or ``primary``."""
    given = ctx.connection("sql")
    wanted = [name] if name in given else list(given)  # others may need secrets that are not here
    section = {key: entry for key in wanted if isinstance(entry := given[key], Mapping)}
    if not name:
        name = next(iter(section)) if len(section) == 1 else "primary"
    if name not in section:
        known = ", ".join(section) or "none"
        raise Refused(
            f"the inventory has no database {name!r} (it has: {known})",
            hint=f"add it: `sql: {{{name}: {{dsn: postgresql://…}}}}`",
        )
    found = Database(name, section[name])
    for key in ("password", "sslpassword"):
        if found.parameters.get(key):
            ctx.mask(found.parameters[key])
    _see_to_tls(ctx, found)
    return found


def _see_to_tls(ctx: Context, database: Database) -> None:
    """libpq verifies no certificate unless told so; here one has to be told not to.

    Without TLS are connections on this machine, and such of a service file, whose host is unknown.
    """
    given = database.parameters
    host = given.get("host") or given.get("hostaddr") or os.environ.get("PGHOST", "")
    if all(is_local(each) for each in host.split(",")):
        return
    mode = given.get("sslmode") or os.environ.get("PGSSLMODE")
    if not mode:
        given["sslmode"] = "verify-full"
        roots = Path("~/.postgresql/root.crt").expanduser()
        if "PGSSLROOTCERT" not in os.environ and not roots.exists():
            given.setdefault("sslrootcert", "system")
    elif not mode.startswith("verify-"):
        ctx.warn(
            f"the TLS certificate of the database {database} is not verified: sslmode={mode} of "
            f"`sql.{database.name}` says so"
        )


@contextlib.contextmanager
def connect(
    ctx: Context,
    database: Database,
    dbname: str = "",
    *,
    read_only: bool = False,
    patient: bool = False,
) -> Iterator[psycopg.Connection[Any]]:
    """A connection whose queries end with the task. It is in autocommit mode.

    Whatever psycopg raises in the block leaves it as one of the module's errors. A `patient` one
    works on whole databases: the server's own limits for statements, transactions and sessions
    that wait, made for applications, do not hold for it.
    """
    import psycopg

    timeout = ctx.remaining(at_most=CONNECT_TIMEOUT) or CONNECT_TIMEOUT
    with ctx.fence():
        pass  # a run that was taken over asks nothing, though reading alone harms nobody
    try:
        connection = psycopg.connect(
            database.conninfo(dbname),
            autocommit=True,
            connect_timeout=max(2, math.ceil(timeout)),
            application_name=_application(ctx),
            client_encoding="UTF8",  # what we send, whatever the database is kept in
        )
    except psycopg.Error as error:
        raise _not_connected(database, error) from None
    over = threading.Event()
    # Closing, not committing or rolling back: a server that hangs would hang us, too.
    with (
        contextlib.closing(connection),
        ctx.on_cancel(lambda: _cancel(connection, over)),
    ):
        try:
            _prepare(ctx, connection, read_only, patient)
            yield connection
        except psycopg.Error as error:
            ctx.checkpoint()  # if we cancelled it ourselves, that is what happened
            raise in_our_words(error, read_only=read_only) from None
        finally:
            over.set()


def _application(ctx: Context) -> str:
    return f"ce-run {ctx.run_id} token {ctx.identity().get('X-CE-Token', '0')}"[:63]


def _cancel(connection: psycopg.Connection[Any], over: threading.Event) -> None:
    """Stop the running query on its server; cut the connection if that does not end it."""
    import socket

    with contextlib.suppress(Exception):
        connection.cancel_safe(timeout=2)
    if not over.wait(_GRACE):
        with (
            contextlib.suppress(Exception),
            socket.socket(fileno=os.dup(connection.fileno())) as ours,
        ):
            ours.shutdown(socket.SHUT_RDWR)


def _prepare(
    ctx: Context, connection: psycopg.Connection[Any], read_only: bool, patient: bool
) -> None:
    version = connection.info.server_version
    settings = {
        "client_connection_check_interval": "1s",
        "idle_in_transaction_session_timeout": "0",
        "standard_conforming_strings": "on",  # scripts are cut into statements by that rule
    }
    if read_only:
        settings["default_transaction_read_only"] = "on"
    if patient:
        settings |= {"statement_timeout": "0", "lock_timeout": "0", "idle_session_timeout": "0"}
        if version >= 170000:
            settings["transaction_timeout"] = "0"
    left = ctx.remaining()
    if left is not None:
        settings["statement_timeout"] = f"{max(1, math.ceil(left * 1000))}ms"
    if version < 140000:
        for unknown in ("client_connection_check_interval", "idle_session_timeout"):
            settings.pop(unknown, None)
    connection.execute(
        "SELECT " + ", ".join("set_config(%s, %s, false)" for _ in settings),
        [word for pair in settings.items() for word in pair],
    )


# -- errors -------------------------------------------------------------------------------------
def _not_connected(database: Database, error: psycopg.Error) -> ActionError:
    words = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(words)
    if re.search(
        r"authentication failed|no password supplied|pg_hba|does not exist|permission denied"
        r"|certificate|invalid|unsupported|SSL",
        text,
    ):
        tls = "SSL" in text or "certificate" in text
        return Refused(
            f"the database {database} refused the connection",
            hint=f"check `sql.{database.name}` of the inventory"
            + (": `sslrootcert` names the authority, `sslmode` what is checked" if tls else ""),
            evidence=words,
        )
    return Unreachable(
        f"the database {database} cannot be reached",
        hint="does the server run, and are host and port right?",
        evidence=words,
    )


def in_our_words(error: psycopg.Error, *, read_only: bool = False) -> ActionError:
    """What a query's failure means to the run; `read_only` if we wanted to read alone."""
    import psycopg

    evidence = _evidence(error)
    state = error.sqlstate or ""
    if isinstance(error, psycopg.errors.QueryCanceled):
        return TimedOut("the query was stopped: its time was up", evidence=evidence)
    if state == "25006":
        return _takes_no_writes(read_only, evidence)
    if state == "25001":
        return Refused(
            f"the statement does not fit into this transaction: {_first_line(error)}",
            hint="a script is one transaction that begins with the ledger's row; run the statement "
            "with psql in a `shell` step",
            evidence=evidence,
        )
    if state == "42501":
        return Refused(_first_line(error), hint="grant it, or use another user", evidence=evidence)
    lost = isinstance(error, psycopg.OperationalError | psycopg.InterfaceError)
    if lost and (not state or state[:2] in ("08", "57", "53")) and state != "08P01":
        return Unreachable(f"the database broke off: {_first_line(error)}", evidence=evidence)
    if not state and isinstance(error, psycopg.ProgrammingError):
        return Failed(
            f"the statement cannot be sent: {_first_line(error)}",
            hint="with `params`, a % that stands for itself is written %%",
        )
    return Failed(f"the database says: {_first_line(error)}", evidence=evidence)


def _takes_no_writes(read_only: bool, evidence: list[str]) -> ActionError:
    if read_only:
        return Refused(
            "the query tries to write, but here only reading is allowed",
            hint="write with sql.script",
            evidence=evidence,
        )
    return Refused(
        "the database takes no writes now",
        hint="it is a replica, or somebody paused writes (default_transaction_read_only)",
        evidence=evidence,
    )


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n", 1)[0]


def _evidence(error: psycopg.Error) -> list[str]:
    diagnosis = error.diag
    parts = {
        "detail": diagnosis.message_detail,
        "hint": diagnosis.message_hint,
        "where": diagnosis.context,
    }
    first = f"{diagnosis.severity or 'ERROR'} {error.sqlstate or ''}: {_first_line(error)}"
    return [first, *(f"{name}: {text}" for name, text in parts.items() if text)]


# -- values -------------------------------------------------------------------------------------
def as_json(value: Any) -> Any:
    """A column's value as JSON: numbers as numbers, times in ISO 8601, the rest as text."""
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, decimal.Decimal):
        return _number(value)
    if isinstance(value, datetime.datetime | datetime.date | datetime.time):
        return value.isoformat()
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | memoryview):
        return f"\\x{bytes(value).hex()}"
    if isinstance(value, Mapping):
        return {str(key): as_json(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(one) for one in value]
    return str(value)


def _number(value: decimal.Decimal) -> int | float | str:
    """A number as JSON has it; as text what no float is large enough for."""
    if not value.is_finite():
        return str(value)
    if not math.isfinite(float(value)):
        return format(value, "f")
    return int(value) if value == value.to_integral_value() else float(value)
