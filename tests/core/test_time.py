"""Retries, deadlines, budgets, and tasks that do not end."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from engine.errors import FailureKind
from engine.events import CancelRequested, TaskFinished, TaskStarted
from engine.fold import CANCEL_GRACE, retry_delay
from engine.model import Retry
from engine.plan import UNTIL_BUDGET
from tests.core.harness import FAILS, OK, Act, Case, book, group, loop, step


def gaps(case: Case) -> list[float]:
    """Seconds between the starts of attempts."""
    times = [at for at, _ in case.world.started]
    return [round(later - earlier, 3) for earlier, later in itertools.pairwise(times)]


# -- retries --------------------------------------------------------------------------------------
def test_a_failed_attempt_is_repeated_until_one_succeeds() -> None:
    runbook = book(step("a", retry=Retry(5, delay=2)), step("b"))
    case = Case(runbook, {"a": [FAILS, FAILS, OK]}).begin()
    assert case.outcome == "succeeded"
    assert case.world.paths() == ["a", "a", "a", "b"]
    assert gaps(case) == [2, 2, 0]


def test_the_number_of_attempts_is_bounded() -> None:
    case = Case(book(step("a", retry=Retry(3))), {"a": FAILS}).begin()
    assert case.outcome == "failed"
    assert [each.attempt for each in case.events(TaskStarted)] == [1, 2, 3]


def test_the_delay_grows_up_to_its_maximum() -> None:
    retry = Retry(7, delay=2, backoff=2, max_delay=10)
    case = Case(book(step("a", retry=retry)), {"a": FAILS}).begin()
    assert gaps(case) == [2, 4, 8, 10, 10, 10]


def test_jitter_stays_in_its_bounds_and_is_the_same_every_time() -> None:
    retry = Retry(10, delay=100, jitter=0.1)
    delays = {retry_delay(retry, 1, f"run/{n}/0") for n in range(200)}
    assert len(delays) > 100, "tasks do not come back all at once"
    assert all(90 <= each <= 110 for each in delays)
    assert retry_delay(retry, 3, "seed") == retry_delay(retry, 3, "seed")


def test_no_backoff_is_too_large_to_be_computed() -> None:
    assert retry_delay(Retry(9, delay=1, backoff=1e300), 9, "s") == 86400
    assert retry_delay(Retry(9, delay=1, backoff=1e300, max_delay=30), 9, "s") == 30


def test_a_refusal_is_not_tried_again() -> None:
    case = Case(book(step("a", retry=Retry(5))), {"a": Act("refused")}).begin()
    assert case.world.paths() == ["a"]
    assert case.failure("a").kind == "refused"


def test_a_failure_elsewhere_ends_the_waiting_for_a_retry() -> None:
    runbook = book(step("a", needs=[], retry=Retry(5, delay=60)), step("b", needs=[]))
    case = Case(runbook, {"a": FAILS, "b": Act("failed", 5)}).begin()
    assert case.seconds() == 5
    assert case.status("a") == "cancelled"
    assert case.world.paths() == ["a", "b"]


def test_until_repeats_every_second_and_gives_up_after_its_default_budget() -> None:
    case = Case(book(step("a", until="x")), {"a": FAILS}).begin()
    assert case.outcome == "failed"
    assert case.failure("a").kind == "budget_exceeded"
    assert case.seconds() == UNTIL_BUDGET
    assert set(gaps(case)) == {1.0}


def test_the_timeout_of_until_bounds_it_as_a_whole() -> None:
    case = Case(book(step("a", until="x", timeout=20.0)), {"a": FAILS}).begin()
    assert case.seconds() == 20
    case = Case(book(step("a", until="x", timeout=20.0)), {"a": Act(seconds=99)}).begin()
    assert case.seconds() == 20
    assert case.world.paths() == ["a"]


def test_until_with_retries_is_bounded_by_them() -> None:
    case = Case(book(step("a", until="x", retry=Retry(4, delay=10))), {"a": FAILS}).begin()
    assert case.seconds() == 30


# -- deadlines ------------------------------------------------------------------------------------
def test_an_attempt_that_takes_too_long_is_cancelled_and_tried_again() -> None:
    runbook = book(step("a", timeout=10.0, retry=Retry(3, delay=1)))
    case = Case(runbook, {"a": Act(seconds=60)}).begin()
    assert gaps(case) == [11, 11]
    assert case.failure("a").kind == "timed_out"
    assert case.status("a") == "failed"
    assert [each.kind for each in case.events(CancelRequested)] == ["timed_out"] * 3


def test_an_attempt_that_ends_in_time_is_not_disturbed() -> None:
    runbook = book(step("a", timeout=10.0), step("b"))
    case = Case(runbook, {"a": Act(seconds=9.5), "b": Act(seconds=30)}).begin()
    assert case.outcome == "succeeded"
    assert case.events(CancelRequested) == []


def test_a_deadline_of_one_task_leaves_the_others_alone() -> None:
    fan = loop("a", "b", max_fail_percentage=50)
    script = {"s#0": Act(seconds=60), "s#1": Act(seconds=5)}
    case = Case(book(step("s", fan=fan, timeout=10.0)), script, forks=1).begin()
    assert case.outcome == "succeeded"
    assert case.seconds() == 15


def test_a_task_that_does_not_end_when_it_is_told_to_is_given_up() -> None:
    runbook = book(step("a", timeout=10.0, retry=Retry(5)), rescue=[step("r")])
    case = Case(runbook, {"a": Act(seconds=3600, obeys=None)}).begin()
    assert case.outcome == "rescued"
    assert case.seconds() == 10 + CANCEL_GRACE
    assert case.world.paths() == ["a", ".rescue/r"], "it may still be at it: no second attempt"
    assert case.failure("a").kind == "timed_out"
    assert "may still happen" in case.failure("a").hint


def test_an_outcome_that_comes_after_a_task_was_given_up_changes_nothing() -> None:
    runbook = book(step("a", timeout=10.0), rescue=[step("r")])
    script = {"a": Act(seconds=20, obeys=None), ".rescue/r": Act(seconds=60)}
    case = Case(runbook, script).begin()
    assert case.status("a") == "failed"
    assert len(case.events(TaskFinished)) == 2


def test_a_task_that_is_slow_to_obey_is_awaited() -> None:
    runbook = book(step("a", timeout=10.0), rescue=[step("r")])
    case = Case(runbook, {"a": Act(seconds=3600, obeys=2)}).begin()
    assert case.seconds() == 12
    assert case.failure("a").message == "its timeout passed"


# -- budgets --------------------------------------------------------------------------------------
def test_the_budget_of_a_step_counts_all_its_attempts() -> None:
    runbook = book(step("a", budget=10.0, retry=Retry(99, delay=3)), step("b"))
    case = Case(runbook, {"a": FAILS}).begin()
    assert case.seconds() == 10
    assert case.status("a") == "failed"
    assert case.failure("a").kind == "budget_exceeded"


def test_a_running_task_is_cancelled_when_the_budget_is_used_up() -> None:
    runbook = book(step("a", budget=10.0, rescue=None))
    case = Case(runbook, {"a": Act(seconds=60)}).begin()
    assert case.seconds() == 10
    assert case.status("a") == "failed"
    assert case.failure("a").kind == "budget_exceeded"


def test_no_other_task_of_a_step_starts_after_its_budget() -> None:
    fan = loop(*range(10))
    runbook = book(step("s", fan=fan, budget=15.0), rescue=[step("r")])
    case = Case(runbook, {"s": Act(seconds=10, obeys=1)}, forks=2).begin()
    assert case.world.paths().count("s") == 4
    assert case.outcome == "rescued"
    assert case.failure("s").kind == "budget_exceeded"


def test_the_budget_of_a_step_that_waits_for_a_slot_runs_on() -> None:
    runbook = book(
        step("hog", needs=[]), step("s", needs=[], fan=loop(1, 2), budget=5.0), rescue=[step("r")]
    )
    case = Case(runbook, {"hog": Act(seconds=60)}, forks=1).begin()
    assert case.failure("s").kind == "budget_exceeded"
    assert case.world.paths() == ["hog", ".rescue/r"]


def test_tasks_that_wait_for_a_slot_do_not_start_after_their_step_has_ended() -> None:
    hurried = step("s", needs=[], fan=loop(1, 2), budget=5.0, ignore_errors=True)
    case = Case(book(step("hog", needs=[]), hurried), {"hog": Act(seconds=60)}, forks=1).begin()
    assert case.outcome == "succeeded"
    assert case.world.paths() == ["hog"]


def test_the_budget_of_a_group_ends_it_and_is_rescued() -> None:
    runbook = book(group("g", step("x"), step("y"), budget=15.0, rescue=[step("r")]), step("b"))
    case = Case(runbook, {"g/x": Act(seconds=10), "g/y": Act(seconds=10)}).begin()
    assert case.status("g") == "rescued"
    assert case.failure("g").kind == "budget_exceeded"
    assert case.status("g/y") == "cancelled"
    assert case.seconds() == 15


def test_rescue_and_always_are_not_bounded_by_the_budget_that_failed() -> None:
    runbook = book(group("g", step("x"), budget=15.0, rescue=[step("r")], always=[step("z")]))
    script = {"g/x": FAILS, "g.rescue/r": Act(seconds=60), "g.always/z": Act(seconds=60)}
    case = Case(runbook, script).begin()
    assert case.status("g") == "rescued"
    assert case.seconds() == 120


def test_the_budget_of_the_run_ends_it() -> None:
    runbook = book(step("a", undo="u"), step("b"), budget=30.0)
    case = Case(runbook, {"a": Act(seconds=10), "b": Act(seconds=60)}).begin()
    assert case.outcome == "undone"
    assert case.failure("").kind == "budget_exceeded"


def test_an_action_with_a_budget_and_a_rescue() -> None:
    runbook = book(step("a", budget=5.0, rescue=[step("r")]))
    case = Case(runbook, {"a": Act(seconds=60)}).begin()
    assert case.failure("a").kind == "budget_exceeded"
    assert case.status("a") == "rescued"


@pytest.mark.parametrize("kind", ["timed_out", "budget_exceeded"])
def test_both_can_be_ignored(kind: FailureKind) -> None:
    times: dict[str, Any] = {"timeout" if kind == "timed_out" else "budget": 5.0}
    runbook = book(step("a", ignore_errors=True, **times), step("b"))
    case = Case(runbook, {"a": Act(seconds=60)}).begin()
    assert case.failure("a").kind == kind
    assert case.outcome == "succeeded"


def test_many_retries_that_come_due_at_once_are_served_in_turn() -> None:
    runbook = book(step("s", fan=loop(*range(300)), retry=Retry(2, delay=5)))
    script = {f"s#{n}": [FAILS, Act(seconds=1)] for n in range(300)}
    case = Case(runbook, script, forks=30).begin()
    assert case.outcome == "succeeded"
    assert case.seconds() == 5 + 10


# -- once-only effects and deadlines --------------------------------------------------------------
def slow_once(effect: float, **keys: Any) -> Case:
    """A once-only step whose first attempt is cut off by its deadline."""
    runbook = book(step("a", effect="once", timeout=10.0, retry=Retry(3)), rescue=[step("r")])
    script: dict[str, Any] = {"a": Act(seconds=60, effect=effect)}
    case = Case(runbook, script, **keys)

    def mend(case: Case) -> None:
        script["a"] = OK

    return case.at(9, mend).begin()


def test_an_effect_that_happened_before_the_deadline_is_not_repeated() -> None:
    case = slow_once(effect=0.1)
    assert case.outcome == "succeeded"
    assert case.world.paths() == ["a"]
    assert case.world.effects["a#0"] == 1


def test_an_effect_that_the_deadline_prevented_is_tried_again() -> None:
    case = slow_once(effect=1.0)
    assert case.outcome == "succeeded"
    assert case.world.paths() == ["a", "a"]
    assert case.world.effects["a#0"] == 1


@pytest.mark.parametrize("probe", ["none", "unknown"])
def test_an_effect_of_which_nobody_knows_whether_it_happened_is_not_tried_again(probe: str) -> None:
    case = slow_once(effect=0.1, probes={"a": probe})
    assert case.outcome == "rescued"
    assert case.failure("a").kind == "timed_out"
    assert case.world.effects["a#0"] == 1
