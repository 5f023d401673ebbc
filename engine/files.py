"""Files of ours alone: opened without following links, checked, read and replaced whole.

A state folder may have come with somebody else's repository, lie where others can write, or have
been damaged. So no link in it is followed, and what belongs to another user, can be written by
others or is no plain file is refused by name; the message says what mends it. Folders are 0700 and
files 0600.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import TypeVar

import msgspec

from engine.errors import JournalError, UsageError

T = TypeVar("T")

UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec raises for bytes that are not what was expected."""

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def open_file(path: Path, flags: int) -> int:
    """A descriptor of a plain file of ours; new files are 0600.

    Raises OSError when it cannot be opened, JournalError when it is not to be trusted.
    """
    try:
        # O_NONBLOCK: to open a pipe must not wait for its other end.
        safe = flags | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
        descriptor = os.open(path, safe, 0o600)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise _untrusted(path, "is a link", "put the file itself in its place") from error
        if error.errno in (errno.ENXIO, errno.EISDIR):
            raise _untrusted(path, "is no plain file", "take it away") from error
        raise
    try:
        _check_owner(path, os.fstat(descriptor), folder=False)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def check_folder(path: Path) -> None:
    """Raise JournalError for a folder that is none of ours alone; one that is missing is fine."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror or error}") from error
    if stat.S_ISLNK(status.st_mode):
        hint = f"name the folder itself: it leads to {path.readlink()}"
        raise _untrusted(path, "is a link", hint)
    _check_owner(path, status, folder=True)


def _check_owner(path: Path, status: os.stat_result, *, folder: bool) -> None:
    if folder != stat.S_ISDIR(status.st_mode) or not (folder or stat.S_ISREG(status.st_mode)):
        word = "folder" if folder else "plain file"
        raise _untrusted(path, f"is no {word}", "take it away")
    if status.st_uid not in _ourselves():
        raise _untrusted(
            path,
            f"belongs to another user (uid {status.st_uid})",
            "work as that user, or give a state of your own with --state",
        )
    if status.st_mode & _OTHERS_WRITE:
        raise _untrusted(
            path,
            "can be written by other users",
            f"look at what is in it, then `chmod go-w {path}`",
        )


def _ourselves() -> set[int]:
    """Whose files are ours: the user's; with sudo also those of whoever called it."""
    users = {os.geteuid()}
    if users == {0} and os.environ.get("SUDO_UID", "").isdecimal():
        users.add(int(os.environ["SUDO_UID"]))
    return users


def _untrusted(path: Path, what: str, hint: str) -> JournalError:
    return JournalError(f"{path} {what}: it is not to be trusted", hint=hint)


def is_same(path: Path, descriptor: int) -> bool:
    """Whether a path still leads to the file or folder that is open."""
    try:
        there = os.lstat(path)
    except OSError:
        return False
    return os.path.samestat(there, os.fstat(descriptor))


def read_file(path: Path) -> bytes:
    """All of a plain file of ours. Raises OSError, or JournalError when it is not trusted."""
    with os.fdopen(open_file(path, os.O_RDONLY), "rb") as stream:
        return stream.read()


def read_struct(path: Path, kind: type[T]) -> T:
    """A file of JSON. Raises UsageError when it cannot be read or is damaged."""
    try:
        return msgspec.json.decode(read_file(path), type=kind)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}") from error
    except UNDECODABLE as error:
        raise UsageError(f"{path} is damaged: {error}") from error


def make_private(folder: Path) -> None:
    """Make a folder that only its owner may enter, and those above it that are missing."""
    for path in reversed((folder, *folder.parents)):
        if not path.is_dir():
            path.mkdir(mode=0o700, exist_ok=True)


def write_private(path: Path, data: bytes, *, synced: bool = False) -> None:
    """Write a file that only its owner may read; `synced`: have the disk confirm it."""
    descriptor = open_file(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        if synced:
            stream.flush()
            os.fsync(descriptor)


def replace_file(path: Path, data: bytes) -> None:
    """Put a file in the place of another: whoever reads finds the one or the other, whole, even
    after a power cut."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.new")
    write_private(draft, data, synced=True)
    draft.rename(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Have the disk confirm that a new file is in its folder."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
