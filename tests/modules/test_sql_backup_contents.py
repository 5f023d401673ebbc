"""What databases can hold comes back from a backup whole, and is looked at before the swap."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest

from engine.module_api import Failed, Refused, Result, TimedOut
from modules import sql
from tests.modules.backup_world import ASIDE, Crash, Crashing, World, crash_everywhere
from tests.modules.conftest import MakeContext, Told

RICH = """
CREATE EXTENSION pgcrypto;
CREATE SCHEMA "Mixed Case"; CREATE SCHEMA "a.b"; CREATE SCHEMA a;
CREATE TYPE "Mixed Case".mood AS ENUM ('good', 'bad');
CREATE TABLE "Mixed Case"."Quote""d; --" (
    "Id" int GENERATED ALWAYS AS IDENTITY (START 10) PRIMARY KEY,
    amount numeric, twice numeric GENERATED ALWAYS AS (amount * 2) STORED,
    mood "Mixed Case".mood, list int[], "100%" bytea, doc jsonb, at timestamptz, price money
);
INSERT INTO "Mixed Case"."Quote""d; --" (amount, mood, list, "100%", doc, at, price)
SELECT n / 3.0, 'good', ARRAY[n, NULL], decode(md5(n::text), 'hex'), '{"n": 1}', now(), n
FROM generate_series(1, 100) AS n;
CREATE TABLE "a.b".c (n int PRIMARY KEY); INSERT INTO "a.b".c VALUES (1);
CREATE TABLE a."b.c" (n int PRIMARY KEY); INSERT INTO a."b.c" VALUES (1), (2);
CREATE TABLE measured (day date, value float8) PARTITION BY RANGE (day);
CREATE TABLE measured_1 PARTITION OF measured FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
CREATE TABLE measured_2 PARTITION OF measured DEFAULT;
INSERT INTO measured SELECT '2026-01-20'::date + n, n FROM generate_series(1, 20) AS n;
CREATE TABLE parent (n int); CREATE TABLE child (m int) INHERITS (parent);
INSERT INTO child VALUES (1, 2);
CREATE TABLE keyless (t text, n int);
INSERT INTO keyless VALUES ('same', 1), ('same', 1), ('same', 2), (NULL, NULL);
CREATE TABLE nothing (); CREATE UNLOGGED TABLE unlogged AS SELECT 1 AS n;
CREATE SEQUENCE unused; CREATE SEQUENCE used START 7; SELECT nextval('used');
CREATE VIEW shown AS SELECT t FROM keyless;
CREATE MATERIALIZED VIEW summed AS SELECT sum(n) AS n FROM keyless;
CREATE FUNCTION one() RETURNS int LANGUAGE sql BEGIN ATOMIC SELECT 1; END;
SELECT lo_from_bytea(4242, decode(repeat('00ff', 5000000), 'hex'));
SELECT lo_from_bytea(4243, ''), lo_from_bytea(4244, 'small');
"""
LOOK = (
    'SELECT md5(string_agg(q::text, \'\' ORDER BY "Id")) FROM "Mixed Case"."Quote""d; --" AS q',
    "SELECT count(*), sum(value) FROM measured",
    "SELECT tableoid::regclass::text, count(*) FROM measured GROUP BY 1 ORDER BY 1",
    "SELECT n FROM parent", "SELECT n FROM ONLY parent", "SELECT t FROM shown ORDER BY 1",
    "SELECT n FROM summed", "SELECT one()", "SELECT encode(digest('x', 'sha1'), 'hex')",
    "SELECT n FROM unlogged", 'SELECT n FROM "a.b".c', 'SELECT n FROM a."b.c"',
    "SELECT md5(lo_get(4242)), length(lo_get(4243)), encode(lo_get(4244), 'escape')",
    "SELECT last_value, is_called FROM unused", "SELECT last_value, is_called FROM used",
    "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname !~ '^pg_' ORDER BY 1, 2",
    "SELECT nspname, nspacl::text FROM pg_namespace WHERE nspname !~ '^pg_' ORDER BY 1",
    "SELECT relname, relacl::text, relowner FROM pg_class WHERE relname ~ '^(key|mea)' ORDER BY 1",
)  # fmt: skip


def test_everything_that_a_database_can_hold_comes_back(world: World) -> None:
    role = f"{world.db}_role"
    world.postgres.run(world.db, RICH)
    world.postgres.run(
        world.db,
        f'CREATE ROLE {role}; GRANT USAGE ON SCHEMA "a.b" TO {role};'
        f" GRANT SELECT ON keyless, shown TO {role}; ALTER TABLE measured OWNER TO {role}",
    )
    before = [world.rows(query) for query in LOOK]
    backup = sql.backup(world.ctx(), "b").data
    assert backup["tables"] == {
        "app.agent": 61,
        'Mixed Case.Quote"d; --': 100, '"a.b".c': 1, 'a."b.c"': 2, 'public.Odd "name': 0,
        "public.empty": 0, "public.note": 3, "public.measured_1": 11, "public.measured_2": 9,
        "public.parent": 0, "public.child": 1, "public.keyless": 4, "public.nothing": 0,
        "public.unlogged": 1, "large objects": 3,
    }  # fmt: skip
    world.postgres.run(
        world.db,
        'DROP TABLE "a.b".c, measured; DELETE FROM keyless WHERE n = 1; SELECT lo_unlink(4244);'
        "SELECT lo_put(4242, 9000000, 'x'); SELECT lo_from_bytea(0, 'new');"
        "INSERT INTO keyless VALUES ('new', 1); INSERT INTO a.\"b.c\" VALUES (3);",
    )
    restored = sql.restore(world.ctx("restore"), "b")
    assert [world.rows(query) for query in LOOK] == before
    assert restored.data["tables"] == backup["tables"]
    assert restored.data["set_aside"] == {
        '"a.b".c': {"added": 0, "changed": 0, "deleted": 1},
        'a."b.c"': {"added": 1, "changed": 0, "deleted": 0},
        "large objects": {"added": 1, "changed": 1, "deleted": 1},
        "public.keyless": {"added": 1, "changed": 0, "deleted": 2},
        "public.measured_1": {"added": 0, "changed": 0, "deleted": 11},
        "public.measured_2": {"added": 0, "changed": 0, "deleted": 9},
    }


def test_a_column_with_the_name_of_our_alias_hides_no_difference(world: World) -> None:
    world.postgres.run(world.db, "CREATE TABLE s (n int, t text); INSERT INTO s VALUES (1, 'a')")
    sql.backup(world.ctx(), "b")
    world.postgres.run(world.db, "UPDATE s SET n = 2")
    assert sql.restore.checker is not None
    shown = sql.restore.checker(world.ctx("restore", mode="check"), "b")
    assert shown.diff == "- public.s has other contents than the backup\n"
    aside = sql.restore(world.ctx("restore"), "b").data["set_aside"]
    assert aside == {"public.s": {"added": 1, "changed": 0, "deleted": 1}}


def test_rows_are_compared_also_where_a_migration_changed_their_key(world: World) -> None:
    """Otherwise a restore would fail after its swap, and fail again whenever it is resumed."""
    sql.backup(world.ctx(), "b")
    world.postgres.run(
        world.db,
        "ALTER TABLE app.agent RENAME id TO number; INSERT INTO app.agent (name) VALUES ('late')",
    )
    aside = sql.restore(world.ctx("restore"), "b").data["set_aside"]
    assert aside == {"app.agent": {"added": 1, "changed": 0, "deleted": 0}}


def test_rows_that_a_policy_hides_are_no_rows_that_are_not_there(
    world: World, make_context: MakeContext
) -> None:
    role = f"{world.db}_limited"
    world.postgres.run(
        world.db,
        f"CREATE ROLE {role} LOGIN PASSWORD 'x'; ALTER TABLE note ENABLE ROW LEVEL SECURITY;"
        f"CREATE POLICY p ON note USING (text = 'a'); GRANT USAGE ON SCHEMA app TO {role};"
        f"GRANT SELECT ON ALL TABLES IN SCHEMA public, app TO {role};"
        f"GRANT SELECT ON ALL SEQUENCES IN SCHEMA app TO {role}",
    )
    entry = world.postgres.entry(world.db, user=role, password="x", backups=str(world.folder))
    with pytest.raises(Refused, match="row-level security"):
        sql.backup(make_context({"sql": {"primary": entry}}), "b")


def test_limits_that_the_server_has_for_applications_do_not_stop_a_backup(world: World) -> None:
    """Each would end it before a table of this size is counted; our own deadline still would."""
    for name in ("statement_timeout", "transaction_timeout", "idle_session_timeout"):
        world.postgres.run("postgres", f"ALTER DATABASE {world.db} SET {name} TO '40ms'")
    with world.postgres.connect(world.db) as filler:
        filler.execute("SET statement_timeout = 0; SET transaction_timeout = 0")
        filler.execute("INSERT INTO note SELECT n::text FROM generate_series(1, 300000) AS n")
    sql.backup(world.ctx(), "b")
    assert sql.restore(world.ctx("restore"), "b").data["rows"] == 300_064
    with pytest.raises(TimedOut):
        sql.backup(world.ctx("late", seconds=0.2), "c")


# -- backups that are not whole -----------------------------------------------------------------
def test_a_backup_is_examined_without_touching_anything(world: World) -> None:
    made = sql.backup(world.ctx(), "b")
    found = sql.verify_backup(world.ctx("look"), "b", sha256=made.data["sha256"])
    assert (found.changed, found.data) == (False, made.data)
    assert found.message.startswith("b is whole: 4 tables, 64 rows of 20")
    copied = sql.backup(world.ctx("copy"), f"{world.db}_copy", as_="copy")
    look = sql.verify_backup(world.ctx("look"), f"{world.db}_copy")
    assert look.data["tables"] == copied.data["tables"]
    world.postgres.run(f"{world.db}_copy", "DELETE FROM note")
    with pytest.raises(Failed, match="does not hold what the backup"):
        sql.verify_backup(world.ctx("look"), f"{world.db}_copy")
    with pytest.raises(Refused, match="there is no backup 'c'"):
        sql.verify_backup(world.ctx("look"), "c")


@pytest.mark.parametrize("harm", ["cut", "grown", "flipped", "another", "gone"])
def test_a_dump_that_is_not_whole_is_told_before_a_restore(world: World, harm: str) -> None:
    made = sql.backup(world.ctx(), "b")
    dump = Path(made.data["path"])
    whole = dump.read_bytes()
    if harm == "gone":
        dump.unlink()
    elif harm == "another":
        world.change()
        sql.backup(world.ctx("other"), "other")
        shutil.copy(world.folder / "other.dump", dump)
    else:
        middle = len(whole) // 2
        dump.write_bytes({
            "cut": whole[:-100],
            "grown": whole + b"\0",
            "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        }[harm])  # fmt: skip
    for attempt in (sql.verify_backup, sql.restore):
        with pytest.raises((Failed, Refused), match=r"is not the one that was made|is missing"):
            attempt(world.ctx("restore"), "b")
    assert world.databases() == {world.db}


def test_a_dump_replaced_with_its_manifest_is_told_by_a_checksum_kept_elsewhere(
    world: World,
) -> None:
    made = sql.backup(world.ctx(), "b")
    dump = Path(made.data["path"])
    dump.write_bytes(dump.read_bytes() + b"\0")
    manifest = json.loads(dump.with_suffix(".json").read_text())
    manifest["sha256"] = hashlib.sha256(dump.read_bytes()).hexdigest()
    dump.with_suffix(".json").write_text(json.dumps(manifest))
    with pytest.raises(Refused, match="is another one than expected"):
        sql.verify_backup(world.ctx("look"), "b", sha256=made.data["sha256"])


# -- tools that die -----------------------------------------------------------------------------
def broken_tools(world: World, root: Path, tool: str, script: str) -> str:
    """A folder in which one tool begins with a script of ours."""
    folder = root / "bin"
    folder.mkdir(exist_ok=True)
    for name in ("pg_dump", "pg_restore"):
        (folder / name).unlink(missing_ok=True)
        real = world.postgres.bin / name
        if name != tool:
            (folder / name).symlink_to(real)
            continue
        asked = 'case "$*" in *--version*|*--list*) ;; *)'
        (folder / name).write_text(f'#!/bin/sh\n{asked} {script};; esac\nexec {real} "$@"\n')
        (folder / name).chmod(0o700)
    return str(folder)


def test_a_full_disk_leaves_no_backup_and_says_why(world: World, root: Path) -> None:
    world.postgres.run(
        world.db, "INSERT INTO note SELECT md5(n::text) FROM generate_series(1, 20000) AS n"
    )
    full = broken_tools(world, root, "pg_dump", "ulimit -f 64; trap '' XFSZ")
    with pytest.raises(Failed, match="pg_dump failed") as caught:
        sql.backup(world.ctx(bin=full), "b")
    assert "File too large" in " ".join(caught.value.evidence)
    assert list(world.folder.glob("*")) == list(world.folder.glob(".*")) == []
    assert sql.backup(world.ctx(attempt=2), "b").changed


@pytest.mark.parametrize("how", ["kill -9 $$", "ulimit -t 0", "exit 3"])
def test_a_pg_restore_that_dies_touches_nothing_and_leaves_no_half_database(
    world: World, root: Path, how: str
) -> None:
    sql.backup(world.ctx(), "b")
    world.change()
    with pytest.raises(Failed, match="pg_restore failed"):
        sql.restore(world.ctx("restore", bin=broken_tools(world, root, "pg_restore", how)), "b")
    assert world.databases() == {world.db}
    assert world.rows("SELECT count(*) FROM note") == [(5,)]
    assert sql.restore(world.ctx("restore", attempt=2), "b").data["set_aside"] == ASIDE


def test_what_pg_restore_did_not_do_fails_the_restore(world: World, root: Path) -> None:
    """It says it did well, but left a table out."""
    dump = Path(sql.backup(world.ctx(), "b").data["path"])
    world.change()
    real = world.postgres.bin / "pg_restore"
    script = (
        f'{real} --list {dump} | grep -v "TABLE DATA public note" > {root}/list;'
        f' exec {real} --use-list={root}/list "$@"'
    )
    with pytest.raises(Failed, match="does not hold what the backup") as caught:
        sql.restore(world.ctx("restore", bin=broken_tools(world, root, "pg_restore", script)), "b")
    assert caught.value.evidence == ["public.note has 0 rows, the backup 3"]
    assert world.rows("SELECT count(*) FROM note") == [(5,)]


# -- what was set aside -------------------------------------------------------------------------
def test_what_was_set_aside_is_told_also_by_who_resumes_after_the_old_one_was_dropped(
    world: World,
) -> None:
    sql.backup(world.ctx(), "b")
    number = 0
    results: list[Result] = []

    def work(fence: Crashing | None) -> Result:
        nonlocal number
        if fence is not None:
            number += 1
            world.change()
        ctx = world.ctx(f"restore{number}", fence=fence)
        results.append(sql.restore(ctx, "b", keep=False))
        return results[-1]

    def check() -> None:
        assert results[-1].data["set_aside"] == ASIDE
        assert results[-1].data["old"] == ""
        assert world.databases() == {world.db}

    assert crash_everywhere(work, check, sides=(True,)) >= 6


def test_what_a_restore_set_aside_that_was_broken_off_is_told_by_the_next(world: World) -> None:
    """It swapped and did not come to count; somebody begins anew, instead of resuming it."""
    sql.backup(world.ctx(), "b")
    world.change()
    for point in range(1, 50):
        with contextlib.suppress(Crash):
            sql.restore(world.ctx("first", fence=Crashing(point, after=True)), "b")
        if any("_before_" in name for name in world.databases()):
            break
    assert world.rows("SELECT count(*) FROM note") == [(3,)]
    (broken_off,) = world.databases() - {world.db}
    second = sql.restore(world.ctx("second"), "b")
    assert (second.data["set_aside"], second.data["set_aside_rows"]) == ({}, 0)
    assert second.data["earlier"] == {broken_off: ASIDE}
    assert f"8 more were set aside before, in {broken_off}" in second.message
    world.postgres.run(world.db, "INSERT INTO note VALUES ('later')")
    third = sql.restore(world.ctx("third"), "b").data
    assert third["set_aside_rows"] == 1
    assert third["earlier"] == {broken_off: ASIDE, second.data["old"]: {}}
    sql.drop_database(world.ctx(), broken_off)
    fourth = sql.restore(world.ctx("fourth"), "b").data
    assert fourth["earlier"].keys() == {second.data["old"], third["old"]}


def test_a_restore_names_what_others_have_left_behind(world: World, told: Told) -> None:
    sql.backup(world.ctx(), "b")
    left = f"{world.db}_restore_12345678"
    world.postgres.run("postgres", f"CREATE DATABASE {left}")
    sql.restore(world.ctx("restore"), "b", keep=False)
    said = f"left over from other restores: {left} (sql.drop-database drops them)"
    assert told.progress.count(said) == 1
    assert sql.drop_database(world.ctx(), left).changed


def test_of_a_large_table_the_rows_that_differ_are_counted(world: World) -> None:
    world.postgres.run(
        world.db,
        "CREATE TABLE big AS SELECT n, md5(n::text) AS t FROM generate_series(1, 200000) AS n;"
        "ALTER TABLE big ADD PRIMARY KEY (n)",
    )
    sql.backup(world.ctx(), "b")
    world.postgres.run(
        world.db,
        "INSERT INTO big SELECT n, 'late' FROM generate_series(200001, 200500) AS n;"
        "UPDATE big SET t = 'changed' WHERE n % 1000 = 0 AND n <= 200000;"
        "DELETE FROM big WHERE n % 1000 = 1 AND n <= 200000",
    )
    aside = sql.restore(world.ctx("restore"), "b").data["set_aside"]
    assert aside == {"public.big": {"added": 500, "changed": 200, "deleted": 200}}


def test_a_database_set_aside_says_for_what_in_its_comment(world: World) -> None:
    world.postgres.run("postgres", f"COMMENT ON DATABASE {world.db} IS 'ours'")
    sql.backup(world.ctx(), "b")
    for step in ("first", "second"):
        old = sql.restore(world.ctx(step), "b").data["old"]
        comments = dict(
            world.rows(
                "SELECT datname, shobj_description(oid, 'pg_database') FROM pg_database", "postgres"
            )
        )
        assert comments[old].startswith("ours [set aside for backup b by ce-run, ")
        assert comments[world.db].startswith("ours [restored from backup b by ce-run, ")
        assert comments[world.db].count("[") == comments[old].count("[") == 1


def test_no_acknowledged_write_of_a_concurrent_writer_is_lost_silently(world: World) -> None:
    """The writer is not even paused: what it was promised is in one of the two databases, and
    what is only in the old one is counted."""
    world.postgres.run(world.db, "CREATE TABLE orders (id int PRIMARY KEY)")
    over, backed_up = threading.Event(), threading.Event()
    promised: list[int] = []

    def write() -> None:
        number = 0
        while not over.is_set():
            with contextlib.suppress(psycopg.Error), world.postgres.connect(world.db) as client:
                while not over.is_set():
                    number += 1
                    client.execute("INSERT INTO orders VALUES (%s)", [number])
                    promised.append(number)
                    if number == 50:
                        backed_up.set()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        backed_up.wait(30)
        sql.backup(world.ctx(), "b")
        data: dict[str, Any] = sql.restore(world.ctx("restore"), "b").data
        after = len(promised)
        while len(promised) < after + 20:
            over.wait(0.01)
    finally:
        over.set()
        writer.join()
    now = {n for (n,) in world.rows("SELECT id FROM orders")}
    then = {n for (n,) in world.rows("SELECT id FROM orders", data["old"])}
    assert set(promised) <= now | then
    lost = set(promised) - now
    assert lost
    aside = data["set_aside"]["public.orders"]
    assert aside["added"] == len(then - now) >= len(lost)
