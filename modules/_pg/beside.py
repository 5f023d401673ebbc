"""What a server binds to a database beside its rows, and what becomes of it when that is replaced.

No dump holds it, and it follows the database itself, not its name: a logical replication slot stays
with the database that is set aside and keeps the server's log from then on for ever; a subscription
goes on writing there; a prepared transaction keeps a database from being renamed or dropped by
anybody. So it is looked at before a session is ended, and again right before the swap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import msgspec

from engine.module_api import Context, Refused

if TYPE_CHECKING:
    import psycopg

Replication = Literal["refuse", "leave"]
"""What becomes of slots and subscriptions of a database that is set aside."""

_PREPARED = "SELECT gid FROM pg_prepared_xacts WHERE database = %s ORDER BY 1"
_SLOTS = "SELECT slot_name::text, active FROM pg_replication_slots WHERE database = %s ORDER BY 1"
_SUBSCRIPTIONS = """
SELECT s.subname::text FROM pg_subscription s JOIN pg_database d ON d.oid = s.subdbid
WHERE d.datname = %s ORDER BY 1
"""


class Beside(msgspec.Struct, frozen=True):
    """Names of what is bound to a database; of slots those that somebody reads now besides."""

    prepared: list[str] = []
    slots: list[str] = []
    active: list[str] = []
    subscriptions: list[str] = []

    def data(self) -> dict[str, list[str]]:
        """What a result tells of it."""
        return {"slots": self.slots, "subscriptions": self.subscriptions}


def look(connection: psycopg.Connection[Any], dbname: str) -> Beside:
    """What is bound to a database; nothing if there is none."""

    def rows(sql: str) -> list[tuple[Any, ...]]:
        return connection.execute(sql.encode(), [dbname]).fetchall()

    slots = rows(_SLOTS)
    return Beside(
        [str(gid) for (gid,) in rows(_PREPARED)],
        [str(name) for name, _ in slots],
        [str(name) for name, active in slots if active],
        [str(name) for (name,) in rows(_SUBSCRIPTIONS)],
    )


def before_restore(
    ctx: Context,
    connection: psycopg.Connection[Any],
    dbname: str,
    *,
    replication: Replication,
    keep: bool,
) -> Beside:
    """Refuse to set a database aside that cannot go, or whose replication would break unseen.

    What stays behind because the step says so is warned about.
    """
    beside = look(connection, dbname)
    _refuse_prepared(dbname, beside)
    if not beside.slots and not beside.subscriptions:
        return beside
    if replication == "refuse":
        raise Refused(
            f"{dbname} has {_listed(beside)}, which would stay with the database set aside",
            hint="a slot keeps the server's log until it is dropped, and its reader has to begin "
            "anew; a subscription goes on writing into the old database. Drop them first, or say "
            "`replication: leave` and see to them afterwards",
        )
    if beside.subscriptions and not keep:
        raise Refused(
            f"{dbname} has {_listed(beside)}: a database with subscriptions cannot be dropped",
            hint="leave `keep: false` out, or drop the subscriptions first",
        )
    after = "stay with the database set aside" if keep else "go with the database"
    ctx.warn(f"{_listed(beside)} of {dbname} {after}: make them anew in the restored one")
    return beside


def before_drop(ctx: Context, connection: psycopg.Connection[Any], dbname: str) -> Beside:
    """Refuse what the server would, before it ends anybody's session for it."""
    beside = look(connection, dbname)
    _refuse_prepared(dbname, beside)
    if beside.subscriptions:
        raise Refused(
            f"{dbname} has {_listed(Beside(subscriptions=beside.subscriptions))}: the server drops "
            "no database that subscribes",
            hint="DROP SUBSCRIPTION there first",
        )
    if beside.active:
        raise Refused(
            f"{dbname} has {_listed(Beside(slots=beside.active))}, which somebody reads now",
            hint="stop the reader, then drop the slot (pg_drop_replication_slot)",
        )
    if beside.slots:
        ctx.warn(f"{_listed(beside)} of {dbname} go with the database")
    return beside


def _refuse_prepared(dbname: str, beside: Beside) -> None:
    if beside.prepared:
        names = ", ".join(beside.prepared)
        raise Refused(
            f"{dbname} has prepared transactions, which keep it from being renamed or dropped: "
            f"{names}",
            hint="end them there with COMMIT PREPARED or ROLLBACK PREPARED, as their "
            "transaction manager decides",
        )


def _listed(beside: Beside) -> str:
    kinds = {"replication slots": beside.slots, "subscriptions": beside.subscriptions}
    return " and ".join(f"{kind} {', '.join(names)}" for kind, names in kinds.items() if names)
