"""What a module says of its actions, read from its text: nothing of it is executed.

``validate``, ``graph`` and ``modules`` look at folders that nobody has decided to trust. The
decorators, signatures and docstrings of actions say all that a check needs; what of an annotation
is not understood from the text alone counts as `Any`, and is checked when a run imports the module.
"""

from __future__ import annotations

import ast
import collections.abc
import inspect
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import msgspec

from engine import module_api
from engine.module_api import Action, Effect, Result

_TYPES: dict[str, Any] = {
    **{each.__name__: each for each in (str, int, float, bool, list, dict, tuple, set, frozenset)},
    **{
        name: getattr(typing, name) for name in ("Any", "Literal", "Annotated", "Union", "Optional")
    },
    **{name: getattr(typing, name) for name in ("Required", "NotRequired")},
    **{name: getattr(collections.abc, name) for name in ("Mapping", "Sequence", "Iterable")},
    **{name: getattr(module_api, name) for name in ("Duration", "File", "Expression", "Condition")},
    **{name: getattr(module_api, name) for name in ("Template", "Value", "Name")},
    "object": object,
    "Path": Path,
}
_COMPANIONS = ("check", "probe", "simulate")


def read_module(file: Path) -> tuple[str, dict[str, Action[...]]]:
    """Docstring and actions, by the names of their functions, of a module's file or package
    (its ``__init__.py``). Raises SyntaxError and OSError."""
    tree = _parse(file)
    reader = _Reader(tree)
    actions = reader.actions()
    if file.name == "__init__.py":
        imported = {
            alias.asname or alias.name
            for node in tree.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        for other in sorted(file.parent.glob("*.py")):
            if other != file:
                others = _Reader(_parse(other)).actions()
                actions.update({n: each for n, each in others.items() if n in imported})
    return ast.get_docstring(tree) or "", actions


def _parse(file: Path) -> ast.Module:
    return ast.parse(file.read_bytes(), filename=str(file))


class _Reader:
    """One file: its actions, and the types that it names."""

    def __init__(self, tree: ast.Module) -> None:
        self._tree = tree
        self._defined: dict[str, ast.expr | ast.ClassDef] = {}
        self._resolving: set[str] = set()
        for node in tree.body:
            if isinstance(node, ast.ClassDef):
                self._defined[node.name] = node
            elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
                self._defined[node.targets[0].id] = node.value

    def actions(self) -> dict[str, Action[...]]:
        """The actions that the file defines; their functions do nothing."""
        actions: dict[str, Action[...]] = {}
        for node in self._tree.body:
            if not isinstance(node, ast.FunctionDef):
                continue
            for decorator in node.decorator_list:
                if isinstance(decorator, ast.Call) and _last_name(decorator.func) == "action":
                    actions[node.name] = self._action(node, decorator)
                elif isinstance(decorator, ast.Attribute) and decorator.attr in _COMPANIONS:
                    owner = actions.get(_last_name(decorator.value))
                    if owner is not None:
                        _check_companion(node)
                        getattr(owner, decorator.attr)(_companion)
        return actions

    def _action(self, node: ast.FunctionDef, decorator: ast.Call) -> Action[...]:
        settings = {each.arg: _literal(each.value) for each in decorator.keywords}
        known: tuple[Effect, ...] = get_args(Effect)
        effect: Effect = next((each for each in known if each == settings.get("effect")), "once")
        function = _stub(node.name)
        function.__doc__ = ast.get_docstring(node)
        parameters = list(self._parameters(node.args))
        function.__annotations__ = {each.name: each.annotation for each in parameters}
        function.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        return Action(
            function,
            effect,
            bool(settings.get("inline")),
            bool(settings.get("local")),
            str(settings.get("remote") or ""),
            bool(settings.get("simulates")),
        )

    def _parameters(self, arguments: ast.arguments) -> Iterator[inspect.Parameter]:
        plain = [*arguments.posonlyargs, *arguments.args]
        first = len(plain) - len(arguments.defaults)
        for index, each in enumerate(plain):
            default = arguments.defaults[index - first] if index >= first else None
            yield self._parameter(each, default, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        if arguments.vararg:
            yield self._parameter(arguments.vararg, None, inspect.Parameter.VAR_POSITIONAL)
        for each, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True):
            yield self._parameter(each, default, inspect.Parameter.KEYWORD_ONLY)
        if arguments.kwarg:
            yield self._parameter(arguments.kwarg, None, inspect.Parameter.VAR_KEYWORD)

    def _parameter(
        self, argument: ast.arg, default: ast.expr | None, kind: Any
    ) -> inspect.Parameter:
        annotation = self._type(argument.annotation) if argument.annotation else Any
        value = inspect.Parameter.empty if default is None else _literal(default)
        return inspect.Parameter(argument.arg, kind, default=value, annotation=annotation)

    # -- types ------------------------------------------------------------------------------------
    def _type(self, node: ast.expr) -> Any:
        """A type from its text; Any for what cannot be told."""
        try:
            return self._understood(node)
        except (TypeError, ValueError, SyntaxError, LookupError, RecursionError):
            return Any

    def _understood(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant):
            if isinstance(node.value, str):
                return self._understood(ast.parse(node.value, mode="eval").body)
            return node.value
        if isinstance(node, ast.Name | ast.Attribute):
            return self._named(_last_name(node))
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
            return typing.Union[self._understood(node.left), self._understood(node.right)]  # noqa: UP007
        if isinstance(node, ast.Subscript):
            return self._subscripted(node)
        raise LookupError

    def _subscripted(self, node: ast.Subscript) -> Any:
        base = self._understood(node.value)
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        if base is typing.Literal:
            return typing.Literal[tuple(ast.literal_eval(each) for each in parts)]
        if base is typing.Annotated:
            marks = [mark for each in parts[1:] if (mark := _mark(each)) is not None]
            inner = self._understood(parts[0])
            return typing.Annotated[(inner, *marks)] if marks else inner
        return base[tuple(self._understood(each) for each in parts)]

    def _named(self, name: str) -> Any:
        if name in _TYPES and name not in self._defined:
            return _TYPES[name]
        node = self._defined[name]
        if name in self._resolving:
            raise LookupError
        self._resolving.add(name)
        try:
            return self._class(node) if isinstance(node, ast.ClassDef) else self._understood(node)
        finally:
            self._resolving.discard(name)

    def _class(self, node: ast.ClassDef) -> Any:
        bases = {_last_name(each) for each in node.bases}
        fields = [
            (each.target.id, self._type(each.annotation), each.value)
            for each in node.body
            if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
        ]
        if "Struct" in bases:
            listed = [(n, t) if v is None else (n, t, None) for n, t, v in fields]
            return msgspec.defstruct(node.name, listed, kw_only=True)
        if "TypedDict" in bases:
            whole = all(_literal(k.value) is not False for k in node.keywords if k.arg == "total")
            return typing.TypedDict(node.name, {n: t for n, t, _ in fields}, total=whole)  # type: ignore[operator]
        raise LookupError


def _check_companion(node: ast.FunctionDef) -> None:
    """Raise SyntaxError, with its line, for a companion that an import would refuse."""
    arguments = node.args
    beyond = arguments.kwonlyargs or arguments.vararg or arguments.kwarg
    if len([*arguments.posonlyargs, *arguments.args]) != 2 or beyond:
        message = f"{node.name} {module_api.COMPANION}"
        raise SyntaxError(message, (None, node.lineno, node.col_offset + 1, None))


def _companion(ctx: Any, args: Any) -> Any:
    raise AssertionError("a companion that was only read cannot be carried out")


def _stub(name: str) -> Callable[..., Any]:
    def stub(ctx: Any, *_: Any, **__: Any) -> Result:
        raise AssertionError("an action that was only read cannot be carried out")

    stub.__name__ = stub.__qualname__ = name
    return stub


def _last_name(node: ast.AST) -> str:
    return getattr(node, "attr", "") or getattr(node, "id", "")


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError):
        return None


def _mark(node: ast.expr) -> Any:
    """What of an ``Annotated`` matters: words such as "duration", and `Name`."""
    if isinstance(node, ast.Call) and _last_name(node.func) == "Name":
        values = [_literal(each) for each in node.args]
        return module_api.Name(*values, **{k.arg or "": _literal(k.value) for k in node.keywords})
    value = _literal(node)
    return value if isinstance(value, str) else None
