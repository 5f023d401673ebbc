"""What runs when: needs, parallel steps, forks, conditions, tags, fan-out."""

from __future__ import annotations

from typing import Any

import pytest

from engine.events import StepOpened, TaskStarted
from engine.model import Fan
from engine.plan import build_plan
from tests.core.harness import FAILS, Act, Case, book, group, loop, step


def starts(case: Case) -> dict[str, float]:
    """When each step was first started, in seconds from the first start."""
    first: dict[str, float] = {}
    for at, path in case.world.started:
        first.setdefault(path, at - case.world.started[0][0])
    return first


def test_steps_follow_one_another_unless_they_say_otherwise() -> None:
    case = Case(book(step("a"), step("b"), step("c")), {"a": Act(seconds=2), "b": Act(seconds=3)})
    assert starts(case.begin()) == {"a": 0, "b": 2, "c": 5}


def test_independent_steps_run_at_the_same_time_and_a_join_waits_for_all() -> None:
    runbook = book(
        step("a", needs=[]),
        step("b", needs=[]),
        step("join", needs=["a", "b"]),
        step("only_a", needs=["a"]),
    )
    case = Case(runbook, {"a": Act(seconds=2), "b": Act(seconds=7)}).begin()
    assert starts(case) == {"a": 0, "b": 0, "only_a": 2, "join": 7}


def test_a_group_is_over_when_all_its_steps_are() -> None:
    runbook = book(group("g", step("x", needs=[]), step("y", needs=[])), step("after"))
    case = Case(runbook, {"g/x": Act(seconds=2), "g/y": Act(seconds=7)}).begin()
    assert starts(case)["after"] == 7


@pytest.mark.parametrize(("forks", "seconds"), [(1, 60), (2, 30), (3, 20), (20, 10)])
def test_forks_bound_how_many_tasks_run_at_the_same_time(forks: int, seconds: float) -> None:
    runbook = book(*(step(f"s{n}", needs=[]) for n in range(6)))
    script = {f"s{n}": Act(seconds=10) for n in range(6)}
    case = Case(runbook, script, forks=forks).begin()
    assert case.seconds() == seconds
    assert case.world.paths() == [f"s{n}" for n in range(6)], "in the order of the file"


def test_a_slot_is_free_again_for_a_retry_and_for_what_waited() -> None:
    from engine.model import Retry

    runbook = book(step("a", needs=[], retry=Retry(2, delay=1)), step("b", needs=[]))
    script: dict[str, Any] = {"a": [Act("failed", 1), Act(seconds=1)], "b": Act(seconds=5)}
    case = Case(runbook, script, forks=1).begin()
    assert case.outcome == "succeeded"
    assert case.world.paths() == ["a", "b", "a"]


def test_a_skipped_step_lets_what_needs_it_go_on() -> None:
    runbook = book(step("a"), step("b", when=("false",)), group("g", step("x"), when=("false",)))
    case = Case(msgspec_with(runbook, step("c"))).begin()
    assert case.outcome == "succeeded"
    assert case.statuses() == {
        "a": "succeeded",
        "b": "skipped",
        "g": "skipped",
        "g/x": "skipped",
        "c": "succeeded",
    }


def msgspec_with(runbook: Any, last: Any) -> Any:
    """A runbook with one more step at its end."""
    import msgspec

    last = msgspec.structs.replace(last, needs=(runbook.block.steps[-1].id,))
    block = msgspec.structs.replace(runbook.block, steps=(*runbook.block.steps, last))
    return msgspec.structs.replace(runbook, block=block)


def test_conditions_are_asked_when_it_is_the_steps_turn() -> None:
    case = Case(book(step("a"), step("b", when=("true",))), {"a": Act(seconds=5)}).begin()
    opened = [each for each in case.records() if isinstance(each.event, StepOpened)]
    assert opened[-1].event.step == "b"  # type: ignore[union-attr]
    assert opened[-1].time - opened[0].time == 5


# -- tags -----------------------------------------------------------------------------------------
TAGGED = book(
    step("db", tags=("data",)),
    step("web", tags=("front",)),
    group("g", step("x", tags=("data",)), step("y"), tags=("front",)),
    step("plain"),
    step("must", tags=("always",)),
    step("rare", tags=("never", "data2")),
    rescue=[step("r")],
)


@pytest.mark.parametrize(
    ("tags", "skip_tags", "run"),
    [
        ((), (), ["db", "web", "g/x", "g/y", "plain", "must"]),
        (("data",), (), ["db", "g/x", "must"]),
        (("front",), (), ["web", "g/x", "g/y", "must"]),
        (("front",), ("data",), ["web", "g/y", "must"]),
        ((), ("front",), ["db", "plain", "must"]),
        ((), ("always",), ["db", "web", "g/x", "g/y", "plain"]),
        (("data2",), (), ["must", "rare"]),
        (("all",), (), ["db", "web", "g/x", "g/y", "plain", "must"]),
        (("tagged",), (), ["db", "web", "g/x", "g/y", "must"]),
        (("untagged",), (), ["plain", "must"]),
        ((), ("tagged",), ["plain"]),
        ((), ("untagged",), ["db", "web", "g/x", "g/y", "must"]),
        (("nothing",), (), ["must"]),
    ],
)
def test_tags_select_as_in_ansible(
    tags: tuple[str, ...], skip_tags: tuple[str, ...], run: list[str]
) -> None:
    case = Case(TAGGED, tags=tags, skip_tags=skip_tags).begin()
    assert case.world.paths() == run
    assert case.outcome == "succeeded"
    assert case.unfinished() == []


def test_a_rescue_runs_whatever_the_tags_say() -> None:
    case = Case(TAGGED, {"db": FAILS}, tags=("data",)).begin()
    assert case.world.paths() == ["db", ".rescue/r"]


# -- fanning out ----------------------------------------------------------------------------------
def test_hosts_and_items_make_tasks_of_one_step() -> None:
    fan = Fan(hosts=["h1", "h2"], loop=["a", "b", "c"])
    case = Case(book(step("s", fan=fan), step("t"))).begin()
    tasks = case.state.step(case.plan.by_path["s"]).tasks
    assert [(task.spec.host, task.spec.item) for task in tasks] == [
        (host, item) for host in ("h1", "h2") for item in ("a", "b", "c")
    ]
    assert all(task.life == "succeeded" for task in tasks)
    assert case.world.paths() == ["s"] * 6 + ["t"]


def test_a_step_with_nothing_to_fan_out_over_is_skipped() -> None:
    case = Case(book(step("s", fan=loop()), step("t"))).begin()
    assert case.status("s") == "skipped"
    assert case.outcome == "succeeded"


def test_one_task_that_fails_fails_the_step_after_the_others_have_ended() -> None:
    script = {"s#1": Act("failed", 1), "s#2": Act(seconds=9)}
    case = Case(book(step("s", fan=loop("a", "b", "c")), step("t")), script).begin()
    tasks = case.state.step(case.plan.by_path["s"]).tasks
    assert [task.life for task in tasks] == ["succeeded", "failed", "succeeded"]
    assert case.status("s") == "failed"
    assert case.failure("s").message == "1 of 3 tasks failed, first b: scripted to be failed"
    assert case.seconds() == 9


def test_serial_runs_batch_after_batch_and_stops_after_a_failed_one() -> None:
    fan = loop(*range(5), serial=2)
    script: dict[str, Any] = {f"s#{n}": Act(seconds=10) for n in range(5)}
    case = Case(book(step("s", fan=fan)), script).begin()
    begun = [at - case.world.started[0][0] for at, _ in case.world.started]
    assert begun == [0, 0, 10, 10, 20]
    case = Case(book(step("s", fan=fan)), {**script, "s#2": Act("failed", 1)}).begin()
    tasks = case.state.step(case.plan.by_path["s"]).tasks
    assert [task.life for task in tasks] == [
        *("succeeded", "succeeded", "failed", "succeeded", "cancelled"),
    ]
    assert case.status("s") == "failed"


@pytest.mark.parametrize(
    ("failing", "allowed", "status"),
    [
        (0, 0, "succeeded"),
        (1, 0, "failed"),
        (1, 25, "succeeded"),
        (2, 25, "failed"),
        (2, 50, "succeeded"),
        (3, 50, "failed"),
        (4, 100, "succeeded"),
    ],
)
def test_max_fail_percentage_has_to_be_exceeded(failing: int, allowed: float, status: str) -> None:
    fan = loop(*range(4), max_fail_percentage=allowed)
    case = Case(book(step("s", fan=fan)), {f"s#{n}": FAILS for n in range(failing)}).begin()
    assert case.status("s") == status


def test_a_batch_of_which_no_host_is_left_ends_the_step_whatever_is_allowed() -> None:
    fan = Fan(hosts=["a", "b", "c", "d"], serial=2, max_fail_percentage=100)
    case = Case(book(step("s", fan=fan)), {"s#0": FAILS, "s#1": FAILS}).begin()
    assert case.status("s") == "failed"
    assert case.world.paths() == ["s", "s"]
    case = Case(book(step("s", fan=fan)), {"s#0": FAILS, "s#2": FAILS}).begin()
    assert case.status("s") == "succeeded"


def test_max_fail_percentage_counts_each_batch() -> None:
    fan = loop(*range(4), serial=2, max_fail_percentage=50)
    case = Case(book(step("s", fan=fan)), {"s#0": FAILS, "s#3": FAILS}).begin()
    assert case.status("s") == "succeeded"
    case = Case(book(step("s", fan=fan)), {"s#2": FAILS, "s#3": FAILS}).begin()
    assert case.status("s") == "failed"


def test_each_task_is_tried_again_by_itself() -> None:
    from engine.model import Retry

    runbook = book(step("s", fan=loop("a", "b"), retry=Retry(3, delay=1)))
    case = Case(runbook, {"s#1": [FAILS, FAILS, Act()]}).begin()
    assert case.outcome == "succeeded"
    started = case.events(TaskStarted)
    assert [(each.task, each.attempt) for each in started] == [(0, 1), (1, 1), (1, 2), (1, 3)]


@pytest.mark.parametrize("forks", [1, 2])
def test_one_task_that_is_cancelled_ends_a_step_whose_other_tasks_wait(forks: int) -> None:
    runbook = book(
        group("g", step("s", fan=loop(*range(6))), ignore_errors=True, rescue=[step("r")]),
        step("after"),
    )
    script = {"g/s": Act(seconds=3), "g/s#0": Act("cancelled", 1)}
    case = Case(runbook, script, forks=forks).begin()
    assert case.status("g/s") == "cancelled"
    assert case.world.paths() == ["g/s"] * (1 if forks == 1 else 2) + ["g.rescue/r", "after"]


def test_a_very_wide_fan_is_bounded_by_forks() -> None:
    runbook = book(step("s", fan=loop(*range(500))))
    case = Case(runbook, {"s": Act(seconds=1)}, forks=50).begin()
    assert case.seconds() == 10


# -- plans ----------------------------------------------------------------------------------------
def test_nodes_below_a_node_are_a_range() -> None:
    plan = build_plan(TAGGED)
    inside = [node.path for node in plan.below(plan.node("g"))]
    assert inside == ["g/x", "g/y"]
    assert [node.path for node in plan.ancestors(plan.node("g/x"))] == ["g", ""]


def test_the_critical_path_is_the_chain_that_decides() -> None:
    runbook = book(
        step("a", needs=[]),
        group("g", step("x"), step("y", needs=[]), needs=["a"]),
        step("b", needs=["a"]),
        step("end", needs=["g", "b"]),
    )
    plan = build_plan(runbook)
    seconds = {"a": 1.0, "g/x": 2.0, "g/y": 9.0, "b": 3.0, "end": 1.0}
    chain, total = plan.critical_path(lambda node: seconds[node.path])
    assert [node.path for node in chain] == ["a", "g", "g/y", "end"]
    assert total == 11


def test_a_fingerprint_changes_with_what_a_step_says_and_with_nothing_else() -> None:
    one = build_plan(book(step("a"), group("g", step("x"))))
    two = build_plan(book(step("new"), step("a", needs=[]), group("g", step("y"))))
    three = build_plan(book(step("a", timeout=5.0), group("g", step("x"), tags=("t",))))
    assert one.digest(one.node("a")) == two.digest(two.node("a"))
    assert one.digest(one.node("a")) != three.digest(three.node("a"))
    assert one.digest(one.node("g")) != three.digest(three.node("g"))
