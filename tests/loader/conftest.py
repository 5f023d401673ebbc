"""Loads runbooks from text, with modules made for these tests."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InvalidRunbook, Problem
from engine.inventory import Inventory
from engine.loader import load
from engine.model import Runbook
from engine.registry import Registry

TOYS = Path(__file__).parent / "toys"


class Desk:
    """A working directory in which runbooks are written and loaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, text: str | bytes) -> Path:
        """Write a file; text is dedented."""
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(text, str):
            path.write_text(textwrap.dedent(text), encoding="utf-8")
        else:
            path.write_bytes(text)
        return path

    def whole(
        self, text: str | bytes, inventory_text: str | None = None, **options: Any
    ) -> tuple[Runbook, Inventory]:
        """Load `text` as ``book.yml``, with an inventory of that text."""
        path = self.write("book.yml", text)
        if inventory_text is not None:
            options["inventory_path"] = self.write("inventory.yml", inventory_text)
        return self.load_file(path, **options)

    def load_file(self, path: Path, **options: Any) -> tuple[Runbook, Inventory]:
        """Load a file that was written before."""
        return load(path, registry=Registry([TOYS]), **options)

    def load(self, text: str | bytes, inventory_text: str | None = None, **options: Any) -> Runbook:
        """The runbook alone."""
        return self.whole(text, inventory_text, **options)[0]

    def problems(
        self, text: str | bytes, inventory_text: str | None = None, **options: Any
    ) -> list[Problem]:
        """The problems of a runbook that has some."""
        with pytest.raises(InvalidRunbook) as caught:
            self.load(text, inventory_text, **options)
        return caught.value.problems

    def said(
        self, text: str | bytes, inventory_text: str | None = None, **options: Any
    ) -> list[str]:
        """The problems as they are shown, without the name of the file."""
        return [
            str(each).removeprefix("book.yml:")
            for each in self.problems(text, inventory_text, **options)
        ]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path)


@pytest.fixture
def said(desk: Desk) -> Callable[..., list[str]]:
    """What is said about a runbook."""
    return desk.said
