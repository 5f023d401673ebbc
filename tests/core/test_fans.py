"""Groups that fan out over hosts or items: batches, failures, blocks, and what a resume makes of
them."""

from __future__ import annotations

from typing import Any

import pytest

from engine.events import StepOpened, TaskSpec
from engine.fold import fold, override_refusal
from engine.model import Fan
from engine.plan import build_plan
from engine.runner import Signal
from tests.core.harness import (
    FAILS,
    OK,
    Act,
    Case,
    Killed,
    book,
    group,
    guard,
    loop,
    step,
)

SLOW = Act(seconds=10)


def over(*names: str, **keys: Any) -> Fan:
    """A fan over hosts."""
    return Fan(hosts=list(names), **keys)


def roll(*names: str, serial: int | None = 1, allowed: float = 0.0, **keys: Any) -> Any:
    """A rolling update: drain, update and enable one host after the other."""
    fan = over(*names, serial=serial, max_fail_percentage=allowed)
    return group("roll", step("drain"), step("update"), step("enable"), fan=fan, **keys)


# -- order ----------------------------------------------------------------------------------------
def test_each_instance_runs_the_whole_group_batch_after_batch() -> None:
    case = Case(book(roll("a", "b", "c", serial=2), step("end"))).begin()
    assert case.outcome == "succeeded"
    paths = case.world.paths()
    first = {f"roll[{host}]/{name}" for host in "ab" for name in ("drain", "update", "enable")}
    assert set(paths[:6]) == first
    assert paths[6:] == ["roll[c]/drain", "roll[c]/update", "roll[c]/enable", "end"]


def test_hosts_of_a_batch_are_worked_on_at_the_same_time() -> None:
    script = {"roll/drain": SLOW, "roll/update": SLOW, "roll/enable": SLOW}
    assert Case(book(roll("a", "b", "c", serial=None)), script).begin().seconds() == 30
    assert Case(book(roll("a", "b", "c")), script).begin().seconds() == 90


def test_what_a_group_fans_out_into_is_in_the_journal() -> None:
    case = Case(book(roll("a", "b"))).begin()
    opened = next(each for each in case.events(StepOpened) if each.step == "roll")
    assert opened.tasks == (TaskSpec(host="a"), TaskSpec(host="b"))
    assert opened.batches == (1, 1)
    assert "roll[b]/enable" in case.statuses()
    assert "roll/enable" not in case.statuses()


def test_a_loop_fans_out_a_group_and_groups_fan_out_in_groups() -> None:
    inner = group("in", step("x"), fan=loop("p", "q"))
    case = Case(book(group("out", inner, fan=over("a", "b")))).begin()
    assert set(case.world.paths()) == {
        f"out[{host}]/in[{item}]/x" for host in "ab" for item in "pq"
    }


@pytest.mark.parametrize(
    ("items", "names"),
    [
        (["eu", "us"], ["g[eu]", "g[us]"]),
        ([8080, 8081], ["g[8080]", "g[8081]"]),
        ([{"id": 1}, {"id": 2}], ["g[1]", "g[2]"]),
        (["same", "same"], ["g[1]", "g[2]"]),
        (["a/b", "c"], ["g[1]", "g[2]"]),
        (["***", "***"], ["g[1]", "g[2]"]),
        ([True, "x"], ["g[1]", "g[2]"]),
    ],
)
def test_an_instance_is_named_after_its_item_or_by_its_number(
    items: list[Any], names: list[str]
) -> None:
    plan = build_plan(book(group("g", step("x"), fan=loop(*items))))
    made = plan.instances(plan.node("g"), [TaskSpec(item) for item in items])
    assert [plan.nodes[index].path for index in made] == names
    assert plan.instances(plan.node("g"), [TaskSpec(item) for item in items]) == made


# -- failures -------------------------------------------------------------------------------------
def test_a_failure_on_one_host_stops_further_batches() -> None:
    case = Case(book(roll("a", "b", "c"), step("end")), {"roll[b]/update": FAILS}).begin()
    assert case.outcome == "failed"
    assert case.world.paths()[-1] == "roll[b]/update"
    assert case.status("roll[a]") == "succeeded"
    assert case.status("roll[b]") == "failed"
    assert case.status("roll[c]") == case.status("roll[c]/drain") == "not_run"
    assert case.failure("").step == "roll[b]/update"


def test_the_others_of_the_batch_come_to_their_end() -> None:
    script = {"roll[a]/drain": FAILS, "roll[b]/drain": SLOW}
    case = Case(book(roll("a", "b", "c", serial=2)), script).begin()
    assert case.status("roll[b]") == "succeeded"
    assert case.status("roll[c]") == "not_run"


def test_as_many_may_fail_as_max_fail_percentage_says() -> None:
    script = {"roll[a]/update": FAILS}
    runbook = book(roll("a", "b", "c", "d", serial=2, allowed=50.0), step("end"))
    case = Case(runbook, script).begin()
    assert case.outcome == "succeeded"
    assert case.status("roll[a]") == "failed"
    assert case.status("roll[d]") == case.status("end") == "succeeded"
    both = {"roll[a]/update": FAILS, "roll[b]/update": FAILS}
    case = Case(runbook, both).begin()
    assert case.outcome == "failed"
    assert case.status("roll[c]") == "not_run"
    assert case.failure("").message.startswith("2 of 4 failed, first roll[a]/update: ")


def test_a_batch_of_which_no_host_is_left_stops_the_rest() -> None:
    case = Case(book(roll("a", "b", allowed=100.0)), {"roll[a]/update": FAILS}).begin()
    assert case.status("roll[b]") == "not_run"


def test_the_failure_of_a_fan_can_be_ignored() -> None:
    case = Case(book(roll("a", "b", ignore_errors=True), step("end")), {"roll[a]/drain": FAILS})
    assert case.begin().outcome == "succeeded"
    assert case.status("roll[b]") == "not_run"


def test_a_guard_of_the_group_ends_what_is_in_flight() -> None:
    runbook = book(roll("a", "b", guards=(guard(every=3),), rescue=[step("back")]))
    script = {"roll/update": SLOW}
    case = Case(runbook, script, looks={"roll!errors": ["pass", "fail"]}).begin()
    assert case.failure("").kind == "guard_tripped"
    assert case.world.paths() == ["roll[a]/drain", "roll[a]/update", "roll[a].rescue/back"]
    assert case.status("roll[b]") == "not_run"


# -- blocks ---------------------------------------------------------------------------------------
def test_rescue_and_always_belong_to_each_instance() -> None:
    runbook = book(roll("a", "b", rescue=[step("back")], always=[step("tell")]))
    case = Case(runbook, {"roll[b]/update": FAILS}).begin()
    assert case.outcome == "rescued"
    assert case.world.paths() == [
        *("roll[a]/drain", "roll[a]/update", "roll[a]/enable", "roll[a].always/tell"),
        *("roll[b]/drain", "roll[b]/update", "roll[b].rescue/back", "roll[b].always/tell"),
    ]
    assert case.status("roll") == case.status("roll[b]") == "rescued"


def test_instances_are_undone_last_things_first() -> None:
    runbook = book(roll("a", "b", "c", undo=[step("back")]), step("end"))
    case = Case(runbook, {"end": FAILS}).begin()
    assert case.outcome == "undone"
    assert case.world.paths()[-3:] == [f"roll[{host}].undo/back" for host in "cba"]


def test_what_a_group_around_can_undo_replaces_what_instances_could() -> None:
    runbook = book(group("g", roll("a", "b", undo=[step("back")]), undo=[step("all")]), step("e"))
    case = Case(runbook, {"e": FAILS}).begin()
    assert case.world.paths()[-2:] == ["e", "g.undo/all"]


# -- people and crashes ---------------------------------------------------------------------------
def die(case: Case) -> None:
    """The process is gone."""
    raise Killed


def test_a_fan_goes_on_where_it_was() -> None:
    case = Case(book(roll("a", "b", "c")), {"roll/update": SLOW}).at(15, die).begin().resume()
    assert case.outcome == "succeeded"
    assert case.world.paths() == [
        *("roll[a]/drain", "roll[a]/update", "roll[a]/enable"),
        *("roll[b]/drain", "roll[b]/update", "roll[b]/update", "roll[b]/enable"),
        *("roll[c]/drain", "roll[c]/update", "roll[c]/enable"),
    ]


def test_an_interrupted_fan_runs_the_always_blocks_of_open_instances() -> None:
    runbook = book(roll("a", "b", always=[step("tell")]))
    case = Case(runbook, {"roll/update": SLOW}).at(15, Signal("SIGTERM")).begin()
    assert case.world.paths()[-1] == "roll[b].always/tell"
    case.resume()
    assert case.outcome == "succeeded"
    assert case.world.paths()[-3:] == ["roll[b]/update", "roll[b]/enable", "roll[b].always/tell"]


def test_a_step_of_one_instance_can_be_redone_and_the_batches_go_on() -> None:
    case = Case(book(roll("a", "b", "c"), step("end")), {"roll[b]/update": [FAILS, OK]}).begin()
    case.resume(("redo", "roll[b]/update"))
    assert case.outcome == "succeeded"
    assert case.world.paths()[5:] == [
        *("roll[b]/update", "roll[b]/enable"),
        *("roll[c]/drain", "roll[c]/update", "roll[c]/enable", "end"),
    ]


def test_an_instance_can_be_left_out() -> None:
    case = Case(book(roll("a", "b", "c")), {"roll[b]/update": FAILS}).begin()
    case.resume(("skip", "roll[b]"))
    assert case.outcome == "succeeded"
    assert case.world.paths()[-3:] == ["roll[c]/drain", "roll[c]/update", "roll[c]/enable"]


def test_a_fan_that_is_redone_keeps_the_instances_that_succeeded() -> None:
    case = Case(book(roll("a", "b", "c")), {"roll[b]/update": [FAILS, OK]}).begin()
    case.resume(("redo", "roll"))
    assert case.outcome == "succeeded"
    assert case.world.effects["roll[a]/update#0"] == 1
    assert case.world.effects["roll[b]/drain#0"] == 2
    assert case.world.effects["roll[c]/update#0"] == 1


def test_a_failure_that_was_not_taken_back_still_counts() -> None:
    script: dict[str, Any] = {"roll[a]/update": [FAILS, OK], "roll[b]/update": FAILS}
    case = Case(book(roll("a", "b", "c", serial=2)), script).begin()
    case.resume(("redo", "roll[a]/update"))
    assert case.outcome == "failed"
    assert case.status("roll[a]") == "succeeded"
    assert case.status("roll[c]") == "not_run"


def test_a_fan_that_was_decided_about_as_a_whole_is_over() -> None:
    case = Case(book(roll("a", "b"), step("end")), {"roll[a]/update": FAILS}).begin()
    case.resume(("done", "roll"))
    assert case.outcome == "succeeded"
    assert case.world.paths()[-1] == "end"
    refusal = override_refusal(case.state, case.plan.node("roll[a]/update"))
    assert "decided about as a whole" in refusal


def test_the_same_journal_folds_in_a_plan_that_has_not_grown() -> None:
    runbook = book(roll("a", "b"), step("end"))
    case = Case(runbook, {"roll[b]/update": FAILS}).begin()
    again = fold(build_plan(runbook), case.records())
    assert [each.path for each in again.walk()] == [each.path for each in case.state.walk()]
    assert {n.path: again.status(n) for n in again.walk()} == {
        n.path: case.state.status(n) for n in case.state.walk()
    }
