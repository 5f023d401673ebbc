"""Every route of a VirtualService that leads to the versions is shifted, or named."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.executor import TaskContext
from engine.module_api import Refused
from modules import traffic
from tests.modules.conftest import MakeContext
from tests.modules.real_haproxy import RealHAProxy
from tests.modules.traffic_world import (
    AT_START,
    VIRTUAL_SERVICE,
    World,
    destination,
    green,
    virtual_service,
    world_of,
)

_MORE = """
backend three
    balance roundrobin
    server stable unix@{folder}/stable weight 60
    server canary unix@{folder}/canary weight 40
    server legacy unix@{folder}/stable weight 20
backend sorry
    balance roundrobin
    server stable unix@{folder}/stable weight 100
    server canary unix@{folder}/canary weight 0
    server sorry unix@{folder}/stable backup
backend warm
    balance roundrobin
    server stable unix@{folder}/stable weight 100
    server canary unix@{folder}/canary weight 0 slowstart 60s check inter 100ms
backend dead
    balance roundrobin
    server stable unix@{folder}/stable weight 60
    server canary 127.0.0.1:1 weight 40 check inter 100ms fall 1
"""


@pytest.fixture(scope="module")
def haproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHAProxy]:
    with RealHAProxy(tmp_path_factory.mktemp("h"), _MORE) as running:
        yield running


@pytest.fixture
def world(tmp_path: Path, haproxy: RealHAProxy) -> Iterator[World]:
    with world_of(tmp_path, haproxy) as world:
        green(world, 3)
        yield world


@pytest.fixture
def ctx(make_context: MakeContext, world: World) -> TaskContext:
    return make_context(world.inventory(), seconds=20)


def split(stable: int) -> list[dict[str, Any]]:
    return [destination("stable", stable), destination("canary", 100 - stable)]


def apply(world: World, *http: dict[str, Any], **sections: Any) -> None:
    """A VirtualService with these http routes and sections beside them."""
    item = virtual_service(*(http or ({"route": split(60)},)))
    item["spec"].update(sections)
    world.cluster.put(item)


def spec(world: World) -> Any:
    return world.cluster.read(VIRTUAL_SERVICE)["spec"]


SNI = [{"port": 443, "sniHosts": ["claude-enhancer.example.com"]}]
TLS = [{"match": SNI, "route": split(60)}]
TCP = [{"route": split(60)}]


def test_routes_of_tls_and_tcp_move_with_those_of_http(ctx: TaskContext, world: World) -> None:
    apply(world, tls=TLS, tcp=TCP)
    assert traffic.shift(ctx, "5.1", 5).changed
    for section in ("http", "tls", "tcp"):
        assert [one["weight"] for one in spec(world)[section][0]["route"]] == [95, 5]
    traffic.shift(ctx, "5.0", 100)
    for section in ("http", "tls", "tcp"):
        assert [one["weight"] for one in spec(world)[section][0]["route"]] == [100, 0]
    assert traffic.read(ctx).data["agree"]


def test_a_route_of_tls_that_keeps_its_own_share_is_a_disagreement(
    ctx: TaskContext, world: World
) -> None:
    apply(world, {"route": split(100)}, tls=TLS)
    data = traffic.read(ctx).data
    assert (data["agree"], data["layers"]["istio"]) == (False, None)
    assert data["differences"][0].endswith("have different weights")
    assert any(line.endswith("5.0 60 %, 5.1 40 %") for line in data["differences"])


UNCLEAR: dict[str, tuple[dict[str, Any], str]] = {
    "mirror": (
        {"name": "shadow", "route": split(100), "mirror": destination("canary")["destination"]},
        "route shadow of VirtualService claude-enhancer-traffic mirrors requests to canary",
    ),
    "mirrors": (
        {"route": split(100), "mirrors": [{**destination("canary"), "percentage": {"value": 10}}]},
        "mirrors requests to canary",
    ),
    "third subset by path": (
        {"match": [{"uri": {"prefix": "/b"}}], "route": [destination("beta")]},
        "leads to subset beta",
    ),
    "no subset": (
        {"match": [{"uri": {"prefix": "/b"}}], "route": [{"destination": {"host": "HOST"}}]},
        "leads to subset claude-enhancer-service without a subset",
    ),
    "delegate": (
        {"match": [{"uri": {"prefix": "/b"}}], "delegate": {"name": "inner"}},
        "delegates to VirtualService inner, which leads to the versions, too",
    ),
}


@pytest.mark.parametrize("kind", UNCLEAR)
def test_what_leads_to_the_versions_past_the_weights_is_refused_by_name(
    ctx: TaskContext, world: World, kind: str
) -> None:
    route, words = UNCLEAR[kind]
    for one in route.get("route", []):
        one["destination"]["host"] = "claude-enhancer-service.claude-enhancer.svc.cluster.local"
    inner = virtual_service({"route": split(60)})
    inner["metadata"]["name"] = "inner"
    world.cluster.put(inner)
    apply(world, route, {"route": split(100)})
    before = spec(world)
    with pytest.raises(Refused) as caught:
        traffic.shift(ctx, "5.1", 5)
    assert words in caught.value.message
    assert (spec(world), world.haproxy.weights()) == (before, AT_START[1])
    assert words in "\n".join(traffic.read(ctx).data["differences"])


def test_a_rollback_moves_what_it_understands_and_names_the_rest(
    make_context: MakeContext, world: World
) -> None:
    route, words = UNCLEAR["mirror"]
    apply(world, {**route, "route": split(20)})
    with pytest.raises(Refused) as caught:
        traffic.shift(make_context(world.inventory(), seconds=1), "5.0", 100)
    assert words in "\n".join(caught.value.evidence)
    assert [one["weight"] for one in spec(world)["http"][0]["route"]] == [100, 0]
    assert world.weights()[1:] == AT_START[1:]


def test_routes_that_lead_elsewhere_are_left_as_they_are(ctx: TaskContext, world: World) -> None:
    elsewhere: list[dict[str, Any]] = [
        {"match": [{"uri": {"prefix": "/old"}}], "redirect": {"uri": "/new"}},
        {"match": [{"uri": {"prefix": "/ping"}}], "directResponse": {"status": 200}},
        {"match": [{"uri": {"prefix": "/img"}}], "route": [{"destination": {"host": "images"}}]},
        {"match": [{"headers": {"x-beta": {"exact": "1"}}}], "route": [destination("beta")]},
        {"match": [{"uri": {"prefix": "/admin"}}], "delegate": {"name": "of-others"}},
    ]
    apply(world, *elsewhere, {"route": split(100)})
    traffic.shift(ctx, "5.1", 5)
    assert spec(world)["http"][:-1] == elsewhere
    assert traffic.read(ctx).data["agree"]


def test_a_route_to_stable_alone_leads_to_the_canary_while_stable_has_no_share(
    ctx: TaskContext, world: World
) -> None:
    pinned = {"match": [{"uri": {"prefix": "/old"}}], "route": [destination("stable")]}
    apply(world, pinned, {"route": split(100)})
    traffic.shift(ctx, "5.1", 100)
    assert spec(world)["http"][0]["route"] == [destination("canary")]
    traffic.shift(ctx, "5.0", 100)
    assert spec(world)["http"][0] == pinned


def test_several_destinations_of_a_version_share_what_it_gets(
    ctx: TaskContext, world: World
) -> None:
    other = {"destination": {"host": "second-service", "subset": "stable"}, "weight": 20}
    route = [destination("stable", 60), other, destination("canary", 20)]
    apply(world, {"route": route})
    traffic.shift(ctx, "5.1", 40)
    after = spec(world)["http"][0]["route"]
    assert [one["weight"] for one in after] == [45, 15, 40]
    assert after[1]["destination"]["host"] == "second-service"


def test_weights_that_are_proportions_are_read_as_such(ctx: TaskContext, world: World) -> None:
    apply(world, {"route": [destination("stable", 3), destination("canary", 1)]})
    assert traffic.read(ctx).data["layers"]["istio"] == {"5.0": 75, "5.1": 25}


# -- HAProxy ------------------------------------------------------------------------------------
def backend(world: World, name: str) -> dict[str, dict[str, Any]]:
    """An inventory whose only layer is a backend of HAProxy."""
    part = {
        "connection": "edge",
        "backend": name,
        "servers": {"5.0": "stable", "5.1": "canary"},
    }
    return world.inventory(haproxy=part, service="", virtual_service="")


def test_servers_of_no_version_that_take_traffic_are_refused(
    make_context: MakeContext, world: World
) -> None:
    ctx = make_context(backend(world, "three"))
    with pytest.raises(Refused, match="also sends traffic to legacy, which belongs to no version"):
        traffic.shift(ctx, "5.1", 5)
    assert world.haproxy.weights("three") == {"stable": 60, "canary": 40, "legacy": 20}
    world.haproxy.ask("set server three/legacy state drain")
    assert traffic.shift(ctx, "5.1", 5).changed


def test_backup_servers_take_no_traffic(make_context: MakeContext, world: World) -> None:
    assert traffic.shift(make_context(backend(world, "sorry")), "5.1", 5).changed


def test_a_server_that_warms_up_may_have_a_share(make_context: MakeContext, world: World) -> None:
    world.haproxy.ask("set server warm/canary state maint; set server warm/canary state ready")
    ctx = make_context(backend(world, "warm"), seconds=10)
    while world.haproxy.ask("show servers state warm").splitlines()[3].split()[5] != "1":
        ctx.sleep(0.02)
    assert traffic.shift(ctx, "5.1", 5).changed


def test_a_server_that_is_down_with_a_share_is_told(
    make_context: MakeContext, world: World
) -> None:
    ctx = make_context(backend(world, "dead"), seconds=10)
    while not traffic.read(ctx).data["differences"]:
        ctx.sleep(0.02)
    data = traffic.read(ctx).data
    assert not data["agree"]
    assert data["differences"] == [
        f"HAProxy at {world.haproxy.admin} has no server for 5.1: canary down/ready"
    ]
