"""A real Docker engine and registry for tests: started by root, on a socket and loopback."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from tests.services import UNPACKED, missing, program

INSTALL = "apt-get install docker.io docker-registry"


class DockerServer:
    """``dockerd`` without a bridge or a firewall rule, and a registry that it may push to."""

    def __init__(self, folder: Path, short: Path) -> None:
        """`folder` is for images and logs; `short` for the socket, whose path has a limit."""
        self.folder = folder
        self.host = f"unix://{short}/docker.sock"
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.registry = f"127.0.0.1:{probe.getsockname()[1]}"
        if os.geteuid() != 0:
            missing("a Docker engine of one's own", "only root can start one")
        engine, registry = program("dockerd", INSTALL), program("docker-registry", INSTALL)
        self._socket = short / "docker.sock"
        self._processes = [
            self._start("registry", registry, "serve", str(self._registry_file())),
            self._start(
                "dockerd", engine, "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec",
                "-p", f"{folder}/pid", "-H", self.host, "--bridge=none", "--iptables=false",
                "--ip6tables=false", "--default-ulimit", "nofile=4096:4096",
                "--storage-driver", "vfs", "--shutdown-timeout", "1",
            ),
        ]  # fmt: skip
        self._wait("dockerd", self._socket.exists)
        self._wait("registry", self._registry_answers)

    def _registry_file(self) -> Path:
        file = self.folder / "registry.yml"
        file.write_text(
            "version: 0.1\nstorage:\n  filesystem:\n"
            f"    rootdirectory: {self.folder}/images\nhttp:\n  addr: {self.registry}\n"
        )
        return file

    def _start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        path = os.pathsep.join(
            (f"{UNPACKED}/bin", f"{UNPACKED}/sbin", os.environ["PATH"], "/usr/sbin", "/sbin")
        )
        with (self.folder / f"{name}.log").open("w") as log:
            return subprocess.Popen(
                command, stdout=log, stderr=log, env={**os.environ, "PATH": path}
            )

    def _registry_answers(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://{self.registry}/v2/"):
                return True
        except urllib.error.URLError:
            return False

    def _wait(self, name: str, ready: Callable[[], bool]) -> None:
        pause = threading.Event()
        for _ in range(1000):
            if ready():
                return
            ended = [each for each in self._processes if each.poll() is not None]
            assert not ended, (self.folder / f"{name}.log").read_text()
            pause.wait(0.02)
        raise AssertionError(f"{name} did not get ready")

    def stop(self) -> None:
        """End both, the engine with its containerd."""
        for process in reversed(self._processes):
            process.terminate()
        for process in self._processes:
            process.wait(20)
