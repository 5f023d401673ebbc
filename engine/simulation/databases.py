"""Databases of the simulated world: how many rows their tables have, and what backups hold.

SQL is not carried out. Counting the rows of a table is understood, alone and side by side; of a
count with conditions, which in runbooks counts what must not be there, it is *assumed* that there
is nothing. What else a query returns a scenario says, or it is refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import msgspec

from engine.errors import Refused

ORDERS = "public.orders"
"""The table that users' acknowledged writes go to."""

_TABLES = {"public.users": 10_000.0, ORDERS: 250_000.0, "public.sessions": 4_200.0,
           "public.workflow_states": 1_200.0}  # fmt: skip

_COUNT = re.compile(
    r"^SELECT\s+count\(\*\)\s+FROM\s+([\w.]+)(?P<rest>.*)$", re.IGNORECASE | re.DOTALL
)
_CONSTANT = re.compile(r"^SELECT\s+(\d+)$", re.IGNORECASE)
_COLUMN = re.compile(r"^\((?P<inner>.*)\)\s+AS\s+(?P<name>\w+)$", re.IGNORECASE | re.DOTALL)


class Rows(NamedTuple):
    """What a query returned."""

    columns: list[str]
    rows: list[dict[str, Any]]
    assumed: bool = False
    """Nobody knows: it was taken to find nothing wrong."""


class Telling(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a scenario says of queries that fit a pattern."""

    sql: str
    """A regular expression that is found in the statement."""
    rows: list[dict[str, Any]]


class Backup(msgspec.Struct, frozen=True):
    """A named backup."""

    name: str
    at: str
    """UTC, ISO 8601."""
    tables: dict[str, int]
    key: str
    """Of the task that took it."""
    vanished: dict[str, int] = {}
    """Rows that had vanished before it was taken, by table."""

    @property
    def sha256(self) -> str:
        """A checksum that is the same whenever the contents are."""
        text = f"{self.name}{sorted(self.tables.items())}"
        return hashlib.sha256(text.encode()).hexdigest()


class Database:
    """One database.

    Args:
        acknowledged: how many orders users were promised so far.
    """

    def __init__(self, acknowledged: Callable[[], int]) -> None:
        self._acknowledged = acknowledged
        self._counted = acknowledged()
        self._tables = dict(_TABLES)
        self.reachable = True
        self.backups: dict[str, Backup] = {}
        self.vanished: dict[str, int] = {}
        """Table → rows that users were promised and that nobody has any more."""
        self.set_aside: dict[str, dict[str, int]] = {}
        """Databases that restores have set aside → their tables."""
        self.tellings: list[Telling] = [
            # What the shipped deployment asks of its own schema.
            Telling(sql=r"SELECT refused FROM release_\w+\.rehearsals", rows=[{"refused": 0}])
        ]
        """The last one that fits counts."""
        self.scripts: list[str] = []
        """Keys of the tasks whose scripts were committed: the ledger."""

    @property
    def tables(self) -> dict[str, int]:
        """Table → rows, now."""
        written = self._acknowledged() - self._counted
        self._counted += written
        self._tables[ORDERS] += written
        return {name: round(rows) for name, rows in self._tables.items()}

    def back_up(self, name: str, at: str, key: str) -> Backup:
        """Keep what the tables hold now as a named backup."""
        self.backups[name] = Backup(name, at, self.tables, key, dict(self.vanished))
        return self.backups[name]

    def hold(self, tables: Mapping[str, int]) -> None:
        """Have these tables, besides those that are there, with so many rows."""
        self._tables.update({name: float(rows) for name, rows in tables.items()})

    def lose(self, table: str, rows: int) -> None:
        """Rows vanish, as by a mistaken DELETE."""
        there = self.tables[table]
        self._tables[table] = max(0, there - rows)
        self.vanished[table] = self.vanished.get(table, 0) + min(rows, there)

    def replace(self, backup: Backup, keep: bool = True) -> None:
        """From now on the tables hold what a backup held; without `keep` newer rows are nowhere."""
        before = self.tables
        gone = dict(backup.vanished)
        for name, rows in backup.tables.items():
            whole = before.get(name, 0) + self.vanished.get(name, 0)
            newer = whole - rows - backup.vanished.get(name, 0)
            if newer > 0 and not keep:
                gone[name] = gone.get(name, 0) + newer
        self.vanished = gone
        self._tables = {name: float(rows) for name, rows in backup.tables.items()}

    def query(self, sql: str) -> Rows:
        """What a query returns. Raises Refused for one that nobody can answer."""
        text = " ".join(sql.split()).rstrip("; ")
        for telling in reversed(self.tellings):
            if re.search(telling.sql, text):
                return Rows(list(telling.rows[0]) if telling.rows else [], telling.rows)
        if constant := _CONSTANT.match(text):
            return Rows(["?column?"], [{"?column?": int(constant[1])}])
        if counted := self._count(text):
            return Rows(["count"], [{"count": counted[0]}], counted[1])
        row, assumed = {}, False
        for part in _columns(text):
            column = _COLUMN.match(part)
            found = self._count(column["inner"].strip()) if column else None
            if column is None or found is None:
                raise Refused(
                    f"the simulated database cannot answer: {text[:120]}",
                    hint="say in the world file or the scenario what it returns",
                )
            row[column["name"]], unsure = found
            assumed |= unsure
        return Rows(list(row), [row], assumed)

    def _count(self, text: str) -> tuple[int, bool] | None:
        match = _COUNT.match(text)
        if match is None:
            return None
        if match["rest"].strip():
            return 0, True
        name = match[1] if "." in match[1] else f"public.{match[1]}"
        tables = self.tables
        return (tables[name], False) if name in tables else None


def _columns(text: str) -> list[str]:
    """The columns of a SELECT, cut at the commas outside of brackets."""
    if not text.upper().startswith("SELECT "):
        return [text]
    parts, depth, start = list[str](), 0, len("SELECT ")
    for place, sign in enumerate(text):
        depth += (sign == "(") - (sign == ")")
        if sign == "," and depth == 0:
            parts.append(text[start:place].strip())
            start = place + 1
    return [*parts, text[start:].strip()]


__all__ = ["ORDERS", "Backup", "Database", "Rows", "Telling"]
