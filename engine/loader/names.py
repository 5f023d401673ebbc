"""What the arguments of an action name of the inventory, looked up before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.loader.book import Book
from engine.loader.source import Spot
from engine.module_api import Name
from engine.registry import ActionInfo
from engine.registry.naming import Named
from engine.text import did_you_mean, quoted_list


def check_names(
    book: Book, info: ActionInfo, arguments: dict[str, Any], where: Callable[[Named | None], Spot]
) -> None:
    """Note names that the inventory does not have; `where` tells the place of one, or the action's.

    Without an inventory nothing is known, unless the load is for a run, which then has none.
    """
    if book.session.inventory is None and not book.session.strict:
        return
    for named in info.names(arguments):
        entries = _entries(book, named.name)
        if entries is not None and named.text not in entries:
            said = f"the inventory has no {named.name.word} '{named.text}'"
            hint = did_you_mean(named.text, entries, what="it has")
            book.problem(where(named), said, hint or f"it has no `{named.name.section}`")
    for parameter in info.unnamed(arguments):
        name = parameter.kind.names
        if name is None or name.otherwise is None or parameter.required:
            continue
        entries = _entries(book, name)
        if entries is None or len(entries) == 1 or name.otherwise in entries:
            continue
        said = f"the inventory has no {name.word}"
        hint = f"add it below `{name.section}:`"
        if entries:
            said = f"the inventory has several {name.word}s: {quoted_list(entries)}"
            hint = f"say which with `{parameter.name}`"
        book.problem(where(None), said, hint)


def _entries(book: Book, name: Name) -> dict[str, Any] | None:
    """The entries that can be named; None if only the run can know them."""
    inventory = book.session.inventory
    if inventory is None:
        return {}
    section, _, part = name.section.partition(".")
    found: Any = inventory.section(section)
    if part:
        found = found.get(part) or {}
    return found if isinstance(found, dict) else None
