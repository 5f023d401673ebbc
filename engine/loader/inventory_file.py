"""An inventory in ce-run's own form: variables, secrets, connections, hosts."""

from __future__ import annotations

from typing import Any

from engine.inventory import COMMON_KEYS, Inventory, SecretSource
from engine.loader.book import Book
from engine.loader.fields import Fields
from engine.loader.host_tree import HostTree
from engine.loader.source import Map, Seq
from engine.registry import describe
from engine.registry.types import as_written, plain
from engine.templating import is_template
from engine.text import fold


def read_own(book: Book, inventory: Inventory) -> None:
    """Add what an inventory in ce-run's own form says to `inventory`."""
    source, problems = book.source, book.problems
    if source.root is None:
        return
    if not isinstance(source.root, Map):
        said = (
            f"an inventory is a mapping with `vars`, `hosts` and so on, not {describe(source.root)}"
        )
        problems.add(source.name, (1, 1), said)
        return
    fields = Fields(source.root, source, problems)
    inventory.name = fields.text("name", inventory.name) or inventory.name
    inventory.vars.update(_variables(book, fields, "vars"))
    inventory.endpoints.update(_table(book, fields, "endpoints"))
    inventory.metrics.update(_table(book, fields, "metrics"))
    _check_metrics(book, fields)
    inventory.secrets.update(_secrets(fields))
    hosts = fields.mapping("hosts")
    if hosts is not None:
        HostTree(inventory, book).read(hosts)
    inventory.sections.update(_sections(book, fields))


def _sections(book: Book, fields: Fields) -> dict[str, Any]:
    found: dict[str, Any] = {}
    registry = book.session.registry
    modules = registry.names()
    for key, value in fields.map.items():
        if key in COMMON_KEYS and key != "traffic":
            continue
        if key != "traffic" and not registry.has_module(key):
            fields.unknown_key(key, (*COMMON_KEYS, *modules), "an inventory")
        elif value is None or isinstance(value, Map):
            found[fold(key)] = plain(value or {})
            book.note(value, fields.map.value_at(key), None, variable=key)
        else:
            fields.wrong(key, "a mapping")
    return found


def _variables(book: Book, fields: Fields, key: str) -> dict[str, Any]:
    map = fields.mapping(key)
    return {} if map is None else _variables_of(book, map)


def _variables_of(book: Book, map: Map) -> dict[str, Any]:
    fields = Fields(map, book.source, book.problems)
    found: dict[str, Any] = {}
    for name, value in map.items():
        if fields.variable_name(name, map.key_at(name), "the variable"):
            found[name] = as_written(value, fields.raw(name))
            book.note(value, map.value_at(name), None, variable=name)
    return found


def _table(book: Book, fields: Fields, key: str) -> dict[str, Any]:
    map = fields.mapping(key)
    if map is None:
        return {}
    book.note(map, map.at, None, variable=key)
    return {name: plain(value) for name, value in map.items()}


def _check_metrics(book: Book, fields: Fields) -> None:
    """`value` and `samples` of a JSON endpoint are expressions, which nothing may write but people:
    no template."""
    metrics = fields.map.get("metrics")
    for definition in metrics.values() if isinstance(metrics, Map) else ():
        if not isinstance(definition, Map):
            continue
        for key in ("value", "samples"):
            text = definition.get(key)
            if isinstance(text, str) and is_template(text):
                said = f"`{key}` of a metric is an expression: written without braces"
                book.problem(definition.value_at(key), said)


# -- secrets --------------------------------------------------------------------------------------
def _secrets(fields: Fields) -> dict[str, SecretSource]:
    map = fields.mapping("secrets")
    found: dict[str, SecretSource] = {}
    for name, value in (map or {}).items():
        assert map is not None
        source = _secret(name, value, Fields(map, fields.source, fields.problems))
        if source is not None:
            found[name] = source
    return found


def _secret(name: str, value: Any, fields: Fields) -> SecretSource | None:
    at = fields.map.value_at(name)
    ways = "say where it lives: {env: NAME}, {file: PATH} or {command: [PROGRAM, …]}"
    if not isinstance(value, Map):
        # the value itself may be the secret, so it is not repeated here
        said = f"the secret '{name}' has to say where its value lives, not what it is"
        fields.problem(at, said, ways)
        return None
    inner = Fields(value, fields.source, fields.problems)
    kinds = [key for key in value if key in ("env", "file", "command")]
    inner.unknown_keys(("env", "file", "command"), f"the secret '{name}'")
    if len(kinds) != 1:
        if len(kinds) == len(value):
            fields.problem(at, f"the secret '{name}' needs exactly one place", ways)
        return None
    place = fields.source.place(at)
    if kinds[0] == "command":
        words = tuple(word for word, _ in inner.words("command"))
        if not isinstance(value["command"], Seq) or not words:
            inner.problem(
                value.value_at("command"), "`command` wants a list: the program and its arguments"
            )
            return None
        return SecretSource(name, "command", words, place)
    where = inner.text(kinds[0])
    if not where:
        return None
    return SecretSource(name, "env" if kinds[0] == "env" else "file", (where,), place)
