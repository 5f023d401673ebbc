"""Leaving a run before its end: signals, ``ce-run stop``, and another run that takes over."""

from __future__ import annotations

from typing import Any

import pytest

from engine.events import CancelRequested, FailureLatched, RunStopped, StopRequested, TaskStarted
from engine.fold import CANCEL_GRACE, STOP_TIME
from engine.model import Retry
from engine.runner import Signal, Wake
from engine.store import Command
from tests.core.harness import FAILS, OK, SOMEBODY, Act, Case, book, group, guard, loop, step

TERM = Signal("SIGTERM")
LONG = Act(seconds=3600)


def left_after(case: Case) -> float:
    """Seconds from the request to stop until the process left."""
    asked = next(each.time for each in case.records() if isinstance(each.event, StopRequested))
    left = next(each.time for each in case.records() if isinstance(each.event, RunStopped))
    return left - asked


# -- signals --------------------------------------------------------------------------------------
def test_a_signal_cancels_what_runs_starts_nothing_and_leaves() -> None:
    runbook = book(step("a", needs=[]), step("b", needs=[]), step("c", needs=["a", "b"]))
    case = Case(runbook, {"a": LONG, "b": LONG}).at(10, TERM).begin()
    assert case.outcome == "interrupted"
    assert case.state.stop is not None
    assert case.state.stop.reason == "SIGTERM"
    assert left_after(case) == 0
    assert {each.kind for each in case.events(CancelRequested)} == {"interrupted"}
    assert case.statuses() == {"a": "opened", "b": "opened"}


def test_a_resume_goes_on_where_the_run_was_left() -> None:
    runbook = book(step("a"), step("b"), step("c"))
    case = Case(runbook, {"b": Act(seconds=30)}).at(10, TERM).begin().resume()
    assert case.outcome == "succeeded"
    assert case.world.paths() == ["a", "b", "b", "c"]


def test_an_interruption_is_no_failure() -> None:
    runbook = book(step("a", undo="u"), step("b"), rescue=[step("r")])
    case = Case(runbook, {"b": LONG}).at(10, TERM).begin()
    assert case.events(FailureLatched) == []
    assert case.world.paths() == ["a", "b"]


def test_what_does_not_obey_is_left_behind_in_doubt() -> None:
    case = Case(book(step("a", effect="once")), {"a": Act(seconds=99, obeys=None)})
    case.at(10, TERM).begin()
    assert left_after(case) == CANCEL_GRACE
    assert case.state.task((1, 0)).life == "doubt"


def test_always_blocks_run_before_the_process_leaves_inner_ones_first() -> None:
    runbook = book(
        group(
            "g",
            group("h", step("x"), always=[step("i1"), step("i2")], needs=[]),
            group("k", step("y"), always=[step("j")], needs=[]),
            always=[step("o")],
        ),
        always=[step("z")],
    )
    case = Case(runbook, {"g/h/x": LONG, "g/k/y": LONG}).at(10, TERM).begin()
    paths = case.world.paths()[2:]
    assert sorted(paths[:3]) == ["g/h.always/i1", "g/h.always/i2", "g/k.always/j"]
    assert paths[3:] == ["g.always/o", ".always/z"]
    assert case.outcome == "interrupted"


def test_an_always_block_that_takes_too_long_is_cut_off() -> None:
    runbook = book(step("x"), always=[step("z")])
    case = Case(runbook, {"x": LONG, ".always/z": Act(seconds=60, obeys=None)}).at(10, TERM)
    case.begin()
    assert left_after(case) == STOP_TIME
    assert left_after(case) < 5


def test_everything_together_stays_below_five_seconds() -> None:
    runbook = book(group("g", step("x"), always=[step("i")]), always=[step("z")])
    slow = Act(seconds=60, obeys=None)
    case = Case(runbook, {"g/x": slow, "g.always/i": slow, ".always/z": slow}).at(10, TERM)
    case.begin()
    assert left_after(case) <= 5
    assert case.outcome == "interrupted"


def test_an_always_block_that_ran_for_the_interruption_runs_again_in_the_end() -> None:
    runbook = book(group("g", step("x"), step("y"), always=[step("z")]), step("after"))
    case = Case(runbook, {"g/x": Act(seconds=30)}).at(10, TERM).begin().resume()
    assert case.outcome == "succeeded"
    assert case.world.paths() == ["g/x", "g.always/z", "g/x", "g/y", "g.always/z", "after"]


def test_an_always_block_under_way_goes_on_through_a_signal() -> None:
    runbook = book(group("g", step("x"), always=[step("z1"), step("z2"), step("z3")]), step("b"))
    script = {"g.always/z1": Act(seconds=11), "g.always/z2": Act(seconds=1)}
    case = Case(runbook, script).at(10, TERM).begin()
    assert case.world.paths() == ["g/x", "g.always/z1", "g.always/z2", "g.always/z3"]
    assert case.outcome == "interrupted"
    case.resume()
    assert case.outcome == "succeeded"
    assert case.world.paths()[4:] == ["b"], "it had run to its end"


def test_steps_of_an_always_block_that_wait_for_a_slot_run_in_spite_of_a_signal() -> None:
    always = [step("z1", needs=[]), step("z2", needs=[]), step("z3", needs=[])]
    runbook = book(group("g", step("x"), always=always))
    script = {f"g.always/z{n}": Act(seconds=1) for n in (1, 2, 3)}
    case = Case(runbook, script, forks=1).at(0.5, TERM).begin()
    assert sorted(case.world.paths()) == ["g.always/z1", "g.always/z2", "g.always/z3", "g/x"]


def test_an_always_block_may_try_again_while_there_is_time() -> None:
    runbook = book(step("x"), always=[step("z", retry=Retry(3, delay=1))])
    case = Case(runbook, {"x": LONG, ".always/z": [FAILS, OK]}).at(10, TERM).begin()
    assert case.world.effects[".always/z#0"] == 1
    assert left_after(case) == 1


def test_a_signal_during_a_rescue_is_resumed_there() -> None:
    runbook = book(group("g", step("x"), rescue=[step("r1"), step("r2")], always=[step("z")]))
    script = {"g/x": FAILS, "g.rescue/r1": Act(seconds=30)}
    case = Case(runbook, script).at(10, TERM).begin()
    assert case.outcome == "interrupted"
    case.resume()
    assert case.outcome == "rescued"
    assert case.world.paths() == [
        *("g/x", "g.rescue/r1", "g.always/z", "g.rescue/r1", "g.rescue/r2", "g.always/z")
    ]


def test_a_signal_while_undoing_is_resumed_there() -> None:
    runbook = book(step("a", undo="u"), step("b", undo="u"), step("c", undo="u"), step("d"))
    case = Case(runbook, {"d": FAILS, "b.undo/u": Act(seconds=30)}).at(10, TERM).begin()
    assert case.outcome == "interrupted"
    case.resume()
    assert case.outcome == "undone"
    assert case.world.paths()[4:] == ["c.undo/u", "b.undo/u", "b.undo/u", "a.undo/u"]


def test_attempts_that_were_left_are_there_after_a_resume() -> None:
    runbook = book(step("a", retry=Retry(3, delay=60)), step("b"))
    case = Case(runbook, {"a": [FAILS, OK]}).at(10, TERM).begin()
    assert case.outcome == "interrupted"
    case.resume()
    assert case.outcome == "succeeded"
    assert [each.attempt for each in case.events(TaskStarted) if each.step == "a"] == [1, 2]


def test_an_attempt_that_fails_while_the_run_stops_is_tried_again_later() -> None:
    runbook = book(step("a", retry=Retry(2)))
    script = {"a": [Act("failed", 11, obeys=None), OK]}
    case = Case(runbook, script).at(10, TERM).begin()
    assert case.outcome == "interrupted"
    case.resume()
    assert case.outcome == "succeeded"


def test_a_deadline_that_passed_just_before_the_signal_costs_one_attempt_only() -> None:
    runbook = book(step("a", retry=Retry(2), timeout=9.5))
    script = {"a": Act(seconds=60, obeys=1)}
    case = Case(runbook, script).at(10, TERM).begin()
    assert case.outcome == "interrupted"
    script["a"] = OK
    case.resume()
    assert case.outcome == "succeeded"


def test_a_failure_while_the_run_stops_is_answered_after_the_resume() -> None:
    runbook = book(step("a"), rescue=[step("r")])
    case = Case(runbook, {"a": Act("failed", 11, obeys=None)}).at(10, TERM).begin()
    assert case.outcome == "interrupted"
    assert case.world.paths() == ["a"]
    case.resume()
    assert case.outcome == "rescued"


def test_a_guarded_group_is_interrupted_like_any_other() -> None:
    runbook = book(group("g", step("x"), guards=(guard(every=3),), always=[step("z")]))
    case = Case(runbook, {"g/x": Act(seconds=30)}).at(10, TERM).begin().resume()
    assert case.outcome == "succeeded"


def test_the_second_signal_changes_nothing_in_the_journal() -> None:
    runbook = book(step("a"))
    script = {"a": Act(seconds=60, obeys=2)}
    case = Case(runbook, script).at(10, TERM).at(11, Signal("SIGINT")).begin()
    assert len(case.events(StopRequested)) == 1


def test_stop_from_another_shell_names_who_and_why() -> None:
    case = Case(book(step("a")), {"a": LONG}).at(5, Command("stop", SOMEBODY, reason="lunch"))
    case.begin()
    assert case.state.stop == StopRequested("interrupted", SOMEBODY, "lunch")


@pytest.mark.parametrize(("verb", "kind"), [("rescue", "cancelled"), ("abandon", "interrupted")])
def test_giving_up_is_a_failure_that_is_rescued_or_undone(verb: str, kind: str) -> None:
    runbook = book(
        step("a", undo="u"), group("g", step("x"), rescue=[step("r")], ignore_errors=False)
    )
    case = Case(runbook, {"g/x": LONG}).at(5, Command(verb, SOMEBODY, reason="enough")).begin()
    assert case.failure("g").kind == kind
    assert "enough" in case.failure("g").message
    assert case.outcome == "rescued"
    runbook = book(step("a", undo="u"), group("g", step("x")))
    case = Case(runbook, {"g/x": LONG}).at(5, Command(verb, SOMEBODY)).begin()
    assert case.outcome == "undone"


def test_giving_up_a_run_that_has_not_begun_runs_nothing() -> None:
    case = Case(book(step("a"), always=[step("z")])).at(0, Command("abandon", SOMEBODY)).begin()
    assert case.outcome == "failed"
    assert case.world.paths() == [".always/z"]


# -- another run takes over -----------------------------------------------------------------------
def taken_over(case: Case, at: float) -> Case:
    """Have the case lose its locks at a time."""

    def lose(case: Case) -> Wake:
        case.lost = lambda: StopRequested("preempted", SOMEBODY, "run r2 took over production")
        return Wake()

    return case.at(at, lose)


def test_a_run_that_lost_its_locks_starts_nothing_and_ends_as_preempted() -> None:
    runbook = book(step("a", needs=[]), step("b", needs=["a"]), rescue=[step("r")])
    case = taken_over(Case(runbook, {"a": LONG}), 10).begin()
    assert case.outcome == "preempted"
    assert case.world.paths() == ["a"]
    assert left_after(case) == 0
    assert case.state.stop is not None
    assert "r2" in case.state.stop.reason


def test_a_preempted_run_runs_no_always_block() -> None:
    runbook = book(group("g", step("a"), always=[step("z")]), always=[step("y")])
    case = taken_over(Case(runbook, {"g/a": LONG}), 10).begin()
    assert case.world.paths() == ["g/a"]


def test_a_preemption_cuts_even_always_blocks_short() -> None:
    runbook = book(group("g", step("a"), always=[step("z")]))
    case = taken_over(Case(runbook, {"g.always/z": LONG}), 10).begin()
    assert case.outcome == "preempted"
    assert left_after(case) == 0


def test_a_preemption_while_the_run_stops_wins() -> None:
    runbook = book(step("a"), always=[step("z")])
    script = {"a": LONG, ".always/z": Act(seconds=3)}
    case = taken_over(Case(runbook, script).at(9, TERM), 10).begin()
    assert case.outcome == "preempted"


def test_a_preempted_run_cannot_be_resumed() -> None:
    from engine.errors import IllegalEvent

    case = taken_over(Case(book(step("a")), {"a": LONG}), 10).begin()
    with pytest.raises(IllegalEvent, match="preempted"):
        case.resume()


def test_what_fails_because_the_locks_are_gone_is_not_rescued() -> None:
    """A request that the fence refused comes back as an outcome in the same instant."""
    runbook = book(group("g", step("a"), rescue=[step("r")]))

    def lose(case: Case) -> None:
        case.lost = lambda: StopRequested("preempted", SOMEBODY, "taken over")

    case = Case(runbook, {"g/a": Act("cancelled", 10)}).at(10, lose).begin()
    assert case.outcome == "preempted"
    assert case.world.paths() == ["g/a"]


def test_a_wide_fan_is_interrupted_and_resumed() -> None:
    script: dict[str, Any] = {"s": Act(seconds=4)}
    runbook = book(step("s", fan=loop(*range(10), serial=4)))
    case = Case(runbook, script).at(6, TERM).begin().resume()
    assert case.outcome == "succeeded"
    tries = case.world.paths().count("s")
    assert tries == 10 + 4, "the four that were in flight ran again"
