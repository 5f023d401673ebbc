"""From YAML files to a checked `Runbook` and `Inventory`, or to everything that is wrong.

The way of a file: `reader` (YAML events → values with places), `includes` (which files take
part), `runbook` → `steps` → `order`, `parts`, `calls`, `inputs` (values → model), `checks` (names
in templates). Nothing stops at the first problem: readers note it in `Problems` and go on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from engine.errors import InvalidRunbook
from engine.inventory import Inventory
from engine.loader.book import LoadState
from engine.loader.checks import check_book
from engine.loader.fields import Fields
from engine.loader.hosts import check_hosts
from engine.loader.includes import common_root, gather, included_path, near_file
from engine.loader.inputs import Extra, convert_inputs, fit
from engine.loader.inventories import read_inventories
from engine.loader.problems import Problems
from engine.loader.reader import read
from engine.loader.runbook import read_runbook
from engine.loader.source import Map
from engine.model import Runbook
from engine.registry import Registry, describe
from engine.registry.types import as_written
from engine.text import display_name

__all__ = ["Extra", "convert_inputs", "fit", "load", "load_inventory", "load_variables"]


def load(
    path: Path | str,
    *,
    registry: Registry,
    inventory: Inventory | None = None,
    inventory_path: Path | str | None = None,
    more_inventories: Iterable[Path | str] = (),
    modules_dirs: Iterable[Path | str] = (),
    extra: Collection[str] = (),
    strict: bool = False,
) -> tuple[Runbook, Inventory]:
    """Read and check a runbook with all that it includes, and its inventory.

    The inventory is `inventory`, else the file or folder `inventory_path` (with
    `more_inventories` added), else the one that the runbook
    names, else an empty one. When there is none, names that an inventory could give are no
    problem, unless `strict`. `extra` are names of variables that the command line gives.
    `modules/` beside the runbook is added to the registry, after `modules_dirs`. Raises
    InvalidRunbook with all problems that were found.
    """
    first = _absolute(Path(path))
    for folder in (*modules_dirs, first.parent / "modules"):
        registry.add_folder(folder)
    with _all_problems(first) as problems:
        sources = gather(first, problems)
        if first not in sources:
            raise InvalidRunbook(problems.sorted())
        session = LoadState(registry, problems, common_root(sources, first), sources, extra)
        session.reader, session.strict, session.home = read_runbook, strict, first.parent
        given = [inventory_path] if inventory_path is not None else []
        session.inventory = inventory or _find_inventory(
            session, first, [*given, *more_inventories]
        )
        book = session.main = session.book(first)
        for each in (*session.books.values(), *session.inventory_books):
            if each is not None:
                check_book(each)
        if book is not None:
            check_hosts(book)
        if book is None or book.runbook is None:
            raise InvalidRunbook(problems.sorted())
        whole = _whole(session, book.runbook)
    return whole, session.inventory or Inventory()


def load_inventory(path: Path | str, *, registry: Registry) -> Inventory:
    """Read an inventory alone. Raises InvalidRunbook with all problems."""
    file = _absolute(Path(path))
    with _all_problems(file) as problems:
        session = LoadState(registry, problems, file.parent, {})
        found = session.inventory = read_inventories(session, [file])
        for book in session.inventory_books:
            check_book(book)
    return found or Inventory()


def load_variables(path: Path | str) -> Extra:
    """Variables of a file for ``-e``: a mapping of names to values, in the YAML of runbooks.

    Raises InvalidRunbook with all problems.
    """
    file = _absolute(Path(path))
    found = Extra()
    with _all_problems(file) as problems:
        source = read(file, problems)
        if source is not None and isinstance(source.root, Map):
            fields = Fields(source.root, source, problems)
            for name, value in source.root.items():
                if fields.variable_name(name, source.root.key_at(name), "the variable"):
                    raw = fields.raw(name)
                    found.give(name, as_written(value), raw)
        elif source is not None and source.root is not None:
            said = f"this is {describe(source.root)}, and a mapping of names to values is wanted"
            problems.add(source.name, (1, 1), said)
    return found


@contextlib.contextmanager
def _all_problems(file: Path) -> Iterator[Problems]:
    """Problems to be filled; raises InvalidRunbook in the end if there are any."""
    problems = Problems()
    try:
        yield problems
    except RecursionError:
        problems.add(display_name(file), (0, 0), "this is nested too deeply")
    if len(problems):
        raise InvalidRunbook(problems.sorted())


def _absolute(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError, ValueError):
        return path.absolute()


def _find_inventory(
    session: LoadState, first: Path, given: Sequence[Path | str]
) -> Inventory | None:
    """The inventory from the command line or the runbook; None if there is none."""
    if given:
        return read_inventories(session, [_absolute(Path(each)) for each in given])
    source = session.sources[first]
    named = source.root.get("inventory") if isinstance(source.root, dict) else None
    if not isinstance(named, str):
        return None
    target = included_path(first.parent, named)
    if target is None or not target.exists():
        at = source.root.value_at("inventory")
        near = near_file(target, named) if target is not None else ""
        session.problems.add(source.name, at, f"there is no inventory '{named}'", near)
        return None
    return read_inventories(session, [target])


def _whole(session: LoadState, runbook: Runbook) -> Runbook:
    """The runbook with what the included ones add: their locks, and the list of all files."""
    locks = dict.fromkeys(runbook.locks)
    sources = {}
    for path, source in session.sources.items():
        other = session.books.get(path)
        if other is not None and other.runbook is not None:
            locks.update(dict.fromkeys(other.runbook.locks))
        sources[source.name] = source.digest
    folders = {str(session.home): None, **{str(path.parent): None for path in session.sources}}
    return msgspec.structs.replace(
        runbook, locks=tuple(locks), sources=sources, folders=tuple(folders)
    )
