"""What a run keeps outside its process: journal, records, locks with their fence, messages.

`protocol` says what there is, `files` keeps it in a folder, `place` knows which folder is meant.
"""

from engine.store.notes import append_event
from engine.store.owned import LockKeeper, OwnedLocks, loss_text
from engine.store.place import STATE_VARIABLE, open_store, project_state, state_folder
from engine.store.protocol import (
    Command,
    LockEntry,
    LockRecord,
    Message,
    RunEntry,
    RunInfo,
    Store,
)

__all__ = [
    "STATE_VARIABLE",
    "Command",
    "LockEntry",
    "LockKeeper",
    "LockRecord",
    "Message",
    "OwnedLocks",
    "RunEntry",
    "RunInfo",
    "Store",
    "append_event",
    "loss_text",
    "open_store",
    "project_state",
    "state_folder",
]
