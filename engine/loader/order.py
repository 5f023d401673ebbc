"""The steps of one list: their ids and the order among them."""

from __future__ import annotations

import re

from engine.loader.book import Book
from engine.loader.fields import Fields
from engine.loader.source import Map
from engine.loader.tree import BlockNode
from engine.text import did_you_mean

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
_TEMPLATE = re.compile(r"\{[{%#].*?[}%#]\}")
_LONGEST_SLUG = 60
_NO_ACTION = frozenset(
    (
        *("id", "name", "needs", "when", "hosts", "on", "loop", "serial", "max_fail_percentage"),
        *("retry", "until", "failed_when", "changed_when", "register", "timeout", "budget"),
        *("guards", "confirm", "undo", "rescue", "always", "ignore_errors", "no_log", "tags"),
        "after_rescue",
        *("vars", "steps", "runbook", "with", "parallel"),
    )
)


def settle_order(book: Book, maps: list[Map], node: BlockNode, *, parallel: bool) -> None:
    """Fill in a block's ids and needs; doubled ids, unknown needs and cycles are noted."""
    node.ids = _ids(book, maps)
    node.index = {id: index for index, id in enumerate(node.ids)}
    node.needs = [_needs(book, map, node, n, parallel) for n, map in enumerate(maps)]
    for cycle in node.cycles():
        _report_cycle(book, node, maps, cycle)


def _ids(book: Book, maps: list[Map]) -> list[str]:
    """The id of every step: as given, else made of its name or its action, and unique."""
    first: dict[str, Map] = {}
    given: list[str | None] = []
    for map in maps:
        id = _given_id(book, map) if "id" in map else None
        if id is not None and id in first and id != map["id"]:
            id = None  # made of one that cannot be: that has been told
        elif id is not None and id in first:
            line = first[id].value_at("id")[0]
            said = f"the id '{id}' is here twice; it stands in line {line}, too"
            book.problem(map.value_at("id"), said)
            id = None
        elif id is not None:
            first[id] = map
        given.append(id)
    taken = set(first)
    counts: dict[str, int] = {}
    return [
        id if id is not None else _unique(_slug_of(map), taken, counts)
        for map, id in zip(maps, given, strict=True)
    ]


def _given_id(book: Book, map: Map) -> str | None:
    id = Fields(map, book.source, book.problems).text("id")
    if id is None or _ID.fullmatch(id):
        return id
    slug = slug_of(id)
    hint = f"write '{slug}'" if slug else ""
    book.problem(map.value_at("id"), f"the id '{id}' has to be of letters, digits, - and _", hint)
    return slug or None


def _unique(slug: str, taken: set[str], counts: dict[str, int]) -> str:
    id = slug
    while id in taken:
        counts[slug] = counts.get(slug, 1) + 1
        id = f"{slug}-{counts[slug]}"
    taken.add(id)
    return id


def _slug_of(map: Map) -> str:
    name = map.get("name")
    slug = slug_of(name) if isinstance(name, str) else ""
    if slug:
        return slug
    included = map.get("runbook")
    if isinstance(included, str):
        return slug_of(included.rsplit("/", 1)[-1].rsplit(".", 1)[0]) or "runbook"
    for key in map:
        if key not in _NO_ACTION:
            return slug_of(key) or "step"
    return "confirm" if "confirm" in map else "group" if "steps" in map else "step"


def slug_of(text: str) -> str:
    """``Back up the database`` → ``back-up-the-database``; "" if nothing can be kept."""
    slug = re.sub(r"[^a-z0-9_]+", "-", _TEMPLATE.sub(" ", text.lower())).strip("-")
    if len(slug) <= _LONGEST_SLUG:
        return slug
    cut = slug[: _LONGEST_SLUG + 1].rpartition("-")[0]
    return cut or slug[:_LONGEST_SLUG]


def _needs(book: Book, map: Map, node: BlockNode, index: int, parallel: bool) -> tuple[int, ...]:
    """Indices of the steps that a step needs: as given, else the one before it."""
    if "needs" not in map:
        return (index - 1,) if index and not parallel else ()
    found: dict[int, None] = {}
    for id, at in Fields(map, book.source, book.problems).words("needs"):
        other = node.index.get(id)
        if other is None:
            book.problem(at, f"unknown step '{id}'", _hint_for_need(book, node, id))
        else:
            found[other] = None
    return tuple(found)


def _hint_for_need(book: Book, node: BlockNode, id: str) -> str:
    if book.problems.many:
        return ""
    head = id.partition("/")[0]
    if head != id and head in node.index:
        return f"`needs` names steps of the same list: need '{head}' as a whole"
    owner = node.owner
    while owner is not None:
        if id in owner.block.index:
            return f"'{id}' stands outside this group: let '{owner.id}' need it"
        owner = owner.block.owner
    return did_you_mean(id, node.ids, what="steps of this list are")


def _report_cycle(book: Book, node: BlockNode, maps: list[Map], cycle: list[int]) -> None:
    map = maps[cycle[0]]
    at = map.value_at("needs") if "needs" in map else map.at
    if len(cycle) == 1:
        book.problem(at, f"the step '{node.ids[cycle[0]]}' needs itself")
        return
    path = " → ".join(node.ids[index] for index in (*cycle, cycle[0]))
    book.problem(at, f"these steps wait for each other: {path}")
