"""Gates: a step that waits for a person."""

from __future__ import annotations

from typing import Any

import pytest

from engine.events import GateAnswered, GateOpened, GuardObserved, RunStopped
from engine.fold import answer_refusal
from engine.model import Gate
from engine.runner import Signal
from engine.store import Command
from tests.core.harness import FAILS, OK, SOMEBODY, Act, Case, book, group, guard, step

ASK = Gate("go on?")


def approve(path: str) -> GateAnswered:
    return GateAnswered(path, "approved", SOMEBODY)


def reject(path: str, reason: str = "") -> GateAnswered:
    return GateAnswered(path, "rejected", SOMEBODY, reason)


def test_an_approved_step_runs_when_the_answer_comes() -> None:
    runbook = book(step("a"), step("b", gate=ASK), step("c"))
    case = Case(runbook, attended=True).at(60, approve("b")).begin()
    assert case.outcome == "succeeded"
    assert case.seconds() == 60
    assert case.state.step(case.plan.by_path["b"]).gate_passed == SOMEBODY


def test_other_steps_go_on_while_one_waits_for_an_answer() -> None:
    runbook = book(step("a", needs=[], gate=ASK), step("b", needs=[]), step("c", needs=["b"]))
    case = Case(runbook, {"b": Act(seconds=10)}, attended=True).at(60, approve("a")).begin()
    assert case.world.paths() == ["b", "c", "a"]


def test_a_refused_gate_fails_the_step_and_is_rescued() -> None:
    runbook = book(group("g", step("a", gate=ASK), rescue=[step("r")]))
    case = Case(runbook, attended=True).at(60, reject("g/a", "not today")).begin()
    assert case.failure("g").kind == "gate_refused"
    assert case.failure("g/a").message == "refused by somebody: not today"
    assert case.outcome == "rescued"
    assert case.world.paths() == ["g.rescue/r"]


def test_nobody_answers_in_time() -> None:
    runbook = book(step("a", undo="u"), step("b", gate=Gate("?", timeout=600)))
    case = Case(runbook, attended=True).begin()
    assert case.failure("b").kind == "gate_timed_out"
    assert case.outcome == "undone"
    assert case.seconds() == 600


def test_a_whole_group_can_wait_for_an_answer() -> None:
    runbook = book(group("g", step("x"), group("h", step("y")), gate=ASK))
    case = Case(runbook, attended=True).at(5, approve("g")).begin()
    assert case.outcome == "succeeded"
    case = Case(runbook, attended=True).at(5, reject("g")).begin()
    assert case.outcome == "failed"
    assert case.status("g/h/y") == "not_run"
    assert case.unfinished() == []


def test_an_answer_arrives_as_a_command_from_another_shell() -> None:
    runbook = book(step("a", gate=ASK), step("b", gate=ASK))
    case = Case(runbook, attended=True)
    case.at(5, Command("approve", SOMEBODY, "a")).at(9, Command("reject", SOMEBODY, "b", "no"))
    case.begin()
    assert case.statuses() == {"a": "succeeded", "b": "failed"}


def test_an_answer_to_a_question_that_nobody_asked_is_ignored() -> None:
    runbook = book(step("a", needs=[]), step("b", gate=ASK))
    case = Case(runbook, {"a": Act(seconds=10)}, attended=True)
    case.at(1, approve("b")).at(2, approve("nowhere")).at(20, approve("b")).begin()
    assert len(case.events(GateAnswered)) == 1
    assert case.outcome == "succeeded"


def test_unattended_the_run_waits_for_nobody_and_says_what_for() -> None:
    runbook = book(step("a"), step("b", gate=ASK), step("c"))
    case = Case(runbook).begin()
    assert case.outcome == "waiting"
    assert case.events(RunStopped)[-1].reason == "waiting for an answer: b"
    assert case.status("b") == "gate"


def test_unattended_everything_else_runs_before_the_run_waits() -> None:
    runbook = book(
        step("a", needs=[], gate=ASK),
        step("b", needs=[]),
        step("c", needs=["b"]),
        group("g", step("x"), needs=[]),
    )
    case = Case(runbook, {"b": Act(seconds=10)}).begin()
    assert case.outcome == "waiting"
    assert case.world.paths() == ["b", "g/x", "c"]


def test_an_answer_given_while_nobody_carries_the_run_is_found_by_the_resume() -> None:
    runbook = book(step("a"), step("b", gate=ASK), step("c"))
    case = Case(runbook).begin().note(approve("b")).resume()
    assert case.outcome == "succeeded"
    assert case.world.paths() == ["a", "b", "c"]
    case = Case(runbook).begin().note(reject("b")).resume()
    assert case.outcome == "failed"


def test_a_resume_without_an_answer_waits_again() -> None:
    runbook = book(step("a"), step("b", gate=ASK))
    case = Case(runbook).begin().resume().resume()
    assert case.outcome == "waiting"
    assert len(case.events(GateOpened)) == 1, "the question is still the same"


def test_a_resume_at_a_terminal_asks_there() -> None:
    runbook = book(step("a"), step("b", gate=ASK))
    case = Case(runbook).begin()
    case.attended = True
    case.at(7, approve("b")).resume()
    assert case.outcome == "succeeded"


def test_whoever_said_yes_in_advance_is_not_asked() -> None:
    runbook = book(step("a", gate=ASK), step("b", gate=Gate("?", timeout=5)))
    case = Case(runbook, approver=SOMEBODY).begin()
    assert case.outcome == "succeeded"
    assert case.seconds() == 0
    assert len(case.events(GateAnswered)) == 2


def test_saying_yes_in_advance_at_a_resume_answers_what_was_open() -> None:
    case = Case(book(step("a", gate=ASK), step("b"))).begin()
    case.approver = SOMEBODY
    case.resume()
    assert case.outcome == "succeeded"


def test_a_gate_is_asked_about_no_more_once_its_group_has_failed() -> None:
    runbook = book(
        step("fails", needs=[]),
        group("g", step("x", gate=ASK), needs=[]),
        rescue=[step("r")],
    )
    case = Case(runbook, {"fails": Act("failed", 5)}, attended=True).begin()
    assert case.outcome == "rescued"
    assert case.status("g/x") == "not_run"
    assert not case.state.gates


def test_conditions_are_asked_before_people_are() -> None:
    case = Case(book(step("a", gate=ASK, when=("false",)))).begin()
    assert case.outcome == "succeeded"


def test_a_step_that_cannot_be_prepared_after_it_was_approved_fails() -> None:
    runbook: Any = book(step("a", gate=ASK))
    case = Case(runbook, attended=True)
    prepared = []

    def spoil(case: Case) -> GateAnswered:
        import msgspec

        node = case.plan.node("a")
        assert node.step is not None
        node.step = msgspec.structs.replace(node.step, when=("error",))
        prepared.append(True)
        return approve("a")

    case.at(5, spoil).begin()
    assert prepared
    assert case.outcome == "failed"
    assert case.status("a") == "failed"


def test_a_gate_survives_an_interruption() -> None:
    runbook = book(step("a", needs=[], gate=ASK), step("b", needs=[]))
    case = Case(runbook, {"b": Act(seconds=60)}, attended=True)
    case.at(10, Signal("SIGINT")).begin()
    assert case.outcome == "interrupted"
    case.at(70, approve("a")).resume()
    assert case.outcome == "succeeded"


def test_the_time_for_an_answer_runs_on_while_nobody_carries_the_run() -> None:
    runbook = book(step("a", gate=Gate("?", timeout=50)), rescue=[step("r")])
    case = Case(runbook).begin()
    assert case.outcome == "waiting"
    case.resume(downtime=100)
    assert case.failure("a").kind == "gate_timed_out"
    assert case.outcome == "rescued"


def test_a_gate_inside_a_rescue() -> None:
    runbook = book(step("a"), rescue=[step("r", gate=ASK)])
    case = Case(runbook, {"a": FAILS}).begin()
    assert case.outcome == "waiting"
    case.note(approve(".rescue/r")).resume()
    assert case.outcome == "rescued"


def test_a_refused_step_can_be_asked_about_again() -> None:
    runbook = book(step("a", gate=ASK), step("b"))
    case = Case(runbook, attended=True).at(1, reject("a")).begin()
    assert case.outcome == "failed"
    case.at(1, approve("a")).resume(("redo", "a"))
    assert case.outcome == "succeeded"


def test_a_gate_in_a_rescue_beside_which_others_have_been_cancelled() -> None:
    runbook = book(
        group("g", step("x", needs=[]), step("y", needs=[]), rescue=[step("r", gate=ASK)])
    )
    case = Case(runbook, {"g/x": Act("failed", 1), "g/y": Act(seconds=9)}).begin()
    assert case.outcome == "waiting"
    case.resume()
    assert case.outcome == "waiting"
    case.note(approve("g.rescue/r")).resume()
    assert case.outcome == "rescued"


# -- time of people --------------------------------------------------------------------------------
def test_an_answer_after_the_deadline_does_not_count_after_a_restart() -> None:
    runbook = book(step("a", gate=Gate("?", timeout=50)), step("b"))
    case = Case(runbook).begin()
    late = approve("a")
    assert answer_refusal(case.state, late, case.time + 49) == ""
    assert "time to answer" in answer_refusal(case.state, late, case.time + 51)
    case.at(0, late).resume(downtime=100.0)
    assert case.outcome == "failed"
    assert case.failure("a").kind == "gate_timed_out"


def test_yes_at_a_resume_answers_no_gate_whose_deadline_is_over() -> None:
    case = Case(book(step("a", gate=Gate("?", timeout=50)))).begin()
    case.approver = SOMEBODY
    case.resume(downtime=100.0)
    assert case.failure("a").kind == "gate_timed_out"


def test_time_that_a_person_takes_is_charged_to_no_budget_and_guards_go_on() -> None:
    inside = [step("a", gate=ASK), step("b")]
    runbook = book(group("g", *inside, budget=30.0, guards=(guard(every=10),)), budget=40.0)
    case = Case(runbook, {"b": OK, "g/b": Act(seconds=25)}, attended=True)
    case.at(500, approve("g/a")).begin()
    assert case.outcome == "succeeded"
    assert case.seconds() == 525
    assert case.state.charged(0, case.time) == 25
    assert case.state.charged(case.plan.by_path["g"], case.time) == 25
    assert len(case.events(GuardObserved)) > 40


def test_a_budget_goes_on_where_it_was_once_the_person_has_answered() -> None:
    runbook = book(group("g", step("a"), step("b", gate=ASK), step("c"), budget=30.0))
    case = Case(runbook, {"g/a": Act(seconds=20), "g/c": Act(seconds=20)}, attended=True)
    case.at(100, approve("g/b")).begin()
    assert case.failure("g").kind == "budget_exceeded"
    assert case.seconds() == 110


def test_two_questions_at_the_same_time_count_once() -> None:
    runbook = book(
        group("g", step("a", gate=ASK), step("b", gate=ASK, needs=[]), budget=30.0), budget=300.0
    )
    case = Case(runbook, attended=True)
    case.at(50, approve("g/a")).at(80, approve("g/b")).begin()
    assert case.outcome == "succeeded"
    assert case.state.step(0).waited == 80
    assert case.state.charged(0, case.time) == 0


@pytest.mark.parametrize("answered", [10.0, 60.0, 200.0])
def test_time_that_a_run_lay_stopped_is_charged_once(answered: float) -> None:
    """Whether the answer comes while it lies, or after it goes on."""
    runbook = book(group("g", step("a", gate=ASK), step("b"), budget=30.0))
    case = Case(runbook, {"g/b": Act(seconds=20)}, attended=True).at(5, Signal("SIGTERM")).begin()
    if answered < 100:
        case.time += answered
        case.note(approve("g/a"))
        case.resume(downtime=100 - answered)
    else:
        case.at(answered - 100, approve("g/a")).resume(downtime=100)
    assert case.outcome == "succeeded"
    assert case.state.charged(case.plan.by_path["g"], case.time) == 20


def test_a_stopped_run_is_charged_up_to_where_it_was_left() -> None:
    case = Case(book(step("a"), budget=61.0), {"a": Act(seconds=50)}).at(10, Signal("SIGTERM"))
    case.begin()
    assert case.state.charged(0, case.time + 10_000) == 10
    case.resume(downtime=10_000)
    assert case.outcome == "succeeded"
    assert case.state.charged(0, case.time) == 60
