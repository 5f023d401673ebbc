"""A run that was left cannot go on as if nothing had happened once another run had its lock."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import pytest

from engine.clock import look_until
from engine.events import TaskStarted
from engine.processes import is_stopped
from tests.cli.conftest import Desk, wait_until

WAITING = """
    name: Deployment
    locks: [production]
    steps:
      - id: one
        shell: echo first
      - id: two
        confirm: Go on?
        shell: echo second
"""
OTHER = """
    name: Rollback
    locks: [production]
    steps:
      - shell: echo back
"""


def left_waiting(desk: Desk) -> str:
    """A run that waits for an answer, with nobody carrying it; its id."""
    desk.write(WAITING)
    assert desk.ce_run("book.yml").returncode == 5
    run = desk.run().run_id
    assert desk.ce_run("approve", run, "two", "--by", "tester").returncode == 0
    return run


def test_a_run_whose_lock_another_run_had_is_not_resumed_by_accident(desk: Desk) -> None:
    run = left_waiting(desk)
    desk.write(OTHER, "other.yml")
    assert desk.ce_run("other.yml").returncode == 0
    other = desk.run().run_id
    assert other != run
    refused = desk.ce_run("resume", run)
    assert refused.returncode == 2
    assert f"run {other} has owned production since" in refused.stderr
    assert f"ce-run resume {run} --after {other}" in refused.stderr
    assert desk.ce_run("resume", run, "--after", other).returncode == 0


def test_a_lock_that_was_only_unlocked_stands_in_nobodys_way(desk: Desk) -> None:
    run = left_waiting(desk)
    assert desk.ce_run("unlock", "production", "--reason", "to be sure").returncode == 0
    assert desk.ce_run("resume", run).returncode == 0


def test_unlocking_does_not_hide_that_another_run_has_had_the_lock(desk: Desk) -> None:
    run = left_waiting(desk)
    desk.write(OTHER, "other.yml")
    assert desk.ce_run("other.yml").returncode == 0
    other = desk.run().run_id
    assert desk.ce_run("unlock", "production", "--reason", "to be sure").returncode == 0
    assert "to be sure" in desk.ce_run("locks").stdout
    refused = desk.ce_run("resume", run)
    assert refused.returncode == 2
    assert f"run {other} has owned production since" in refused.stderr


BEATING = """
    name: Beating
    locks: [production]
    steps:
      - id: beat
        shell: "trap '' TERM; while :; do echo beat >>beats; sleep 0.02; done"
"""
TAKING = """
    name: Taking
    locks: [production]
    preempts: true
    steps:
      - shell: echo taken
"""


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_commands_that_outlived_their_run_are_ended_at_a_takeover(
    desk: Desk, number: signal.Signals
) -> None:
    desk.write(BEATING)
    desk.write(TAKING, "taking.yml")
    beats = desk.folder / "beats"
    process = desk.start("book.yml")
    wait_until(lambda: beats.exists() and beats.stat().st_size, "a beat")
    process.send_signal(number)
    if number == signal.SIGKILL:
        process.wait()
    else:
        wait_until(lambda: is_stopped(process.pid), "the stop")
    taken = desk.ce_run("taking.yml", "--force")
    assert taken.returncode == 0, taken.stderr
    before = beats.stat().st_size
    assert desk.ce_run("show", "last").returncode == 0  # time enough for another beat
    assert beats.stat().st_size == before
    process.send_signal(signal.SIGCONT)


BEATS = "while :; do echo beat >>beats; sleep 0.01; done"
IN_THE_WAY = {
    "deaf": f"trap '' TERM; {BEATS}",
    "bare": f"exec env -i sh -c 'trap \"\" TERM; {BEATS}'",
    "apart": f"setsid env -i sh -c 'trap \"\" TERM; {BEATS}'",
    "plain": BEATS,
}
"""Commands that write as long as they live: deaf to SIGTERM, without environment, in a session of
their own."""


def of_commands(*commands: str) -> str:
    """A runbook of these commands."""
    steps = [{"shell": command} for command in commands]
    return json.dumps({"name": "Commands", "locks": ["production"], "steps": steps})


def still(path: Path) -> bool:
    """Whether nothing is added to a file for as long as fifty beats would take."""
    size = path.stat().st_size
    return not look_until(lambda: path.stat().st_size != size, 0.5)


@pytest.mark.parametrize("command", IN_THE_WAY.values(), ids=list(IN_THE_WAY))
def test_a_run_that_takes_over_begins_when_the_commands_of_the_other_are_gone(
    desk: Desk, command: str
) -> None:
    desk.write(of_commands(command))
    desk.write(TAKING.replace("echo taken", "wc -c <beats >seen"), "taking.yml")
    process = desk.start("book.yml")
    beats = desk.folder / "beats"
    wait_until(lambda: beats.exists() and beats.stat().st_size, "a beat")
    taken = desk.ce_run("taking.yml", "--force")
    assert taken.returncode == 0, taken.stderr
    seen = int((desk.folder / "seen").read_text())
    assert beats.stat().st_size == seen
    assert still(beats)
    assert desk.end(process)[0] == 6


@pytest.mark.parametrize("killed", [False, True])
def test_a_daemon_of_a_finished_step_is_ended_as_well(desk: Desk, killed: bool) -> None:
    daemon = f"({IN_THE_WAY['apart']}) >/dev/null 2>&1 </dev/null &"
    desk.write(of_commands(daemon, "touch there; sleep 60"))
    desk.write(TAKING.replace("echo taken", "wc -c <beats >seen"), "taking.yml")
    process = desk.start("book.yml")
    beats = desk.folder / "beats"
    wait_until(lambda: beats.exists() and (desk.folder / "there").exists(), "a daemon")
    if killed:
        desk.end(process, signal.SIGKILL)
    taken = desk.ce_run("taking.yml", "--force")
    assert taken.returncode == 0, taken.stderr
    assert beats.stat().st_size == int((desk.folder / "seen").read_text())
    assert still(beats)


def test_what_a_run_that_is_over_has_left_running_stays(desk: Desk) -> None:
    """It gave its lock up: whoever takes it next has nothing to take over."""
    desk.write(of_commands("sleep 60 >/dev/null 2>&1 </dev/null & echo $! >pid"))
    desk.write(TAKING, "taking.yml")
    assert desk.ce_run("book.yml").returncode == 0
    pid = int((desk.folder / "pid").read_text())
    try:
        assert desk.ce_run("taking.yml", "--force").returncode == 0
        os.kill(pid, 0)
    finally:
        os.kill(pid, signal.SIGKILL)


def test_a_run_started_by_a_command_of_the_run_that_it_takes_over_lives(desk: Desk) -> None:
    desk.write(TAKING, "taking.yml")
    desk.write("""
    name: Starting
    locks: [production]
    steps:
      - id: start
        shell: >-
          setsid sh -c 'kill -9 $CE_RUN_ENGINE;
          "$PYTHON" -m engine.cli taking.yml --force >told 2>&1'
    """)
    desk.environment["PYTHON"] = sys.executable
    desk.start("book.yml").wait()
    told = desk.folder / "told"
    wait_until(lambda: told.exists() and "Taking: succeeded" in told.read_text(), "the takeover")


AT_A_GATE = """
    name: Asking
    locks: [production]
    steps:
      - id: soak
        wait: {for: 60s}
      - id: ask
        needs: []
        confirm: Go on?
        shell: touch gone-on
"""
IN_ITS_RESCUE = """
    name: Rescuing
    locks: [production]
    steps:
      - assert: {that: false}
    rescue:
      - id: soak
        wait: {for: 60s}
      - id: after
        shell: touch gone-on
    always:
      - shell: touch gone-on
"""
IN_ITS_UNDO = """
    name: Undoing
    locks: [production]
    steps:
      - id: first
        shell: echo first
        undo: {shell: touch gone-on}
      - id: second
        shell: echo second
        undo:
          - id: soak
            wait: {for: 60s}
      - assert: {that: false}
"""
RETRYING = """
    name: Retrying
    locks: [production]
    steps:
      - id: soak
        shell: "test -e taken && touch gone-on; exit 1"
        retry: {attempts: 1000, delay: 20ms}
"""


@pytest.mark.parametrize("book", [AT_A_GATE, IN_ITS_RESCUE, IN_ITS_UNDO, RETRYING])
def test_a_run_that_is_taken_over_does_nothing_more_wherever_it_is(desk: Desk, book: str) -> None:
    desk.write(book)
    desk.write(TAKING.replace("echo taken", "touch taken; sleep 0.3"), "taking.yml")
    process = desk.start("book.yml")
    run = ""

    def soaks() -> bool:
        nonlocal run
        starts = desk.events(TaskStarted)
        run = desk.run().run_id if starts else ""
        return any(isinstance(e, TaskStarted) and e.step.endswith("soak") for e in starts)

    wait_until(soaks, "the soak")
    taken = desk.ce_run("taking.yml", "--force", "--reason", "errors")
    assert taken.returncode == 0, taken.stderr
    status, output = desk.end(process)
    assert status == 6, output
    assert "preempted" in output
    assert "errors" in output
    assert not (desk.folder / "gone-on").exists()
    assert desk.ce_run("resume", run).returncode == 2
    answer = desk.ce_run("approve", run)
    assert "does not wait for an answer" in answer.stderr
    assert not (desk.folder / "gone-on").exists()
