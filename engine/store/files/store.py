"""All runs and locks of a state folder."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

import msgspec

from engine.clock import utc
from engine.errors import JournalError
from engine.files import check_folder, make_private, write_private
from engine.store.files.locks import FileLock
from engine.store.files.run import FileRun
from engine.store.lookup import find_run
from engine.store.protocol import RunInfo


class FileStore:
    """A state folder (`engine.store.protocol.Store`); it need not be there yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs_folder = folder / "runs"

    @property
    def name(self) -> str:
        """The folder's path."""
        return str(self.folder)

    @property
    def local(self) -> Path:
        """The folder itself."""
        return self.folder

    def create(self, label: str, now: float, info: RunInfo, sources: Mapping[str, Path]) -> FileRun:
        """A new run's folder, owned. `sources` maps names below ``source/`` to files to keep."""
        self._check()
        try:
            return self._create(label, now, info, sources)
        except OSError as error:
            raise JournalError(
                f"no run can be recorded in {self.folder}: {error.strerror or error}",
                hint="nothing was started; give a folder you can write to with --state",
            ) from error

    def _create(
        self, label: str, now: float, info: RunInfo, sources: Mapping[str, Path]
    ) -> FileRun:
        make_private(self.runs_folder)
        run_id = f"{utc(now):%Y%m%d-%H%M%S}-{label}-{secrets.token_hex(2)}"
        path = self.runs_folder / run_id
        for part in ("", "logs", "control", "source"):
            (path / part).mkdir(mode=0o700)
        for name, source in sources.items():
            target = path / "source" / name
            make_private(target.parent)
            write_private(target, source.read_bytes())
        info = msgspec.structs.replace(info, run=run_id)
        text = msgspec.json.format(msgspec.json.encode(info), indent=2)
        write_private(path / "run.json", text, synced=True)
        run = FileRun(path)
        run.own()
        return run

    def runs(self) -> list[FileRun]:
        """Every run with a journal, newest first."""
        self._check()
        folders = (Path(entry) for entry in _entries(self.runs_folder) if entry.is_dir())
        runs = [run for run in map(FileRun, folders) if run.begun()]
        return sorted(runs, key=lambda run: _age(run.path), reverse=True)

    def find(self, name: str) -> FileRun:
        """The run with that id, or the only one whose id contains the text; ``last`` is newest."""
        return find_run(self.runs(), name, str(self.runs_folder))

    def lock(self, name: str) -> FileLock:
        """A lock, whether it was ever taken or not."""
        return FileLock(self.folder, name)

    def locks(self) -> list[FileLock]:
        """Every lock that was ever taken, by name."""
        self._check()
        records, tokens = self.folder / "locks", self.folder / "tokens"
        for folder in (records, tokens):
            check_folder(folder)
        names = [entry.name for folder in (records, tokens) for entry in _entries(folder)]
        stems = {Path(name).stem for name in names if name.endswith((".json", ".token"))}
        return [FileLock(self.folder, unquote(stem)) for stem in sorted(stems)]

    def _check(self) -> None:
        check_folder(self.folder)
        check_folder(self.runs_folder)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """What is in a folder; nothing if it is not there. Raises JournalError."""
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except FileNotFoundError:
        return
    except OSError as error:
        raise JournalError(f"{folder} cannot be read: {error.strerror or error}") from error


def _age(path: Path) -> tuple[str, int]:
    """Sorts runs as they began; of the same second, whose ids do not tell, by their first file."""
    try:
        written = (path / "run.json").stat().st_mtime_ns
    except OSError:
        written = 0
    return path.name[: len("20260131-140509")], written
