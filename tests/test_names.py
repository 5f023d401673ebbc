"""A name of the code means one thing: classes and types that others may import.

Drivers are worlds of their own (a `Target` of `kubectl.delete` is none of `notify`), but what the
core calls something, no driver calls something else.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tests.surroundings import ROOT
from tests.test_architecture import TREES

TWINS = frozenset(("Inbox", "Load", "Monitoring", "Notice"))
"""The same thing in two worlds: the lab's of processes, the simulation's of numbers."""

WORLDS = ("lab", "production", "simulation")
"""Parts of the engine that stand for what modules work on, and name it as modules do."""


def definitions(tree: ast.Module) -> Iterator[str]:
    """Public classes and names of types at the top of a file."""
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name[0].isupper() and not name.isupper():
                yield name


def homes(*folders: Path) -> dict[str, list[Path]]:
    """Every public name and the files that define it."""
    found = defaultdict(list)
    for path, tree in TREES.items():
        if any(path.is_relative_to(folder) for folder in folders):
            for name in definitions(tree):
                if not name.startswith("_"):
                    found[name].append(path.relative_to(ROOT))
    return found


def test_a_name_of_the_engine_is_defined_once() -> None:
    double = {name: files for name, files in homes(ROOT / "engine").items() if len(files) > 1}
    assert set(double) == TWINS, double
    for files in double.values():
        assert {file.parts[1] for file in files} == {"lab", "simulation"}


def test_no_module_gives_another_meaning_to_a_name_of_the_core() -> None:
    engine = homes(ROOT / "engine")
    core = {
        name for name, files in engine.items() if any(file.parts[1] not in WORLDS for file in files)
    }
    modules = homes(ROOT / "modules")
    assert {name: files for name, files in modules.items() if name in core} == {}


def test_a_driver_defines_a_name_once() -> None:
    for folder in sorted((ROOT / "modules").glob("_*/")):
        assert {name: each for name, each in homes(folder).items() if len(each) > 1} == {}
