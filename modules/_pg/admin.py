"""Whole databases: made like another one, renamed, marked, dropped.

Statements about a database run from another one, the `maintenance` database of the inventory.
What a database is for says the comment on it, which survives us and which a DBA reads, too.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from engine.module_api import Context, Failed
from modules._pg import connection as pg_connection
from modules._pg.database import Database

if TYPE_CHECKING:
    import psycopg

_LOOK = 0.05


@contextlib.contextmanager
def connect(ctx: Context, database: Database) -> Iterator[psycopg.Connection[Any]]:
    """A connection beside the databases that are to be changed."""
    with pg_connection.session(ctx, database, database.maintenance) as connection:
        yield connection


def derived(name: str, suffix: str) -> str:
    """A database's name with a suffix, within the 63 bytes that PostgreSQL keeps."""
    room = 62 - len(suffix)
    if len(name.encode()) > room:
        import hashlib

        short = hashlib.sha256(name.encode()).hexdigest()[:8]
        name = name.encode()[: room - 9].decode(errors="ignore") + f"_{short}"
    return f"{name}_{suffix}"


def exists(connection: psycopg.Connection[Any], name: str) -> bool:
    """Whether there is a database of that name."""
    found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name])
    return found.fetchone() is not None


def comment(connection: psycopg.Connection[Any], name: str) -> str:
    """The comment on a database; empty if there is none (of either)."""
    row = connection.execute(
        "SELECT shobj_description(oid, 'pg_database') FROM pg_database WHERE datname = %s", [name]
    ).fetchone()
    return str(row[0]) if row and row[0] else ""


def set_comment(connection: psycopg.Connection[Any], name: str, text: str) -> None:
    """Say what a database is for."""
    from psycopg.sql import SQL, Identifier, Literal

    connection.execute(
        SQL("COMMENT ON DATABASE {} IS {}").format(Identifier(name), Literal(text or None))
    )


def rename(connection: psycopg.Connection[Any], old: str, new: str) -> None:
    """Rename a database; nobody may be connected to it."""
    from psycopg.sql import SQL, Identifier

    connection.execute(
        SQL("ALTER DATABASE {} RENAME TO {}").format(Identifier(old), Identifier(new))
    )


def drop(connection: psycopg.Connection[Any], name: str) -> None:
    """Drop a database, and whoever is connected to it; absent is fine."""
    from psycopg.sql import SQL, Identifier

    force = SQL("WITH (FORCE)") if connection.info.server_version >= 130000 else SQL("")
    connection.execute(SQL("DROP DATABASE IF EXISTS {} {}").format(Identifier(name), force))


def copy(connection: psycopg.Connection[Any], source: str, new: str, owner_of: str) -> None:
    """Copy a database that nobody is connected to, within the server."""
    from psycopg.sql import SQL, Identifier

    statement = SQL("CREATE DATABASE {} TEMPLATE {}").format(Identifier(new), Identifier(source))
    connection.execute(statement)
    if owner := _owner(connection, owner_of):
        connection.execute(
            SQL("ALTER DATABASE {} OWNER TO {}").format(Identifier(new), Identifier(owner))
        )


def _owner(connection: psycopg.Connection[Any], name: str) -> str:
    row = connection.execute(
        "SELECT pg_get_userbyid(datdba) FROM pg_database WHERE datname = %s", [name]
    ).fetchone()
    return str(row[0]) if row else ""


def create_like(connection: psycopg.Connection[Any], new: str, model: str) -> None:
    """An empty database with owner, encoding and locale of another, if that exists."""
    from psycopg.sql import SQL, Composed, Identifier, Literal

    locale = {15: "daticulocale", 16: "daticulocale"}.get(
        connection.info.server_version // 10000, "datlocale"
    )
    provider = (
        f"datlocprovider, {locale}" if connection.info.server_version >= 150000 else "'c', ''"
    )
    found = connection.execute(
        "SELECT pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datcollate, datctype,"
        f" {provider} FROM pg_database WHERE datname = %s".encode(),
        [model],
    ).fetchone()
    statement: Composed = SQL("CREATE DATABASE {} TEMPLATE template0").format(Identifier(new))
    if found is not None:
        owner, encoding, collate, ctype, kind, name = found
        statement += SQL(" OWNER {} ENCODING {} LC_COLLATE {} LC_CTYPE {}").format(
            Identifier(owner), Literal(encoding), Literal(collate), Literal(ctype)
        )
        if kind == "i":
            statement += SQL(" LOCALE_PROVIDER icu ICU_LOCALE {}").format(Literal(name))
        if kind == "b":
            statement += SQL(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {}").format(Literal(name))
    connection.execute(statement)


# -- properties that a dump does not hold -------------------------------------------------------
_SETTINGS = """
SELECT coalesce(r.rolname, ''), split_part(c, '=', 1), substr(c, strpos(c, '=') + 1)
FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase
LEFT JOIN pg_roles r ON r.oid = s.setrole, unnest(s.setconfig) AS c WHERE d.datname = %s
"""
_GRANTS = """
SELECT coalesce(r.rolname, ''), a.privilege_type, a.is_grantable
FROM pg_database d, aclexplode(d.datacl) AS a LEFT JOIN pg_roles r ON r.oid = a.grantee
WHERE d.datname = %s
"""


def take_over(connection: psycopg.Connection[Any], old: str, new: str) -> None:
    """Give a database the settings, privileges and connection limit of another.

    Within a transaction: the settings pass through the session, which keeps lists apart.
    """
    from psycopg.sql import SQL, Identifier, Literal

    for role, name, value in connection.execute(_SETTINGS.encode(), [old]).fetchall():
        if name in ("role", "session_authorization"):
            continue  # it would change who we are
        connection.execute("SELECT set_config(%s, %s, true)", [name, value])
        whose = SQL("ALTER DATABASE {}").format(Identifier(new))
        if role:
            whose = SQL("ALTER ROLE {} IN DATABASE {}").format(Identifier(role), Identifier(new))
        parameter = SQL(".").join(Identifier(part) for part in name.split("."))
        connection.execute(whose + SQL(" SET {} FROM CURRENT").format(parameter))
    grants = connection.execute(_GRANTS.encode(), [old]).fetchall()
    if grants:
        connection.execute(SQL("REVOKE ALL ON DATABASE {} FROM PUBLIC").format(Identifier(new)))
    for grantee, privilege, grantable in grants:
        connection.execute(
            SQL("GRANT {} ON DATABASE {} TO {} {}").format(
                SQL(privilege),
                Identifier(new),
                Identifier(grantee) if grantee else SQL("PUBLIC"),
                SQL("WITH GRANT OPTION") if grantable and grantee else SQL(""),
            )
        )
    row = connection.execute(
        "SELECT datconnlimit FROM pg_database WHERE datname = %s", [old]
    ).fetchone()
    if row and row[0] >= 0:
        connection.execute(
            SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(Identifier(new), Literal(row[0]))
        )


# -- being alone --------------------------------------------------------------------------------
@contextlib.contextmanager
def disconnecting(ctx: Context, database: Database, names: list[str]) -> Iterator[None]:
    """While the block runs, end every session in these databases, again and again.

    A rename first locks the database, so that new sessions wait, and then gives those that are
    there five seconds to leave: they are made to.
    """
    import threading

    over = threading.Event()
    with connect(ctx, database) as connection:

        def insist() -> None:
            import psycopg

            with contextlib.suppress(psycopg.Error):  # then the rename says who is in the way
                while not over.is_set():
                    connection.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                        " WHERE datname = ANY(%s) AND pid <> pg_backend_pid()",
                        [names],
                    )
                    over.wait(_LOOK)

        thread = threading.Thread(target=insist, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def in_the_way(connection: psycopg.Connection[Any], name: str, error: Failed) -> Failed:
    """The failure of a rename, with who is still connected."""
    rows = connection.execute(
        "SELECT usename, application_name, client_addr::text, state FROM pg_stat_activity"
        " WHERE datname = %s",
        [name],
    ).fetchall()
    error.evidence += [f"connected: {' '.join(str(part) for part in row if part)}" for row in rows]
    return error
