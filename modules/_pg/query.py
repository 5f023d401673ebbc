"""Queries: rows as JSON, and what is expected of them. For `sql.query` and `sql.assert`."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from engine.module_api import Context, Expression, Failed, Refused
from modules._pg import connection as pg_connection
from modules._pg import database as pg_database
from modules._pg import text as pg_text
from modules._pg import values as pg_values

if TYPE_CHECKING:
    import psycopg

_UNSET = "\0unset"
_BATCH = 50
_ROOM = 1 << 20
"""Bytes of JSON that a result may have: it goes into the journal."""
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
    """Expressions over ``value``, ``rows``, ``columns``, ``rowcount`` and ``truncated`` that must
    be true."""


def fetch(
    ctx: Context, sql: str, database: pg_database.Database, params: Parameters, limit: int
) -> dict[str, Any]:
    """The result of one statement in a read-only transaction."""
    statements = pg_text.split(sql)
    if len(statements) != 1:
        raise Refused(f"a query is one statement, but these are {len(statements)}")
    with pg_connection.reading(ctx, database) as connection:
        _read_leniently(connection)
        with _cursor(connection, statements[0]) as cursor:
            cursor.execute(statements[0].text.encode(), params)
            if cursor.description is None:
                raise Refused(
                    f"{statements[0].short}: it returns no rows", hint="write with sql.script"
                )
            columns = _distinct([column.name for column in cursor.description])
            rows, truncated = _rows_of(ctx, cursor, columns, limit)
    return {
        "rows": rows,
        "columns": columns,
        "rowcount": len(rows),
        "value": next(iter(rows[0].values()), None) if rows else None,
        "truncated": truncated,
    }


def _rows_of(
    ctx: Context,
    cursor: psycopg.Cursor[Any] | psycopg.ServerCursor[Any],
    columns: list[str],
    limit: int,
) -> tuple[list[dict[str, Any]], bool]:
    """As many rows as are asked for and have room, and whether there are more."""
    rows, room = list[dict[str, Any]](), _ROOM
    while batch := cursor.fetchmany(min(_BATCH, limit + 1 - len(rows))):
        ctx.checkpoint()
        for values in batch:
            row = dict(zip(columns, map(pg_values.as_json, values), strict=True))
            room -= len(msgspec.json.encode(row, enc_hook=str))
            if room < 0 and not rows:
                raise Failed(
                    f"the first row alone is larger than the {_ROOM >> 20} MiB a result may have",
                    hint="select fewer columns, or left(…) or length(…) of the large ones",
                )
            if room < 0 or len(rows) == limit:
                return rows, True
            rows.append(row)
    return rows, False


def _distinct(names: list[str]) -> list[str]:
    """Column names, each once: of two columns ``n`` the second is ``n_2``."""
    distinct: list[str] = []
    for name in names:
        number, chosen = 1, name
        while chosen in distinct or (number > 1 and chosen in names):
            number += 1
            chosen = f"{name}_{number}"
        distinct.append(chosen)
    return distinct


def _cursor(
    connection: psycopg.Connection[Any], statement: pg_text.Statement
) -> psycopg.Cursor[Any] | psycopg.ServerCursor[Any]:
    """Where the server can keep the rows it does: of millions only `limit` ever arrive."""
    first = statement.words[0] if statement.words else "SELECT"
    if first in ("SELECT", "WITH", "VALUES", "TABLE") or statement.text.startswith("("):
        return connection.cursor(name="ce_run")
    return connection.cursor()


def _read_leniently(connection: psycopg.Connection[Any]) -> None:
    """Read times that Python has no value for (infinity, years BC, 24:00) as PostgreSQL's text."""
    from psycopg import DataError
    from psycopg.types import datetime as times

    def lenient(strict: type[Any]) -> type[Any]:
        class Lenient(strict):  # type: ignore[misc]
            def load(self, data: Any) -> Any:
                text = bytes(data)
                if b"infinity" not in text:
                    with contextlib.suppress(DataError, OverflowError):
                        return super().load(data)
                return text.decode()

        return Lenient

    for name, loader in (
        ("date", times.DateLoader),
        ("time", times.TimeLoader),
        ("timetz", times.TimetzLoader),
        ("timestamp", times.TimestampLoader),
        ("timestamptz", times.TimestamptzLoader),
        ("interval", times.IntervalLoader),
    ):
        connection.adapters.register_loader(name, lenient(loader))


def expectations(expect: Expected | Mapping[str, Any]) -> Expected:
    """The expectations, of which there must be one."""
    expected = expect if isinstance(expect, Expected) else msgspec.convert(expect, Expected)
    if expected == Expected():
        raise Refused("`expect` expects nothing", hint="give value, rows, rowcount or that")
    return expected


def unmet(ctx: Context, expected: Expected, data: Mapping[str, Any]) -> list[str]:
    """Every expectation that a result does not meet, with what came instead."""
    reasons = []
    if expected.value != _UNSET and not _same(data["value"], expected.value):
        reasons.append(f"expected the value {expected.value!r}, got {data['value']!r}")
    got = f"more than {data['rowcount']}" if data["truncated"] else data["rowcount"]
    if expected.rowcount is not None and got != expected.rowcount:
        reasons.append(f"expected {expected.rowcount} rows, got {got}")
    if expected.rows is not None and data["truncated"]:
        reasons.append(f"expected {len(expected.rows)} rows, got {got}")
    elif expected.rows is not None:
        reasons += _rows(expected.rows, data["rows"])
    for expression in [expected.that] if isinstance(expected.that, str) else expected.that:
        if not ctx.evaluate(expression, **data):
            reasons.append(f"not true: {expression}")
    return reasons


def _rows(expected: list[Any], rows: list[dict[str, Any]]) -> list[str]:
    if len(expected) != len(rows):
        return [f"expected {len(expected)} rows, got {len(rows)}: {rows[:3]!r}"]
    reasons = []
    for number, (one, row) in enumerate(zip(expected, rows, strict=True), 1):
        got = row if isinstance(one, Mapping) else list(row.values())
        if got != one:
            reasons.append(f"expected row {number} to be {one!r}, got {got!r}")
    return reasons


def _same(value: Any, expected: Any) -> bool:
    return bool(value == expected) and isinstance(value, bool) == isinstance(expected, bool)
