"""Traffic moves in Istio, HAProxy and the Service together, never above what pods can carry."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.executor import TaskContext
from engine.module_api import Cancelled, Failed, Refused, Unreachable
from modules import traffic
from modules._traffic import endpoints as traffic_endpoints
from tests.lab.cluster.objects import NAMESPACE, SERVICES
from tests.modules.conftest import MakeContext, Told
from tests.modules.kube_cluster import app
from tests.modules.real_haproxy import RealHAProxy
from tests.modules.traffic_world import (
    AT_START,
    VIRTUAL_SERVICE,
    World,
    destination,
    green,
    the_service,
    virtual_service,
    world_of,
)


@pytest.fixture(scope="module")
def running_haproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHAProxy]:
    with RealHAProxy(tmp_path_factory.mktemp("h")) as running:
        yield running


@pytest.fixture
def world(tmp_path: Path, running_haproxy: RealHAProxy) -> Iterator[World]:
    with world_of(tmp_path, running_haproxy) as world:
        yield world


@pytest.fixture
def ctx(make_context: MakeContext, world: World) -> TaskContext:
    return make_context(world.inventory(), seconds=20)


# -- forward ------------------------------------------------------------------------------------
def test_the_phases_of_a_deployment(ctx: TaskContext, world: World) -> None:
    green(world, 1)
    for percent in (5, 20):
        result = traffic.shift(ctx, "5.1", percent)
        split = {"stable": 100 - percent, "canary": percent}
        assert world.weights() == (split, split, "5.0")
        assert result.changed
        assert result.data["layers"]["istio"] == {"5.0": 100 - percent, "5.1": percent}
        assert result.data["agree"]
        assert abs(world.haproxy.served(200)["5.1"] - 2 * percent) <= 4
    green(world, 3)
    traffic.shift(ctx, "5.1", 50)
    assert world.weights()[2] == "5.0"
    result = traffic.shift(ctx, "5.1", 100)
    assert world.weights() == ({"stable": 0, "canary": 100}, {"stable": 0, "canary": 100}, "5.1")
    assert result.data["before"]["service"] == {"5.0": 100, "5.1": 0}
    assert result.data["capacity"]["5.1"] == {"ready": 3, "percent": 100}
    assert world.opted_in() == "canary"


def test_a_share_above_the_ready_capacity_is_refused_with_figures(
    ctx: TaskContext, world: World
) -> None:
    green(world, 1)
    with pytest.raises(Refused) as caught:
        traffic.shift(ctx, "5.1", 50)
    assert caught.value.message == (
        "traffic is not shifted: 5.1 has 1 of the 2 ready pods that 50 % of the traffic need"
    )
    assert caught.value.hint.startswith("scale it first (3 ready pods carry all traffic)")
    assert caught.value.data["capacity"] == {
        "5.0": {"ready": 3, "percent": 100},
        "5.1": {"ready": 1, "percent": 33},
    }
    assert world.weights() == AT_START


def test_pods_that_run_but_are_not_ready_carry_nothing(ctx: TaskContext, world: World) -> None:
    world.cluster.runtime.hold = True
    green(world, 3)
    with pytest.raises(Refused, match=r"5\.1 has 0 of the 1 ready pods that 5 %"):
        traffic.shift(ctx, "5.1", 5)
    assert world.weights() == AT_START


def test_force_shifts_all_the_same(ctx: TaskContext, world: World) -> None:
    result = traffic.shift(ctx, "5.1", 5, force=True)
    assert result.data["overloaded"]
    assert "above capacity: 5.1 has 0 of the 1 ready pods" in result.message
    assert world.weights()[1] == {"stable": 95, "canary": 5}


def test_taking_traffic_away_needs_no_capacity(ctx: TaskContext, world: World) -> None:
    green(world, 1)
    traffic.shift(ctx, "5.1", 20)
    green(world, 0)
    assert traffic.shift(ctx, "5.0", 95).changed
    assert world.weights()[1] == {"stable": 95, "canary": 5}


def test_a_repetition_sends_nothing(ctx: TaskContext, world: World) -> None:
    green(world, 1)
    traffic.shift(ctx, "5.1", 5)
    before = len(world.requests())
    again = traffic.shift(ctx, "5.1", 5)
    assert not again.changed
    assert again.message == "traffic is at 5.0 95 %, 5.1 5 % already"
    assert not any("PATCH" in one for one in world.requests()[before:])


def test_a_shift_that_was_cut_off_is_finished(ctx: TaskContext, world: World) -> None:
    """After a crash between two layers they disagree; the repetition brings them together."""
    green(world, 1)
    world.haproxy.ask("set server claude_split/stable weight 95")
    world.haproxy.ask("set server claude_split/canary weight 5")
    assert traffic.shift(ctx, "5.1", 5).changed
    split = {"stable": 95, "canary": 5}
    assert world.weights() == (split, split, "5.0")


@pytest.fixture
def other(tmp_path: Path) -> Iterator[RealHAProxy]:
    """A second load balancer of the same connection."""
    with RealHAProxy(tmp_path / "other") as running:
        yield running


def pair(world: World, *addresses: str) -> dict[str, dict[str, Any]]:
    """An inventory whose connection `edge` has the addresses of several load balancers."""
    return {**world.inventory(), "haproxy": {"edge": {"address": list(addresses)}}}


@pytest.mark.parametrize("force", [False, True])
def test_a_shift_that_was_cut_off_between_two_load_balancers_is_finished(
    make_context: MakeContext, world: World, other: RealHAProxy, force: bool
) -> None:
    green(world, 1)
    inventory = pair(world, world.haproxy.admin, other.admin)
    world.haproxy.ask("set server claude_split/stable weight 95")
    world.haproxy.ask("set server claude_split/canary weight 5")
    checked = traffic.shift.checker
    assert checked
    assert checked(make_context(inventory), "5.1", 5).data["before"]["haproxy"]["5.1"] == 0
    result = traffic.shift(make_context(inventory), "5.1", 5, force=force)
    assert result.data["before"]["haproxy"] == {"5.0": 100, "5.1": 0}
    split = {"stable": 95, "canary": 5}
    assert world.weights() == (split, split, "5.0")
    assert other.weights() == split


def test_what_was_cut_off_and_fails_again_goes_back_everywhere(
    make_context: MakeContext, world: World, other: RealHAProxy
) -> None:
    green(world, 1)
    world.haproxy.ask("set server claude_split/stable weight 95")
    world.haproxy.ask("set server claude_split/canary weight 5")
    inventory = pair(world, world.haproxy.admin, other.reader)
    with pytest.raises(Refused, match="allows reading only"):
        traffic.shift(make_context(inventory), "5.1", 5)
    assert world.weights() == AT_START


def test_load_balancers_that_differ_in_more_than_weights_are_left_alone(
    make_context: MakeContext, world: World, other: RealHAProxy
) -> None:
    green(world, 1)
    other.ask("set server claude_split/stable state drain")
    inventory = pair(world, world.haproxy.admin, other.admin)
    with pytest.raises(Failed, match="the load balancers of edge disagree") as caught:
        traffic.shift(make_context(inventory), "5.1", 5)
    assert caught.value.evidence == [
        f"stable: ready at {world.haproxy.admin}, drain at {other.admin}"
    ]
    assert world.weights() == AT_START


def test_several_servers_share_what_their_version_gets(
    make_context: MakeContext, world: World
) -> None:
    green(world, 1)
    part = {
        "connection": "edge",
        "backend": "many",
        "servers": {"5.0": ["stable-1", "stable-2", "stable-3"], "5.1": ["canary-1"]},
    }
    ctx = make_context(world.inventory(haproxy=part))
    assert traffic.shift(ctx, "5.1", 20).data["layers"]["haproxy"] == {"5.0": 80, "5.1": 20}
    weights = world.haproxy.weights("many")
    total = sum(weights.values())
    assert [round(100 * weight / total, 1) for weight in weights.values()] == [26.7, 26.7, 26.7, 20]


# -- when something fails -----------------------------------------------------------------------
def test_when_haproxy_fails_istio_goes_back(make_context: MakeContext, world: World) -> None:
    green(world, 1)
    inventory = world.inventory()
    inventory["haproxy"] = {"edge": {"address": world.haproxy.reader}}
    with pytest.raises(Refused) as caught:
        traffic.shift(make_context(inventory), "5.1", 5)
    assert caught.value.message.endswith(
        "its socket allows reading only; everything was put back as it was"
    )
    assert caught.value.data["brought_back"] is True
    assert caught.value.data["layers"] == {
        "istio": {"5.0": 100, "5.1": 0},
        "haproxy": {"5.0": 100, "5.1": 0},
        "service": {"5.0": 100, "5.1": 0},
    }
    assert world.weights() == AT_START


def test_a_successor_that_dies_meanwhile_never_gets_the_service(
    ctx: TaskContext, world: World, told: Told
) -> None:
    green(world, 3)

    def kill(step: str, task: int, text: str) -> None:
        told.progress.append(text)
        if text == "HAProxy edge, backend claude_split: 5.0 0 %, 5.1 100 %":
            green(world, 1)

    ctx._services.report = kill
    with pytest.raises(Refused, match=r"5\.1 has 1 of the 3 ready pods .* everything was put back"):
        traffic.shift(ctx, "5.1", 100)
    assert world.weights() == AT_START
    assert not any(text.startswith("Service") for text in told.progress)


def test_a_service_that_leads_to_nobody_goes_back(
    ctx: TaskContext, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic_endpoints, "SERVES_WITHIN", 0.3)
    world.cluster.put(the_service(track="claude-enhancer-blue"))
    green(world, 3)
    with pytest.raises(Failed, match=r"selects 5\.1, but leads to .*; everything was put back"):
        traffic.shift(ctx, "5.1", 100)
    assert world.weights() == AT_START


def test_half_of_the_time_is_left_for_putting_things_back(
    make_context: MakeContext, world: World
) -> None:
    world.cluster.put(the_service(track="claude-enhancer-blue"))
    green(world, 3)
    with pytest.raises(Failed, match=r"selects 5\.1, but leads to .*; everything was put back"):
        traffic.shift(make_context(world.inventory(), seconds=2), "5.1", 100)
    assert world.weights() == AT_START


def test_when_the_service_fails_last_the_others_go_back_and_it_is_named(
    make_context: MakeContext, world: World
) -> None:
    """Two of three layers have moved when somebody deletes the third."""
    green(world, 3)

    class Deletes(LosesItsLocks):
        @contextlib.contextmanager
        def hold(self) -> Iterator[None]:
            cluster = world.cluster
            there = cluster.read(f"{SERVICES}/claude-enhancer-service") is not None
            if there and world.haproxy.weights()["canary"] == 100:
                cluster.do(cluster.server.delete, "Service", "claude-enhancer-service", NAMESPACE)
            yield

    with pytest.raises(Failed) as caught:
        traffic.shift(make_context(world.inventory(), fence=Deletes(0)), "5.1", 100)
    assert "Service claude-enhancer-service could not be put back" in caught.value.message
    assert caught.value.hint == "look with `traffic.read`, then shift again or roll back"
    assert caught.value.data["brought_back"] is False
    assert caught.value.data["layers"] == {
        "istio": {"5.0": 100, "5.1": 0},
        "haproxy": {"5.0": 100, "5.1": 0},
        "service": None,
    }


def test_what_does_not_hold_is_a_failure(ctx: TaskContext, world: World, told: Told) -> None:
    green(world, 1)

    def meddle(step: str, task: int, text: str) -> None:
        if text.startswith("HAProxy"):
            world.cluster.put(virtual_service())

    ctx._services.report = meddle
    with pytest.raises(Failed) as caught:
        traffic.shift(ctx, "5.1", 5)
    assert caught.value.message == (
        "the shift did not hold: VirtualService claude-enhancer-traffic: 5.0 100 %, 5.1 0 %, "
        "not 5.0 95 %, 5.1 5 %"
    )


@pytest.mark.parametrize("state", ["maint", "drain"])
def test_a_server_that_takes_no_traffic_gets_no_share(
    ctx: TaskContext, world: World, state: str
) -> None:
    green(world, 1)
    world.haproxy.ask(f"set server claude_split/canary state {state}")
    with pytest.raises(Refused, match=rf"no server for 5\.1: canary (up|down)/{state}"):
        traffic.shift(ctx, "5.1", 5)
    assert world.weights() == AT_START


class LosesItsLocks:
    """A fence that holds a number of times and then no more."""

    def __init__(self, times: int) -> None:
        self.left = times

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        self.left -= 1
        if self.left < 0:
            raise Cancelled("another run took over")
        yield

    def identity(self) -> dict[str, str]:
        return {"X-CE-Run": "old", "X-CE-Token": "1"}


@pytest.mark.parametrize("layers", [0, 1, 2])
def test_a_run_that_was_preempted_in_the_middle_sends_nothing_more(
    make_context: MakeContext, world: World, layers: int
) -> None:
    moved = {"stable": 0, "canary": 100}
    start = AT_START[0]

    class TakenOver(LosesItsLocks):
        """Another run takes over once so many layers have moved."""

        @contextlib.contextmanager
        def hold(self) -> Iterator[None]:
            if sum(layer == moved for layer in world.weights()[:2]) >= layers:
                raise Cancelled("another run took over")
            yield

    green(world, 3)
    ctx = make_context(world.inventory(), fence=TakenOver(0))
    with pytest.raises(Cancelled, match=r"^another run took over$"):
        traffic.shift(ctx, "5.1", 100)
    assert world.weights() == (
        moved if layers > 0 else start,
        moved if layers > 1 else start,
        "5.0",
    )


def test_a_virtual_service_that_somebody_else_writes_is_read_anew(
    make_context: MakeContext, world: World
) -> None:
    green(world, 1)

    theirs = {"match": [{"uri": {"prefix": "/new"}}], "route": [destination("stable")]}

    class Meddles(LosesItsLocks):
        @contextlib.contextmanager
        def hold(self) -> Iterator[None]:
            if self.left == 9:
                changed = virtual_service()
                changed["spec"]["http"].insert(1, theirs)
                world.cluster.put(changed)
            self.left -= 1
            yield

    traffic.shift(make_context(world.inventory(), fence=Meddles(9)), "5.1", 5)
    assert len(world.cluster.read(VIRTUAL_SERVICE)["spec"]["http"]) == 3
    assert world.weights()[0] == {"stable": 95, "canary": 5}


@pytest.mark.parametrize(
    ("routes", "words"),
    [
        ([{"route": [destination("nobody")]}], "no route between the subsets stable and canary"),
        (
            [{"route": [destination("stable", 50), destination("beta", 50)]}],
            "also leads to subset beta",
        ),
        (
            [
                {
                    "match": [{"uri": {"prefix": "/a"}}],
                    "route": [destination("stable", 90), destination("canary", 10)],
                },
                {"route": [destination("stable", 80), destination("canary", 20)]},
            ],
            "have different weights",
        ),
    ],
)
def test_routes_that_cannot_be_understood_are_left_alone(
    ctx: TaskContext, world: World, routes: list[dict[str, Any]], words: str
) -> None:
    green(world, 1)
    world.cluster.put(virtual_service(*routes))
    before = world.cluster.read(VIRTUAL_SERVICE)["spec"]
    with pytest.raises((Failed, Refused)) as caught:
        traffic.shift(ctx, "5.1", 5)
    assert words in caught.value.message
    assert world.cluster.read(VIRTUAL_SERVICE)["spec"] == before
    assert world.haproxy.weights() == AT_START[1]


def test_a_route_to_stable_alone_gets_its_second_destination(
    ctx: TaskContext, world: World
) -> None:
    green(world, 1)
    world.cluster.put(virtual_service({"route": [destination("stable")], "timeout": "5s"}))
    traffic.shift(ctx, "5.1", 5)
    (route,) = world.cluster.read(VIRTUAL_SERVICE)["spec"]["http"]
    assert route == {
        "route": [destination("stable", 95), destination("canary", 5)],
        "timeout": "5s",
    }


# -- back ---------------------------------------------------------------------------------------
def test_half_of_the_way_back_the_service_leads_to_stable_again(
    ctx: TaskContext, world: World
) -> None:
    green(world, 3)
    traffic.shift(ctx, "5.1", 100)
    result = traffic.shift(ctx, "5.1", 50)
    assert world.weights() == ({"stable": 50, "canary": 50}, {"stable": 50, "canary": 50}, "5.0")
    assert result.data["agree"]
    assert traffic.shift(ctx, "5.0", 100).changed
    assert world.weights() == AT_START


def test_a_rollback_switches_first_and_asks_one_question(ctx: TaskContext, world: World) -> None:
    green(world, 3)
    traffic.shift(ctx, "5.1", 100)
    begun = len(world.requests())
    result = traffic.shift(ctx, "5.0", 100)
    assert world.weights() == AT_START
    assert world.haproxy.served(20) == {"5.0": 20}
    assert world.requests()[begun : begun + 4] == [
        "GET pods",
        "PATCH claude-enhancer-service",
        "GET claude-enhancer-traffic",
        "PATCH claude-enhancer-traffic",
    ]
    assert result.changed
    assert result.data["before"]["istio"] == {"5.0": 0, "5.1": 100}
    assert world.opted_in() == "stable"


def test_a_rollback_of_what_is_rolled_back_is_no_change(ctx: TaskContext, world: World) -> None:
    green(world, 1)
    traffic.shift(ctx, "5.1", 5)
    assert traffic.shift(ctx, "5.1", 0).changed
    again = traffic.shift(ctx, "5.0", 100)
    assert not again.changed
    assert again.data["before"]["service"] == {"5.0": 100, "5.1": 0}
    assert world.weights() == AT_START


def test_after_a_rollback_the_next_shift_leads_canary_users_to_the_canary_again(
    ctx: TaskContext, world: World
) -> None:
    green(world, 1)
    checked = traffic.shift.checker
    assert checked
    assert checked(ctx, "5.0", 100).changed
    assert traffic.shift(ctx, "5.0", 100).message == (
        "traffic is at 5.0 100 %, 5.1 0 % already; the routes of those who opted in follow"
    )
    assert world.opted_in() == "stable"
    assert not checked(ctx, "5.0", 100).changed
    traffic.shift(ctx, "5.1", 5)
    assert world.opted_in() == "canary"


def test_a_route_that_leads_to_stable_by_its_own_will_stays_there(
    ctx: TaskContext, world: World
) -> None:
    pinned = {"match": [{"uri": {"prefix": "/old"}}], "route": [destination("stable")]}
    wanted = virtual_service()
    wanted["spec"]["http"].insert(0, pinned)
    world.cluster.put(wanted)
    green(world, 1)
    for version, percent in (("5.1", 5), ("5.0", 100), ("5.1", 5)):
        traffic.shift(ctx, version, percent)
        assert world.cluster.read(VIRTUAL_SERVICE)["spec"]["http"][0] == pinned


def test_a_rollback_onto_nobody_is_refused(ctx: TaskContext, world: World) -> None:
    green(world, 3)
    traffic.shift(ctx, "5.1", 100)
    world.cluster.put(app("claude-enhancer-blue", "5.0", 0))
    before = world.weights()
    with pytest.raises(Refused, match=r"no pod of 5\.0 is ready: all traffic to it would fail"):
        traffic.shift(ctx, "5.0", 100)
    assert world.weights() == before
    assert traffic.shift(ctx, "5.0", 100, force=True).data["overloaded"]
    assert world.weights() == AT_START


def test_a_rollback_to_fewer_pods_than_wanted_is_done_and_said(
    ctx: TaskContext, world: World
) -> None:
    green(world, 3)
    traffic.shift(ctx, "5.1", 100)
    world.cluster.put(app("claude-enhancer-blue", "5.0", 2))
    result = traffic.shift(ctx, "5.0", 100)
    assert result.data["overloaded"]
    assert "5.0 has 2 of the 3 ready pods that 100 % of the traffic need" in result.message
    assert world.weights() == AT_START


def test_a_rollback_moves_what_it_can_reach_and_names_the_rest(
    make_context: MakeContext, world: World, tmp_path: Path
) -> None:
    green(world, 3)
    traffic.shift(make_context(world.inventory()), "5.1", 100)
    gone = f"unix:{tmp_path}/gone"
    inventory = world.inventory()
    inventory["haproxy"] = {"edge": {"address": [gone, world.haproxy.admin]}}
    with pytest.raises(Unreachable) as caught:
        traffic.shift(make_context(inventory, seconds=1), "5.0", 100)
    assert f"HAProxy at {gone} could not be moved" in caught.value.message
    assert caught.value.data["not_moved"] == [f"HAProxy at {gone}"]
    assert world.weights() == AT_START


def test_a_rollback_also_takes_back_routes_that_differ(ctx: TaskContext, world: World) -> None:
    def to(path: str, share: int) -> dict[str, Any]:
        route = [destination("stable", 100 - share), destination("canary", share)]
        return {"match": [{"uri": {"prefix": path}}], "route": route}

    world.cluster.put(virtual_service(to("/a", 10), to("/b", 80)))
    result = traffic.shift(ctx, "5.0", 100)
    assert result.data["before"]["istio"] is None
    routes = world.cluster.read(VIRTUAL_SERVICE)["spec"]["http"]
    assert [one["weight"] for route in routes for one in route["route"]] == [100, 0, 100, 0]


def test_without_the_cluster_a_rollback_needs_force(
    make_context: MakeContext, world: World
) -> None:
    world.haproxy.ask("set server claude_split/stable weight 50")
    world.haproxy.ask("set server claude_split/canary weight 50")
    inventory = world.inventory()
    inventory["kubectl"] = {"server": "http://127.0.0.1:1", "namespace": NAMESPACE}
    with pytest.raises(Unreachable) as caught:
        traffic.shift(make_context(inventory, seconds=1), "5.0", 100)
    assert "`force: true` moves the layers that can be reached" in caught.value.hint
    with pytest.raises(Unreachable, match=r"VirtualService .* could not be moved"):
        traffic.shift(make_context(inventory, seconds=1), "5.0", 100, force=True)
    assert world.haproxy.weights() == {"stable": 100, "canary": 0}


# -- looking ------------------------------------------------------------------------------------
def test_check_shows_every_layer_and_warns_of_missing_pods(
    make_context: MakeContext, world: World
) -> None:
    ctx = make_context(world.inventory(), mode="check")
    checked = traffic.shift.checker
    assert checked
    result = checked(ctx, "5.1", 100)
    assert result.changed
    assert "refused as things are now: 5.1 has 0 of the 3 ready pods" in result.message
    for layer in ("istio", "haproxy", "service"):
        assert f"+++ ce-run/traffic/{layer}" in result.diff
    assert "-5.0: 100\n" in result.diff
    assert result.data["shares"] == {"5.1": 100, "5.0": 0}
    assert set(result.data) == set(traffic.shift(make_context(world.inventory()), "5.0", 100).data)
    assert world.weights() == AT_START


def test_read_tells_the_layers_and_whether_they_agree(ctx: TaskContext, world: World) -> None:
    green(world, 1)
    result = traffic.read(ctx)
    assert result.data == {
        "shares": {"5.0": 100, "5.1": 0},
        "layers": {
            "istio": {"5.0": 100, "5.1": 0},
            "haproxy": {"5.0": 100, "5.1": 0},
            "service": {"5.0": 100, "5.1": 0},
        },
        "agree": True,
        "differences": [],
        "capacity": {"5.0": {"ready": 3, "percent": 100}, "5.1": {"ready": 1, "percent": 33}},
        "within_capacity": True,
    }
    world.haproxy.ask("set server claude_split/canary weight 100")
    world.cluster.put(the_service(version="5.1"))
    odd = traffic.read(ctx).data
    assert not odd["agree"]
    assert odd["differences"] == [
        "HAProxy edge, backend claude_split: 5.0 50 %, 5.1 50 %, not 5.0 100 %, 5.1 0 %",
        "Service claude-enhancer-service selects 5.1, which has no share",
    ]


def test_a_partial_reading_tells_what_can_be_read(make_context: MakeContext, world: World) -> None:
    inventory = world.inventory()
    inventory["kubectl"] = {"server": "http://127.0.0.1:1", "namespace": NAMESPACE}
    with pytest.raises(Unreachable):
        traffic.read(make_context(inventory))
    data = traffic.read(make_context(inventory), partial=True).data
    assert (data["agree"], data["shares"], data["capacity"]) == (False, {"5.0": 100, "5.1": 0}, {})
    assert data["lines"][1] == "HAProxy edge, backend claude_split: 5.0 100 %, 5.1 0 %"
    assert data["lines"][2].startswith("Service claude-enhancer-service: not known (the cluster at")


def test_layers_that_the_inventory_leaves_out_are_left_alone(
    make_context: MakeContext, world: World
) -> None:
    green(world, 3)
    ctx = make_context(world.inventory(haproxy=None, virtual_service=""))
    result = traffic.shift(ctx, "5.1", 100)
    assert list(result.data["layers"]) == ["service"]
    assert world.weights() == (AT_START[0], AT_START[1], "5.1")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"versions": {"stable": "5.0"}}, "must name stable and canary"),
        ({"pods_for_full_load": 0}, "must be a number of pods, not 0"),
        ({"subsets": {"5.0": "stable"}}, "must name a subset for 5.0 and for 5.1"),
        ({"haproxy": {"servers": {}}}, "needs a `backend`"),
        ({"haproxy": {"backend": "b", "servers": {"5.0": "s"}}}, "servers of 5.0 and 5.1"),
        ({"selector": {}}, "`traffic.selector` in the inventory must be a mapping"),
        ({"wait": 3}, "unknown keys in the inventory's traffic section: wait"),
    ],
)
def test_a_section_that_makes_no_sense_is_refused(
    make_context: MakeContext, world: World, change: dict[str, Any], words: str
) -> None:
    with pytest.raises(Refused) as caught:
        traffic.read(make_context(world.inventory(**change)))
    assert words in caught.value.message


def test_a_version_or_percentage_that_is_not_there(ctx: TaskContext) -> None:
    with pytest.raises(Refused, match=r"no version '5\.2'") as caught:
        traffic.shift(ctx, "5.2", 5)
    assert caught.value.hint == "`traffic.versions` in the inventory has 5.0 and 5.1"
    with pytest.raises(Refused, match="0 to 100, not 101"):
        traffic.shift(ctx, "5.1", 101)


def test_a_service_that_is_not_there_is_found_before_anything_moves(
    make_context: MakeContext, world: World
) -> None:
    green(world, 1)
    with pytest.raises(Failed, match="Service typo is not there"):
        traffic.shift(make_context(world.inventory(service="typo")), "5.1", 5)
    assert world.weights() == AT_START
