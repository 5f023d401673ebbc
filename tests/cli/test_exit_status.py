"""Every exit status that design and documentation name, end to end through processes."""

from __future__ import annotations

import json
import os
import signal

import pytest

from engine.events import GateAnswered, Overridden, RunFinished, TaskFinished, TaskStarted
from tests.cli.conftest import Desk, wait_until
from tests.lab.production import lives

LONG = """
    name: Long
    locks: [production]
    steps:
      - id: one
        shell: echo first
      - id: soak
        wait: {for: "60s"}
      - id: two
        shell: echo after {{ steps.one.result.stdout }}
"""


def soaking(desk: Desk) -> bool:
    """Whether the long step of `LONG` is under way."""
    started = [each.event for each in desk.records()]
    return any(isinstance(each, TaskStarted) and each.step == "soak" for each in started)


def test_success_is_0(desk: Desk) -> None:
    desk.write("name: Small\nsteps:\n  - shell: echo hello\n")
    done = desk.ce_run("book.yml")
    assert done.returncode == 0, done.stderr
    assert "Small: succeeded in" in done.stdout
    assert done.stderr == ""


def test_failure_is_1_and_says_what_where_and_what_next(desk: Desk) -> None:
    desk.write("name: Bad\nsteps:\n  - id: it\n    shell: echo why >&2; exit 3\n")
    done = desk.ce_run("book.yml")
    assert done.returncode == 1
    assert "ended with exit status 3" in done.stdout
    assert "book.yml:3:5" in done.stdout
    assert "| why" in done.stdout
    assert f"ce-run resume {desk.run().run_id} --redo it" in done.stdout


def test_a_rescued_failure_is_1(desk: Desk) -> None:
    desk.write("""
        name: Rescued
        steps:
          - id: group
            steps: [{shell: "false"}]
            rescue: [{shell: echo saved}]
    """)
    done = desk.ce_run("book.yml")
    assert done.returncode == 1
    assert "failed and was rescued" in done.stdout


@pytest.mark.parametrize(
    "words",
    [
        ("missing.yml",),
        ("bad.yml",),
        ("book.yml", "--nonsense"),
        ("book.yml", "-e", "unheard=1"),
        ("book.yml", "-e", "no equals sign"),
        ("book.yml", "--force"),
        ("shwo", "last"),
        ("show", "last"),
        ("resume", "nothing-like-it"),
    ],
)
def test_usage_and_invalid_runbooks_are_2(desk: Desk, words: tuple[str, ...]) -> None:
    desk.write("name: Good\nsteps:\n  - shell: echo\n")
    desk.write("name: Bad\nsteps:\n  - shel: echo\n", "bad.yml")
    done = desk.ce_run(*words)
    assert done.returncode == 2
    assert done.stderr
    assert "Traceback" not in done.stderr
    assert not desk.state.exists() or not list((desk.state / "runs").glob("*"))


def test_a_failed_undo_is_3_and_says_what_a_person_must_do(desk: Desk) -> None:
    desk.write("""
        name: Stuck
        steps:
          - id: open
            shell: echo open
            undo: {shell: "false"}
          - shell: "false"
    """)
    done = desk.ce_run("book.yml")
    assert done.returncode == 3
    assert "a person has to act" in done.stdout
    assert "open could NOT be undone" in done.stdout


def test_a_held_lock_is_4_with_who_since_when_and_what_to_do(desk: Desk) -> None:
    desk.write(LONG)
    process = desk.start("book.yml")
    wait_until(lambda: soaking(desk), "the soak")
    done = desk.ce_run("book.yml")
    assert done.returncode == 4
    assert "production is locked by run" in done.stderr
    assert "tester@" in done.stderr
    assert f"ce-run stop {desk.run().run_id}" in done.stderr
    assert len(list((desk.state / "runs").glob("*"))) == 1
    desk.end(process, signal.SIGINT)


GATE = """
    name: Gate
    steps:
      - id: build
        shell: echo built
      - id: switch
        confirm: {message: Really?, checklist: [looked at it]}
        shell: echo switched {{ steps.build.result.stdout }}
"""


def test_a_gate_without_a_person_is_5_and_says_how_to_go_on(desk: Desk) -> None:
    desk.write(GATE)
    done = desk.ce_run("book.yml")
    assert done.returncode == 5
    run = desk.run().run_id
    assert f"ce-run approve {run} switch --tick all" in done.stdout
    assert f"ce-run resume {run}" in done.stdout
    words = ("approve", run, "switch", "--by", "ada", "--reason", "fine")
    untouched = desk.ce_run(*words)
    assert untouched.returncode == 2
    assert "not ticked is: 1. looked at it" in untouched.stderr
    assert "no such point" in desk.ce_run(*words, "--tick", "2").stderr
    approved = desk.ce_run(*words, "--tick", "looked at it")
    assert approved.returncode == 0
    assert "who claims to be ada" in approved.stdout
    assert f"ce-run resume {run}" in approved.stdout
    assert desk.ce_run("resume", run).returncode == 0
    [answer] = desk.events(GateAnswered)
    assert isinstance(answer, GateAnswered)
    assert (answer.answer, answer.reason, answer.ticked) == ("approved", "fine", ("looked at it",))
    assert (answer.by.name, answer.by.claims) == ("tester", "ada")
    assert outputs(desk) == ["built", "switched built"]


def test_the_yes_of_an_earlier_process_answers_nothing_later(desk: Desk) -> None:
    """Neither does it go on by itself, nor does it say of whoever resumes that they approved."""
    desk.write(
        GATE.replace("echo built", "sleep 60").replace("{{ steps.build.result.stdout }}", "")
    )
    process = desk.start("book.yml", "--yes")
    wait_until(lambda: desk.events(TaskStarted), "the first step")
    desk.end(process, signal.SIGINT)
    assert desk.ce_run("resume", "last", "--done", "build").returncode == 5
    assert not desk.events(GateAnswered)
    assert desk.ce_run("resume", "last", "--yes").returncode == 0
    [answer] = desk.events(GateAnswered)
    assert isinstance(answer, GateAnswered)
    assert answer.by.name == "tester"
    assert answer.by.via.endswith("by --yes")


def test_a_rejected_gate_is_a_failure(desk: Desk) -> None:
    desk.write(GATE)
    desk.ce_run("book.yml")
    assert desk.ce_run("reject", "last", "--reason", "not now").returncode == 0
    done = desk.ce_run("resume", "last")
    assert done.returncode == 1
    assert "refused by tester: not now" in done.stdout


def test_yes_answers_every_gate(desk: Desk) -> None:
    desk.write(GATE)
    assert desk.ce_run("book.yml", "--yes").returncode == 0
    [answer] = desk.events(GateAnswered)
    assert isinstance(answer, GateAnswered)
    assert answer.by.via.endswith("by --yes")


def test_a_preempted_run_ends_with_6(desk: Desk) -> None:
    desk.write(LONG)
    desk.write(
        """
        name: Rollback
        locks: [production]
        preempts: true
        steps:
          - shell: echo rolled back
        """,
        "rollback.yml",
    )
    process = desk.start("book.yml")
    wait_until(lambda: soaking(desk), "the soak")
    old = desk.run().run_id
    process.send_signal(signal.SIGSTOP)  # it looks only when all is over, and is told all the same
    rollback = desk.ce_run("rollback.yml", "--force", "--reason", "error_rate_high")
    process.send_signal(signal.SIGCONT)
    assert rollback.returncode == 0, rollback.stdout + rollback.stderr
    assert f"taken over from run {old}" in rollback.stdout
    status, output = desk.end(process)
    assert status == 6
    assert "preempted" in output
    assert f"run {desk.run('rollback').run_id} took over production: error_rate_high" in output
    refused = desk.ce_run("resume", old)
    assert refused.returncode == 2
    assert "preempted" in refused.stderr


@pytest.mark.parametrize(
    ("number", "expected"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_a_signal_leaves_a_run_that_goes_on(desk: Desk, number: int, expected: int) -> None:
    desk.write(LONG.replace("60s", "{{ env('SLOW', '0s') }}"))
    desk.environment["SLOW"] = "60s"
    ours = signal.signal(number, signal.SIG_DFL)  # the tests themselves may run under nohup
    try:
        process = desk.start("book.yml")
    finally:
        signal.signal(number, ours)
    wait_until(lambda: soaking(desk), "the soak")
    status, output = desk.end(process, number)
    assert status == expected
    run = desk.run().run_id
    assert f"ce-run resume {run}" in output
    assert "interrupted, resumable" in desk.ce_run("runs").stdout
    del desk.environment["SLOW"]
    assert desk.ce_run("resume", run).returncode == 0
    assert outputs(desk) == ["first", "after first"]


def test_a_run_that_is_to_outlive_its_terminal_does(desk: Desk) -> None:
    desk.write(LONG.replace("60s", "300ms"))
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup starts it
    try:
        process = desk.start("book.yml")
    finally:
        signal.signal(signal.SIGHUP, before)
    wait_until(lambda: soaking(desk), "the soak")
    assert desk.end(process, signal.SIGHUP)[0] == 0


def test_no_command_outlives_a_run_that_a_signal_ended_however_deaf_it_is(desk: Desk) -> None:
    """One in a step, and one in the always block, which has no time left to be asked twice."""
    deaf = "trap '' INT TERM; echo $$ > {0}; while :; do sleep 0.1; done"
    desk.write(f"""
        name: Deaf
        steps:
          - shell: "{deaf.format("step")}"
        always:
          - shell: "{deaf.format("always")}"
        """)
    process = desk.start("book.yml")
    wait_until(lambda: (desk.folder / "step").exists(), "the step")
    status, output = desk.end(process, signal.SIGTERM)
    assert status == 143, output
    for name in ("step", "always"):
        assert not lives(int((desk.folder / name).read_text()))


def test_a_killed_run_is_dead_resumable_and_keeps_its_outputs(desk: Desk) -> None:
    desk.write(LONG.replace("60s", "{{ env('SLOW', '0s') }}"))
    desk.environment["SLOW"] = "60s"
    process = desk.start("book.yml")
    wait_until(lambda: soaking(desk), "the soak")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    run = desk.run().run_id
    assert "dead, resumable" in desk.ce_run("runs").stdout
    assert "dead, resumable" in desk.ce_run("show", run).stdout
    assert "free, owner died" in desk.ce_run("locks").stdout
    del desk.environment["SLOW"]
    done = desk.ce_run("resume", run)
    assert done.returncode == 0, done.stdout + done.stderr
    assert outputs(desk) == ["first", "after first"]
    assert len(desk.events(RunFinished)) == 1
    again = desk.ce_run("resume", run)
    assert again.returncode == 0
    assert "has succeeded" in again.stderr


def test_a_step_in_doubt_is_asked_about(desk: Desk) -> None:
    desk.write("name: Once\nsteps:\n  - id: pay\n    shell: touch begun; sleep 60\n")
    process = desk.start("book.yml")
    wait_until(lambda: (desk.folder / "begun").exists(), "the payment")
    process.kill()
    process.wait()
    run = desk.run().run_id
    done = desk.ce_run("resume", run)
    assert done.returncode == 5
    assert f"ce-run resume {run} --redo pay" in done.stdout
    assert f"ce-run resume {run} --done pay" in done.stdout
    assert desk.ce_run("resume", run, "--done", "pay", "--reason", "saw it").returncode == 0
    [decision] = desk.events(Overridden)
    assert isinstance(decision, Overridden)
    assert (decision.decision, decision.reason) == ("done", "saw it")


def test_a_failed_step_is_taken_up_again(desk: Desk) -> None:
    desk.write("name: Flaky\nsteps:\n  - id: it\n    shell: test -e ready\n  - shell: echo done\n")
    assert desk.ce_run("book.yml").returncode == 1
    assert desk.ce_run("resume", "last", "--skip", "it").returncode == 2  # lacks its reason
    (desk.folder / "ready").touch()
    assert desk.ce_run("resume", "last", "--redo", "it").returncode == 0


def test_giving_up_on_resume_undoes(desk: Desk) -> None:
    desk.write("""
        name: Give up
        steps:
          - id: one
            shell: echo one
            undo: {shell: touch undone}
          - id: soak
            wait: {for: 60s}
    """)
    process = desk.start("book.yml")
    wait_until(lambda: soaking(desk), "the soak")
    desk.end(process, signal.SIGINT)
    done = desk.ce_run("resume", "last", "--rescue", "--reason", "not tonight")
    assert done.returncode == 1, done.stdout
    assert "not tonight" in done.stdout
    assert (desk.folder / "undone").exists()


def test_json_is_the_journal_and_nothing_else(desk: Desk) -> None:
    desk.write("name: Small\nsteps:\n  - shell: echo hello\n")
    done = desk.ce_run("book.yml", "--output", "json")
    assert done.returncode == 0
    assert done.stdout == desk.run().journal_path.read_text()
    assert json.loads(done.stdout.splitlines()[-1])["event"]["outcome"] == "succeeded"


def outputs(desk: Desk) -> list[str]:
    """What the shell steps of the last run printed, in order."""
    finished = desk.events(TaskFinished)
    return [
        str(each.data["stdout"])
        for each in finished
        if isinstance(each, TaskFinished) and "stdout" in each.data
    ]
