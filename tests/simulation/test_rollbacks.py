"""What goes wrong with 5.1 during a deployment takes 5.0 back by itself, and in time."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.events import FailureLatched
from engine.simulation import World
from tests.simulation.rehearsing import Rehearsed, rehearse

PHASES = {
    "canary": ("execute/phases/canary/route", 60.0),
    "expand": ("execute/phases/expand/route", 120.0),
    "blue-green": ("execute/phases/blue-green/route", 120.0),
    "switch": ("execute/phases/switch/route", 300.0),
}
"""Phase → the step that brings its users, and within how many seconds it has to be noticed."""


def errors(world: World) -> None:
    world.fault("5.1", error_rate=0.05)


def latency(world: World) -> None:
    world.fault("5.1", latency=2.0)


def agents(world: World) -> None:
    world.fault("5.1", agents_down=30)


def workflows(world: World) -> None:
    world.fault("5.1", workflow_error_rate=0.5)


def ends_on_blue(run: Rehearsed) -> None:
    assert run.status == 1
    assert run.world.shares() == {"5.0": pytest.approx(100)}
    service = run.world.cluster.get("Service", "claude-enhancer-service")
    assert service is not None
    assert service["spec"]["selector"]["version"] == "5.0"


def noticed_after(run: Rehearsed) -> float:
    """Seconds from the fault to the first failure that was latched."""
    (fault,) = run.times
    latches = [each.time for each in run.records if isinstance(each.event, FailureLatched)]
    return latches[0] - fault


@pytest.mark.parametrize("phase", PHASES)
def test_errors_are_noticed_in_time_in_every_phase(tmp_path: Path, phase: str) -> None:
    step, bound = PHASES[phase]
    run = rehearse("runbooks/deploy-5.1.yml", tmp_path, (step, 70.0, errors))
    assert noticed_after(run) <= bound
    ends_on_blue(run)


@pytest.mark.parametrize("fault", [latency, agents, workflows])
def test_every_trigger_takes_the_canary_back(tmp_path: Path, fault: object) -> None:
    run = rehearse("runbooks/deploy-5.1.yml", tmp_path, (PHASES["canary"][0], 70.0, fault))  # type: ignore[arg-type]
    assert noticed_after(run) <= PHASES["canary"][1]
    ends_on_blue(run)
