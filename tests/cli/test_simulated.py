"""A rehearsal is a run: it is shown, listed and logged; but nobody takes it for a real one."""

from __future__ import annotations

import pytest

from tests.cli.conftest import Desk

BOOK = """
name: Small deployment
locks: [production]
steps:
  - id: apply
    wait: {for: 10m}
  - id: ask
    confirm: {message: Go on?}
  - id: check
    assert: {that: ["CONDITION"]}
"""


def rehearse(desk: Desk, condition: str = "true") -> tuple[int, str]:
    desk.write(BOOK.replace("CONDITION", condition))
    ended = desk.ce_run("book.yml", "--simulate")
    return ended.returncode, ended.stdout


def test_it_says_so_at_the_beginning_and_in_the_end(desk: Desk) -> None:
    _, output = rehearse(desk)
    assert "SIMULATED: nothing will be touched · Small deployment" in output
    assert "SIMULATED RUN, nothing was touched · Small deployment: succeeded" in output


def test_it_is_shown_listed_and_drawn_as_any_run(desk: Desk) -> None:
    rehearse(desk)
    assert "SIMULATED RUN" in desk.ce_run("show", "last").stdout
    assert "succeeded (simulated)" in desk.ce_run("runs").stdout
    assert desk.ce_run("graph", "book.yml", "--run", "last").returncode == 0
    assert "waited 10m" in desk.ce_run("show", "last").stdout


@pytest.mark.parametrize(("condition", "status"), [("true", 0), ("false", 1)])
def test_what_is_next_is_never_for_real(desk: Desk, condition: str, status: int) -> None:
    desk.write("name: Back\npreempts: true\nsteps: [{wait: {for: 1s}}]\n", "rollback.yml")
    code, output = rehearse(desk, condition)
    assert code == status
    advice = output.rpartition("\nNext\n")[2]
    assert "book.yml --simulate" in advice
    assert not any(word in advice for word in ("resume", "rollback.yml", "--force"))


def test_it_is_not_resumed(desk: Desk) -> None:
    rehearse(desk, "false")
    ended = desk.ce_run("resume", "last", "--redo", "check")
    assert ended.returncode == 2
    assert "was simulated, and its world ended with its process" in ended.stderr
    assert "book.yml --simulate" in ended.stderr


def test_it_takes_no_lock(desk: Desk) -> None:
    rehearse(desk)
    assert "production" not in desk.ce_run("locks").stdout
    assert not list(desk.state.glob("locks/*production*"))
