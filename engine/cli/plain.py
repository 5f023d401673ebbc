"""What one reads of a run where there is no live view: a line for each thing that happens.

Also for programs: GitHub Actions' groups and annotations, and the journal's own lines as JSON.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import TextIO

from engine.cli.ask import Screen
from engine.cli.github import END_GROUP, MOST_ANNOTATIONS, annotation, group
from engine.cli.terminal import Writer, columns
from engine.events import FailureLatched, GateOpened, Record, StepFinished, StepOpened, TaskFinished
from engine.report.encoding import for_json
from engine.report.failures import kind_words
from engine.report.telling import Teller, task_name
from engine.report.words import Line, Span, line
from engine.report.wrapping import wrapped
from engine.state import RunState

FIRST_SIGN = 5.0
"""Seconds after which a step that is still running is mentioned."""

LATER_SIGNS = 60.0
"""Seconds between two such mentions of a step."""


class PlainView:
    """An observer of the run that prints lines as things happen."""

    tick_seconds: float | None = 1.0

    def __init__(self, writer: Writer, *, verbose: bool = False, diffs: bool = False) -> None:
        self.writer = writer
        self.verbose = verbose
        self.diffs = diffs
        self.asked = False
        """Whether an `Asker` puts the questions, so that they need not be told here, too."""
        self._teller: Teller | None = None
        self._progress: dict[tuple[str, int], str] = {}
        self._mentioned: dict[tuple[int, int], tuple[float, float]] = {}

    # -- the observer ---------------------------------------------------------------------------
    def event(self, state: RunState, record: Record) -> None:
        """Print what there is to say."""
        self.emit(self.told(state, record), state, record)

    def progress(self, step: str, task: int, text: str) -> None:
        """Remember how far a task is; with -v, print it."""
        self._progress[step, task] = text
        if self.verbose:
            self.writer.lines([line(Span(f"{'':10}{'…':9} {step}: {text}", "dim"))])

    def tick(self, state: RunState, now: float) -> None:
        """Mention what has been running for a while, so that a CI log does not look dead."""
        for key in state.running:
            if state.task(key).cancel is not None:
                continue
            started = state.task(key).started
            seen = self._mentioned.get(key)
            last = seen[1] if seen is not None and seen[0] == started else None
            due = started + FIRST_SIGN if last is None else last + LATER_SIGNS
            if now >= due:
                self._mentioned[key] = (started, now)
                self.writer.lines([self._running_line(state, key, now)])

    def screen(self) -> Screen:
        """Where questions can be asked."""
        return self.writer

    # -- for those who build on it --------------------------------------------------------------
    def teller(self, state: RunState) -> Teller:
        """Who puts this run into words."""
        if self._teller is None:
            check = state.start is not None and state.start.mode == "check"
            self._teller = Teller(
                state.plan,
                verbose=self.verbose,
                observations=self.verbose,
                diffs=self.diffs,
                check=check,
            )
        return self._teller

    def told(self, state: RunState, record: Record) -> list[Line]:
        """What there is to say about a record; on a terminal, in its columns."""
        if self.asked and isinstance(record.event, GateOpened):
            return []
        return wrapped(self.teller(state).tell(state, record), columns())

    def emit(self, lines: list[Line], state: RunState, record: Record) -> None:
        """Print the lines of a record."""
        self.writer.lines(lines)

    def finish(self) -> None:
        """Nothing more will happen."""

    def _running_line(self, state: RunState, key: tuple[int, int], now: float) -> Line:
        path = state.plan.nodes[key[0]].path
        task = state.task(key)
        said = self._progress.get((path, key[1]), "")
        name = task_name(path, task.spec)
        return self.teller(state).line(now, "running", name, said, now - task.started)


class ActionsView(PlainView):
    """Plain lines for GitHub Actions: foldable groups, errors that point at the runbook's line.

    Groups cannot nest there, so only one top-level group at a time is folded.
    """

    def __init__(self, writer: Writer, *, verbose: bool = False, diffs: bool = False) -> None:
        super().__init__(writer, verbose=verbose, diffs=diffs)
        self._open = ""
        self._annotated: Counter[str] = Counter()

    def emit(self, lines: list[Line], state: RunState, record: Record) -> None:
        """Print the lines with the marks that GitHub Actions looks for."""
        event = record.event
        if isinstance(event, StepOpened) and not self._open and self._is_phase(state, event.step):
            self._open = event.step
            self.writer.command(group(event.step))
        super().emit(lines, state, record)
        if isinstance(event, TaskFinished | StepFinished | FailureLatched):
            self._annotate(state, event)
        if isinstance(event, StepFinished) and event.step == self._open:
            self._close()

    def finish(self) -> None:
        """Close the group that a stop left open."""
        self._close()

    def _close(self) -> None:
        if self._open:
            self._open = ""
            self.writer.command(END_GROUP)

    def _is_phase(self, state: RunState, path: str) -> bool:
        node = state.plan.node(path)
        return node.parent == 0 and node.is_group and bool(path)

    def _annotate(
        self, state: RunState, event: TaskFinished | StepFinished | FailureLatched
    ) -> None:
        failure = event.failure
        if failure is None or failure.kind in ("cancelled", "interrupted"):
            return
        if isinstance(event, StepFinished | FailureLatched) and failure.step != event.step:
            return
        node = state.plan.node(event.step)
        if isinstance(event, TaskFinished):
            task = state.task((node.index, event.task))
            if event.status == "succeeded" or task.life == "retrying":
                return
        if node.step is None or node.step.ignore_errors:
            return
        self._annotated[event.step] += 1
        if self._annotated[event.step] > MOST_ANNOTATIONS:
            return
        above = (each.step for each in state.plan.ancestors(node))
        ignored = any(
            step is not None and (step.ignore_errors or step.after_rescue == "continue")
            for step in above
        )
        place = node.step.place
        said = kind_words(failure) + (f"\nhint: {failure.hint}" if failure.hint else "")
        where = (place.file, place.line, place.column)
        level = "warning" if ignored else "error"
        self.writer.command(annotation(*where, said, event.step, level=level))


class JsonView:
    """Each record as a line of JSON, the same value that stands in the journal."""

    tick_seconds: float | None = None

    def __init__(self, stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout

    def event(self, state: RunState, record: Record) -> None:
        """Write the record's line."""
        from engine.journal import encode

        self._write(for_json(encode(record).decode()).encode())
        self._stream.flush()

    def _write(self, data: bytes) -> None:
        """The bytes of the journal, whatever the encoding of the stream."""
        below = getattr(self._stream, "buffer", None)
        if below is None:
            self._stream.write(data.decode())
        else:
            below.write(data)

    def progress(self, step: str, task: int, text: str) -> None:
        """Progress is in no record, so it is not told here."""

    def tick(self, state: RunState, now: float) -> None:
        """Nothing happens between records."""

    def finish(self) -> None:
        """Nothing more will happen."""
