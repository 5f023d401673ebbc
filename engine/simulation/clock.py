"""Virtual time in which tasks wait: for a while, or until something is true.

Every task is a greenlet, a coroutine with a stack of its own, so that an action waits in the middle
of its own code (`ctx.sleep`) while the others, and the world, go on. The runner's loop is the hub:
it alone lets time pass, from one scheduled happening to the next.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet

from engine.clock import Mailbox, VirtualClock

_FRAME = 0.25
"""Real seconds between two moments at which whoever watches sees time go on."""

_ROUNDS = 10_000
"""Rounds in which tasks may wake each other at one moment; more are a loop without end."""


class _Waiting:
    """A task that waits: how it is woken, and for what."""

    __slots__ = ("condition", "over", "task")

    def __init__(self, task: greenlet, condition: Callable[[], bool]) -> None:
        self.task = task
        self.condition = condition
        self.over = False


class SimulatedClock(VirtualClock):
    """Time for a simulated world; made by the runner's own greenlet, the hub."""

    def __init__(self, start: float, speed: float | None = None) -> None:
        """`start` is the first moment, in seconds since the epoch; `speed` how many seconds of it
        pass in a real one, for whoever wants to watch: None does not wait at all."""
        super().__init__(start)
        self.speed = speed
        self._hub = getcurrent()
        self._waiting: list[_Waiting] = []

    # -- the hub ----------------------------------------------------------------------------------
    def schedule(self, at: float, happen: Callable[[], None]) -> None:
        """Have `happen` called when time reaches `at`; then those go on whose condition is met."""

        def step() -> None:
            happen()
            self.settle()

        super().schedule(at, step)

    @property
    def hub(self) -> greenlet:
        """Who lets time pass; everything else that waits is a child of it."""
        return self._hub

    def wait(self, mailbox: Mailbox, until: float | None) -> list[Any]:
        """As in the base class; first those go on whose condition is met already.

        A loop that is not the hub itself, one of several runs in the same world, waits like a task.
        """
        if getcurrent() is not self._hub:
            self._wait(lambda: not mailbox.empty(), until)
            return mailbox.take()
        self.settle()
        while self.speed is not None and mailbox.empty():
            due = self.next_happening()
            moments = [each for each in (due, until) if each is not None]
            if not moments:
                break
            step = min(*moments, self.now() + self.speed * _FRAME)
            if messages := mailbox.wait((step - self.now()) / self.speed):
                return messages
            if step in moments:
                return super().wait(mailbox, step if due is None or step < due else until)
            self._now = step
        return super().wait(mailbox, until)

    def pass_time(self, seconds: float) -> None:
        """Let the world go on for a while, with nobody at work in it."""
        super().wait(Mailbox(), self.now() + seconds)

    def settle(self) -> None:
        """Let all tasks go on whose condition holds; nothing polls, this is called when something
        has happened."""
        for _ in range(_ROUNDS):
            ready = [each for each in self._waiting if each.condition()]
            if not ready:
                return
            for each in ready:
                self._resume(each)
        raise RuntimeError("tasks wake each other at one moment of virtual time, without end")

    def _resume(self, waiting: _Waiting) -> None:
        if not waiting.over:
            waiting.over = True
            self._waiting.remove(waiting)
            waiting.task.switch()

    # -- tasks ------------------------------------------------------------------------------------
    def wait_event(self, event: threading.Event, seconds: float) -> bool:
        """Wait in a task for the event, at most so many seconds; whether it is set.

        The hub itself waits for nobody.
        """
        return self.wait_until(event.is_set, seconds)

    def wait_until(self, condition: Callable[[], bool], seconds: float | None = None) -> bool:
        """Wait in a task until `condition` holds, at most so many seconds; whether it does."""
        return self._wait(condition, None if seconds is None else self.now() + max(0.0, seconds))

    def _wait(self, condition: Callable[[], bool], until: float | None) -> bool:
        """The same, at most to a moment: to exactly that, or a loop would come too early for it."""
        current = getcurrent()
        if condition() or current is self._hub:
            return condition()
        waiting = _Waiting(current, condition)
        self._waiting.append(waiting)
        if until is not None:
            super().schedule(until, lambda: self._time_up(waiting))
        self._hub.switch()
        return condition()

    def _time_up(self, waiting: _Waiting) -> None:
        self._resume(waiting)
        self.settle()
