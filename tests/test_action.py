"""The GitHub action's script, carried out with a `ce-run` that notes how it was called."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.surroundings import ROOT

ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
WORKFLOW: dict[Any, Any] = yaml.safe_load(
    (ROOT / ".github/workflows/runbook.yml").read_text(encoding="utf-8")
)
(STEP,) = [each for each in ACTION["runs"]["steps"] if each.get("id") == "run"]
NAMES = {
    variable: value.removeprefix("${{ inputs.").removesuffix(" }}")
    for variable, value in STEP["env"].items()
}


def called(folder: Path, status: int = 0, **given: str) -> tuple[list[str], int, str]:
    """The words that ce-run gets for these inputs, the script's status, and its outputs."""
    program = folder / "ce-run" / "bin" / "ce-run"
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {folder}/words\nexit {status}\n')
    program.chmod(0o755)
    inputs = {name: str(each.get("default", "")) for name, each in ACTION["inputs"].items()}
    inputs |= given
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEP["run"]],
        env={
            "PATH": os.environ["PATH"],
            "RUNNER_TEMP": str(folder),
            "GITHUB_OUTPUT": str(folder / "output"),
            **{variable: inputs[name] for variable, name in NAMES.items()},
        },
        check=False,
    )
    words = (folder / "words").read_text().splitlines()
    return words, done.returncode, (folder / "output").read_text()


def test_a_runbook_is_run_with_what_was_given(tmp_path: Path) -> None:
    words, status, output = called(
        tmp_path,
        runbook="runbooks/deploy 5.1.yml",
        inventory="inv.yml",
        extra="version=5.1\nwhy=$(touch pwned)\n",
        check="true",
        confirm="true",
        reason="it's time",
    )
    assert words == [
        *("run", "runbooks/deploy 5.1.yml", "-i", "inv.yml", "--check", "--diff"),
        *("-e", "version=5.1", "-e", "why=$(touch pwned)", "--yes", "--reason", "it's time"),
    ]
    assert (status, output) == (0, "exit-status=0\n")


def test_little_is_said_where_little_was_given(tmp_path: Path) -> None:
    assert called(tmp_path, runbook="a.yml")[0] == ["run", "a.yml"]


def test_a_rollback_is_forced(tmp_path: Path) -> None:
    words = called(tmp_path, runbook="back.yml", force="true", reason="error_rate_high")[0]
    assert words == ["run", "back.yml", "--force", "--reason", "error_rate_high"]


def test_a_run_is_resumed_with_the_options_that_it_had(tmp_path: Path) -> None:
    words = called(tmp_path, resume="last", inventory="inv.yml", check="true", confirm="true")[0]
    assert words == ["resume", "last", "--yes"]


@pytest.mark.parametrize("status", [1, 5, 143])
def test_the_step_ends_as_the_run_did(tmp_path: Path, status: int) -> None:
    _, ended, output = called(tmp_path, status, runbook="a.yml")
    assert (ended, output) == (status, f"exit-status={status}\n")


def test_whoever_takes_over_does_not_queue_behind_what_it_takes_over_from() -> None:
    assert "inputs.force && github.run_id" in WORKFLOW["concurrency"]["group"]
    assert WORKFLOW["concurrency"]["cancel-in-progress"] is False


def test_the_workflow_knows_every_secret_and_runbook_that_there_is() -> None:
    (step,) = [s for s in WORKFLOW["jobs"]["run"]["steps"] if s.get("uses") == "./"]
    asked = WORKFLOW[True]["workflow_dispatch"]["inputs"]
    for inventory in asked["inventory"]["options"]:
        secrets = yaml.safe_load((ROOT / inventory).read_text(encoding="utf-8"))["secrets"]
        assert {each["env"] for each in secrets.values()} <= set(step["env"])
    books = {f"runbooks/{path.name}" for path in ROOT.glob("runbooks/*.yml")}
    assert set(asked["runbook"]["options"]) == books


def test_journals_and_locks_outlive_the_job() -> None:
    (step,) = [s for s in WORKFLOW["jobs"]["run"]["steps"] if s.get("uses") == "./"]
    assert step["with"]["state"].startswith("/")
