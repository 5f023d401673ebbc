"""The world follows from its objects, weights and faults; nobody sets a figure."""

from __future__ import annotations

import pytest

from engine.simulation import Scale, SimulatedClock, World
from engine.simulation.setting import world_of

START = 1_800_000_000.0
TRAFFIC = {
    "versions": {"stable": "5.0", "canary": "5.1"},
    "pods_for_full_load": 5,
    "haproxy": {
        "connection": "edge",
        "backend": "split",
        "servers": {"5.0": "old", "5.1": "new"},
    },
}


@pytest.fixture
def world() -> World:
    made = world_of(SimulatedClock(START), lambda name: TRAFFIC if name == "traffic" else {})
    made.warm_up()
    return made


def value(world: World, name: str, version: str = "", window: float = 60.0) -> float | None:
    found = world.measure(name, version, window)
    return None if found is None else found.value


def scale(world: World, name: str, replicas: int) -> None:
    deployment = world.cluster.get("Deployment", name)
    assert deployment is not None
    deployment["spec"]["replicas"] = replicas
    world.cluster.api.save(deployment, manager="test")


def test_a_healthy_production_serves_everybody(world: World) -> None:
    assert world.shares() == {"5.0": pytest.approx(100)}
    assert value(world, "error_rate") == 0
    assert value(world, "availability") == 100
    assert 100 < (value(world, "p95") or 0) < 130
    assert value(world, "agents_loaded") == 61
    assert value(world, "requests_per_second") == pytest.approx(1200, rel=0.01)
    assert value(world, "error_rate", "5.1") is None, "no data is no data"
    with pytest.raises(KeyError):
        world.measure("happiness", "", 60)


def test_a_fault_shows_in_the_window_and_leaves_it(world: World) -> None:
    world.fault("5.0", error_rate=0.04, latency=0.4)
    world.clock.pass_time(30)
    assert value(world, "error_rate") == pytest.approx(2, rel=0.02), "half of the minute"
    world.clock.pass_time(30)
    assert value(world, "error_rate") == pytest.approx(4, rel=0.02)
    assert 480 < (value(world, "p95") or 0) < 560
    world.faults.clear()
    world.clock.pass_time(90)
    assert value(world, "error_rate") == 0


def test_weights_lead_where_pods_are_ready(world: World) -> None:
    scale(world, "claude-enhancer-green", 10)
    edge = world.balancers["edge"]
    edge.set_weight("split", "old", 50)
    edge.set_weight("split", "new", 50)
    world.clock.pass_time(1)
    assert world.shares()["unknown"] == pytest.approx(25), "nobody serves 5.1 yet"
    assert (value(world, "error_rate") or 0) > 0
    world.clock.pass_time(60)
    assert world.shares() == {"5.0": pytest.approx(75), "5.1": pytest.approx(25)}


def test_too_few_pods_are_too_slow_and_fail(world: World) -> None:
    scale(world, "claude-enhancer-blue", 4)
    world.clock.pass_time(120)
    assert value(world, "error_rate") == pytest.approx(20, rel=0.02), "four of the five needed"
    assert (value(world, "p50") or 0) > 2000


def test_the_same_world_twice_is_the_same() -> None:
    def names() -> list[str]:
        world = World(SimulatedClock(START), Scale(seed=7))
        world.warm_up()
        return [pod["metadata"]["name"] for pod in world.cluster.list("Pod")]

    assert names() == names()
