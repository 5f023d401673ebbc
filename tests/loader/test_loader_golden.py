"""The whole output for a runbook with some forty mistakes, compared with a file.

Run this file as a program to write ``golden/broken.txt`` anew; then read the difference.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.errors import InvalidRunbook
from engine.loader import load
from engine.registry import Registry

GOLDEN = Path(__file__).parent / "golden"


def output() -> str:
    """Problems of ``broken.yml`` as ``ce-run validate`` shows them: each with its source line."""
    try:
        load("broken.yml", registry=Registry(), inventory_path="inventory.yml")
    except InvalidRunbook as error:
        lines: list[str] = []
        for problem in error.problems:
            caret = " " * (problem.column - 1) + "^"
            lines += [str(problem), *([problem.source, caret] if problem.line else [])]
        return "\n".join([*lines, error.message, ""])
    return "no problems\n"


def test_problems_of_a_broken_runbook(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(GOLDEN)
    assert output() == (GOLDEN / "broken.txt").read_text(encoding="utf-8")


if __name__ == "__main__":
    os.chdir(GOLDEN)
    (GOLDEN / "broken.txt").write_text(output(), encoding="utf-8")
