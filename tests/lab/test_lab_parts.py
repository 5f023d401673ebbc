"""The parts of the lab that only compute: percentiles, routes, queries, settings of networks."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.lab.monitoring.promql import QueryError, parse
from engine.lab.network import SERVICES, claim_network
from engine.production.counts import Slice, bucket, increase, ranges, total
from engine.production.routing import Server, routes


@given(st.lists(st.floats(0.0005, 20.0), min_size=1), st.sampled_from([0.5, 0.95, 0.99]))
def test_a_percentile_is_right_to_within_its_bucket(latencies: list[float], share: float) -> None:
    counts = Slice("edge", "5.0")
    for each in latencies:
        increase(counts.latencies, bucket(each))
    exact = sorted(latencies)[max(0, -int(-len(latencies) * share // 1) - 1)]
    found = counts.percentile(share)
    assert found is not None
    assert exact / 1.05 <= found <= exact * 1.05


def test_no_answers_have_no_percentile() -> None:
    assert Slice("edge", "5.0").percentile(0.5) is None


@given(st.sets(st.integers(0, 200)))
def test_ranges_hold_exactly_the_numbers(numbers: set[int]) -> None:
    pairs = ranges(numbers)
    assert {n for first, last in pairs for n in range(first, last + 1)} == numbers
    assert all(pairs[i][1] + 1 < pairs[i + 1][0] for i in range(len(pairs) - 1))


def test_slices_add_up() -> None:
    one = Slice("edge", "5.0", requests=3, failures={"x": 1}, latencies={5: 2})
    two = Slice("mesh", "5.0", requests=2, failures={"x": 1, "y": 1}, latencies={5: 1, 6: 1})
    both = total([one, two], "5.0")
    assert (both.requests, both.failures, both.failed) == (5, {"x": 2, "y": 1}, 3)
    assert both.latencies == {5: 3, 6: 1}


@given(st.text(max_size=40))
def test_any_query_is_parsed_or_refused(text: str) -> None:
    with contextlib.suppress(QueryError):
        assert parse(text).name in text


def _pod(uid: str, name: str, version: str, ip: str, **more: Any) -> dict[str, Any]:
    ready = {"type": "Ready", "status": more.pop("ready", "True")}
    labels = {"app": "claude-enhancer", "version": version, **more.pop("labels", {})}
    return {
        "metadata": {"uid": uid, "name": name, "labels": labels, **more},
        "status": {"podIP": ip, "conditions": [ready]},
    }


ADDRESSES = [{"ip": "10.0.0.1"}, {"ip": "10.0.0.9"}]
ENDPOINTS = {"subsets": [{"addresses": ADDRESSES, "ports": [{"port": 8080}]}]}


def test_routes_follow_endpoints_and_readiness() -> None:
    pods = [
        _pod("b", "claude-enhancer-blue-1-x", "5.0", "10.0.0.1"),
        _pod("g", "claude-enhancer-green-1-x", "5.1", "10.0.0.2"),
        _pod("c", "anything", "5.1", "10.0.0.3", labels={"deployment-type": "canary"}),
        _pod("n", "claude-enhancer-green-1-y", "5.1", "10.0.0.4", ready="False"),
        _pod("d", "claude-enhancer-green-1-z", "5.1", "10.0.0.5", deletionTimestamp="now"),
    ]
    found = routes(pods, ENDPOINTS, None, None)
    assert found.stable == {"b": Server("b", "10.0.0.1", 8080, "blue")}
    assert {uid: server.colour for uid, server in found.canary.items()} == {
        "g": "green",
        "c": "canary",
    }
    assert (found.mesh_weights, found.mesh_headers) == ((100, 0), {})


def test_routes_follow_the_virtual_service_and_its_subsets() -> None:
    def to(subset: str, **more: Any) -> dict[str, Any]:
        return {"destination": {"host": "h", "subset": subset}, **more}

    match = [{"headers": {"x-canary-user": {"exact": "true"}}}]
    service = {
        "spec": {
            "http": [
                {"match": match, "route": [to("canary")]},
                {"route": [to("stable", weight=80), to("canary", weight=20)]},
            ]
        }
    }
    rule = {"spec": {"subsets": [{"name": "canary", "labels": {"version": "6.0"}}]}}
    pods = [_pod("a", "a", "6.0", "10.0.0.1"), _pod("b", "b", "5.1", "10.0.0.2")]
    found = routes(pods, None, service, rule)
    assert found.mesh_weights == (80, 20)
    assert found.mesh_headers == {"true": "canary"}
    assert set(found.canary) == {"a"}
    only = {"spec": {"http": [{"route": [to("canary")]}]}}
    assert routes([], None, only, None).mesh_weights == (0, 100)


def test_a_network_is_claimed_by_one_lab_only(tmp_path: Path) -> None:
    first, second = claim_network(tmp_path), claim_network(tmp_path)
    try:
        assert first.prefix != second.prefix
    finally:
        first.close()
        second.close()
    again = claim_network(tmp_path)
    assert again.prefix == first.prefix
    again.close()


def test_a_port_that_is_taken_is_replaced_for_all_pods(tmp_path: Path) -> None:
    first = claim_network(tmp_path)
    first.close()
    with socket.create_server((f"{first.prefix}.16", 9091)):
        network = claim_network(tmp_path)
        try:
            assert network.pod_ports[9091] != 9091
            assert network.pod_ports[9092] == 9092
        finally:
            network.close()


def test_every_service_has_an_address(tmp_path: Path) -> None:
    network = claim_network(tmp_path)
    try:
        places = {network.address(name) for name in SERVICES if name != "claim"}
        assert len(places) == len(SERVICES) - 1
    finally:
        network.close()


def test_a_parse_error_tells_where() -> None:
    with pytest.raises(QueryError, match=r"1:12: parse error: unexpected character: '\*'"):
        parse("error_rate * 2")
