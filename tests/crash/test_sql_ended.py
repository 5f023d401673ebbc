"""A script that has to end, ends on the server: at a signal, at its deadline, when its run is
stopped from another shell. Nothing of it stays, and who goes on applies it once."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Callable, Iterator

import psycopg
import pytest

from tests.crash.operator import Operator
from tests.crash.stage import Stage
from tests.lab.production import eventually

OURS = (
    "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'ce-run%'"
    " AND pid <> pg_backend_pid()"
)
WAITING = f"{OURS} AND wait_event = 'advisory'"
FAILED = 1


@pytest.fixture
def gate(stage: Stage) -> Iterator[psycopg.Connection[tuple[int]]]:
    """A session that holds the lock for which the script waits."""
    stage.lab.sql("CREATE TABLE IF NOT EXISTS counters (value integer)")
    stage.lab.sql("TRUNCATE counters")
    with psycopg.connect(stage.lab.info.dsn, autocommit=True) as connection:
        connection.execute("SELECT pg_advisory_lock(44)")
        yield connection


def by_signal(number: signal.Signals) -> Callable[[Operator, subprocess.Popen[str]], None]:
    return lambda operator, process: process.send_signal(number)


def by_stop(operator: Operator, process: subprocess.Popen[str]) -> None:
    run = operator.run()
    assert run is not None
    assert operator.command("stop", run.run_id, "--reason", "tried out") == 0


@pytest.mark.parametrize(
    ("end", "status"),
    [
        pytest.param(by_signal(signal.SIGINT), 130, id="SIGINT"),
        pytest.param(by_signal(signal.SIGTERM), 143, id="SIGTERM"),
        pytest.param(by_stop, 130, id="stop"),
    ],
)
def test_a_script_that_is_interrupted_ends_on_the_server_and_is_applied_once_later(
    stage: Stage,
    gate: psycopg.Connection[tuple[int]],
    end: Callable[[Operator, subprocess.Popen[str]], None],
    status: int,
) -> None:
    operator = stage.operator
    operator.begin()
    process = operator.start("run", *stage.arguments("waiting-script.yml"), "--yes")
    eventually(lambda: stage.lab.sql(WAITING) == [(1,)])
    end(operator, process)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == status, output
    assert stage.lab.sql(OURS) == [(0,)]
    assert stage.lab.sql("SELECT value FROM counters") == []

    gate.execute("SELECT pg_advisory_unlock(44)")
    run = operator.run()
    assert run is not None
    assert operator.command("resume", run.run_id, "--yes") == 0, operator.told()
    assert stage.lab.sql("SELECT value FROM counters ORDER BY 1") == [(1,), (2,)]
    assert stage.lab.sql("SELECT count(*) FROM ce_run.ledger WHERE run = '" + run.run_id + "'") == [
        (1,)
    ]


def test_a_script_ends_on_the_server_at_its_deadline(
    stage: Stage, gate: psycopg.Connection[tuple[int]]
) -> None:
    operator = stage.operator
    operator.begin()
    arguments = stage.arguments("waiting-script.yml", limit="1s")
    assert operator.command("run", *arguments, "--yes") == FAILED
    assert "timed out" in operator.told()
    assert stage.lab.sql(OURS) == [(0,)]
    assert stage.lab.sql("SELECT value FROM counters") == []
