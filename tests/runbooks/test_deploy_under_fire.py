"""Runs that are only rehearsed, that are refused, or that go wrong. See also tests/rollback."""

from __future__ import annotations

from pathlib import Path

from engine.lab import control
from tests.runbooks.desk import Desk

PHASES = "execute/phases"


def begun(desk: Desk, known: int, phase: str) -> bool:
    """Whether the newest run watches this phase."""
    journals = desk.journals()
    if len(journals) <= known:
        return False
    journal: Path = journals[-1]
    return f'"step":"{PHASES}/{phase}/watch"' in journal.read_text()


def test_a_rehearsal_changes_nothing(desk: Desk) -> None:
    before, backups = control.status(desk.state), desk.backups()
    shown = desk.run("deploy-5.1", "--check", "--diff")
    assert shown.status == 0, shown.output
    after = control.status(desk.state)
    assert {pod.name for pod in before.pods} == {pod.name for pod in after.pods}
    assert before.weights == after.weights
    assert desk.objects("ConfigMap", "claude-enhancer-5.1-config") is None
    assert desk.backups() == backups
    assert desk.notices() == []
    assert "CE_VERSION" in shown.output  # the diff of the ConfigMap that would be made


def test_a_failed_preparation_is_undone(desk: Desk) -> None:
    control.reset(desk.state)
    # The database's backup is refused: what was prepared before it goes again.
    folder = desk.state / "lab" / "backups"
    folder.mkdir(mode=0o700, exist_ok=True)
    folder.rename(folder.with_name("elsewhere"))
    folder.write_text("not a folder")
    try:
        run = desk.run("deploy-5.1", "--yes")
    finally:
        folder.unlink()
    assert run.status == 1, run.output
    assert desk.selected() == "5.0"
    assert desk.objects("ConfigMap", "claude-enhancer-5.1-config") is None
    assert any("URGENT" in each for each in desk.notices())


def test_a_second_deployment_is_refused_while_one_runs(desk: Desk) -> None:
    control.reset(desk.state)
    known = len(desk.journals())
    with desk.running("deploy-5.1", "--yes") as first:
        desk.wait_for("the first runs", lambda: begun(desk, known, "canary"))
        second = desk.run("deploy-5.1", "--yes")
        first.terminate()
        interrupted = desk.await_end(first)
    assert second.status == 4
    assert "production" in second.output
    assert interrupted.status == 143


def test_a_rollback_to_nobody_stops_and_calls_a_person(desk: Desk) -> None:
    control.reset(desk.state)
    control.fault(desk.state, version="5.0", never_ready=True)
    desk.wait_for("nobody is ready", lambda: desk.pods("5.0") == 0)
    run = desk.run("emergency-rollback", "--force", "--reason", "error_rate_high")
    assert run.status == 3, run.output
    assert "A person must step in" in run.output
    assert any(each.startswith("pagerduty: ") for each in desk.notices())
    steps = {each["step"] for each in run.events if each["type"] == "task_finished"}
    assert not steps & {"green", "canary", "config"}  # nothing more is taken away
