"""Where a lab keeps its files, and the description of a running lab that others read.

`<state>/lab/` holds everything that a lab writes. `lab.json` in it appears, whole, when the lab
is ready and disappears when it stops: whoever can read it can reach every part. It carries the
database's password, so it is readable by its owner alone, like everything beside it.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import msgspec

from engine.errors import LabError

_SOCKET_PATH_LIMIT = 100  # bytes; the kernel's is 107, HAProxy needs some for its temporary name


class LabInfo(msgspec.Struct, frozen=True, kw_only=True):
    """A running lab: what to connect to. Every address is on loopback."""

    pid: int
    started: str
    """UTC, ISO 8601."""
    folder: str
    network: str
    """The first three bytes of every address of this lab, for example `127.83.7`."""

    app_url: str
    """The edge: HAProxy's front door."""
    app_tls_url: str
    """The same over TLS, with a certificate of the lab's own; empty if there is none."""
    ca_file: str
    """Whom to trust for `app_tls_url`."""
    mesh_url: str
    """The Istio gateway's front door."""
    stats_url: str

    kubernetes_url: str
    kubeconfig: str
    context: str
    namespace: str

    dsn: str
    postgres_host: str
    postgres_port: int
    postgres_user: str
    postgres_password: str
    postgres_database: str
    postgres_bin: str
    """The folder with psql, pg_dump and pg_restore of the server's own version."""

    redis_url: str

    haproxy_socket: str
    """HAProxy's runtime API as a unix socket; empty where the folder's path is too long for one."""
    haproxy_address: str
    """HAProxy's runtime API over TCP, host:port."""

    metrics_url: str
    """Monitoring: `/metrics.json`, and Prometheus' `/api/v1/query` below the same address."""

    inbox_url: str
    slack_url: str
    pagerduty_url: str
    statuspage_url: str
    webhook_url: str
    smtp_host: str
    smtp_port: int

    registry: str
    """The image registry, host:port."""
    docker_host: str
    """The Docker Engine API, `unix://` or `tcp://`."""

    pod_ports: dict[int, int]
    """A container's port and where it really listens; the same unless the machine has it taken."""

    request_rate: float

    request_log: str
    """Every request at the Kubernetes API, one JSON object a line."""


class Layout:
    """The paths of one lab, all below `<state>/lab/`."""

    def __init__(self, state: Path) -> None:
        self.state = state.absolute()
        self.root = self.state / "lab"
        self.info = self.root / "lab.json"
        self.settings = self.root / "settings.json"
        self.lock = self.root / "supervisor.lock"
        self.log = self.root / "supervisor.log"
        self.logs = self.root / "logs"
        self.run = self.root / "run"
        self.control = self.run / "control.sock"
        self.haproxy_socket = self.run / "haproxy.sock"
        self.docker_socket = self.run / "docker.sock"
        self.kubernetes = self.root / "kubernetes"
        self.requests = self.root / "requests.jsonl"
        self.tools = self.run / "tools"
        self.postgres = self.root / "postgres"
        self.pods = self.root / "pods"
        self.configmaps = self.root / "configmaps"
        self.inbox = self.root / "inbox.jsonl"

    def create(self) -> None:
        """Make the folders, closed to everyone else. Raises LabError if that cannot be done."""
        try:
            self.state.mkdir(parents=True, exist_ok=True, mode=0o700)
            for folder in (self.root, self.logs, self.run, self.pods, self.configmaps):
                folder.mkdir(exist_ok=True, mode=0o700)
                folder.chmod(0o700)
        except OSError as error:
            raise LabError(
                f"cannot make the lab's folder {self.root}: {error.strerror}",
                hint="choose another state folder with --state",
            ) from error

    def is_held(self) -> bool:
        """Whether a supervisor holds this folder, which it does from its start to its very end."""
        try:
            with self.lock.open("rb") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False

    def read_info(self) -> LabInfo | None:
        """The running lab's description, or None if none has finished starting here."""
        if not self.is_held():
            return None  # of a lab that was killed
        try:
            return msgspec.json.decode(self.info.read_bytes(), type=LabInfo)
        except FileNotFoundError:
            return None
        except msgspec.MsgspecError:
            return None  # of an older version of ce-run, whose lab is not ours to talk to

    def write_info(self, info: LabInfo) -> None:
        """Publish the description at once and whole."""
        draft = self.info.with_suffix(".new")
        write_private(draft, msgspec.json.format(msgspec.json.encode(info), indent=2))
        draft.replace(self.info)


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner can read, from its first byte on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)


def socket_fits(path: Path) -> bool:
    """Whether programs that know nothing of us can use a unix socket at this path."""
    return len(os.fsencode(path)) <= _SOCKET_PATH_LIMIT


@contextlib.contextmanager
def short_path(path: Path) -> Iterator[str]:
    """A name for a unix socket that fits the kernel's limit however deep the folder lies."""
    folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def bind_unix(path: Path) -> socket.socket:
    """A listening unix socket at a path of any length, replacing one that a dead lab left."""
    path.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with short_path(path) as name:
        listener.bind(name)
    path.chmod(0o600)
    listener.listen(128)
    listener.setblocking(False)
    return listener


def cache_folder() -> Path:
    """Where labs keep what only saves time, for all of this user's labs.

    `CE_RUN_CACHE` names it, else it is the usual place for caches.
    """
    named = os.environ.get("CE_RUN_CACHE")
    if named:
        return Path(named).absolute() / "lab"
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "ce-run" / "lab"
