"""What a start costs, and what becomes of errors: no import too many, no traceback unasked."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from engine import VERSION
from engine.cli.main import UNEXPECTED, invoke
from tests.cli.conftest import Desk

GOOD = "name: Good\nsteps:\n  - id: it\n    shell: echo hello\n"


def imported_by(desk: Desk, *words: str) -> set[str]:
    """Names of the modules that are loaded when the command has ended."""
    program = (
        "import sys; from engine.cli.main import invoke; invoke(sys.argv[1:]); "
        "print('\\n'.join(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *words],
        cwd=desk.folder,
        env=desk.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return set(done.stderr.split())


def test_the_version_needs_nothing_but_click(desk: Desk) -> None:
    names = imported_by(desk, "--version")
    ours = {name for name in names if name.startswith("engine")}
    assert ours == {"engine", "engine.cli", "engine.cli.main"}
    assert not names & {"msgspec", "yaml", "jinja2", "rich", "networkx", "importlib.metadata"}


def test_help_imports_no_command(desk: Desk) -> None:
    assert "engine.cli.run" not in imported_by(desk, "--help")


def test_validate_imports_neither_terminal_nor_graph_nor_drivers(desk: Desk) -> None:
    desk.write(GOOD)
    names = imported_by(desk, "validate", "book.yml")
    heavy = {"rich", "networkx", "kubernetes", "psycopg", "httpx", "paramiko", "docker", "asyncio"}
    assert not names & heavy


def test_plain_runs_import_no_terminal(desk: Desk) -> None:
    desk.write(GOOD)
    assert not imported_by(desk, "book.yml") & {"rich", "networkx"}


def test_the_version_is_told_in_both_ways(desk: Desk) -> None:
    assert desk.ce_run("--version").stdout == desk.ce_run("version").stdout == f"ce-run {VERSION}\n"


def test_the_version_is_that_of_the_distribution() -> None:
    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{VERSION}"' in text


@pytest.mark.parametrize("asked", [False, True])
def test_a_defect_of_ours_is_one_line_unless_asked_for(
    desk: Desk,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    asked: bool,
) -> None:
    def broken(*args: object, **more: object) -> None:
        raise RuntimeError("a screw is loose")

    monkeypatch.setattr("engine.loader.load", broken)
    monkeypatch.delenv("CE_RUN_TRACEBACK", raising=False)
    monkeypatch.chdir(desk.folder)
    desk.write(GOOD)
    words = ["validate", "book.yml", *(["--traceback"] if asked else [])]
    assert invoke(words) == UNEXPECTED
    monkeypatch.delenv("CE_RUN_TRACEBACK", raising=False)
    said = capsys.readouterr().err
    assert "ce-run failed unexpectedly: RuntimeError: a screw is loose" in said
    assert ("Traceback" in said) == asked


def test_a_defect_during_a_run_leaves_its_traceback_in_the_run(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*args: object, **more: object) -> None:
        raise RuntimeError("a screw is loose")

    monkeypatch.setattr("engine.runner.runner.decide", broken)
    monkeypatch.chdir(desk.folder)
    monkeypatch.delenv("CE_RUN_STATE", raising=False)
    desk.write(GOOD)
    assert invoke(["book.yml", "--output", "plain"]) == UNEXPECTED
    path = desk.run().path / "traceback.txt"
    assert str(path) in capsys.readouterr().err
    assert "a screw is loose" in path.read_text()
    assert path.stat().st_mode & 0o077 == 0
    assert not desk.run().alive()


def test_ctrl_c_outside_of_a_run_is_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*args: object, **more: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("engine.loader.load", interrupted)
    assert invoke(["validate", "x.yml"]) == 130
    assert capsys.readouterr().err.strip() == "interrupted"


def test_a_reader_who_left_is_no_error(desk: Desk) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "engine.cli", "modules", "--output", "json"],
        cwd=desk.folder,
        env=desk.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 141
    assert said == ""


def test_a_run_goes_on_when_its_reader_left(desk: Desk) -> None:
    desk.write("name: Piped\nsteps:\n  - shell: echo a\n  - shell: touch done\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "engine.cli", "book.yml"],
        cwd=desk.folder,
        env=desk.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    said = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 0
    assert "the run goes on, `ce-run show " in said
    assert (desk.folder / "done").exists()


def test_usage_errors_name_the_nearest_word(capsys: pytest.CaptureFixture[str]) -> None:
    assert invoke(["aprove", "last"]) == 2
    assert "did you mean 'approve'?" in capsys.readouterr().err
    assert invoke(["run", "x.yml", "--chek"]) == 2
    assert "--check" in capsys.readouterr().err


def test_options_may_come_before_the_file(desk: Desk) -> None:
    desk.write(GOOD)
    done = desk.ce_run("--check", "--state", "elsewhere", "book.yml")
    assert done.returncode == 0, done.stderr
    assert "CHECK RUN, nothing was changed" in done.stdout
    assert "--state elsewhere" in done.stdout
    assert (desk.folder / "elsewhere" / "runs").is_dir()


def test_a_stream_that_cannot_say_everything_says_what_it_can(
    desk: Desk,
) -> None:
    desk.write("name: 部署\nsteps:\n  - shell: echo 你好\n")
    done = desk.ce_run("book.yml", env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    assert "succeeded" in done.stdout


def test_error_lines_are_written_to_the_given_stream() -> None:
    from engine.cli.problems import tell_error
    from engine.errors import LockHeld

    stream = io.StringIO()
    tell_error(LockHeld("it is held", hint="wait"), stream)
    assert stream.getvalue() == "ce-run: it is held\n  hint: wait\n"


ARROWS = "name: Δ → ok\nsteps:\n  - {id: a, shell: 'true', timeout: 5m}\n"


def test_a_terminal_that_knows_ascii_only_gets_lookalikes_in_their_columns(desk: Desk) -> None:
    desk.write(ARROWS)
    fine = desk.ce_run("graph", "book.yml").stdout
    poor = desk.ce_run("graph", "book.yml", env={"PYTHONIOENCODING": "ascii"}).stdout
    assert fine.startswith("Δ → ok  (")
    assert poor.startswith("? > ok  (")
    assert "≤ 5m" in fine
    assert "< 5m" in poor
    assert [len(each) for each in poor.splitlines()] == [len(each) for each in fine.splitlines()]


def test_json_is_the_journal_whatever_the_terminals_encoding(desk: Desk) -> None:
    desk.write(ARROWS)
    done = desk.ce_run("book.yml", "--output", "json", env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0
    (journal,) = desk.state.glob("runs/*/journal.jsonl")
    assert done.stdout == journal.read_text(encoding="utf-8")


def test_the_end_of_a_run_stands_on_the_page_of_a_job_of_github_actions(desk: Desk) -> None:
    desk.write("name: In CI\nsteps:\n  - {id: a, shell: 'true'}\n  - {id: b, shell: 'false'}\n")
    page = desk.folder / "summary.md"
    noted = desk.folder / "output.txt"
    env = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(page),
        "GITHUB_OUTPUT": str(noted),
    }
    for output in ("auto", "json"):
        page.write_text("before\n")
        assert desk.ce_run("book.yml", "--output", output, env=env).returncode == 1
        lines = page.read_text(encoding="utf-8").splitlines()
        assert lines[:2] == ["before", "### In CI: FAILED " + lines[1].partition("FAILED ")[2]]
        assert "b: " in lines[1]
        assert "```text" in lines
        assert lines[-1] == "```"
        assert any("ce-run show " in each for each in lines)
    assert desk.ce_run("book.yml", env=env | {"GITHUB_ACTIONS": "false"}).returncode == 1
    assert page.read_text(encoding="utf-8").count("###") == 1
    told = [each for each in noted.read_text().splitlines() if each.startswith("run=")]
    assert len(told) == 2
    assert {each.removeprefix("run=") for each in told} < {
        each.name for each in desk.state.glob("runs/*")
    }


def test_what_lies_beside_a_runbook_changes_no_outcome(desk: Desk) -> None:
    for name, command in (("good", "true"), ("bad", "false")):
        desk.write(f"name: Work\nsteps:\n  - {{id: a, shell: '{command}'}}\n", f"{name}.yml")
    (desk.folder / "folder.yml").mkdir()
    (desk.folder / "dangling.yml").symlink_to("nowhere.yml")
    os.mkfifo(desk.folder / "pipe.yml")
    assert desk.ce_run("good.yml").returncode == 0
    assert desk.ce_run("bad.yml").returncode == 1


def test_a_runbook_that_includes_one_beside_its_folder_works_in_its_own(desk: Desk) -> None:
    desk.write(
        "name: A\nsteps:\n  - {id: own, shell: cat beside.txt}\n"
        "  - {id: below, shell: {command: cat x.txt, cwd: data}}\n"
        "  - runbook: ../shared/b.yml\n",
        "books/a.yml",
    )
    desk.write("own\n", "books/beside.txt")
    desk.write("below\n", "books/data/x.txt")
    desk.write("name: B\nsteps:\n  - {id: b, shell: cat beside.txt}\n", "shared/b.yml")
    told = desk.ce_run("books/a.yml", "-v")
    assert told.returncode == 0, told.stdout
    desk.write("name: C\nsteps:\n  - shell: {command: pwd, cwd: ../..}\n", "books/c.yml")
    assert "outside the runbook's folder" in desk.ce_run("books/c.yml").stdout
