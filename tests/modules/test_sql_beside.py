"""What a database has beside its rows: kept, restored, or told before anybody is disconnected."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from engine.module_api import Refused, Result
from modules import sql
from tests.modules.backup_world import World
from tests.modules.conftest import Told
from tests.modules.postgres_server import Postgres

SLOT = "SELECT pg_create_logical_replication_slot('{}', 'pgoutput')"
SUBSCRIPTION = (
    "CREATE SUBSCRIPTION {} CONNECTION 'dbname=nowhere' PUBLICATION p WITH (connect = false)"
)


@pytest.fixture
def session(world: World) -> Iterator[Callable[[], bool]]:
    """An application's session in the database; whether it still lives."""
    connection = world.postgres.connect(world.db)

    def lives() -> bool:
        return connection.execute("SELECT 1").fetchone() == (1,)

    yield lives
    connection.close()


def _check(world: World, **arguments: Any) -> Result:
    assert sql.restore.checker is not None
    result = sql.restore.checker(world.ctx("r", mode="check"), "b", **arguments)
    assert isinstance(result, Result)
    return result


@pytest.mark.parametrize("as_", ["file", "copy"])
def test_a_restored_database_lies_in_the_tablespace_of_the_old_one(
    world: World, postgres: Postgres, as_: Any
) -> None:
    place = world.folder.parent / "fast"
    place.mkdir()
    postgres.run("postgres", f"CREATE TABLESPACE {world.db}_fast LOCATION '{place}'")
    postgres.run("postgres", f"ALTER DATABASE {world.db} SET TABLESPACE {world.db}_fast")
    sql.backup(world.ctx("b"), f"{world.db}_b", as_=as_)
    sql.restore(world.ctx("r"), f"{world.db}_b")
    assert world.rows(
        "SELECT spcname FROM pg_tablespace t JOIN pg_database d ON t.oid = d.dattablespace"
        " WHERE datname = current_database()"
    ) == [(f"{world.db}_fast",)]


def test_settings_of_every_kind_stay(world: World, postgres: Postgres) -> None:
    """Also the role that sessions begin with."""
    role = f"{world.db}_app"
    settings = {
        f"role={role}",
        "app.words=one, two",
        'search_path=app, "odd ""one", public',
        "work_mem=5MB",
    }
    postgres.run("postgres", f"CREATE ROLE {role} SUPERUSER")
    alter = f"ALTER DATABASE {world.db}"
    for change in (
        f"SET role TO {role}",
        "SET app.words TO 'one, two'",
        'SET search_path TO app, "odd ""one", public',
        "SET work_mem TO '5MB'",
        "IS_TEMPLATE true",
    ):
        postgres.run("postgres", f"{alter} {change}")
    sql.backup(world.ctx("b"), "b")
    sql.restore(world.ctx("r"), "b", keep=False)
    ((kept, template),) = postgres.rows(
        "postgres",
        "SELECT setconfig, datistemplate FROM pg_database d JOIN pg_db_role_setting s"
        f" ON s.setdatabase = d.oid AND s.setrole = 0 WHERE datname = '{world.db}'",
    )
    assert (set(kept), template) == (settings, True)


def test_a_prepared_transaction_is_told_before_anybody_is_disconnected(
    world: World, postgres: Postgres, session: Callable[[], bool]
) -> None:
    sql.backup(world.ctx("b"), "b")
    postgres.run(world.db, "BEGIN; INSERT INTO note VALUES ('later'); PREPARE TRANSACTION 'two'")
    works: list[Callable[[], Result]] = [
        lambda: sql.restore(world.ctx("r"), "b"),
        lambda: _check(world),
    ]
    for work in works:
        with pytest.raises(Refused, match=r"has prepared transactions, .*: two"):
            work()
    assert session()
    assert world.databases() == {world.db}  # nothing was begun either
    postgres.run(world.db, "COMMIT PREPARED 'two'")
    assert sql.restore(world.ctx("r"), "b").changed


def test_a_transaction_prepared_while_the_backup_was_restored_is_told_as_well(
    world: World, postgres: Postgres, session: Callable[[], bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    from modules._pg import restore as pg_restore

    sql.backup(world.ctx("b"), "b")
    prepare = pg_restore.prepare

    def slowly(*arguments: Any) -> None:
        prepare(*arguments)
        postgres.run(world.db, "BEGIN; INSERT INTO note VALUES ('x'); PREPARE TRANSACTION 'late'")

    monkeypatch.setattr(pg_restore, "prepare", slowly)
    with pytest.raises(Refused, match="has prepared transactions"):
        sql.restore(world.ctx("r"), "b")
    assert session()
    postgres.run(world.db, "ROLLBACK PREPARED 'late'")


def test_replication_slots_are_told_before_anybody_is_disconnected(
    world: World, postgres: Postgres, session: Callable[[], bool], told: Told
) -> None:
    slot = f"cdc_{world.db}"
    sql.backup(world.ctx("b"), "b")
    postgres.run(world.db, SLOT.format(slot))
    works: list[Callable[[], Result]] = [
        lambda: sql.restore(world.ctx("r"), "b"),
        lambda: sql.restore(world.ctx("r"), "b", keep=False),
        lambda: _check(world),
    ]
    for work in works:
        with pytest.raises(Refused, match=f"replication slots {slot}, which would stay") as caught:
            work()
        assert "`replication: leave`" in caught.value.hint
    assert session()
    assert _check(world, replication="leave").data["left_behind"]["slots"] == [slot]
    told.warnings.clear()
    restored = sql.restore(world.ctx("r"), "b", replication="leave").data
    assert restored["left_behind"] == {"slots": [slot], "subscriptions": []}
    assert f"replication slots {slot} of {world.db} stay" in told.warnings[0]
    again = sql.restore(world.ctx("r"), "b", replication="leave").data
    assert again["left_behind"] == restored["left_behind"]
    dropped = sql.drop_database(world.ctx("d"), restored["old"])
    assert dropped.data["slots"] == [slot]
    assert f"of {restored['old']} go with the database" in told.warnings[-1]
    assert postgres.rows("postgres", "SELECT 1 FROM pg_replication_slots") == []


def test_subscriptions_stay_where_they_are_and_are_told(
    world: World, postgres: Postgres, session: Callable[[], bool], told: Told
) -> None:
    name = f"sub_{world.db}"
    postgres.run(world.db, SUBSCRIPTION.format(name))
    sql.backup(world.ctx("b"), "b")
    with pytest.raises(Refused, match=f"subscriptions {name}, which would stay"):
        sql.restore(world.ctx("r"), "b")
    with pytest.raises(Refused, match="a database with subscriptions cannot be dropped"):
        sql.restore(world.ctx("r"), "b", replication="leave", keep=False)
    assert session()
    restored = sql.restore(world.ctx("r"), "b", replication="leave").data
    assert restored["left_behind"]["subscriptions"] == [name]
    assert any("none of the backup's subscriptions" in text for text in told.warnings)
    with pytest.raises(Refused, match="drops no database that subscribes"):
        sql.drop_database(world.ctx("d"), restored["old"])
    postgres.run(restored["old"], f"ALTER SUBSCRIPTION {name} SET (slot_name = NONE)")
    postgres.run(restored["old"], f"DROP SUBSCRIPTION {name}")
    assert sql.drop_database(world.ctx("d"), restored["old"]).changed
    # The restored one has none: it could be dropped, and writes nothing that nobody knows of.
    assert postgres.rows("postgres", "SELECT 1 FROM pg_subscription") == []


LOGGED = """
CREATE TABLE ddl_log (tag text);
CREATE MATERIALIZED VIEW agents AS SELECT count(*) FROM app.agent;
CREATE FUNCTION log_ddl() RETURNS event_trigger LANGUAGE plpgsql AS
  $$ BEGIN INSERT INTO public.ddl_log VALUES (tg_tag); END $$;
CREATE EVENT TRIGGER log_all ON ddl_command_end EXECUTE FUNCTION log_ddl();
CREATE EVENT TRIGGER log_none ON sql_drop EXECUTE FUNCTION log_ddl();
ALTER EVENT TRIGGER log_none DISABLE;
COMMENT ON EVENT TRIGGER log_all IS 'for the auditors';
"""


@pytest.mark.parametrize("as_", ["file", "copy"])
def test_event_triggers_come_back_and_none_has_fired_on_the_way(
    world: World, postgres: Postgres, as_: Any
) -> None:
    postgres.run(world.db, LOGGED)
    name = f"{world.db}_b"
    sql.backup(world.ctx("b"), name, as_=as_)
    sql.verify_backup(world.ctx("v"), name)
    world.change()
    sql.restore(world.ctx("r"), name)
    assert world.rows("SELECT * FROM ddl_log") == []
    assert world.rows(
        "SELECT evtname, evtenabled::text, obj_description(oid, 'pg_event_trigger')"
        " FROM pg_event_trigger ORDER BY 1"
    ) == [("log_all", "O", "for the auditors"), ("log_none", "D", None)]
    postgres.run(world.db, "CREATE TABLE one_more (n int)")
    assert world.rows("SELECT * FROM ddl_log") == [("CREATE TABLE",)]


def test_a_database_that_is_gone_comes_back_with_a_word_about_what_no_backup_holds(
    world: World, postgres: Postgres, told: Told
) -> None:
    sql.backup(world.ctx("b"), "b")
    postgres.run("postgres", f"DROP DATABASE {world.db}")
    sql.restore(world.ctx("r"), "b")
    assert any("owner, settings and privileges" in text for text in told.warnings)
