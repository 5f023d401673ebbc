"""A migration of fifty statements is applied once and whole, whenever its engine is killed.

The engine is a real process, PostgreSQL is the lab's. Points are counted in statements (before it
is sent, when it is on its way, after it) with the commit as the last, or are moments in time.
"""

from __future__ import annotations

import random
import subprocess
import time
from collections.abc import Sequence

import pytest

from tests.crash.killed_in_sql import COMMIT, LEDGER, SqlSpot
from tests.crash.operator import Ended, Spots, in_turn
from tests.crash.stage import Stage

SEED = 20260131


@pytest.fixture
def counted(stage: Stage) -> Stage:
    """A stage whose database has the tables that the migration counts in."""
    stage.lab.sql("CREATE TABLE IF NOT EXISTS tally (run text, n integer)")
    stage.lab.sql("CREATE TABLE IF NOT EXISTS counters (value integer)")
    stage.lab.sql("TRUNCATE tally, counters")
    stage.lab.sql("INSERT INTO counters VALUES (0)")
    return stage


def applied_once(stage: Stage, ended: Ended, runs: int) -> None:
    """Every statement of the run happened, and happened once."""
    assert ended.outcome == "succeeded", ended.output
    run = ended.folder.run_id
    found = stage.lab.sql(f"SELECT n FROM tally WHERE run = '{run}' ORDER BY n")
    assert [n for (n,) in found] == list(range(1, 50))
    assert stage.lab.sql("SELECT value FROM counters") == [(runs,)]
    assert stage.lab.sql(f"SELECT count(*) FROM ce_run.ledger WHERE run = '{run}'") == [(1,)]
    assert ended.decided == []  # nobody had to be asked: the ledger knows


def migrate(stage: Stage, spots: Spots) -> Ended:
    """The migration, killed at each of the spots in turn."""
    ended = stage.operator.carry(*stage.arguments("fifty.yml"), where=in_turn(*spots))
    assert len(ended.deaths) == len(spots), ended.output
    return ended


def spots_before_the_end(number: int, rng: random.Random) -> Sequence[SqlSpot]:
    """Spots at which nothing was committed yet, so that the next process comes there, too."""
    every = [SqlSpot(n, when) for n in range(LEDGER, 51) for when in ("before", "sent", "after")]
    every.remove(SqlSpot(LEDGER, "sent"))
    return rng.sample(every, number)


def test_a_migration_killed_at_any_statement_and_around_its_commit_is_applied_once(
    counted: Stage,
) -> None:
    rng = random.Random(SEED)
    before, sent, after = (SqlSpot(COMMIT, when) for when in ("before", "sent", "after"))
    plans: list[Spots] = [
        [*spots_before_the_end(4, rng), before, sent],
        [SqlSpot(LEDGER, "after"), *spots_before_the_end(2, rng), after],
    ]
    for number, spots in enumerate(plans, 1):
        applied_once(counted, migrate(counted, spots), number)
    print(f"{sum(map(len, plans))} points in {len(plans)} migrations: 0 twice, 0 half, 0 lost")


@pytest.mark.slow
def test_a_migration_killed_at_every_statement_is_applied_once(counted: Stage) -> None:
    rng = random.Random(SEED)
    every = spots_before_the_end(152, rng)
    last = [SqlSpot(COMMIT, "before"), SqlSpot(COMMIT, "sent")], [SqlSpot(COMMIT, "after")]
    plans = [[*every[at : at + 20], *last[at // 20 % 2]] for at in range(0, len(every), 20)]
    for number, spots in enumerate(plans, 1):
        applied_once(counted, migrate(counted, spots), number)
    print(f"{sum(map(len, plans))} points in {len(plans)} migrations: 0 twice, 0 half, 0 lost")


@pytest.mark.slow
def test_a_migration_killed_at_any_moment_is_applied_once(counted: Stage) -> None:
    """The moments are spread over the life of the process, whatever it does just then."""
    rng = random.Random(SEED)
    operator, arguments = counted.operator, counted.arguments("fifty.yml")
    began = time.monotonic()
    applied_once(counted, operator.carry(*arguments), 1)
    lasts = time.monotonic() - began
    killed = 0
    for number in range(2, 42):
        operator.begin()
        process = operator.start("run", *arguments, "--yes")
        try:
            process.communicate(timeout=rng.uniform(0.3, 1.0) * lasts)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            killed += 1
        ended = operator.finish(*arguments)
        applied_once(counted, ended, number)
    print(f"{killed} of 40 migrations killed at a random moment: 0 twice, 0 half, 0 lost")
