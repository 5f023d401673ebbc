"""Adding an event to the journal of a run that nobody carries."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engine.clock import SystemClock
from engine.errors import ResumeRefused
from engine.events import AnyEvent, Record
from engine.store.protocol import RunEntry


def append_event(
    run: RunEntry,
    event: AnyEvent,
    before: Callable[[list[Record]], Sequence[AnyEvent]] = lambda records: (),
) -> None:
    """Add an event to the journal of a run that nobody carries. Owns the run meanwhile.

    `before` is given all records, once nobody else can add any: it says what has to be noted
    first, and raises when the event cannot follow. Raises ResumeRefused when a process carries
    the run.
    """
    run.own()
    try:
        records, book = run.reopen()
        try:
            if not records:
                raise ResumeRefused(f"run {run.run_id} was never started: its journal is empty")
            now = max(SystemClock().now(), records[-1].time)
            for each in (*before(records), event):
                book.append(each, now)
            book.sync()
            run.beat(run.last_beat(), book.confirmed)
        finally:
            book.close()
    finally:
        run.disown()
