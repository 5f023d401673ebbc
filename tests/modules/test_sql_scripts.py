"""What scripts may hold, and that nothing in them escapes from their one transaction."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from engine.executor import TaskContext
from engine.module_api import Cancelled, Failed, Refused, Unreachable
from modules import sql
from modules._pg import script as pg_script
from modules._pg import text as pg_text
from tests.modules.conftest import MakeContext
from tests.modules.postgres_server import PASSWORD, Postgres


# -- text ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("script", "statements"),
    [
        ("SELECT 'a;b'; SELECT 1 AS \"c;d\"", 2),
        ("SELECT E'it\\'s; '; SELECT 1", 2),
        ("SELECT E'a'\n  'b\\'; COMMIT; --'; SELECT 1", 2),
        ("SELECT U&'\\0041;'; SELECT 1", 2),
        ("SELECT $$a;b$$; SELECT $x$ $$ ; $y$ $x$", 2),
        ("/* ; /* nested; */ ; */ SELECT 1 -- ; no\n; SELECT 2", 2),
        ("SELECT a$b$ FROM (SELECT 1 AS a$b$) AS x; SELECT 1", 2),
        (";;SELECT 1;;", 1),
        ("\ufeffSELECT 1", 1),
        ("SAVEPOINT a; SELECT 1; ROLLBACK TRANSACTION TO SAVEPOINT a", 3),
        ("CREATE TABLE t (n int); CREATE RULE r AS ON INSERT TO t DO ALSO (SELECT 1; SELECT 2)", 2),
        ("DO $$ BEGIN PERFORM 1; END $$; SELECT 1", 2),
    ],
)
def test_a_script_is_cut_where_its_statements_end(
    pg_ctx: TaskContext, script: str, statements: int
) -> None:
    assert sql.script(pg_ctx, script).data["statements"] == statements


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("SELECT 1;\n  \\connect other", r"line 2: \\connect other is a command of psql"),
        ("SELECT 1 \\gexec", r"line 1: \\gexec is a command of psql"),
        ("SELECT 1;\nCOPY t (a) FROM stdin;\n1\tO'Brien\n\\.\n", "line 2: COPY t .* no standard"),
        ("COPY (SELECT 1) TO STDOUT", "no standard input or output"),
        ("DELETE FROM t \0 WHERE n = 1", "line 1: there is a NUL byte"),
    ],
)
def test_what_only_psql_understands_is_refused_by_its_name(
    pg_ctx: TaskContext, script: str, message: str
) -> None:
    with pytest.raises(Refused, match=message):
        sql.script(pg_ctx, script)


@pytest.mark.parametrize("statement", ["SELECT :'name'", "SELECT :name", 'SELECT * FROM :"t"'])
def test_variables_of_psql_are_explained(pg_ctx: TaskContext, statement: str) -> None:
    with pytest.raises(Failed, match="syntax error") as caught:
        sql.script(pg_ctx, statement)
    assert "template: true" in caught.value.hint


def test_an_isolation_level_comes_too_late_and_is_said_so(pg_ctx: TaskContext) -> None:
    with pytest.raises(Refused, match="must be called before any query") as caught:
        sql.script(pg_ctx, "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE")
    assert "begins with the ledger's row" in caught.value.hint


def test_a_script_of_many_statements_is_cut_in_one_pass() -> None:
    """Lines are counted on: counting each from the start would take minutes here."""
    script = (
        "INSERT INTO t\nVALUES (1, 'a long line of text that makes the script large');\n" * 50_000
    )
    last = pg_text.split(script)[-1]
    assert (last.line, last.words[:3]) == (99_999, ("INSERT", "INTO", "T"))


def test_a_script_that_left_its_transaction_in_disguise_is_stopped(
    pg_ctx: TaskContext, postgres: Postgres, db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should we ever cut a script wrongly: what follows must not run outside the transaction."""
    whole = pg_text.Statement("CREATE TABLE a (n int); COMMIT", 1, ("CREATE", "TABLE", "A"))
    rest = pg_text.Statement("CREATE TABLE b (n int)", 2, ("CREATE", "TABLE", "B"))
    monkeypatch.setattr(pg_script, "statements", lambda *args: [whole, rest])
    with pytest.raises(Failed, match="ended the script's transaction"):
        sql.script(pg_ctx, "CREATE TABLE a (n int); COMMIT; CREATE TABLE b (n int)")
    assert postgres.rows(db, "SELECT to_regclass('b')") == [(None,)]


# -- sessions -----------------------------------------------------------------------------------
@pytest.mark.parametrize("words", ["SET ROLE {}", "SET SESSION AUTHORIZATION {}"])
def test_a_script_may_go_on_as_another_role(
    pg_ctx: TaskContext, postgres: Postgres, db: str, words: str
) -> None:
    """One who may not read the ledger: the script is done all the same, and says so."""
    role = f"{db}_owner"
    postgres.run(db, f"CREATE ROLE {role}; CREATE SCHEMA theirs AUTHORIZATION {role}")
    done = sql.script(pg_ctx, f"{words.format(role)}; CREATE TABLE theirs.t (n int)")
    assert done.changed
    assert done.data["at"] is not None
    again = sql.script(pg_ctx, f"{words.format(role)}; CREATE TABLE theirs.t (n int)")
    assert (again.changed, again.data["at"]) == (False, done.data["at"])
    assert postgres.rows(db, "SELECT tableowner FROM pg_tables WHERE tablename = 't'") == [(role,)]


def test_a_commit_that_the_journal_will_know_of_is_on_disk(
    pg_ctx: TaskContext, postgres: Postgres, db: str
) -> None:
    postgres.run("postgres", f"ALTER DATABASE {db} SET synchronous_commit TO off")
    sql.script(pg_ctx, "CREATE TABLE seen AS SELECT current_setting('synchronous_commit') AS it")
    assert postgres.rows(db, "SELECT it FROM seen") == [("on",)]


def test_writes_that_somebody_paused_stay_paused(
    make_context: MakeContext, pg_ctx: TaskContext, postgres: Postgres, db: str
) -> None:
    postgres.run("postgres", f"ALTER DATABASE {db} SET default_transaction_read_only TO on")
    with pytest.raises(Refused, match="the database takes no writes now") as caught:
        sql.script(pg_ctx, "CREATE TABLE t (n int)")
    assert "default_transaction_read_only" in caught.value.hint
    assert sql.query(pg_ctx, "SELECT to_regclass('t')").data["value"] is None


def test_a_lock_is_waited_for_as_long_as_the_step_says(
    pg_ctx: TaskContext, postgres: Postgres, db: str
) -> None:
    postgres.run(db, "CREATE TABLE t (n int)")
    with postgres.connect(db) as other:
        other.execute("BEGIN; LOCK TABLE t")
        with pytest.raises(Failed, match=r"statement 2, line 1: .*lock timeout"):
            sql.script(pg_ctx, "SELECT 1; ALTER TABLE t ADD m int", lock_timeout=0.05)
    assert sql.script(pg_ctx, "ALTER TABLE t ADD m int", lock_timeout=5).changed


# -- the ledger ---------------------------------------------------------------------------------
def test_the_ledger_is_made_once_also_by_several_at_the_same_time(
    make_context: MakeContext, postgres: Postgres, db: str
) -> None:
    inventory = {"sql": {"primary": postgres.entry(db)}}
    contexts = [make_context(inventory, step=f"s{n}") for n in range(8)]
    start = threading.Barrier(len(contexts))
    errors: list[BaseException] = []

    def go(ctx: TaskContext) -> None:
        start.wait()
        try:
            sql.script(ctx, "SELECT 1")
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=go, args=(ctx,)) for ctx in contexts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert postgres.rows(db, "SELECT count(*) FROM ce_run.ledger") == [(8,)]


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_two_of_the_same_task_at_once_change_things_once(
    make_context: MakeContext, postgres: Postgres, db: str, isolation: str
) -> None:
    """The second waits for the first one's end and then finds its row, whatever is usual here."""
    postgres.run(db, "CREATE TABLE account (balance int); INSERT INTO account VALUES (0)")
    postgres.run(
        "postgres", f"ALTER DATABASE {db} SET default_transaction_isolation TO '{isolation}'"
    )
    inventory = {"sql": {"primary": postgres.entry(db)}}
    sql.script(make_context(inventory, step="first"), "SELECT 1")
    script = "SELECT pg_advisory_xact_lock(43); UPDATE account SET balance = balance + 1"
    done = []

    def go() -> None:
        done.append(sql.script(make_context(inventory), script))

    threads = [threading.Thread(target=go) for _ in range(2)]
    with postgres.connect(db) as gatekeeper:
        gatekeeper.execute("SELECT pg_advisory_lock(43)")
        for thread, event in zip(threads, ("advisory", "transactionid"), strict=True):
            thread.start()
            postgres.wait_for(
                "SELECT count(*) = 1 FROM pg_stat_activity"
                f" WHERE datname = '{db}' AND wait_event = '{event}'"
            )
    for thread in threads:
        thread.join()
    assert sorted(one.changed for one in done) == [False, True]
    assert postgres.rows(db, "SELECT balance FROM account") == [(1,)]


@pytest.mark.parametrize("taken", ["before", "after"])
def test_a_server_restored_from_a_backup_has_the_ledger_that_fits_its_data(
    make_context: MakeContext, postgres: Postgres, db: str, tmp_path: Path, taken: str
) -> None:
    """Failover to it: a migration that the backup has is done, one that it has not is applied."""
    postgres.run(db, "CREATE TABLE account (balance int); INSERT INTO account VALUES (0)")
    inventory = {"sql": {"primary": postgres.entry(db, backups=str(tmp_path / "backups"))}}
    update = "UPDATE account SET balance = balance + 1"
    if taken == "before":
        sql.backup(make_context(inventory, step="backup"), "b")
    sql.script(make_context(inventory), update)
    if taken == "after":
        sql.backup(make_context(inventory, step="backup"), "b")
    sql.restore(make_context(inventory, run_id="run-2"), "b")
    resumed = make_context(inventory, attempt=2)
    assert sql.script.prober is not None
    verdict = sql.script.prober(resumed, update).verdict
    assert verdict == {"before": "not_done", "after": "done"}[taken]
    assert sql.script(resumed, update).changed == (taken == "before")
    assert postgres.rows(db, "SELECT balance FROM account") == [(1,)]


# -- a connection that is lost ------------------------------------------------------------------
class Cutter:
    """A relay to the server that goes away at a client's COMMIT: before the server has it, or
    as soon as it has."""

    def __init__(self, port: int, deliver: bool) -> None:
        self._server_port = port
        self._deliver = deliver
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._sockets = [self._listener]
        self._threads: list[threading.Thread] = []
        self._spawn(self._accept)

    def close(self) -> None:
        """End everything."""
        for each in self._sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in self._sockets:
            each.close()

    def _spawn(self, work: Callable[..., None], *arguments: socket.socket) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                self._sockets += [client, server]
                self._spawn(self._forward, client, server)
                self._spawn(self._back, server, client)

    def _forward(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65536):
                commits = b"COMMIT\0" in data
                if commits:
                    client.shutdown(socket.SHUT_RDWR)
                if self._deliver or not commits:
                    server.sendall(data)
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_WR)

    def _back(self, server: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := server.recv(65536):
                client.sendall(data)
        with contextlib.suppress(OSError):
            client.shutdown(socket.SHUT_RDWR)


@pytest.fixture(params=[False, True], ids=["commit lost", "answer lost"])
def cutter(postgres: Postgres, request: pytest.FixtureRequest) -> Iterator[Cutter]:
    """A relay before the server."""
    made = Cutter(postgres.port, request.param)
    yield made
    made.close()


def test_a_connection_lost_while_committing_is_settled_by_the_ledger(
    make_context: MakeContext, postgres: Postgres, db: str, cutter: Cutter
) -> None:
    postgres.run(db, "CREATE TABLE account (balance int); INSERT INTO account VALUES (0)")
    update = "UPDATE account SET balance = balance + 1"
    direct = {"sql": {"primary": postgres.entry(db)}}
    sql.script(make_context(direct, step="first"), "SELECT 1")  # makes the ledger
    relayed = {"sql": {"primary": postgres.entry(db, port=cutter.port)}}
    for ledger in (True, False):
        with pytest.raises(Unreachable, match="it may have happened or not") as caught:
            sql.script(make_context(relayed), update, ledger=ledger)
        assert ("the ledger knows" in caught.value.hint) == ledger
    postgres.wait_for(
        "SELECT count(*) = 0 FROM pg_stat_activity"
        f" WHERE datname = '{db}' AND application_name LIKE 'ce-run%'"
    )
    ((by_then,),) = postgres.rows(db, "SELECT balance FROM account")
    retried = sql.script(make_context(direct, attempt=2), update)
    unledgered = 1 if by_then else 0  # the second one, of which nobody can tell
    assert retried.changed == (by_then == 0)
    assert postgres.rows(db, "SELECT balance FROM account") == [(1 + unledgered,)]


def test_a_server_that_hangs_is_left(pg_ctx: TaskContext, postgres: Postgres, db: str) -> None:
    """It accepts the wish to cancel and does not carry it out: the task ends all the same."""
    caught: list[BaseException] = []

    def ask() -> None:
        try:
            sql.query(pg_ctx, "SELECT pg_sleep(60)")
        except BaseException as error:
            caught.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    busy = "FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = "
    postgres.wait_for(f"SELECT count(*) = 1 {busy}'{db}'")
    ((pid,),) = postgres.rows("postgres", f"SELECT pid {busy}'{db}'")
    os.kill(pid, signal.SIGSTOP)
    try:
        pg_ctx.cancel()
        asking.join(30)
        assert not asking.is_alive()
    finally:
        os.kill(pid, signal.SIGCONT)
    assert [type(error) for error in caught] == [Cancelled]


def test_no_password_is_in_a_process_list(
    make_context: MakeContext, postgres: Postgres, db: str, tmp_path: Path, root: Path
) -> None:
    """Neither as a parameter nor in a DSN, of pg_dump nor of pg_restore."""
    tools, seen = root / "bin", root / "seen"
    tools.mkdir()
    for tool in ("pg_dump", "pg_restore"):
        (tools / tool).write_text(
            f'#!/bin/sh\ntr "\\0" " " < /proc/$$/cmdline >> {seen}\n'
            f'exec {postgres.bin}/{tool} "$@"\n'
        )
        (tools / tool).chmod(0o700)
    for number, entry in enumerate((
        postgres.entry(db, bin=str(tools), backups=str(tmp_path / "b")),
        {
            "dsn": f"postgresql://postgres:{PASSWORD}@127.0.0.1:{postgres.port}/{db}",
            "bin": str(tools),
            "backups": str(tmp_path / "b"),
        },
    )):  # fmt: skip
        inventory = {"sql": {"primary": entry}}
        sql.backup(make_context(inventory, step=f"b{number}"), f"b{number}")
        sql.restore(make_context(inventory, step=f"r{number}"), f"b{number}", keep=False)
    told = seen.read_text()
    assert told.count("--dbname=") >= 4
    assert PASSWORD not in told
