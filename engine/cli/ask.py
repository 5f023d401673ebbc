"""Asks the person at the terminal what a gate wants to know, beside whatever view there is.

The question stands in the last line of the screen. A thread of its own reads the answer, in the
terminal's ordinary line mode, so that editing and Ctrl-C work as everywhere and a killed process
leaves the terminal as it was. The answer goes into the run's mailbox like one from another shell.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import termios
import threading
from collections import deque
from collections.abc import Callable
from typing import Literal, Protocol

from engine.events import GateAnswered, GateOpened, Person, Record, RunResumed
from engine.report.words import Line, Span, line, planned
from engine.state import RunState

_NUMBERS = re.compile(r"[\d\s,]+\Z")
_YES = ("y", "yes", "approve", "ja", "是")
_NO = ("n", "no", "reject", "nein", "否")


class Screen(Protocol):
    """What the asker needs of a view."""

    def pause(self) -> None:
        """Leave the last line of the screen to a question."""
        ...

    def unpause(self) -> None:
        """The question is over."""
        ...

    def lines(self, lines: list[Line]) -> None:
        """Write above the question."""
        ...

    def ask(self, prompt: str) -> None:
        """Write the prompt; empty when it was answered."""
        ...

    def drop(self) -> None:
        """Take a prompt that was not answered off the screen."""
        ...


class Question:
    """One gate: what was ticked so far, and what an answer typed by the person means."""

    def __init__(self, event: GateOpened) -> None:
        self.step = event.step
        self.event = event
        self.ticked = [False] * len(event.checklist)
        self.refusing = False

    def text(self) -> list[Line]:
        """The question as it is shown."""
        limit = f" (within {planned(self.event.timeout)})" if self.event.timeout else ""
        lines = [
            (),
            line(Span("? ", "warn"), Span(self.step, "name"), f"  {self.event.message}{limit}"),
        ]
        for number, point in enumerate(self.event.checklist, 1):
            mark = "x" if self.ticked[number - 1] else " "
            lines.append(line(f"  {number:>2} [{mark}] {point}"))
        return lines

    def prompt(self) -> str:
        """What is asked right now."""
        if self.refusing:
            return "  why not? (Enter for no reason) "
        if not all(self.ticked):
            return "  tick with numbers or `all`; y approves, n refuses: "
        return "  y [words] approves, n [words] refuses: "

    def take(self, typed: str) -> tuple[Literal["approved", "rejected"], str] | str:
        """The answer and the reason; or what to tell the person, and the question goes on."""
        text = typed.strip()
        if self.refusing:
            return "rejected", text
        word, _, rest = text.partition(" ")
        if self.ticked and _NUMBERS.match(text) and text:
            return self._tick(text)
        if self.ticked and word.lower() == "all":
            self.ticked = [True] * len(self.ticked)
            return "all ticked"
        if word.lower() in _YES:
            return self._approve(rest.strip())
        if word.lower() in _NO:
            if rest.strip():
                return "rejected", rest.strip()
            self.refusing = True
            return ""
        return "please answer y or n" if text else ""

    def answered(
        self, answer: Literal["approved", "rejected"], by: Person, reason: str
    ) -> GateAnswered:
        """The answer for the journal."""
        points = zip(self.event.checklist, self.ticked, strict=True)
        ticked = tuple(point for point, is_ticked in points if is_ticked)
        return GateAnswered(self.step, answer, by, reason, ticked)

    def _tick(self, text: str) -> str:
        numbers = [int(each) for each in re.findall(r"\d+", text)]
        wrong = [each for each in numbers if not 1 <= each <= len(self.ticked)]
        if wrong:
            return f"there is no point {wrong[0]}"
        for each in numbers:
            self.ticked[each - 1] = not self.ticked[each - 1]
        left = self._left()
        return f"not ticked yet: {left}" if left else "all ticked"

    def _approve(self, reason: str) -> tuple[Literal["approved", "rejected"], str] | str:
        left = self._left()
        return f"not ticked yet: {left}; `all` ticks everything" if left else ("approved", reason)

    def _left(self) -> str:
        return ", ".join(str(n) for n, ticked in enumerate(self.ticked, 1) if not ticked)


class Asker:
    """An observer that asks about each gate as it opens, one after the other."""

    def __init__(self, screen: Screen, by: Person, descriptor: int = 0) -> None:
        self._answer: Callable[[GateAnswered], None] | None = None
        self._screen = screen
        self._by = by
        self._descriptor = descriptor
        self._waiting: deque[Question] = deque()
        self._current: Question | None = None
        self._wake_read, self._wake_write = os.pipe()
        self._thread: threading.Thread | None = None
        self._deaf = False

    # -- the observer, in the runner's thread ---------------------------------------------------
    def event(self, state: RunState, record: Record) -> None:
        """Ask about new gates, and leave those that were answered or are gone."""
        event = record.event
        if isinstance(event, GateOpened):
            self._waiting.append(Question(event))
        elif isinstance(event, RunResumed):
            gates = (state.step(index).gate for index in state.gates)
            self._waiting.extend(Question(gate) for gate in gates if gate is not None)
        open_steps = {state.plan.nodes[index].path for index in state.gates}
        gone = state.life != "running"
        self._waiting = deque(q for q in self._waiting if not gone and q.step in open_steps)
        if self._current is not None and (gone or self._current.step not in open_steps):
            self._leave()
        self._next()

    def progress(self, step: str, task: int, text: str) -> None:
        """Nothing to ask."""

    def tick(self, state: RunState, now: float) -> None:
        """Nothing to ask."""

    def connect(self, answer: Callable[[GateAnswered], None]) -> None:
        """Say where answers go; nothing is asked before."""
        self._answer = answer
        self._next()

    def close(self) -> None:
        """Stop asking."""
        self._waiting.clear()
        if self._current is not None:
            self._leave()
        for descriptor in (self._wake_read, self._wake_write):
            os.close(descriptor)

    # -- one question after the other -----------------------------------------------------------
    def _next(self) -> None:
        if self._answer is None or self._current is not None or not self._waiting or self._deaf:
            return
        self._current = self._waiting.popleft()
        self._screen.pause()
        self._screen.lines(self._current.text())
        self._thread = threading.Thread(
            target=self._listen, args=(self._current,), name="asker", daemon=True
        )
        self._thread.start()

    def _leave(self) -> None:
        """End the question on the screen, whoever answered it."""
        os.write(self._wake_write, b".")
        if self._thread is not None:
            self._thread.join(timeout=1.0)
        if select.select([self._wake_read], [], [], 0)[0]:
            os.read(self._wake_read, 16)
        self._current = None
        self._screen.unpause()

    # -- the listening thread -------------------------------------------------------------------
    def _listen(self, question: Question) -> None:
        self._forget_typed()
        while True:
            self._screen.ask(question.prompt())
            typed = self._read_line()
            if typed is None:
                self._screen.drop()
                return
            self._screen.ask("")
            taken = question.take(typed)
            if isinstance(taken, tuple):
                assert self._answer is not None
                self._answer(question.answered(taken[0], self._by, taken[1]))
                return
            if taken:
                self._screen.lines([*question.text()[2:], line(Span(f"  {taken}", "warn"))])

    def _forget_typed(self) -> None:
        """What was typed before the question was seen is no answer to it."""
        with contextlib.suppress(termios.error):  # not a terminal
            termios.tcflush(self._descriptor, termios.TCIFLUSH)

    def _read_line(self) -> str | None:
        """What was typed; None when the question is over or nobody can type any more."""
        readable, _, _ = select.select([self._descriptor, self._wake_read], [], [])
        if self._wake_read in readable:
            self._forget_typed()
            return None
        try:
            data = os.read(self._descriptor, 4096)
        except OSError:
            data = b""
        if not data:
            self._deaf = True
            said = "  no answer can be given here; `ce-run approve` or `reject` can, elsewhere"
            self._screen.lines([line(Span(said, "warn"))])
            return None
        return data.decode(errors="replace")
