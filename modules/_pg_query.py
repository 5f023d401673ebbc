"""Queries: rows as JSON, and what is expected of them. For `sql.query` and `sql.assert`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from engine.module_api import Context, Expression, Refused
from modules import _pg, _sql_text

if TYPE_CHECKING:
    import psycopg

_UNSET = "\0unset"
Parameters = list[Any] | dict[str, Any] | None


class Expected(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What a query must return; everything that is given must hold."""

    value: Any = _UNSET
    """The first column of the first row."""
    rows: list[Any] | None = None
    """All rows, each a mapping or a list of values."""
    rowcount: int | None = None
    """How many rows."""
    that: list[Expression] | Expression = []
    """Expressions over ``value``, ``rows``, ``columns`` and ``rowcount`` that must be true."""


def fetch(
    ctx: Context, sql: str, database: _pg.Database, params: Parameters, limit: int
) -> dict[str, Any]:
    """The result of one statement in a read-only transaction."""
    statements = _sql_text.split(sql)
    if len(statements) != 1:
        raise Refused(f"a query is one statement, but these are {len(statements)}")
    with (
        _pg.connect(ctx, database, read_only=True) as connection,
        connection.transaction(),
        _cursor(connection, statements[0]) as cursor,
    ):
        cursor.execute(statements[0].text.encode(), params)
        fetched = cursor.fetchmany(limit + 1)
        columns = [column.name for column in cursor.description or []]
    rows = [
        dict(zip(columns, (_pg.as_json(value) for value in row), strict=True))
        for row in fetched[:limit]
    ]
    return {
        "rows": rows,
        "columns": columns,
        "rowcount": len(rows),
        "value": next(iter(rows[0].values()), None) if rows else None,
        "truncated": len(fetched) > limit,
    }


def _cursor(
    connection: psycopg.Connection[Any], statement: _sql_text.Statement
) -> psycopg.Cursor[Any] | psycopg.ServerCursor[Any]:
    """Where the server can keep the rows it does: of millions only `limit` ever arrive."""
    if not statement.words or statement.words[0] in ("SELECT", "WITH", "VALUES", "TABLE"):
        return connection.cursor(name="ce_run")
    return connection.cursor()


def given(expect: Expected | Mapping[str, Any]) -> Expected:
    """The expectations, of which there must be one."""
    wanted = expect if isinstance(expect, Expected) else msgspec.convert(expect, Expected)
    if wanted == Expected():
        raise Refused("`expect` expects nothing", hint="give value, rows, rowcount or that")
    return wanted


def unmet(ctx: Context, wanted: Expected, data: Mapping[str, Any]) -> list[str]:
    """Every expectation that a result does not meet, with what came instead."""
    reasons = []
    if wanted.value != _UNSET and not _same(data["value"], wanted.value):
        reasons.append(f"expected the value {wanted.value!r}, got {data['value']!r}")
    if wanted.rowcount is not None and data["rowcount"] != wanted.rowcount:
        reasons.append(f"expected {wanted.rowcount} rows, got {data['rowcount']}")
    if wanted.rows is not None:
        reasons += _rows(wanted.rows, data["rows"])
    for expression in [wanted.that] if isinstance(wanted.that, str) else wanted.that:
        if not ctx.evaluate(expression, **data):
            reasons.append(f"not true: {expression}")
    return reasons


def _rows(wanted: list[Any], rows: list[dict[str, Any]]) -> list[str]:
    if len(wanted) != len(rows):
        return [f"expected {len(wanted)} rows, got {len(rows)}: {rows[:3]!r}"]
    reasons = []
    for number, (expected, row) in enumerate(zip(wanted, rows, strict=True), 1):
        got = row if isinstance(expected, Mapping) else list(row.values())
        if got != expected:
            reasons.append(f"expected row {number} to be {expected!r}, got {got!r}")
    return reasons


def _same(value: Any, wanted: Any) -> bool:
    return bool(value == wanted) and isinstance(value, bool) == isinstance(wanted, bool)
