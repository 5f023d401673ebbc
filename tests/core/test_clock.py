"""Time and the mailbox."""

from __future__ import annotations

import threading

import pytest

from engine.clock import Mailbox, SystemClock, VirtualClock, look_until, time_text, utc


def test_messages_come_in_order_and_once() -> None:
    mailbox = Mailbox()
    assert mailbox.empty()
    mailbox.put(1)
    mailbox.put(2)
    assert mailbox.wait(0) == [1, 2]
    assert mailbox.take() == []
    assert mailbox.wait(0) == []


def test_a_message_from_another_thread_ends_the_wait() -> None:
    clock, mailbox = SystemClock(), Mailbox()
    thread = threading.Thread(target=lambda: mailbox.put("here"))
    thread.start()
    assert clock.wait(mailbox, None) == ["here"]
    thread.join()


def test_a_deadline_that_has_passed_is_not_waited_for() -> None:
    clock = SystemClock()
    assert clock.wait(Mailbox(), clock.now() - 100) == []


def test_a_set_event_ends_a_wait() -> None:
    event = threading.Event()
    assert not SystemClock().wait_event(event, 0)
    event.set()
    assert SystemClock().wait_event(event, 3600)


def test_virtual_time_jumps_to_what_happens_next() -> None:
    clock, mailbox = VirtualClock(100.0), Mailbox()
    clock.schedule(150.0, lambda: mailbox.put("second"))
    clock.schedule(120.0, lambda: mailbox.put("first"))
    assert clock.wait(mailbox, 110.0) == []
    assert clock.now() == 110
    assert clock.wait(mailbox, None) == ["first"]
    assert clock.now() == clock.monotonic() == 120
    assert clock.wait(mailbox, 1000.0) == ["second"]
    assert clock.now() == 150


def test_what_happens_at_the_same_virtual_time_keeps_its_order() -> None:
    clock, mailbox = VirtualClock(0.0), Mailbox()
    for number in range(5):
        clock.schedule(1.0, lambda number=number: mailbox.put(number))  # type: ignore[misc]
    seen: list[int] = []
    while len(seen) < 5:
        seen += clock.wait(mailbox, None)
    assert seen == [0, 1, 2, 3, 4]


def test_a_virtual_dead_lock_is_noticed() -> None:
    with pytest.raises(RuntimeError, match="dead-lock"):
        VirtualClock().wait(Mailbox(), None)


def test_virtual_waiting_for_an_event_lets_the_time_pass() -> None:
    clock = VirtualClock(0.0)
    assert not clock.wait_event(threading.Event(), 30)
    assert clock.now() == 30


def test_virtual_waiting_for_an_event_jumps_over_nothing() -> None:
    """What is scheduled meanwhile happens at its time, and may set the event."""
    clock, event = VirtualClock(0.0), threading.Event()
    seen: list[float] = []
    clock.schedule(5.0, lambda: seen.append(clock.now()))
    clock.schedule(10.0, event.set)
    clock.schedule(20.0, lambda: seen.append(clock.now()))
    assert clock.wait_event(event, 30)
    assert (clock.now(), seen) == (10.0, [5.0])
    assert not clock.wait_event(threading.Event(), 30)
    assert (clock.now(), seen) == (40.0, [5.0, 20.0])


def test_looking_until_something_holds() -> None:
    looks = iter([False, False, True])
    assert look_until(lambda: next(looks), 60)
    assert not look_until(lambda: False, 0)


def test_times_as_people_read_them() -> None:
    assert time_text(1_800_000_000.9) == "2027-01-15T08:00:00Z"
    assert utc(0).isoformat() == "1970-01-01T00:00:00+00:00"
