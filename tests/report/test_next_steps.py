"""The commands that a person is told to run next."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest

from engine.report.gather import gather
from engine.report.next_steps import (
    Advice,
    CommandLines,
    advice_lines,
    advise,
    program,
    rollbacks_beside,
    start_words,
)
from engine.report.summary import summary
from engine.report.words import text_of, width
from tests.report.recorded import RUN, Recorded
from tests.report.scenarios import SCENARIOS


def commands_after(run: Recorded, **options: object) -> list[str]:
    """What is advised after a run."""
    facts = gather(run.plan, run.state, run.records, now=run.clock.now())
    return [each.command for each in advise(facts, CommandLines(), options=options)]


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_there_is_always_something_to_run_next(tmp_path: Path, scenario: str) -> None:
    commands = commands_after(SCENARIOS[scenario](tmp_path, []))
    assert commands
    assert all(each.startswith("ce-run ") for each in commands)
    assert len(set(commands)) == len(commands)


def test_a_waiting_run_names_exactly_what_goes_on(tmp_path: Path) -> None:
    commands = commands_after(SCENARIOS["waiting"](tmp_path, []))
    assert commands[:2] == [f"ce-run approve {RUN} switch --tick all", f"ce-run resume {RUN}"]


def test_a_rollback_beside_the_runbook_is_spelled_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runbooks"
    folder.mkdir()
    (folder / "back.yml").write_text("name: Back\npreempts: true\nsteps: []\n", encoding="utf-8")
    (folder / "other.yml").write_text("name: Other\n# preempts: true\n", encoding="utf-8")
    assert rollbacks_beside(Path("runbooks/deploy.yml")) == ["runbooks/back.yml"]
    commands = commands_after(SCENARIOS["failed"](tmp_path, []), inventory="inv.yml")
    assert "ce-run runbooks/back.yml -i inv.yml --force --reason WHY" in commands


def test_after_a_success_the_rollback_that_the_runbook_names_is_at_hand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run = SCENARIOS["success"](tmp_path, [])
    book = Path(gather(run.plan, run.state, run.records, now=run.clock.now()).runbook)
    book.parent.mkdir(parents=True, exist_ok=True)
    for name in ("back.yml", "another.yml"):
        (book.parent / name).write_text("name: Back\npreempts: true\nsteps: []\n", encoding="utf-8")
    book.write_text("rescue: [{runbook: back.yml}]\n", encoding="utf-8")
    assert commands_after(run, inventory="inv.yml") == [
        f"ce-run {book.parent / 'back.yml'} -i inv.yml --force --reason WHY",
        f"ce-run show {RUN}",
    ]


def test_commands_are_spelled_so_that_the_readers_shell_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, elsewhere = tmp_path / ".venv" / "bin", tmp_path / "bin"
    for folder in (here, elsewhere):
        folder.mkdir(parents=True)
        (folder / "ce-run").write_text("#!/bin/sh\n", encoding="utf-8")
        (folder / "ce-run").chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(elsewhere))
    assert program(".venv/bin/ce-run") == ".venv/bin/ce-run"
    assert program(str(here / "ce-run")) == ".venv/bin/ce-run"
    monkeypatch.setenv("PATH", str(here))
    assert program(str(here / "ce-run")) == "ce-run"
    assert program("engine/cli/__main__.py") == "ce-run"
    monkeypatch.chdir(elsewhere)
    monkeypatch.setenv("PATH", "")
    assert program(str(here / "ce-run")) == str(here / "ce-run")
    spelled = CommandLines(program=".venv/bin/ce-run").spell("resume", "last")
    assert spelled == ".venv/bin/ce-run resume last"


def test_words_that_start_a_run_again() -> None:
    options = {
        "inventory": "inv.yml",
        "extra": {"version": "5.1", "why": "it is time"},
        "tags": ["a", "b"],
        "limit": "web",
    }
    spelled = CommandLines().spell(*start_words("book.yml", options))
    assert spelled == (
        "ce-run book.yml -i inv.yml -e version=5.1 -e 'why=it is time' --tags a,b --limit web"
    )


def test_a_rescue_that_stopped_half_way_tells_where(tmp_path: Path) -> None:
    text = """
        name: Half
        steps:
          - id: execute
            steps:
              - toy.act: {fail: failed, message: too slow}
            rescue:
              - id: traffic
                toy.act: {message: traffic is back}
              - id: verify
                toy.act: {fail: failed, message: still slow}
              - id: tell
                toy.act: {}
    """
    run = Recorded(tmp_path, text).run()
    facts = gather(run.plan, run.state, run.records, now=run.clock.now())
    said = [text_of(each) for each in summary(facts, run.plan, [], "journal.jsonl")]
    assert (
        "  a person has to act: the rescue of execute stopped at execute.rescue/verify: still slow"
    ) in said
    assert "    traffic is back" in said


def test_whatever_lies_beside_a_runbook_the_advice_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runbooks"
    folder.mkdir()
    (folder / "a-folder.yml").mkdir()
    (folder / "dangling.yml").symlink_to("nowhere.yml")
    (folder / "loop.yml").symlink_to("loop.yml")
    (folder / "device.yml").symlink_to("/dev/zero")
    os.mkfifo(folder / "pipe.yml")
    (folder / "latin.yml").write_bytes(b"name: Z\xfcr\xfcck\npreempts: true\nsteps: []\n")
    (folder / os.fsdecode(b"\xff.yml")).write_text("preempts: true\n")
    beside = ["runbooks/latin.yml", os.fsdecode(b"runbooks/\xff.yml")]
    assert rollbacks_beside(Path("runbooks/deploy.yml")) == beside
    assert commands_after(SCENARIOS["failed"](tmp_path, []))
    assert rollbacks_beside(Path("nowhere/deploy.yml")) == []


def test_a_command_is_continued_between_its_words_where_a_terminal_is_narrow() -> None:
    reason = "the error rate of 5.1 is too high"
    long = CommandLines().spell(
        "runbooks/emergency-rollback.yml", "-i", "lab.yml", "--reason", reason
    )
    advice = [Advice("ce-run show last", "what happened"), Advice(long, "roll back")]
    lines = [text_of(each) for each in advice_lines(advice, 60)]
    assert lines == [
        "  ce-run show last  # what happened",
        "  # roll back",
        "  ce-run runbooks/emergency-rollback.yml -i lab.yml \\",
        "      --reason 'the error rate of 5.1 is too high'",
    ]
    assert all(width(each) <= 60 for each in lines)
    assert shlex.split("\n".join(lines[2:]).replace("\\\n", "")) == shlex.split(long)
    assert len(advice_lines(advice)) == 2
