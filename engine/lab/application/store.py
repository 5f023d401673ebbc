"""The application's data in PostgreSQL: sessions, orders, workflow states.

One statement a request. A connection that is lost (a restart, a database swapped for its
restored copy) is replaced and the statement tried again for a few seconds, so users see a slow
answer and no error. Every statement here may be repeated safely.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from typing import Any

import psycopg
from psycopg.errors import ReadOnlySqlTransaction

from engine.lab.clock import CLOCK

_CONNECTIONS = 2
_PATIENCE = 5.0  # seconds in which a lost database may come back
_PAUSE = 0.05
_FRESH = 0.5


class WritesPaused(Exception):
    """Writes are paused in the database: by `switches`, or because it is read-only."""


class SessionUnknown(Exception):
    """No session of this id."""


@dataclass(frozen=True, slots=True)
class UserSession:
    """A signed-in user."""

    id: str
    user: str
    created_by_version: str


_PAUSED = "coalesce((SELECT paused FROM switches WHERE name = 'writes'), false)"

_SIGN_IN = f"""
WITH member AS (
    INSERT INTO users (name) SELECT %(user)s WHERE NOT {_PAUSED}
    ON CONFLICT (name) DO UPDATE SET name = excluded.name
    RETURNING id
), made AS (
    INSERT INTO sessions (id, user_id, created_by_version)
    SELECT %(session)s, id, %(version)s FROM member
    ON CONFLICT (id) DO UPDATE SET id = excluded.id
    RETURNING id
)
SELECT (SELECT id FROM made)
"""

_SESSION = """
SELECT users.name, sessions.created_by_version
FROM sessions JOIN users ON users.id = sessions.user_id WHERE sessions.id = %(session)s
"""

_ORDER = f"""
WITH signed_in AS (
    SELECT id FROM sessions WHERE id = %(session)s
), written AS (
    INSERT INTO orders (source, seq, session_id, amount, version)
    SELECT %(source)s, %(seq)s, id, %(amount)s, %(version)s FROM signed_in WHERE NOT {_PAUSED}
    ON CONFLICT (source, seq) DO UPDATE SET source = excluded.source
    RETURNING id
)
SELECT (SELECT id FROM signed_in), (SELECT id FROM written)
"""

_ADVANCE = f"""
WITH signed_in AS (
    SELECT id FROM sessions WHERE id = %(session)s
), moved AS (
    INSERT INTO workflow_states (workflow_id, phase, version)
    SELECT %(workflow)s, 0, %(version)s FROM signed_in WHERE NOT {_PAUSED}
    ON CONFLICT (workflow_id) DO UPDATE SET
        phase = (workflow_states.phase + 1) %% 8,
        rounds = workflow_states.rounds + (workflow_states.phase + 1) / 8,
        version = excluded.version,
        updated_at = now()
    RETURNING phase
)
SELECT (SELECT id FROM signed_in), (SELECT phase FROM moved)
"""


class UserData:
    """The database as the application uses it."""

    def __init__(self, dsn: str, version: str, application: str) -> None:
        self._dsn = dsn
        self._version = version
        self._application = application
        self._idle: list[psycopg.AsyncConnection[Any]] = []
        self._spare: psycopg.AsyncConnection[Any] | None = None
        self._places = asyncio.Semaphore(_CONNECTIONS)
        self._answered_at = 0.0

    async def sign_in(self, user: str) -> str:
        """Open a session; its id. Raises WritesPaused."""
        values = {"user": user, "session": secrets.token_hex(16), "version": self._version}
        row = await self._one(_SIGN_IN, values)
        if row is None or row[0] is None:
            raise WritesPaused
        return str(row[0])

    async def session(self, session: str) -> UserSession:
        """Look a session up. Raises SessionUnknown."""
        row = await self._one(_SESSION, {"session": session})
        if row is None:
            raise SessionUnknown
        return UserSession(session, *row)

    async def order(self, session: str, source: str, seq: int, amount: int) -> int:
        """Write an order; its id, when it is committed. The same (source, seq) is written once.

        Raises SessionUnknown or WritesPaused.
        """
        values = {"session": session, "source": source, "seq": seq, "amount": amount}
        return int(await self._written(_ORDER, values))

    async def advance(self, session: str, workflow: str) -> int:
        """Move a workflow to its next phase; the phase, 0 to 7.

        Raises SessionUnknown or WritesPaused.
        """
        return int(await self._written(_ADVANCE, {"session": session, "workflow": workflow}))

    async def latest_phase(self) -> int:
        """The phase that any workflow moved to last; 0 if there is none."""
        row = await self._one(
            "SELECT phase FROM workflow_states ORDER BY updated_at DESC LIMIT 1", {}
        )
        return int(row[0]) if row else 0

    async def answers(self, timeout: float) -> bool:
        """Whether the database answers now, without waiting for it to come back.

        Users' statements are proof enough; where there were none lately it is asked over a
        connection of its own, so that a queue of users does not look like a dead database.
        """
        if CLOCK.monotonic() - self._answered_at < _FRESH:
            return True
        try:
            async with asyncio.timeout(timeout):
                connection = self._spare or await self._connect()
                self._spare = None
                await connection.execute("SELECT 1")
                self._spare = connection
        except (psycopg.Error, TimeoutError):
            return False
        self._answered_at = CLOCK.monotonic()
        return True

    async def close(self) -> None:
        """Close the connections."""
        spare, self._spare = self._spare, None
        for connection in [*self._idle, *([spare] if spare else [])]:
            await connection.close()
        self._idle.clear()

    async def _written(self, statement: str, values: dict[str, Any]) -> Any:
        try:
            row = await self._one(statement, values | {"version": self._version})
        except ReadOnlySqlTransaction as error:
            raise WritesPaused from error
        if row is None or row[0] is None:
            raise SessionUnknown
        if row[1] is None:
            raise WritesPaused
        return row[1]

    async def _one(self, statement: str, values: dict[str, Any]) -> tuple[Any, ...] | None:
        """The first row of a statement's answer, trying again while the database is away."""
        deadline = asyncio.get_running_loop().time() + _PATIENCE
        while True:
            try:
                return await self._try(statement, values)
            except (psycopg.OperationalError, psycopg.InterfaceError):
                if asyncio.get_running_loop().time() >= deadline:
                    raise
                await asyncio.sleep(_PAUSE)

    async def _try(self, statement: str, values: dict[str, Any]) -> tuple[Any, ...] | None:
        async with self._places:
            connection = self._idle.pop() if self._idle else await self._connect()
            try:
                cursor = await connection.execute(statement, values, prepare=True)
                row: tuple[Any, ...] | None = await cursor.fetchone()
            except psycopg.DataError:
                self._idle.append(connection)
                raise
            except BaseException:
                await connection.close()
                raise
            self._idle.append(connection)
            self._answered_at = CLOCK.monotonic()
            return row

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(
            self._dsn, autocommit=True, connect_timeout=3, application_name=self._application
        )
