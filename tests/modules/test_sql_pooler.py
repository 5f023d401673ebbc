"""Databases behind a connection pooler: what we do there ends with our transaction.

A real PgBouncer lends its one session a database to whoever comes, so that what one client leaves
in it is what the next one finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine.executor import TaskContext
from engine.module_api import Refused
from modules import sql
from modules._pg.query import Expected
from tests.modules.conftest import MakeContext
from tests.modules.pgbouncer_server import PgBouncer
from tests.modules.postgres_server import Postgres

SESSION = (
    "SELECT name, setting FROM pg_settings WHERE source = 'session' OR name IN"
    " ('default_transaction_read_only', 'statement_timeout', 'lock_timeout', 'search_path')"
    " ORDER BY 1"
)
"""What somebody has set in the session, and its most dangerous settings in any case."""

LEFT = (
    "SELECT (SELECT count(*) FROM pg_prepared_statements),"
    " (SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'),"
    " (SELECT count(*) FROM pg_class WHERE relnamespace = pg_my_temp_schema()),"
    " (SELECT count(*) FROM pg_cursors WHERE is_holdable)"
)


@pytest.fixture(scope="module")
def pooler(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[PgBouncer]:
    """PgBouncer, in the mode in which a session is lent by transaction."""
    server = PgBouncer(tmp_path_factory.mktemp("pgbouncer"), postgres)
    yield server
    server.stop()


@pytest.fixture
def pooled_ctx(
    make_context: MakeContext, pooler: PgBouncer, db: str, tmp_path: Any
) -> Callable[..., TaskContext]:
    """Contexts whose database is reached through the pooler."""
    pooler.rows(db, "CREATE TABLE t (id int PRIMARY KEY, v text)")
    pooler.rows(db, "INSERT INTO t SELECT g, g::text FROM generate_series(1, 50) AS g")
    entry = pooler.entry(db, backups=str(tmp_path / "backups"))

    def make(**options: Any) -> TaskContext:
        return make_context({"sql": {"primary": entry}}, **options)

    return make


def _query(ctx: TaskContext) -> None:
    assert sql.query(ctx, "SELECT count(*) FROM t").data["value"] == 50


def _set_in_query(ctx: TaskContext) -> None:
    with pytest.raises(Refused, match="it returns no rows"):
        sql.query(ctx, "SET search_path TO nowhere")
    sql.query(ctx, "SELECT set_config('search_path', 'nowhere', false)")


def _failing_query(ctx: TaskContext) -> None:
    with pytest.raises(Refused, match="only reading is allowed"):
        sql.query(ctx, "INSERT INTO t VALUES (99) RETURNING id")


def _assertion(ctx: TaskContext) -> None:
    expect = Expected(value=50)
    assert sql.assert_(ctx, "SELECT count(*) FROM t", expect).message == "as expected"  # noqa: PT009


def _check(ctx: TaskContext) -> None:
    assert sql.script.checker is not None
    assert sql.script.checker(ctx, "UPDATE t SET v = 'z' WHERE id = 1").changed


def _probe(ctx: TaskContext) -> None:
    assert sql.script.prober is not None
    assert sql.script.prober(ctx, "UPDATE t SET v = 'z' WHERE id = 1").verdict == "not_done"


def _script(ctx: TaskContext) -> None:
    same = "UPDATE t SET v = 'y' WHERE id = 1;" * 12  # often enough for a driver to prepare it
    assert sql.script(ctx, same, lock_timeout=3.0).changed


def _careful_script(ctx: TaskContext) -> None:
    sql.script(
        ctx,
        "SET LOCAL search_path TO public; SET LOCAL app.owner TO 'SET x'; SET CONSTRAINTS ALL"
        " DEFERRED; SELECT pg_advisory_xact_lock(1), set_config('app.it', 'a', true);"
        "CREATE TEMP TABLE gone ON COMMIT DROP AS SELECT 1 AS n;"
        "CREATE FUNCTION own() RETURNS void LANGUAGE plpgsql SET search_path TO public AS"
        " $$ BEGIN SET search_path TO public; END $$;"
        "COMMENT ON TABLE t IS 'CREATE TEMP TABLE, pg_advisory_lock(1)'; -- set_config('a')",
    )


@pytest.mark.parametrize(
    "work",
    [
        _query,
        _set_in_query,
        _failing_query,
        _assertion,
        _check,
        _probe,
        _script,
        _careful_script,
    ],
)
def test_what_is_done_through_a_pooler_leaves_nothing_for_its_next_client(
    pooled_ctx: Callable[..., TaskContext],
    pooler: PgBouncer,
    db: str,
    work: Callable[[TaskContext], None],
) -> None:
    before = pooler.rows(db, SESSION)
    ((server,),) = pooler.rows(db, "SELECT pg_backend_pid()")
    work(pooled_ctx(seconds=60))
    assert pooler.rows(db, SESSION) == before
    assert pooler.rows(db, LEFT) == [(0, 0, 0, 0)]
    assert pooler.rows(db, "SELECT pg_backend_pid()") == [(server,)]  # the session goes on
    assert pooler.rows(db, "INSERT INTO t VALUES (100, 'the application') RETURNING id") == [(100,)]


@pytest.mark.parametrize(
    ("statement", "reason"),
    [
        ("SET search_path TO app", "write SET LOCAL"),
        ("set session statement_timeout to 5", "write SET LOCAL"),
        ("SET ROLE postgres", "write SET LOCAL"),
        ("RESET ALL", r"SET LOCAL … TO DEFAULT"),
        ("SELECT pg_catalog.set_config('search_path', '', false)", "its third argument is true"),
        ("SELECT pg_advisory_lock(1)", "pg_advisory_xact_lock"),
        ("CREATE TEMP TABLE x AS SELECT 1", "ON COMMIT DROP"),
        ("SELECT 1 AS n INTO TEMPORARY x", "ON COMMIT DROP"),
        ("LISTEN news", "as long as the session lives"),
        ("PREPARE p AS SELECT 1", "stays in the session"),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", "stays in the session"),
        ("DO $$ BEGIN SET statement_timeout TO 5; END $$", "write SET LOCAL"),
    ],
)
def test_a_script_that_would_leave_something_in_a_borrowed_session_is_refused_before_it_begins(
    pooled_ctx: Callable[..., TaskContext],
    pooler: PgBouncer,
    pg_ctx: TaskContext,
    db: str,
    statement: str,
    reason: str,
) -> None:
    with pytest.raises(Refused, match=reason) as caught:
        sql.script(pooled_ctx(), f"UPDATE t SET v = 'z';\n{statement}")
    assert caught.value.message.startswith("line 2: ")
    assert pooler.rows(db, "SELECT count(*) FROM t WHERE v = 'z'") == [(0,)]
    assert sql.script(pg_ctx, statement).changed  # a session of our own ends with it


def test_what_needs_a_session_of_its_own_says_that_there_is_a_pooler(
    pooled_ctx: Callable[..., TaskContext], pooler: PgBouncer, db: str
) -> None:
    before = pooler.rows(db, SESSION)
    works: list[Callable[[], object]] = [
        lambda: sql.backup(pooled_ctx(), "one"),
        lambda: sql.backup(pooled_ctx(), "one", as_="copy"),
        lambda: sql.drop_database(pooled_ctx(), "nowhere"),
        lambda: sql.restore(pooled_ctx(), "one"),
    ]
    for work in works:
        with pytest.raises(Refused, match="reached through a connection pooler") as caught:
            work()
        assert "name the server itself" in caught.value.hint
    assert pooler.rows(db, SESSION) == before


def test_what_a_pooler_says_comes_as_refused_or_unreachable(
    make_context: MakeContext, tmp_path_factory: pytest.TempPathFactory, postgres: Postgres, db: str
) -> None:
    """Of a mode that knows no transactions it is told; nothing is written without one."""
    server = PgBouncer(tmp_path_factory.mktemp("statement"), postgres, "statement")
    try:
        ctx = make_context({"sql": {"primary": server.entry(db)}})
        with pytest.raises(Refused, match="lends no transactions"):
            sql.script(ctx, "CREATE TABLE t (n int)")
        assert postgres.rows(db, "SELECT to_regclass('t')") == [(None,)]
    finally:
        server.stop()
