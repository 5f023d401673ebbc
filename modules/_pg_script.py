"""Scripts: many statements, one transaction, once. `sql.script` is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.module_api import Context, Refused, Result, Unreachable
from modules import _pg, _pg_ledger, _sql_text

if TYPE_CHECKING:
    import psycopg


def statements(
    ctx: Context, sql: str, file: Path | None, template: bool
) -> list[_sql_text.Statement]:
    """The statements of a script given as text or as a file; Refused if they fit no transaction."""
    if bool(sql) == (file is not None):
        raise Refused("give the script either as `sql` or as `file`")
    if file is not None:
        path = ctx.file(file)
        try:
            sql = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise Refused(f"{file} cannot be read: {error}") from None
        sql = str(ctx.render(sql)) if template else sql
    found = _sql_text.split(sql)
    if not found:
        raise Refused(f"{file or 'the script'} holds no statement")
    _sql_text.refuse_what_fits_no_transaction(found)
    return found


def transaction(
    ctx: Context,
    connection: psycopg.Connection[Any],
    statements: list[_sql_text.Statement],
    ledger: bool,
) -> int | None:
    """Run and commit; the number of rows changed, or None if the ledger has it already."""
    connection.autocommit = False
    rowcount = 0
    with ctx.fence():
        if ledger and not _pg_ledger.enter(ctx, connection, len(statements)):
            connection.rollback()
            connection.autocommit = True
            return None
    for number, statement in enumerate(statements, 1):
        ctx.checkpoint()
        rowcount += _execute(ctx, connection, statement, number, len(statements))
    with ctx.fence():
        _commit(connection, ledger)
    connection.autocommit = True
    return rowcount


def _execute(
    ctx: Context,
    connection: psycopg.Connection[Any],
    statement: _sql_text.Statement,
    number: int,
    total: int,
) -> int:
    import psycopg

    started = ctx.monotonic()
    try:
        # Bytes: the text is sent as it is, a % in it means nothing.
        cursor = connection.execute(statement.text.encode())
    except psycopg.Error as error:
        connection.rollback()
        ctx.checkpoint()
        translated = _pg.in_our_words(error)
        translated.message = f"statement {number}, line {statement.line}: {translated.message}"
        translated.args = (translated.message,)
        translated.evidence.append(f"statement: {statement.short}")
        translated.hint = translated.hint or "nothing of the script was kept"
        raise translated from None
    took = ctx.monotonic() - started
    ctx.progress(f"{number}/{total} {statement.short} ({cursor.statusmessage}, {took:.3f} s)")
    return max(0, cursor.rowcount)


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
    ctx: Context, statements: int, rowcount: int, entry: _pg_ledger.Entry | None
) -> dict[str, Any]:
    """The result of a script that was run (or would be)."""
    return {
        "statements": statements,
        "rowcount": rowcount,
        "already_done": False,
        "key": ctx.key,
        "at": entry.at if entry else None,
    }


def done_already(entry: _pg_ledger.Entry, statements: int) -> Result:
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
