"""What the tests of modules share: contexts as the engine makes them, and small real servers.

`make_context` builds a `TaskContext` on real services: real clock, real files, an inventory
given as a mapping, expressions and templates evaluated by the same Jinja2 as in a run.
"""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest

from engine.clock import Clock, SystemClock
from engine.executor import Attempt, Fence, NoFence, Services, TaskContext
from engine.module_api import Host, Mode
from engine.templating import Scope, Templates
from tests.modules.backup_world import World
from tests.modules.postgres_server import Postgres


class MakeContext(Protocol):
    """Makes a context; `inventory` maps section names, `scope` holds names for templates."""

    def __call__(
        self,
        inventory: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        step: str = "step",
        scope: Mapping[str, Any] | None = None,
        seconds: float | None = None,
        elapsed: float = 0.0,
        attempt: int = 1,
        mode: Mode = "run",
        host: Host | None = None,
        run_id: str = "run-1",
        secrets: Mapping[str, str] | None = None,
        fence: Fence | None = None,
        clock: Clock | None = None,
    ) -> TaskContext: ...


class Told:
    """What a step told: the lines of its progress, its warnings, what it wants hidden."""

    def __init__(self) -> None:
        self.progress: list[str] = []
        self.warnings: list[str] = []
        self.masked: list[str] = []

    def hide(self, text: str) -> str:
        """A text without what is to be hidden."""
        for value in self.masked:
            text = text.replace(value, "***")
        return text


@pytest.fixture
def told() -> Told:
    """Collects progress lines and masked values of contexts made in this test."""
    return Told()


@pytest.fixture
def make_context(tmp_path: Path, root: Path, told: Told) -> Iterator[MakeContext]:
    """A factory of contexts; `seconds` is the time until the deadline."""
    system = SystemClock()
    made: list[Services] = []
    logs = tmp_path / "logs"
    logs.mkdir(mode=0o700)

    def make(
        inventory: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        step: str = "step",
        scope: Mapping[str, Any] | None = None,
        seconds: float | None = None,
        elapsed: float = 0.0,
        attempt: int = 1,
        mode: Mode = "run",
        host: Host | None = None,
        run_id: str = "run-1",
        secrets: Mapping[str, str] | None = None,
        fence: Fence | None = None,
        clock: Clock | None = None,
    ) -> TaskContext:
        clock = clock or system
        sections, names, templates = inventory or {}, Scope(scope or {}), Templates()
        services = Services(
            run_id=run_id,
            clock=clock,
            root=root,
            logs=logs,
            fence=fence or NoFence(),
            section=lambda name: sections.get(name, {}),
            secret=(lambda name: (secrets or {})[name]),
            mask=told.masked.append,
            masked=told.hide,
            report=lambda step, task, text: told.progress.append(text),
            warn=lambda step, text: told.warnings.append(text),
        )
        made.append(services)
        terms = Attempt(
            step,
            number=attempt,
            mode=mode,
            host=host,
            deadline=None if seconds is None else clock.now() + seconds,
            first_started=clock.now() - elapsed,
        )
        return TaskContext(services, terms, scope=lambda: names, templates=templates)

    yield make
    for services in made:
        services.close()


@pytest.fixture
def ctx(make_context: MakeContext) -> TaskContext:
    """A context with an empty inventory and no deadline."""
    return make_context()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The runbook's folder."""
    folder = tmp_path / "runbooks"
    folder.mkdir()
    return folder


@pytest.fixture
def cancel_when() -> Callable[[TaskContext, Callable[[], bool]], threading.Thread]:
    """Cancel a context, from another thread, as soon as something holds."""
    pause = threading.Event()

    def start(ctx: TaskContext, holds: Callable[[], bool]) -> threading.Thread:
        def watch() -> None:
            while not holds():
                pause.wait(0.01)
            ctx.cancel()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        return thread

    return start


class Request(NamedTuple):
    """What an HTTP server of a test was asked."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


Answer = tuple[int, Any] | tuple[int, Any, dict[str, str]]
"""Status, body (text, bytes, or something that becomes JSON), headers."""


class Server(ThreadingHTTPServer):
    """A real HTTP server on loopback whose answers a function gives; it keeps all requests."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, answer: Callable[[Request], Answer]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = answer
        self.requests: list[Request] = []

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Server

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        request = Request(self.command, self.path, headers, body)
        self.server.requests.append(request)
        status, content, *more = self.server.answer(request)
        extra: dict[str, str] = {"Content-Type": "application/json"}
        if isinstance(content, str):
            extra["Content-Type"] = "text/plain; charset=utf-8"
        extra.update(more[0] if more else {})
        if not isinstance(content, bytes):
            text = content if isinstance(content, str) else json.dumps(content)
            content = text.encode()
        self.send_response(status)
        for name, value in extra.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _serve  # noqa: N815

    def log_message(self, format: str, *args: Any) -> None:
        """Silent."""


class Serve(Protocol):
    """Starts an HTTP server, with TLS if it is given settings for it."""

    def __call__(
        self, answer: Callable[[Request], Answer], tls: ssl.SSLContext | None = None
    ) -> Server: ...


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start HTTP servers that end with the test."""
    with contextlib.ExitStack() as stack:

        def start(answer: Callable[[Request], Answer], tls: ssl.SSLContext | None = None) -> Server:
            server = Server(answer)
            if tls is not None:
                server.socket = tls.wrap_socket(server.socket, server_side=True)
            thread = threading.Thread(
                target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
            )
            thread.start()
            stack.callback(server.server_close)
            stack.callback(server.shutdown)
            return server

        yield start


class Certificate(NamedTuple):
    """A self-signed certificate for 127.0.0.1: its file, and a server's TLS settings."""

    file: Path
    server: ssl.SSLContext


@pytest.fixture
def certificate(tmp_path: Path) -> Callable[[float], Certificate]:
    """Make a certificate that is good for so many days from now."""
    return lambda days: make_certificate(tmp_path, days)


def make_certificate(folder: Path, days: float) -> Certificate:
    """A self-signed certificate for 127.0.0.1 in a folder."""
    import ipaddress
    from datetime import UTC, datetime, timedelta

    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), False
        )
        .sign(key, hashes.SHA256())
    )
    file, secret = folder / "certificate.pem", folder / "key.pem"
    file.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file, secret)
    return Certificate(file, server)


@pytest.fixture(scope="package")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Postgres]:
    """A PostgreSQL server for all tests; each makes databases of its own."""
    folder = tmp_path_factory.mktemp("postgres")
    server = Postgres(folder)
    yield server
    server.stop()


@pytest.fixture
def db(postgres: Postgres) -> str:
    """A database of one's own."""
    return postgres.fresh()


@pytest.fixture
def pg_ctx(make_context: MakeContext, postgres: Postgres, db: str) -> TaskContext:
    """A context whose inventory has that database as its only connection."""
    return make_context({"sql": {"primary": postgres.entry(db)}})


@pytest.fixture
def world(postgres: Postgres, make_context: MakeContext, tmp_path: Path) -> World:
    """A database with tables, and a folder for its backups."""
    return World(postgres, make_context, tmp_path / "backups")
