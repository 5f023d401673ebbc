"""sql.query, sql.assert and sql.script against a real PostgreSQL."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.clock import SystemClock
from engine.executor import Attempt, Services, TaskContext
from engine.module_api import Cancelled, Failed, Refused, TimedOut, Unreachable
from modules import sql
from modules._pg.query import Expected
from tests.modules.conftest import MakeContext, Told
from tests.modules.postgres_server import PASSWORD, Postgres

CancelWhen = Callable[[TaskContext, Callable[[], bool]], threading.Thread]


# -- query --------------------------------------------------------------------------------------
def test_rows_come_as_json(pg_ctx: TaskContext) -> None:
    data = sql.query(
        pg_ctx,
        "SELECT 1 AS one, 2.5::numeric AS two, 10::numeric AS ten, 'x' AS text, true AS yes,"
        " NULL AS nothing, '2026-01-31 14:05:09+00'::timestamptz AT TIME ZONE 'UTC' AS at,"
        " '\\xff00'::bytea AS raw, ARRAY[1,2] AS list, '{\"a\": [1]}'::jsonb AS document,"
        " interval '90 seconds' AS span, 'nan'::float8 AS nan",
    ).data
    assert data["rows"] == [
        {
            "one": 1,
            "two": 2.5,
            "ten": 10,
            "text": "x",
            "yes": True,
            "nothing": None,
            "at": "2026-01-31T14:05:09",
            "raw": "\\xff00",
            "list": [1, 2],
            "document": {"a": [1]},
            "span": 90.0,
            "nan": "nan",
        }
    ]
    assert (data["rowcount"], data["value"], data["truncated"]) == (1, 1, False)
    assert data["columns"][:2] == ["one", "two"]


def test_no_rows_still_have_columns(pg_ctx: TaskContext) -> None:
    data = sql.query(pg_ctx, "SELECT 1 AS a, 2 AS b WHERE false").data
    assert (data["rows"], data["columns"], data["value"]) == ([], ["a", "b"], None)


def test_only_as_many_rows_as_wanted_are_fetched(pg_ctx: TaskContext) -> None:
    data = sql.query(pg_ctx, "SELECT generate_series(1, 100000000) AS n", limit=3).data
    assert [row["n"] for row in data["rows"]] == [1, 2, 3]
    assert data["truncated"]


def test_parameters_are_values_never_sql(pg_ctx: TaskContext) -> None:
    evil = "'; DROP TABLE x; --"
    assert sql.query(pg_ctx, "SELECT %s::text", params=[evil]).data["value"] == evil
    named = sql.query(pg_ctx, "SELECT %(a)s::int + 1", params={"a": 4})
    assert named.data["value"] == 5
    assert sql.query(pg_ctx, "SELECT 'a%' LIKE '%'").data["value"] is True


def test_a_query_cannot_write(pg_ctx: TaskContext, postgres: Postgres, db: str) -> None:
    postgres.run(db, "CREATE TABLE t (n int)")
    with pytest.raises(Refused, match="only reading is allowed") as caught:
        sql.query(pg_ctx, "INSERT INTO t VALUES (1) RETURNING n")
    assert "sql.script" in caught.value.hint
    with pytest.raises(Refused, match="a query is one statement, but these are 2"):
        sql.query(pg_ctx, "SELECT 1; DROP TABLE t")


def test_an_error_comes_in_the_servers_words(pg_ctx: TaskContext) -> None:
    with pytest.raises(Failed, match='relation "nowhere" does not exist') as caught:
        sql.query(pg_ctx, "SELECT * FROM nowhere")
    assert "42P01" in caught.value.evidence[0]


def test_the_server_knows_which_run_asks(make_context: MakeContext, postgres: Postgres) -> None:
    ctx = make_context({"sql": {"a": postgres.entry()}}, run_id="deploy-7")
    found = sql.query(ctx, "SHOW application_name").data["value"]
    assert found == "ce-run deploy-7 token 0"


def test_connections_are_found_by_name(make_context: MakeContext, postgres: Postgres) -> None:
    dsn = f"postgresql://postgres:{PASSWORD}@127.0.0.1:{postgres.port}/postgres"
    ctx = make_context({"sql": {"primary": {"dsn": dsn}, "replica": postgres.entry()}})
    for name in ("", "primary", "replica"):
        assert sql.query(ctx, "SELECT 1", database=name).data["value"] == 1
    with pytest.raises(Refused, match="no database 'main'"):
        sql.query(ctx, "SELECT 1", database="main")
    broken = make_context({"sql": {"primary": {"dsn": "not a dsn"}}})
    with pytest.raises(Refused, match=r"sql\.primary of the inventory"):
        sql.query(broken, "SELECT 1")


def test_a_password_is_masked_and_never_in_an_error(
    make_context: MakeContext, postgres: Postgres, told: Told
) -> None:
    ctx = make_context({"sql": {"primary": postgres.entry(password="wrong-secret")}})
    with pytest.raises(Refused, match="refused the connection") as caught:
        sql.query(ctx, "SELECT 1")
    error = caught.value
    assert "wrong-secret" not in " ".join([error.message, error.hint, *error.evidence])
    assert told.masked == ["wrong-secret"]


def test_a_server_that_is_not_there_is_unreachable(
    make_context: MakeContext, postgres: Postgres
) -> None:
    ctx = make_context({"sql": {"primary": postgres.entry(port=1)}})
    with pytest.raises(Unreachable, match=r"postgres at 127\.0\.0\.1:1 cannot be reached"):
        sql.query(ctx, "SELECT 1")


def test_a_cancelled_query_ends_on_the_server(
    pg_ctx: TaskContext, postgres: Postgres, db: str, cancel_when: CancelWhen
) -> None:
    cancel_when(pg_ctx, lambda: postgres.sleeps(db))
    with pytest.raises(Cancelled):
        sql.query(pg_ctx, "SELECT pg_sleep(61)")
    assert not postgres.sleeps(db)


def test_a_query_ends_at_its_deadline_on_the_server(
    make_context: MakeContext, postgres: Postgres
) -> None:
    ctx = make_context({"sql": {"primary": postgres.entry()}}, seconds=0.4)
    with pytest.raises(TimedOut):
        sql.query(ctx, "SELECT pg_sleep(62)")
    assert not postgres.sleeps("postgres")


check_that = sql.assert_  # by another name, for it is not unittest's


# -- assert -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "expect",
    [
        Expected(value=1),
        Expected(rowcount=2),
        Expected(rows=[[1, "a"], {"n": 2, "t": "b"}]),
        Expected(that="rows[1].t == 'b' and rowcount == 2"),
        Expected(that=["value == 1", "columns == ['n', 't']"]),
    ],
)
def test_what_is_as_expected_passes(pg_ctx: TaskContext, expect: Expected) -> None:
    result = check_that(pg_ctx, "SELECT * FROM (VALUES (1, 'a'), (2, 'b')) AS v (n, t)", expect)
    assert result.data["rowcount"] == 2


@pytest.mark.parametrize(
    ("expect", "reason"),
    [
        (Expected(value=2), "expected the value 2, got 1"),
        (Expected(value=True), "expected the value True, got 1"),
        (Expected(value=None), "expected the value None, got 1"),
        (Expected(rowcount=0), "expected 0 rows, got 1"),
        (Expected(rows=[]), "expected 0 rows, got 1: [{'n': 1}]"),
        (Expected(rows=[[2]]), "expected row 1 to be [2], got [1]"),
        (Expected(that="value > 1"), "not true: value > 1"),
    ],
)
def test_what_is_not_as_expected_fails(pg_ctx: TaskContext, expect: Expected, reason: str) -> None:
    with pytest.raises(Failed) as caught:
        check_that(pg_ctx, "SELECT 1 AS n", expect)
    assert caught.value.message == reason
    assert caught.value.data["value"] == 1


def test_an_assertion_may_have_own_words_but_not_nothing(pg_ctx: TaskContext) -> None:
    with pytest.raises(Failed, match="agents are missing") as caught:
        check_that(pg_ctx, "SELECT 60", Expected(value=61), fail_msg="agents are missing")
    assert caught.value.evidence[0] == "expected the value 61, got 60"
    with pytest.raises(Refused, match="expects nothing"):
        check_that(pg_ctx, "SELECT 60", Expected())


# -- script -------------------------------------------------------------------------------------
SCRIPT = """
-- agents; and a comment
CREATE TABLE agent (id int PRIMARY KEY, name text DEFAULT ';');
INSERT INTO agent SELECT n, 'agent ' || n || '; 100%' FROM generate_series(1, 61) AS n;
CREATE FUNCTION count_agents() RETURNS bigint LANGUAGE plpgsql AS $body$
BEGIN RETURN (SELECT count(*) FROM agent); END; $body$;
UPDATE agent SET name = 'first' WHERE id = 1
"""


def test_a_script_commits_all_its_statements_and_its_ledger_row(
    pg_ctx: TaskContext, postgres: Postgres, db: str
) -> None:
    result = sql.script(pg_ctx, SCRIPT)
    assert result.changed
    assert result.data["statements"] == 4
    assert result.data["rowcount"] == 62
    assert not result.data["already_done"]
    assert postgres.rows(db, "SELECT count_agents()") == [(61,)]
    ledger = postgres.rows(db, "SELECT key, run, step, statements FROM ce_run.ledger")
    assert ledger == [("run-1/step/0", "run-1", "step", 4)]


def test_the_same_task_never_runs_its_script_twice(
    make_context: MakeContext, postgres: Postgres, db: str
) -> None:
    postgres.run(db, "CREATE TABLE account (balance int); INSERT INTO account VALUES (0)")
    inventory = {"sql": {"primary": postgres.entry(db)}}
    update = "UPDATE account SET balance = balance + 1"
    first = sql.script(make_context(inventory), update)
    again = sql.script(make_context(inventory, attempt=2), update)
    other = sql.script(make_context(inventory, run_id="run-2"), update)
    assert [one.changed for one in (first, again, other)] == [True, False, True]
    assert again.data["already_done"]
    assert again.data["at"] == first.data["at"]
    assert again.data.keys() == first.data.keys()
    assert postgres.rows(db, "SELECT balance FROM account") == [(2,)]


def test_an_error_undoes_the_whole_script_and_names_the_statement(
    pg_ctx: TaskContext, postgres: Postgres, db: str
) -> None:
    with pytest.raises(Failed) as caught:
        sql.script(pg_ctx, "CREATE TABLE t (n int);\n\nINSERT INTO t\nVALUES (1/0);")
    assert caught.value.message == "statement 2, line 3: the database says: division by zero"
    assert caught.value.evidence[-1] == "statement: INSERT INTO t..."
    assert caught.value.hint == "nothing of the script was kept"
    assert postgres.rows(db, "SELECT to_regclass('t')") == [(None,)]
    assert postgres.rows(db, "SELECT * FROM ce_run.ledger") == []
    assert sql.script(pg_ctx, "CREATE TABLE t (n int)").changed


def test_a_file_can_be_a_template(
    make_context: MakeContext, postgres: Postgres, db: str, root: Path
) -> None:
    (root / "m.sql").write_text("CREATE TABLE {{ table }} (n int);")
    ctx = make_context({"sql": {"primary": postgres.entry(db)}}, scope={"table": "made"})
    with pytest.raises(Failed, match="syntax error"):
        sql.script(ctx, file=Path("m.sql"))
    sql.script(ctx, file=Path("m.sql"), template=True)
    assert postgres.rows(db, "SELECT * FROM made") == []


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("SELECT 1;\nCOMMIT;", "line 2: COMMIT: a script controls no transactions"),
        ("BEGIN;\nSELECT 1;", "line 1: BEGIN: a script controls no transactions"),
        ("START TRANSACTION; SELECT 1", "controls no transactions"),
        ("ROLLBACK", "controls no transactions"),
        ("PREPARE TRANSACTION 'x'", "controls no transactions"),
        ("SELECT 1; VACUUM", "cannot run inside a transaction"),
        ("CREATE UNIQUE INDEX CONCURRENTLY i ON t (n)", "cannot run inside a transaction"),
        ("CREATE DATABASE x", "cannot run inside a transaction"),
        ("COPY t FROM STDIN", "no standard input"),
        ("\\connect other\nSELECT 1", r"line 1: \\connect other is a command of psql"),
        ("SELECT 'a", "line 1: a quote has no end"),
        ("SELECT $x$ a $y$", r"line 1: \$x\$ has no end"),
        ("/* a", "line 1: a comment has no end"),
        ("-- nothing", "holds no statement"),
        ("", "either as `sql` or as `file`"),
    ],
)
def test_what_fits_no_transaction_is_refused_before_anything_is_sent(
    pg_ctx: TaskContext, postgres: Postgres, db: str, script: str, message: str
) -> None:
    with pytest.raises(Refused, match=message):
        sql.script(pg_ctx, script)
    assert postgres.rows(db, "SELECT to_regclass('ce_run.ledger')") == [(None,)]


def test_what_only_the_server_knows_to_fit_no_transaction_is_refused(
    pg_ctx: TaskContext, postgres: Postgres, db: str
) -> None:
    postgres.run(db, "CREATE TABLE p (n int) PARTITION BY LIST (n)")
    postgres.run(db, "CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)")
    with pytest.raises(Refused, match="statement 1, line 1: the statement does not fit"):
        sql.script(pg_ctx, "ALTER TABLE p DETACH PARTITION p1 CONCURRENTLY")


def test_savepoints_and_sql_bodies_are_fine(pg_ctx: TaskContext) -> None:
    result = sql.script(
        pg_ctx,
        "CREATE FUNCTION f(a int) RETURNS int BEGIN ATOMIC"
        " SELECT CASE WHEN a > 1 THEN 1 ELSE 2 END; SELECT 3; END;"
        "SAVEPOINT a; SELECT 1; ROLLBACK TO SAVEPOINT a; SELECT f(1)",
    )
    assert result.data["statements"] == 5


def test_the_ledger_can_be_refused(pg_ctx: TaskContext, postgres: Postgres, db: str) -> None:
    assert sql.script(pg_ctx, "CREATE TABLE t (n int)", ledger=False).data["at"] is None
    assert postgres.rows(db, "SELECT to_regclass('ce_run.ledger')") == [(None,)]
    assert sql.script.prober is not None
    assert sql.script.prober(pg_ctx, "SELECT 1", ledger=False).verdict == "unknown"


def test_a_user_who_may_not_make_the_ledger_is_told_what_to_do(
    make_context: MakeContext, postgres: Postgres, db: str
) -> None:
    postgres.run(db, f"CREATE ROLE {db}_app LOGIN PASSWORD '{PASSWORD}'")
    ctx = make_context({"sql": {"primary": postgres.entry(db, user=f"{db}_app")}})
    with pytest.raises(Refused, match="ce_run cannot be created") as caught:
        sql.script(ctx, "SELECT 1")
    assert "ledger: false" in caught.value.hint


def test_the_ledger_tells_after_a_crash(pg_ctx: TaskContext) -> None:
    assert sql.script.prober is not None
    assert sql.script.prober(pg_ctx, "CREATE TABLE t (n int)").verdict == "not_done"
    done = sql.script(pg_ctx, "CREATE TABLE t (n int)")
    probe = sql.script.prober(pg_ctx, "CREATE TABLE t (n int)")
    assert probe.verdict == "done"
    assert probe.result is not None
    assert probe.result.data["at"] == done.data["at"]


def test_check_shows_the_statements_and_writes_nothing(
    pg_ctx: TaskContext, postgres: Postgres, db: str
) -> None:
    assert sql.script.checker is not None
    shown = sql.script.checker(pg_ctx, "CREATE TABLE t (n int); SELECT 1")
    assert (shown.changed, shown.diff) == (True, "+ CREATE TABLE t (n int);\n+ SELECT 1;\n")
    assert postgres.rows(db, "SELECT to_regclass('t'), to_regclass('ce_run.ledger')") == [
        (None, None)
    ]
    done = sql.script(pg_ctx, "CREATE TABLE t (n int)")
    assert not sql.script.checker(pg_ctx, "CREATE TABLE t (n int)").changed
    assert shown.data.keys() == done.data.keys()


def test_a_cancelled_script_leaves_nothing(
    pg_ctx: TaskContext, postgres: Postgres, db: str, cancel_when: CancelWhen
) -> None:
    cancel_when(pg_ctx, lambda: postgres.sleeps(db))
    with pytest.raises(Cancelled):
        sql.script(pg_ctx, "CREATE TABLE t (n int); SELECT pg_sleep(63)")
    assert not postgres.sleeps(db)
    assert postgres.rows(db, "SELECT to_regclass('t')") == [(None,)]


def test_a_connection_lost_in_the_middle_is_unreachable_and_a_retry_finishes(
    make_context: MakeContext, postgres: Postgres, db: str
) -> None:
    inventory = {"sql": {"primary": postgres.entry(db)}}
    kill = "SELECT pg_terminate_backend(pg_backend_pid())"
    with pytest.raises(Unreachable, match="broke off"):
        sql.script(make_context(inventory), f"CREATE TABLE t (n int); {kill}")
    assert sql.script(make_context(inventory, attempt=2), "CREATE TABLE t (n int)").changed


def _migrate(port: int, db: str, folder: str, script: str) -> None:
    """What a run does, in a process that the test kills."""
    entry = {
        "host": "127.0.0.1", "port": port, "user": "postgres", "password": PASSWORD, "dbname": db
    }  # fmt: skip
    services = Services(
        run_id="run-1",
        clock=SystemClock(),
        root=Path(folder),
        section=lambda name: {"primary": entry},
    )
    sql.script(TaskContext(services, Attempt("migrate")), script)


GATE = "SELECT pg_advisory_xact_lock(42)"
AT_COMMIT = """
CREATE FUNCTION gate() RETURNS trigger LANGUAGE plpgsql AS
$$ BEGIN PERFORM pg_advisory_xact_lock(42); RETURN NULL; END $$;
CREATE CONSTRAINT TRIGGER gate AFTER INSERT ON counter DEFERRABLE INITIALLY DEFERRED
FOR EACH ROW WHEN (NEW.step = 49) EXECUTE FUNCTION gate();
"""


def migration(gate: int | None) -> str:
    """Fifty statements, one of which may have to wait for the test's lock."""
    lines = [f"INSERT INTO counter VALUES ({number}, 1)" for number in range(50)]
    if gate is not None:
        lines[gate] = f"{GATE}; {lines[gate]}"
    return ";\n".join(lines)


class Killable:
    """A run of the migration in a process of its own."""

    def __init__(self, postgres: Postgres, db: str, folder: Path, script: str) -> None:
        self._process = multiprocessing.get_context("spawn").Process(
            target=_migrate, args=(postgres.port, db, str(folder), script)
        )
        self._process.start()

    def kill(self) -> None:
        """Like ``kill -9``, and wait until it is gone."""
        assert self._process.pid is not None
        os.kill(self._process.pid, signal.SIGKILL)
        self._process.join()


@pytest.mark.parametrize("instant", ["first", "middle", "last", "commit", "committed"])
@pytest.mark.parametrize("resume", ["at once", "later"])
def test_a_migration_killed_at_any_instant_is_applied_exactly_once(
    make_context: MakeContext,
    postgres: Postgres,
    db: str,
    tmp_path: Path,
    instant: str,
    resume: str,
) -> None:
    """Killed while its transaction is open on the server; resumed before or after that ends."""
    postgres.run(db, "CREATE TABLE counter (step int, n int)")
    if instant == "commit":
        postgres.run(db, AT_COMMIT)
    script = migration({"first": 0, "middle": 25, "last": 49}.get(instant))
    ctx = make_context({"sql": {"primary": postgres.entry(db)}}, step="migrate", attempt=2)
    waits = f"SELECT count(*) = %s FROM pg_stat_activity WHERE datname = '{db}' AND %s"
    with postgres.connect(db) as gatekeeper:
        gatekeeper.execute("SELECT pg_advisory_lock(42)")
        killable = Killable(postgres, db, tmp_path, script)
        if instant == "committed":
            wait_for_ledger(postgres, db)
        else:
            postgres.wait_for(waits % (1, "wait_event = 'advisory'"))
        killable.kill()
        second = threading.Thread(target=sql.script, args=(ctx, script))
        if resume == "at once":
            second.start()
            if instant != "committed":
                postgres.wait_for(waits % (1, "wait_event = 'transactionid'"))
    postgres.wait_for(waits % (0, "application_name LIKE 'ce-run%%' AND state <> 'active'"))
    if resume == "later":
        second.start()
    second.join()
    found = postgres.rows(db, "SELECT count(*), sum(n), count(DISTINCT step) FROM counter")
    assert found == [(50, 50, 50)]
    assert postgres.rows(db, "SELECT key FROM ce_run.ledger") == [("run-1/migrate/0",)]


def wait_for_ledger(postgres: Postgres, db: str) -> None:
    """Wait until the migration has committed."""
    pause = threading.Event()
    for _ in range(500):
        if postgres.rows(db, "SELECT to_regclass('ce_run.ledger') IS NOT NULL") == [
            (True,)
        ] and postgres.rows(db, "SELECT 1 FROM ce_run.ledger"):
            return
        pause.wait(0.02)
    raise AssertionError("never committed")
