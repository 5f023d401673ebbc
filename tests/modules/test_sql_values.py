"""What sql.query and sql.assert make of values of every type, and of more of them than fit."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from engine.executor import TaskContext
from engine.module_api import Failed, Refused
from modules import sql
from modules._pg.query import Expected
from tests.modules.conftest import MakeContext
from tests.modules.postgres_server import Postgres

check_that = sql.assert_  # by another name, for it is not unittest's


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("'infinity'::timestamptz", "infinity"),
        ("'-infinity'::date", "-infinity"),
        ("'infinity'::interval", "infinity"),
        ("'0044-03-15 BC'::date", "0044-03-15 BC"),
        ("'24:00'::time", "24:00:00"),
        ("'2026-01-31 14:05:09+00'::timestamptz", "2026-01-31T14:05:09+00:00"),
        ("ARRAY['2026-01-31'::date, NULL]", ["2026-01-31", None]),
        ("'12:00+02'::timetz", "12:00:00+02:00"),
        ("interval '1 day 90 seconds'", 86490.0),
        ("1e30::numeric", 10**30),
        ("12345678901234567890::numeric", 12345678901234567890),
        ("repeat('9', 5000)::numeric", "9" * 5000),
        ("'-infinity'::numeric", "-Infinity"),
        ("1.10::numeric(4,2)", 1.1),
        ("'infinity'::float8", "inf"),
        ("""'{"a": [1, null, {"b": 123456789012345678901}]}'::json""",
         {"a": [1, None, {"b": 123456789012345678901}]}),
        ("'null'::jsonb", None),
        ("ARRAY[[1, 2], [3, NULL]]", [[1, 2], [3, None]]),
        ("ARRAY['\\x00ff'::bytea]", ["\\x00ff"]),
        ("'10.0.0.1/8'::inet", "10.0.0.1/8"),
        ("'00000000-0000-0000-0000-000000000001'::uuid", "00000000-0000-0000-0000-000000000001"),
        ("'[1,5)'::int4range", "[1, 5)"),
        ("B'101'", "101"),
        ("'<a/>'::xml", "<a/>"),
        ("ROW(1, 'a')", ["1", "a"]),
        ("NULL::int[]", None),
        ("'äöü 数据'", "äöü 数据"),
    ],
)  # fmt: skip
def test_a_value_of_every_type_can_go_into_the_journal(
    pg_ctx: TaskContext, expression: str, value: Any
) -> None:
    data = sql.query(pg_ctx, f"SELECT {expression} AS x").data
    assert data["value"] == value
    assert msgspec.json.decode(msgspec.json.encode(data))["value"] == value


def test_columns_of_the_same_name_are_told_apart(pg_ctx: TaskContext) -> None:
    data = sql.query(pg_ctx, "SELECT 1 AS n, 2 AS n, 3 AS n_2, 4 AS n").data
    assert data["columns"] == ["n", "n_3", "n_2", "n_4"]
    assert data["rows"] == [{"n": 1, "n_3": 2, "n_2": 3, "n_4": 4}]
    assert data["value"] == 1


def test_rows_that_are_large_end_where_the_journal_has_room(pg_ctx: TaskContext) -> None:
    data = sql.query(pg_ctx, "SELECT repeat('x', 100000) FROM generate_series(1, 1000)").data
    assert (data["rowcount"], data["truncated"]) == (10, True)
    with pytest.raises(Failed, match="the first row alone is larger than the 1 MiB") as caught:
        sql.query(pg_ctx, "SELECT repeat('x', 2000000)")
    assert "length" in caught.value.hint


def test_a_query_in_parentheses_is_not_fetched_whole(pg_ctx: TaskContext) -> None:
    query = "(SELECT generate_series(1, 100000000) AS n) UNION ALL (SELECT 1)"
    data = sql.query(pg_ctx, query, limit=2).data
    assert ([row["n"] for row in data["rows"]], data["truncated"]) == ([1, 2], True)


def test_an_assertion_about_all_rows_is_not_met_by_the_first_thousand(pg_ctx: TaskContext) -> None:
    many = "SELECT generate_series(1, 1001)"
    for expect in (Expected(rowcount=1000), Expected(rows=[[n + 1] for n in range(1000)])):
        with pytest.raises(Failed, match="expected 1000 rows, got more than 1000"):
            check_that(pg_ctx, many, expect)
    assert check_that(pg_ctx, many, Expected(that="truncated")).data["rowcount"] == 1000


@pytest.mark.parametrize("statement", ["LISTEN x", "COMMIT", "SET work_mem = '1MB'"])
def test_what_returns_no_rows_is_no_query(pg_ctx: TaskContext, statement: str) -> None:
    with pytest.raises(Refused, match="it returns no rows"):
        sql.query(pg_ctx, statement)


@pytest.mark.parametrize(
    "statement",
    [
        "WITH made AS (INSERT INTO t VALUES (1) RETURNING n) SELECT * FROM made",
        "SELECT nextval('s')",
        "SELECT * FROM t FOR UPDATE",
        "SELECT lo_create(0)",
        "SELECT set_config('transaction_read_only', 'off', false), nextval('s')",
        "SELECT * INTO other FROM t",
    ],
)
def test_no_way_of_writing_gets_through_a_query(
    pg_ctx: TaskContext, postgres: Postgres, db: str, statement: str
) -> None:
    postgres.run(db, "CREATE TABLE t (n int); CREATE SEQUENCE s")
    with pytest.raises((Refused, Failed)):
        sql.query(pg_ctx, statement)
    assert postgres.rows(db, "SELECT count(*), (SELECT is_called FROM s) FROM t") == [(0, False)]
    assert postgres.rows(db, "SELECT to_regclass('other')") == [(None,)]


def test_parameters_that_do_not_fit_are_our_fault_not_the_networks(pg_ctx: TaskContext) -> None:
    with pytest.raises(Failed, match="cannot be sent") as caught:
        sql.query(pg_ctx, "SELECT 5 % 2, %s", params=[1])
    assert "%%" in caught.value.hint
    with pytest.raises(Failed, match="the database says: bind message"):
        sql.query(pg_ctx, "SELECT $1")


def test_a_database_in_another_encoding_is_spoken_to_in_utf_8(
    make_context: MakeContext, postgres: Postgres, db: str
) -> None:
    latin = f"{db}_latin"
    postgres.run(
        "postgres",
        f"CREATE DATABASE {latin} TEMPLATE template0 ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C'",
    )
    ctx = make_context({"sql": {"primary": postgres.entry(latin)}})
    sql.script(ctx, "CREATE TABLE t (name text); INSERT INTO t VALUES ('Zoë')")
    data = sql.query(ctx, "SELECT name, length(name) AS n, octet_length(name) AS b FROM t").data
    assert data["rows"] == [{"name": "Zoë", "n": 3, "b": 3}]


def test_bytes_of_no_known_encoding_are_told_by_the_server(
    make_context: MakeContext, postgres: Postgres
) -> None:
    """A database in SQL_ASCII holds whatever it was given."""
    name = "ascii_only"
    postgres.run(
        "postgres", f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'SQL_ASCII' LOCALE 'C'"
    )
    postgres.run(name, "CREATE TABLE t AS SELECT convert_from('\\x6772fc6e', 'SQL_ASCII') AS v")
    ctx = make_context({"sql": {"primary": postgres.entry(name)}})
    with pytest.raises(Failed, match="invalid byte sequence"):
        sql.query(ctx, "SELECT v FROM t")
    assert sql.query(ctx, "SELECT v::bytea FROM t").data["value"] == "\\x6772fc6e"


def test_half_a_surrogate_pair_is_refused_in_words(pg_ctx: TaskContext) -> None:
    """JSON may hold one; no database takes it."""
    with pytest.raises(Refused, match="not valid Unicode"):
        sql.query(pg_ctx, "SELECT %s::text", params=["\ud800"])
    with pytest.raises(Refused, match="not valid Unicode"):
        sql.query(pg_ctx, "SELECT '\ud800'")
    with pytest.raises(Refused, match="not valid Unicode"):
        sql.script(pg_ctx, "SELECT '\ud800'")
