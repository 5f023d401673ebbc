"""Guards: observations beside a group; pass, fail, inconclusive; the gate at the end of a soak."""

from __future__ import annotations

from typing import Any

from engine.events import FailureLatched, GuardObserved
from engine.fold import CANCEL_GRACE
from engine.runner import Signal
from tests.core.harness import FAILS, Act, Case, book, group, guard, step

SOAK = {"g/soak": Act(seconds=100)}


def soak(*guards: Any, **keys: Any) -> Any:
    """A runbook with a group that soaks under guards."""
    return book(group("g", step("soak"), guards=guards, **keys), step("after"))


def observed(case: Case) -> list[tuple[float, str]]:
    """When, from the start of the run, a guard saw what."""
    return [
        (each.time - case.state.started, each.event.verdict)
        for each in case.records()
        if isinstance(each.event, GuardObserved)
    ]


def test_a_guard_observes_beside_its_group_on_its_own_interval() -> None:
    case = Case(soak(guard(every=30)), SOAK).begin()
    assert observed(case) == [(30, "pass"), (60, "pass"), (90, "pass")]
    assert case.outcome == "succeeded"


def test_a_guard_that_fails_trips_and_the_group_is_rescued() -> None:
    case = Case(
        soak(guard(every=10), rescue=[step("r")]), SOAK, looks={"g!errors": ["pass", "fail"]}
    )
    case.begin()
    assert case.failure("g").kind == "guard_tripped"
    assert case.failure("g").message == "guard 'errors' tripped: it is fail"
    assert case.status("g/soak") == "cancelled"
    assert case.status("g") == "rescued"
    assert case.seconds() == 20


def test_a_failure_has_to_be_held_to_trip() -> None:
    looks = {"g!errors": ["fail", "fail", "pass", "fail"]}
    case = Case(soak(guard(every=10, hold=30)), SOAK, looks=looks).begin()
    assert case.failure("g").kind == "guard_tripped"
    assert case.seconds() == 70, "held from the fourth observation at 40 s until 70 s"


def test_not_knowing_never_trips() -> None:
    looks = {"g!errors": [*["inconclusive"] * 9, "pass"]}
    case = Case(soak(guard(every=10)), SOAK, looks=looks).begin()
    assert case.outcome == "succeeded"


def test_not_knowing_for_a_moment_does_not_begin_the_hold_anew_nor_end_it() -> None:
    looks = {"g!errors": ["fail", "inconclusive", "inconclusive", "fail"]}
    case = Case(soak(guard(every=10, hold=20)), SOAK, looks=looks).begin()
    assert case.failure("g").kind == "guard_tripped"
    assert case.seconds() == 40, "at 30 s the hold is over, but nothing was known"


def test_not_knowing_in_the_end_fails_the_gate_of_the_soak() -> None:
    looks = {"g!errors": ["pass", "inconclusive"]}
    case = Case(soak(guard(every=30), rescue=[step("r")]), SOAK, looks=looks).begin()
    assert case.failure("g").kind == "inconclusive"
    assert case.status("g") == "rescued"
    assert case.status("after") == "not_run"
    assert observed(case)[-1] == (100, "inconclusive"), "it was asked once more at the end"


def test_one_more_look_at_the_end_may_know() -> None:
    looks = {"g!errors": [*["inconclusive"] * 3, "pass"]}
    case = Case(soak(guard(every=30)), SOAK, looks=looks).begin()
    assert case.outcome == "succeeded"
    assert observed(case)[-1] == (100, "pass")


def test_too_few_samples_are_no_verdict() -> None:
    looks = {"g!errors": ["fail", "fail", "pass"]}
    case = Case(soak(guard(every=30, least=3)), SOAK, looks=looks).begin()
    assert [verdict for _, verdict in observed(case)] == ["inconclusive", "inconclusive", "pass"]
    assert case.outcome == "succeeded"


def test_a_group_that_ends_before_the_first_look_is_looked_at_once() -> None:
    case = Case(soak(guard(every=600)), SOAK).begin()
    assert observed(case) == [(100, "pass")]
    case = Case(soak(guard(every=600)), SOAK, looks={"g!errors": ["inconclusive"]}).begin()
    assert case.failure("g").kind == "inconclusive"


def test_a_guard_that_fails_at_the_end_is_watched_until_it_passes_or_trips() -> None:
    end = ["pass"] * 8
    passing = {"g!errors": [*end, "fail", "fail", "pass"]}
    case = Case(soak(guard(every=11, hold=60)), SOAK, looks=passing).begin()
    assert case.outcome == "succeeded"
    case = Case(soak(guard(every=11, hold=60)), SOAK, looks={"g!errors": [*end, "fail"]}).begin()
    assert case.failure("g").kind == "guard_tripped"
    assert case.seconds() == 165


def test_all_guards_have_to_pass() -> None:
    runbook = soak(guard("one", every=30), guard("two", every=30))
    case = Case(runbook, SOAK, looks={"g!two": ["inconclusive"]}).begin()
    assert case.outcome == "failed"
    assert "'two'" in case.failure("g").message


def test_a_guard_looks_no_more_once_its_group_has_failed() -> None:
    runbook = book(group("g", step("soak"), guards=(guard(every=10),), rescue=[step("r")]))
    script = {"g/soak": Act("failed", 15), "g.rescue/r": Act(seconds=100)}
    case = Case(runbook, script, looks={"g!errors": ["pass", "fail"]}).begin()
    assert observed(case) == [(10, "pass")]
    assert len(case.events(FailureLatched)) == 2


def test_a_guard_does_not_look_while_always_runs() -> None:
    runbook = book(group("g", step("soak"), guards=(guard(every=10),), always=[step("z")]))
    script = {"g/soak": Act(seconds=15), "g.always/z": Act(seconds=100)}
    case = Case(runbook, script).begin()
    assert observed(case) == [(10, "pass")]


def test_the_run_itself_can_be_guarded() -> None:
    runbook = book(step("a", undo="u"), step("b"), guards=(guard(every=10),))
    script = {"a": Act(seconds=15), "b": Act(seconds=60)}
    case = Case(runbook, script, looks={"!errors": ["pass", "fail"]}).begin()
    assert case.outcome == "undone"
    assert case.seconds() == 20


def test_an_action_can_be_guarded() -> None:
    runbook = book(step("soak", guards=(guard(every=10),), rescue=[step("r")]), step("b"))
    script = {"soak": Act(seconds=60)}
    case = Case(runbook, script, looks={"soak!errors": ["pass", "fail"]}).begin()
    assert case.status("soak") == "rescued"
    assert case.failure("soak").kind == "guard_tripped"
    assert case.seconds() == 20
    case = Case(runbook, script).begin()
    assert case.outcome == "succeeded"


def test_a_guard_inside_a_rescue_guards_the_rescue() -> None:
    runbook = book(step("fails"), rescue=[group("r", step("soak"), guards=(guard(every=10),))])
    script = {"fails": FAILS, ".rescue/r/soak": Act(seconds=60)}
    case = Case(runbook, script, looks={".rescue/r!errors": ["fail"]}).begin()
    assert case.outcome == "needs_person"


def test_the_budget_goes_on_while_a_group_waits_for_its_guards() -> None:
    looks = {"g!errors": ["fail"]}
    case = Case(soak(guard(every=10, hold=3600), budget=200.0), SOAK, looks=looks).begin()
    assert case.failure("g").kind == "budget_exceeded"
    assert case.seconds() == 200


def test_a_resumed_run_observes_anew() -> None:
    looks = {"g!errors": ["fail"]}
    case = Case(soak(guard(every=10, hold=25)), SOAK, looks=looks)
    case.at(25, Signal("SIGTERM")).begin()
    assert case.outcome == "interrupted"
    case.resume()
    assert case.failure("g").kind == "guard_tripped"
    times = [at for at, _ in observed(case)]
    assert times[:2] == [10, 20]
    assert times[2] == 25 + 100 + 10
    assert times[-1] - times[2] == 30, "the hold is counted from the first look after the resume"


def test_a_look_that_is_never_answered_is_given_up_as_not_known() -> None:
    looks = {"g!errors": ["silent", "silent", "pass"]}
    case = Case(soak(guard(every=20)), SOAK, looks=looks).begin()
    assert [verdict for _, verdict in observed(case)][:2] == ["inconclusive", "inconclusive"]
    assert observed(case)[0][0] == 20 + 20 + CANCEL_GRACE
    assert case.outcome == "succeeded"


def test_a_guard_that_has_gone_blind_fails_the_gate_of_the_soak() -> None:
    case = Case(soak(guard(every=20)), SOAK, looks={"g!errors": ["pass", "silent"]}).begin()
    assert case.failure("g").kind == "inconclusive"
