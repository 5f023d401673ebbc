"""What a database is besides its contents: owner, tablespace, locale, settings, privileges.

No dump of one database holds it. A database that takes the place of another gets it from there:
what can only be said when a database is made by `create_like` or `copy`, the rest by `take_over`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import psycopg
    from psycopg.sql import Composed

_LISTS = frozenset(
    ("local_preload_libraries", "search_path", "session_preload_libraries", "temp_tablespaces")
)
"""Settings that are lists of names: as text they would be one name with commas in it."""


class _Model(NamedTuple):
    """What a database was made with; `provider` is ``c``, ``i`` (ICU) or ``b`` (built in)."""

    owner: str
    tablespace: str
    encoding: str
    collate: str
    ctype: str
    provider: str
    locale: str | None
    rules: str | None


def _model(connection: psycopg.Connection[Any], name: str) -> _Model | None:
    version = connection.info.server_version
    locale = "datlocale" if version >= 170000 else "daticulocale"
    provider = f"d.datlocprovider, d.{locale}" if version >= 150000 else "'c', NULL"
    rules = "d.daticurules" if version >= 160000 else "NULL"
    row = connection.execute(
        "SELECT pg_get_userbyid(d.datdba), s.spcname, pg_encoding_to_char(d.encoding),"
        f" d.datcollate, d.datctype, {provider}, {rules}"
        " FROM pg_database d JOIN pg_tablespace s ON s.oid = d.dattablespace"
        " WHERE d.datname = %s".encode(),
        [name],
    ).fetchone()
    return _Model(*row) if row else None


def create_like(connection: psycopg.Connection[Any], new: str, model: str) -> None:
    """An empty database with owner, tablespace, encoding and locale of another, if that exists."""
    from psycopg.sql import SQL, Identifier, Literal

    statement: Composed = SQL("CREATE DATABASE {} TEMPLATE template0").format(Identifier(new))
    if (like := _model(connection, model)) is not None:
        statement += SQL(" OWNER {} TABLESPACE {} ENCODING {} LC_COLLATE {} LC_CTYPE {}").format(
            Identifier(like.owner),
            Identifier(like.tablespace),
            Literal(like.encoding),
            Literal(like.collate),
            Literal(like.ctype),
        )
        if like.provider == "i":
            statement += SQL(" LOCALE_PROVIDER icu ICU_LOCALE {}").format(Literal(like.locale))
        if like.rules:
            statement += SQL(" ICU_RULES {}").format(Literal(like.rules))
        if like.provider == "b":
            statement += SQL(" LOCALE_PROVIDER builtin BUILTIN_LOCALE {}").format(
                Literal(like.locale)
            )
    connection.execute(statement)


def copy(connection: psycopg.Connection[Any], source: str, new: str, model: str) -> None:
    """Copy a database that nobody is connected to, to owner and tablespace of a third."""
    from psycopg.sql import SQL, Identifier

    like = _model(connection, model)
    statement: Composed = SQL("CREATE DATABASE {} TEMPLATE {}").format(
        Identifier(new), Identifier(source)
    )
    if like is not None:
        statement += SQL(" OWNER {} TABLESPACE {}").format(
            Identifier(like.owner), Identifier(like.tablespace)
        )
    connection.execute(statement)


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
_LABELS = """
SELECT l.provider, l.label FROM pg_shseclabel l JOIN pg_database d ON d.oid = l.objoid
WHERE l.classoid = 'pg_database'::regclass AND d.datname = %s
"""


def take_over(connection: psycopg.Connection[Any], old: str, new: str) -> None:
    """Give a database settings, privileges, labels and limits of another, within a transaction."""
    from psycopg.sql import SQL, Identifier, Literal

    _take_over_settings(connection, old, new)
    _take_over_privileges(connection, old, new)
    for provider, label in connection.execute(_LABELS.encode(), [old]).fetchall():
        connection.execute(
            SQL("SECURITY LABEL FOR {} ON DATABASE {} IS {}").format(
                Identifier(provider), Identifier(new), Literal(label)
            )
        )
    row = connection.execute(
        "SELECT datconnlimit, datistemplate FROM pg_database WHERE datname = %s", [old]
    ).fetchone()
    if row and row[0] >= 0:
        connection.execute(
            SQL("ALTER DATABASE {} CONNECTION LIMIT {}").format(Identifier(new), Literal(row[0]))
        )
    if row and row[1]:
        for name, value in ((new, True), (old, False)):  # a template cannot be dropped
            statement = SQL("ALTER DATABASE {} IS_TEMPLATE {}")
            connection.execute(statement.format(Identifier(name), Literal(value)))


def _take_over_settings(connection: psycopg.Connection[Any], old: str, new: str) -> None:
    """Lists pass through the session, which keeps their parts apart."""
    from psycopg.sql import SQL, Identifier, Literal

    for role, name, value in connection.execute(_SETTINGS.encode(), [old]).fetchall():
        whose = SQL("ALTER DATABASE {}").format(Identifier(new))
        if role:
            whose = SQL("ALTER ROLE {} IN DATABASE {}").format(Identifier(role), Identifier(new))
        parameter = SQL(".").join(Identifier(part) for part in name.split("."))
        if name.lower() in _LISTS:
            connection.execute("SELECT set_config(%s, %s, true)", [name, value])
            connection.execute(whose + SQL(" SET {} FROM CURRENT").format(parameter))
        else:
            connection.execute(whose + SQL(" SET {} TO {}").format(parameter, Literal(value)))


def _take_over_privileges(connection: psycopg.Connection[Any], old: str, new: str) -> None:
    from psycopg.sql import SQL, Identifier

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
