"""The live view and the questions, on real (pseudo) terminals."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator

import pytest

from engine.events import GateAnswered, RunStopped
from tests.cli.conftest import Desk
from tests.cli.screen import Screen

BOOK = """
    name: Deploy
    budget: 1h
    locks: [production]
    steps:
      - id: prepare
        name: Prepare everything
        budget: 10m
        steps:
          - id: backup
            shell: echo saved
      - id: soak
        timeout: 10m
        wait: {for: 5m, reason: watching the canary}
      - id: switch
        confirm: {message: Switch all traffic?, checklist: [figures are good, on-call is there]}
        shell: echo switched
"""

ASK = BOOK.replace("for: 5m", "for: 0s")

Opener = Callable[..., Screen]


@pytest.fixture
def on_screen(desk: Desk) -> Iterator[Opener]:
    """Starts a command on a terminal."""
    opened: list[Screen] = []

    def start(*words: str, **more: str) -> Screen:
        environment = desk.environment | {"TERM": "xterm-256color"} | more
        screen = Screen(*words, folder=desk.folder, environment=environment)
        opened.append(screen)
        return screen

    yield start
    for each in opened:
        each.close()


def test_the_live_view_shows_phases_what_runs_and_finished_steps(
    desk: Desk, on_screen: Opener
) -> None:
    desk.write(BOOK)
    screen = on_screen("book.yml")
    screen.wait_for("changed   prepare/backup", "Deploy · ", "lock production #1")
    screen.wait_for("✓ prepare", "ok", "▶ soak", "running", "switch", "waiting")
    screen.wait_for("left  waiting ", "watching the canary")
    assert "\x1b[?25l" not in screen.output  # a killed process could not bring the cursor back
    screen.type("\x03")
    assert screen.end() == 130


def test_ctrl_c_leaves_a_resumable_run(desk: Desk, on_screen: Opener) -> None:
    desk.write(BOOK)
    screen = on_screen("book.yml")
    screen.wait_for("▶ soak")
    begun = time.monotonic()
    screen.type("\x03")
    assert screen.end() == 130
    assert time.monotonic() - begun < 5.0  # the promise of the design, not a measurement
    assert "Deploy: interrupted after" in screen.text
    assert f"ce-run resume {desk.run().run_id}" in screen.text
    [stopped] = desk.events(RunStopped)
    assert isinstance(stopped, RunStopped)
    assert stopped.kind == "interrupted"


def test_the_view_survives_being_resized(desk: Desk, on_screen: Opener) -> None:
    desk.write(BOOK)
    screen = on_screen("book.yml")
    screen.wait_for("▶ soak")
    for columns, rows in ((40, 10), (10, 3), (200, 60), (80, 24)):
        screen.wait_for("Deploy")
        screen.resize(columns, rows)
    screen.wait_for("changed   prepare/backup", "─" * 79, "▶ soak", "left  waiting ")
    screen.type("\x03")
    assert screen.end() == 130


def test_a_question_is_asked_ticked_and_answered(desk: Desk, on_screen: Opener) -> None:
    desk.write(ASK)
    screen = on_screen("book.yml")
    screen.wait_for("? switch  Switch all traffic?", "1 [ ] figures are good", "y approves")
    screen.type("y\n")
    screen.wait_for("not ticked yet: 1, 2", "y approves")
    screen.type("1\n")
    screen.wait_for("1 [x] figures are good", "2 [ ] on-call", "not ticked yet: 2", "y approves")
    screen.type("all\n")
    screen.wait_for("all ticked", "y [words] approves")
    screen.type("y looks fine\n")
    screen.wait_for("approved  switch", "looks fine", "Deploy: succeeded")
    assert screen.end() == 0
    [answer] = desk.events(GateAnswered)
    assert isinstance(answer, GateAnswered)
    assert (answer.answer, answer.by.name, answer.reason) == ("approved", "tester", "looks fine")
    assert answer.by.via.startswith("/dev/")


def test_a_question_is_refused_with_a_reason(desk: Desk, on_screen: Opener) -> None:
    desk.write(ASK)
    screen = on_screen("book.yml")
    screen.wait_for("y approves")
    screen.type("n\n")
    screen.wait_for("why not?")
    screen.type("figures are bad\n")
    assert screen.end() == 1
    assert "refused by tester: figures are bad" in screen.text


def test_ctrl_c_at_a_question(desk: Desk, on_screen: Opener) -> None:
    desk.write(ASK)
    screen = on_screen("book.yml")
    screen.wait_for("y approves")
    screen.type("\x03")
    assert screen.end() == 130
    again = on_screen("resume", "last")
    again.wait_for("? switch  Switch all traffic?", "y approves")
    again.type("all\n")
    again.wait_for("y [words] approves")
    again.type("y\n")
    assert again.end() == 0


def test_a_question_answered_from_another_shell_goes_away(desk: Desk, on_screen: Opener) -> None:
    desk.write(ASK)
    screen = on_screen("book.yml")
    screen.wait_for("y approves")
    assert desk.ce_run("approve", "last", "--tick", "all").returncode == 0
    screen.wait_for("approved  switch", "points ticked", "Deploy: succeeded")
    assert screen.end() == 0


def test_what_was_typed_before_a_question_is_no_answer(desk: Desk, on_screen: Opener) -> None:
    desk.write("""
        name: Typed ahead
        steps:
          - id: wait
            shell: until test -e go; do sleep 0.02; done
          - id: switch
            confirm: Really?
            shell: echo switched
    """)
    screen = on_screen("book.yml")
    screen.wait_for("▶ wait")
    screen.type("y\n")
    (desk.folder / "go").touch()
    screen.wait_for("y [words] approves")
    assert not desk.events(GateAnswered)
    screen.type("n no\n")
    assert screen.end() == 1


def test_plain_lines_and_questions_on_a_terminal_that_can_do_nothing(
    desk: Desk, on_screen: Opener
) -> None:
    desk.write(ASK)
    screen = on_screen("book.yml", TERM="dumb")
    screen.wait_for("y approves")
    screen.type("all\n")
    screen.wait_for("y [words] approves")
    screen.type("y\n")
    assert screen.end() == 0
    assert "\x1b[" not in screen.output.replace("\x1b[K", "")


@pytest.mark.parametrize("more", [{"NO_COLOR": "1"}, {}])
def test_colours_only_where_they_are_wanted(
    desk: Desk, on_screen: Opener, more: dict[str, str]
) -> None:
    desk.write("name: Small\nsteps:\n  - id: it\n    shell: sleep 0.2\n")
    screen = on_screen("book.yml", **more)
    assert screen.end() == 0
    assert "Small: succeeded" in screen.text
    assert ("\x1b[32m" in screen.output) == (not more)


def test_a_killed_view_leaves_the_terminal_as_it_was(desk: Desk, on_screen: Opener) -> None:
    desk.write(BOOK)
    screen = on_screen("book.yml")
    screen.wait_for("▶ soak")
    os.kill(screen.pid, signal.SIGKILL)
    assert screen.end() == -signal.SIGKILL
    assert "\x1b[?" not in screen.output  # no mode was set that nobody is left to take back
