"""Connections to PostgreSQL: their time, their cancellation, and what they leave behind: nothing.

A connection lives as long as one action. The server knows it by its application name (run and
fencing token), stops its query when the task is cancelled or its time is up, and, should this
process die, notices within a second; a server that does not even answer is left by closing the
socket.

The session behind it may be a pooler's, which lends it to an application a moment later. So
`connect` changes nothing in it: our settings hold for a transaction (`begin`) and end with it.
What needs a session of its own, because it outlasts a transaction or because other programs work
in it, takes `session`, which refuses a pooler. `psycopg` is imported at first use.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from engine.module_api import Context, Refused
from modules._pg import failures as pg_failures
from modules._pg.database import Database

if TYPE_CHECKING:
    import psycopg
    from psycopg.sql import Composed

CONNECT_TIMEOUT = 5
"""Seconds to wait for a server at most."""

_GRACE = 1.0
"""Seconds in which a cancelled query must have ended before its connection is cut."""

READ_ONLY = "READ ONLY"
SNAPSHOT = "ISOLATION LEVEL REPEATABLE READ READ ONLY"
"""Transactions that only read; of the second all statements see the same."""


@contextlib.contextmanager
def connect(
    ctx: Context, database: Database, dbname: str = "", *, read_only: bool = False
) -> Iterator[psycopg.Connection[Any]]:
    """A connection whose queries end with the task. It is in autocommit mode, with no settings.

    Whatever psycopg raises in the block leaves it as one of the module's errors; with `read_only`
    they say that a write was not meant to be. An open transaction is rolled back at the end.
    """
    import psycopg

    connection = _open(ctx, database, dbname)
    over = threading.Event()
    with (
        contextlib.closing(connection),
        ctx.on_cancel(lambda: _cancel(connection, over)),
    ):
        try:
            yield connection
        except psycopg.Error as error:
            ctx.checkpoint()  # if we cancelled it ourselves, that is what happened
            raise pg_failures.in_our_words(error, read_only=read_only) from None
        except UnicodeEncodeError as error:
            raise Refused(
                "a text for the database is not valid Unicode (it has half a surrogate pair)",
                evidence=[ascii(error.object)[:200]],
            ) from None
        finally:
            _leave(connection)
            over.set()


def _open(ctx: Context, database: Database, dbname: str) -> psycopg.Connection[Any]:
    import psycopg

    timeout = ctx.remaining(at_most=CONNECT_TIMEOUT) or CONNECT_TIMEOUT
    with ctx.fence():
        pass  # a run that was taken over asks nothing, though reading alone harms nobody
    try:
        return psycopg.connect(
            database.conninfo(dbname),
            autocommit=True,
            # A statement that psycopg prepared by itself would stay in a pooler's session, where
            # the next program's has the same name.
            prepare_threshold=None,
            connect_timeout=max(2, math.ceil(timeout)),
            client_encoding="UTF8",  # what we send, whatever the database is kept in
        )
    except psycopg.Error as error:
        raise pg_failures.not_connected(database, error) from None


@contextlib.contextmanager
def reading(
    ctx: Context, database: Database, *, how: str = READ_ONLY
) -> Iterator[psycopg.Connection[Any]]:
    """A connection in a transaction that only reads; whatever it set is gone at its end."""
    with connect(ctx, database, read_only=True) as connection:
        begin(ctx, connection, how)
        yield connection


@contextlib.contextmanager
def session(
    ctx: Context, database: Database, dbname: str = "", *, read_only: bool = False
) -> Iterator[psycopg.Connection[Any]]:
    """A connection with a session of its own, for work on whole databases; else as `connect`.

    The server's own limits for statements, transactions and sessions that wait, made for
    applications, do not hold in it. Refused behind a pooler.
    """
    with connect(ctx, database, dbname, read_only=read_only) as connection:
        if pooled(connection):
            raise Refused(
                f"{database} is reached through a connection pooler; this needs a session of "
                "its own, as its settings and locks outlast a transaction",
                hint=f"let `sql.{database.name}` name the server itself, or add a connection that "
                "does and give the step its name as `database`",
            )
        settings = _settings(ctx, connection) | _without_limits(connection)
        connection.execute(_set("SET", _in_time(ctx, settings)))
        yield connection


def pooled(connection: psycopg.Connection[Any]) -> bool:
    """Whether a pooler stands between us and the server.

    It greets its clients by itself, with a number for cancelling that is its own; the server's
    is that of the process which serves us.
    """
    row = connection.execute("SELECT pg_backend_pid()").fetchone()
    return row is None or row[0] != connection.info.backend_pid


def begin(
    ctx: Context,
    connection: psycopg.Connection[Any],
    how: str = "",
    settings: Mapping[str, str] | None = None,
) -> None:
    """Begin a transaction with our settings, and `settings`, which end with it."""
    from psycopg.sql import SQL

    ours = {**_in_time(ctx, _settings(ctx, connection)), **(settings or {})}
    # In one message: each costs the way to the server and back.
    connection.execute(SQL("BEGIN {}; ").format(SQL(how)) + _set("SET LOCAL", ours))


def _set(verb: str, settings: Mapping[str, str]) -> Composed:
    from psycopg.sql import SQL, Identifier, Literal

    return SQL("; ").join(
        SQL("{} {} TO {}").format(SQL(verb), Identifier(name), Literal(value))
        for name, value in settings.items()
    )


def _settings(ctx: Context, connection: psycopg.Connection[Any]) -> dict[str, str]:
    settings = {
        "application_name": _application(ctx),
        "idle_in_transaction_session_timeout": "0",
        "standard_conforming_strings": "on",  # scripts are cut into statements by that rule
    }
    if connection.info.server_version >= 140000:
        settings["client_connection_check_interval"] = "1s"
    return settings


def _without_limits(connection: psycopg.Connection[Any]) -> dict[str, str]:
    version = connection.info.server_version
    limits = {"statement_timeout": 0, "lock_timeout": 0, "idle_session_timeout": 140000}
    limits["transaction_timeout"] = 170000
    return {name: "0" for name, since in limits.items() if version >= since}


def _in_time(ctx: Context, settings: dict[str, str]) -> dict[str, str]:
    left = ctx.remaining()
    if left is None:
        return settings
    return {**settings, "statement_timeout": f"{max(1, math.ceil(left * 1000))}ms"}


def _application(ctx: Context) -> str:
    return f"ce-run {ctx.run_id} token {ctx.identity().get('X-CE-Token', '0')}"[:63]


def _leave(connection: psycopg.Connection[Any]) -> None:
    """End an open transaction: a pooler gives up a session whose client leaves in the middle."""
    import psycopg
    from psycopg.pq import TransactionStatus

    open_ = (TransactionStatus.INTRANS, TransactionStatus.INERROR)
    if not connection.closed and connection.info.transaction_status in open_:
        with contextlib.suppress(psycopg.Error):
            connection.rollback()


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
