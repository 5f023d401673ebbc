"""Whole databases: made like another one, renamed, marked, dropped.

Statements about a database run from another one, the `maintenance` database of the inventory.
What a database is for says the comment on it, which survives us and which a DBA reads, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from engine.module_api import Context, Failed
from modules._pg import connection as pg_connection
from modules._pg.database import Database

if TYPE_CHECKING:
    import psycopg

_LOOK = 0.05


@contextlib.contextmanager
def connect(ctx: Context, database: Database) -> Iterator[psycopg.Connection[Any]]:
    """A connection beside the databases that are to be changed."""
    with pg_connection.session(ctx, database, database.maintenance) as connection:
        yield connection


def derived(name: str, suffix: str) -> str:
    """A database's name with a suffix, within the 63 bytes that PostgreSQL keeps."""
    room = 62 - len(suffix)
    if len(name.encode()) > room:
        import hashlib

        short = hashlib.sha256(name.encode()).hexdigest()[:8]
        name = name.encode()[: room - 9].decode(errors="ignore") + f"_{short}"
    return f"{name}_{suffix}"


def exists(connection: psycopg.Connection[Any], name: str) -> bool:
    """Whether there is a database of that name."""
    row = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
    return row.fetchone() is not None


def comment(connection: psycopg.Connection[Any], name: str) -> str:
    """The comment on a database; empty if there is none (of either)."""
    row = connection.execute(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", [name]
    ).fetchone()
    return str(row[0]) if row and row[0] else ""


def set_comment(connection: psycopg.Connection[Any], name: str, text: str) -> None:
    """Say what a database is for."""
    from psycopg.sql import SQL, Identifier, Literal

    connection.execute(
        SQL("COMMENT ON DATABASE {} IS {}").format(Identifier(name), Literal(text or None))
    )


def rename(connection: psycopg.Connection[Any], old: str, new: str) -> None:
    """Rename a database; nobody may be connected to it."""
    from psycopg.sql import SQL, Identifier

    connection.execute(
        SQL("ALTER DATABASE {} RENAME TO {}").format(Identifier(old), Identifier(new))
    )


def drop(connection: psycopg.Connection[Any], name: str) -> None:
    """Drop a database, and whoever is connected to it; absent is fine."""
    from psycopg.sql import SQL, Identifier

    force = SQL("WITH (FORCE)") if connection.info.server_version >= 130000 else SQL("")
    connection.execute(SQL("DROP DATABASE IF EXISTS {} {}").format(Identifier(name), force))


# -- being alone --------------------------------------------------------------------------------
@contextlib.contextmanager
def disconnecting(ctx: Context, database: Database, names: list[str]) -> Iterator[None]:
    """While the block runs, end every session in these databases, again and again.

    A rename first locks the database, so that new sessions wait, and then gives those that are
    there five seconds to leave: they are made to.
    """
    import threading

    over = threading.Event()
    with connect(ctx, database) as connection:

        def insist() -> None:
            import psycopg

            with contextlib.suppress(psycopg.Error):  # then the rename says who is in the way
                while not over.is_set():
                    connection.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE datname = ANY(%s) AND pid <> pg_backend_pid()",
                        [names],
                    )
                    over.wait(_LOOK)

        thread = threading.Thread(target=insist, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def in_the_way(connection: psycopg.Connection[Any], name: str, error: Failed) -> Failed:
    """The failure of a rename, with who is still connected."""
    rows = connection.execute(
        "SELECT usename, application_name, client_addr::text, state FROM pg_stat_activity"
        " WHERE datname = %s",
        [name],
    ).fetchall()
    error.evidence += [f"connected: {' '.join(str(part) for part in row if part)}" for row in rows]
    return error
