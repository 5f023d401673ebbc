"""A store in a folder of one machine."""

from engine.store.files.locks import FileLock
from engine.store.files.run import FileRun
from engine.store.files.store import FileStore

__all__ = ["FileLock", "FileRun", "FileStore"]
