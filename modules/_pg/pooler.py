"""What a script may not do behind a connection pooler: leave something in a borrowed session.

A pooler that hands out sessions by transaction (PgBouncer's ``pool_mode = transaction``) gives ours
to the application as soon as the script has committed, with every setting, lock and temporary table
that outlasts a transaction. What a function does inside cannot be seen here.
"""

from __future__ import annotations

import re

from engine.module_api import Refused
from modules._pg import text as pg_text

_STAY = {
    "RESET": "settings are the session's; in a transaction write SET LOCAL … TO DEFAULT",
    "LISTEN": "it listens as long as the session lives",
    "UNLISTEN": "the session's other users may listen",
    "PREPARE": "a prepared statement stays in the session",
    "DEALLOCATE": "the session's other users may have prepared it",
    "LOAD": "a library stays loaded in the session",
    "DISCARD": "the session is not ours alone",
}
_LOCAL = ("LOCAL", "CONSTRAINTS", "TRANSACTION")
_TEMPORARY = re.compile(r"\b(?:CREATE|INTO)\s+(?:(?:GLOBAL|LOCAL)\s+)?TEMP(?:ORARY)?\b", re.I)
_AT_COMMIT = re.compile(r"\bON\s+COMMIT\s+DROP\b", re.I)
_SETTING = re.compile(r"\bset_config\s*\((?![^()]*,\s*true\s*\))", re.I)
_LOCK = re.compile(r"\bpg_(?:try_)?advisory_lock(?:_shared)?\s*\(", re.I)
_SET_IN_BODY = re.compile(
    r"(?:;|\$|\bBEGIN|\bTHEN|\bELSE|\bLOOP)\s*SET\s+(?!LOCAL\b|CONSTRAINTS\b|TRANSACTION\b)", re.I
)


def refuse_what_stays(statements: list[pg_text.Statement]) -> None:
    """Refuse, before anything is sent, a statement that would leave something in the session."""
    for statement in statements:
        if reason := _staying(statement):
            raise Refused(
                f"line {statement.line}: {statement.short}: the database is reached through a "
                f"connection pooler, and {reason}",
                hint="the next transaction in that session is somebody else's; or use a connection "
                "to the server itself",
            )


def _staying(statement: pg_text.Statement) -> str:
    """Why a statement leaves something behind; empty if it does not."""
    words = statement.words
    first, second = (*words[:2], "", "")[:2]
    if first == "CREATE" and {"FUNCTION", "PROCEDURE"} & set(words):
        return ""  # its body runs another time
    if first == "SET" and second not in _LOCAL:
        return "SET holds for the session; write SET LOCAL, which ends with the script"
    if first in _STAY:
        return _STAY[first]
    code = pg_text.code(statement.text)
    if first == "DECLARE" and re.search(r"\bWITH\s+HOLD\b", code, re.I):
        return "a cursor WITH HOLD stays in the session"
    if _TEMPORARY.search(code) and not _AT_COMMIT.search(code):
        return "a temporary table stays in the session unless it is made ON COMMIT DROP"
    if _SETTING.search(code):
        return "set_config holds for the session unless its third argument is true"
    if _LOCK.search(code):
        return "this lock outlasts the script; take it with pg_advisory_xact_lock"
    if first == "DO" and _SET_IN_BODY.search(code):
        return "SET holds for the session; write SET LOCAL, which ends with the script"
    return ""
