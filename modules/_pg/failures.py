"""What PostgreSQL's errors mean to a run, in our words, with the server's own as evidence."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from engine.module_api import ActionError, Failed, Refused, TimedOut, Unreachable

if TYPE_CHECKING:
    import psycopg

    from modules._pg.database import Database

_POOLER_GAVE_UP = re.compile(
    r"query_wait_timeout|server conn crashed|server_login_retry|pooler|pgbouncer|bouncer config"
    r"|client_\w+_timeout|idle_transaction_timeout|server_lifetime|database (?:removed|does not)"
)


def not_connected(database: Database, error: psycopg.Error) -> ActionError:
    """What it means that no connection came about."""
    words = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(words)
    if re.search(
        r"authentication failed|no password supplied|pg_hba|does not exist|permission denied"
        r"|certificate|invalid|unsupported|SSL|no such (?:database|user)",
        text,
    ):
        tls = "SSL" in text or "certificate" in text
        return Refused(
            f"the database {database} refused the connection",
            hint=f"check `sql.{database.name}` of the inventory"
            + (": `sslrootcert` names the authority, `sslmode` what is checked" if tls else ""),
            evidence=words,
        )
    return Unreachable(
        f"the database {database} cannot be reached",
        hint="does the server run, and are host and port right?",
        evidence=words,
    )


def in_our_words(error: psycopg.Error, *, read_only: bool = False) -> ActionError:
    """What a query's failure means to the run; `read_only` if we wanted to read alone."""
    import psycopg

    evidence = _evidence(error)
    state = error.sqlstate or ""
    if isinstance(error, psycopg.errors.QueryCanceled):
        return TimedOut("the query was stopped: its time was up", evidence=evidence)
    if state == "25006":
        return _takes_no_writes(read_only, evidence)
    if state == "08P01" and "transaction blocks not allowed" in str(error):
        return Refused(
            "the connection pooler before the database lends no transactions (statement pooling)",
            hint="use a connection to the server itself, or one pooled by transaction",
            evidence=evidence,
        )
    if state == "25001":
        return Refused(
            f"the statement does not fit into this transaction: {first_line(error)}",
            hint="a script is one transaction that begins with the ledger's row; run the statement "
            "with psql in a `shell` step",
            evidence=evidence,
        )
    if state == "42501":
        return Refused(first_line(error), hint="grant it, or use another user", evidence=evidence)
    if _is_lost(error, state):
        return Unreachable(f"the database broke off: {first_line(error)}", evidence=evidence)
    if not state and isinstance(error, psycopg.ProgrammingError):
        return Failed(
            f"the statement cannot be sent: {first_line(error)}",
            hint="with `params`, a % that stands for itself is written %%",
        )
    return Failed(f"the database says: {first_line(error)}", evidence=evidence)


def _is_lost(error: psycopg.Error, state: str) -> bool:
    """Whether the server, or a pooler before it, gave up the connection."""
    import psycopg

    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    if state == "08P01":  # the client's own fault, but PgBouncer gives it to all that it says
        return _POOLER_GAVE_UP.search(str(error)) is not None
    return not state or state[:2] in ("08", "57", "53")


def _takes_no_writes(read_only: bool, evidence: list[str]) -> ActionError:
    if read_only:
        return Refused(
            "the query tries to write, but here only reading is allowed",
            hint="write with sql.script",
            evidence=evidence,
        )
    return Refused(
        "the database takes no writes now",
        hint="it is a replica, or somebody paused writes (default_transaction_read_only)",
        evidence=evidence,
    )


def first_line(error: Exception) -> str:
    """What an error says, without its details."""
    return str(error).strip().split("\n", 1)[0]


def _evidence(error: psycopg.Error) -> list[str]:
    diagnosis = error.diag
    parts = {
        "detail": diagnosis.message_detail,
        "hint": diagnosis.message_hint,
        "where": diagnosis.context,
    }
    first = f"{diagnosis.severity or 'ERROR'} {error.sqlstate or ''}: {first_line(error)}"
    return [first, *(f"{name}: {text}" for name, text in parts.items() if text)]
