"""The live view: finished steps scroll by as plain lines, below them stands the picture of now.

Drawn by rich in the runner's own thread, from `event` and `tick`, at most eight times a second;
nothing else reads the state. The cursor is never hidden and the terminal never put into another
mode, so that even a killed process leaves a usable terminal.
"""

from __future__ import annotations

from collections import deque

from rich.console import Console, RenderableType
from rich.live import Live
from rich.text import Text

from engine.cli.ask import Screen
from engine.cli.frame import Picture, frame
from engine.cli.plain import PlainView
from engine.cli.terminal import Writer
from engine.events import FailureLatched, Record, TaskFinished
from engine.report.encoding import visible
from engine.report.words import Line, Style
from engine.state import RunState

REFRESH = 0.125
"""Seconds between two pictures, at least."""

_STYLES: dict[Style, str] = {
    "": "",
    "good": "green",
    "bad": "bold red",
    "warn": "yellow",
    "change": "yellow",
    "dim": "dim",
    "head": "bold",
    "name": "cyan",
}
_KEPT = 300


class _Console(Console):
    def show_cursor(self, show: bool = True) -> bool:
        """Leave the cursor alone: a process that is killed could not bring it back."""
        return False


class LiveView(PlainView):
    """An observer of the run that keeps a picture of it at the bottom of the screen."""

    tick_seconds = REFRESH

    def __init__(self, writer: Writer, *, verbose: bool = False, diffs: bool = False) -> None:
        super().__init__(writer, verbose=verbose, diffs=diffs)
        self.picture = Picture()
        self._console = _Console(
            file=writer.stream,
            no_color=not writer.colour,
            highlight=False,
            emoji=False,
            markup=False,
            soft_wrap=True,
        )
        self._live: Live | None = None
        self._pending: list[Line] = []
        self._tail: deque[Line] = deque(maxlen=_KEPT)
        self._drawn = 0.0
        self._size = self._console.size
        self._question = False

    # -- the observer ---------------------------------------------------------------------------
    def event(self, state: RunState, record: Record) -> None:
        """Take the lines of a record, and draw when it is time or a failure cannot wait."""
        event = record.event
        if isinstance(event, TaskFinished):
            self.picture.progress.pop((event.step, event.task), None)
            self.picture.shares = event.shares or self.picture.shares
        self._pending += self.told(state, record)
        failed = isinstance(event, FailureLatched)
        if failed or record.time - self._drawn >= REFRESH or self._question:
            self._draw(state, record.time)

    def progress(self, step: str, task: int, text: str) -> None:
        """Remember how far a task is."""
        self.picture.progress[step, task] = text

    def tick(self, state: RunState, now: float) -> None:
        """Draw, if it is time."""
        if now - self._drawn >= REFRESH * 0.9 or self._pending:
            self._draw(state, now)

    def finish(self) -> None:
        """Take the picture away; what scrolled by stays."""
        self._stop()
        self._flush()

    def screen(self) -> Screen:
        """Where questions can be asked: here, the picture makes room for them."""
        return self

    # -- beside a question ----------------------------------------------------------------------
    def pause(self) -> None:
        """Leave the last lines of the screen to a question."""
        self._question = True
        self._stop()
        self._flush()

    def unpause(self) -> None:
        """Draw again, from the next event or tick on."""
        self._question = False

    def lines(self, lines: list[Line]) -> None:
        """Write beside the question."""
        self.writer.lines(lines)

    def ask(self, prompt: str) -> None:
        """Write a prompt."""
        self.writer.ask(prompt)

    def drop(self) -> None:
        """Take the prompt away."""
        self.writer.drop()

    # -- drawing --------------------------------------------------------------------------------
    def _draw(self, state: RunState, now: float) -> None:
        self._drawn = now
        if self._question or state.life in ("stopped", "finished") or state.start is None:
            self._flush()
            return
        size = self._console.size
        if size != self._size:
            self._size = size
            self._after_resize()
        live = self._live
        if live is None:
            live = self._live = Live(
                console=self._console,
                auto_refresh=False,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="crop",
            )
            live.start()
        if self._pending:
            self._console.print(_texts(self._take()))
        lines = frame(state, now, self.picture, size.width - 1, size.height - 1)
        live.update(_texts(lines), refresh=True)

    def _after_resize(self) -> None:
        """The old picture may have been wrapped anywhere: begin with a clean screen."""
        self._stop()
        self._console.clear()
        kept = list(self._tail)[-max(self._size.height // 2, 1) :]
        self.writer.lines(kept)

    def _stop(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _flush(self) -> None:
        self.writer.lines(self._take())

    def _take(self) -> list[Line]:
        taken, self._pending = self._pending, []
        self._tail.extend(taken)
        return taken


def _texts(lines: list[Line]) -> RenderableType:
    text = Text(no_wrap=True, overflow="ignore", end="")
    for number, each in enumerate(lines):
        if number:
            text.append("\n")
        for span in each:
            text.append(visible(span.text), _STYLES[span.style])
    return text
