"""wait, assert and confirm: steps that touch nothing outside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.clock import VirtualClock
from engine.executor import Attempt, Services, TaskContext
from engine.module_api import Cancelled, Failed, Refused
from modules import assert_, confirm, wait
from tests.modules.conftest import MakeContext, Told

CancelWhen = Callable[[TaskContext, Callable[[], bool]], object]


def virtual(tmp_path: Path, elapsed: float = 0.0) -> tuple[VirtualClock, TaskContext, list[str]]:
    clock, lines = VirtualClock(), list[str]()
    services = Services(
        run_id="r", clock=clock, root=tmp_path, report=lambda step, task, text: lines.append(text)
    )
    return clock, TaskContext(services, Attempt("s", first_started=clock.now() - elapsed)), lines


def test_a_wait_takes_its_time_and_tells_when_it_is_over(tmp_path: Path) -> None:
    clock, ctx, lines = virtual(tmp_path)
    before = clock.now()
    result = wait.wait(ctx, 150, reason="soak")
    assert clock.now() - before == 150
    assert result.data == {"seconds": 150}
    assert lines == ["waiting 2m30s, until 08:02:30 UTC: soak"]


def test_a_resumed_wait_goes_on_with_what_was_left(tmp_path: Path) -> None:
    clock, ctx, _ = virtual(tmp_path, elapsed=100)
    before = clock.now()
    wait.wait(ctx, 150)
    assert clock.now() - before == 50
    _, over, lines = virtual(tmp_path, elapsed=200)
    wait.wait(over, 150)
    assert lines == []


def test_a_wait_ends_at_once_when_cancelled(
    ctx: TaskContext, told: Told, cancel_when: CancelWhen
) -> None:
    cancel_when(ctx, lambda: bool(told.progress))
    with pytest.raises(Cancelled):
        wait.wait(ctx, 3600)


def test_a_wait_refuses_less_than_nothing(ctx: TaskContext) -> None:
    with pytest.raises(Refused, match="negative"):
        wait.wait(ctx, -1)


def test_check_does_not_wait(ctx: TaskContext, told: Told) -> None:
    assert wait.wait.checker is not None
    result = wait.wait.checker(ctx, 5400)
    assert result.message == "would wait 1h30m"
    assert result.data == {"seconds": 5400}
    assert told.progress == []


def test_what_is_true_passes(make_context: MakeContext) -> None:
    ctx = make_context(scope={"rows": 3, "name": "blue"})
    result = assert_.that(ctx, ["rows == 3", "name in ['blue', 'green']", True])
    assert result.data == {"assertions": 3}
    assert assert_.that(ctx, "rows > 2").data == {"assertions": 1}
    assert assert_.that(ctx, True, success_msg="fine").message == "fine"


def test_what_is_false_is_named_with_the_values_in_it(make_context: MakeContext) -> None:
    ctx = make_context(scope={"rows": 3, "result": {"json": {"state": "down"}}, "limit": 2})
    with pytest.raises(Failed) as caught:
        assert_.that(ctx, ["rows == 3", "result.json.state == 'up' and rows < limit"])
    assert caught.value.message == "not true: result.json.state == 'up' and rows < limit"
    assert caught.value.evidence == [
        "false: result.json.state == 'up' and rows < limit",
        "  result.json.state = 'down'",
        "  rows = 3",
        "  limit = 2",
    ]
    assert caught.value.data == {
        "assertions": 2,
        "failed": ["result.json.state == 'up' and rows < limit"],
    }


def test_a_failure_can_have_own_words(make_context: MakeContext) -> None:
    ctx = make_context(scope={"agents": [1, 2]})
    with pytest.raises(Failed, match=r"^agents are missing$") as caught:
        assert_.that(ctx, "agents | length == 61", fail_msg="agents are missing")
    assert caught.value.evidence[0] == "false: agents | length == 61"
    with pytest.raises(Failed, match="not true: false"):
        assert_.that(ctx, False)


def test_no_assertion_at_all_is_refused(ctx: TaskContext) -> None:
    with pytest.raises(Refused):
        assert_.that(ctx, [])


def test_a_confirmation_tells_who_gave_it(make_context: MakeContext) -> None:
    scope = {"approval": {"by": "sre-on-call", "at": "2026-01-31T14:05:09Z", "comment": "go"}}
    result = confirm.ask(make_context(scope=scope), "Switch?", checklist=["DNS", "TLS"])
    assert result.data == {
        "approved": True,
        "by": "sre-on-call",
        "at": "2026-01-31T14:05:09Z",
        "comment": "go",
        "checklist": ["DNS", "TLS"],
    }
    assert result.message == "confirmed by sre-on-call"


def test_a_confirmation_given_beforehand_has_nobody_to_name(ctx: TaskContext) -> None:
    assert confirm.ask(ctx, "Switch?").data["by"] == ""
    assert confirm.ask.checker is not None
    assert confirm.ask.checker(ctx, "Switch?").message == "would ask: Switch?"


def test_only_steps_that_compute_run_on_the_engines_own_thread() -> None:
    assert (assert_.that.inline, confirm.ask.inline, wait.wait.inline) == (True, True, False)
