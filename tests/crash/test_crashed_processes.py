"""What is left of dead processes stands in nobody's way, and a full disk stops a run in time."""

from __future__ import annotations

import resource

from engine.store.files import FileStore
from tests.crash.killed import Spot
from tests.crash.operator import WAITING
from tests.crash.stage import Stage
from tests.lab.production import eventually, lives

REFUSED = 2
A_PERSON_MUST_ACT = 3


def kill_fifty(stage: Stage) -> str:
    """The id of a run of fifty.yml that was killed before its only step."""
    stage.lab.sql("CREATE TABLE IF NOT EXISTS tally (run text, n integer)")
    stage.lab.sql("CREATE TABLE IF NOT EXISTS counters AS SELECT 0 AS value")
    operator = stage.operator
    operator.begin()
    spot = Spot("synced", type="task_started", step="migrate")
    assert operator.command("run", *stage.arguments("fifty.yml"), spot=spot) < 0
    return FileStore(stage.state).find("last").run_id


def test_the_lock_of_a_killed_owner_is_free_at_once(stage: Stage) -> None:
    operator = stage.operator
    dead = kill_fifty(stage)
    assert operator.command("locks") == 0
    assert "free, owner died" in operator.told()
    assert dead in operator.told()
    assert operator.command("run", *stage.arguments("fifty.yml")) == 0


def test_of_two_resumes_at_once_one_goes_on_and_the_other_is_refused(stage: Stage) -> None:
    operator = stage.operator
    dead = kill_fifty(stage)
    processes = [operator.start("resume", dead, "--yes") for _ in range(2)]
    outputs = [process.communicate()[0] for process in processes]
    statuses = sorted(process.returncode for process in processes)
    assert statuses in ([0, REFUSED], [0, 0]), outputs
    late = ("is being carried by process", "has succeeded: nothing is left to do")
    assert sum(any(each in output for each in late) for output in outputs) == 1, outputs
    found = stage.lab.sql(f"SELECT count(*), count(DISTINCT n) FROM tally WHERE run = '{dead}'")
    assert found == [(49, 49)]


def test_a_command_that_outlives_its_engine_is_ended_before_it_is_repeated(stage: Stage) -> None:
    operator, begun = stage.operator, stage.trace / "begun"
    operator.begin()
    arguments = stage.arguments("slow-command.yml", trace=str(stage.trace))
    process = operator.start("run", *arguments)
    eventually(begun.exists)
    process.kill()
    process.communicate()
    run = eventually(operator.run).run_id
    assert operator.command("resume", run) == WAITING
    assert "it still runs (process" in operator.told()
    assert operator.command("resume", run, "--redo", "command") == 0
    assert (stage.trace / "effects").read_text() == "done\n"
    assert not lives(int(begun.read_text()))


def test_a_full_disk_stops_a_run_before_the_next_effect_and_it_can_go_on_later(
    stage: Stage,
) -> None:
    arguments = stage.arguments("quick-deploy.yml", trace=str(stage.trace))
    operator = stage.operator
    operator.begin()
    process = operator.start("run", *arguments, "--yes")
    left = eventually(operator.run)
    journal = left.journal_path
    eventually(lambda: b'"prepare/config"' in journal.read_bytes())
    _let_files_grow_to(process.pid, journal.stat().st_size + 2000)
    output, _ = process.communicate()
    assert process.returncode == A_PERSON_MUST_ACT, output
    assert "the journal cannot be written: File too large" in output
    assert "Traceback" not in output
    announced = {getattr(each.event, "step", "") for each in left.records()}
    assert "execute/canary/route" not in announced
    assert stage.lab.serving("claude_canary") == []
    ended = operator.finish(*arguments)
    assert ended.folder.run_id == left.run_id
    assert ended.outcome == "succeeded", ended.output


def _let_files_grow_to(pid: int, size: int) -> None:
    """From now on a process finds the disk full wherever a file has that many bytes."""
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, size))
