"""What a database holds, as figures: rows and a checksum per table, and its sequences.

The checksum is a sum over the rows' MD5, so it does not depend on their order, and is taken
with fixed settings for how values are written, so that it is the same on another server. Large
objects count as one more table; views and materialised views have no rows of their own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from engine.module_api import Context, count

if TYPE_CHECKING:
    import psycopg
    from psycopg.sql import Composable

_TABLES = """
SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind = 'r' AND c.relpersistence <> 't'
  AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND n.nspname NOT LIKE 'pg\\_toast%'
  AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e'
                  AND d.classid = 'pg_class'::regclass)
ORDER BY 1, 2
"""
_SEQUENCES = """
SELECT schemaname, sequencename, last_value FROM pg_sequences
WHERE NOT EXISTS (SELECT FROM pg_depend d WHERE d.deptype = 'e'
                  AND d.classid = 'pg_class'::regclass
                  AND d.objid = format('%I.%I', schemaname, sequencename)::regclass)
ORDER BY 1, 2
"""
# Pieces of 8 MiB, as an object may be larger than a value can be.
_LARGE_OBJECTS = """
SELECT m.oid::text AS key, md5(string_agg(md5(p.data), '' ORDER BY p.at)) AS digest
FROM pg_largeobject_metadata m, LATERAL (
    WITH RECURSIVE piece (at, data) AS (
        SELECT 0::bigint, lo_get(m.oid, 0, 8388608)
        UNION ALL
        SELECT at + 8388608, lo_get(m.oid, at + 8388608, 8388608) FROM piece
        WHERE length(data) = 8388608
    ) SELECT at, data FROM piece
) p GROUP BY m.oid
"""
LARGE_OBJECTS = "large objects"
"""Their name among the tables, where there are any."""
_FIXED = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "iso_8601",
    "extra_float_digits": "1",
    "bytea_output": "hex",
    "lc_monetary": "C",
    "search_path": "pg_catalog",
    "row_security": "off",  # rather an error than rows that we may not see
}


class Table(msgspec.Struct, frozen=True):
    """Rows of a table and the checksum over them."""

    rows: int
    checksum: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """What a backup holds, and where it comes from. Kept as JSON beside it."""

    name: str
    database: str
    server: str = ""
    """Version of the server."""
    at: str
    """UTC, ISO 8601: when the snapshot was taken."""
    run: str
    key: str
    tables: dict[str, Table]
    sequences: dict[str, int | None]
    bytes: int = 0
    sha256: str = ""
    """Of the dump file; empty for a copy."""

    @property
    def rows(self) -> int:
        """Rows of all tables."""
        return sum(table.rows for table in self.tables.values())

    @property
    def size(self) -> str:
        """How much it is, for people."""
        return f"{count(len(self.tables), 'table')}, {count(self.rows, 'row')}"


class Contents(msgspec.Struct, frozen=True):
    """Tables (``schema.table``) and sequences of a database."""

    tables: dict[str, Table]
    sequences: dict[str, int | None]
    places: dict[str, tuple[str, str]]
    """Schema and name of each table."""

    def differences(self, other: Manifest, *, copy: bool = False) -> list[str]:
        """What is not as in the manifest, one line each.

        In a `copy` made from the backup a sequence may be ahead: it belongs to no snapshot, so
        whoever writes during a backup moves it between our look at it and pg_dump's. Behind it
        would give out numbers twice.
        """
        lines = []
        for name in sorted(self.tables.keys() | other.tables.keys()):
            here, there = self.tables.get(name), other.tables.get(name)
            if here is None or there is None:
                lines.append(f"{name} is {'missing' if here is None else 'not in the backup'}")
            elif here.rows != there.rows:
                lines.append(f"{name} has {here.rows} rows, the backup {there.rows}")
            elif here.checksum != there.checksum:
                lines.append(f"{name} has other contents than the backup")
        lines += [
            f"sequence {name} is at {self.sequences.get(name)}, the backup at {value}"
            for name, value in other.sequences.items()
            if not _agree(self.sequences.get(name, -1), value, copy)
        ]
        return lines


def _agree(here: int | None, there: int | None, copy: bool) -> bool:
    """Whether a sequence is where the backup has it, or, in a copy, beyond; None is unused."""
    return here == there or (copy and here is not None and here > (there or 0))


def fix_settings(connection: psycopg.Connection[Any]) -> None:
    """Have values written the same way everywhere, for the rest of the transaction."""
    connection.execute(
        "SELECT " + ", ".join("set_config(%s, %s, true)" for _ in _FIXED),
        [word for pair in _FIXED.items() for word in pair],
    )


def take(ctx: Context, connection: psycopg.Connection[Any]) -> Contents:
    """Count and sum up everything, in the connection's transaction."""
    fix_settings(connection)
    tables = {}
    tables_there = connection.execute(_TABLES.encode()).fetchall()
    places = {label(schema, table): (schema, table) for schema, table in tables_there}
    for number, (name, place) in enumerate(places.items(), 1):
        ctx.checkpoint()
        tables[name] = _sum(connection, rows(place, []))
        ctx.progress(f"counted {name} ({number}/{len(places)})")
    large = _sum(connection, rows(None, []))
    if large.rows:
        tables[LARGE_OBJECTS] = large
    sequences = {
        label(schema, name): last
        for schema, name, last in connection.execute(_SEQUENCES.encode()).fetchall()
    }
    return Contents(tables, sequences, places)


def label(schema: str, name: str) -> str:
    """``schema.name``; a part that has a dot itself in quotes, so that no two are the same."""
    return ".".join(
        '"' + part.replace('"', '""') + '"' if "." in part else part for part in (schema, name)
    )


def rows(place: tuple[str, str] | None, key: list[str]) -> Composable:
    """A query for the key and the digest of each row of a table, or (None) of each large object.

    Keys are digests, too, of the columns `key` or, without any, of the whole row: they sort the
    same way everywhere.
    """
    from psycopg.sql import SQL, Identifier

    if place is None:
        return SQL(_LARGE_OBJECTS)
    whole = SQL("md5((t.*)::text)")  # not t::text: a column may be called t
    listed = SQL(", ").join(SQL("t.{}").format(Identifier(column)) for column in key)
    chosen = SQL("md5(ROW({})::text)").format(listed) if key else whole
    return SQL("SELECT {} AS key, {} AS digest FROM ONLY {} AS t").format(
        chosen, whole, Identifier(*place)
    )


def _sum(connection: psycopg.Connection[Any], rows: Composable) -> Table:
    return sums(connection, rows, 0).get("", Table(0, "0"))


def sums(connection: psycopg.Connection[Any], rows: Composable, digits: int) -> dict[str, Table]:
    """Count and checksum of the rows whose keys begin with the same so many digits."""
    from psycopg.sql import SQL, Literal

    statement = SQL(
        "SELECT left(key, {}), count(*), sum(('x' || left(digest, 16))::bit(64)::bigint)::text"
        " FROM ({}) AS found GROUP BY 1"
    ).format(Literal(digits), rows)
    groups = connection.execute(statement).fetchall()
    return {beginning: Table(count, checksum) for beginning, count, checksum in groups}


def counts(tables: Mapping[str, Table]) -> dict[str, int]:
    """Rows per table, for results."""
    return {name: table.rows for name, table in tables.items()}
