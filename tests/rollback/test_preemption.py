"""An emergency rollback takes production over from a deployment, which can do nothing more."""

from __future__ import annotations

import re
import time
from datetime import datetime

import pytest

from engine.events import (
    AnyEvent,
    GateOpened,
    LocksTaken,
    RunStarted,
    StopRequested,
    TaskFinished,
)
from engine.lab import control
from engine.lab.cluster.api.requestlog import RequestRecord
from engine.lab.layout import Layout
from engine.lab.people.inbox_file import Notice, read_inbox
from engine.store.files.locks import TAKEOVER_PATIENCE
from tests.rollback.duty import PHASES, Duty, Ended
from tests.rollback.watch import (
    arrived,
    failures_of_5_0,
    requests,
    selector_changes,
    watching,
)

FIRST, *OTHERS = PHASES
EVERY_PHASE = [FIRST, *(pytest.param(each, marks=pytest.mark.slow) for each in OTHERS)]


@pytest.mark.parametrize("phase", EVERY_PHASE)
def test_a_forced_rollback_takes_over(
    duty: Duty, phase: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with duty.deploying(phase) as deploying, watching(duty.state) as watch:
        share = set(control.status(duty.state).weights["edge"].values())
        begun = time.time()
        rollback = duty.roll_back("--force", "--reason", "error_rate_high")
        over = time.time()
        deployment = deploying.end()

    assert PHASES[phase] in share  # it really was in that phase
    assert rollback.status == 0, rollback.output
    assert deployment.status == 6, deployment.output
    assert "took over production: error_rate_high" in deployment.output
    [taken] = rollback.events(LocksTaken)
    assert isinstance(taken, LocksTaken)
    assert taken.over == {"production": deployment.run}

    complete = rollback.when(lambda event: isinstance(event, LocksTaken))
    assert sent_after(duty, deployment, complete) == []
    assert told_after(duty, deployment, complete) == []
    assert told_after(duty, deployment, 0.0)  # its notices do name it
    assert rollback.run in {each.run for each in requests(duty.state)}
    assert in_order(rollback, "back/traffic", "back/front-door", "green", "config")
    assert in_order(rollback, "back/front-door", "canary", "config")

    assert duty.selected() == "5.0"
    assert duty.share_of_5_1() == {0}
    duty.wait_for("5.1 is gone", lambda: duty.pods("5.1") == 0)
    figures = duty.figures()
    assert figures.failures == 0, figures.reasons
    assert failures_of_5_0(figures) == 0
    assert figures.sessions_lost == 0

    again = duty.ce_run("resume", deployment.run, "--yes")
    assert again.status == 2
    assert f"run {deployment.run} was preempted" in again.output
    assert "start the runbook anew" in again.output
    with capsys.disabled():
        selector = selector_changes(duty.state, rollback.run)[0]
        layers = max(selector, watch.weights_on_5_0())
        stopped = deployment.when(lambda event: isinstance(event, StopRequested))
        print(
            f"\n  {phase:<10} command → lock {complete - begun:.2f} s, "
            f"selector {selector - begun:.2f} s, "
            f"selector and all weights on 5.0 {layers - begun:.2f} s, "
            f"last answer of 5.1 {watch.last_answer_of('5.1') - begun:.2f} s, "
            f"end {over - begun:.2f} s; lock → the deployment knows {stopped - complete:.2f} s; "
            f"0 of {figures.requests} requests failed"
        )


def sent_after(duty: Duty, run: Ended, moment: float) -> list[RequestRecord]:
    """What a run still asked of the cluster after a moment; an arrival is known to the ms."""
    return [
        each
        for each in requests(duty.state)
        if each.run == run.run and arrived(each) > moment + 0.001
    ]


def told_after(duty: Duty, run: Ended, moment: float) -> list[Notice]:
    """What a run still told people after a moment; a busy receiver notes a little late what was on
    its way, and a takeover waits that long for it at most."""
    return [
        each
        for each in read_inbox(Layout(duty.state).inbox)
        if run.run in (each.headers.get("X-CE-Run"), each.headers.get("x-ce-run"))
        and datetime.fromisoformat(each.at).timestamp() > moment + TAKEOVER_PATIENCE
    ]


def owns_production(event: AnyEvent) -> bool:
    """Whether the event says that a run has its locks."""
    return isinstance(event, LocksTaken)


def in_order(run: Ended, *steps: str) -> bool:
    """Whether these steps ended in this order."""
    ended = [event.step for event in run.events(TaskFinished) if isinstance(event, TaskFinished)]
    return [step for step in ended if step in steps] == list(steps)


# -- by whom, from where, why ---------------------------------------------------------------------
def test_force_alone_works_and_says_that_no_reason_was_given(duty: Duty) -> None:
    rollback = duty.roll_back("--force")
    assert rollback.status == 0, rollback.output
    assert rollback.events(GateOpened) == []
    [started] = rollback.events(RunStarted)
    assert isinstance(started, RunStarted)
    assert started.reason == ""
    assert started.by.name
    assert started.by.host
    assert started.by.via == "no terminal"
    shown = duty.ce_run("show", rollback.run).output
    assert re.search(r"^reason +not given \(--force\)", shown, re.MULTILINE), shown
    assert re.search(rf"by +{started.by.name}@{started.by.host}, no terminal", shown, re.MULTILINE)


def test_without_force_a_rollback_leaves_the_deployment_alone(duty: Duty) -> None:
    with duty.at_work("tests/rollback/books/holding.yml") as holding:
        duty.wait_for("it holds production", lambda: holding.has(owns_production))
        refused = duty.roll_back("--yes")
        assert refused.status == 4
        assert f"production is locked by run {holding.run}" in refused.output
        assert "--force" in refused.output


def test_without_force_it_asks_and_without_a_terminal_it_says_how_to_go_on(duty: Duty) -> None:
    asked = duty.roll_back()
    assert asked.status == 5
    [gate] = asked.events(GateOpened)
    assert isinstance(gate, GateOpened)
    assert "Take all traffic from 5.1 back to 5.0?" in gate.message
    assert asked.run not in {each.run for each in requests(duty.state)}
    for words in (
        f"ce-run approve {asked.run}",
        "(`reject` says no)",
        f"ce-run resume {asked.run}",
    ):
        assert words in asked.output, asked.output
