"""What one runbook file and one whole load carry along while they are read."""

from __future__ import annotations

from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import msgspec

from engine.inventory import Inventory
from engine.loader.problems import Problems
from engine.loader.source import Map, Seq, Source, Spot
from engine.loader.tree import BlockNode, StepNode
from engine.model import Input, Runbook
from engine.registry import ActionInfo, Registry
from engine.templating import is_template

NO_NAMES: frozenset[str] = frozenset()
RESULT: frozenset[str] = frozenset(("result",))


class Use(msgspec.Struct, frozen=True):
    """A template or expression to be checked once the whole runbook is known."""

    text: str
    at: Spot
    step: StepNode | None
    expression: bool = False
    extra: frozenset[str] = NO_NAMES
    """Names that it may read besides those of its step."""
    open: bool = False
    """Whether a module may give it names of its own, so that unknown ones are no problem."""
    source: Source | None = None
    """The file that it is all the text of; None if it stands in the book."""
    hint: str = ""
    """What else may be wrong with it."""
    variable: str | None = None
    """The variable that it defines; `item`, `host` and the like then depend on who reads it."""


class LoadState:
    """One load: what all its files share."""

    def __init__(
        self,
        registry: Registry,
        problems: Problems,
        root: Path,
        sources: dict[Path, Source],
        extra: Collection[str] = (),
    ) -> None:
        self.registry = registry
        self.problems = problems
        self.root = root
        self.sources = sources
        self.inventory: Inventory | None = None
        self.inventory_books: list[Book] = []
        self.main: Book | None = None
        self.home = root
        """The folder of the runbook that is loaded; `root` holds all included ones as well."""
        self.strict = False
        self.broken: set[str] = set()
        """Action keys whose modules cannot be imported; that has been noted."""
        self.extra = frozenset(extra)
        self.books: dict[Path, Book | None] = {}
        self.reader: Callable[[LoadState, Source], Book] | None = None

    def book(self, path: Path) -> Book | None:
        """The runbook file at an absolute path, read at first need; None if it could not be
        read or is being read (a cycle): both have been noted."""
        if path not in self.books and path in self.sources and self.reader is not None:
            self.books[path] = None
            self.books[path] = self.reader(self, self.sources[path])
        return self.books.get(path)


class Book:
    """One runbook file: what its checks need to know when it has been read."""

    def __init__(self, session: LoadState, source: Source) -> None:
        self.session = session
        self.source = source
        self.folder = source.path.parent
        self.inputs: dict[str, Input] = {}
        self.vars: dict[str, Any] = {}
        self.top = BlockNode(None, "steps")
        self.branches: dict[str, BlockNode] = {}
        self.uses: list[Use] = []
        self.registers: dict[str, list[StepNode]] = {}
        self.local: list[ActionInfo] = []
        """Actions of steps that stand below no `hosts` of this file and work on this machine."""
        self.needs_host: list[tuple[str, Spot]] = []
        """Actions with ``on: hosts`` that stand below no `hosts` of this file."""
        self.runbook: Runbook | None = None
        self.of_inventory = False
        """Whether this is no runbook but an inventory, whose templates any runbook may read."""
        self.begun = 0
        """Steps of this file that were begun to be read."""
        self.size = 0
        """Steps in it and in what it includes, each as often as it is included."""

    @property
    def problems(self) -> Problems:
        """Where problems go."""
        return self.session.problems

    def problem(self, at: Spot, message: str, suggestion: str = "") -> None:
        """Note a problem in this file."""
        self.problems.add(self.source.name, at, message, suggestion)

    def note(
        self,
        value: Any,
        at: Spot,
        step: StepNode | None,
        *,
        extra: frozenset[str] = NO_NAMES,
        variable: str | None = None,
    ) -> bool:
        """Remember every template in a value for the checks; whether there was any."""
        if isinstance(value, str):
            if not is_template(value):
                return False
            self.uses.append(Use(value, at, step, extra=extra, variable=variable))
            return True
        found = False
        if isinstance(value, Map):
            for key, each in value.items():
                if isinstance(each, str | dict | list):
                    spot = value.value_at(key) if isinstance(each, str) else at
                    found |= self.note(each, spot, step, extra=extra, variable=variable)
                if is_template(key):
                    self.uses.append(Use(key, value.key_at(key), step, extra=extra))
                    found = True
        elif isinstance(value, Seq):
            for index, each in enumerate(value):
                if isinstance(each, str | dict | list):
                    spot = value.item_at(index)
                    found |= self.note(each, spot, step, extra=extra, variable=variable)
        return found

    def note_expression(
        self, text: str, at: Spot, step: StepNode | None, extra: frozenset[str] = NO_NAMES
    ) -> None:
        """Remember an expression without braces for the checks."""
        self.uses.append(Use(text, at, step, expression=True, extra=extra))
