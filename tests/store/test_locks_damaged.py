"""Locks whose files were removed, replaced, damaged or cannot be reached."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Cancelled, JournalError, LockHeld, Refused
from engine.events import Person
from engine.model import Block, Place, Runbook
from engine.store import OwnedLocks, RunInfo
from engine.store.files import FileLock, FileRun, FileStore

ME = Person("ann", "laptop")
NOW = 1_800_000_000.0
NAME = "production"


def begin(state: Path, *, force: bool = False) -> tuple[FileRun, OwnedLocks]:
    """A run that this process carries, with the lock."""
    store = FileStore(state)
    run = store.create("t", NOW, RunInfo("", "t.yml", None, "/"), {})
    run.keep_runbook(Runbook("t.yml", "T", Block((), Place("t.yml", 1, 1)), locks=(NAME,)))
    locks = OwnedLocks(store, [NAME], run.run_id)
    locks.take(ME, NOW, "", force=force)
    return run, locks


def remove_record(state: Path) -> None:
    (state / "locks" / f"{NAME}.json").unlink()


def remove_all_of_it(state: Path) -> None:
    for path in (state / "locks").glob(f"{NAME}.*"):
        path.unlink()


def remove_folder(state: Path) -> None:
    shutil.rmtree(state / "locks")


def restore_old_copy(state: Path) -> None:
    (state / "locks" / f"{NAME}.json").write_text(f'{{"name":"{NAME}","token":1,"run":"old"}}')


REMOVALS = [remove_record, remove_all_of_it, remove_folder]


@pytest.mark.parametrize("remove", [*REMOVALS, restore_old_copy])
def test_a_token_goes_on_growing_whatever_became_of_the_files(
    tmp_path: Path, remove: Callable[[Path], None]
) -> None:
    for _ in range(3):
        run, locks = begin(tmp_path)
        locks.release()
        run.disown()
    remove(tmp_path)
    assert begin(tmp_path)[1].tokens == {NAME: 4}


@pytest.mark.parametrize("remove", REMOVALS)
def test_a_lock_whose_files_were_removed_still_is_its_living_owners(
    tmp_path: Path, remove: Callable[[Path], None]
) -> None:
    run, _ = begin(tmp_path)
    remove(tmp_path)
    with pytest.raises(LockHeld, match=f"locked by run {run.run_id}"):
        begin(tmp_path)


@pytest.mark.parametrize("remove", REMOVALS)
def test_who_takes_over_a_lock_whose_files_were_removed_says_from_whom(
    tmp_path: Path, remove: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.store.files.locks.TAKEOVER_PATIENCE", 0.05)
    run, old = begin(tmp_path)
    remove(tmp_path)
    _, new = begin(tmp_path, force=True)
    assert new.over == {NAME: run.run_id}
    assert new.tokens == {NAME: 2}
    lost = old.lost()
    assert lost is not None
    assert not lost.unlocked
    with pytest.raises(Cancelled, match=f"{lost.run} took over production; nothing was sent"):
        old.hold().__enter__()


def test_a_fence_that_was_replaced_is_held_where_others_look_for_it(tmp_path: Path) -> None:
    _, locks = begin(tmp_path)
    fence = tmp_path / "locks" / f"{NAME}.fence"
    with locks.hold():
        pass
    fence.unlink()
    with locks.hold():
        descriptor = os.open(fence, os.O_RDWR)
        import fcntl

        with pytest.raises(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(descriptor)


@pytest.mark.parametrize(
    "data", [b"\xff\xfe", b'{"name":"\xff"}', b"", b"{", b"[" * 100_000, b'{"token":"x"}']
)
def test_a_damaged_record_refuses_in_words_and_lets_an_emergency_pass(
    tmp_path: Path, data: bytes
) -> None:
    _, old = begin(tmp_path)
    (tmp_path / "locks" / f"{NAME}.json").write_bytes(data)
    with pytest.raises(LockHeld, match=r"nobody knows who holds production: .* is damaged"):
        begin(tmp_path)
    lost = old.lost()
    assert lost is not None
    assert "production.json is damaged" in lost.reason
    _, new = begin(tmp_path, force=True)
    assert new.tokens == {NAME: 2}
    assert new.lost() is None


@pytest.mark.parametrize("kind", ["json", "mutex", "fence"])
def test_what_is_no_file_is_not_followed_and_does_not_hold_up_an_emergency(
    tmp_path: Path, kind: str
) -> None:
    precious = tmp_path / "precious"
    precious.write_text("0123456789 precious")
    state = tmp_path / "state"
    run, locks = begin(state)
    locks.release()
    run.disown()
    path = state / "locks" / f"{NAME}.{kind}"
    makers: tuple[Callable[[], None], ...] = (
        lambda: path.symlink_to(precious),
        lambda: os.mkfifo(path),
        lambda: (path / "x").mkdir(parents=True),
    )
    for make in makers:
        path.unlink()
        make()
        if kind != "fence":
            with pytest.raises((JournalError, LockHeld)):
                begin(state)
        _, new = begin(state, force=True)
        with new.hold():
            pass
        assert new.lost() is None
    assert precious.read_text() == "0123456789 precious"


def test_a_record_does_not_lead_out_of_the_state(tmp_path: Path) -> None:
    state = tmp_path / "state"
    elsewhere = FileStore(tmp_path / "else").create("t", NOW, RunInfo("", "t.yml", None, "/"), {})
    (state / "locks").mkdir(parents=True, mode=0o700)
    run = f"../../else/runs/{elsewhere.run_id}"
    (state / "locks" / f"{NAME}.json").write_text(f'{{"name":"{NAME}","token":7,"run":"{run}"}}')
    assert begin(state)[1].tokens == {NAME: 8}


def test_a_fence_that_cannot_be_reached_refuses_the_request_in_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, locks = begin(tmp_path)
    real = os.open

    def read_only(path: Any, *args: Any, **keys: Any) -> int:
        if str(path).endswith(".fence"):
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return real(path, *args, **keys)

    monkeypatch.setattr(os, "open", read_only)
    with pytest.raises(Refused, match=r"Read-only file system\); nothing was sent"):
        locks.hold().__enter__()


def test_a_folder_of_locks_that_cannot_be_read_is_not_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin(tmp_path)

    def closed(path: Any) -> Any:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(JournalError, match="locks cannot be read: Permission denied"):
        FileStore(tmp_path).locks()


def test_a_lock_is_known_by_name_although_its_record_is_gone(tmp_path: Path) -> None:
    begin(tmp_path)
    remove_record(tmp_path)
    assert [lock.name for lock in FileStore(tmp_path).locks()] == [NAME]
    owner = FileLock(tmp_path, NAME).owner()
    assert owner is not None
    assert owner.reason == "its record is gone"
