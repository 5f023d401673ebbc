"""Which state folder is meant: that of the project, wherever one stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.store import state_folder


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project with a runbook two folders down; we stand somewhere else."""
    monkeypatch.delenv("CE_RUN_STATE", raising=False)
    folder = tmp_path / "project"
    (folder / "runbooks" / "drills").mkdir(parents=True)
    (folder / "docs").mkdir()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    return folder


RUNBOOKS = ("runbooks/deploy.yml", "runbooks/drills/outage.yml")


@pytest.mark.parametrize("runbook", RUNBOOKS)
def test_it_is_found_from_the_runbook_not_from_where_one_stands(
    project: Path, runbook: str
) -> None:
    assert state_folder(None, project / runbook) == project / ".ce-run"


@pytest.mark.parametrize("place", [".", "runbooks", "runbooks/drills"])
def test_commands_without_a_runbook_find_the_same(
    project: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project / place)
    assert state_folder() == project / ".ce-run"


@pytest.mark.parametrize("place", [".", "docs", "runbooks/drills"])
def test_everywhere_in_a_repository_it_is_the_same(
    project: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project / ".git").mkdir()
    (project / "top.yml").touch()
    monkeypatch.chdir(project / place)
    for runbook in (None, project / "top.yml", *(project / each for each in RUNBOOKS)):
        assert state_folder(None, runbook) == project / ".ce-run"


def test_one_that_is_there_is_used(project: Path) -> None:
    (project / ".git").mkdir()
    (project / "runbooks" / ".ce-run").mkdir()
    assert state_folder(None, project / RUNBOOKS[0]) == project / "runbooks" / ".ce-run"


def test_what_lies_where_everybody_may_write_is_no_projects(project: Path) -> None:
    project.parent.chmod(0o1777)
    (project.parent / ".ce-run").mkdir()
    assert state_folder(None, project / RUNBOOKS[0]) == project / ".ce-run"


def test_a_runbook_of_no_project_has_it_beside_itself(project: Path) -> None:
    assert state_folder(None, project / "docs" / "x.yml") == project / "docs" / ".ce-run"


def test_what_one_says_counts(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CE_RUN_STATE", "env")
    assert state_folder(None, project / RUNBOOKS[0]) == Path.cwd() / "env"
    assert state_folder("option", project / RUNBOOKS[0]) == Path.cwd() / "option"
