"""`ce-run` in a process that kills itself at a chosen point of its journal.

``python -m tests.crash.killed NOTES SPOT ARGUMENTS…`` is ``ce-run ARGUMENTS…`` but for the journal,
which sends SIGKILL to its own process once SPOT (a `Spot` as JSON) is reached, and writes into
the file NOTES where that was. Nothing of this is in the engine.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Literal, NoReturn

import msgspec

from engine import journal
from engine.cli.main import main
from engine.events import AnyEvent, Record

When = Literal["before", "after", "torn", "written", "synced"]
"""Before the event is appended, after it (it is in memory alone), when the half or the whole of
the write that it is in was done but not confirmed, or right after the disk has confirmed it."""


class Spot(msgspec.Struct, frozen=True, omit_defaults=True):
    """Where to die: at the first event that fits everything that is given."""

    when: When
    seqs: tuple[int, ...] = ()
    """Numbers of records."""
    type: str = ""
    """An event's tag, such as ``task_finished``."""
    step: str = ""
    """A step's path, with ``#`` and its number for another task than the first."""
    past: tuple[str, ...] = ()
    """Steps at which it has died before."""


class Death(msgspec.Struct, frozen=True):
    """Where a process died."""

    when: When
    seq: int
    type: str
    step: str


class DeadlyJournal(journal.Journal):
    """A journal that is deadly at one point."""

    notes: Path
    spot: Spot
    _marked: Death | None = None

    def append(self, event: AnyEvent, now: float) -> Record:
        """Append, and die before or after that, or at the sync to come."""
        death = self._death(event)
        if death is not None and death.when == "before":
            die(self.notes, death)
        record = super().append(event, now)
        if death is not None and death.when == "after":
            die(self.notes, death)
        self._marked = self._marked or death
        return record

    def sync(self) -> None:
        """Sync, and die in the middle of it or right after."""
        if self._marked is None:
            super().sync()
            return
        if self._marked.when == "synced":
            super().sync()
        else:
            data = b"".join(self._collected)
            self._disk.write(data if self._marked.when == "written" else data[: len(data) // 2])
        die(self.notes, self._marked)

    def _death(self, event: AnyEvent) -> Death | None:
        number, kind = self._seq + 1, str(event.__struct_config__.tag)
        step = str(getattr(event, "step", ""))
        task = getattr(event, "task", 0)
        place = f"{step}#{task}" if task else step
        fits = (
            (not self.spot.seqs or number in self.spot.seqs)
            and self.spot.type in ("", kind)
            and self.spot.step in ("", place)
            and place not in self.spot.past
        )
        return Death(self.spot.when, number, kind, place) if fits else None


def die(notes: Path, death: Death) -> NoReturn:
    """Note where, and end as a process ends whose machine's owner kills it."""
    with notes.open("ab") as file:
        file.write(msgspec.json.encode(death) + b"\n")
    os.kill(os.getpid(), signal.SIGKILL)
    raise AssertionError("still alive")


if __name__ == "__main__":
    DeadlyJournal.notes = Path(sys.argv.pop(1))
    DeadlyJournal.spot = msgspec.json.decode(sys.argv.pop(1), type=Spot)
    journal.Journal = DeadlyJournal  # type: ignore[misc]
    main()
