"""Restoring: into a scratch database, verified, then swapped in by renaming.

The database in use is not touched before the copy of the backup beside it holds, table by table,
what the manifest says. The swap is one transaction of two renames, and the comment on the new
database says which task it belongs to: so a crash at any instant leaves either the old or the
new database in place, and whoever resumes sees which. The old one is kept under another name.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from engine.module_api import ActionError, Context, Failed, Refused, Result
from modules._pg import admin as pg_admin
from modules._pg import backup as pg_backup
from modules._pg import beside as pg_beside
from modules._pg import connection as pg_connection
from modules._pg import manifest as pg_manifest
from modules._pg import properties as pg_properties
from modules._pg.database import Database
from modules._pg.manifest import Manifest

if TYPE_CHECKING:
    import psycopg
    from psycopg.sql import Composable

_BATCH = 5000
_BUCKET = 4
"""Hexadecimal digits of a row's key by which rows are compared in bulk first."""
_SHORT = 8
_OURS = re.compile(
    r"\[(?:restored from|set aside for) backup \S+ by ce-run, \w+\](?: (?P<kept>\{.*\}))?"
)
"""What earlier restores have left in a comment."""


class Names(msgspec.Struct, frozen=True):
    """The databases of one restore: in use, scratch, and what the first becomes."""

    target: str
    scratch: str
    old: str
    mark: str
    """What the comment of a verified or swapped-in database has in it."""
    aside: str
    """What the comment of the database set aside ends with."""


class Terms(msgspec.Struct, frozen=True):
    """What becomes of the old database, and of the replication that is bound to it."""

    keep: bool
    replication: pg_beside.Replication


Counts = dict[str, dict[str, int]]
"""By table the rows added, changed and deleted since a backup."""


class Kept(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the comment of a restored database keeps."""

    old: str = ""
    """The database that it took the place of."""
    set_aside: Counts | None = None
    """What that one has beyond the backup; None as long as it was not counted."""
    earlier: dict[str, Counts | None] = {}
    """The same of databases that restores before this one have set aside, and that are there."""


def names(ctx: Context, database: Database, backup: str, keep_as: str) -> Names:
    """The same names in every attempt of a task."""
    import hashlib

    short = hashlib.sha256(f"{ctx.key} {backup}".encode()).hexdigest()[:_SHORT]
    return Names(
        database.dbname,
        pg_admin.derived(database.dbname, f"restore_{short}"),
        keep_as or pg_admin.derived(database.dbname, f"before_{short}"),
        f"[restored from backup {backup} by ce-run, {short}]",
        f"[set aside for backup {backup} by ce-run, {short}]",
    )


def restore(ctx: Context, target: Database, backup: str, keep_as: str, terms: Terms) -> Result:
    """Restore a backup, or go on where an earlier attempt was broken off."""
    used = names(ctx, target, backup, keep_as)
    manifest, _ = pg_backup.find(ctx, target, backup)
    with pg_admin.connect(ctx, target) as connection:
        done = swapped(connection, used)
        behind = left_behind(ctx, connection, used, terms, done)
    if not done:
        prepare(ctx, target, used, backup)
        swap(ctx, target, used, terms)
    kept = set_aside(ctx, target, used, manifest)
    with pg_admin.connect(ctx, target) as connection:
        if not terms.keep:
            with ctx.fence():
                pg_admin.drop(connection, used.old)
        old = used.old if pg_admin.exists(connection, used.old) else ""
    outcome = data(manifest, target.dbname, old, kept, behind)
    newer = [f"{outcome['set_aside_rows']} newer rows are only in {old or 'no database any more'}"]
    newer += [
        f"{beyond(counts)} more were set aside before, in {name}"
        for name, counts in outcome["earlier"].items()
    ]
    message = "; ".join([f"restored {manifest.size} from {backup}", *newer])
    return Result(changed=not done, data=outcome, message=message)


def swapped(connection: psycopg.Connection[Any], used: Names) -> bool:
    """Whether this task's restore is in place already."""
    return used.mark in pg_admin.comment(connection, used.target)


def left_behind(
    ctx: Context, connection: psycopg.Connection[Any], used: Names, terms: Terms, done: bool
) -> pg_beside.Beside:
    """What stays with the old database; Refused where it cannot go, or must not go unseen."""
    if done:
        return pg_beside.look(connection, used.old)
    return pg_beside.before_restore(
        ctx, connection, used.target, replication=terms.replication, keep=terms.keep
    )


def prepare(ctx: Context, database: Database, used: Names, backup: str) -> None:
    """Have the scratch database hold the backup, verified. An unfinished one is made anew."""
    manifest, file = pg_backup.find(ctx, database, backup)
    with pg_admin.connect(ctx, database) as connection:
        if used.mark in pg_admin.comment(connection, used.scratch):
            ctx.progress(f"{used.scratch} holds the backup already, verified")
            return
        _tell_leftovers(ctx, connection, used)
        if pg_admin.exists(connection, used.old):
            raise Refused(
                f"a database {used.old} is there already",
                hint="choose another `keep_as`, or drop it with sql.drop-database",
            )
        if not pg_admin.exists(connection, used.target):
            ctx.warn(
                f"there is no database {used.target} to take owner, settings and privileges from: "
                "the restored one has the server's defaults"
            )
        if file is None:
            _copy(ctx, connection, manifest, used)
        else:
            pg_backup.check_file(ctx, manifest, file)
            _fill(ctx, database, connection, used.scratch, file)
    pg_backup.verify(ctx, database, used.scratch, manifest)
    with pg_connection.session(ctx, database, used.scratch) as scratch:
        ctx.progress(f"verified {used.scratch}; collecting statistics")
        scratch.execute("ANALYZE")
    if file is not None:
        pg_backup.restore_event_triggers(ctx, database, used.scratch, file)
    with pg_admin.connect(ctx, database) as connection, ctx.fence():
        pg_admin.set_comment(connection, used.scratch, used.mark)


def _tell_leftovers(ctx: Context, connection: psycopg.Connection[Any], used: Names) -> None:
    """Name what runs that were broken off, and never resumed, have left on the disk."""
    rows = connection.execute(
        "SELECT datname FROM pg_database WHERE starts_with(datname, %s) AND datname <> %s",
        [used.scratch[:-_SHORT], used.scratch],
    ).fetchall()
    if rows:
        names = ", ".join(str(name) for (name,) in rows)
        ctx.progress(f"left over from other restores: {names} (sql.drop-database drops them)")


def _copy(
    ctx: Context, connection: psycopg.Connection[Any], manifest: Manifest, used: Names
) -> None:
    with ctx.fence():
        pg_admin.drop(connection, used.scratch)
    ctx.progress(f"copying {manifest.name} to {used.scratch}")
    with ctx.fence():
        pg_properties.copy(connection, manifest.name, used.scratch, used.target)


def _fill(
    ctx: Context,
    database: Database,
    connection: psycopg.Connection[Any],
    scratch: str,
    file: Path,
) -> None:
    try:
        pg_backup.fill(ctx, database, connection, scratch, file)
    except Failed:
        # Half a database is good for nothing, and may be what fills the disk of the one in use.
        with contextlib.suppress(ActionError), ctx.fence():
            pg_admin.drop(connection, scratch)
        raise


def swap(ctx: Context, database: Database, used: Names, terms: Terms) -> None:
    """Put the scratch database in the place of the one in use, in one transaction."""
    import psycopg

    with pg_admin.connect(ctx, database) as connection:  # once more: to restore may take long
        left_behind(ctx, connection, used, terms, done=False)
    ctx.progress(f"swapping {used.scratch} in as {used.target}")
    with (
        pg_admin.connect(ctx, database) as connection,
        pg_admin.disconnecting(ctx, database, [used.target, used.scratch]),
    ):
        try:
            with ctx.fence(), connection.transaction():
                _swap(connection, used)
        except psycopg.errors.ObjectInUse as error:
            failed = Failed(
                f"{used.target} could not be swapped: sessions in it did not end",
                hint="pause writers, and let this user end their sessions (pg_signal_backend)",
                evidence=[str(error).strip()],
            )
            raise pg_admin.in_the_way(connection, used.target, failed) from None


def _swap(connection: psycopg.Connection[Any], used: Names) -> None:
    words, kept = "", Kept()
    if pg_admin.exists(connection, used.target):
        pg_properties.take_over(connection, used.target, used.scratch)
        comment = pg_admin.comment(connection, used.target)
        words, last = _OURS.sub("", comment).strip(), _kept(comment)
        before = {**last.earlier, last.old: last.set_aside}
        there = {name: v for name, v in before.items() if pg_admin.exists(connection, name)}
        kept = Kept(used.old, None, there)
        pg_admin.set_comment(connection, used.target, f"{words} {used.aside}".strip())
        pg_admin.rename(connection, used.target, used.old)
    pg_admin.set_comment(connection, used.scratch, _comment(words, used, kept))
    pg_admin.rename(connection, used.scratch, used.target)


# -- what the swap set aside --------------------------------------------------------------------
def set_aside(ctx: Context, database: Database, used: Names, manifest: Manifest) -> Kept:
    """What the old database has beyond the backup, and what earlier restores have set aside.

    It is counted once and kept in the comment of the new database: whoever comes again could no
    longer tell, for the old one may be gone and the new one in use. A restore that was broken off
    between its swap and its count is counted here.
    """
    with pg_admin.connect(ctx, database) as admin:
        kept = noted(admin, used)
        there = {name for name in (used.old, *kept.earlier) if pg_admin.exists(admin, name)}
    if kept.set_aside is not None:
        return kept

    def counted(name: str, before: Counts | None = None) -> Counts:
        if before is not None:
            return before
        return _compare(ctx, database, name, used.target, manifest) if name in there else {}

    kept = Kept(
        used.old,
        counted(used.old),
        {name: counted(name, before) for name, before in kept.earlier.items()},
    )
    with pg_admin.connect(ctx, database) as admin, ctx.fence():
        words = _OURS.sub("", pg_admin.comment(admin, used.target)).strip()
        pg_admin.set_comment(admin, used.target, _comment(words, used, kept))
    return kept


def noted(connection: psycopg.Connection[Any], used: Names) -> Kept:
    """What the comment of the database in use keeps of its last restore."""
    return _kept(pg_admin.comment(connection, used.target))


def _kept(comment: str) -> Kept:
    note = _OURS.search(comment)
    with contextlib.suppress(msgspec.MsgspecError):  # somebody has edited it
        if note and note["kept"]:
            return msgspec.json.decode(note["kept"], type=Kept)
    return Kept()


def _comment(words: str, used: Names, kept: Kept) -> str:
    return f"{words} {used.mark} {msgspec.json.encode(kept).decode()}".strip()


def _compare(
    ctx: Context, database: Database, old_name: str, new_name: str, manifest: Manifest
) -> Counts:
    """By table the rows ``added`` and ``changed``, acknowledged after the backup and now only in
    the old database, and ``deleted`` since and now back. Tables without any are left out."""
    with (
        pg_connection.session(ctx, database, old_name, read_only=True) as old,
        pg_connection.session(ctx, database, new_name, read_only=True) as new,
    ):
        for connection in (old, new):
            connection.execute(f"BEGIN {pg_connection.SNAPSHOT}".encode())
        contents = pg_manifest.take(ctx, old)
        pg_manifest.fix_settings(new)
        counts: Counts = {}
        for name, table in contents.tables.items():
            if table == manifest.tables.get(name):
                continue
            ctx.progress(f"comparing {name}")
            difference = {"added": table.rows, "changed": 0, "deleted": 0}
            if name in manifest.tables:
                difference = _difference(old, new, contents.places.get(name))
            if any(difference.values()):
                counts[name] = difference
        for name in manifest.tables.keys() - contents.tables.keys():
            if gone := manifest.tables[name].rows:
                counts[name] = {"added": 0, "changed": 0, "deleted": gone}
        return counts


def _difference(
    old: psycopg.Connection[Any],
    new: psycopg.Connection[Any],
    place: tuple[str, str] | None,
) -> dict[str, int]:
    """Rows added, changed and deleted, told apart by the primary key where both have the same."""
    import heapq
    import itertools
    import operator

    key = _primary_key(old, place)
    if _primary_key(new, place) != key:
        key = []
    counts = {"added": 0, "changed": 0, "deleted": 0}
    buckets = _differing_buckets(old, new, pg_manifest.rows(place, key))
    streams = [
        _rows(connection, pg_manifest.rows(place, key), side, buckets)
        for side, connection in enumerate((old, new))
    ]
    for _, rows in itertools.groupby(heapq.merge(*streams), key=operator.itemgetter(0)):
        sides: tuple[list[str], list[str]] = ([], [])
        for _, side, digest in rows:
            sides[side].append(digest)
        counts["added"] += max(0, len(sides[0]) - len(sides[1]))
        counts["deleted"] += max(0, len(sides[1]) - len(sides[0]))
        counts["changed"] += bool(sides[0] and sides[1] and sides[0][0] != sides[1][0])
    return counts


def _primary_key(connection: psycopg.Connection[Any], place: tuple[str, str] | None) -> list[str]:
    if place is None:
        return []
    rows = connection.execute(
        "SELECT a.attname FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid"
        " JOIN pg_namespace n ON n.oid = c.relnamespace"
        " JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY(i.indkey)"
        " WHERE i.indisprimary AND n.nspname = %s AND c.relname = %s ORDER BY a.attnum",
        list(place),
    ).fetchall()
    return [row[0] for row in rows]


def _differing_buckets(
    old: psycopg.Connection[Any], new: psycopg.Connection[Any], rows: Composable
) -> list[str]:
    """Beginnings of keys below which the two sides differ: of a large table, most rows are the
    same, and the servers can tell without sending them."""
    sides = [pg_manifest.sums(connection, rows, _BUCKET) for connection in (old, new)]
    names = sides[0].keys() | sides[1].keys()
    return sorted(name for name in names if sides[0].get(name) != sides[1].get(name))


def _rows(
    connection: psycopg.Connection[Any], rows: Composable, side: int, buckets: list[str]
) -> Iterator[tuple[str, int, str]]:
    """Key, side and digest of every row in these buckets, ordered by key."""
    from psycopg.sql import SQL, Literal

    with connection.cursor(name=f"ce_run_{side}") as cursor:
        cursor.itersize = _BATCH
        cursor.execute(
            SQL(
                "SELECT key, digest FROM ({}) AS found WHERE left(key, {}) = ANY({}::text[])"
                ' ORDER BY key COLLATE "C"'
            ).format(rows, Literal(_BUCKET), Literal(buckets))
        )
        for key, digest in cursor:
            yield key, side, digest


def data(
    manifest: Manifest, dbname: str, old: str, kept: Kept, behind: pg_beside.Beside
) -> dict[str, Any]:
    """The result of a restore."""
    aside = kept.set_aside or {}
    return {
        "backup": manifest.name,
        "database": dbname,
        "old": old,
        "tables": pg_manifest.counts(manifest.tables),
        "rows": manifest.rows,
        "set_aside": aside,
        "set_aside_rows": beyond(aside),
        "earlier": {name: counts or {} for name, counts in kept.earlier.items()},
        "left_behind": behind.data(),
    }


def beyond(counts: Counts) -> int:
    """Rows that are now only in a database set aside."""
    return sum(one["added"] + one["changed"] for one in counts.values())
