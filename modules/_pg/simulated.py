"""What `sql` does to the databases of a simulated world; results as of the real actions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from engine.module_api import Arguments, Context, Failed, Refused, Result, Unreachable, count
from modules._pg import query as pg_query
from modules._pg import script as pg_script
from modules._pg import text as pg_text

if TYPE_CHECKING:
    from engine.simulation.databases import Backup, Database

_ANSWER = 0.01
_STATEMENT = 0.05
_ROWS_A_SECOND = 20_000.0
"""How fast a backup is taken and restored."""

_BYTES_A_ROW = 120


def database(ctx: Context, name: str) -> Database:
    """A database of the inventory's ``sql`` section; Unreachable if it does not answer."""
    section = ctx.connection("sql")
    chosen = name or next(iter(section), "")
    if chosen not in section:
        raise Refused(f"the inventory has no database {name!r}")
    ctx.sleep(_ANSWER)
    with ctx.fence():
        held = ctx.world.database(chosen)
    if not held.reachable:
        raise Unreachable(f"the database {chosen} does not answer", hint="is it up?")
    return held


def query(ctx: Context, args: Arguments) -> Result:
    """`sql.query`."""
    data = _fetched(ctx, args)
    return Result(data=data, message=count(data["rowcount"], "row"))


def assert_(ctx: Context, args: Arguments) -> Result:
    """`sql.assert`."""
    expected = pg_query.expectations(args.expect)
    data = _fetched(ctx, args)
    reasons = pg_query.unmet(ctx, expected, data)
    if not reasons:
        return Result(data=data, message="as expected")
    raise Failed(
        args.fail_msg or reasons[0],
        evidence=[*(reasons if args.fail_msg else reasons[1:]), f"query: {args.sql.strip()[:200]}"],
        data=data,
    )


def _fetched(ctx: Context, args: Arguments) -> dict[str, Any]:
    answer = database(ctx, args.database).query(args.sql)
    if answer.assumed:
        ctx.log("assumed: a count with conditions finds nothing in the simulated database")
    return {
        "rows": answer.rows,
        "columns": answer.columns,
        "rowcount": len(answer.rows),
        "value": next(iter(answer.rows[0].values()), None) if answer.rows else None,
        "truncated": False,
    }


def script(ctx: Context, args: Arguments) -> Result:
    """`sql.script`: committed once for each task, as by the ledger; its statements do nothing."""
    statements = pg_script.statements(ctx, args.sql, args.file, args.template)
    held = database(ctx, args.database)
    ctx.sleep(_STATEMENT * len(statements))
    data = pg_script.data(ctx, len(statements), 0, None)
    if ctx.key in held.scripts:
        return Result(data=data | {"already_done": True}, message="done already")
    with ctx.fence():
        held.scripts.append(ctx.key)
    shown = ", ".join(sorted({_verb(one) for one in statements}))
    return Result(
        changed=True, data=data, message=f"{count(len(statements), 'statement')} ({shown})"
    )


def _verb(statement: pg_text.Statement) -> str:
    return " ".join(re.findall(r"\w+", statement.text)[:2]).upper()


def backup(ctx: Context, args: Arguments) -> Result:
    """`sql.backup`."""
    held = database(ctx, args.database)
    there = held.backups.get(args.to)
    if there is not None and there.key != ctx.key:
        raise Refused(f"there is a backup {args.to} already", hint="choose another name")
    is_new = there is None
    tables = held.tables if there is None else there.tables
    if there is None:
        ctx.sleep(sum(tables.values()) / _ROWS_A_SECOND)
        with ctx.fence():
            there = held.back_up(args.to, ctx.now().isoformat(timespec="seconds"), ctx.key)
    verb = "backed up" if is_new else "already backed up"
    return Result(
        changed=is_new,
        data=_backup_data(args, there),
        message=f"{verb} {len(tables)} tables, {sum(tables.values())} rows as {args.to}",
    )


def verify_backup(ctx: Context, args: Arguments) -> Result:
    """`sql.verify-backup`."""
    there = _existing(ctx, args.database, args.name)
    ctx.sleep(1.0)
    if args.sha256 and args.sha256 != there.sha256:
        raise Refused(
            f"the backup {args.name} is another one than expected: its checksum is {there.sha256}"
        )
    rows = sum(there.tables.values())
    return Result(
        data=_backup_data(args, there),
        message=f"{args.name} is whole: {len(there.tables)} tables, {rows} rows of {there.at}",
    )


def _existing(ctx: Context, name: str, backup_name: str) -> Backup:
    held = database(ctx, name)
    if backup_name not in held.backups:
        raise Failed(
            f"there is no backup {backup_name}",
            hint=f"there are: {', '.join(held.backups) or 'none'}",
        )
    return held.backups[backup_name]


def _backup_data(args: Arguments, there: Backup) -> dict[str, Any]:
    rows = sum(there.tables.values())
    kind = getattr(args, "as_", "file")
    return {
        "name": there.name,
        "database": args.database or "primary",
        "as": kind,
        "path": f"/simulated/{there.name}.dump" if kind == "file" else "",
        "tables": there.tables,
        "rows": rows,
        "bytes": rows * _BYTES_A_ROW,
        "sha256": there.sha256,
        "at": there.at,
    }


def restore(ctx: Context, args: Arguments) -> Result:
    """`sql.restore`."""
    there = _existing(ctx, args.database, args.from_)
    held = database(ctx, args.database)
    ctx.sleep(2 * sum(there.tables.values()) / _ROWS_A_SECOND)
    before = held.tables
    name = args.database or "primary"
    old = args.keep_as or f"{name}_before_{int(ctx.now().timestamp())}"
    with ctx.fence():
        held.replace(there, args.keep)
        if args.keep:
            held.set_aside[old] = before
    aside = {
        table: {
            "added": max(0, before.get(table, 0) - rows),
            "changed": 0,
            "deleted": max(0, rows - before.get(table, 0)),
        }
        for table, rows in there.tables.items()
    }
    newer = sum(each["added"] for each in aside.values())
    return Result(
        changed=True,
        data={
            "backup": args.from_,
            "database": name,
            "old": old if args.keep else "",
            "tables": there.tables,
            "rows": sum(there.tables.values()),
            "set_aside": aside,
            "set_aside_rows": newer,
            "earlier": {},
            "left_behind": {"slots": [], "subscriptions": []},
        },
        message=f"restored {sum(there.tables.values())} rows from {args.from_}; {newer} newer rows "
        f"are only in {old if args.keep else 'no database any more'}",
    )


def drop_database(ctx: Context, args: Arguments) -> Result:
    """`sql.drop-database`."""
    held = database(ctx, args.database)
    there = args.name in held.set_aside
    if not there and not args.missing_ok:
        raise Failed(f"there is no database {args.name}")
    with ctx.fence():
        held.set_aside.pop(args.name, None)
    return Result(changed=there, data={"name": args.name, "existed": there, "slots": []})


def prune(ctx: Context, args: Arguments) -> Result:
    """`sql.prune`: the simulated production's backups are all young."""
    database(ctx, args.database)
    return Result(data={"removed": []})
