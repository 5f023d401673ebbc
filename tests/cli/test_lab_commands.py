"""``ce-run lab``: one small lab from its start to its end, through the commands."""

from __future__ import annotations

import json
from typing import Any

from engine.events import TaskStarted
from engine.lab import busy
from tests.cli.conftest import Desk, wait_until

HOLDS = """
name: Holds production
locks: [production]
steps: [{id: hold, wait: {for: 10m}}]
"""


def ask(desk: Desk, *words: str) -> Any:
    """The answer of a lab command as data."""
    done = desk.ce_run("lab", *words, "--output", "json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_lab_from_its_start_to_its_end(desk: Desk) -> None:
    try:
        started = desk.ce_run("lab", "up", "--rate", "20", "--replicas", "1")
        assert started.returncode == 0, started.stderr
        assert "20 requests/s" in started.stdout
        kept = desk.ce_run("lab", "up", "--keep")
        assert kept.stdout == started.stdout
        desk.write(HOLDS)
        process = desk.start("book.yml")
        wait_until(lambda: desk.events(TaskStarted), "it waits")
        refused = desk.ce_run("lab", "up")
        assert refused.returncode == 4
        assert "works on this lab: it owns production" in refused.stderr
        process.terminate()
        desk.end(process)
        assert [pod["version"] for pod in ask(desk, "status")["pods"]] == ["5.0"]
        assert "POD" in desk.ce_run("lab", "status").stdout
        assert ask(desk, "fault", "--version", "5.1", "--latency", "0.5")["5.1"]["latency"] == 0.5
        assert "latency 0.5" in desk.ce_run("lab", "fault").stdout
        assert ask(desk, "fault", "--clear") == {}
        assert ask(desk, "figures")["sessions_lost"] == 0
        assert "requests" in desk.ce_run("lab", "figures").stdout
        assert ask(desk, "inbox") == []
    finally:
        stopped = desk.ce_run("lab", "down")
    assert stopped.stdout == "the lab has stopped\n"
    assert desk.ce_run("lab", "down").stdout == "no lab was running\n"


def test_a_machine_that_others_use_is_said_to_be_too_busy() -> None:
    assert busy.too_busy(1.4, 2, with_lab=False) == ""
    assert busy.too_busy(2.9, 2, with_lab=True) == ""
    words = "this machine is too busy for the lab's thresholds: 3.1 processes want its 2 cores"
    assert busy.too_busy(3.1, 2, with_lab=True) == words
    assert busy.too_busy(3.1, 2, with_lab=False) == words


def test_without_a_lab_it_is_said_how_to_get_one(desk: Desk) -> None:
    for words in (("status",), ("figures",), ("fault", "--crash"), ("reset",)):
        done = desk.ce_run("lab", *words)
        assert done.returncode == 1
        assert "ce-run lab up" in done.stderr
    assert desk.ce_run("lab", "inbox").stdout == "the inbox is empty\n"


def test_a_fault_that_cannot_be_is_refused(desk: Desk) -> None:
    assert desk.ce_run("lab", "fault", "--error-rate", "3").returncode == 2
    assert desk.ce_run("lab", "fault", "--clear", "--crash").returncode == 2
