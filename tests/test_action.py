"""The GitHub action's script, carried out with a `ce-run` that notes how it was called."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.surroundings import ROOT, surroundings

ACTION: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
WORKFLOW: dict[Any, Any] = yaml.safe_load(
    (ROOT / ".github/workflows/runbook.yml").read_text(encoding="utf-8")
)
(STEP,) = [each for each in ACTION["runs"]["steps"] if each.get("id") == "run"]
NAMES = {
    variable: value.removeprefix("${{ inputs.").removesuffix(" }}")
    for variable, value in STEP["env"].items()
}


def script(folder: Path, program: Path, **given: str) -> dict[str, Any]:
    """How the runner starts the script of the step; for `subprocess`."""
    inputs = {name: str(each.get("default", "")) for name, each in ACTION["inputs"].items()}
    inputs |= given | {"program": str(program)}
    return {
        "args": ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", STEP["run"]],
        "env": surroundings(
            RUNNER_TEMP=str(folder),
            GITHUB_ACTIONS="true",
            GITHUB_OUTPUT=str(folder / "output"),
            **{variable: inputs[name] for variable, name in NAMES.items()},
        ),
    }


def called(folder: Path, status: int = 0, **given: str) -> tuple[list[str], int]:
    """The words that ce-run gets for these inputs, and the script's status."""
    program = folder / "ce-run"
    program.write_text(
        f'#!/bin/sh\nprintf "%s\\n" "$@" > {folder}/words\nenv > {folder}/env\nexit {status}\n'
    )
    program.chmod(0o755)
    done = subprocess.run(**script(folder, program, **given), check=False)
    words = folder / "words"
    return words.read_text().splitlines() if words.exists() else [], done.returncode


def real_program(folder: Path) -> Path:
    """This checkout's ce-run as a program of its own."""
    program = folder / "real-ce-run"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m engine.cli "$@"\n')
    program.chmod(0o755)
    return program


def outputs(folder: Path) -> dict[str, str]:
    """The step's outputs."""
    lines = (folder / "output").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines)


def test_a_runbook_is_run_with_what_was_given(tmp_path: Path) -> None:
    words, status = called(
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
    assert status == 0


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
    assert called(tmp_path, status, runbook="a.yml")[1] == status


def test_secrets_are_the_runs_alone(tmp_path: Path) -> None:
    secrets = "CE_DB_PASSWORD=a b=$(touch pwned)\nCE_EMPTY=\n"
    called(tmp_path, runbook="a.yml", secrets=secrets)
    environment = (tmp_path / "env").read_text().splitlines()
    assert {"CE_DB_PASSWORD=a b=$(touch pwned)", "CE_EMPTY="} <= set(environment)
    assert not [line for line in environment if line.startswith("SECRETS=")]
    steps = ACTION["runs"]["steps"]
    assert [each.get("id") for each in steps if "inputs.secrets" in str(each)] == ["run"]
    (step,) = [s for s in WORKFLOW["jobs"]["run"]["steps"] if s.get("uses") == "./"]
    assert "env" not in step


def test_a_secret_of_several_lines_is_refused_without_showing_it(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    words, status = called(tmp_path, runbook="a.yml", secrets="CE_KEY=-----BEGIN KEY-----\nq2+/8\n")
    assert (words, status, outputs(tmp_path)) == ([], 2, {"exit-status": "2"})
    shown = "".join(capfd.readouterr())
    assert "goes into a file" in shown
    assert "q2+/8" not in shown


def test_a_cancelled_job_interrupts_the_run(tmp_path: Path) -> None:
    """As the runner does it: signals to the step's first process only, the tree killed at last."""
    book = tmp_path / "book.yml"
    book.write_text(
        "name: Long\nsteps:\n"
        "  - {id: waits, wait: {for: 1h}}\n"
        "always:\n"
        f"  - {{id: tidy, shell: 'touch {tmp_path}/tidied'}}\n"
    )
    state = tmp_path / "state"
    start = script(tmp_path, real_program(tmp_path), runbook=str(book), state=str(state))
    step = subprocess.Popen(**start, stdout=subprocess.PIPE, text=True)
    assert step.stdout is not None
    shown = next(line for line in step.stdout if "waits" in line)
    try:
        step.send_signal(signal.SIGINT)
        rest = step.communicate(timeout=7.5)[0]
    except subprocess.TimeoutExpired:
        step.kill()
        raise
    assert step.returncode == 130, shown + rest
    assert (tmp_path / "tidied").exists()
    assert outputs(tmp_path)["exit-status"] == "130"
    journal = (state / "runs" / outputs(tmp_path)["run"] / "journal.jsonl").read_text()
    assert "run_stopped" in journal.splitlines()[-1]


def test_what_is_wrong_before_a_run_has_a_status_too(tmp_path: Path) -> None:
    start = script(tmp_path, real_program(tmp_path), runbook=str(tmp_path / "missing.yml"))
    assert subprocess.run(**start, check=False, capture_output=True).returncode == 2
    assert outputs(tmp_path) == {"exit-status": "2"}


def test_what_is_installed_is_locked_and_what_is_used_is_pinned() -> None:
    for file in (ROOT / ".github/workflows").glob("*.yml"):
        used = re.findall(r"uses: (\S+)", file.read_text(encoding="utf-8"))
        assert [each for each in used if not re.fullmatch(r"\./|\S+@[0-9a-f]{40}", each)] == []
    used = re.findall(r"uses: (\S+)", (ROOT / "action.yml").read_text(encoding="utf-8"))
    assert used
    assert all(re.fullmatch(r"\S+@[0-9a-f]{40}", each) for each in used)
    locked = (ROOT / ".github/requirements.lock").read_text(encoding="utf-8")
    names = set(re.findall(r"^([a-z0-9-]+)(?:\[.*\])?==", locked, re.MULTILINE))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {re.split(r"[\[<>=]", each)[0] for each in project["dependencies"]}
    assert asked <= names
    assert "--require-hashes" in str(ACTION)
    assert locked.count("--hash=sha256:") >= len(names)


def test_a_forced_rollback_is_no_check() -> None:
    (step,) = [s for s in WORKFLOW["jobs"]["run"]["steps"] if s.get("uses") == "./"]
    assert step["with"]["check"] == "${{ inputs.check && !inputs.force }}"


def test_a_restore_can_be_given_its_backup(tmp_path: Path) -> None:
    (step,) = [s for s in WORKFLOW["jobs"]["run"]["steps"] if s.get("id") == "inputs"]
    subprocess.run(
        ["bash", "-eo", "pipefail", "-c", step["run"]],
        env={"EXTRA": "backup=b_20260101,why=x", "GITHUB_OUTPUT": str(tmp_path / "output")},
        check=True,
    )
    written = (tmp_path / "output").read_text()
    assert written == "extra<<end-of-inputs\nbackup=b_20260101\nwhy=x\nend-of-inputs\n"


def test_whoever_takes_over_does_not_queue_behind_what_it_takes_over_from() -> None:
    assert "inputs.force && github.run_id" in WORKFLOW["concurrency"]["group"]
    assert WORKFLOW["concurrency"]["cancel-in-progress"] is False


def test_the_workflow_knows_every_secret_and_runbook_that_there_is() -> None:
    (step,) = [s for s in WORKFLOW["jobs"]["run"]["steps"] if s.get("uses") == "./"]
    asked = WORKFLOW[True]["workflow_dispatch"]["inputs"]
    for inventory in asked["inventory"]["options"]:
        secrets = yaml.safe_load((ROOT / inventory).read_text(encoding="utf-8"))["secrets"]
        passed = {line.split("=")[0] for line in step["with"]["secrets"].splitlines()}
        assert {each["env"] for each in secrets.values()} <= passed
    books = {f"runbooks/{path.name}" for path in ROOT.glob("runbooks/*.yml")}
    assert set(asked["runbook"]["options"]) == books


def test_journals_and_locks_outlive_the_job() -> None:
    (step,) = [s for s in WORKFLOW["jobs"]["run"]["steps"] if s.get("uses") == "./"]
    assert step["with"]["state"].startswith("/")
