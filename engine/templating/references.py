"""What a template would read, found without rendering it: for checks before a run.

Only what can be known is told: names, the first key after a name (``steps.apply``,
``inputs['version']``), names of secrets. A name that a template sets itself, tests with
``is defined`` or gives a ``default`` is not one that has to exist.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

import msgspec
from jinja2 import nodes
from jinja2.exceptions import TemplateSyntaxError

from engine.templating.fields import FIELDS, FUNCTIONS
from engine.templating.sandbox import ENVIRONMENT, parse
from engine.text import did_you_mean

KEYED = frozenset(("steps", "inputs", "endpoints", "metrics", "groups", "hosts"))
"""Names whose first key can be checked."""

_LENIENT_TESTS = frozenset(("defined", "undefined"))
_LENIENT_FILTERS = frozenset(("default", "d"))


class Member(msgspec.Struct, frozen=True):
    """``steps.apply`` in line 1: root, key, line of the text."""

    root: str
    key: str
    line: int


class Defect(msgspec.Struct, frozen=True):
    """Something that cannot work: what, and the fragment of the text that it is about."""

    line: int
    message: str
    fragment: str = ""
    suggestion: str = ""


class References(msgspec.Struct, frozen=True):
    """What a text reads. `names` maps each name to the first line it is read in."""

    names: dict[str, int]
    members: tuple[Member, ...] = ()
    fields: tuple[Member, ...] = ()
    """Fields of a step (root ``steps``), of ``run`` and of ``failure``."""
    secrets: tuple[Member, ...] = ()
    results: tuple[str, ...] = ()
    """Keys of steps whose ``result`` it reads."""
    called: frozenset[str] = frozenset()
    """Names that are called as functions."""
    faults: tuple[Defect, ...] = ()


@functools.lru_cache(maxsize=4096)
def references(text: str, expression: bool = False) -> References:
    """What a template (or an expression without braces) reads; faults instead of errors."""
    try:
        tree = parse(text, expression)
    except TemplateSyntaxError as error:
        return References({}, faults=(_syntax_fault(error, text, expression),))
    except RecursionError:
        return References({}, faults=(Defect(1, "it is nested too deeply"),))
    walk = _Walk()
    walk.visit(tree)
    if expression:
        walk.faults += _braces_in_quotes(tree)
    names = {name: line for name, line in walk.read.items() if name not in walk.declared}
    return References(
        names,
        tuple(m for m in walk.members if m.root not in walk.declared),
        tuple(m for m in walk.fields if m.root not in walk.declared),
        tuple(walk.secrets),
        tuple(walk.results),
        frozenset(walk.called - walk.declared),
        tuple(walk.faults),
    )


def _syntax_fault(error: TemplateSyntaxError, text: str, expression: bool) -> Defect:
    message = (error.message or "it cannot be parsed").rstrip(".")
    message = message[:1].lower() + message[1:]
    if expression and not text.strip():
        return Defect(1, "the expression is empty")
    if "end of template" in message and expression:
        message = "the expression ends where a value is due"
    hint = ""
    if expression and ("{{" in text or "{%" in text):
        message = "an expression is written without braces"
        bare = text.strip().removeprefix("{{").removesuffix("}}").strip()
        hint = f"write `{bare}`" if "{" not in bare else ""
    return Defect(error.lineno or 1, message, suggestion=hint)


def _key(node: nodes.Getattr | nodes.Getitem) -> str:
    """What is read of a value, if it stands there as it is; else ""."""
    if isinstance(node, nodes.Getattr):
        return node.attr
    return str(node.arg.value) if isinstance(node.arg, nodes.Const) else ""


_BRACES = re.compile(r"\{\{.*?\}\}|\{%.*?%\}", re.DOTALL)


def _braces_in_quotes(tree: nodes.Node) -> list[Defect]:
    """Text of an expression that looks like a template: nothing ever renders it, so that
    ``'{{ mode }}' != 'bad'`` would always hold."""
    found = []
    for each in tree.find_all(nodes.Const):
        braces = _BRACES.search(each.value) if isinstance(each.value, str) else None
        if braces is not None:
            bare = braces[0].strip("{%} ")
            said = f"'{braces[0]}' in quotes is plain text here: nothing renders it"
            found.append(Defect(each.lineno, said, braces[0], f"write `{bare}` without quotes"))
    return found


class _Walk:
    """Collects what a syntax tree reads and declares."""

    def __init__(self) -> None:
        self.read: dict[str, int] = {}
        self.declared: set[str] = set()
        self.members: list[Member] = []
        self.fields: list[Member] = []
        self.secrets: list[Member] = []
        self.results: list[str] = []
        self.called: set[str] = set()
        self.faults: list[Defect] = []

    def visit(self, tree: nodes.Node) -> None:
        """Walk without recursion: hostile nesting must not exhaust the stack."""
        waiting: list[nodes.Node] = [tree]
        while waiting:
            node = waiting.pop()
            waiting.extend(self._children(node))

    def _children(self, node: nodes.Node) -> Iterator[nodes.Node]:
        if isinstance(node, nodes.Name):
            self._name(node)
        elif isinstance(node, nodes.Getattr | nodes.Getitem):
            self._member(node)
        elif isinstance(node, nodes.Call):
            self._call(node)
            if isinstance(node.node, nodes.Name) and node.node.name in FUNCTIONS:
                return iter(each for each in node.iter_child_nodes() if each is not node.node)
        elif isinstance(node, nodes.Filter | nodes.Test) and self._named(node):
            return iter(each for each in node.iter_child_nodes() if each is not node.node)
        elif isinstance(node, nodes.For | nodes.Macro | nodes.CallBlock):
            self.declared.update(("loop", "caller", "varargs", "kwargs"))
            self.declared.add(getattr(node, "name", "loop"))
        elif isinstance(node, nodes.Include | nodes.Import | nodes.FromImport | nodes.Extends):
            self.faults.append(Defect(node.lineno, "a template cannot include other templates"))
        return node.iter_child_nodes()

    def _name(self, node: nodes.Name) -> None:
        if node.ctx == "load":
            self.read.setdefault(node.name, node.lineno)
        else:
            self.declared.add(node.name)

    def _member(self, node: nodes.Getattr | nodes.Getitem) -> None:
        root = node.node
        if isinstance(root, nodes.Getattr | nodes.Getitem):
            inner = root.node
            if isinstance(inner, nodes.Name) and inner.name == "steps":
                self._field("steps", node)
                if _key(node) == "result":
                    self.results.append(_key(root))
        elif isinstance(root, nodes.Name) and root.name in FIELDS and root.name != "steps":
            self._field(root.name, node)
        if not isinstance(root, nodes.Name) or root.name not in KEYED:
            return
        if isinstance(node, nodes.Getattr):
            self.members.append(Member(root.name, node.attr, node.lineno))
        elif isinstance(node.arg, nodes.Const):
            self.members.append(Member(root.name, str(node.arg.value), node.lineno))

    def _field(self, root: str, node: nodes.Getattr | nodes.Getitem) -> None:
        key = _key(node)
        if key:
            self.fields.append(Member(root, key, node.lineno))

    def _call(self, node: nodes.Call) -> None:
        if not isinstance(node.node, nodes.Name):
            return
        self.called.add(node.node.name)
        if node.node.name != "secret":
            return
        if node.args and isinstance(node.args[0], nodes.Const):
            self.secrets.append(Member("secret", str(node.args[0].value), node.lineno))

    def _named(self, node: nodes.Filter | nodes.Test) -> bool:
        """Check the name; True if what stands before it need not be defined."""
        is_filter = isinstance(node, nodes.Filter)
        table = ENVIRONMENT.filters if is_filter else ENVIRONMENT.tests
        if node.name not in table:
            what = "filter" if is_filter else "test"
            said = f"unknown {what} '{node.name}'"
            public = [each for each in table if not each.startswith("_")]
            hint = did_you_mean(node.name, public)
            self.faults.append(Defect(node.lineno, said, node.name, hint))
        lenient = _LENIENT_FILTERS if is_filter else _LENIENT_TESTS
        if node.name not in lenient or node.node is None:
            return False
        root: nodes.Node | None = node.node
        while isinstance(root, nodes.Getattr | nodes.Getitem):
            root = root.node
        if isinstance(root, nodes.Name) and not is_filter:
            self.declared.add(root.name)
        return isinstance(root, nodes.Name)
