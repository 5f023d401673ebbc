"""Virtual time in which tasks wait in the middle of their own code."""

from __future__ import annotations

import threading
from functools import partial

from greenlet import greenlet

from engine.clock import Mailbox
from engine.simulation import SimulatedClock

START = 1_800_000_000.0


def test_tasks_wait_side_by_side_and_in_order() -> None:
    clock, mailbox, seen = SimulatedClock(START), Mailbox(), list[tuple[str, float]]()

    def sleeper(name: str, *pauses: float) -> None:
        for pause in pauses:
            clock.wait_event(threading.Event(), pause)
            seen.append((name, clock.now() - START))

    clock.schedule(START, partial(greenlet(sleeper).switch, "a", 10.0, 10.0))
    clock.schedule(START, partial(greenlet(sleeper).switch, "b", 15.0, 1.0))
    assert clock.wait(mailbox, START + 60) == []
    assert seen == [("a", 10.0), ("b", 15.0), ("b", 16.0), ("a", 20.0)]
    assert clock.now() == START + 60


def test_a_condition_is_looked_at_when_something_has_happened() -> None:
    clock, mailbox, doors = SimulatedClock(START), Mailbox(), list[str]()
    looks = 0

    def is_open() -> bool:
        nonlocal looks
        looks += 1
        return bool(doors)

    def visitor() -> None:
        assert clock.wait_until(is_open, 3600.0)
        mailbox.put(clock.now() - START)

    task = greenlet(visitor)
    clock.schedule(START, task.switch)
    clock.schedule(START + 1800.0, lambda: doors.append("open"))
    assert clock.wait(mailbox, START + 7200.0) == [1800.0]
    assert looks < 10


def test_a_condition_that_stays_false_gives_up_in_time() -> None:
    clock, mailbox = SimulatedClock(START), Mailbox()

    def visitor() -> None:
        mailbox.put((clock.wait_until(lambda: False, 5.0), clock.now() - START))

    task = greenlet(visitor)
    clock.schedule(START, task.switch)
    assert clock.wait(mailbox, None) == [(False, 5.0)]


def test_the_hub_waits_for_nobody() -> None:
    clock = SimulatedClock(START)
    assert not clock.wait_event(threading.Event(), 100.0)
    assert clock.now() == START
