"""A process that slept through a takeover sends nothing when it wakes up."""

from __future__ import annotations

import os
import signal

import pytest

from engine.events import LocksTaken
from engine.processes import is_stopped
from tests.rollback.duty import Duty, Process
from tests.rollback.watch import requests

BOOKS = "tests/rollback/books"
LAB = ("-i", "inventories/lab.yml")


def take_over(duty: Duty, stale: Process) -> None:
    """Another run takes production over and writes."""
    owner = stale.run
    taking = duty.ce_run(f"{BOOKS}/taking.yml", *LAB, "--force")
    assert taking.status == 0, taking.output
    [taken] = taking.events(LocksTaken)
    assert isinstance(taken, LocksTaken)
    assert taken.over == {"production": owner}


def wake(process: Process) -> None:
    os.kill(process.popen.pid, signal.SIGCONT)


def sent(duty: Duty, run: str) -> int:
    """How many requests of a run have reached the cluster."""
    return sum(each.run == run for each in requests(duty.state))


def written(duty: Duty) -> str:
    found = duty.objects("ConfigMap", "written")
    return "nothing" if found is None else str(found["data"]["times"])


@pytest.mark.parametrize("requests_before", [5, 40])
def test_a_process_that_was_stopped_in_the_midst_of_writing_sends_nothing_more(
    busy: Duty, requests_before: int
) -> None:
    with busy.at_work(f"{BOOKS}/writing.yml", *LAB) as stale:
        busy.wait_for("it writes", lambda: sent(busy, stale.run) >= requests_before)
        os.kill(stale.popen.pid, signal.SIGSTOP)
        busy.wait_for("it is stopped", lambda: is_stopped(stale.popen.pid))
        take_over(busy, stale)
        before = sent(busy, stale.run)
        wake(stale)
        ended = stale.end()
    assert sent(busy, ended.run) == before
    assert written(busy) == "taken over"
    # Whoever was stopped inside the fence was ended; anybody else says that it was preempted.
    assert ended.status in (6, -signal.SIGKILL), ended.output
    assert busy.ce_run("resume", ended.run).status == 2


def test_a_process_that_was_stopped_between_its_check_and_its_request_is_ended(busy: Duty) -> None:
    with busy.at_work(f"{BOOKS}/freezing.yml", *LAB) as stale:
        busy.wait_for("it is stopped", lambda: is_stopped(stale.popen.pid))
        take_over(busy, stale)
        wake_if_alive(stale)
        ended = stale.end()
    assert ended.status == -signal.SIGKILL
    assert sent(busy, ended.run) == 0
    assert written(busy) == "taken over"
    refused = busy.ce_run("resume", ended.run)
    assert refused.status == 2, refused.output
    assert "has owned production since" in refused.output


def wake_if_alive(process: Process) -> None:
    if process.popen.poll() is None:
        wake(process)


def test_a_process_that_waits_is_preempted_when_it_wakes_up(busy: Duty) -> None:
    with busy.at_work(f"{BOOKS}/holding.yml", *LAB) as stale:
        busy.wait_for("it holds production", lambda: stale.has(lambda e: isinstance(e, LocksTaken)))
        os.kill(stale.popen.pid, signal.SIGSTOP)
        busy.wait_for("it is stopped", lambda: is_stopped(stale.popen.pid))
        take_over(busy, stale)
        wake(stale)
        ended = stale.end()
    assert ended.status == 6
    assert "took over production" in ended.output
