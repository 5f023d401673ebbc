"""A version that fails its users is taken back by the deployment itself, in whatever phase."""

from __future__ import annotations

import time

import pytest

from engine.events import FailureLatched, RunFinished, TaskStarted
from engine.lab import control
from tests.rollback.duty import GUARDS_ALONE, PHASES, Duty, Ended
from tests.rollback.watch import Watch, failures_of_5_0, selector_changes, watching

FIRST, *OTHERS = PHASES


@pytest.mark.parametrize(
    "phase", [FIRST, *(pytest.param(each, marks=pytest.mark.slow) for each in OTHERS)]
)
def test_a_tripped_guard_takes_all_traffic_back(
    duty: Duty, phase: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with duty.deploying(phase, **GUARDS_ALONE) as process, watching(duty.state) as watch:
        begun = time.time()
        control.fault(duty.state, version="5.1", error_rate=0.3)
        deployment = process.end()

    body = f"execute/phases/{phase}"
    tripped = deployment.when(
        lambda event: isinstance(event, FailureLatched) and event.failure.kind == "guard_tripped"
    )
    assert deployment.status == 1, deployment.output
    finished = deployment.records[-1].event
    assert isinstance(finished, RunFinished)
    assert finished.outcome == "rescued"
    assert steps_begun_in("execute", deployment, after=tripped) == []
    assert not_told(deployment, body) == [], deployment.output

    assert duty.selected() == "5.0"
    assert duty.share_of_5_1() == {0}
    duty.wait_for("5.1 is gone", lambda: duty.pods("5.1") == 0)
    figures = duty.figures()
    assert failures_of_5_0(figures) == 0, figures.reasons
    assert figures.sessions_lost == 0
    with capsys.disabled():
        print(f"\n  {phase:<10} {timing(watch, deployment, begun, tripped)}")


def steps_begun_in(body: str, deployment: Ended, *, after: float) -> list[str]:
    """Steps of a group's body that were begun after a moment; its rescue is not its body."""
    return [
        record.event.step
        for record in deployment.records
        if isinstance(record.event, TaskStarted)
        and record.time > after
        and record.event.step.startswith(f"{body}/")
    ]


def not_told(deployment: Ended, body: str) -> list[str]:
    """What a reader of the output does not learn: what failed, why, what was done about it."""
    wanted = (
        "Deploy Claude Enhancer 5.1: failed and was rescued",
        f"  {body}: guard '",
        "' tripped: ",
        "rescue of execute did its work",
        "    traffic rolled back to 5.0 100 %, 5.1 0 %",
    )
    return [words for words in wanted if words not in deployment.output]


def timing(watch: Watch, deployment: Ended, begun: float, tripped: float) -> str:
    """The figures of one automatic rollback."""
    selector = selector_changes(watch.state, deployment.run)[-1]
    layers = max(selector, watch.weights_on_5_0())
    answers = watch.last_answer_of("5.1")
    failed = sum(watch.looks[-1].failed.values()) - sum(watch.looks[0].failed.values())
    asked = sum(watch.looks[-1].answered.values()) - sum(watch.looks[0].answered.values())
    return (
        f"fault → trip {tripped - begun:.2f} s; trip → selector {selector - tripped:.2f} s, "
        f"selector and all weights on 5.0 {layers - tripped:.2f} s, "
        f"last answer of 5.1 {answers - tripped:.2f} s; {failed} of {asked} requests failed"
    )
