"""The ledger that makes SQL exactly-once: ``ce_run.ledger`` in the database itself.

A script's transaction begins by writing its row, so row and effects commit together or not at
all. Whoever comes with the same key later, a resumed run or a retry, finds the row and changes
nothing; and if the first one's transaction is still open on the server, the insert waits for its
end before it decides. The schema is made on first use::

    CREATE SCHEMA ce_run;
    CREATE TABLE ce_run.ledger (
        key        text PRIMARY KEY,         -- idempotency key of the task
        run        text NOT NULL,
        step       text NOT NULL,
        statements integer NOT NULL,         -- how many the script has
        at         timestamptz NOT NULL      -- when its transaction began
    );

Rows may be deleted once their runs are over. ``ledger: false`` refuses it; then a crash during
the script leaves its outcome unknown.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from engine.module_api import Context, Refused
from modules._pg import connection as pg_connection

if TYPE_CHECKING:
    import psycopg

_SCHEMA = """
CREATE SCHEMA IF NOT EXISTS ce_run;
CREATE TABLE IF NOT EXISTS ce_run.ledger (
    key text PRIMARY KEY,
    run text NOT NULL,
    step text NOT NULL,
    statements integer NOT NULL,
    at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE ce_run.ledger IS 'What runs of ce-run have committed; see ce-run modules sql'
"""
_LOCK = 0x63655F72756E  # "ce_run": two runs must not make the schema at the same time


class Entry(msgspec.Struct, frozen=True):
    """A row of the ledger; `at` in ISO 8601."""

    key: str
    run: str
    step: str
    statements: int
    at: str


def find(connection: psycopg.Connection[Any], key: str) -> Entry | None:
    """The row of a key, if its transaction has committed."""
    if not _exists(connection):
        return None
    row = connection.execute(
        "SELECT run, step, statements, at FROM ce_run.ledger WHERE key = %s", [key]
    ).fetchone()
    if row is None:
        return None
    run, step, statements, at = row
    return Entry(key, run, step, statements, at.isoformat())


def prepare(ctx: Context, connection: psycopg.Connection[Any]) -> None:
    """Make the schema if it is not there, in a transaction of its own."""
    import psycopg

    if _exists(connection):
        return
    try:
        with ctx.fence():
            pg_connection.begin(ctx, connection)
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_LOCK])
            connection.execute(_SCHEMA)
            connection.commit()
    except psycopg.errors.InsufficientPrivilege as error:
        connection.rollback()
        raise Refused(
            "the ledger schema ce_run cannot be created by this user",
            hint="create it as `ce-run modules sql` shows and grant the user USAGE, SELECT and "
            "INSERT; or say `ledger: false`: then a crash leaves the script's outcome unknown",
            evidence=[str(error).strip()],
        ) from None


def enter(ctx: Context, connection: psycopg.Connection[Any], statements: int) -> Entry | None:
    """Within the script's transaction: write its row; None if it is there already.

    Its time is read here, for the script may go on as a user who may not read the ledger.
    """
    import psycopg

    try:
        row = connection.execute(
            "INSERT INTO ce_run.ledger (key, run, step, statements) VALUES (%s, %s, %s, %s)"
            " ON CONFLICT (key) DO NOTHING RETURNING at",
            [ctx.key, ctx.run_id, ctx.step, statements],
        ).fetchone()
    except psycopg.errors.SerializationFailure:
        # Where transactions are serializable by default: it waited for another of the same key,
        # which has committed.
        return None
    return Entry(ctx.key, ctx.run_id, ctx.step, statements, row[0].isoformat()) if row else None


def _exists(connection: psycopg.Connection[Any]) -> bool:
    row = connection.execute("SELECT to_regclass('ce_run.ledger') IS NOT NULL").fetchone()
    return bool(row and row[0])
