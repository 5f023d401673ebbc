"""Weights and states of a real HAProxy are set, read back, and agree on all load balancers."""

from __future__ import annotations

import http.client
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.executor import TaskContext
from engine.module_api import Cancelled, Failed, Refused, TimedOut, Unreachable
from modules import haproxy
from tests.modules.conftest import MakeContext, Told
from tests.modules.real_haproxy import RealHAProxy

CancelWhen = Callable[[TaskContext, Callable[[], bool]], object]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHAProxy]:
    with RealHAProxy(tmp_path_factory.mktemp("h")) as running:
        yield running


@pytest.fixture
def edge(running: RealHAProxy) -> RealHAProxy:
    running.ask("set server claude_split/stable weight 100")
    running.ask("set server claude_split/canary weight 0")
    for server in ("stable", "canary"):
        running.ask(f"set server claude_split/{server} state ready")
    return running


@pytest.fixture
def ctx(make_context: MakeContext, edge: RealHAProxy) -> TaskContext:
    return make_context({"haproxy": {"edge": {"address": edge.admin}}})


def test_weights_take_effect_together_and_users_see_the_split(
    ctx: TaskContext, edge: RealHAProxy
) -> None:
    result = haproxy.weight(ctx, "claude_split", {"stable": 80, "canary": 20})
    assert result.changed
    assert result.data == {
        "backend": "claude_split",
        "weights": {"stable": 80, "canary": 20},
        "before": {"stable": 100, "canary": 0},
        "shares": {"stable": 80.0, "canary": 20.0},
    }
    assert abs(edge.served(200)["5.1"] - 40) <= 2


def test_weights_that_hold_already_are_no_change(ctx: TaskContext) -> None:
    result = haproxy.weight(ctx, "claude_split", {"stable": 100, "canary": 0})
    assert (result.changed, result.diff) == (False, "")
    assert result.message == "claude_split: already stable 100, canary 0"


def test_check_shows_the_difference_and_leaves_the_weights(
    ctx: TaskContext, edge: RealHAProxy
) -> None:
    checked = haproxy.weight.checker
    assert checked
    result = checked(ctx, "claude_split", {"stable": 95, "canary": 5})
    assert result.changed
    assert result.data["shares"] == {"stable": 95.0, "canary": 5.0}
    assert "-stable: weight 100\n" in result.diff
    assert "+stable: weight 95\n" in result.diff
    assert edge.weights() == {"stable": 100, "canary": 0}


def test_it_works_over_tcp(make_context: MakeContext, edge: RealHAProxy) -> None:
    ctx = make_context({"haproxy": {"edge": {"address": edge.runtime}}})
    haproxy.weight(ctx, "claude_split", {"canary": 7})
    assert edge.weights() == {"stable": 100, "canary": 7}


@pytest.mark.parametrize(
    ("backend", "weights", "words"),
    [
        (
            "claude_splitt",
            {"stable": 1},
            "no backend 'claude_splitt' … did you mean 'claude_split'?",
        ),
        ("claude_split", {"stabel": 1}, "no server 'stabel' … did you mean 'stable'?"),
        ("claude_split", {"stable": 300}, "must be 0 to 256, not 300"),
        ("claude_split", {}, "names no server"),
        ("a; shutdown sessions", {"stable": 1}, "cannot be the name"),
        ("claude_split", {"stable weight 0;": 1}, "cannot be the name"),
        ("fixed", {"one": 5}, "static algorithm"),
    ],
)
def test_what_cannot_be_set_is_said_clearly(
    ctx: TaskContext, edge: RealHAProxy, backend: str, weights: dict[str, int], words: str
) -> None:
    with pytest.raises((Failed, Refused)) as caught:
        haproxy.weight(ctx, backend, weights)
    assert words in caught.value.message
    assert edge.weights() == {"stable": 100, "canary": 0}


def test_a_socket_that_only_reads_is_refused(make_context: MakeContext, edge: RealHAProxy) -> None:
    ctx = make_context({"haproxy": {"edge": {"address": edge.reader}}})
    with pytest.raises(Refused, match="allows reading only"):
        haproxy.weight(ctx, "claude_split", {"stable": 1})


def test_nobody_listening_is_unreachable(make_context: MakeContext, tmp_path: Path) -> None:
    for address in (f"unix:{tmp_path}/none", "127.0.0.1:1"):
        ctx = make_context({"haproxy": {"edge": {"address": address}}})
        with pytest.raises(Unreachable, match="does not answer"):
            haproxy.state(ctx)


@pytest.mark.parametrize(
    ("section", "words"),
    [
        ({}, "no section `haproxy`"),
        ({"edge": {}}, "has no `address`"),
        ({"edge": {"address": "localhost"}}, "not an address"),
        ({"edge": {"address": "h:1", "adress": 1}}, "unknown keys: adress"),
        ({"edge": {"address": "h:1"}, "mesh": {"address": "h:2"}}, "several HAProxy connections"),
        ({"edge": {"address": "h:1", "timeout": "soon"}}, "number of seconds"),
    ],
)
def test_a_section_that_makes_no_sense_is_refused(
    make_context: MakeContext, section: dict[str, Any], words: str
) -> None:
    with pytest.raises(Refused) as caught:
        haproxy.state(make_context({"haproxy": section}))
    assert words in caught.value.message


def test_an_unknown_connection_names_the_nearest(make_context: MakeContext) -> None:
    ctx = make_context({"haproxy": {"edge": {"address": "h:1"}}})
    with pytest.raises(Refused, match="'egde' … did you mean 'edge'"):
        haproxy.state(ctx, connection="egde")


def test_drain_maint_and_ready(ctx: TaskContext, edge: RealHAProxy) -> None:
    haproxy.weight(ctx, "claude_split", {"stable": 50, "canary": 50})
    drained = haproxy.drain(ctx, "claude_split", "canary")
    assert drained.changed
    assert drained.data["before"] == {"canary": "ready"}
    assert edge.served(20) == {"5.0": 20}
    assert haproxy.maint(ctx, "claude_split", ["canary"]).data["before"] == {"canary": "drain"}
    assert not haproxy.maint(ctx, "claude_split", ["canary"]).changed
    assert haproxy.ready(ctx, "claude_split", "canary").changed
    assert abs(edge.served(100)["5.1"] - 50) <= 2


def test_checking_a_state_changes_nothing(ctx: TaskContext, edge: RealHAProxy) -> None:
    checked = haproxy.maint.checker
    assert checked
    result = checked(ctx, "claude_split", "stable")
    assert result.changed
    assert "+stable: maint" in result.diff
    assert haproxy.state(ctx, "claude_split").data["servers"][0]["admin"] == "ready"


def test_state_and_stats_are_typed(ctx: TaskContext, edge: RealHAProxy) -> None:
    servers = haproxy.state(ctx, "claude_split").data["servers"]
    assert servers[0] | {"address": "", "port": 0} == {
        "backend": "claude_split",
        "name": "stable",
        "address": "",
        "port": 0,
        "weight": 100,
        "initial_weight": 100,
        "operational": "up",
        "admin": "ready",
    }
    assert len(haproxy.state(ctx).data["servers"]) == 7
    edge.served(3)
    (row,) = haproxy.stats(ctx, "claude_split", "stable").data["rows"]
    assert row["stot"] >= 3
    assert row["status"] == "no check"
    assert row["rate_lim"] is None
    with pytest.raises(Refused, match="no statistics of nowhere"):
        haproxy.stats(ctx, "nowhere")


def test_waiting_until_drained_sees_the_last_session_end(
    ctx: TaskContext, edge: RealHAProxy, told: Told
) -> None:
    connection = open_session(ctx, edge)

    def report(step: str, task: int, text: str) -> None:
        told.progress.append(text)
        connection.send(b"cde")

    ctx._services.report = report
    result = haproxy.wait_drained(ctx, "claude_split", "stable", every=0.02)
    assert result.data["sessions"] == {"stable": 0}
    assert told.progress[0] == "claude_split: 1 sessions left on stable"
    connection.close()


def open_session(ctx: TaskContext, edge: RealHAProxy) -> http.client.HTTPConnection:
    """A request at server stable that lasts until the rest of its body is sent."""
    connection = http.client.HTTPConnection("127.0.0.1", edge.door_port, timeout=5)
    connection.putrequest("POST", "/")
    connection.putheader("Content-Length", "5")
    connection.endheaders()
    connection.send(b"ab")
    for _ in range(500):
        if haproxy.stats(ctx, "claude_split", "stable").data["rows"][0]["scur"]:
            return connection
        ctx.sleep(0.01)
    raise AssertionError("the session did not begin")


def test_two_load_balancers_are_set_alike(
    make_context: MakeContext, edge: RealHAProxy, tmp_path: Path
) -> None:
    with RealHAProxy(tmp_path / "b") as other:
        addresses = [edge.admin, other.admin]
        ctx = make_context({"haproxy": {"edge": {"address": addresses}}})
        other.ask("set server claude_split/canary weight 9")
        state = haproxy.state(ctx, "claude_split").data
        assert not state["agree"]
        assert state["differences"] == [
            f"claude_split/canary: weight 0 ready at {edge.admin}, weight 9 ready at {other.admin}"
        ]
        result = haproxy.weight(ctx, "claude_split", {"stable": 60, "canary": 0})
        assert result.data["before"] == {"stable": 100, "canary": 9}
        assert edge.weights() == other.weights() == {"stable": 60, "canary": 0}
        assert haproxy.state(ctx).data["agree"]


def test_one_load_balancer_gone_is_found_before_the_other_is_changed(
    make_context: MakeContext, edge: RealHAProxy, tmp_path: Path
) -> None:
    addresses = [edge.admin, f"unix:{tmp_path}/gone"]
    ctx = make_context({"haproxy": {"edge": {"address": addresses}}})
    with pytest.raises(Unreachable):
        haproxy.weight(ctx, "claude_split", {"stable": 60})
    assert edge.weights() == {"stable": 100, "canary": 0}


def test_a_deadline_and_a_cancellation_end_the_wait(
    make_context: MakeContext, edge: RealHAProxy, cancel_when: CancelWhen, told: Told
) -> None:
    inventory = {"haproxy": {"edge": {"address": edge.admin}}}
    ctx = make_context(inventory)
    connection = open_session(ctx, edge)
    with pytest.raises(TimedOut, match="claude_split: 1 session left on stable"):
        haproxy.wait_drained(make_context(inventory, seconds=0.2), "claude_split", "stable")
    cancel_when(ctx, lambda: len(told.progress) > 1)
    with pytest.raises(Cancelled):
        haproxy.wait_drained(ctx, "claude_split", "stable", every=0.05)
    connection.close()
