"""Files hold one idea and functions fit on a screen: limits, and nothing is over them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from tests.surroundings import ROOT
from tests.test_architecture import TREES

FILE_LINES = 450
FUNCTION_LINES = 45
PARAMETERS = 8

SIGNATURES = ("click.", "run_argument", "action(")
"""Decorators of functions whose parameters are what users write: a command line, a step."""


def functions() -> Iterator[tuple[str, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """Every function of engine and modules, with ``file:name``."""
    for path, tree in TREES.items():
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{name_of(path)}:{node.name}", node


def name_of(path: Path) -> str:
    """A file as the lists name it."""
    return str(path.relative_to(ROOT))


def parameters(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """How many a caller gives."""
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    return sum(each.arg not in ("self", "cls") for each in arguments)


def is_signature(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether users write its parameters: many of them are no sign of a function doing too much."""
    return any(ast.unparse(each).startswith(SIGNATURES) for each in node.decorator_list)


def test_no_file_is_longer_than_can_be_kept_in_mind() -> None:
    long = {name_of(path) for path in TREES if len(path.read_text().splitlines()) > FILE_LINES}
    assert long == set()


def test_no_function_is_longer_than_a_screen() -> None:
    long = {
        name
        for name, node in functions()
        if (node.end_lineno or 0) - node.lineno + 1 > FUNCTION_LINES
    }
    assert long == set()


def test_no_function_takes_more_than_can_be_told_apart() -> None:
    many = {
        name
        for name, node in functions()
        if parameters(node) > PARAMETERS and not is_signature(node)
    }
    assert many == set()
