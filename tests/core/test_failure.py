"""What a failure does: it latches, is rescued or undone, and always blocks run."""

from __future__ import annotations

from typing import Any

import pytest

from engine.events import FailureLatched, RunFinished, StepOpened, TaskStarted
from engine.plan import build_plan
from tests.core.harness import FAILS, Act, Case, block, book, group, guard, loop, step


def opened(case: Case, role: str) -> list[str]:
    """The blocks of a role that were opened, in order."""
    return [each.step for each in case.events(StepOpened) if each.step.endswith(f".{role}")]


# -- the latch ------------------------------------------------------------------------------------
def test_a_failure_stops_what_comes_after_it() -> None:
    case = Case(book(step("a"), step("b"), step("c")), {"b": FAILS}).begin()
    assert case.outcome == "failed"
    assert case.statuses() == {"a": "succeeded", "b": "failed", "c": "not_run"}
    assert case.failure("").step == "b"


def test_a_failing_group_starts_nothing_more_and_cancels_what_is_in_flight() -> None:
    runbook = book(
        step("fails", needs=[]),
        step("slow", needs=[]),
        step("later", needs=["slow"]),
        step("done", needs=[]),
    )
    case = Case(runbook, {"fails": Act("failed", 5), "slow": Act(seconds=60)}).begin()
    assert case.statuses() == {
        "fails": "failed",
        "slow": "cancelled",
        "later": "not_run",
        "done": "succeeded",
    }
    assert case.seconds() == 5
    assert case.failure("slow").kind == "cancelled"
    assert "fails" in case.failure("slow").message
    assert case.world.effects["slow#0"] == 0


def test_what_succeeds_in_spite_of_being_cancelled_has_succeeded() -> None:
    runbook = book(step("fails", needs=[]), step("slow", needs=[], undo="u"))
    script = {"fails": Act("failed", 5), "slow": Act(seconds=6, obeys=None)}
    case = Case(runbook, script).begin()
    assert case.status("slow") == "succeeded"
    assert opened(case, "undo") == ["slow.undo"]


@pytest.mark.parametrize("end", ["failed", "unreachable", "refused", "timed_out", "cancelled"])
def test_a_failure_of_every_kind_can_be_rescued(end: Any) -> None:
    runbook = book(group("g", step("a"), rescue=[step("r")]))
    case = Case(runbook, {"g/a": Act(end)}).begin()
    assert case.outcome == "rescued"
    assert case.failure("g").kind == end
    assert case.status("g.rescue/r") == "succeeded"


def test_nothing_starts_in_inner_groups_once_an_outer_one_has_failed() -> None:
    runbook = book(
        step("fails", needs=[]),
        group("g", group("h", step("x"), step("y")), step("z"), needs=[]),
    )
    case = Case(runbook, {"fails": Act("failed", 1), "g/h/x": Act(seconds=60)}).begin()
    assert case.status("g/h/x") == "cancelled"
    assert case.status("g/h/y") == case.status("g/z") == "not_run"
    assert case.status("g/h") == case.status("g") == "cancelled"
    assert case.world.paths() == ["fails", "g/h/x"]


def test_a_join_does_not_run_when_one_of_its_parents_failed() -> None:
    runbook = book(
        group(
            "g",
            step("left", needs=[], ignore_errors=False),
            step("right", needs=[]),
            step("join", needs=["left", "right"]),
            always=[step("z")],
        )
    )
    case = Case(runbook, {"g/right": FAILS}).begin()
    assert case.status("g/left") == "succeeded"
    assert case.status("g/join") == "not_run"


def test_two_siblings_that_fail_at_the_same_time_end_the_group_once() -> None:
    runbook = book(
        group("g", step("a", needs=[]), step("b", needs=[]), rescue=[step("r")]),
    )
    script = {"g/a": Act("failed", 3), "g/b": Act("failed", 3, obeys=None)}
    case = Case(runbook, script).begin()
    assert case.status("g/a") == case.status("g/b") == "failed"
    assert len(case.events(FailureLatched)) == 2  # the group's and the run's
    assert case.world.effects["g.rescue/r#0"] == 1


# -- rescue ---------------------------------------------------------------------------------------
def test_a_rescued_group_ends_the_run_as_rescued_and_nothing_after_it_runs() -> None:
    runbook = book(step("a", undo="u"), group("g", step("x"), rescue=[step("r")]), step("after"))
    case = Case(runbook, {"g/x": FAILS}).begin()
    assert case.outcome == "rescued"
    assert case.status("g") == "rescued"
    assert case.status("after") == "not_run"
    assert opened(case, "undo") == []


def test_the_innermost_rescue_answers() -> None:
    runbook = book(
        group("g", group("h", step("x"), rescue=[step("inner")]), rescue=[step("outer")])
    )
    case = Case(runbook, {"g/h/x": FAILS}).begin()
    assert opened(case, "rescue") == ["g/h.rescue"]
    assert case.status("g/h") == case.status("g") == "rescued"


def test_without_a_rescue_the_failure_passes_to_the_enclosing_group() -> None:
    runbook = book(group("g", group("h", step("x")), rescue=[step("outer")]))
    case = Case(runbook, {"g/h/x": FAILS}).begin()
    assert case.status("g/h") == "failed"
    assert case.status("g") == "rescued"


def test_the_run_has_a_rescue_of_its_own() -> None:
    case = Case(book(step("x", undo="u"), step("y"), rescue=[step("r")]), {"y": FAILS}).begin()
    assert case.outcome == "rescued"
    assert opened(case, "rescue") == [".rescue"]
    assert opened(case, "undo") == []


def test_a_rescue_that_fails_passes_the_failure_on_and_needs_a_person() -> None:
    runbook = book(
        step("a", undo="u"), group("g", step("x"), rescue=[step("r")], always=[step("z")])
    )
    case = Case(runbook, {"g/x": FAILS, "g.rescue/r": FAILS}).begin()
    assert case.outcome == "needs_person"
    assert case.status("g") == "failed"
    assert case.status("g.always/z") == "succeeded"
    assert case.failure("").step == "g/x"
    assert opened(case, "undo") == [], "a rescue that was tried takes the place of undoing"


def test_a_rescue_that_fails_can_be_rescued_further_out() -> None:
    runbook = book(group("g", group("h", step("x"), rescue="r"), rescue="outer"))
    case = Case(runbook, {"g/h/x": FAILS, "g/h.rescue/r": FAILS}).begin()
    assert opened(case, "rescue") == ["g/h.rescue", "g.rescue"]
    assert case.outcome == "rescued"


def test_a_rescue_is_a_dag_with_retries_and_groups_of_its_own() -> None:
    rescue = [group("r", step("one", needs=[]), step("two", needs=[]), rescue="rr"), step("three")]
    case = Case(
        book(group("g", step("x"), rescue=rescue)), {"g/x": FAILS, "g.rescue/r/two": FAILS}
    ).begin()
    assert case.status("g.rescue/r") == "rescued"
    assert case.status("g.rescue/three") == "not_run"
    assert case.status("g.rescue") == "rescued"
    assert case.outcome == "needs_person"


def test_siblings_are_at_rest_before_the_rescue_begins() -> None:
    runbook = book(group("g", step("fails", needs=[]), step("slow", needs=[]), rescue=[step("r")]))
    script = {"g/fails": Act("failed", 1), "g/slow": Act(seconds=60, obeys=2.0)}
    case = Case(runbook, script).begin()
    begun = {path: at for at, path in case.world.started}
    assert begun["g.rescue/r"] - begun["g/fails"] == 3.0


def test_a_group_cancelled_by_the_failure_of_another_runs_its_own_rescue() -> None:
    runbook = book(
        step("fails", needs=[], undo="u"),
        group("g", step("x"), needs=[], rescue=[step("r")]),
        step("other", needs=[], undo="u"),
    )
    case = Case(runbook, {"fails": Act("failed", 1), "g/x": Act(seconds=60)}).begin()
    assert case.status("g") == "rescued"
    assert case.failure("g").kind == "cancelled"
    assert case.outcome == "undone", "nobody answered for the failure itself"
    assert opened(case, "undo") == ["other.undo"]


def test_a_failure_nobody_handled_counts_more_than_one_that_was_rescued() -> None:
    runbook = book(
        group("g", step("x"), rescue=[step("r")], needs=[]),
        step("slow", needs=[]),
        step("done", needs=[], undo="u"),
    )
    script = {"g/x": Act("failed", 1), "slow": Act("failed", 2, obeys=None)}
    case = Case(runbook, script).begin()
    assert case.status("g") == "rescued"
    assert case.status("slow") == "failed"
    assert case.outcome == "undone"
    assert case.failure("").step == "slow"


def test_an_action_can_have_a_rescue_and_an_always_of_its_own() -> None:
    runbook = book(step("a", rescue=[step("r")], always=[step("z")]), step("b"))
    case = Case(runbook, {"a": FAILS}).begin()
    assert case.world.paths() == ["a", "a.rescue/r", "a.always/z"]
    assert case.status("a") == "rescued"
    assert case.outcome == "rescued"
    case = Case(runbook).begin()
    assert case.world.paths() == ["a", "a.always/z", "b"]
    assert case.outcome == "succeeded"


def test_a_gentle_failure_of_an_action_with_retries_is_rescued_after_the_last_one() -> None:
    from engine.model import Retry

    runbook = book(step("a", retry=Retry(3, delay=1), rescue=[step("r")]))
    case = Case(runbook, {"a": FAILS}).begin()
    assert case.world.paths() == ["a", "a", "a", "a.rescue/r"]


# -- always ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("script", "outcome"),
    [
        ({}, "succeeded"),
        ({"g/x": FAILS}, "rescued"),
        ({"g/x": FAILS, "g.rescue/r": FAILS}, "needs_person"),
    ],
)
def test_always_runs_in_every_case_and_last(script: dict[str, Act], outcome: str) -> None:
    runbook = book(group("g", step("x"), rescue=[step("r")], always=[step("z")]))
    case = Case(runbook, script).begin()
    assert case.outcome == outcome
    assert case.world.paths()[-1] == "g.always/z"


def test_an_always_block_that_fails_fails_its_group() -> None:
    runbook = book(step("a", undo="u"), group("g", step("x"), always=[step("z")]), step("b"))
    case = Case(runbook, {"g.always/z": FAILS}).begin()
    assert case.status("g/x") == "succeeded"
    assert case.status("g") == "failed"
    assert case.outcome == "undone"
    assert case.failure("").step == "g.always/z"


def test_an_always_block_that_fails_takes_a_rescue_back() -> None:
    runbook = book(group("g", step("x"), rescue=[step("r")], always=[step("z")]))
    case = Case(runbook, {"g/x": FAILS, "g.always/z": FAILS}).begin()
    assert case.status("g") == "failed"
    assert case.outcome == "failed"
    assert case.failure("").step == "g/x"


def test_the_always_block_of_the_run_runs_after_undoing() -> None:
    runbook = book(step("a", undo="u"), step("b"), always=[step("z")])
    case = Case(runbook, {"b": FAILS}).begin()
    assert case.world.paths() == ["a", "b", "a.undo/u", ".always/z"]
    assert case.outcome == "undone"


def test_always_blocks_of_inner_groups_run_before_those_of_outer_ones() -> None:
    runbook = book(
        group("g", group("h", step("x"), always=[step("i")]), always=[step("o")]),
        always=[step("r")],
    )
    for script in ({}, {"g/h/x": FAILS}):
        paths = Case(runbook, script).begin().world.paths()
        assert paths == ["g/h/x", "g/h.always/i", "g.always/o", ".always/r"]


# -- undo -----------------------------------------------------------------------------------------
def test_completed_steps_are_undone_in_reverse_order_of_completion() -> None:
    runbook = book(
        step("slow", needs=[], undo="u"),
        step("fast", needs=[], undo="u"),
        step("middle", needs=[], undo="u"),
        step("none", needs=[]),
        step("fails", needs=["slow", "fast", "middle"], undo="u"),
    )
    script = {"slow": Act(seconds=9), "fast": Act(seconds=1), "middle": Act(seconds=5)}
    case = Case(runbook, {**script, "fails": FAILS}).begin()
    assert case.outcome == "undone"
    assert opened(case, "undo") == ["slow.undo", "middle.undo", "fast.undo"]


def test_undo_runs_one_after_the_other() -> None:
    runbook = book(step("a", undo="u"), step("b", undo="u"), step("c"))
    case = Case(runbook, {"c": FAILS, "a.undo/u": Act(seconds=5), "b.undo/u": Act(seconds=5)})
    case.begin()
    begun = {path: at for at, path in case.world.started}
    assert begun["a.undo/u"] - begun["b.undo/u"] == 5


def test_when_an_undo_fails_the_rest_is_still_undone_and_a_person_is_needed() -> None:
    runbook = book(step("a", undo="u"), step("b", undo="u"), step("c", undo="u"), step("d"))
    case = Case(runbook, {"d": FAILS, "b.undo/u": FAILS}).begin()
    assert opened(case, "undo") == ["c.undo", "b.undo", "a.undo"]
    assert case.outcome == "needs_person"
    undone = {case.plan.nodes[index].path: status for index, status in case.state.undone.items()}
    assert undone == {"c": "succeeded", "b": "failed", "a": "succeeded"}
    assert case.failure("b.undo").step == "b.undo/u"


def test_the_undo_of_a_group_takes_the_place_of_those_inside_it() -> None:
    runbook = book(
        group("g", step("x", undo="u"), step("y", undo="u"), undo="u"),
        group("h", step("z", undo="u")),
        step("fails"),
    )
    case = Case(runbook, {"fails": FAILS}).begin()
    assert opened(case, "undo") == ["h/z.undo", "g.undo"]


def test_a_group_that_did_not_complete_is_undone_step_by_step() -> None:
    runbook = book(group("g", step("x", undo="u"), step("y", undo="u"), undo="u"))
    case = Case(runbook, {"g/y": FAILS}).begin()
    assert opened(case, "undo") == ["g/x.undo"]


def test_what_a_rescue_answered_for_is_not_undone_as_well() -> None:
    runbook = book(
        step("a", undo="u"),
        group("g", step("x", undo="u"), step("y"), rescue="r", ignore_errors=True),
        step("fails"),
    )
    case = Case(runbook, {"g/y": FAILS, "fails": FAILS}).begin()
    assert case.outcome == "undone"
    assert opened(case, "undo") == ["a.undo"]


def test_skipped_and_failed_steps_are_not_undone() -> None:
    runbook = book(
        step("skipped", undo="u", when=("false",)),
        step("ignored", undo="u", ignore_errors=True),
        step("fails", undo="u"),
    )
    case = Case(runbook, {"ignored": FAILS, "fails": FAILS}).begin()
    assert case.outcome == "failed"
    assert opened(case, "undo") == []


def test_steps_of_rescue_and_always_blocks_are_never_undone() -> None:
    runbook = book(
        group("g", step("x"), always=[step("z", undo="u")], undo="u"),
        step("fails"),
    )
    case = Case(runbook, {"fails": FAILS}).begin()
    assert opened(case, "undo") == ["g.undo"]


def test_an_undo_may_have_several_steps_with_retries() -> None:
    from engine.model import Retry

    undo = [step("one", retry=Retry(2)), step("two")]
    runbook = book(step("a", undo=undo), step("fails"))
    case = Case(runbook, {"fails": FAILS, "a.undo/one": [FAILS, Act()]}).begin()
    assert case.world.paths()[-3:] == ["a.undo/one", "a.undo/one", "a.undo/two"]
    assert case.outcome == "undone"


# -- errors that are ignored ----------------------------------------------------------------------
def test_an_ignored_failure_lets_the_run_go_on() -> None:
    runbook = book(step("a", ignore_errors=True), step("b"))
    case = Case(runbook, {"a": FAILS}).begin()
    assert case.outcome == "succeeded"
    assert case.statuses() == {"a": "failed", "b": "succeeded"}
    assert case.state.step(case.plan.by_path["a"]).ignored


def test_the_failure_of_a_whole_group_can_be_ignored() -> None:
    runbook = book(
        group("g", step("x"), step("y"), rescue=[step("r")], ignore_errors=True), step("b")
    )
    case = Case(runbook, {"g/x": FAILS}).begin()
    assert case.outcome == "succeeded"
    assert case.statuses() == {
        "g": "rescued",
        "g/x": "failed",
        "g/y": "not_run",
        "g.rescue": "succeeded",
        "g.rescue/r": "succeeded",
        "b": "succeeded",
    }


def test_a_cancelled_step_is_not_an_ignored_failure() -> None:
    runbook = book(step("a", needs=[]), step("b", needs=[], ignore_errors=True))
    case = Case(runbook, {"a": Act("failed", 1), "b": Act(seconds=9)}).begin()
    assert case.status("b") == "cancelled"
    assert not case.state.step(case.plan.by_path["b"]).ignored


# -- odd shapes -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "runbook",
    [
        book(),
        book(group("g")),
        book(group("g", group("h", group("i"))), step("b")),
        book(group("g", rescue=[], always=[])),
        book(step("a"), rescue=[], always=[]),
    ],
)
def test_empty_groups_and_blocks_succeed_at_once(runbook: Any) -> None:
    case = Case(runbook).begin()
    assert case.outcome == "succeeded"
    assert case.unfinished() == []


def test_an_empty_rescue_swallows_nothing_but_rescues() -> None:
    case = Case(book(group("g", step("x"), rescue=[])), {"g/x": FAILS}).begin()
    assert case.outcome == "rescued"


def test_a_broken_argument_is_a_failure_like_any_other() -> None:
    runbook = book(group("g", step("x", vars={"broken": 1}), rescue=[step("r")]))
    case = Case(runbook).begin()
    assert case.outcome == "rescued"
    assert case.world.paths() == ["g.rescue/r"]


def test_a_step_that_cannot_be_prepared_fails_and_so_do_groups() -> None:
    runbook = book(step("a"), group("g", step("x"), group("h", step("y")), when=("error",)))
    case = Case(runbook).begin()
    assert case.outcome == "failed"
    assert case.status("g") == "failed"
    assert case.status("g/x") == case.status("g/h") == case.status("g/h/y") == "not_run"
    assert case.unfinished() == []


def test_nothing_else_is_begun_once_a_step_could_not_be_prepared() -> None:
    runbook = book(step("bad", needs=[], when=("error",)), step("good", needs=[]))
    case = Case(runbook).begin()
    assert case.world.paths() == []
    assert case.status("good") == "not_run"


def test_inline_actions_fail_and_are_rescued_like_others() -> None:
    runbook = book(step("a", inline=True, undo=[step("u", inline=True)]), step("b", inline=True))
    case = Case(runbook, {"b": FAILS}).begin()
    assert case.outcome == "undone"
    assert case.world.paths() == ["a", "b", "a.undo/u"]


def test_the_last_event_names_the_failure() -> None:
    case = Case(book(step("a")), {"a": Act("unreachable")}).begin()
    finished = case.events()[-1]
    assert isinstance(finished, RunFinished)
    assert finished.failure is not None
    assert finished.failure.summary == "a: unreachable: scripted to be unreachable"


def test_a_latched_group_is_not_latched_twice() -> None:
    runbook = book(
        group("g", step("a", needs=[]), step("b", needs=[]), budget=5, guards=(guard(every=1),))
    )
    script = {"g/a": Act("failed", 1), "g/b": Act(seconds=60, obeys=2)}
    case = Case(runbook, script, looks={"g!errors": ["pass", "fail"]}).begin()
    assert [each.step for each in case.events(FailureLatched)] == ["g", ""]


def test_a_fan_in_an_undo_block() -> None:
    undo = block(step("u", fan=loop(1, 2, 3)))
    case = Case(book(step("a", undo=undo), step("b")), {"b": FAILS}).begin()
    assert case.outcome == "undone"
    assert len(case.events(TaskStarted)) == 5


def test_plans_know_whether_a_failure_would_be_rescued() -> None:
    plan = build_plan(book(group("g", step("x"), rescue=[step("r")]), step("y")))
    assert plan.rescued(plan.node("g/x"))
    assert not plan.rescued(plan.node("y"))


# -- going on after a rescue ----------------------------------------------------------------------
def test_a_rescued_group_may_let_the_run_go_on() -> None:
    runbook = book(
        group("g", step("a"), step("b"), rescue=[step("r")], after_rescue="continue"),
        step("beside", needs=[]),
        step("after", needs=["g", "beside"]),
    )
    case = Case(runbook, {"g/a": FAILS, "beside": Act(seconds=60)}).begin()
    assert case.outcome == "succeeded"
    assert case.status("g") == "rescued"
    assert case.status("g/b") == "not_run"
    assert case.status("beside") == case.status("after") == "succeeded"


def test_a_rescue_that_fails_ends_the_run_all_the_same() -> None:
    runbook = book(
        group("g", step("a"), rescue=[step("r")], after_rescue="continue"), step("after")
    )
    case = Case(runbook, {"g/a": FAILS, "g.rescue/r": FAILS}).begin()
    assert case.outcome != "succeeded"
    assert case.status("g") == "failed"
    assert case.status("after") == "not_run"


def test_without_a_word_a_rescue_ends_the_run() -> None:
    runbook = book(group("g", step("a"), rescue=[step("r")]), step("after"))
    case = Case(runbook, {"g/a": FAILS}).begin()
    assert (case.outcome, case.status("after")) == ("rescued", "not_run")
