"""A database for tests of backups: something in it, changes after the backup, and crashes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.executor import TaskContext
from engine.module_api import Result
from tests.modules.postgres_server import Postgres

if TYPE_CHECKING:
    from tests.modules.conftest import MakeContext

WORLD = """
CREATE SCHEMA app;
CREATE TABLE app.agent (id serial PRIMARY KEY, name text, seen timestamptz, score float8);
INSERT INTO app.agent (name, seen, score)
SELECT 'agent ' || n, now(), random() FROM generate_series(1, 61) AS n;
CREATE TABLE note (text text);
INSERT INTO note VALUES ('a'), ('a'), ('b');
CREATE TABLE "Odd ""name" (n int PRIMARY KEY);
CREATE VIEW names AS SELECT name FROM app.agent;
CREATE TABLE empty (n int);
"""


class World:
    """A database with something in it, its folder of backups, and contexts to work on them."""

    def __init__(self, postgres: Postgres, make_context: MakeContext, folder: Path) -> None:
        self.postgres = postgres
        self.folder = folder
        self.db = postgres.fresh()
        self._make_context = make_context
        postgres.run(self.db, WORLD)

    def ctx(self, step: str = "step", **options: Any) -> TaskContext:
        """A context of this database; options as of `make_context`, others of the connection."""
        connection = {k: options.pop(k) for k in ("bin", "port") if k in options}
        entry = self.postgres.entry(self.db, backups=str(self.folder), **connection)
        return self._make_context({"sql": {"primary": entry}}, step=step, **options)

    def rows(self, query: str, db: str = "") -> list[tuple[Any, ...]]:
        return self.postgres.rows(db or self.db, query)

    def change(self) -> None:
        """What happens after the backup: 2 rows added, 1 changed, 1 deleted, a table made."""
        self.postgres.run(
            self.db,
            "INSERT INTO app.agent (name) VALUES ('late'), ('later');"
            "UPDATE app.agent SET name = 'renamed' WHERE id = 1;"
            "DELETE FROM app.agent WHERE id = 2;"
            "INSERT INTO note VALUES ('a'), ('c');"
            "CREATE TABLE young (n int); INSERT INTO young VALUES (1), (2), (3);",
        )

    def databases(self) -> set[str]:
        found = self.postgres.rows("postgres", "SELECT datname FROM pg_database")
        return {name for (name,) in found if name.startswith(self.db)}


ASIDE = {
    "app.agent": {"added": 2, "changed": 1, "deleted": 1},
    "public.note": {"added": 2, "changed": 0, "deleted": 0},
    "public.young": {"added": 3, "changed": 0, "deleted": 0},
}


class Crash(BaseException):
    """The process dies here."""


class Crashing:
    """A fence at which the process dies: right before or right after its nth effect."""

    def __init__(self, nth: int, after: bool) -> None:
        self.nth = nth
        self.after = after
        self.count = 0

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        self.count += 1
        if self.count == self.nth and not self.after:
            raise Crash
        yield
        if self.count == self.nth and self.after:
            raise Crash

    def identity(self) -> dict[str, str]:
        return {"X-CE-Run": "run-1", "X-CE-Token": "7"}


def crash_everywhere(
    work: Callable[[Crashing | None], Result],
    check: Callable[[], None],
    sides: tuple[bool, ...] = (False, True),
) -> int:
    """Do the work with a crash at each of its effects in turn, then again; how many points."""
    for point in range(1, 50):
        for after in sides:
            fence = Crashing(point, after)
            try:
                work(fence)
            except Crash:
                work(None)
                check()
            else:
                return point - 1
    raise AssertionError("no end")
