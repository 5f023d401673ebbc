"""Ask and change PostgreSQL databases, back them up and restore them.

Inventory section ``sql``, a connection a name; a step that names none uses the only one, or
``primary``::

    sql:
      primary:
        dsn: "postgresql://user:{{ secret('db_password') }}@db.example.com/claude_enhancer"
        # or libpq's parameters: host, port, dbname, user, password, sslmode, sslrootcert, …
        bin: /usr/lib/postgresql/17/bin   # folder of pg_dump and pg_restore; default: found
        backups: /var/backups/ce          # folder of named backups
        maintenance: postgres             # database to connect to while another is swapped

Every write is exactly-once by a row in ``ce_run.ledger`` that commits in the same transaction::

    CREATE TABLE ce_run.ledger (key text PRIMARY KEY, run text, step text,
                                statements integer, at timestamptz);

The schema is made on first use; `ledger: false` refuses it. A cancelled or timed-out query is
cancelled on the server, a cancelled pg_dump ended with its children. Tools older than the
server are never used. Behind a connection pooler (PgBouncer) queries and scripts leave nothing in
its sessions; a statement that would (``SET`` without ``LOCAL``, a temporary table, a session's
lock) is refused there, and so are backups and restores, which need a session of their own. A
server that is not on this machine has to prove who it is (`sslmode` is ``verify-full`` unless the
connection says otherwise, which a run warns about).
"""

from __future__ import annotations

from typing import Any, Literal

from engine.module_api import (
    Arguments,
    Context,
    Duration,
    Failed,
    File,
    Probe,
    Refused,
    Result,
    action,
    count,
)
from modules._pg import admin as pg_admin
from modules._pg import backup as pg_backup
from modules._pg import beside as pg_beside
from modules._pg import connection as pg_connection
from modules._pg import database as pg_database
from modules._pg import ledger as pg_ledger
from modules._pg import pooler as pg_pooler
from modules._pg import query as pg_query
from modules._pg import restore as pg_restore
from modules._pg import script as pg_script
from modules._pg import simulated as pg_simulated


@action(effect="read")
def query(
    ctx: Context,
    sql: str,
    *,
    database: pg_database.DatabaseName = "",
    params: list[Any] | dict[str, Any] | None = None,
    limit: int = 1000,
) -> Result:
    """Run one statement in a read-only transaction and return its rows.

    Result data: ``rows`` (a list of mappings column → value), ``columns``, ``rowcount``,
    ``value`` (first column of the first row, null without rows), ``truncated`` (there were more
    rows than `limit`, or than 1 MiB has room for). Numbers stay numbers (cast a ``numeric`` to
    text to keep more digits than a float has), times are ISO 8601 text (PostgreSQL's own where
    that has none, as for ``infinity``), intervals seconds, bytes ``\\x…``; of two columns ``n``
    the second is ``n_2``. A statement that tries to write is refused by the server. Effect read.

    Args:
        sql: the statement; ``%s`` or ``%(name)s`` stand for `params`.
        database: a connection of the inventory's `sql`.
        params: values for the placeholders, sent apart from the statement.
        limit: how many rows to fetch at most.
    """
    data = pg_query.fetch(ctx, sql, pg_database.lookup(ctx, database), params, limit)
    first = "the first " if data["truncated"] else ""
    return Result(data=data, message=f"{first}{count(data['rowcount'], 'row')}")


@action(effect="read")
def assert_(
    ctx: Context,
    sql: str,
    expect: pg_query.Expected,
    *,
    database: pg_database.DatabaseName = "",
    params: list[Any] | dict[str, Any] | None = None,
    fail_msg: str = "",
) -> Result:
    """Run a query as `sql.query` does and fail unless it returns what is expected.

    Result data: as of `sql.query`. Effect read.

    Args:
        sql: the statement; ``%s`` or ``%(name)s`` stand for `params`.
        expect: any of ``value``, ``rows``, ``rowcount``, ``that`` (expressions).
        database: a connection of the inventory's `sql`.
        params: values for the placeholders.
        fail_msg: what to say when it fails; default: what was expected and what came.
    """
    expected = pg_query.expectations(expect)
    data = pg_query.fetch(ctx, sql, pg_database.lookup(ctx, database), params, 1000)
    reasons = pg_query.unmet(ctx, expected, data)
    if not reasons:
        return Result(data=data, message="as expected")
    raise Failed(
        fail_msg or reasons[0],
        evidence=[*(reasons if fail_msg else reasons[1:]), f"query: {sql.strip()[:200]}"],
        data=data,
    )


@action(effect="once")
def script(
    ctx: Context,
    sql: str = "",
    *,
    file: File | None = None,
    database: pg_database.DatabaseName = "",
    template: bool = False,
    ledger: bool = True,
    lock_timeout: Duration | None = None,
) -> Result:
    """Run a script in one transaction, exactly once: all of its statements, or none.

    Result data: ``statements`` (how many), ``rowcount`` (rows that they changed),
    ``already_done`` (the ledger had it: nothing was run now), ``key`` (of the ledger's row),
    ``at`` (when it committed, null without ledger). ``changed`` unless it was done already.

    Effect once. The transaction begins with a row in ``ce_run.ledger``, so after a crash at any
    instant, or a connection lost while committing, the ledger tells whether it happened. Without
    ledger only a person can. Statements that cannot run in a transaction (VACUUM, CREATE INDEX
    CONCURRENTLY, …) and transaction control are refused before anything runs.

    Args:
        sql: the statements.
        file: a file with them, below the runbook's folder, instead.
        database: a connection of the inventory's `sql`.
        template: whether to render templates in the file.
        ledger: whether to keep the ledger.
        lock_timeout: how long a statement may wait for a lock; default: as the server says.
    """
    statements = pg_script.statements(ctx, sql, file, template)
    target = pg_database.lookup(ctx, database)
    with pg_connection.connect(ctx, target) as connection:
        if pg_connection.pooled(connection):
            pg_pooler.refuse_what_stays(statements)
        if ledger:
            pg_ledger.prepare(ctx, connection)
        pg_script.begin(ctx, connection, lock_timeout)
        return pg_script.transaction(ctx, connection, statements, ledger)


@script.check
def script_check(ctx: Context, args: Arguments) -> Result:
    """Show the statements; nothing of them is sent, but the database and its ledger are asked."""
    statements = pg_script.statements(ctx, args.sql, args.file, args.template)
    database = pg_database.lookup(ctx, args.database)
    with pg_connection.reading(ctx, database) as connection:
        entry = pg_ledger.find(connection, ctx.key) if args.ledger else None
    if entry is not None:
        return pg_script.done_already(entry, len(statements))
    lines = [f"+ {line}" for one in statements for line in f"{one.text};".splitlines()]
    return Result(
        changed=True,
        data=pg_script.data(ctx, len(statements), 0, None),
        diff="\n".join([*lines, ""]),
        message=f"would run {count(len(statements), 'statement')} in one transaction",
    )


@script.probe
def script_probe(ctx: Context, args: Arguments) -> Probe:
    """Ask the ledger."""
    if not args.ledger:
        return Probe("unknown", message="the script keeps no ledger (`ledger: false`)")
    database = pg_database.lookup(ctx, args.database)
    with pg_connection.reading(ctx, database) as connection:
        entry = pg_ledger.find(connection, ctx.key)
    if entry is None:
        # Its transaction may still be open on the server: then the next try waits for its end.
        return Probe("not_done", message="the ledger has no row of it")
    return Probe(
        "done", pg_script.done_already(entry, entry.statements), f"committed at {entry.at}"
    )


@action(effect="idempotent")
def backup(
    ctx: Context,
    to: str,
    *,
    database: pg_database.DatabaseName = "",
    as_: Literal["file", "copy"] = "file",
) -> Result:
    """Back a database up under a name: a dump file, or a copy as a database of its own.

    The dump and its manifest come from one snapshot: rows and a checksum of every table, and the
    sequences. A file is read back with ``pg_restore --list`` and takes its name only when it is
    whole (``NAME.dump`` and ``NAME.json`` in the connection's `backups` folder); a copy is
    compared with the manifest, table by table, before it gets its name.

    Result data: ``name``, ``database``, ``as``, ``path`` (of the dump; empty for a copy),
    ``tables`` (rows by ``schema.table``; ``large objects`` are one more), ``rows``, ``bytes``,
    ``sha256``, ``at`` (of the snapshot, UTC). Effect idempotent: what this task has finished stays
    as it is; a name that another run has taken is refused.

    Args:
        to: the name: letters, digits and ``_ . : + @ -``.
        database: a connection of the inventory's `sql`.
        as: ``file`` or ``copy``.
    """
    name = pg_backup.checked_name(to)
    source = pg_database.lookup(ctx, database)
    take = pg_backup.take_file if as_ == "file" else pg_backup.take_copy
    manifest, is_new = take(ctx, source, name)
    verb = "backed up" if is_new else "already backed up"
    return Result(
        changed=is_new,
        data=pg_backup.data(ctx, source, manifest, as_),
        message=f"{verb} {manifest.size} as {name}",
    )


@backup.check
def backup_check(ctx: Context, args: Arguments) -> Result:
    """Count what would be backed up, and see that there are tools and a place for it."""
    name = pg_backup.checked_name(args.to)
    source = pg_database.lookup(ctx, args.database)
    there = (
        pg_backup.Folder(ctx, source).find(name)
        if args.as_ == "file"
        else pg_backup.find_copy(ctx, source, name)
    )
    if there is not None:
        data = pg_backup.data(ctx, source, there, args.as_)
        return Result(data=data, message=f"{name} is there")
    manifest = pg_backup.manifest_of(ctx, source, name, pg_backup.contents_of(ctx, source))
    return Result(
        changed=True,
        data=pg_backup.data(ctx, source, manifest, args.as_),
        diff=f"+ backup {name}: {manifest.size}\n",
        message=f"would back {source} up as {name}",
    )


@action(effect="read")
def verify_backup(
    ctx: Context, name: str, *, database: pg_database.DatabaseName = "", sha256: str = ""
) -> Result:
    """Check that a named backup is whole, without restoring it.

    Of a file the checksum must be the one that was taken, and ``pg_restore --list`` must find the
    data of every table in it; a copy is compared with its manifest, table by table. Result data:
    as of `sql.backup`. Effect read.

    Args:
        name: the name of a backup, a file or a copy.
        database: a connection of the inventory's `sql`.
        sha256: the checksum that the dump must have, if it was kept elsewhere, too.
    """
    source = pg_database.lookup(ctx, database)
    manifest, file = pg_backup.examine(ctx, source, name)
    if sha256 and sha256 != manifest.sha256:
        raise Refused(
            f"the backup {name} is another one than expected: its checksum is {manifest.sha256}",
            hint="somebody replaced the dump and its manifest",
            evidence=[f"expected: {sha256}"],
        )
    return Result(
        data=pg_backup.data(ctx, source, manifest, "copy" if file is None else "file"),
        message=f"{name} is whole: {len(manifest.tables)} tables, {manifest.rows} rows of "
        f"{manifest.at}",
    )


@action(effect="idempotent")
def restore(
    ctx: Context,
    from_: str,
    *,
    database: pg_database.DatabaseName = "",
    keep: bool = True,
    keep_as: str = "",
    replication: pg_beside.Replication = "refuse",
) -> Result:
    """Restore a named backup: into a scratch database, verified, then swapped in by renaming.

    The database in use is not touched before the scratch one holds, table by table, the rows and
    checksums of the backup's manifest. The swap is one transaction; sessions of the old database
    are ended for it. Owner, tablespace, settings and privileges of the database stay; the old one
    is kept under another name, and its comment says for which backup. Event triggers come back
    last, so that none fires on the way; a backup's subscriptions do not. A database with prepared
    transactions is refused before a session is ended. A crash at any instant leaves one of the two
    in place, and a repetition goes on from there. The user must own the database and may need to
    be superuser.

    Result data: ``backup``, ``database``, ``old`` (name of the database set aside, empty if
    there is none), ``tables`` (rows by ``schema.table``), ``rows``, ``set_aside``: by table how
    many rows were ``added`` and ``changed`` after the backup (acknowledged, and now only in the
    old database) and how many ``deleted`` since (and now back), ``set_aside_rows``, the sum of
    the first two, ``earlier``: the same by table for each database that restores before this
    one have set aside and that is still there, and ``left_behind``: ``slots`` and
    ``subscriptions`` of the old database. Pause writers for it: what is written to the new
    database before it is compared counts as deleted. Effect idempotent.

    Args:
        from: the name of a backup, a file or a copy.
        database: a connection of the inventory's `sql`.
        keep: whether to keep the old database; drop it later with `sql.drop-database`.
        keep_as: its name; default: ``<database>_before_<digits>``.
        replication: what to do about logical replication slots and subscriptions, which stay with
            the old database: ``refuse`` to restore, or ``leave`` them, with a warning.
    """
    target = pg_database.lookup(ctx, database)
    return pg_restore.restore(ctx, target, from_, keep_as, pg_restore.Terms(keep, replication))


@restore.check
def restore_check(ctx: Context, args: Arguments) -> Result:
    """Compare the database with the backup."""
    target = pg_database.lookup(ctx, args.database)
    used = pg_restore.names(ctx, target, args.from_, args.keep_as)
    manifest, _ = pg_backup.find(ctx, target, args.from_)
    with pg_admin.connect(ctx, target) as connection:
        done = pg_restore.swapped(connection, used)
        there = pg_admin.exists(connection, target.dbname)
        kept = pg_restore.noted(connection, used) if done else pg_restore.Kept()
        terms = pg_restore.Terms(args.keep, args.replication)
        behind = pg_restore.left_behind(ctx, connection, used, terms, done)
    lines = pg_backup.contents_of(ctx, target).differences(manifest) if there else []
    return Result(
        changed=not done,
        data=pg_restore.data(manifest, target.dbname, used.old if there else "", kept, behind),
        diff="".join(f"- {line}\n" for line in lines) if not done else "",
        message=f"would restore {args.from_}, taken at {manifest.at}",
    )


@action(effect="idempotent")
def drop_database(
    ctx: Context, name: str, *, database: pg_database.DatabaseName = "", missing_ok: bool = True
) -> Result:
    """Drop a database that a restore has set aside, or a copy that is no longer needed.

    Result data: ``name``, ``existed``, ``slots`` (logical replication slots that went with it).
    Refused are the connection's own database, and one with prepared transactions, subscriptions or
    a slot that somebody reads, which the server does not drop. Effect idempotent.

    Args:
        name: the database to drop; its sessions are ended.
        database: a connection of the inventory's `sql` to the same server.
        missing_ok: whether it may be gone already.
    """
    target = pg_database.lookup(ctx, database)
    with pg_admin.connect(ctx, target) as connection:
        there = _droppable(connection, target, name, missing_ok)
        beside = pg_beside.before_drop(ctx, connection, name)
        if there:
            with ctx.fence():
                pg_admin.drop(connection, name)
    return Result(changed=there, data={"name": name, "existed": there, "slots": beside.slots})


@drop_database.check
def drop_database_check(ctx: Context, args: Arguments) -> Result:
    """Say whether there is anything to drop."""
    target = pg_database.lookup(ctx, args.database)
    with pg_admin.connect(ctx, target) as connection:
        there = _droppable(connection, target, args.name, args.missing_ok)
        beside = pg_beside.before_drop(ctx, connection, args.name)
    diff = f"- database {args.name}\n" if there else ""
    data = {"name": args.name, "existed": there, "slots": beside.slots}
    return Result(changed=there, data=data, diff=diff)


def _droppable(connection: Any, target: pg_database.Database, name: str, missing_ok: bool) -> bool:
    if name in (target.dbname, target.maintenance, "template0", "template1"):
        raise Refused(f"{name} is in use, it is not dropped")
    there = pg_admin.exists(connection, name)
    if not there and not missing_ok:
        raise Failed(f"there is no database {name}")
    return there


@action(effect="idempotent")
def prune(
    ctx: Context,
    older_than: Duration,
    *,
    database: pg_database.DatabaseName = "",
    prefix: str = "",
    keep: int = 1,
) -> Result:
    """Remove backup files that are older than they need to be kept.

    Result data: ``removed``, their names. Effect idempotent.

    Args:
        older_than: the age from which on they go, such as ``168h``.
        database: a connection of the inventory's `sql`.
        prefix: only those whose name begins so.
        keep: how many of the newest stay, whatever their age.
    """
    folder = pg_backup.Folder(ctx, pg_database.lookup(ctx, database))
    names = pg_backup.expired(ctx, folder, older_than, prefix, keep)
    for name in names:
        with ctx.fence():
            pg_backup.remove(folder, name)
    return Result(changed=bool(names), data={"removed": names})


@prune.check
def prune_check(ctx: Context, args: Arguments) -> Result:
    """List what would be removed."""
    folder = pg_backup.Folder(ctx, pg_database.lookup(ctx, args.database))
    names = pg_backup.expired(ctx, folder, args.older_than, args.prefix, args.keep)
    diff = "".join(f"- backup {name}\n" for name in names)
    return Result(changed=bool(names), data={"removed": names}, diff=diff)


# -- in a simulated world -----------------------------------------------------------------------
query.simulate(pg_simulated.query)
assert_.simulate(pg_simulated.assert_)
script.simulate(pg_simulated.script)
backup.simulate(pg_simulated.backup)
verify_backup.simulate(pg_simulated.verify_backup)
restore.simulate(pg_simulated.restore)
drop_database.simulate(pg_simulated.drop_database)
prune.simulate(pg_simulated.prune)
