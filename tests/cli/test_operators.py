"""Commands from another shell: stop, approve, reject, locks, unlock, logs, show of a living run."""

from __future__ import annotations

import json
import re
import signal

import pytest

from engine.errors import UsageError
from engine.events import (
    FailureLatched,
    GateAnswered,
    GateOpened,
    Person,
    ReasonGiven,
    RunStopped,
    StopRequested,
    TaskStarted,
)
from engine.session import answer
from engine.store import Command
from tests.cli.conftest import Desk, wait_until

LONG = """
    name: Long
    locks: [production]
    steps:
      - id: one
        shell: echo first
        undo: {shell: touch undone}
      - id: soak
        wait: {for: 60s, reason: watching}
      - id: two
        shell: echo second
"""

ASKING = """
    name: Asking
    steps:
      - id: soak
        wait: {for: 60s}
      - id: switch
        needs: []
        confirm: Really?
        shell: echo switched
"""


def started(desk: Desk, step: str) -> bool:
    """Whether an attempt of the step has begun."""
    return any(isinstance(e, TaskStarted) and e.step == step for e in desk.events(TaskStarted))


def test_stop_interrupts_a_run_of_another_process(desk: Desk) -> None:
    desk.write(LONG)
    process = desk.start("book.yml")
    wait_until(lambda: started(desk, "soak"), "the soak")
    run = desk.run().run_id
    stopped = desk.ce_run("stop", "last", "--reason", "lunch")
    assert stopped.returncode == 0
    assert f"ce-run resume {run}" in stopped.stdout
    status, _ = desk.end(process)
    assert status == 130
    [event] = desk.events(StopRequested)
    assert isinstance(event, StopRequested)
    assert event.by is not None
    assert (event.by.name, event.reason) == ("tester", "lunch")
    again = desk.ce_run("stop", "last")
    assert "is not running: interrupted, resumable" in again.stdout


def test_stop_with_rescue_rolls_back(desk: Desk) -> None:
    desk.write(LONG)
    process = desk.start("book.yml")
    wait_until(lambda: started(desk, "soak"), "the soak")
    assert desk.ce_run("stop", "last", "--rescue", "--reason", "complaints").returncode == 0
    status, output = desk.end(process)
    assert status == 1
    assert "complaints" in output
    assert (desk.folder / "undone").exists()
    assert desk.events(FailureLatched)


def test_a_living_run_takes_an_answer_from_another_shell(desk: Desk) -> None:
    desk.write(ASKING)
    process = desk.start("book.yml")
    wait_until(lambda: desk.events(GateOpened), "the question")
    refused = desk.ce_run("approve", "last", "soak")
    assert refused.returncode == 2
    assert "does not wait for an answer" in refused.stderr
    done = desk.ce_run("approve", "last", "switch", "--by", "ada")
    assert done.returncode == 0
    assert "goes on" in done.stdout
    assert desk.events(GateAnswered)
    wait_until(lambda: started(desk, "switch"), "the switch")
    desk.end(process, signal.SIGINT)


def test_nothing_is_answered_where_nothing_is_asked(desk: Desk) -> None:
    desk.write("name: Small\nsteps:\n  - shell: echo hello\n")
    desk.ce_run("book.yml")
    before = desk.run().journal_path.read_bytes()
    done = desk.ce_run("approve", "last")
    assert done.returncode == 2
    assert "does not wait for an answer" in done.stderr
    assert desk.run().journal_path.read_bytes() == before


def test_a_waiting_run_is_shown_as_such_everywhere(desk: Desk) -> None:
    desk.write(ASKING.replace("60s", "0s"))
    assert desk.ce_run("book.yml").returncode == 5
    run = desk.run().run_id
    assert "waiting for a person: switch" in desk.ce_run("runs").stdout
    shown = desk.ce_run("show", run).stdout
    assert "waits for a person" in shown
    assert "Really?" in shown
    assert f"ce-run approve {run} switch" in shown
    [listed] = json.loads(desk.ce_run("runs", "--output", "json").stdout)
    assert listed["status"] == "waiting for a person: switch"
    assert "waiting for a person: switch" in desk.ce_run("stop", run).stdout


def test_show_tells_what_waits_for_whom_while_a_run_is_under_way(desk: Desk) -> None:
    desk.write(LONG)
    process = desk.start("book.yml")
    wait_until(lambda: started(desk, "soak"), "the soak")
    shown = desk.ce_run("show", "last").stdout
    assert "Long: running for" in shown
    assert "waits for soak" in shown
    assert f"ce-run stop {desk.run().run_id}" in shown
    data = json.loads(desk.ce_run("show", "last", "--output", "json").stdout)
    assert data["status"] == "running"
    assert [step["status"] for step in data["steps"]] == ["succeeded", "opened", "pending"]
    desk.end(process, signal.SIGINT)


def test_locks_and_unlock(desk: Desk) -> None:
    desk.write(LONG)
    process = desk.start("book.yml")
    wait_until(lambda: started(desk, "soak"), "the soak")
    run = desk.run().run_id
    [held] = json.loads(desk.ce_run("locks", "--output", "json").stdout)
    assert (held["name"], held["status"], held["run"]) == ("production", "held", run)
    refused = desk.ce_run("unlock", "production")
    assert refused.returncode == 2
    assert "--reason is required" in refused.stderr
    assert desk.ce_run("unlock", "prodution", "--reason", "x").returncode == 2
    done = desk.ce_run("unlock", "production", "--reason", "its machine is gone")
    assert done.returncode == 0
    assert f"was taken from run {run} of tester@" in done.stdout
    status, output = desk.end(process)
    assert status == 6
    assert "its machine is gone" in output
    assert "free" in desk.ce_run("locks").stdout


def test_logs_of_all_attempts(desk: Desk) -> None:
    desk.write("""
        name: Retries
        steps:
          - id: group
            steps:
              - id: it
                retry: {attempts: 2}
                shell: echo try; echo x >> tries; test $(wc -l < tries) = 2
              - id: other
                shell: echo something else
    """)
    assert desk.ce_run("book.yml").returncode == 0
    shown = desk.ce_run("logs", "last", "group/it").stdout
    assert "--- group/it, attempt 1" in shown
    assert "failed after" in shown
    assert "--- group/it, attempt 2" in shown
    assert shown.count("\ntry\n") == 2
    assert "something else" in desk.ce_run("logs", "last", "group").stdout
    missing = desk.ce_run("logs", "last", "group/itt")
    assert missing.returncode == 2
    assert "did you mean 'group/it'?" in missing.stderr


def test_logs_are_followed_to_the_end_of_the_step(desk: Desk) -> None:
    desk.write("""
        name: Slow
        steps:
          - id: it
            shell: echo begun; until test -e go; do sleep 0.02; done; echo ended
    """)
    process = desk.start("book.yml")
    wait_until(lambda: started(desk, "it"), "the step")
    follower = desk.start("logs", "last", "it", "--follow")
    (desk.folder / "go").touch()
    status, output = desk.end(follower)
    assert status == 0
    assert output.index("begun") < output.index("ended")
    assert output.count("begun") == 1
    desk.end(process)


def test_a_journal_that_cannot_be_read_is_told_in_its_line_of_the_list(desk: Desk) -> None:
    desk.write("name: Small\nsteps:\n  - shell: echo hello\n")
    desk.ce_run("book.yml")
    journal = desk.run().journal_path
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([lines[0], lines[1].replace(b'"seq":2', b'"seq":7'), *lines[2:]]))
    listed = desk.ce_run("runs")
    assert listed.returncode == 0
    assert "unreadable" in listed.stdout
    shown = desk.ce_run("show", "last")
    assert shown.returncode == 3
    assert "journal.jsonl:2: the journal is damaged here" in shown.stderr


def test_what_was_said_to_a_dead_process_is_not_meant_for_the_next_one(desk: Desk) -> None:
    desk.write("name: Asking\nsteps:\n  - {id: a, confirm: sure?}\n")
    assert desk.ce_run("book.yml").returncode == 5
    desk.run().send(Command("stop", Person("tester"), reason="too late"))
    assert desk.ce_run("resume", "last", "--yes").returncode == 0
    assert desk.events(StopRequested)[1:] == []


def test_an_answer_that_a_dying_process_does_not_take_is_noted_all_the_same(desk: Desk) -> None:
    desk.write(ASKING)
    process = desk.start("book.yml")
    wait_until(lambda: desk.events(GateOpened), "the question")
    process.send_signal(signal.SIGSTOP)
    approving = desk.start("approve", "last", "switch", "--by", "ada")
    wait_until(lambda: list((desk.run().path / "control").glob("*.json")), "the message")
    process.kill()
    process.wait()
    status, output = desk.end(approving)
    assert status == 0, output
    assert "no process carries run" in output
    [event] = desk.events(GateAnswered)
    assert isinstance(event, GateAnswered)
    assert event.by.claims == "ada"
    assert list((desk.run().path / "control").glob("*.json")) == []


def test_of_two_answers_at_once_one_counts_and_the_run_can_go_on(desk: Desk) -> None:
    """Both have seen the question open; only one of them may be written down."""
    desk.write("name: Asking\nsteps:\n  - {id: a, confirm: sure?}\n  - {id: b, confirm: really?}\n")
    assert desk.ce_run("book.yml").returncode == 5
    folder = desk.run()
    answer(folder, GateAnswered("a", "approved", Person("ada")))
    with pytest.raises(UsageError, match="does not wait for an answer any more"):
        answer(folder, GateAnswered("a", "rejected", Person("bob")))
    assert len(desk.events(GateAnswered)) == 1
    assert desk.ce_run("resume", "last", "--yes").returncode == 0


def test_a_run_leaves_signs_of_life_and_its_resume_knows_until_when_it_was_at_work(
    desk: Desk,
) -> None:
    desk.write("name: W\nsteps:\n  - id: soak\n    wait: {for: \"{{ env('SLOW', '0s') }}\"}\n")
    desk.environment["SLOW"] = "60s"
    process = desk.start("book.yml")
    wait_until(lambda: started(desk, "soak"), "the soak")
    begun = desk.records()[-1].time
    wait_until(lambda: desk.run().last_beat() > begun + 0.2, "two signs of life")
    process.kill()
    process.wait()
    seen = desk.run().last_beat()
    del desk.environment["SLOW"]
    assert desk.ce_run("resume", "last").returncode == 0
    [stopped] = desk.events(RunStopped)
    assert isinstance(stopped, RunStopped)
    assert begun < stopped.seen == seen


def test_a_damaged_lock_is_told_and_stands_in_no_emergencys_way(desk: Desk) -> None:
    desk.write("name: Plain\nlocks: [production]\nsteps:\n  - shell: echo plain\n")
    desk.write(
        "name: Rescue\nlocks: [production]\npreempts: true\nsteps:\n  - shell: echo rescue\n",
        "rescue.yml",
    )
    assert desk.ce_run("book.yml").returncode == 0
    lock = desk.state / "locks" / "production.json"

    lock.write_text("{")
    refused = desk.ce_run("book.yml")
    assert refused.returncode == 4
    assert "production.json is damaged" in refused.stderr
    assert "damaged" in desk.ce_run("locks").stdout
    assert desk.ce_run("rescue.yml", "--force").returncode == 0
    before = json.loads(lock.read_text())["token"]
    assert before == 2, "it goes on growing although its record was lost"

    lock.write_text("")
    assert desk.ce_run("unlock", "production", "--reason", "power cut").returncode == 0
    assert desk.ce_run("book.yml").returncode == 0
    assert json.loads(lock.read_text())["token"] > before


def test_a_run_that_died_before_its_first_record_is_told_as_such_everywhere(desk: Desk) -> None:
    desk.write("name: Plain\nsteps:\n  - shell: echo plain\n")
    assert desk.ce_run("book.yml").returncode == 0
    desk.run().journal_path.write_bytes(b"")
    (desk.run().path / "run.lock").write_bytes(b"4711      ")
    assert "never started" in desk.ce_run("runs").stdout
    for words in (("show", "last"), ("stop", "last"), ("approve", "last"), ("resume", "last")):
        told = desk.ce_run(*words)
        assert told.returncode == 2, told.stderr
        assert "its journal is empty" in told.stderr
        assert "hint" in told.stderr


FORCED = """
    name: Back
    preempts: true
    locks: [production]
    steps:
      - id: soak
        when: (wait_for | duration) > 0
        wait: {for: "{{ wait_for }}"}
    vars: {wait_for: 0s}
"""


def test_a_forced_run_asks_for_its_reason_and_takes_it_afterwards(desk: Desk) -> None:
    desk.write(FORCED)
    forced = desk.ce_run("book.yml", "--force")
    assert forced.returncode == 0, forced.stderr
    run = desk.run().run_id
    assert "none was given for --force, used by tester@" in forced.stdout
    assert f"ce-run reason {run} WHY" in forced.stdout
    assert desk.ce_run("reason", "last", "  ").returncode == 2
    told = desk.ce_run("reason", "last", "errors of 5.1", "--by", "ada")
    assert told.returncode == 0, told.stderr
    shown = desk.ce_run("show", "last").stdout
    assert re.search(r"(?m)^reason +errors of 5\.1 \(--force\), told by tester@", shown)
    assert f"ce-run reason {run}" not in shown
    assert desk.ce_run("reason", "last", "INC-7").returncode == 0
    assert [
        event.reason for event in desk.events(ReasonGiven) if isinstance(event, ReasonGiven)
    ] == [
        "errors of 5.1",
        "INC-7",
    ]
    assert "errors of 5.1 (told by tester@" in desk.ce_run("show", "last", "--events").stdout
    assert json.loads(desk.ce_run("show", "last", "--output", "json").stdout)["reason"] == "INC-7"


def test_a_run_at_work_takes_its_reason_too(desk: Desk) -> None:
    desk.write(FORCED)
    process = desk.start("book.yml", "--force", "-e", "wait_for=60s")
    wait_until(lambda: started(desk, "soak"), "the soak")
    assert desk.ce_run("reason", "last", "errors of 5.1").returncode == 0
    assert "errors of 5.1 (told by tester@" in desk.end(process, signal.SIGTERM)[1]


def test_a_run_with_a_reason_asks_for_none(desk: Desk) -> None:
    desk.write(FORCED)
    forced = desk.ce_run("book.yml", "--force", "--reason", "errors of 5.1").stdout
    assert "ce-run reason" not in forced
    assert "none was given" not in forced
