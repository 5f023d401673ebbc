"""Scripts: many statements, one transaction, once. `sql.script` is made of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.module_api import Context, Duration, Failed, Refused, Result, Unreachable, count
from modules._pg import connection as pg_connection
from modules._pg import failures as pg_failures
from modules._pg import ledger as pg_ledger
from modules._pg import text as pg_text

if TYPE_CHECKING:
    import psycopg

_VARIABLE = re.compile(r"(?<!:):(?:'\w+'|\"\w+\"|[A-Za-z_]\w*)")


def statements(
    ctx: Context, sql: str, file: Path | None, template: bool
) -> list[pg_text.Statement]:
    """The statements of a script given as text or as a file; Refused if they fit no transaction."""
    if bool(sql) == (file is not None):
        raise Refused("give the script either as `sql` or as `file`")
    if file is not None:
        path = ctx.file(file)
        try:
            sql = path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise Refused(f"{file} cannot be read: {error}") from None
        sql = str(ctx.render(sql)) if template else sql
    parts = pg_text.split(sql)
    if not parts:
        raise Refused(f"{file or 'the script'} holds no statement")
    pg_text.refuse_what_fits_no_transaction(parts)
    return parts


def begin(ctx: Context, connection: psycopg.Connection[Any], lock_timeout: Duration | None) -> None:
    """Begin the script's transaction, and say how it waits for locks and for the disk.

    What the server confirms it must not forget: we write down that the script is done.
    """
    settings = {}
    if lock_timeout is not None:
        settings["lock_timeout"] = f"{max(1, round(lock_timeout * 1000))}ms"
    pg_connection.begin(ctx, connection, settings=settings)
    connection.execute(
        "SELECT set_config('synchronous_commit', 'on', true)"
        " WHERE current_setting('synchronous_commit') = 'off'"
    )


def transaction(
    ctx: Context,
    connection: psycopg.Connection[Any],
    statements: list[pg_text.Statement],
    ledger: bool,
) -> Result:
    """Run and commit in the transaction that was begun, or find that the ledger has it already."""
    rowcount, entry = 0, None
    with ctx.fence():
        if ledger and (entry := pg_ledger.enter(ctx, connection, len(statements))) is None:
            connection.rollback()
            return _done_by_another(ctx, connection, len(statements))
    for number, statement in enumerate(statements, 1):
        ctx.checkpoint()
        rowcount += _execute(ctx, connection, statement, number, len(statements))
    with ctx.fence():
        _commit(connection, ledger)
    return Result(
        changed=True,
        data=data(ctx, len(statements), rowcount, entry),
        message=f"{count(len(statements), 'statement')} committed",
    )


def _done_by_another(ctx: Context, connection: psycopg.Connection[Any], statements: int) -> Result:
    entry = pg_ledger.find(connection, ctx.key)
    if entry is None:
        raise Unreachable("the ledger's row of this task has gone while it was read")
    return done_already(entry, statements)


def _execute(
    ctx: Context,
    connection: psycopg.Connection[Any],
    statement: pg_text.Statement,
    number: int,
    total: int,
) -> int:
    import psycopg

    started = ctx.monotonic()
    try:
        # Bytes: the text is sent as it is, a % in it means nothing.
        cursor = connection.execute(statement.text.encode())
    except psycopg.Error as error:
        ctx.checkpoint()
        translated = pg_failures.in_our_words(error)
        if error.sqlstate == "42601" and _VARIABLE.search(statement.text):
            translated.hint = "a script knows no variables of psql (:name); with `template: true` "
            translated.hint += "write {{ name }}"
        translated.message = f"statement {number}, line {statement.line}: {translated.message}"
        translated.args = (translated.message,)
        translated.evidence.append(f"statement: {statement.short}")
        translated.hint = translated.hint or "nothing of the script was kept"
        raise translated from None
    _still_one_transaction(connection, statement, number)
    took = ctx.monotonic() - started
    ctx.progress(f"{number}/{total} {statement.short} ({cursor.statusmessage}, {took:.3f} s)")
    return max(0, cursor.rowcount)


def _still_one_transaction(
    connection: psycopg.Connection[Any], statement: pg_text.Statement, number: int
) -> None:
    """The last line of defence, should a script have ended its transaction in disguise."""
    from psycopg.pq import TransactionStatus

    if connection.info.transaction_status != TransactionStatus.INTRANS:
        raise Failed(
            f"statement {number}, line {statement.line}, ended the script's transaction",
            hint="what came before it is committed, with the ledger's row; nothing followed it",
            evidence=[f"statement: {statement.short}"],
        )


def _commit(connection: psycopg.Connection[Any], ledger: bool) -> None:
    import psycopg

    try:
        connection.commit()
    except psycopg.OperationalError as error:
        if not connection.broken and not connection.closed:
            raise
        hint = (
            "the ledger knows: try again (`retry`), or resume"
            if ledger
            else "without a ledger only a look into the database can tell"
        )
        raise Unreachable(
            "the connection was lost while committing: it may have happened or not",
            hint=hint,
            evidence=[str(error).strip()],
        ) from None


def data(
    ctx: Context, statements: int, rowcount: int, entry: pg_ledger.Entry | None
) -> dict[str, Any]:
    """The result of a script that was run (or would be)."""
    return {
        "statements": statements,
        "rowcount": rowcount,
        "already_done": False,
        "key": ctx.key,
        "at": entry.at if entry else None,
    }


def done_already(entry: pg_ledger.Entry, statements: int) -> Result:
    """The result of a script that the ledger has."""
    return Result(
        data={
            "statements": statements,
            "rowcount": 0,
            "already_done": True,
            "key": entry.key,
            "at": entry.at,
        },
        message=f"done already at {entry.at}: the ledger has it",
    )
