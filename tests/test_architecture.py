"""The laws that a reader of the code relies on: who may import whom, and that all is documented."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.surroundings import ROOT

ORDER_TEXT = (
    "errors redaction text units regex model events people plan state transitions fold actions "
    "scheduler inventory templating clock files processes module_api registry loader journal "
    "store executor production simulation lab report evaluation runner session drill cli"
)
ORDER = ORDER_TEXT.split(" ")
"""Imports point from right to left (docs/architecture.md)."""

LIGHT = frozenset(("engine", "modules", "msgspec", "typing_extensions"))
"""What a module may import when it is loaded, besides the standard library."""


def sources(folder: str) -> list[Path]:
    """Every Python file below a folder of the project."""
    return sorted((ROOT / folder).rglob("*.py"))


TREES = {path: ast.parse(path.read_text()) for path in sources("engine") + sources("modules")}
"""Parsed when the tests are collected: CPython 3.11 can lose count of its parser's depth in a
process that has seen a RecursionError, and the loader's tests make many."""


def imports(tree: ast.AST, *, inside_functions: bool) -> Iterator[tuple[str, int]]:
    """Names of imported modules with their lines; what is only for type checkers is left out."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module, node.lineno
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            if inside_functions:
                yield from imports(node, inside_functions=True)
        else:
            yield from imports(node, inside_functions=inside_functions)


def part(path: Path) -> str:
    """The part of the engine that a file belongs to: ``engine/fold/run.py`` → ``fold``."""
    first = path.relative_to(ROOT / "engine").parts[0]
    return first.removesuffix(".py")


def test_every_part_of_the_engine_has_its_place_in_the_order() -> None:
    parts = {part(path) for path in sources("engine")} - {"__init__"}
    assert parts <= set(ORDER)


@pytest.mark.parametrize("path", sources("engine"), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path: Path) -> None:
    own = part(path)
    if own == "__init__":
        return
    wrong = [
        f"line {line}: {own} imports {name}"
        for name, line in imports(TREES[path], inside_functions=True)
        if name.startswith("engine.")
        and name.split(".")[1] in ORDER
        and ORDER.index(name.split(".")[1]) > ORDER.index(own)
    ]
    assert wrong == []


@pytest.mark.parametrize(
    "path", sources("engine/production"), ids=lambda path: str(path.relative_to(ROOT))
)
def test_the_production_is_given_its_time_and_touches_nothing(path: Path) -> None:
    world = {"time", "asyncio", "threading", "socket", "subprocess", "os", "secrets", "aiohttp"}
    tops = {name.split(".")[0] for name, _ in imports(TREES[path], inside_functions=True)}
    assert tops & world == set()


def test_the_lab_is_known_by_its_commands_alone() -> None:
    """Whoever carries a run is handed what finds a lab; its code is loaded when it is asked."""
    knowing = {
        str(path.relative_to(ROOT))
        for path in sources("engine")
        if part(path) != "lab"
        and any(
            f"{name}.".startswith("engine.lab.")
            for name, _ in imports(TREES[path], inside_functions=True)
        )
    }
    assert knowing == {"engine/cli/lab.py"}


@pytest.mark.parametrize("path", sources("modules"), ids=lambda path: path.name)
def test_modules_know_the_engine_by_its_module_api_alone(path: Path) -> None:
    names = [name for name, _ in imports(TREES[path], inside_functions=True)]
    engine = {name for name in names if name.startswith("engine")}
    assert {name for name in engine if not name.startswith("engine.module_api")} <= {"engine"}


@pytest.mark.parametrize("path", sources("modules"), ids=lambda path: path.name)
def test_modules_import_no_driver_when_they_are_loaded(path: Path) -> None:
    import sys

    tree = TREES[path]
    tops = {name.split(".")[0] for name, _ in imports(tree, inside_functions=False)}
    assert tops - set(sys.stdlib_module_names) - LIGHT == set()


@pytest.mark.parametrize(
    "path", sources("engine") + sources("modules"), ids=lambda path: str(path.relative_to(ROOT))
)
def test_what_is_public_is_documented(path: Path) -> None:
    tree = TREES[path]
    if not tree.body:
        return
    missing = [] if ast.get_docstring(tree) else ["the file"]
    named = ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef
    public = [n for n in tree.body if isinstance(n, named) and not n.name.startswith("_")]
    missing += [node.name for node in public if not ast.get_docstring(node)]
    assert missing == []


SLEEPING = ("modules/_http/sampling.py",)
"""What sleeps on an event loop of its own: many senders at once, each between two requests."""


def test_only_the_lab_sleeps_on_event_loops() -> None:
    """Reading clocks and sleeping is for `engine.clock`: ruff bans the rest (pyproject.toml)."""
    sleepers = {
        str(path.relative_to(ROOT))
        for path, tree in TREES.items()
        if "asyncio.sleep" in ast.unparse(tree) and "lab" not in path.relative_to(ROOT).parts
    }
    assert sleepers == set(SLEEPING)


def test_the_page_on_architecture_tells_the_same_order() -> None:
    page = " ".join((ROOT / "docs" / "architecture.md").read_text().split())
    assert ORDER_TEXT in page
