"""What a server does now is told apart from what a file says of it, and names stay text.

The servers are those of configurations that people have: disabled in the file until somebody
enables them, named by digits, tracked, started slowly, found by name.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from engine.executor import TaskContext
from engine.module_api import Failed
from modules import haproxy
from modules._haproxy import runtime, text
from tests.modules.conftest import MakeContext
from tests.modules.real_haproxy import RealHAProxy

_CONFIG = """
backend tmpl
    server-template node 1-2 unix@{folder}/stable disabled
listen 8080
    mode tcp
    bind unix@{folder}/digits
    server 1 unix@{folder}/waits
    server 02 unix@{folder}/waits weight 0
listen waits
    mode tcp
    bind unix@{folder}/waits
    tcp-request inspect-delay 20s
    tcp-request content accept if {{ req.len gt 5 }}
    server stable unix@{folder}/stable
backend follow
    server leader unix@{folder}/stable check inter 200ms
    server tail unix@{folder}/stable track follow/leader
backend named
    server one localhost:1 resolvers dns init-addr libc,none
resolvers dns
    nameserver one 127.0.0.1:1
    hold timeout 600s
    hold refused 600s
    hold nx 600s
    hold other 600s
"""


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHAProxy]:
    with RealHAProxy(tmp_path_factory.mktemp("h"), _CONFIG) as running:
        yield running


@pytest.fixture
def ctx(make_context: MakeContext, edge: RealHAProxy) -> TaskContext:
    return make_context({"haproxy": {"edge": {"address": edge.admin}}}, seconds=20)


def admin(ctx: TaskContext, backend: str) -> dict[str, str]:
    """Server → administrative state."""
    return {one["name"]: one["admin"] for one in haproxy.state(ctx, backend).data["servers"]}


def status(edge: RealHAProxy, backend: str, server: str) -> str:
    """What HAProxy's own statistics page would show."""
    lines = edge.ask("show stat").splitlines()
    column = lines[0].split(",").index("status")
    (row,) = (line.split(",") for line in lines if line.startswith(f"{backend},{server},"))
    return row[column]


def test_what_the_file_disables_can_be_enabled_and_taken_out(
    ctx: TaskContext, edge: RealHAProxy
) -> None:
    assert admin(ctx, "tmpl") == {"node1": "maint", "node2": "maint"}
    assert haproxy.ready(ctx, "tmpl", "node1").changed
    assert admin(ctx, "tmpl") == {"node1": "ready", "node2": "maint"}
    assert not haproxy.ready(ctx, "tmpl", "node1").changed
    taken_out = haproxy.maint(ctx, "tmpl", "node1")
    assert (taken_out.changed, taken_out.data["before"]) == (True, {"node1": "ready"})
    assert status(edge, "tmpl", "node1") == "MAINT"
    assert not haproxy.maint(ctx, "tmpl", "node1").changed


def test_a_name_that_was_set_at_run_time_is_no_maintenance(
    ctx: TaskContext, edge: RealHAProxy
) -> None:
    edge.ask("set server named/one fqdn elsewhere.example.com")
    haproxy.drain(ctx, "named", "one")
    assert admin(ctx, "named") == {"one": "drain"}
    assert haproxy.ready(ctx, "named", "one").changed
    assert admin(ctx, "named") == {"one": "ready"}


@pytest.mark.parametrize(
    ("flags", "state", "forced"),
    [
        (0x04, "ready", "ready"),
        (0x40, "ready", "ready"),
        (0x44, "ready", "ready"),
        (0x05, "maint", "maint"),
        (0x02, "maint", "ready"),
        (0x20, "maint", "ready"),
        (0x28, "maint", "drain"),
        (0x4C, "drain", "drain"),
        (0x10, "drain", "ready"),
    ],
)
def test_every_bit_of_the_administrative_state(
    edge: RealHAProxy, flags: int, state: str, forced: str
) -> None:
    lines = edge.ask("show servers state tmpl").splitlines()
    cells = lines[2].split()
    cells[6] = str(flags)
    (server,) = text.parse_all_servers(f"1\n{lines[1]}\n{' '.join(cells)}\n")
    assert (server.admin, server.forced) == (state, forced)


def test_a_server_that_is_out_by_another_is_taken_out_itself_and_not_called_ready(
    ctx: TaskContext, edge: RealHAProxy
) -> None:
    haproxy.maint(ctx, "follow", "leader")
    assert admin(ctx, "follow") == {"leader": "maint", "tail": "maint"}
    with pytest.raises(Failed, match="tail is in maint, not ready, as the server that it tracks"):
        haproxy.ready(ctx, "follow", "tail")
    assert haproxy.maint(ctx, "follow", "tail").changed  # it would come back with its leader
    haproxy.ready(ctx, "follow", "leader")
    assert admin(ctx, "follow") == {"leader": "ready", "tail": "maint"}
    haproxy.ready(ctx, "follow", "tail")
    assert admin(ctx, "follow") == {"leader": "ready", "tail": "ready"}


def test_names_of_digits_are_names(ctx: TaskContext, make_context: MakeContext) -> None:
    assert {row["svname"] for row in haproxy.stats(ctx, "8080").data["rows"]} == {
        "FRONTEND",
        "1",
        "02",
        "BACKEND",
    }
    (row,) = haproxy.stats(ctx, "8080", "02").data["rows"]
    assert (row["svname"], row["scur"], row["status"]) == ("02", 0, "no check")


def test_a_session_at_a_server_of_digits_is_waited_for(
    ctx: TaskContext, edge: RealHAProxy, make_context: MakeContext
) -> None:
    client = socket.socket(socket.AF_UNIX)
    client.connect(edge.admin.removeprefix("unix:").replace("/admin", "/digits"))
    while not haproxy.stats(ctx, "8080", "1").data["rows"][0]["scur"]:
        ctx.sleep(0.01)
    progress: list[str] = []

    def hang_up(step: str, task: int, line: str) -> None:
        progress.append(line)
        client.close()

    ctx._services.report = hang_up
    result = haproxy.wait_drained(ctx, "8080", "1", every=0.02)
    assert progress[0] == "8080: 1 sessions left on 1"
    assert result.data["sessions"] == {"1": 0}


def test_a_server_that_goes_away_meanwhile_is_not_called_drained(
    ctx: TaskContext, edge: RealHAProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between finding it and counting its sessions somebody removes it."""
    edge.ask("add server tmpl/dynamic 127.0.0.1:1")
    find = runtime.find

    def find_and_remove(servers: text.Backend, backend: str, name: str) -> object:
        server = find(servers, backend, name)
        edge.ask("set server tmpl/dynamic state maint; del server tmpl/dynamic")
        return server

    monkeypatch.setattr(runtime, "find", find_and_remove)
    with pytest.raises(Failed, match="have no sessions of tmpl/dynamic"):
        haproxy.wait_drained(ctx, "tmpl", "dynamic")
