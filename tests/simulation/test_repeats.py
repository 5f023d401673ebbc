"""Observations that can only repeat the last one are left out, and nothing is noticed later."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.runner.repeats import Repeats
from engine.simulation import World
from tests.simulation.rehearsing import Rehearsed, rehearse

BOOK = """
name: Watch
vars: {limit: 1}
steps:
  - id: begin
    wait: {for: 1s}
  - id: watch
    guards:
      - name: error rate
        every: 10s
        for: 20s
        metrics.read: {name: error_rate, version: "VERSION"}
        trip: TRIP
    steps:
      - id: soak
        wait: {for: 1h}
    rescue:
      - id: note
        wait: {for: 1s}
"""
INVENTORY = """
name: small
traffic:
  versions: {stable: "5.0", canary: "5.1"}
  haproxy: {connection: edge, backend: split, servers: {"5.0": old, "5.1": new}}
endpoints: {prometheus: "http://prometheus.simulated"}
metrics: {error_rate: {prometheus: errors, samples: requests, vars: {window: 1m}}}
"""


def watch(
    folder: Path, *happenings: object, trip: str = "result.value > limit", version: str = ""
) -> Rehearsed:
    book = folder / "book.yml"
    book.write_text(BOOK.replace("TRIP", trip).replace("VERSION", version))
    (folder / "inventory.yml").write_text(INVENTORY)
    return rehearse(
        book,
        folder / "state",
        *happenings,  # type: ignore[arg-type]
        inventory=str(folder / "inventory.yml"),
    )


def broken(world: World) -> None:
    world.fault("5.0", error_rate=0.04)


def test_a_guard_of_a_quiet_world_is_asked_once(tmp_path: Path) -> None:
    run = watch(tmp_path)
    assert run.status == 0
    assert [verdict for _, verdict in run.observations("watch")] == ["pass"]


@pytest.mark.parametrize("after", [603.0, 1234.5])
def test_a_fault_trips_a_guard_no_later_for_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: float
) -> None:
    def trip(folder: Path) -> tuple[float, int]:
        folder.mkdir()
        run = watch(folder, ("begin", after, broken))
        assert run.status == 1
        seen = run.observations("watch")
        return seen[-1][0] - run.times[0], len(seen)

    spared, few = trip(tmp_path / "spared")
    monkeypatch.setattr(Repeats, "keep", lambda *_: None)
    asked, many = trip(tmp_path / "asked")
    assert spared <= asked + 10, "its interval"
    assert 20 <= spared <= 60
    assert (few, many > 50) == (min(few, 8), True)


def test_a_guard_that_asks_for_the_time_is_asked_each_time(tmp_path: Path) -> None:
    run = watch(tmp_path, trip="run.elapsed > 1800")
    assert run.status == 1, "no answer of the world says when the time is up"
    assert len(run.observations("watch")) > 100


def begun(world: World) -> None:
    deployment = world.cluster.get("Deployment", "claude-enhancer-green")
    assert deployment is not None
    deployment["spec"]["replicas"] = 10
    world.cluster.api.save(deployment, manager="test")
    world.balancers["edge"].set_weight("split", "new", 5)


def test_a_guard_without_data_is_asked_when_there_is_some(tmp_path: Path) -> None:
    run = watch(tmp_path, ("begin", 600.0, begun), version="5.1")
    assert run.status == 0
    verdicts = [verdict for _, verdict in run.observations("watch")]
    assert verdicts[0] == "inconclusive", "nobody met it yet"
    assert verdicts[-1] == "pass"
    assert len(verdicts) < 12


def test_a_guard_without_data_fails_its_gate_in_the_end(tmp_path: Path) -> None:
    run = watch(tmp_path, version="5.1")
    assert run.status == 1
    assert [verdict for _, verdict in run.observations("watch")] == ["inconclusive"] * 2
    assert "could not tell in the end" in str(run.records)


def test_metrics_that_change_by_themselves_do_not_hold(tmp_path: Path) -> None:
    world = watch(tmp_path).world
    assert world.lasting("error_rate", "", 60) is not None
    assert world.lasting("requests_total", "", 60) is None
    assert world.lasting("memory", "", 60) is not None
    world.fault("5.0", memory_growth=1.0)
    assert world.lasting("memory", "", 60) is None
    assert world.lasting("error_rate", "", 60) is not None, "nothing fails by that"
    world.fault("5.0", error_rate=0.04)
    world.clock.pass_time(30)
    assert world.lasting("error_rate", "", 60) is None, "half of the window is as before"
    world.clock.pass_time(30)
    assert world.lasting("error_rate", "", 60) is not None
