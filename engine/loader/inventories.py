"""Inventories from files and folders: ce-run's own form, and Ansible's as they are.

Several are added up, later ones winning, as several ``-i`` of Ansible. Of Ansible's forms YAML and
INI are read, with ``group_vars/`` and ``host_vars/`` beside them. What would have to be run
(scripts, plugins) or decrypted (``!vault``) is refused, with what to do instead.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from engine.inventory import COMMON_KEYS, Group, Inventory
from engine.loader.book import Book, LoadState
from engine.loader.host_tree import HostTree, host_variables
from engine.loader.ini_file import read_ini
from engine.loader.inventory_file import read_own
from engine.loader.problems import Problems
from engine.loader.reader import read, read_text
from engine.loader.source import Map
from engine.registry import describe
from engine.text import display_name

_YAML = (".yml", ".yaml", ".json")
_IGNORED = ("~", ".orig", ".bak", ".cfg", ".retry", ".pyc", ".pyo", ".swp", ".md", ".txt", ".rst")
_SHAPE = frozenset(("hosts", "vars", "children"))
_LOOKS_LIKE_YAML = re.compile(r"\s*(?:#[^\n]*\n\s*)*(?:---|[\w.-]+:(?:\s|$)|\{)")


def read_inventories(session: LoadState, paths: Sequence[Path]) -> Inventory | None:
    """The inventory that some files and folders (absolute) add up to; None if nothing can be read.

    Their templates are noted in the session's `inventory_books`, to be checked later.
    """
    inventory = Inventory()
    for path in paths:
        if not inventory.files:
            inventory.file, inventory.name = display_name(path), path.stem
            inventory.folder = str(path if path.is_dir() else path.parent)
        for file in _files(session, path):
            _add(session, inventory, file)
        _add_folders_beside(session, inventory, path if path.is_dir() else path.parent)
    return inventory if inventory.files else None


def _files(session: LoadState, path: Path) -> Iterator[Path]:
    """The file, or those of a folder, in the order of their names."""
    try:
        if not path.is_dir():
            yield path
            return
        inside = sorted(each for each in path.iterdir() if not each.name.startswith("."))
    except OSError as error:
        session.problems.add(display_name(path), (0, 0), f"it cannot be read: {error.strerror}")
        return
    files = [each for each in inside if each.is_file() and not each.name.endswith(_IGNORED)]
    if not files:
        session.problems.add(display_name(path), (0, 0), "there is no inventory in this folder")
    yield from files


def _add(session: LoadState, inventory: Inventory, path: Path) -> None:
    shape = _shape(path)
    if shape == "ini":
        source = read_text(path, session.problems)
    else:
        source = read(path, session.problems, ansible=shape == "ansible")
    if source is None:
        return
    inventory.files += (source.name,)
    book = Book(session, source)
    book.of_inventory = True
    session.inventory_books.append(book)
    if shape == "ini":
        read_ini(book, inventory)
    elif shape == "ansible" and isinstance(source.root, Map):
        _add_tree(book, inventory, source.root)
    elif isinstance(source.root, list):
        said = "an inventory is a mapping with `vars`, `hosts` and so on, not a list"
        hint = "this is a playbook" if _is_playbook(source.root) else ""
        session.problems.add(source.name, (1, 1), said, hint)
    else:
        read_own(book, inventory)


def _add_tree(book: Book, inventory: Inventory, root: Map) -> None:
    if "plugin" in root:
        said = "this is the configuration of an inventory plugin, which is not run here"
        hint = "write what it gives to a file: ansible-inventory -i … --list --yaml > FILE"
        book.problem(root.key_at("plugin"), said, hint)
        return
    HostTree(inventory, book).read(root)


def _shape(path: Path) -> str:
    """``own``, ``ansible`` (YAML with groups at the top) or ``ini``."""
    unheard = Problems()
    if path.suffix not in _YAML:
        source = read_text(path, unheard)
        if source is not None and not _LOOKS_LIKE_YAML.match(source.text):
            return "ini"
    source = read(path, unheard, ansible=True)
    if source is None or not isinstance(source.root, Map):
        return "own" if source is not None or not _begins_with_all(path) else "ansible"
    root = source.root
    if "all" in root or "plugin" in root:
        return "ansible"
    groups = [v for key, v in root.items() if isinstance(v, Map) and v and not _SHAPE.isdisjoint(v)]
    foreign = not any(key in COMMON_KEYS for key in root)
    return "ansible" if groups and foreign else "own"


def _begins_with_all(path: Path) -> bool:
    source = read_text(path, Problems())
    return source is not None and re.search(r"^all:", source.text, re.MULTILINE) is not None


def _is_playbook(root: Any) -> bool:
    return any(isinstance(each, Map) and "hosts" in each for each in root)


# -- group_vars and host_vars -------------------------------------------------------------------
def _add_folders_beside(session: LoadState, inventory: Inventory, folder: Path) -> None:
    names = ["all", "ungrouped", *inventory.groups]
    for name in dict.fromkeys(names):
        variables = _variables_of(session, inventory, folder / "group_vars", name)
        if variables:
            if name not in inventory.groups:
                hosts = inventory.hosts_of(name) if name == "ungrouped" else []
                inventory.groups[name] = Group(name, hosts)
            inventory.groups[name].file_vars.update(variables)
    if (folder / "host_vars").is_dir():
        for name in inventory.hosts:
            variables = _variables_of(session, inventory, folder / "host_vars", name)
            if variables:
                inventory.host_file_vars.setdefault(name, {}).update(variables)


def _variables_of(
    session: LoadState, inventory: Inventory, folder: Path, name: str
) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for file in _variable_files(folder, name):
        source = read(file, session.problems, ansible=True)
        if source is None:
            continue
        inventory.files += (source.name,)
        book = Book(session, source)
        book.of_inventory = True
        session.inventory_books.append(book)
        if isinstance(source.root, Map):
            found.update(host_variables(book, source.root))
        elif source.root is not None:
            said = f"variables are a mapping of names to values, not {describe(source.root)}"
            book.problem((1, 1), said)
    return found


def _variable_files(folder: Path, name: str) -> Iterator[Path]:
    """``group_vars/web``, ``group_vars/web.yml``, or the files of ``group_vars/web/``."""
    if "/" in name or not folder.is_dir():
        return
    for suffix in ("", *_YAML):
        path = folder / f"{name}{suffix}"
        if path.is_file():
            yield path
        elif path.is_dir() and not suffix:
            inside = sorted(each for each in path.rglob("*") if each.is_file())
            yield from (
                each
                for each in inside
                if each.suffix in ("", *_YAML) and not each.name.startswith(".")
            )
