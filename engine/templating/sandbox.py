"""The Jinja2 environment: sandboxed, with native values and bounds against hostile templates.

Imported by the first template, because Jinja2 is slow to import. A template that is exactly one
expression is compiled to an assignment whose value is read back, so that ``{{ port }}`` is a
number and ``{{ version }}`` stays the text ``5.10``: nothing is ever guessed from text.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeGuard

from jinja2 import nodes
from jinja2.exceptions import TemplateError, TemplateSyntaxError
from jinja2.parser import Parser
from jinja2.runtime import Context, StrictUndefined, Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import missing as jinja_missing
from jinja2.utils import pass_context

from engine.templating.ansible import TESTS
from engine.templating.bounds import (
    ITEM,
    MOST_OUTPUT,
    ROUND,
    STEP,
    Metered,
    meter,
    refuse_method,
    refuse_percent,
    refuse_power,
    refuse_product,
    refuse_sum,
    too_big,
)
from engine.templating.fields import CALL, OURS
from engine.templating.filters import (
    FILTERS,
    MOST_LOOPS,
    ORDERS,
    charged,
    counted,
    finalize,
    made,
    native,
    noun,
    ordered,
    seen,
)
from engine.text import did_you_mean

if TYPE_CHECKING:
    from engine.templating.scope import Scope
    from engine.templating.templates import Templates

EXPECTED: tuple[type[BaseException], ...] = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
    AssertionError,
    re.error,
    OSError,
    RuntimeError,
)
"""What a template can do wrong; anything else is a defect of ours and shows as one."""

_RESULT = "result__"


class Missing(StrictUndefined):
    """Something undefined; says what is there instead as soon as it is used."""

    __slots__ = ("known",)
    known: Any

    @property
    def _undefined_message(self) -> str:
        name = self._undefined_name
        if self._undefined_hint:
            return self._undefined_hint
        if self._undefined_obj is not jinja_missing:
            return f"there is no '{name}' in {noun(self._undefined_obj)}" + _hint(
                str(name), _names_in(self._undefined_obj)
            )
        known = self.known() if hasattr(self, "known") else []
        return f"'{name}' is undefined" + _hint(str(name), known)


def _hint(name: str, known: Iterable[str]) -> str:
    hint = did_you_mean(name, known, what="there are")
    return f" … {hint}" if hint else ""


def _names_in(value: object) -> list[str]:
    keys = getattr(value, "keys", None)
    return [str(key) for key in keys()] if callable(keys) else []


class ScopeContext(Context):
    """A Jinja2 context whose names are those of a Scope."""

    templates: Templates | None = None
    scope: Scope | None = None
    loops = 0

    def resolve_or_missing(self, key: str) -> Any:
        """The value of a name, or a Missing that knows what else there is."""
        if key in self.vars:
            return self.vars[key]
        if self.templates is None or self.scope is None:
            return super().resolve_or_missing(key)
        found = self.templates.lookup(key, self.scope, jinja_missing)
        if found is not jinja_missing:
            return found
        if key in self.parent:
            return self.parent[key]
        unknown = Missing(name=key)
        templates, scope = self.templates, self.scope
        unknown.known = lambda: templates.known(scope)
        return unknown


class Sandbox(ImmutableSandboxedEnvironment):
    """The environment that all templates share; it holds no state of theirs."""

    intercepted_binops = frozenset(("+", "-", "*", "/", "//", "**", "%"))
    context_class = ScopeContext

    def getattr(self, obj: Any, attribute: str) -> Any:
        """An item before an attribute: ``result.items`` is what the server called *items*."""
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        if hasattr(type(obj), "missing"):
            return self._step(obj, attribute)
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """An item; for ``steps`` with an error that knows the paths."""
        if hasattr(type(obj), "missing"):
            return self._step(obj, argument)
        return super().getitem(obj, argument)

    def _step(self, obj: Any, key: Any) -> Any:
        try:
            return obj[str(key)]
        except KeyError:
            return self.undefined(obj.missing(str(key)), obj=obj, name=str(key))

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """As Jinja2 has it, and nothing that makes bytes of any length."""
        if isinstance(obj, int) and attr in ("to_bytes", "from_bytes"):
            return False
        return super().is_safe_attribute(obj, attr, value)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic that could fill the memory is refused before it is done."""
        meter().spend(STEP)
        left, right = counted(left, right)
        if operator == "+":
            refuse_sum(left, right)
        elif operator == "*":
            refuse_product(left, right)
        elif operator == "**":
            refuse_power(left, right)
        elif operator == "%" and isinstance(left, str | bytes):
            refuse_percent(left, right)
        return meter().made(super().call_binop(context, operator, left, right))

    def call(self, context: Context, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call, after the text methods that can grow without bound were looked at."""
        now = meter()
        now.step(*args, *kwargs.values())
        owner = getattr(getattr(obj, "__wrapped__", obj), "__self__", None)
        if isinstance(owner, str | bytes):
            now.spend(len(owner) // ITEM)
            if args and isinstance(args[0], Iterator):
                args = (list(args[0]), *args[1:])
            refuse_method(owner, getattr(obj, "__name__", ""), args, kwargs)
        return now.made(super().call(context, obj, *args, **kwargs))


@pass_context
def _bounded(context: Context, value: Any, text: int = 0) -> Any:
    """The iterable of a ``{% for %}``, counting; `text` is how much its body writes."""
    if isinstance(value, Undefined):
        return value
    return _count(context, value, text)


def _count(context: Context, value: Iterable[Any], text: int) -> Iterator[Any]:
    now = meter()
    for each in value:
        now.spend(ROUND + text // ITEM)
        if isinstance(context, ScopeContext):
            context.loops += 1
            if context.loops > MOST_LOOPS:
                raise ValueError(f"the template loops more than {MOST_LOOPS} times")
        yield each


def _charge(node: nodes.Node) -> nodes.Node:
    """A syntax tree with calls that charge the meter around what it does without calling anything:
    loops, comparisons, joining, slicing, making lists and mappings."""
    for name, value in node.iter_fields():
        if isinstance(value, nodes.Node):
            setattr(node, name, _charge(value))
        elif isinstance(value, list):
            value[:] = [_charge(each) if isinstance(each, nodes.Node) else each for each in value]
    if isinstance(node, nodes.For):
        text = sum(len(each.data) for each in node.find_all(nodes.TemplateData))
        node.iter = _filter(node.iter, "_bounded", nodes.Const(text))
    elif isinstance(node, nodes.Compare) and len(node.ops) == 1 and node.ops[0].op in ORDERS:
        (operand,) = node.ops
        return _filter(node.expr, "_ordered", nodes.Const(operand.op), operand.expr)
    elif isinstance(node, nodes.Compare | nodes.Operand):
        node.expr = _filter(node.expr, "_seen")
    elif isinstance(node, nodes.Concat):
        node.nodes = [_filter(each, "_seen") for each in node.nodes]
    return _filter(node, "_made") if _makes(node) else node


def _makes(node: nodes.Node) -> TypeGuard[nodes.Expr]:
    """Whether an expression makes something that may be large, without calling anything."""
    if isinstance(node, nodes.Concat):
        return True
    if isinstance(node, nodes.Getitem):
        return isinstance(node.arg, nodes.Slice)
    if isinstance(node, nodes.Tuple) and node.ctx != "load":
        return False
    return isinstance(node, nodes.List | nodes.Tuple | nodes.Dict) and bool(node.items)


def _filter(node: Any, name: str, *args: nodes.Expr) -> nodes.Expr:
    return nodes.Filter(node, name, list(args), [], None, None, lineno=node.lineno)


def _environment() -> Sandbox:
    new = Sandbox(
        undefined=Missing,
        finalize=finalize,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
        cache_size=0,
    )
    del new.globals["lipsum"]
    for unwanted in ("random", "striptags", "urlize", "xmlattr", "pprint"):
        new.filters.pop(unwanted, None)
    new.filters.update(FILTERS)
    new.tests.update(TESTS)
    tables: tuple[dict[str, Any], ...] = (new.filters, new.tests)
    for table in tables:
        table.update({name: charged(name, table[name]) for name in list(table)})
    new.filters.update(_bounded=_bounded, _seen=seen, _made=made, _ordered=ordered)
    return new


ENVIRONMENT = _environment()


class Compiled:
    """A template ready to run; `native` when it is one expression."""

    __slots__ = ("native", "template")

    def __init__(self, template: Any, native: bool) -> None:
        self.template = template
        self.native = native


def parse(text: str, expression: bool) -> nodes.Template:
    """The syntax tree; an expression is the tree of ``{{ expression }}``. TemplateSyntaxError."""
    if not expression:
        return ENVIRONMENT.parse(text)
    parser = Parser(ENVIRONMENT, text, state="variable")
    tree = parser.parse_expression()
    if not parser.stream.eos:
        token = parser.stream.current
        raise TemplateSyntaxError(f"unexpected '{token.value}'", token.lineno)
    made = nodes.Template([nodes.Output([tree], lineno=1)], lineno=1)
    made.set_environment(ENVIRONMENT)
    return made


@functools.lru_cache(maxsize=2048)
def compiled(text: str, expression: bool) -> Compiled:
    """A compiled template, from the cache if it was used lately."""
    tree = parse(text, expression)
    _charge(tree)
    _mark_calls(tree)
    single = sole_expression(tree)
    if single is not None:
        target = nodes.Name(_RESULT, "store", lineno=1)
        tree = nodes.Template([nodes.Assign(target, single, lineno=1)], lineno=1)
    tree.set_environment(ENVIRONMENT)
    code = ENVIRONMENT.compile(tree)
    template = ENVIRONMENT.template_class.from_code(ENVIRONMENT, code, dict(ENVIRONMENT.globals))
    return Compiled(template, single is not None)


def _mark_calls(tree: nodes.Template) -> None:
    """Tell calls of our functions from variables of their names; a template's own names are its
    own."""
    own = {each.name for each in tree.find_all(nodes.Name) if each.ctx != "load"}
    own.update(each.name for each in tree.find_all(nodes.Macro))
    for call in tree.find_all(nodes.Call):
        if isinstance(call.node, nodes.Name) and call.node.name in OURS - own:
            call.node.name = f"{CALL}{call.node.name}"


def sole_expression(tree: nodes.Template) -> nodes.Expr | None:
    """The expression of a template that is nothing else."""
    if len(tree.body) != 1 or not isinstance(tree.body[0], nodes.Output):
        return None
    parts = tree.body[0].nodes
    if len(parts) != 1 or isinstance(parts[0], nodes.TemplateData):
        return None
    return parts[0]


def run(text: str, expression: bool, templates: Templates, scope: Scope) -> Any:
    """Render a template or evaluate an expression; one of EXPECTED if it cannot be done."""
    with Metered():
        ready = compiled(text, expression)
        context = ready.template.new_context()
        context.templates, context.scope = templates, scope
        pieces: list[str] = []
        length = 0
        for piece in ready.template.root_render_func(context):
            pieces.append(piece)
            length += len(piece)
            if length > MOST_OUTPUT:
                raise too_big()
        return native(context.vars[_RESULT]) if ready.native else "".join(pieces)


def explain(error: BaseException) -> str:
    """What went wrong, in one line."""
    if isinstance(error, TemplateSyntaxError):
        return f"{error.message} (line {error.lineno})"
    if isinstance(error, RecursionError):
        return "it is nested or recursive too deeply"
    if isinstance(error, MemoryError):
        return "it needs too much memory"
    if isinstance(error, ZeroDivisionError):
        return "division by zero"
    if isinstance(error, KeyError):
        return f"there is no {error}"
    return str(error).split("\n", 1)[0][:300] or type(error).__name__
