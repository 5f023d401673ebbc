"""Which state is meant, and the store that keeps it."""

from __future__ import annotations

import os
from pathlib import Path

from engine.store.files import FileStore
from engine.store.protocol import Store

STATE_VARIABLE = "CE_RUN_STATE"
DEFAULT_STATE = ".ce-run"


def state_folder(option: str | None = None) -> Path:
    """``--state``, else ``CE_RUN_STATE``, else ``.ce-run``; absolute, not necessarily there."""
    return Path(option or os.environ.get(STATE_VARIABLE) or DEFAULT_STATE).absolute()


def open_store(folder: Path) -> Store:
    """The store of a state folder: the one place that knows by what a state is kept."""
    return FileStore(folder)
