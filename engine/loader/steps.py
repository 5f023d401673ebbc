"""Steps: from the mappings of a file to `Step`s.

What needs knowledge of the whole runbook (do the names in templates exist, has the step that is
read run before?) is noted as a `Use` and checked when everything has been read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.loader.book import RESULT, Book
from engine.loader.calls import arguments_of, find_action, has_templates, read_call
from engine.loader.fields import COMMON, FOREIGN_IN_STEPS, STRUCTURE, Fields
from engine.loader.hosts import check_included, placed, read_on
from engine.loader.includes import included_path
from engine.loader.inputs import read_with
from engine.loader.order import settle_order
from engine.loader.parts import read_fan, read_gate, read_guards, read_retry
from engine.loader.source import Map, Seq, Spot
from engine.loader.tree import BlockNode, ListKind, StepNode
from engine.model import Block, Call, Included, Runbook, Step
from engine.registry import describe
from engine.registry.types import as_written
from engine.templating import is_template
from engine.text import nearest, quoted_list

MOST_STEPS = 250_000

_KNOWN = frozenset((*COMMON, *STRUCTURE))
_FAN = ("hosts", "loop", "serial", "max_fail_percentage")


def read_block(
    book: Book, value: Any, at: Spot, node: BlockNode, what: str, *, parallel: bool = False
) -> Block:
    """A list of steps (or a single one) as a Block; `node` is filled in.

    `what` names it in problems; `parallel` drops the implied order.
    """
    maps = _maps(book, value, at, what)
    book.size += len(maps)
    settle_order(book, maps, node, parallel=parallel)
    steps = [StepReader(book, map, node, index).read() for index, map in enumerate(maps)]
    return Block(tuple(steps), book.source.place(at))


def _maps(book: Book, value: Any, at: Spot, what: str) -> list[Map]:
    if isinstance(value, Map):
        return [value]
    if not isinstance(value, Seq):
        book.problem(at, f"{what} wants a list of steps, not {describe(value)}")
        return []
    if not value:
        book.problem(at, f"{what} has no steps")
    found = []
    for index, each in enumerate(value):
        if isinstance(each, Map):
            found.append(each)
            continue
        hint = f"write `{each}:`" if isinstance(each, str) and find_action(book, each) else ""
        if isinstance(each, str) and "\xa0" in each:
            hint = "a no-break space (U+00A0) stands in it: write a plain one"
        said = f"a step is a mapping such as `shell: uptime`, not {describe(each)}"
        book.problem(value.item_at(index), said, hint)
    return found


class StepReader:
    """Reads one step; whatever is wrong is noted and left out."""

    __slots__ = ("block", "book", "fields", "index", "map", "node", "values")

    def __init__(self, book: Book, map: Map, block: BlockNode, index: int) -> None:
        self.book = book
        self.map = map
        self.block = block
        self.index = index
        self.node = StepNode(block, index, book.begun)
        book.begun += 1
        self.fields = Fields(map, book.source, book.problems)
        self.values: dict[str, Any] = {}

    def read(self) -> Step:
        """The step."""
        others: list[str] = []
        self.node.hosts = self.map.get("hosts") is not None
        read_on(self.fields, self.node)
        for key in self.map:
            reader = _READERS.get(key)
            if reader is not None:
                reader(self, key)
            elif key not in _KNOWN:
                others.append(key)
        if any(key in self.map for key in _FAN):
            self.values["fan"] = read_fan(self.book, self.fields, self.node)
        self._work(others)
        ids, needs = self.block.ids, self.block.needs[self.index]
        return Step(
            id=ids[self.index],
            place=self.book.source.place(self.map.at),
            needs=tuple(ids[need] for need in needs),
            **self.values,
        )

    # -- what it does: an action, a group, a runbook --------------------------------------------
    def _work(self, others: list[str]) -> None:
        map = self.map
        actions = [(key, info) for key in others if (info := find_action(self.book, key))]
        found = {key for key, _ in actions} | self.book.session.broken
        unknown = [key for key in others if key not in found]
        doing = [key for key, _ in actions] + [k for k in ("steps", "runbook") if k in map]
        for key in unknown:
            self._unknown(key, alone=not doing)
        if len(doing) > 1:
            said = f"a step does one thing, but this has {quoted_list(doing)}"
            handler = "notify" in doing[1:] and not isinstance(map["notify"], Map)
            hint = "a handler of Ansible is a step with `when: steps.ID.changed` here"
            hint = hint if handler else "make a step of each"
            self.fields.problem(map.key_at(doing[1]), said, hint)
        if not doing and not unknown and not self.book.session.broken.intersection(others):
            self._nothing_but_maybe_a_gate()
        if "with" in map and "runbook" not in map:
            said = "`with` gives inputs to a runbook, but this step has no `runbook`"
            self.fields.problem(map.key_at("with"), said)
        if "parallel" in map and "steps" not in map:
            said = "`parallel` is about the steps of a group, but this step has no `steps`"
            self.fields.problem(map.key_at("parallel"), said)
        if "steps" in map:
            self._group()
        elif "runbook" in map:
            self._include()
        elif actions:
            key, info = actions[0]
            info = placed(self.book, map, key, info, self.node)
            self.values["call"] = read_call(self.book, map, key, info, self.node)

    def _nothing_but_maybe_a_gate(self) -> None:
        info = find_action(self.book, "confirm") if "confirm" in self.map else None
        if info is not None:
            # what is wrong with its arguments was told when the gate was read
            arguments = info.written(arguments_of(self.map, "confirm", info) or {})
            place = self.book.source.place(self.map.key_at("confirm"))
            literal = not has_templates(arguments)
            self.values["call"] = Call(info.name, arguments, info.effect, place, literal)
            return
        said = "this step does nothing"
        self.fields.problem(self.map.at, said, "give it an action, `steps` or `runbook`")

    def _unknown(self, key: str, *, alone: bool) -> None:
        """A key that is no action and no common key: which of the two was meant?"""
        registry, at = self.book.session.registry, self.map.key_at(key)
        if self.book.problems.many:
            self.fields.problem(at, f"unknown key '{key}'")
            return
        if key in FOREIGN_IN_STEPS:
            self.fields.problem(at, f"unknown key '{key}' in a step", FOREIGN_IN_STEPS[key])
            return
        module = key.partition(".")[0]
        if module in ("ansible", "community", "kubernetes"):
            self.fields.problem(at, f"unknown key '{key}' in a step", FOREIGN_IN_STEPS["apt"])
            return
        if "." in key or registry.has_module(module):
            known = registry.has_module(module)
            what = "action" if known else "module"
            name = key if known else module
            self.fields.problem(at, f"unknown {what} '{name}'", registry.suggest(key))
            return
        keys = [each for each in (*COMMON, *STRUCTURE) if each not in self.map]
        near = nearest(key, [*keys, *registry.names()])
        said = f"'{key}' is no module and no key of a step" if alone else f"unknown key '{key}'"
        self.fields.problem(at, said, f"did you mean '{near}'?" if near else "")

    def _group(self) -> None:
        inner = BlockNode(self.node, "steps")
        self.block.blocks[self.index] = inner
        self.values["block"] = read_block(
            self.book,
            self.map["steps"],
            self.map.value_at("steps"),
            inner,
            "`steps`",
            parallel=self.fields.boolean("parallel"),
        )

    # -- included runbooks ----------------------------------------------------------------------
    def _include(self) -> None:
        book = self.book
        path = self.fields.text("runbook")
        if path is None or is_template(path):
            if path is not None:
                at = self.map.value_at("runbook")
                self.fields.problem(at, "the file of a runbook cannot be a template")
            return
        target = included_path(book.folder, path)
        inner = book.session.book(target) if target is not None else None
        if inner is None or inner.runbook is None:
            return
        check_included(book, inner, self.fields, self.node)
        book.size += inner.size
        if book.size > MOST_STEPS:
            said = f"with all that it includes, this runbook has more than {MOST_STEPS} steps"
            self.fields.problem(self.map.value_at("runbook"), said)
        given = read_with(book, self.fields, inner.inputs, self.node)
        runbook = inner.runbook
        included = Included(runbook.file, runbook.name, runbook.inputs, given, runbook.vars)
        self.values.update(self._included_values(inner.top, runbook, included))

    def _included_values(
        self, top: BlockNode, runbook: Runbook, included: Included
    ) -> dict[str, Any]:
        """The block of an included runbook, with its own guards, rescue and so on.

        A step that has some of these itself becomes a group around it, so that what was written
        in a file is always read in the names of that file.
        """
        own: dict[str, Any] = {
            "block": runbook.block,
            "included": included,
            "guards": runbook.guards,
            "rescue": runbook.rescue,
            "always": runbook.always,
            "budget": runbook.budget,
        }
        clashing = ("guards", "rescue", "always", "undo", "budget")
        if not any(self.values.get(key) for key in clashing):
            self.block.blocks[self.index] = top
            return own
        place = self.book.source.place(self.map.at)
        inner = Step(id="runbook", place=place, name=runbook.name, **own)
        around = BlockNode(self.node, "steps")
        around.ids, around.index, around.needs = ["runbook"], {"runbook": 0}, [()]
        around.blocks[0] = top
        self.block.blocks[self.index] = around
        return {"block": Block((inner,), place)}

    # -- common keys ------------------------------------------------------------------------------
    def _name(self, key: str) -> None:
        self.values["name"] = self.fields.fixed_text(key) or ""

    def _when(self, key: str) -> None:
        value = self.map[key]
        if isinstance(value, Map) or value is None:
            self.fields.wrong(key, "a condition or a list of them")
            return
        conditions = self.fields.words(key)
        for text, at in conditions:
            self.book.note_expression(text, at, self.node)
        self.values["when"] = tuple(text for text, _ in conditions)

    def _expression(self, key: str) -> None:
        text = self.fields.text(key)
        if text is not None:
            self.book.note_expression(text, self.map.value_at(key), self.node, RESULT)
            self.values[key] = text

    def _duration(self, key: str) -> None:
        value = self.fields.duration(key)
        if isinstance(value, str):
            self.book.note(value, self.map.value_at(key), self.node)
        elif value == 0:
            self.fields.wrong(key, "a duration above 0")
        self.values[key] = value

    def _boolean(self, key: str) -> None:
        self.values[key] = self.fields.boolean(key)

    def _after_rescue(self, key: str) -> None:
        word = self.fields.text(key)
        if word is not None and word not in ("end", "continue"):
            said = (
                f"`after_rescue` is `end` (the run ends) or `continue` (it goes on), not {word!r}"
            )
            self.book.problem(self.map.value_at(key), said)
        elif word is not None and "rescue" not in self.map:
            said = "`after_rescue` says what a rescue means for the run, and there is no `rescue`"
            self.book.problem(self.map.key_at(key), said)
        elif word is not None:
            self.values[key] = word

    def _retry(self, key: str) -> None:
        self.values[key] = read_retry(self.book, self.fields)

    def _gate(self, key: str) -> None:
        self.values["gate"] = read_gate(self.book, self.fields, self.node)

    def _guards(self, key: str) -> None:
        self.values[key] = read_guards(self.book, self.fields, self.node)

    def _tags(self, key: str) -> None:
        words = [part for text, _ in self.fields.words(key) for part in text.split(",")]
        self.values[key] = tuple(word.strip() for word in words if word.strip())

    def _register(self, key: str) -> None:
        name = self.fields.text(key)
        if name is None or not self.fields.variable_name(name, self.map.value_at(key), "the name"):
            return
        self.values[key] = self.node.register = name
        self.book.registers.setdefault(name, []).append(self.node)

    def _vars(self, key: str) -> None:
        self.values[key] = self.node.vars = read_vars(self.book, self.fields, self.node)

    def _branch(self, key: str) -> None:
        kind: ListKind = "rescue" if key == "rescue" else "always" if key == "always" else "undo"
        inner = BlockNode(self.node, kind)
        self.block.branches[(self.index, kind)] = inner
        at = self.map.value_at(key)
        self.values[key] = read_block(self.book, self.map[key], at, inner, f"`{key}`")


def read_vars(book: Book, fields: Fields, step: StepNode | None) -> dict[str, Any]:
    """``vars``: names and values, plain; templates in them are noted."""
    map = fields.mapping("vars")
    if map is None:
        return {}
    found: dict[str, Any] = {}
    for name, value in map.items():
        if fields.variable_name(name, map.key_at(name), "the variable"):
            found[name] = as_written(value, (map.raws or {}).get(name))
            book.note(value, map.value_at(name), step, variable=name)
    return found


_READERS: dict[str, Callable[[StepReader, str], None]] = {
    "name": StepReader._name,
    "when": StepReader._when,
    "until": StepReader._expression,
    "failed_when": StepReader._expression,
    "changed_when": StepReader._expression,
    "timeout": StepReader._duration,
    "budget": StepReader._duration,
    "ignore_errors": StepReader._boolean,
    "no_log": StepReader._boolean,
    "after_rescue": StepReader._after_rescue,
    "retry": StepReader._retry,
    "confirm": StepReader._gate,
    "guards": StepReader._guards,
    "tags": StepReader._tags,
    "register": StepReader._register,
    "vars": StepReader._vars,
    "undo": StepReader._branch,
    "rescue": StepReader._branch,
    "always": StepReader._branch,
}
