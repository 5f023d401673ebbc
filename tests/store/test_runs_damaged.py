"""Runs whose files were removed, replaced, damaged, or belong to somebody else."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import JournalDamaged, JournalError, ResumeRefused, UsageError
from engine.events import Person, ReasonGiven
from engine.journal import Journal
from engine.store import Command, RunInfo
from engine.store.files import FileRun, FileStore

ME = Person("ann", "laptop")
NOW = 1_800_000_000.0
EVENT = ReasonGiven("because", ME)


def begin(state: Path, records: int = 3) -> tuple[FileRun, Journal]:
    """A run that this process carries, with some records that the disk has confirmed."""
    run = FileStore(state).create("t", NOW, RunInfo("", "t.yml", None, "/"), {})
    journal = run.journal()
    for _ in range(records):
        journal.append(EVENT, NOW)
    journal.sync()
    run.beat(NOW, journal.confirmed)
    return run, journal


# -- under a living run ---------------------------------------------------------------------------
def test_a_removed_run_lock_lets_nobody_else_carry_the_run_and_is_put_back(tmp_path: Path) -> None:
    run, _ = begin(tmp_path)
    (run.path / "run.lock").unlink()
    other = FileRun(run.path)
    assert other.alive()
    with pytest.raises(ResumeRefused, match="is being carried by"):
        other.own()
    assert "it is there again" in run.beat(NOW + 1, 3)
    assert run.beat(NOW + 2, 3) == ""
    assert other.last_beat() == NOW + 2
    assert other.owner() == f"process {os.getpid()}"
    with pytest.raises(ResumeRefused):
        other.own()
    run.disown()
    assert not other.alive()
    other.own()


def removed(path: Path) -> None:
    shutil.rmtree(path)


def replaced(path: Path) -> None:
    shutil.copytree(path, path.with_name("copy"))
    shutil.rmtree(path)
    path.with_name("copy").rename(path)


@pytest.mark.parametrize("change", [removed, replaced])
def test_a_run_notices_that_its_folder_was_removed_or_replaced(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    run, journal = begin(tmp_path)
    change(run.path)
    for notice in (lambda: run.beat(NOW, 3), journal.check):
        with pytest.raises(JournalError, match="was removed or replaced while the run was at work"):
            notice()
    journal.append(EVENT, NOW)
    with pytest.raises(JournalError, match="was removed or replaced"):
        journal.sync()


def cut(path: Path) -> None:
    os.truncate(path, 10)


def grown(path: Path) -> None:
    with path.open("ab") as stream:
        stream.write(b"{}\n")


@pytest.mark.parametrize("change", [cut, grown])
def test_a_run_notices_that_somebody_wrote_in_its_journal(
    tmp_path: Path, change: Callable[[Path], None]
) -> None:
    run, journal = begin(tmp_path)
    change(run.journal_path)
    journal.append(EVENT, NOW)
    with pytest.raises(JournalError, match="was changed by somebody else"):
        journal.sync()


# -- what was confirmed ---------------------------------------------------------------------------
@pytest.mark.parametrize("there", [0, 1, 2])
def test_confirmed_records_that_are_gone_are_no_torn_line(tmp_path: Path, there: int) -> None:
    run, journal = begin(tmp_path)
    journal.close()
    run.disown()
    lines = run.journal_path.read_bytes().splitlines(keepends=True)
    run.journal_path.write_bytes(b"".join(lines[:there]) + lines[there][:20])
    before = run.journal_path.read_bytes()
    words = f"{3 - there} records?" + " that the disk had confirmed can no longer be read"
    with pytest.raises(JournalDamaged, match=words) as caught:
        run.records()
    assert caught.value.line == there + 1
    run.own()
    with pytest.raises(JournalDamaged, match=words):
        run.reopen()
    assert run.journal_path.read_bytes() == before, "nothing was cut off"


def test_what_was_never_confirmed_is_cut_off_and_that_is_known(tmp_path: Path) -> None:
    run, journal = begin(tmp_path)
    journal.close()
    run.disown()
    with run.journal_path.open("ab") as stream:
        stream.write(b'{"seq":4,"ti')
    run.own()
    records, again = run.reopen()
    assert (len(records), again.cut) == (3, 12)


def test_a_run_whose_journal_is_gone_is_still_listed(tmp_path: Path) -> None:
    run, _ = begin(tmp_path)
    run.journal_path.unlink()
    (listed,) = FileStore(tmp_path).runs()
    with pytest.raises(JournalError, match="No such file"):
        listed.records()


# -- bytes ----------------------------------------------------------------------------------------
NONSENSE = [b"\xff\xfe", b'{"run":"\xff"}', b"", b"[" * 100_000, b"\0" * 64, b"null"]


@pytest.mark.parametrize("data", NONSENSE)
def test_nonsense_in_a_runs_files_is_told_in_words(tmp_path: Path, data: bytes) -> None:
    run, _ = begin(tmp_path)
    for name, read in (("run.json", run.info), ("runbook.json", run.runbook)):
        (run.path / name).write_bytes(data)
        with pytest.raises((UsageError, JournalError), match=f"{name} is damaged"):
            read()
    (run.path / "run.lock").write_bytes(data)
    assert run.last_beat() == 0.0
    assert len(run.records()) == 3
    assert run.owner() == "process ?"


@pytest.mark.parametrize("data", NONSENSE)
def test_nonsense_among_messages_does_not_stand_in_the_way(tmp_path: Path, data: bytes) -> None:
    run, _ = begin(tmp_path)
    control = run.path / "control"
    (control / "0.json").write_bytes(data)
    (control / "1.json").symlink_to("/etc/hostname")
    os.mkfifo(control / "2.json")
    (control / "3.json").mkdir()
    run.send(Command("stop", ME))
    assert [each.verb for each in run.take_commands()] == ["stop"]
    assert list(control.iterdir()) == []


# -- trust ----------------------------------------------------------------------------------------
def foreign(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give a path to another user; where that is not allowed, become another one."""
    if os.geteuid() == 0:
        os.chown(path, 54321, -1)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 54321)


@pytest.mark.parametrize("part", ["", "runs", "runs/{run}", "runs/{run}/journal.jsonl"])
def test_what_is_not_ours_alone_is_refused_by_name(
    tmp_path: Path, part: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = tmp_path / "state"
    run, journal = begin(state)
    journal.close()
    run.disown()
    path = state / part.format(run=run.run_id)

    def look() -> None:
        (each,) = FileStore(state).runs()
        each.own()
        try:
            each.records()
        finally:
            each.disown()

    look()
    mode = path.stat().st_mode
    for more in (0o020, 0o002):
        path.chmod(mode | more)
        with pytest.raises(JournalError, match=f"{path} can be written by other users") as caught:
            look()
        assert f"chmod go-w {path}" in caught.value.hint
    path.chmod(mode)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(JournalError, match=f"{path} is a link"):
        look()
    path.unlink()
    (tmp_path / "elsewhere").rename(path)
    foreign(path, monkeypatch)
    with pytest.raises(JournalError, match="belongs to another user"):
        look()


def test_with_sudo_the_files_of_whoever_called_it_are_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    begin(tmp_path)
    if os.getuid() != 0:
        monkeypatch.setenv("SUDO_UID", str(os.getuid()))
    assert len(FileStore(tmp_path).runs()) == 1


def test_a_folder_of_runs_that_is_none_says_so(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    with pytest.raises(JournalError, match="runs is no folder"):
        FileStore(tmp_path).runs()
