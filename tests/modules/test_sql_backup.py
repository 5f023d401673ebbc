"""Backups are whole or not there; a restore is verified, swapped in, and survives every crash."""

from __future__ import annotations

import contextlib
import json
import stat
import threading
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from engine.executor import TaskContext
from engine.module_api import Cancelled, Failed, Refused, Result
from modules import sql
from modules._pg import database as pg_database
from modules._pg import tools as pg_tools
from tests.modules.backup_world import ASIDE, Crashing, World, crash_everywhere
from tests.modules.conftest import MakeContext, Told
from tests.modules.postgres_server import Postgres

CancelWhen = Callable[[TaskContext, Callable[[], bool]], threading.Thread]


# -- backup -------------------------------------------------------------------------------------
def test_a_backup_is_a_dump_with_its_manifest(world: World) -> None:
    result = sql.backup(world.ctx(), "5.0-2026-01-31T14:05:09Z")
    assert result.changed
    assert result.data["tables"] == {
        "app.agent": 61,
        'public.Odd "name': 0,
        "public.empty": 0,
        "public.note": 3,
    }
    dump = Path(result.data["path"])
    assert dump == world.folder / "5.0-2026-01-31T14:05:09Z.dump"
    assert stat.S_IMODE(dump.stat().st_mode) == 0o600
    assert dump.read_bytes().startswith(b"PGDMP")
    manifest = json.loads(dump.with_suffix(".json").read_text())
    assert manifest["tables"]["app.agent"]["rows"] == 61
    assert manifest["sequences"] == {"app.agent_id_seq": 61}
    assert (manifest["bytes"], manifest["run"]) == (dump.stat().st_size, "run-1")
    assert sorted(path.name for path in world.folder.iterdir()) == [
        "5.0-2026-01-31T14:05:09Z.dump",
        "5.0-2026-01-31T14:05:09Z.json",
    ]


def test_a_task_does_not_take_its_backup_twice_nor_overwrite_anothers(world: World) -> None:
    first = sql.backup(world.ctx(), "b")
    world.change()
    again = sql.backup(world.ctx(attempt=2), "b")
    assert (again.changed, again.data) == (False, first.data)
    with pytest.raises(Refused, match="there is a backup 'b' already"):
        sql.backup(world.ctx(run_id="run-2"), "b")


@pytest.mark.parametrize("name", ["../x", "", ".hidden", "a/b", "-rf", "a b"])
def test_a_name_that_is_no_file_name_is_refused(world: World, name: str) -> None:
    with pytest.raises(Refused, match="cannot be the name"):
        sql.backup(world.ctx(), name)


def test_a_backup_without_a_folder_is_refused(
    make_context: MakeContext, postgres: Postgres
) -> None:
    with pytest.raises(Refused, match="where do backups of primary belong"):
        sql.backup(make_context({"sql": {"primary": postgres.entry()}}), "b")


def test_the_figures_are_of_the_same_snapshot_as_the_dump(world: World) -> None:
    """Rows that are written while pg_dump runs are neither in the dump nor in the manifest."""
    over = threading.Event()

    def write() -> None:
        with world.postgres.connect(world.db) as connection:
            while not over.is_set():
                connection.execute("INSERT INTO note VALUES ('x')")

    writer = threading.Thread(target=write)
    writer.start()
    try:
        counted = sql.backup(world.ctx(), "b").data["tables"]["public.note"]
    finally:
        over.set()
        writer.join()
    sql.restore(world.ctx("restore"), "b")
    assert world.rows("SELECT count(*) FROM note") == [(counted,)]


def test_a_cancelled_backup_leaves_nothing_and_no_process(
    world: World, cancel_when: CancelWhen, told: Told
) -> None:
    with world.postgres.connect(world.db) as blocker:
        blocker.execute("BEGIN; LOCK TABLE note IN ACCESS EXCLUSIVE MODE")
        ctx = world.ctx()
        waits = (
            "SELECT 1 FROM pg_stat_activity"
            f" WHERE datname = '{world.db}' AND wait_event_type = 'Lock'"
        )
        cancel_when(ctx, lambda: bool(world.rows(waits, "postgres")))
        with pytest.raises(Cancelled):
            sql.backup(ctx, "b")
    assert list(world.folder.glob("*")) == []
    others = (
        "SELECT count(*) = 0 FROM pg_stat_activity"
        f" WHERE datname = '{world.db}' AND application_name LIKE 'ce-run%'"
    )
    world.postgres.wait_for(others)


def test_a_cancelled_pg_dump_is_ended(world: World, cancel_when: CancelWhen, root: Path) -> None:
    """A pg_dump that hangs: a script that waits in its place, beside the real pg_restore."""
    tools = root / "bin"
    tools.mkdir()
    (tools / "pg_restore").symlink_to(world.postgres.bin / "pg_restore")
    (tools / "pg_dump").write_text(
        "#!/bin/sh\n[ $1 = --version ] && echo 'pg_dump (PostgreSQL) 99.1' && exit\n"
        f"sleep 60 & echo $! > {root}/child; wait\n"
    )
    (tools / "pg_dump").chmod(0o700)
    ctx = world.ctx(bin=str(tools))
    cancel_when(ctx, (root / "child").exists)
    with pytest.raises(Cancelled):
        sql.backup(ctx, "b")
    child = int((root / "child").read_text() or 0)
    with contextlib.suppress(FileNotFoundError):
        assert Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
    assert list(world.folder.glob("*")) == []


def test_tools_older_than_the_server_are_never_used(world: World, root: Path) -> None:
    for folder, version in (("old", 16), ("new", 18)):
        (root / folder).mkdir()
        for tool in ("pg_dump", "pg_restore"):
            (root / folder / tool).write_text(
                f"#!/bin/sh\necho '{tool} (PostgreSQL) {version}.2'\n"
            )
            (root / folder / tool).chmod(0o700)
    with pytest.raises(Refused, match=rf"no pg_dump for PostgreSQL 17: {root}/old has 16"):
        sql.backup(world.ctx(bin=str(root / "old")), "b")
    database = pg_database.Database("primary", world.postgres.entry(bin=""))
    found = pg_tools.find(world.ctx(), database, 17)
    assert found == world.postgres.bin


def test_a_copy_is_a_database_of_its_own(world: World) -> None:
    name = f"{world.db}_copy"
    result = sql.backup(world.ctx(), name, as_="copy")
    assert (result.changed, result.data["as"], result.data["rows"]) == (True, "copy", 64)
    assert world.rows("SELECT count(*) FROM names", name) == [(61,)]
    assert world.databases() == {world.db, name}
    assert not sql.backup(world.ctx(attempt=2), name, as_="copy").changed
    world.change()
    restored = sql.restore(world.ctx("restore"), name)
    assert restored.data["set_aside"] == ASIDE
    assert world.rows("SELECT count(*) FROM note") == [(3,)]
    assert name in world.databases()


def test_check_of_a_backup_counts_and_writes_nothing(world: World) -> None:
    assert sql.backup.checker is not None
    shown = sql.backup.checker(world.ctx(mode="check"), "b")
    assert (shown.changed, shown.diff) == (True, "+ backup b: 4 tables, 64 rows\n")
    assert not world.folder.exists()
    done = sql.backup(world.ctx(), "b")
    assert shown.data.keys() == done.data.keys()
    assert shown.data["tables"] == done.data["tables"]
    assert not sql.backup.checker(world.ctx(mode="check"), "b").changed


def test_old_backups_go_and_the_newest_stays(world: World) -> None:
    for name in ("a1", "a2", "z"):
        sql.backup(world.ctx(name), name)
    later = world.ctx()
    later.now = lambda: TaskContext.now(later) + timedelta(days=8)  # type: ignore[method-assign]
    assert sql.prune.checker is not None
    week = 7 * 86400
    assert sql.prune.checker(later, week, prefix="a").diff == "- backup a1\n"
    assert sql.prune(later, week, prefix="a").data == {"removed": ["a1"]}
    assert sorted(path.name for path in world.folder.iterdir()) == [
        "a2.dump", "a2.json", "z.dump", "z.json"
    ]  # fmt: skip
    assert sql.prune(later, 9 * 86400, keep=0).data == {"removed": []}


# -- restore ------------------------------------------------------------------------------------
def test_a_restore_brings_back_and_reports_what_it_sets_aside(world: World) -> None:
    before = world.rows("SELECT * FROM app.agent ORDER BY id")
    sql.backup(world.ctx(), "b")
    world.change()
    result = sql.restore(world.ctx("restore"), "b")
    assert result.changed
    assert world.rows("SELECT * FROM app.agent ORDER BY id") == before
    assert result.data["set_aside"] == ASIDE
    assert result.data["set_aside_rows"] == 8
    old = result.data["old"]
    assert world.databases() == {world.db, old}
    assert world.rows("SELECT count(*) FROM young", old) == [(3,)]
    assert world.rows("SELECT nextval('app.agent_id_seq')") == [(62,)]


def test_a_restore_of_an_unchanged_database_sets_nothing_aside(world: World) -> None:
    sql.backup(world.ctx(), "b")
    result = sql.restore(world.ctx("restore"), "b", keep=False)
    assert (result.data["set_aside"], result.data["old"]) == ({}, "")
    assert world.databases() == {world.db}


def test_a_database_that_is_gone_can_be_restored(world: World) -> None:
    sql.backup(world.ctx(), "b")
    world.postgres.run("postgres", f"DROP DATABASE {world.db}")
    result = sql.restore(world.ctx("restore"), "b")
    assert (result.data["old"], result.data["rows"]) == ("", 64)
    assert world.rows("SELECT count(*) FROM names") == [(61,)]


def test_the_old_database_keeps_the_name_it_is_given_until_it_is_dropped(world: World) -> None:
    sql.backup(world.ctx(), "b")
    kept = f"{world.db}_kept"
    assert sql.restore(world.ctx("restore"), "b", keep_as=kept).data["old"] == kept
    assert sql.drop_database.checker is not None
    assert sql.drop_database.checker(world.ctx(), kept).diff == f"- database {kept}\n"
    assert sql.drop_database(world.ctx(), kept).changed
    assert not sql.drop_database(world.ctx(), kept).changed
    with pytest.raises(Failed, match="there is no database"):
        sql.drop_database(world.ctx(), kept, missing_ok=False)
    with pytest.raises(Refused, match="is in use"):
        sql.drop_database(world.ctx(), world.db)


def test_properties_of_the_database_stay(world: World) -> None:
    role = f"{world.db}_role"
    world.postgres.run("postgres", f"CREATE ROLE {role}")
    for statement in (
        f"ALTER DATABASE {world.db} SET search_path TO app, public",
        f"ALTER DATABASE {world.db} SET default_transaction_read_only TO on",
        f"ALTER ROLE {role} IN DATABASE {world.db} SET work_mem TO '7MB'",
        f"REVOKE ALL ON DATABASE {world.db} FROM PUBLIC",
        f"GRANT CONNECT ON DATABASE {world.db} TO {role} WITH GRANT OPTION",
        f"ALTER DATABASE {world.db} CONNECTION LIMIT 17",
        f"COMMENT ON DATABASE {world.db} IS 'ours'",
        f"ALTER DATABASE {world.db} OWNER TO {role}",
    ):
        world.postgres.run("postgres", statement)
    look = (
        "SELECT datconnlimit, pg_get_userbyid(datdba), datacl::text[],"
        " (SELECT array_agg(setconfig::text ORDER BY setrole)::text FROM pg_db_role_setting"
        "  WHERE setdatabase = d.oid), datcollate, encoding FROM pg_database d"
        f" WHERE datname = '{world.db}'"
    )
    before = world.rows(look, "postgres")
    sql.backup(world.ctx(), "b")
    sql.restore(world.ctx("restore"), "b")
    assert [sorted(map(str, row)) for row in world.rows(look, "postgres")] == [
        sorted(map(str, row)) for row in before
    ]
    comment = "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = '%s'"
    ((first,),) = world.rows(comment % world.db, "postgres")
    assert first.startswith("ours [restored from backup b by ce-run")
    sql.restore(world.ctx("again"), "b")
    ((second,),) = world.rows(comment % world.db, "postgres")
    assert second.count("restored from") == 1
    assert second != first


def test_sessions_are_ended_for_the_swap_and_come_back_to_the_new_database(world: World) -> None:
    sql.backup(world.ctx(), "b")
    world.change()
    over, seen = threading.Event(), list[int]()

    def reader() -> None:
        while not over.is_set():
            with contextlib.suppress(psycopg.Error), world.postgres.connect(world.db) as client:
                while not over.is_set():
                    row = client.execute("SELECT count(*) FROM note").fetchone()
                    assert row is not None
                    seen.append(row[0])

    readers = [threading.Thread(target=reader) for _ in range(3)]
    for thread in readers:
        thread.start()
    try:
        sql.restore(world.ctx("restore"), "b")
        count = len(seen)
        while len(seen) < count + 20:
            over.wait(0.01)
    finally:
        over.set()
        for thread in readers:
            thread.join()
    assert seen[0] == 5
    assert seen[-1] == 3
    assert sorted(seen, reverse=True) == seen  # never back to the old one


def test_a_damaged_dump_is_found_before_anything_is_touched(world: World) -> None:
    dump = Path(sql.backup(world.ctx(), "b").data["path"])
    data = bytearray(dump.read_bytes())
    data[len(data) // 2] ^= 1
    dump.write_bytes(data)
    with pytest.raises(Failed, match="is not the one that was made"):
        sql.restore(world.ctx("restore"), "b")
    dump.unlink()
    with pytest.raises(Refused, match="is missing, only its manifest is there"):
        sql.restore(world.ctx("restore"), "b")
    dump.with_suffix(".json").write_text("{")
    with pytest.raises(Refused, match="is not the manifest of a backup"):
        sql.restore(world.ctx("restore"), "b")
    with pytest.raises(Refused, match="there is no backup 'c'"):
        sql.restore(world.ctx("restore"), "c")


def test_a_restored_database_that_differs_from_the_manifest_is_not_swapped_in(
    world: World,
) -> None:
    dump = Path(sql.backup(world.ctx(), "b").data["path"])
    file = dump.with_suffix(".json")
    manifest = json.loads(file.read_text())
    manifest["tables"]["app.agent"]["rows"] = 62
    manifest["tables"]["public.note"]["checksum"] = "1"
    manifest["sequences"]["app.agent_id_seq"] = 99
    file.write_text(json.dumps(manifest))
    world.change()
    with pytest.raises(Failed, match="does not hold what the backup b does") as caught:
        sql.restore(world.ctx("restore"), "b")
    assert caught.value.evidence == [
        "app.agent has 61 rows, the backup 62",
        "public.note has other contents than the backup",
        "sequence app.agent_id_seq is at 61, the backup at 99",
    ]
    assert world.rows("SELECT count(*) FROM note") == [(5,)]


def test_check_of_a_restore_tells_the_differences(world: World) -> None:
    sql.backup(world.ctx(), "b")
    world.change()
    assert sql.restore.checker is not None
    shown = sql.restore.checker(world.ctx("restore", mode="check"), "b")
    assert shown.changed
    assert shown.diff.splitlines() == [
        "- app.agent has 62 rows, the backup 61",
        "- public.note has 5 rows, the backup 3",
        "- public.young is not in the backup",
        "- sequence app.agent_id_seq is at 63, the backup at 61",
    ]
    assert world.databases() == {world.db}
    done = sql.restore(world.ctx("restore"), "b")
    assert shown.data.keys() == done.data.keys()
    assert not sql.restore.checker(world.ctx("restore", mode="check"), "b").changed


# -- crashes ------------------------------------------------------------------------------------
def test_a_restore_survives_a_crash_at_every_effect(world: World) -> None:
    sql.backup(world.ctx(), "b")
    world.change()
    number = 0
    results: list[Result] = []

    def work(fence: Crashing | None) -> Result:
        nonlocal number
        number += fence is not None
        results.append(sql.restore(world.ctx(f"restore{number}", fence=fence), "b"))
        return results[-1]

    def check() -> None:
        data = results[-1].data
        assert data["set_aside"] == ASIDE
        assert world.rows("SELECT count(*) FROM note") == [(3,)]
        assert world.databases() == {world.db, data["old"]}
        world.postgres.run("postgres", f"DROP DATABASE {world.db}")
        world.postgres.run("postgres", f"ALTER DATABASE {data['old']} RENAME TO {world.db}")

    assert crash_everywhere(work, check) >= 4


@pytest.mark.parametrize("kind", ["file", "copy"])
def test_a_backup_survives_a_crash_at_every_effect(world: World, kind: Any) -> None:
    number = 0

    def name() -> str:
        return f"{world.db}_b{number}"

    def work(fence: Crashing | None) -> Result:
        nonlocal number
        number += fence is not None
        return sql.backup(world.ctx(f"backup{number}", fence=fence), name(), as_=kind)

    def check() -> None:
        assert world.folder.exists() == (kind == "file")
        assert list(world.folder.glob(".*")) == []
        if kind == "copy":
            assert world.rows("SELECT count(*) FROM names", name()) == [(61,)]
            assert world.databases() == {world.db, name()}
            sql.drop_database(world.ctx(), name())
        else:
            restored = sql.restore(world.ctx(f"restore{number}"), name(), keep=False)
            assert restored.data["rows"] == 64

    assert crash_everywhere(work, check, sides=(True,)) >= 2


def test_the_folder_and_its_files_are_private(world: World) -> None:
    sql.backup(world.ctx(), "b")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in world.folder.iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE(world.folder.stat().st_mode) == 0o700
