"""A run that was left cannot go on as if nothing had happened once another run had its lock."""

from __future__ import annotations

from tests.cli.conftest import Desk

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
