"""`ce-run` in a process that kills itself at a chosen point of a transaction.

``python -m tests.crash.killed_in_sql NOTES SPOT ARGUMENTS…`` is ``ce-run ARGUMENTS…`` but for
PostgreSQL's driver, which sends SIGKILL to its own process at SPOT (a `SqlSpot` as JSON) and says
so in the file NOTES. Nothing of this is in the engine.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

import msgspec
import psycopg

from engine.cli.main import main
from tests.crash.killed import Death, die

LEDGER = 0
COMMIT = -1


class SqlSpot(msgspec.Struct, frozen=True):
    """Before a statement of the script is sent, when it is sent and nobody has heard of its end,
    or after its end. Statements count from 1; 0 is the ledger's row, -1 the commit."""

    statement: int
    when: Literal["before", "sent", "after"]


class DeadlyConnection(psycopg.Connection[Any]):
    """A connection that is deadly at one point of a script's transaction."""

    notes: Path
    spot: SqlSpot
    _number = -1

    def execute(self, query: Any, *args: Any, **options: Any) -> Any:
        """Count the statements from the ledger's row on."""
        text = query.decode() if isinstance(query, bytes) else str(query)
        if self._number >= LEDGER or text.startswith("INSERT INTO ce_run.ledger"):
            self._number += 1
            self._maybe("before", self._number)
            if self.spot == SqlSpot(self._number, "sent") and self._number > LEDGER:
                self._send(text.encode())
            done = super().execute(query, *args, **options)
            self._maybe("after", self._number)
            return done
        return super().execute(query, *args, **options)

    def commit(self) -> None:
        """Commit, if it comes to that."""
        if self._number < LEDGER:
            super().commit()
            return
        self._number = COMMIT - 1
        self._maybe("before", COMMIT)
        if self.spot == SqlSpot(COMMIT, "sent"):
            self._send(b"COMMIT")
        super().commit()
        self._maybe("after", COMMIT)

    def _send(self, text: bytes) -> None:
        self.pgconn.send_query(text)
        self.pgconn.flush()
        self._die()

    def _maybe(self, when: str, number: int) -> None:
        if self.spot.statement == number and self.spot.when == when:
            self._die()

    def _die(self) -> None:
        die(self.notes, Death("before", self.spot.statement, "sql", self.spot.when))


if __name__ == "__main__":
    DeadlyConnection.notes = Path(sys.argv.pop(1))
    DeadlyConnection.spot = msgspec.json.decode(sys.argv.pop(1), type=SqlSpot)
    psycopg.connect = DeadlyConnection.connect
    main()
