"""Checks that need the whole runbook: the names, steps and secrets that templates read.

A variable may read other variables, and is rendered in the scope of the step that uses it. So a
use of a variable is followed through the variables behind it: what they read in the end
(``item``, a step's result) has to be there where the use stands.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from engine.inventory import Inventory
from engine.loader.book import Book, Use
from engine.loader.tree import BlockNode, StepNode, Trail, find_from, may_read
from engine.templating import FUNCTIONS, is_template
from engine.templating.fields import FIELDS, OURS, WORDS
from engine.text import did_you_mean

if TYPE_CHECKING:
    from engine.templating.references import Member, References

ALWAYS = frozenset(
    ("inputs", "run", "steps", "endpoints", "metrics", "groups", "hosts", *FUNCTIONS)
)
"""Names that are there in every template."""

SPECIAL = {
    "item": "it is there in a step with `loop`, and inside it",
    "host": "it is there in a step with `hosts`, and inside it",
    "inventory_hostname": "it is there in a step with `hosts`, and inside it",
    "failure": "it is there in `rescue`, `always` and `undo`",
    "result": "it is there in `until`, `failed_when`, `changed_when` and `trip`",
}
"""Names that depend on where a template stands, and where they are."""


MOST_LAYERS = 50
"""Variables that may stand one behind the other; rendering them goes as deep."""

_MOST_LOOKED_AT = 200  # steps that register a name


def check_book(book: Book) -> None:
    """Check everything that was noted while the file was read."""
    if not book.uses:
        return
    from engine.templating.references import references

    checker = _Checker(book, references)
    for use in book.uses:
        checker.check(use, references(use.text, use.expression))


class _Behind:
    """What a variable reads in the end, through all the variables behind it."""

    __slots__ = ("depth", "in_loop", "open", "specials", "steps")

    def __init__(self) -> None:
        self.specials: dict[str, None] = {}
        self.steps: dict[str, None] = {}
        self.depth = 1
        self.in_loop = False
        self.open = False
        """Whether it is being looked at just now."""

    def add(self, other: _Behind) -> None:
        """It reads a variable that reads this."""
        self.specials.update(other.specials)
        self.steps.update(other.steps)
        self.depth = max(self.depth, other.depth + 1)
        self.in_loop = self.in_loop or other.in_loop


class _Checker:
    """Checks the uses of one runbook."""

    def __init__(self, book: Book, references: Callable[[str], References]) -> None:
        self.book = book
        self.references = references
        self.inventory: Inventory | None = book.session.inventory
        self._host_names: dict[str, None] | None = None
        self._known_behind: dict[tuple[int, ...], dict[str, _Behind]] = {}
        self._inventory_variables = self.inventory.vars if self.inventory else {}

    def check(self, use: Use, found: References) -> None:
        """Note what is wrong with one template or expression."""
        for fault in found.faults:
            self._problem(use, fault.line, fault.fragment, fault.message, fault.suggestion)
        for name, line in found.names.items():
            if name in found.called and name not in FUNCTIONS:
                self._unknown_function(use, name, line)
            else:
                self._check_name(use, name, line)
        for member in (*found.members, *found.secrets):
            self._check_member(use, member)
        for member in found.fields:
            self._check_field(use, member)

    def _problem(
        self, use: Use, line: int, fragment: str, message: str, suggestion: str = ""
    ) -> None:
        source = use.source or self.book.source
        at = source.find(use.at if use.source is None else (line, 1), line, fragment)
        self.book.problems.add(source.name, at, message, suggestion or use.hint)

    def _nearest(self, name: str, known: Iterable[str], what: str) -> str:
        return "" if self.book.problems.many else did_you_mean(name, known, what=what)

    # -- names ------------------------------------------------------------------------------------
    def _check_name(self, use: Use, name: str, line: int) -> None:
        if name in use.extra or (name in ALWAYS and name not in FUNCTIONS):
            return
        if name in SPECIAL:
            if use.variable is None and not use.open and not self._is_there(name, use):
                said = f"'{name}' is not there in this place"
                self._problem(use, line, name, said, SPECIAL[name])
            return
        layer = self._layer(name, use.step)
        if layer is not None:
            self._check_behind(use, name, line, layer)
        elif name in self.book.registers:
            self._check_registered(use, name, line)
        elif name in FUNCTIONS and (name not in OURS or not self._could_exist(use, name)):
            hint = f"write `{name}(…)`"
            self._problem(use, line, name, f"'{name}' is a function, and is not called here", hint)
        elif not self._could_exist(use, name):
            self._problem(use, line, name, f"'{name}' is undefined", self._hint(use, name))

    def _unknown_function(self, use: Use, name: str, line: int) -> None:
        known = ("env", "secret", "now", "lab", "range", "dict")
        hint = did_you_mean(name, known, what="there are")
        self._problem(use, line, name, f"there is no function '{name}'", hint)

    def _could_exist(self, use: Use, name: str) -> bool:
        """Whether a name that is nowhere may yet be given: by a module, the command line, or an
        inventory that is not known here."""
        session = self.book.session
        unknown = self.inventory is None and not session.strict
        if self.book.of_inventory:
            unknown = session.main is None or name in session.main.vars
        return use.open or unknown or name in session.extra

    def _is_there(self, name: str, use: Use) -> bool:
        if name in use.extra:
            return True
        step = use.step
        if name == "failure":
            return step is not None and _in_branch(step)
        if step is None:
            return False
        if name == "item":
            return any(node.loop for node in step.around())
        if name in ("host", "inventory_hostname"):
            return any(node.hosts for node in step.around())
        return False

    def _layer(self, name: str, step: StepNode | None) -> Mapping[str, Any] | None:
        """The variables in which a reader finds a name; None if it is none."""
        for layer in self._layers(step):
            if name in layer:
                return layer
        return None

    def _layers(self, step: StepNode | None) -> Iterator[Mapping[str, Any]]:
        if step is not None:
            yield from (node.vars for node in step.around())
        yield self.book.vars
        yield self._all_host_variables()
        yield self._inventory_variables

    def _all_host_variables(self) -> Mapping[str, Any]:
        """Names that any host has; which host it will be is not known."""
        if self._host_names is None:
            known = self.inventory.variable_names() if self.inventory is not None else {}
            own = self._inventory_variables
            self._host_names = {name: None for name in known if name not in own}
        return self._host_names

    def _hint(self, use: Use, name: str) -> str:
        if self.book.problems.many:
            return ""
        if name in self.book.inputs:
            return f"did you mean 'inputs.{name}'?"
        known = [name for layer in self._layers(use.step) for name in layer]
        known += [*self.book.registers, *sorted(ALWAYS - FUNCTIONS), "env", "secret"]
        known += [each for each in SPECIAL if self._is_there(each, use)]
        hint = did_you_mean(name, known)
        return hint if hint.startswith("did you mean") else "declare it under `vars:`"

    # -- what stands behind a variable ----------------------------------------------------------
    def _check_behind(self, use: Use, name: str, line: int, layer: Mapping[str, Any]) -> None:
        """Check what a variable reads through all the variables behind it."""
        if use.variable is not None:
            # the parts of a mapping may read each other
            if isinstance(layer[name], str) and self._behind(use.step, name).in_loop:
                self._report_loop(use, name, line)
            return
        behind = self._behind(use.step, name)
        if behind.depth > MOST_LAYERS:
            said = f"'{name}' reads variables that read variables, more than {MOST_LAYERS} deep"
            self._problem(use, line, name, said)
        for special in behind.specials:
            if not self._is_there(special, use):
                said = f"'{name}' reads '{special}', which is not there in this place"
                self._problem(use, line, name, said, SPECIAL[special])
        for key in behind.steps:
            self._check_step(use, key, line, name, through=name)

    def _behind(self, step: StepNode | None, name: str) -> _Behind:
        """What a variable reads in the end, in the layers of a step; found out once for all steps
        with the same layers."""
        layers = tuple(id(node.vars) for node in step.around() if node.vars) if step else ()
        known = self._known_behind.setdefault(layers, {})
        if name not in known:
            self._look_behind(step, name, known)
        return known[name]

    def _look_behind(self, step: StepNode | None, name: str, known: dict[str, _Behind]) -> None:
        """Fill in `known` for a variable and all behind it; without recursion, because a hostile
        file has thousands of variables in a row."""
        way: list[tuple[str, Iterator[str]]] = []
        waiting: str | None = name
        while waiting is not None or way:
            if waiting is not None and waiting not in known:
                found = known[waiting] = _Behind()
                found.open = True
                way.append((waiting, iter(self._read_by(step, waiting, found))))
            elif waiting is not None and known[waiting].open:
                self._mark_loop(way, waiting, known)
            elif waiting is not None and way:
                known[way[-1][0]].add(known[waiting])
            waiting = next(way[-1][1], None)
            if waiting is None:
                done, _ = way.pop()
                known[done].open = False
                if way:
                    known[way[-1][0]].add(known[done])
                else:
                    return

    @staticmethod
    def _mark_loop(
        way: list[tuple[str, Iterator[str]]], again: str, known: dict[str, _Behind]
    ) -> None:
        for name, _ in reversed(way):
            known[name].in_loop = True
            if name == again:
                return

    def _read_by(self, step: StepNode | None, name: str, found: _Behind) -> list[str]:
        """The variables that a variable's own text reads; what else it reads goes to `found`."""
        layer = self._layer(name, step)
        names: dict[str, None] = {}
        for text in _templates_in(layer[name]) if layer is not None else ():
            read = self.references(text)
            for each in read.names:
                if each in SPECIAL:
                    found.specials[each] = None
                elif each != name or isinstance(layer[name] if layer else None, str):
                    names[each] = None
            for member in read.members:
                if member.root == "steps":
                    found.steps[member.key] = None
        return [each for each in names if self._layer(each, step) is not None]

    def _report_loop(self, use: Use, name: str, line: int) -> None:
        """Tell of a variable that reads itself, if the one that `use` defines does."""
        assert use.variable is not None
        came_from: dict[str, str] = {name: use.variable}
        waiting = [name]
        while waiting and use.variable not in came_from:
            current = waiting.pop()
            for each in self._read_by(use.step, current, _Behind()):
                if each not in came_from:
                    came_from[each] = current
                    waiting.append(each)
        if use.variable not in came_from and name != use.variable:
            return
        way = [use.variable]
        while len(way) == 1 or way[-1] != use.variable:
            way.append(came_from[way[-1]])
        path = _short_way(way[::-1])
        self._problem(use, line, name, f"the variable '{use.variable}' reads itself: {path}")

    # -- steps and registered results -----------------------------------------------------------
    def _check_registered(self, use: Use, name: str, line: int) -> None:
        if use.variable is not None or use.step is None:
            return
        nodes = self.book.registers[name]
        if self.book.problems.many and len(nodes) > _MOST_LOOKED_AT:
            return
        itself = False
        for node in _nearest_first(nodes, use.step):
            if (node.block, node.index) != (use.step.block, use.step.index):
                if may_read(use.step, node.trail()) == "before":
                    return
            elif use.extra:
                return
            else:
                itself = True
        if itself and len(nodes) == 1:
            said, hint = f"'{name}' is registered by this very step", "it is there afterwards"
        else:
            said = f"'{name}' is registered by '{nodes[0].path}', which need not have run before"
            hint = f"add '{nodes[0].id}' to `needs`"
        self._problem(use, line, name, said, hint)

    def _check_member(self, use: Use, member: Member) -> None:
        key, line = member.key, member.line
        if self.book.of_inventory and member.root in ("steps", "inputs"):
            return
        if member.root == "steps":
            if use.variable is None:
                self._check_step(use, key, line, key)
            elif find_from(use.step, self.book.top, key) is None:
                self._unknown_step(use, key, line)
        elif member.root == "inputs":
            if key not in self.book.inputs:
                hint = self._nearest(key, self.book.inputs, "there are")
                hint = hint or "declare it under `inputs:`"
                self._problem(use, line, key, f"the runbook has no input '{key}'", hint)
        elif self.inventory is not None:
            self._check_inventory(use, member, self.inventory)

    def _check_field(self, use: Use, member: Member) -> None:
        fields = FIELDS[member.root]
        if member.key in fields or hasattr(dict, member.key):
            return
        hint = self._nearest(member.key, fields, "it has")
        said = f"{WORDS[member.root]} has no '{member.key}'"
        if member.root == "steps" and not hint.startswith("did you mean"):
            hint = f"what its action gave is `result.{member.key}`"
        self._problem(use, member.line, member.key, said, hint)

    def _check_inventory(self, use: Use, member: Member, inventory: Inventory) -> None:
        known: dict[str, Iterable[str]] = {
            "endpoints": inventory.endpoints,
            "metrics": inventory.metrics,
            "groups": ["all", *inventory.groups],
            "hosts": inventory.hosts,
            "secret": inventory.secrets,
        }
        words = {"endpoints": "endpoint", "metrics": "metric", "groups": "group", "hosts": "host"}
        names = known[member.root]
        if member.key in names or (member.root != "secret" and hasattr(dict, member.key)):
            return
        what = words.get(member.root, "secret")
        hint = self._nearest(member.key, names, "it has")
        said = f"the inventory has no {what} '{member.key}'"
        self._problem(use, member.line, member.key, said, hint)

    def _check_step(self, use: Use, key: str, line: int, fragment: str, through: str = "") -> None:
        trail = find_from(use.step, self.book.top, key)
        if trail is None:
            if not through:
                self._unknown_step(use, key, line)
            return
        verdict = may_read(use.step, trail)
        if verdict == "before":
            return
        reader = f"'{through}' reads steps.{key}" if through else f"steps.{key} is read"
        if verdict == "itself":
            said, hint = f"{reader} before this step has ended", "its own result is `result`"
            if not use.extra:
                hint = "only `until`, `failed_when` and `changed_when` can read it, as `result`"
        elif verdict == "maybe":
            said, hint = f"{reader}, but that step only runs if something fails", ""
        else:
            said = f"{reader}, but '{key}' need not have run before this step"
            hint = self._hint_for_order(use, trail)
        self._problem(use, line, fragment, said, hint)

    def _hint_for_order(self, use: Use, trail: Trail) -> str:
        block, index = trail[0]
        name = block.ids[index]
        for node in use.step.around() if use.step else ():
            if node.block is block:
                who = "this step" if node is use.step else f"'{node.id}'"
                return f"add '{name}' to the `needs` of {who}"
        return ""

    def _unknown_step(self, use: Use, key: str, line: int) -> None:
        hint = ""
        if not self.book.problems.many:
            ids: list[str] = []
            for node in use.step.around() if use.step else ():
                ids += node.block.ids
            ids += self.book.top.ids
            ids += _paths(self.book.top)
            hint = did_you_mean(key, dict.fromkeys(ids))
        self._problem(use, line, key, f"unknown step '{key}'", hint)


def _nearest_first(nodes: list[StepNode], reader: StepNode) -> Iterator[StepNode]:
    """Those above the reader in the file, the nearest first, then those below it."""
    split = bisect.bisect_left(nodes, reader.order, key=lambda node: node.order)
    yield from reversed(nodes[:split])
    yield from nodes[split:]


def _short_way(way: list[str]) -> str:
    """Names with arrows between them, the middle left out if they are many."""
    return " → ".join(way if len(way) <= 12 else [*way[:6], "…", *way[-5:]])


def _in_branch(step: StepNode) -> bool:
    return any(node.block.kind != "steps" for node in step.around())


def _templates_in(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        if is_template(value):
            yield value
    elif isinstance(value, dict):
        for each in value.values():
            yield from _templates_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from _templates_in(each)


def _paths(block: BlockNode, prefix: str = "", depth: int = 0) -> Iterator[str]:
    """Paths of steps inside groups, for suggestions."""
    if depth > 4:
        return
    for index, inner in block.blocks.items():
        head = f"{prefix}{block.ids[index]}/"
        yield from (head + id for id in inner.ids[:200])
        yield from _paths(inner, head, depth + 1)
