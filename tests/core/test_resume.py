"""What a resume makes of what was cut off: doubts, probes, overrides, and time that passed."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import IllegalEvent
from engine.events import Overridden, RunStopped, TaskProbed, TaskStarted
from engine.fold import override_refusal
from engine.model import Retry
from engine.runner import Signal
from tests.core.harness import (
    FAILS,
    OK,
    SOMEBODY,
    Act,
    Case,
    Killed,
    Killer,
    book,
    group,
    guard,
    loop,
    step,
)

TERM = Signal("SIGTERM")


def killed_while(runbook: Any, script: dict[str, Any], path: str, **keys: Any) -> Case:
    """A run whose process died while the last attempt of a step was under way."""
    case = Case(runbook, script, **keys)

    def die(case: Case) -> None:
        raise Killed

    return case.at(10, die).begin()


def doubtful(act: Act, **keys: Any) -> Case:
    """A once-only step, killed in its middle, with a step before and after it."""
    runbook = book(step("a"), step("b", effect="once", undo="u"), step("c"))
    return killed_while(runbook, {"b": act}, "b", **keys)


HAPPENED = Act(seconds=20, effect=0.0)
NOT_YET = Act(seconds=20)


# -- what was cut off -----------------------------------------------------------------------------
@pytest.mark.parametrize("effect", ["read", "idempotent"])
def test_what_may_be_repeated_is_repeated(effect: Any) -> None:
    runbook = book(step("a"), step("b", effect=effect), step("c"))
    case = killed_while(runbook, {"b": NOT_YET}, "b").resume()
    assert case.outcome == "succeeded"
    assert case.world.paths() == ["a", "b", "b", "c"]
    assert case.events(TaskProbed) == []


def test_an_effect_that_happened_is_not_repeated() -> None:
    case = doubtful(HAPPENED).resume()
    assert case.outcome == "succeeded"
    assert case.world.effects["b#0"] == 1
    assert case.world.paths() == ["a", "b", "c"]
    assert case.events(TaskProbed)[-1].verdict == "done"


def test_an_effect_that_did_not_happen_is_caught_up_on() -> None:
    case = doubtful(NOT_YET).resume()
    assert case.outcome == "succeeded"
    assert case.world.effects["b#0"] == 1
    assert case.world.paths() == ["a", "b", "b", "c"]


@pytest.mark.parametrize("probe", ["none", "unknown", "silent"])
def test_when_nobody_knows_a_person_is_asked(probe: str) -> None:
    case = doubtful(HAPPENED, probes={"b": probe}).resume()
    assert case.outcome == "waiting"
    assert case.events(RunStopped)[-1].reason == "in doubt: b"
    assert case.world.paths() == ["a", "b"]


def test_a_person_says_it_was_done() -> None:
    case = doubtful(HAPPENED, probes={"b": "none"}).resume().resume(("done", "b"))
    assert case.outcome == "succeeded"
    assert case.world.effects["b#0"] == 1
    assert case.state.step(case.plan.by_path["b"]).reason == "done by somebody: as the test says"


def test_a_person_has_it_done_again() -> None:
    case = doubtful(NOT_YET, probes={"b": "none"}).resume().resume(("redo", "b"))
    assert case.outcome == "succeeded"
    assert case.world.effects["b#0"] == 1


def test_a_person_leaves_it_out() -> None:
    case = doubtful(NOT_YET, probes={"b": "none"}).resume().resume(("skip", "b"))
    assert case.outcome == "succeeded"
    assert case.status("b") == "skipped"
    assert case.world.paths() == ["a", "b", "c"]


def test_a_person_may_decide_at_once_after_the_crash() -> None:
    case = doubtful(HAPPENED, probes={"b": "none"}).resume(("done", "b"))
    assert case.outcome == "succeeded"


def test_what_counts_as_done_can_be_undone() -> None:
    runbook = book(step("b", effect="once", undo="u"), step("c"))
    case = killed_while(runbook, {"b": HAPPENED, "c": FAILS}, "b", probes={"b": "none"})
    case.resume(("done", "b"))
    assert case.outcome == "undone"
    assert case.world.effects["b.undo/u#0"] == 1


def test_each_resume_asks_the_world_again() -> None:
    case = doubtful(HAPPENED, probes={"b": "unknown"}).resume()
    assert case.outcome == "waiting"
    case.world.probes = {}
    case.resume()
    assert case.outcome == "succeeded"


def test_other_steps_go_on_while_one_is_in_doubt() -> None:
    runbook = book(step("b", effect="once", needs=[]), step("x", needs=[]), step("y", needs=["x"]))
    script = {"b": HAPPENED, "x": Act(seconds=15)}
    case = killed_while(runbook, script, "b", probes={"b": "none"}).resume()
    assert case.outcome == "waiting"
    assert case.status("y") == "succeeded"


def test_a_doubt_that_a_failure_elsewhere_overtakes_is_named() -> None:
    runbook = book(
        step("b", effect="once", needs=[], undo="u"), step("x", needs=[]), rescue=[step("r")]
    )
    script = {"b": HAPPENED, "x": [Act("failed", 15)]}
    case = killed_while(runbook, script, "b", probes={"b": "none"}).resume()
    assert case.outcome == "rescued"
    assert case.status("b") == "cancelled"
    assert "may have happened" in case.failure("b").message


def test_a_doubt_is_resolved_before_a_failure_is_undone() -> None:
    """A step whose effect is found to have happened is undone with the others."""
    runbook = book(step("b", effect="once", needs=[], undo="u"), step("x", needs=[]))
    script: dict[str, Any] = {"b": HAPPENED, "x": Act("failed", 9.5, obeys=None)}
    case = Case(runbook, script)
    case.begin(Killer("before_append", 6))  # x has failed, the latch is not written
    case.resume()
    assert case.world.effects["b.undo/u#0"] == case.world.effects["b#0"]


def test_only_the_tasks_in_doubt_are_asked_about() -> None:
    runbook = book(step("s", effect="once", fan=loop(*range(4))), step("t"))
    script = {"s#0": Act(seconds=5), "s#1": HAPPENED, "s#2": NOT_YET, "s#3": Act(seconds=8)}
    case = killed_while(runbook, script, "s").resume()
    assert case.outcome == "succeeded"
    assert sorted(each.task for each in case.events(TaskProbed)) == [1, 2]
    assert [case.world.effects[f"s#{n}"] for n in range(4)] == [1, 1, 1, 1]


def test_what_had_been_done_is_not_done_again_after_many_deaths() -> None:
    names = [f"s{n}" for n in range(8)]
    runbook = book(*(step(name, effect="once") for name in names))
    case = Case(runbook, {name: Act(seconds=1) for name in names})
    case.begin(Killer("after_append", 5))
    for _ in range(20):
        if case.state.life == "finished":
            break
        case.resume(killer=Killer("after_append", 4))
    assert case.outcome == "succeeded"
    assert all(case.world.effects[f"{name}#0"] == 1 for name in names)


def test_an_attempt_that_was_cut_off_uses_up_no_retry() -> None:
    runbook = book(step("a", retry=Retry(2)))
    script: dict[str, Any] = {"a": [Act(seconds=20), FAILS, OK]}
    case = killed_while(runbook, script, "a")
    case.world.script = {"a": [FAILS, OK]}
    case.resume()
    assert case.outcome == "succeeded"
    assert [each.attempt for each in case.events(TaskStarted)] == [1, 2, 3]


# -- what a resume keeps --------------------------------------------------------------------------
def test_results_of_earlier_steps_are_there_after_a_crash() -> None:
    runbook = book(step("a", register="found"), step("b"))
    script = {"a": Act(data={"version": "5.1", "list": [1, 2]}), "b": NOT_YET}
    case = killed_while(runbook, script, "b").resume()
    index = case.state.registered[0, "found"]
    assert case.state.step(index).tasks[0].data == {"version": "5.1", "list": [1, 2]}


def test_downtime_counts_for_no_budget() -> None:
    runbook = book(group("g", step("x"), budget=60.0), budget=80.0)
    case = Case(runbook, {"g/x": Act(seconds=30)}).at(10, TERM).begin()
    case.resume(downtime=10_000)
    assert case.outcome == "succeeded"
    case = killed_while(runbook, {"g/x": Act(seconds=30)}, "g/x").resume(downtime=10_000)
    assert case.outcome == "succeeded"


def test_a_process_that_is_found_dead_was_not_at_work_until_then() -> None:
    runbook = book(step("a"), budget=80.0)
    case = killed_while(runbook, {"a": Act(seconds=30)}, "a")
    case.time += 10_000
    case.note(RunStopped("interrupted", "found dead")).resume()
    assert case.outcome == "succeeded"


def test_a_budget_goes_on_where_it_was() -> None:
    runbook = book(step("a"), step("b"), budget=60.0)
    script = {"a": Act(seconds=30), "b": Act(seconds=100)}
    case = Case(runbook, script).at(40, TERM).begin().resume(downtime=1000)
    assert case.failure("").kind == "budget_exceeded"
    assert case.state.finished - case.state.started == 60 + 1000


def test_overrides_and_answers_meanwhile_do_not_count_as_work() -> None:
    runbook = book(step("a", effect="once"), step("b"), budget=60.0)
    case = killed_while(runbook, {"a": HAPPENED, "b": Act(seconds=30)}, "a", probes={"a": "none"})
    case.resume(downtime=1000)
    assert case.outcome == "waiting"
    case.time += 5000
    case.resume(("done", "a"), downtime=1000)
    assert case.outcome == "succeeded"


def test_what_is_left_of_a_wait_is_counted_without_the_downtime() -> None:
    runbook = book(step("a", needs=[]), step("wait", needs=[]))
    script = {"a": Act(seconds=9), "wait": Act(seconds=100)}
    case = Case(runbook, script).at(10, TERM).begin()
    started = case.state.started
    case.resume(downtime=1000)
    first = case.state.task((case.plan.by_path["wait"], 0)).first_started
    assert first == started + 1000


def test_what_was_waited_before_a_crash_counts_as_far_as_there_were_signs_of_life() -> None:
    runbook = book(step("wait"), budget=80.0)
    case = killed_while(runbook, {"wait": [Act(seconds=40)]}, "wait")
    begun = case.state.time
    case.time = begun + 10_000
    case.note(RunStopped("interrupted", "found dead", seen=begun + 30)).resume(downtime=0)
    task = case.state.task((case.plan.by_path["wait"], 0))
    assert task.first_started == begun + 10_000 - 30, "30 s of it are over"
    assert case.outcome == "succeeded", "30 s of the budget, too"

    later = killed_while(runbook, {"wait": [Act(seconds=40)]}, "wait")
    later.time += 10_000
    later.note(RunStopped("interrupted", "found dead", seen=later.time + 5)).resume()
    assert later.state.left_at is None
    task = later.state.task((later.plan.by_path["wait"], 0))
    assert task.first_started <= later.time, "nobody lives longer than until it is found dead"


@pytest.mark.parametrize(("downtime", "waited"), [(5, 60), (200, 10 + 200)])
def test_a_retry_waits_for_what_is_left_of_its_delay(downtime: float, waited: float) -> None:
    runbook = book(step("a", retry=Retry(2, delay=60)))
    case = Case(runbook, {"a": [FAILS, OK]}).at(10, TERM).begin()
    case.resume(downtime=downtime)
    assert case.outcome == "succeeded"
    first, second = (at for at, _ in case.world.started)
    assert second - first == waited


def test_a_guard_is_not_taken_back_by_a_crash() -> None:
    runbook = book(group("g", step("x"), guards=(guard(every=5),), rescue=[step("r1"), step("r2")]))
    script = {"g/x": Act(seconds=60), "g.rescue/r1": Act(seconds=30)}
    case = killed_while(runbook, script, "", looks={"g!errors": ["fail"]}).resume()
    assert case.outcome == "rescued"
    assert case.world.paths().count("g/x") == 1


# -- overriding a failure -------------------------------------------------------------------------
def test_a_failed_run_goes_on_once_its_failure_is_redone() -> None:
    runbook = book(step("a"), group("g", step("x"), step("y")), step("z"), always=[step("end")])
    case = Case(runbook, {"g/x": [FAILS, OK]}).begin()
    assert case.outcome == "failed"
    case.resume(("redo", "g/x"))
    assert case.outcome == "succeeded"
    assert case.world.paths() == ["a", "g/x", ".always/end", "g/x", "g/y", "z", ".always/end"]
    assert case.unfinished() == []


@pytest.mark.parametrize(("decision", "status"), [("done", "succeeded"), ("skip", "skipped")])
def test_a_failed_step_is_taken_as_done_or_left_out(decision: str, status: str) -> None:
    case = Case(book(step("a"), step("b")), {"a": FAILS}).begin().resume((decision, "a"))
    assert case.outcome == "succeeded"
    assert case.statuses() == {"a": status, "b": "succeeded"}


def test_a_failure_that_nobody_named_stays() -> None:
    runbook = book(step("a", needs=[]), step("b", needs=[]), step("c", needs=["a", "b"]))
    script: dict[str, Any] = {
        "a": [Act("failed", 5), OK],
        "b": [Act("failed", 6, obeys=None), OK],
    }
    case = Case(runbook, script).begin()
    assert case.statuses() == {"a": "failed", "b": "failed", "c": "not_run"}
    case.resume(("redo", "a"))
    assert case.outcome == "failed"
    assert case.failure("").step == "b"
    case = Case(runbook, script).begin().resume(("redo", "a"), ("redo", "b"))
    assert case.outcome == "succeeded"


def test_what_was_cancelled_because_of_it_goes_on_without_repeating_what_was_done() -> None:
    runbook = book(
        step("fails", needs=[]),
        group(
            "g",
            step("done", effect="once"),
            step("slow", effect="once"),
            step("later", effect="once"),
            needs=[],
        ),
    )
    script: dict[str, Any] = {
        "fails": [Act("failed", 5), OK],
        "g/done": Act(seconds=1),
        "g/slow": Act(seconds=60),
    }
    case = Case(runbook, script).begin()
    assert case.status("g") == "cancelled"
    case.resume(("redo", "fails"))
    assert case.outcome == "succeeded"
    assert [case.world.effects[f"g/{name}#0"] for name in ("done", "slow", "later")] == [1, 1, 1]


def test_a_rescue_that_failed_at_a_cancellation_answers_a_failure_later() -> None:
    runbook = book(step("a"), group("g", step("x"), rescue=[step("r")], needs=[]))
    script: dict[str, Any] = {
        "a": Act("failed", seconds=5),
        "g/x": Act("failed", seconds=60),
        "g.rescue/r": [FAILS, OK],
    }
    case = Case(runbook, script).begin()
    assert case.world.paths() == ["a", "g/x", "g.rescue/r"]
    case.resume(("done", "a"))
    assert case.world.paths()[3:] == ["g/x", "g.rescue/r"]
    assert case.outcome == "rescued"


def test_a_once_only_task_that_was_cancelled_is_in_doubt_when_its_run_goes_on() -> None:
    runbook = book(step("fails", needs=[]), step("slow", effect="once", needs=[]))
    script: dict[str, Any] = {"fails": [Act("failed", 5), OK], "slow": Act(seconds=60, effect=0.0)}
    case = Case(runbook, script).begin().resume(("redo", "fails"))
    assert case.outcome == "succeeded"
    assert case.world.effects["slow#0"] == 1


def test_a_fan_is_redone_only_where_it_did_not_succeed() -> None:
    runbook = book(step("s", effect="once", fan=loop(*range(6), serial=2)), step("t"))
    script = {"s#3": [FAILS, OK]}
    case = Case(runbook, script).begin()
    assert case.outcome == "failed"
    case.resume(("redo", "s"))
    assert case.outcome == "succeeded"
    assert [case.world.effects[f"s#{n}"] for n in range(6)] == [1] * 6


def test_a_failure_that_was_ignored_can_be_redone_without_what_came_after_it() -> None:
    runbook = book(step("a", ignore_errors=True), step("b"), step("c"), step("d"))
    case = Case(runbook, {"a": [FAILS, OK], "c": [Act(seconds=60), OK]}).at(10, TERM).begin()
    case.resume(("redo", "a"))
    assert case.outcome == "succeeded"
    assert case.world.paths() == ["a", "b", "c", "a", "c", "d"]


def test_a_redone_step_has_all_its_attempts_again() -> None:
    runbook = book(step("a", retry=Retry(3)))
    case = Case(runbook, {"a": [FAILS] * 5 + [OK]}).begin().resume(("redo", "a"))
    assert case.outcome == "succeeded"
    assert [each.attempt for each in case.events(TaskStarted)] == [1, 2, 3, 1, 2, 3]


def test_a_group_can_be_redone_as_a_whole() -> None:
    runbook = book(
        group("g", step("x"), step("soak"), guards=(guard(every=5),), budget=100.0), step("z")
    )
    looks = {"g!errors": ["pass", "fail", "pass"]}
    case = Case(runbook, {"g/soak": Act(seconds=20)}, looks=looks).begin()
    assert case.failure("g").kind == "guard_tripped"
    case.resume(("redo", "g"))
    assert case.outcome == "succeeded"
    assert case.world.paths() == ["g/x", "g/soak", "g/x", "g/soak", "z"]


def test_a_group_can_be_taken_as_done() -> None:
    runbook = book(group("g", step("x"), step("y"), group("h", step("z"))), step("after"))
    case = Case(runbook, {"g/y": FAILS}).begin().resume(("done", "g"))
    assert case.outcome == "succeeded"
    assert case.status("g/x") == "succeeded"
    assert case.unfinished() == []


def test_what_is_in_a_group_that_was_decided_about_cannot_be_redone_alone() -> None:
    runbook = book(group("g", step("x"), step("y"), ignore_errors=True), step("z"))
    case = Case(runbook, {"g/x": FAILS}).begin().resume(("done", "g"))
    assert case.outcome == "succeeded"
    why = override_refusal(case.state, case.plan.node("g/x"))
    assert why == "g has been decided about as a whole (done by somebody: as the test says)"


def test_the_budget_of_a_group_begins_anew_when_a_person_reopens_it() -> None:
    runbook = book(group("g", step("x"), step("y"), budget=30.0))
    script: dict[str, Any] = {"g/x": [Act("failed", 25), Act(seconds=20)], "g/y": Act(seconds=5)}
    case = Case(runbook, script).begin().resume(("redo", "g/x"))
    assert case.outcome == "succeeded"


def test_a_step_of_an_undo_can_be_decided_about() -> None:
    runbook = book(step("a", undo=[step("u", effect="once")]), step("b", undo="v"), step("c"))
    script = {"c": FAILS, "a.undo/u": HAPPENED}
    case = killed_while(runbook, script, "a.undo/u", probes={"a.undo/u": "none"}).resume()
    assert case.outcome == "waiting"
    case.resume(("done", "a.undo/u"))
    assert case.outcome == "undone"
    assert case.world.effects["a.undo/u#0"] == 1


def test_an_undo_that_failed_can_be_redone() -> None:
    runbook = book(step("a", undo="u"), step("b", undo="v"), step("c"), always=[step("z")])
    case = Case(runbook, {"c": FAILS, "b.undo/v": [FAILS, OK]}).begin()
    assert case.outcome == "needs_person"
    case.resume(("redo", "b.undo/v"))
    assert case.outcome == "undone"
    assert case.world.effects["a.undo/u#0"] == 1
    assert case.world.paths()[-2:] == ["b.undo/v", ".always/z"]


def test_a_rescue_that_failed_can_be_redone() -> None:
    runbook = book(group("g", step("x"), rescue=[step("r1"), step("r2")]), step("after"))
    case = Case(runbook, {"g/x": FAILS, "g.rescue/r2": [FAILS, OK]}).begin()
    assert case.outcome == "needs_person"
    case.resume(("redo", "g.rescue/r2"))
    assert case.outcome == "rescued"
    assert case.world.effects["g.rescue/r1#0"] == 1


@pytest.mark.parametrize(("decision", "again"), [("redo", ["x"]), ("done", []), ("skip", [])])
def test_a_step_in_doubt_is_decided_about_after_an_always_block_ran_for_the_interruption(
    decision: str, again: list[str]
) -> None:
    runbook = book(step("x", effect="once"), always=[step("z")])
    case = Case(runbook, {"x": [Act(seconds=60), OK]}).at(10, TERM).begin()
    assert case.world.paths() == ["x", ".always/z"]
    case.resume((decision, "x"))
    assert case.outcome == "succeeded"
    assert case.world.paths() == ["x", ".always/z", *again, ".always/z"]


def test_an_always_block_that_failed_can_be_redone() -> None:
    runbook = book(group("g", step("x"), always=[step("z")]), step("after"))
    case = Case(runbook, {"g.always/z": [FAILS, OK]}).begin().resume(("redo", "g.always/z"))
    assert case.outcome == "succeeded"
    assert case.world.paths() == ["g/x", "g.always/z", "g.always/z", "after"]


def test_an_action_with_a_rescue_can_be_redone() -> None:
    runbook = book(step("a", rescue=[step("r")], always=[step("z")]), step("b"))
    case = Case(runbook, {"a": [FAILS, OK]}).begin()
    assert case.outcome == "rescued"
    case.resume(("redo", "a"))
    assert case.outcome == "succeeded"
    assert case.world.paths() == ["a", "a.rescue/r", "a.always/z", "a", "a.always/z", "b"]


def test_a_gate_of_an_overridden_step_is_asked_about_again() -> None:
    from engine.model import Gate

    runbook = book(step("a", gate=Gate("?")))
    case = Case(runbook, {"a": [FAILS, OK]}, approver=SOMEBODY).begin().resume(("redo", "a"))
    assert case.outcome == "succeeded"


@pytest.mark.parametrize(
    ("runbook", "script", "path", "why"),
    [
        (book(step("a"), step("b")), {"b": FAILS}, "a", "it has succeeded"),
        (book(step("a"), step("b")), {"a": FAILS}, "b", "it was not started"),
        (book(step("a", when=("false",)), step("b")), {"b": FAILS}, "a", "it has been skipped"),
        (book(step("a"), rescue=[step("r")]), {"a": FAILS}, ".rescue", "only a step"),
        (book(step("a"), rescue=[step("r")]), {"a": FAILS}, "a", "answered by rescue"),
        (book(step("a", undo="u"), step("b")), {"b": FAILS}, "b", "answered by undo"),
        (
            book(group("g", step("x"), guards=(guard(every=1),))),
            {"g/x": Act(seconds=5)},
            "g/x",
            "g itself failed (guard_tripped)",
        ),
        (book(step("x"), budget=1.0), {"x": Act(seconds=5)}, "x", "the run itself failed"),
    ],
)
def test_what_cannot_be_overridden_says_why(
    runbook: Any, script: dict[str, Any], path: str, why: str
) -> None:
    case = Case(runbook, script, looks={"g!errors": ["fail"]}).begin()
    assert case.state.life == "finished"
    assert why in override_refusal(case.state, case.plan.node(path))
    with pytest.raises(IllegalEvent):
        case.note(Overridden(path, "redo", SOMEBODY))


def test_a_finished_run_is_not_resumed() -> None:
    case = Case(book(step("a"))).begin()
    with pytest.raises(IllegalEvent, match="finished"):
        case.resume()
