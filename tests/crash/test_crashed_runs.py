"""Killed at any point of its journal and resumed, a run leaves the world that it would have left.

The runs are real processes that end by SIGKILL, the world is the lab. A point is *before* or
*after* an event is appended, or within the write or right after the disk's confirmation of it.
"""

from __future__ import annotations

from typing import Any

import pytest

from engine.events import TaskFinished
from engine.lab import control
from tests.crash.killed import Spot, When
from tests.crash.operator import Ended, Where, at_records, every, in_turn, nowhere
from tests.crash.stage import Stage
from tests.crash.world import differences, notices_sent_again

DEPLOYMENT = (
    Spot("torn", type="run_started"),
    Spot("written", type="locks_taken"),
    Spot("before", type="task_finished", step="prepare/push"),
    Spot("before", type="task_finished", step="prepare/config"),
    Spot("synced", type="task_started", step="prepare/migrate"),
    Spot("before", type="task_finished", step="prepare/count"),
    Spot("before", type="task_finished", step="prepare/announce"),
    Spot("before", type="task_finished", step="prepare/register"),
    Spot("synced", type="task_started", step="prepare/mark"),
    Spot("before", type="task_finished", step="prepare/backup"),
    Spot("before", type="task_finished", step="execute/canary/apply"),
    Spot("before", type="task_finished", step="execute/canary/route"),
    Spot("before", type="task_finished", step="execute/green/scale"),
    Spot("torn", type="task_started", step="execute/green/sync"),
    Spot("before", type="task_finished", step="execute/green/route/loop#1"),
    Spot("before", type="task_finished", step="execute/switch/route"),
    Spot("before", type="task_finished", step="execute/switch/restart"),
    Spot("before", type="task_finished", step="execute/switch/hook"),
    Spot("after", type="task_finished", step=".always/last"),
)
ROLLBACK = (
    Spot("synced", type="locks_taken"),
    Spot("synced", type="task_started", step="back/traffic"),
    Spot("before", type="task_finished", step="back/traffic"),
    Spot("before", type="task_finished", step="green"),
    Spot("before", type="task_finished", step="canary"),
    Spot("before", type="task_finished", step="notify"),
    Spot("written", type="task_finished", step="report"),
)


@pytest.fixture(scope="module")
def undisturbed(shared_stage: Stage) -> dict[str, dict[str, Any]]:
    """The worlds that a deployment and the rollback after it leave when nothing dies."""
    shared_stage.reset()
    worlds = {}
    for name in ("deployment", "rollback"):
        ended = carry(shared_stage, name, nowhere)
        assert ended.outcome == "succeeded", ended.output
        worlds[name] = shared_stage.world()
    return worlds


def carry(stage: Stage, name: str, where: Where) -> Ended:
    """Carry the deployment, or the rollback after it, to its end."""
    if name == "deployment":
        arguments = stage.arguments("quick-deploy.yml", trace=str(stage.trace))
    else:
        arguments = (*stage.arguments("emergency-rollback.yml"), "--force")
    return stage.operator.carry(*arguments, where=where)


def same_end(stage: Stage, ended: Ended, world: dict[str, Any]) -> None:
    """The run succeeded, and nothing tells that it was ever killed."""
    assert ended.outcome == "succeeded", ended.output
    lines = differences(stage.world(), world)
    assert not lines, "\n".join([*lines, ended.output])
    finished = [
        (each.event.step, each.event.task)
        for each in ended.records
        if isinstance(each.event, TaskFinished) and each.event.status == "succeeded"
    ]
    assert len(finished) == len(set(finished))


def told(name: str, ended: Ended, stage: Stage, when: str = "") -> None:
    """One line of what was tried."""
    again = notices_sent_again(stage.lab)
    print(
        f"{name} {when}: {len(ended.deaths)} points, 0 duplicates, 0 differences; "
        f"{len(ended.decided)} decisions asked of a person; "
        f"{again} notices recognised by their receiver as repeated"
    )


@pytest.mark.slow  # which of its spots are met depends on the order of steps that run together
def test_a_deployment_and_its_rollback_survive_a_crash_around_each_kind_of_effect(
    stage: Stage, undisturbed: dict[str, dict[str, Any]]
) -> None:
    for name, spots in (("deployment", DEPLOYMENT), ("rollback", ROLLBACK)):
        ended = carry(stage, name, in_turn(*spots))
        assert len(ended.deaths) == len(spots), ended.output
        same_end(stage, ended, undisturbed[name])
        told(name, ended, stage)


def test_a_deployment_and_its_rollback_survive_crashes_all_along(
    stage: Stage, undisturbed: dict[str, dict[str, Any]]
) -> None:
    """A sample of the full matrix: wherever these records fall, the world has to be the same."""
    for name, where in (("deployment", every(29, 7)), ("rollback", every(27, 3))):
        ended = carry(stage, name, where)
        same_end(stage, ended, undisturbed[name])
        assert len(ended.deaths) >= 3, ended.output
        told(name, ended, stage)


STRIDE = 12
"""A run of the full matrix dies at every twelfth record; the next one at those between."""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["before", "written", "synced"])
def test_a_deployment_and_its_rollback_survive_a_crash_at_every_record(
    when: When, shared_stage: Stage, undisturbed: dict[str, dict[str, Any]]
) -> None:
    points = decided = 0
    for first in range(1, STRIDE + 1):
        shared_stage.reset()
        for name in ("deployment", "rollback"):
            ended = carry(shared_stage, name, at_records(when, range(first, 1000, STRIDE)))
            same_end(shared_stage, ended, undisturbed[name])
            points += len(ended.deaths)
            decided += len(ended.decided)
    print(
        f"{when}: {points} points, 0 duplicates, 0 differences; a person was asked {decided} times"
    )


@pytest.mark.slow
def test_the_shipped_deployment_survives_crashes(shared_stage: Stage) -> None:
    """deploy-5.1.yml as it is, dying at every ninetieth record, with a whole load of users.

    On a machine that is too busy for them its own checks take it back: no user may notice that.
    """
    shared_stage.reset()
    control.set_rate(shared_stage.state, 240)
    arguments = shared_stage.arguments("deploy-5.1.yml")
    ended = shared_stage.operator.carry(*arguments, where=at_records("before", range(40, 2000, 90)))
    assert ended.outcome in ("succeeded", "rescued"), ended.output
    figures = shared_stage.lab.figures(verify_writes=True)
    assert (figures.writes_lost, figures.sessions_lost) == (0, 0)
    print(
        f"{ended.outcome} after {len(ended.deaths)} points; "
        f"{figures.requests} requests, {figures.failures} failed: {figures.reasons}"
    )
