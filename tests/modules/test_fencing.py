"""A run that was taken over sends nothing more: each action is stopped at the fence.

What counts is what arrives: servers of every kind count what they are asked, and the fence of the
context is that of a run which has just lost its lock.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.errors import Cancelled
from engine.executor import TaskContext
from engine.module_api import ActionError, Host
from engine.registry import Registry
from modules import (
    docker,
    haproxy,
    http,
    http_check,
    kubectl,
    metrics,
    notify,
    shell,
    sql,
    ssh,
    traffic,
)
from tests.modules.conftest import MakeContext

CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "it"}}


class Lost:
    """The fence of a run that was taken over."""

    def hold(self) -> contextlib.AbstractContextManager[None]:
        """Nothing passes."""
        raise Cancelled("production was taken over by run other; nothing was sent")

    def identity(self) -> dict[str, str]:
        """Headers."""
        return {"X-CE-Run": "run-1", "X-CE-Token": "production=1"}


class Listener:
    """Notes every byte that arrives at a port, and answers nothing."""

    def __init__(self) -> None:
        self.heard = b""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                with connection, contextlib.suppress(OSError):
                    connection.settimeout(0.2)
                    self.heard += connection.recv(65536) or b"<a connection>"

    def close(self) -> None:
        """Stop listening."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


@pytest.fixture
def listener() -> Iterator[Listener]:
    """A port at which somebody listens."""
    made = Listener()
    yield made
    made.close()


def sections(port: int) -> dict[str, dict[str, Any]]:
    """An inventory in which everything is at one port."""
    url = f"http://127.0.0.1:{port}"
    status = {"statuspage": {"url": url, "page": "p", "token": "t"}}
    mail = {"host": "127.0.0.1", "port": port, "from": "a@b.c", "to": "d@e.f", "tls": "none"}
    return {
        "kubectl": {"server": url},
        "sql": {"primary": {"host": "127.0.0.1", "port": port, "dbname": "x", "user": "y"}},
        "haproxy": {"edge": {"address": f"127.0.0.1:{port}"}},
        "metrics": {"rate": {"url": url}},
        "docker": {"host": f"tcp://127.0.0.1:{port}"},
        "traffic": {
            "versions": {"stable": "5.0", "canary": "5.1"},
            "selector": {"app": "x"},
            "service": "x",
            "pods_for_full_load": 3,
        },
        "notify": {
            "channels": {
                "hook": {"webhook": {"url": url}},
                "chat": {"slack": {"webhook": url}},
                "page": {"pagerduty": {"routing_key": "k", "url": url}},
                "status": status,
                "mail": {"smtp": mail},
            }
        },
    }


Act = Callable[[TaskContext, str], Any]

ACTS: dict[str, Act] = {
    "docker.build": lambda ctx, url: docker.build(ctx, ".", "x"),
    "docker.push": lambda ctx, url: docker.push(ctx, "x"),
    "docker.tag": lambda ctx, url: docker.tag(ctx, "x", "y"),
    "docker.inspect-digest": lambda ctx, url: docker.inspect_digest(ctx, "x"),
    "haproxy.drain": lambda ctx, url: haproxy.drain(ctx, "b", "s"),
    "haproxy.maint": lambda ctx, url: haproxy.maint(ctx, "b", "s"),
    "haproxy.ready": lambda ctx, url: haproxy.ready(ctx, "b", "s"),
    "haproxy.weight": lambda ctx, url: haproxy.weight(ctx, "b", {"s": 1}),
    "haproxy.state": lambda ctx, url: haproxy.state(ctx),
    "http": lambda ctx, url: http.request(ctx, url),
    "http-check": lambda ctx, url: http_check.get(ctx, url),
    "kubectl.apply": lambda ctx, url: kubectl.apply(ctx, objects=[CONFIG_MAP]),
    "kubectl.delete": lambda ctx, url: kubectl.delete(ctx, kind="ConfigMap", name="it"),
    "kubectl.exec": lambda ctx, url: kubectl.exec_(ctx, ["true"], pod="x"),
    "kubectl.exec-read": lambda ctx, url: kubectl.exec_read(ctx, ["true"], pod="x"),
    "kubectl.get": lambda ctx, url: kubectl.get(ctx, "ns"),
    "kubectl.patch": lambda ctx, url: kubectl.patch(ctx, "ConfigMap", "it", {"data": {}}),
    "kubectl.rollout-restart": lambda ctx, url: kubectl.rollout_restart(ctx, "x"),
    "kubectl.rollout-undo": lambda ctx, url: kubectl.rollout_undo(ctx, "x"),
    "kubectl.scale": lambda ctx, url: kubectl.scale(ctx, "x", 1),
    "metrics.read": lambda ctx, url: metrics.read(ctx, "rate"),
    "notify": lambda ctx, url: notify.send(ctx, "hook", text="x"),
    "notify chat": lambda ctx, url: notify.send(ctx, "chat", text="x"),
    "notify page": lambda ctx, url: notify.send(ctx, "page", text="x"),
    "notify status": lambda ctx, url: notify.send(ctx, "status", text="x"),
    "notify mail": lambda ctx, url: notify.send(ctx, "mail", text="x"),
    "shell": lambda ctx, url: shell.run(ctx, "touch ran"),
    "sql.backup": lambda ctx, url: sql.backup(ctx, "x", as_="copy"),
    "sql.drop-database": lambda ctx, url: sql.drop_database(ctx, "x"),
    "sql.prune": lambda ctx, url: None,
    "sql.query": lambda ctx, url: sql.query(ctx, "SELECT 1"),
    "sql.restore": lambda ctx, url: sql.restore(ctx, "x"),
    "sql.script": lambda ctx, url: sql.script(ctx, "SELECT 1"),
    "ssh.copy": lambda ctx, url: ssh.copy(ctx, "/there", content="x"),
    "ssh.run": lambda ctx, url: ssh.run(ctx, "touch ran"),
    "traffic.shift": lambda ctx, url: traffic.shift(ctx, "5.1", 5),
}
"""Every action that changes something, and some that read. `sql.prune` removes local files; its
fence is in test_sql_backup."""


def test_every_action_that_changes_something_is_here() -> None:
    registry = Registry()
    modules = [registry.module(name) for name in registry.names()]
    changing = {
        action.name
        for module in modules
        if module is not None
        for action in module.actions.values()
        if action.effect != "read"
    }
    assert changing <= set(ACTS)


@pytest.mark.parametrize("name", ACTS)
def test_a_run_that_was_taken_over_sends_nothing(
    make_context: MakeContext, listener: Listener, root: Path, name: str
) -> None:
    if name == "sql.prune":
        pytest.skip("it asks nobody")
    (root / "Dockerfile").write_text("FROM scratch\n")
    host = Host("far", {"ansible_host": "127.0.0.1", "ansible_port": listener.port})
    ctx = make_context(sections(listener.port), fence=Lost(), host=host, seconds=5)
    with pytest.raises(ActionError) as caught:
        ACTS[name](ctx, f"http://127.0.0.1:{listener.port}")
    assert listener.heard == b""
    assert not (root / "ran").exists()
    assert "nothing was sent" in caught.value.message
