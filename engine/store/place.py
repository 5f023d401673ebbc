"""Which state is meant, and the store that keeps it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from engine.store.files import FileStore
from engine.store.protocol import Store

STATE_VARIABLE = "CE_RUN_STATE"
DEFAULT_STATE = ".ce-run"


def state_folder(option: str | None = None, runbook: Path | None = None) -> Path:
    """``--state``, else ``CE_RUN_STATE``, else the project's; absolute, not necessarily there."""
    chosen = option or os.environ.get(STATE_VARIABLE)
    return Path(chosen).absolute() if chosen else project_state(runbook)


def project_state(runbook: Path | None = None) -> Path:
    """The ``.ce-run`` of the project that a runbook belongs to; without one, of where we are.

    It is found from the file, not from where one stands, so that all who run a project's runbooks
    meet at its locks: the nearest ``.ce-run`` at or above the file, as far as the repository goes;
    else that of the repository; else beside the folder ``runbooks`` or ``inventories`` that the
    file lies in; else beside the file.
    """
    start = (runbook.absolute().parent if runbook is not None else Path.cwd()).resolve()
    for folder in (start, *start.parents):
        if folder == Path.home() or _is_everybodys(folder):
            break
        if _is_ours(folder / DEFAULT_STATE):
            return folder / DEFAULT_STATE
        if (folder / ".git").exists():
            return folder / DEFAULT_STATE
    for folder in (start, *start.parents):
        if folder.name in ("runbooks", "inventories"):
            return folder.parent / DEFAULT_STATE
    return start / DEFAULT_STATE


def _is_everybodys(folder: Path) -> bool:
    """Whether no project reaches so far up: ``/``, and where everybody may write."""
    return folder == folder.parent or bool(folder.stat().st_mode & stat.S_IWOTH)


def _is_ours(folder: Path) -> bool:
    """Whether there is a state of this user; what others left above us is none of our project's."""
    try:
        return folder.lstat().st_uid == os.geteuid()
    except OSError:
        return False


def open_store(folder: Path) -> Store:
    """The store of a state folder: the one place that knows by what a state is kept."""
    return FileStore(folder)
