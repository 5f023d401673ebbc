"""A real PgBouncer in front of the tests' PostgreSQL, with one session a database for everybody."""

from __future__ import annotations

import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import psycopg

from tests.modules.postgres_server import AS_NOBODY, PASSWORD, Postgres
from tests.services import program


class PgBouncer:
    """A running pooler; `entry(dbname)` is a connection through it, as an inventory has it."""

    def __init__(self, folder: Path, postgres: Postgres, mode: str = "transaction") -> None:
        binary = program("pgbouncer", "apt-get install --no-install-recommends pgbouncer")
        self._postgres = postgres
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        users, config = folder / "users.txt", folder / f"{mode}.ini"
        users.write_text(f'"postgres" "{PASSWORD}"\n')
        config.write_text(
            f"[databases]\n* = host=127.0.0.1 port={postgres.port} user=postgres\n"
            f"[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {self.port}\n"
            f"unix_socket_dir =\nauth_type = plain\nauth_file = {users}\n"
            f"pool_mode = {mode}\ndefault_pool_size = 1\n"
        )
        with (folder / "pgbouncer.log").open("w") as log:
            self._process = subprocess.Popen([*AS_NOBODY, binary, str(config)], stderr=log)
        self._log = folder / "pgbouncer.log"
        self._ready()

    def _ready(self) -> None:
        pause = threading.Event()
        for _ in range(500):
            assert self._process.poll() is None, self._log.read_text()
            try:
                socket.create_connection(("127.0.0.1", self.port)).close()
            except OSError:
                pause.wait(0.02)
            else:
                return
        raise AssertionError(self._log.read_text())

    def entry(self, dbname: str, **more: Any) -> dict[str, Any]:
        """A connection through the pooler."""
        return {**self._postgres.entry(dbname, **more), "port": self.port}

    def rows(self, dbname: str, sql: str) -> list[tuple[Any, ...]]:
        """What an application gets that comes through the pooler as well."""
        parameters = {k: v for k, v in self.entry(dbname).items() if k != "bin"}
        with psycopg.connect(autocommit=True, prepare_threshold=None, **parameters) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def stop(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait()
