"""How far a lock reaches: one project has one state, and a run in another one says so."""

from __future__ import annotations

from pathlib import Path

from engine.events import Warned
from tests.cli.conftest import Desk, wait_until

DEPLOY = "locks: [production]\nsteps:\n  - id: soak\n    wait: 60s\n"
BACK = "locks: [production]\npreempts: true\nsteps:\n  - shell: echo back\n"


def test_from_two_folders_one_meets_at_the_projects_lock(desk: Desk) -> None:
    desk.write(DEPLOY, "project/runbooks/deploy.yml")
    desk.write(BACK, "project/runbooks/back.yml")
    desk.state = desk.folder / "project" / ".ce-run"
    deployment = desk.start("project/runbooks/deploy.yml")
    wait_until(lambda: desk.state.is_dir() and desk.records(), "the run")
    wait_until(lambda: any(desk.state.glob("locks/production.json")), "the lock")
    home = desk.folder
    desk.folder = home / "project" / "runbooks"
    refused = desk.ce_run("deploy.yml")
    assert refused.returncode == 4, refused.stderr
    assert "locked by run" in refused.stderr
    desk.folder = home
    rollback = desk.ce_run("project/runbooks/back.yml", "--force", "--reason", "r")
    assert rollback.returncode == 0, rollback.stderr
    status, output = desk.end(deployment)
    assert status == 6, output
    assert f"--state {desk.state}" in output, "from here its state has to be named"


def test_a_run_in_another_state_than_its_projects_says_so(desk: Desk, tmp_path: Path) -> None:
    desk.write(BACK)
    assert desk.ce_run("book.yml").returncode == 0
    assert desk.events(Warned) == []
    desk.state = tmp_path / "other"
    run = desk.ce_run("book.yml", "--state", "other")
    assert run.returncode == 0
    (warning,) = desk.events(Warned)
    assert isinstance(warning, Warned)
    assert f"locked in {desk.state}" in warning.message
    assert f"({desk.folder}/.ce-run)" in warning.message
    assert "is not the state of this project" in run.stdout
