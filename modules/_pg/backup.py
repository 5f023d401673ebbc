"""Named backups: taken from one snapshot, verified, and there either whole or not at all.

A backup is a dump file with its manifest beside it, or a database of its own (a copy) with its
manifest as the comment on it. The manifest is written last: without it there is no backup.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from engine.module_api import Context, Failed, Refused
from modules._pg import admin as pg_admin
from modules._pg import connection as pg_connection
from modules._pg import manifest as pg_manifest
from modules._pg import properties as pg_properties
from modules._pg import tools as pg_tools
from modules._pg.database import Database
from modules._pg.manifest import Manifest

if TYPE_CHECKING:
    import psycopg

_EVENT_TRIGGER = re.compile(
    r"\d+; \d+ \d+ (?:EVENT TRIGGER|(?:COMMENT|SECURITY LABEL) - EVENT TRIGGER) "
)
_SUBSCRIPTION = re.compile(r"\d+; \d+ \d+ SUBSCRIPTION ")
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:+@-]{0,199}")


def checked_name(name: str) -> str:
    """A backup's name; Refused unless it is a plain file name."""
    if not _NAME.fullmatch(name):
        raise Refused(
            f"{name!r} cannot be the name of a backup",
            hint="letters, digits and _ . : + @ - only, beginning with a letter, digit or _",
        )
    return name


class Folder:
    """The inventory's folder of backup files."""

    def __init__(self, ctx: Context, database: Database) -> None:
        if not database.backups:
            raise Refused(
                f"where do backups of {database.name} belong?",
                hint=f"set `sql: {{{database.name}: {{backups: FOLDER}}}}` in the inventory",
            )
        path = Path(database.backups)
        self.path = path if path.is_absolute() else ctx.file(path)

    def dump(self, name: str) -> Path:
        """The dump file of a backup."""
        return self.path / f"{name}.dump"

    def manifest(self, name: str) -> Path:
        """Its manifest."""
        return self.path / f"{name}.json"

    def find(self, name: str) -> Manifest | None:
        """The manifest of a backup that is whole."""
        with contextlib.suppress(FileNotFoundError):
            return _decode(self.manifest(name).read_bytes(), str(self.manifest(name)))
        return None

    def partial(self, name: str) -> Path:
        """Where a dump is written until it is whole."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise Refused(f"the folder of backups cannot be used: {error}") from None
        return self.path / f".{name}.partial"


def _decode(data: bytes | str, place: str) -> Manifest:
    try:
        return msgspec.json.decode(data, type=Manifest)
    except msgspec.DecodeError as error:
        raise Refused(f"{place} is not the manifest of a backup: {error}") from None


def find(ctx: Context, database: Database, name: str) -> tuple[Manifest, Path | None]:
    """A backup by name, as a file (its path) or a copy (None); Refused if there is neither."""
    checked_name(name)
    if database.backups:
        folder = Folder(ctx, database)
        if manifest := folder.find(name):
            return manifest, folder.dump(name)
    if manifest := find_copy(ctx, database, name):
        return manifest, None
    where = f"in {database.backups} " if database.backups else ""
    raise Refused(
        f"there is no backup {name!r} {where}nor a database of that name with a manifest",
        hint="a dump without its .json beside it is not whole",
    )


def find_copy(ctx: Context, database: Database, name: str) -> Manifest | None:
    """The manifest of a copy."""
    with pg_admin.connect(ctx, database) as connection:
        comment = pg_admin.comment(connection, name)
    if not comment or not comment.startswith("{"):
        return None
    return _decode(comment, f"the comment on database {name}")


# -- taking -------------------------------------------------------------------------------------
def take_file(ctx: Context, database: Database, name: str) -> tuple[Manifest, bool]:
    """Make a backup file; its manifest, and whether it was made now (else by an earlier try)."""
    folder = Folder(ctx, database)
    if earlier := folder.find(name):
        return _ours(ctx, earlier), False
    partial = folder.partial(name)
    partial.unlink(missing_ok=True)
    try:
        manifest = dump(ctx, database, name, partial)
        with ctx.fence():
            _write(folder.path / f".{name}.json.partial", msgspec.json.encode(manifest))
            partial.replace(folder.dump(name))
            (folder.path / f".{name}.json.partial").replace(folder.manifest(name))
            _sync(folder.path)
    finally:
        partial.unlink(missing_ok=True)
    return manifest, True


def _ours(ctx: Context, earlier: Manifest) -> Manifest:
    """An earlier backup of that name, if this very task made it: then it stands as it is."""
    if earlier.key == ctx.key:
        return earlier
    raise Refused(
        f"there is a backup {earlier.name!r} already, taken at {earlier.at} by run {earlier.run}",
        hint="choose another name: backups are never overwritten",
    )


def take_copy(ctx: Context, database: Database, name: str) -> tuple[Manifest, bool]:
    """Make a backup as a database of its own; as `take_file`."""
    if earlier := find_copy(ctx, database, name):
        return _ours(ctx, earlier), False
    scratch = pg_admin.derived(name, "partial")
    file = ctx.folder() / "copy.dump"
    try:
        manifest = dump(ctx, database, name, file)
        with pg_admin.connect(ctx, database) as connection:
            if pg_admin.exists(connection, name):
                raise Refused(f"the database {name} is there already, and is no backup")
            fill(ctx, database, connection, scratch, file)
            verify(ctx, database, scratch, manifest)
            restore_event_triggers(ctx, database, scratch, file)
            with ctx.fence(), connection.transaction():
                encoded = msgspec.json.encode(msgspec.structs.replace(manifest, sha256=""))
                pg_admin.set_comment(connection, scratch, encoded.decode())
                pg_admin.rename(connection, scratch, name)
    finally:
        file.unlink(missing_ok=True)
    return manifest, True


def dump(ctx: Context, database: Database, name: str, file: Path) -> Manifest:
    """Dump to a file from one snapshot, with the figures of that same snapshot."""
    with pg_connection.session(ctx, database) as connection:
        server = connection.info.server_version // 10000
        tools = pg_tools.find(ctx, database, server)
        connection.execute(f"BEGIN {pg_connection.SNAPSHOT}".encode())
        snapshot, at, version = _one(
            connection, "SELECT pg_export_snapshot(), now(), current_setting('server_version')"
        )
        contents = pg_manifest.take(ctx, connection)
        ctx.progress(f"dumping {database}")
        arguments = ["--format=custom", f"--snapshot={snapshot}", f"--file={file}"]
        options = ["--no-password", pg_tools.target(database)]
        file.touch(mode=0o600)
        pg_tools.run(ctx, tools, "pg_dump", database, [*arguments, *options])
    check_list(ctx, tools, database, file, contents.tables)
    return msgspec.structs.replace(
        manifest_of(ctx, database, name, contents),
        server=version,
        at=at.isoformat(),
        bytes=file.stat().st_size,
        sha256=sha256(ctx, file),
    )


def manifest_of(
    ctx: Context, database: Database, name: str, contents: pg_manifest.Contents
) -> Manifest:
    """The manifest of a backup that this task takes now."""
    return Manifest(
        name=name,
        database=database.dbname,
        at=ctx.now().isoformat(),
        run=ctx.run_id,
        key=ctx.key,
        tables=contents.tables,
        sequences=contents.sequences,
    )


def _one(connection: psycopg.Connection[Any], sql: str) -> tuple[Any, ...]:
    row = connection.execute(sql.encode()).fetchone()
    assert row is not None
    values: tuple[Any, ...] = row
    return values


def check_list(
    ctx: Context,
    tools: Path,
    database: Database,
    file: Path,
    tables: Mapping[str, pg_manifest.Table],
) -> None:
    """Read the dump back: pg_restore must find the data of every table in it."""
    listed = pg_tools.run(
        ctx, tools, "pg_restore", database, ["--list", str(file)], quiet=True
    ).stdout
    held = listed.count(" TABLE DATA ")
    expected = len(tables.keys() - {pg_manifest.LARGE_OBJECTS})
    if held < expected:
        raise Failed(
            f"the dump holds the data of {held} tables, the backup has {expected}",
            evidence=listed.splitlines()[-10:],
        )


def check_file(ctx: Context, manifest: Manifest, file: Path) -> None:
    """See that a dump is there and the one that was made."""
    if not file.exists():
        raise Refused(f"the dump {file} is missing, only its manifest is there")
    if sha256(ctx, file) != manifest.sha256:
        size = file.stat().st_size
        raise Failed(
            f"the dump {file} is not the one that was made: its checksum is another",
            hint="it was damaged or replaced; take another backup",
            evidence=[f"it has {size} bytes, the one that was made {manifest.bytes}"],
        )


def sha256(ctx: Context, file: Path) -> str:
    """The checksum of a file."""
    import hashlib

    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 20):
            ctx.checkpoint()
            digest.update(block)
    return digest.hexdigest()


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())


def _sync(folder: Path) -> None:
    """Make the names in a folder survive a loss of power."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# -- filling and verifying another database -----------------------------------------------------
def fill(
    ctx: Context,
    database: Database,
    admin: psycopg.Connection[Any],
    scratch: str,
    file: Path,
) -> None:
    """Make the database `scratch` anew and restore a dump into it, but for its event triggers.

    Neither do its subscriptions come back: they would be others' of the same name, and a database
    that has any cannot be dropped.
    """
    tools = pg_tools.find(ctx, database, admin.info.server_version // 10000)
    with ctx.fence():
        pg_admin.drop(admin, scratch)
    with ctx.fence():
        pg_properties.create_like(admin, scratch, database.dbname)
    ctx.progress(f"restoring into {scratch}")
    entries = _entries(ctx, tools, database, file)
    if subscriptions := [line for line in entries if _SUBSCRIPTION.match(line)]:
        ctx.warn(f"{scratch} gets none of the backup's subscriptions ({len(subscriptions)})")
    triggers = [line for line in entries if _EVENT_TRIGGER.match(line)]
    others = [line for line in entries if line not in triggers] if triggers else []
    _pg_restore(ctx, tools, database, scratch, file, others)


def restore_event_triggers(ctx: Context, database: Database, scratch: str, file: Path) -> None:
    """The event triggers of a dump, after everything else: none may fire on its own restore.

    Such as write down what is changed would add rows of their own to the backup's.
    """
    with pg_admin.connect(ctx, database) as connection:
        tools = pg_tools.find(ctx, database, connection.info.server_version // 10000)
    entries = _entries(ctx, tools, database, file)
    if triggers := [line for line in entries if _EVENT_TRIGGER.match(line)]:
        _pg_restore(ctx, tools, database, scratch, file, triggers)


def _entries(ctx: Context, tools: Path, database: Database, file: Path) -> list[str]:
    """What a dump holds, a line each, as pg_restore lists it."""
    listing = pg_tools.run(ctx, tools, "pg_restore", database, ["--list", str(file)], quiet=True)
    return [line for line in listing.stdout.splitlines() if line and not line.startswith(";")]


def _pg_restore(
    ctx: Context, tools: Path, database: Database, scratch: str, file: Path, entries: list[str]
) -> None:
    """Restore these entries of a dump, or, without any, all of them."""
    arguments = ["--exit-on-error", "--no-subscriptions", "--no-password"]
    if entries:
        chosen = ctx.folder() / "entries.list"
        chosen.write_text("".join(f"{line}\n" for line in entries))
        arguments.append(f"--use-list={chosen}")
    target = pg_tools.target(database, scratch)
    pg_tools.run(ctx, tools, "pg_restore", database, [*arguments, target, str(file)])


def examine(ctx: Context, database: Database, name: str) -> tuple[Manifest, Path | None]:
    """See that a backup is whole without restoring it; as `find`."""
    manifest, file = find(ctx, database, name)
    if file is None:
        verify(ctx, database, name, manifest)
        return manifest, None
    check_file(ctx, manifest, file)
    with pg_admin.connect(ctx, database) as connection:
        server = connection.info.server_version // 10000
    check_list(ctx, pg_tools.find(ctx, database, server), database, file, manifest.tables)
    return manifest, file


def verify(ctx: Context, database: Database, scratch: str, manifest: Manifest) -> None:
    """Compare what a database holds with a manifest; Failed, naming each difference."""
    differences = contents_of(ctx, database, scratch).differences(manifest, copy=True)
    if differences:
        raise Failed(
            f"{scratch} does not hold what the backup {manifest.name} does",
            hint=f"the database in use was not touched; look into {scratch}",
            evidence=differences[:20],
            data={"differences": differences},
        )


def contents_of(ctx: Context, database: Database, dbname: str = "") -> pg_manifest.Contents:
    """What a database holds in this moment; default: the connection's own."""
    with pg_connection.session(ctx, database, dbname, read_only=True) as connection:
        connection.execute(f"BEGIN {pg_connection.SNAPSHOT}".encode())
        return pg_manifest.take(ctx, connection)


# -- the folder ---------------------------------------------------------------------------------
def expired(ctx: Context, folder: Folder, older_than: float, prefix: str, keep: int) -> list[str]:
    """Names of backup files older than so many seconds, without the `keep` newest ones."""
    backups = []
    for path in folder.path.glob(f"{prefix}*.json"):
        with contextlib.suppress(Refused, OSError):  # another file, not of ours
            manifest = _decode(path.read_bytes(), str(path))
            backups.append((datetime.fromisoformat(manifest.at), manifest.name))
    backups.sort(reverse=True)
    limit = ctx.now() - timedelta(seconds=older_than)
    return [name for at, name in backups[keep:] if at < limit]


def remove(folder: Folder, name: str) -> None:
    """Remove a backup file: its manifest first, as without it there is no backup."""
    folder.manifest(name).unlink(missing_ok=True)
    folder.dump(name).unlink(missing_ok=True)


def data(ctx: Context, source: Database, manifest: Manifest, as_: str) -> dict[str, Any]:
    """The result of a step that made (or would make) a backup."""
    path = Folder(ctx, source).dump(manifest.name) if as_ == "file" else ""
    return {
        "name": manifest.name,
        "database": manifest.database,
        "as": as_,
        "path": str(path),
        "tables": pg_manifest.counts(manifest.tables),
        "rows": manifest.rows,
        "bytes": manifest.bytes,
        "sha256": manifest.sha256,
        "at": manifest.at,
    }
