"""An action as a runbook sees it: its parameters, and the arguments that fit them."""

from __future__ import annotations

import functools
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from engine.errors import Refused
from engine.module_api import Action, Context, Effect, Mode, Probe, Result
from engine.registry.annotations import kind_of
from engine.registry.naming import Named, names_in
from engine.registry.rendering import Render, rendered
from engine.registry.types import ArgumentType, Mismatch, Walk, plain
from engine.text import did_you_mean, fold, nearest, quoted_list


class BadArguments(Refused):
    """Arguments, once rendered, do not fit the action. `mismatches` tells all of them."""

    def __init__(self, action: str, mismatches: list[Mismatch]) -> None:
        messages = [m.message + (f" … {m.suggestion}" if m.suggestion else "") for m in mismatches]
        super().__init__(
            f"{action}: {'; '.join(messages)}",
            hint=f"`ce-run modules {action}` shows its arguments",
        )
        self.mismatches = mismatches


class Parameter(msgspec.Struct, frozen=True):
    """One argument of an action: its name in a runbook and in Python, its type, its default."""

    name: str
    attribute: str
    annotation: Any
    kind: ArgumentType
    required: bool
    default: Any = None
    doc: str = ""

    @property
    def type_name(self) -> str:
        """The annotation as one would write it."""
        return annotation_text(self.annotation)


class ActionInfo:
    """An action and everything that the engine and its users want to know about it."""

    def __init__(self, name: str, module: str, action: Action[...], file: str) -> None:
        self.name = name
        """Canonical: ``kubectl.apply``, or ``http-check`` for the only action of its module."""
        self.module = module
        self.file = file
        self.action = action
        self.effect: Effect = action.effect
        self.inline = action.inline
        self.local = action.local
        """Whether it works on this machine, whatever the step's host is."""
        self.remote = action.remote
        """The action that does the same on the step's host; "" if there is none."""
        self.doc = inspect.cleandoc(action.function.__doc__ or "")
        self.summary = self.doc.split("\n", 1)[0].strip()

    def __repr__(self) -> str:
        return f"ActionInfo({self.name!r})"

    @property
    def function(self) -> Callable[..., Result]:
        """What does the work; its first parameter is the context."""
        return self.action.function

    @property
    def checker(self) -> Callable[..., Result] | None:
        """What runs under ``--check``, if the action says."""
        return self.action.checker

    @property
    def prober(self) -> Callable[..., Probe] | None:
        """What finds out whether a once-only effect happened, if the action says."""
        return self.action.prober

    @property
    def simulates(self) -> bool:
        """Whether it can be carried out in a simulated world: as it is, or by its companion."""
        return self.inline or self.action.simulates or self.action.simulator is not None

    @property
    def simulator(self) -> Callable[..., Result] | None:
        """What happens in a simulated world, if the action says."""
        return self.action.simulator

    def function_for(self, mode: Mode) -> Callable[..., Result]:
        """What carries the action out in this mode."""
        if mode == "run":
            return self.function
        if mode == "simulate":
            return self.simulator or (self.function if self.simulates else _not_simulated)
        if self.checker is not None:
            return self.checker
        return self.function if self.effect == "read" else _not_checkable

    @functools.cached_property
    def parameters(self) -> dict[str, Parameter]:
        """By their names in a runbook, in the order of the signature, without the context."""
        hints = typing.get_type_hints(self.function, include_extras=True)
        docs = argument_docs(self.doc)
        parameters: dict[str, Parameter] = {}
        for each in list(inspect.signature(self.function).parameters.values())[1:]:
            if each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD):
                continue
            annotation = hints.get(each.name, Any)
            name = argument_name(each.name)
            required = each.default is each.empty
            parameters[name] = Parameter(
                name=name,
                attribute=each.name,
                annotation=annotation,
                kind=kind_of(annotation),
                required=required,
                default=None if required else each.default,
                doc=docs.get(name, ""),
            )
        return parameters

    @functools.cached_property
    def extra(self) -> ArgumentType | None:
        """What arguments beyond the named ones may be (``**values: str``); None if there are no
        such."""
        for each in inspect.signature(self.function).parameters.values():
            if each.kind is each.VAR_KEYWORD:
                hints = typing.get_type_hints(self.function, include_extras=True)
                return kind_of(hints.get(each.name, Any))
        return None

    @property
    def first(self) -> str | None:
        """The name of the argument that a bare value is for."""
        return next(iter(self.parameters), None)

    def parameter(self, name: str) -> Parameter | None:
        """The parameter of that name, ``-`` and ``_`` being the same."""
        parameter = self.parameters.get(name)
        return parameter or self.parameters.get(name.replace("-", "_"))

    def written(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments from a file as plain values under their proper names.

        Where text is wanted and a plain ``true``, ``5.10`` or ``null``-like word was written,
        the text is what was written.
        """
        raws: Mapping[str, str] = getattr(arguments, "raws", None) or {}
        taken: dict[str, Any] = {}
        for name, value in arguments.items():
            parameter = self.parameter(name)
            kind = parameter.kind if parameter else self.extra
            text = kind.written(value, raws.get(name)) if kind else plain(value)
            taken[parameter.name if parameter else name] = text
        return taken

    def check(self, arguments: Mapping[str, Any]) -> list[Mismatch]:
        """What is wrong with arguments that may still hold templates, which are let pass."""
        walk = Walk(templates=True)
        self._convert(arguments, walk)
        return walk.mismatches

    def bind(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Rendered arguments as keyword arguments of the function; BadArguments if they do not
        fit."""
        walk = Walk()
        bound = self._convert(arguments, walk)
        if walk.mismatches:
            raise BadArguments(self.name, walk.mismatches)
        return bound

    def render(self, arguments: Mapping[str, Any], render: Render) -> dict[str, Any]:
        """Arguments with their templates rendered, save those that the action renders or evaluates
        itself; BadArguments where rendered text stands in the place of such."""
        walk = Walk()
        values: dict[str, Any] = {}
        for name, value in arguments.items():
            parameter = self.parameter(name)
            kind = parameter.kind if parameter else self.extra
            values[name] = rendered(kind, value, render, walk, (name,))
        if walk.mismatches:
            raise BadArguments(self.name, walk.mismatches)
        return values

    def names(self, arguments: Mapping[str, Any]) -> list[Named]:
        """What the arguments name of the inventory, as written."""
        names: list[Named] = []
        for name, value in arguments.items():
            parameter = self.parameter(name)
            kind = parameter.kind if parameter else self.extra
            names.extend(names_in(kind, value, (name,)))
        return names

    def unnamed(self, arguments: Mapping[str, Any]) -> list[Parameter]:
        """The arguments that name something of the inventory and are left out or empty."""
        names = {p.name for name, v in arguments.items() if (p := self.parameter(name)) and v}
        return [
            each
            for each in self.parameters.values()
            if each.kind.names is not None and each.name not in names
        ]

    def files(self, arguments: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Argument names and paths, as written, of the `File` arguments that are given."""
        paths: list[tuple[str, str]] = []
        for name, value in arguments.items():
            parameter = self.parameter(name)
            if parameter is None or value is None or not parameter.kind.holds_files:
                continue
            values = value if isinstance(value, list) else [value]
            paths.extend((name, each) for each in values if isinstance(each, str))
        return paths

    def _convert(self, arguments: Mapping[str, Any], walk: Walk) -> dict[str, Any]:
        bound: dict[str, Any] = {}
        names: set[str] = set()
        for name, value in arguments.items():
            parameter = self.parameter(name)
            if parameter is not None:
                names.add(parameter.name)
                bound[parameter.attribute] = parameter.kind.convert(value, walk, (name,))
            elif self.extra is not None:
                bound[name] = self.extra.convert(value, walk, (name,))
            else:
                message = f"{self.name} has no argument '{name}'"
                hint = did_you_mean(name, self.parameters, what="its arguments are")
                walk.miss((name,), message, hint, of_key=True)
        missing = [p.name for p in self.parameters.values() if p.required and p.name not in names]
        misspelt = {nearest(name, missing) for name in arguments if self.parameter(name) is None}
        missing = [name for name in missing if self.extra is not None or name not in misspelt]
        if missing:
            plural = "s" if len(missing) > 1 else ""
            walk.miss((), f"{self.name} lacks the argument{plural} {quoted_list(missing)}")
        return bound


def _not_checkable(ctx: Context, **arguments: Any) -> Result:
    """Stands in, under ``--check``, for an action that cannot say what it would change."""
    return Result(changed=True, message="would run; the action has no check of its own")


def _not_simulated(ctx: Context, **arguments: Any) -> Result:
    """Stands in, in a simulated world, for an action that does not say what happens there."""
    raise Refused(
        "the action says nothing of a simulated world",
        hint="give it a companion with `@….simulate` (docs/writing-modules.md)",
    )


def argument_name(attribute: str) -> str:
    """A parameter's name in a runbook: ``for_`` is ``for``."""
    return attribute.rstrip("_") or attribute


def action_name(attribute: str) -> str:
    """A function's name in a runbook: ``assert_`` is ``assert``, ``rollout_status`` is
    ``rollout-status``."""
    return fold(argument_name(attribute))


def annotation_text(annotation: Any) -> str:
    """An annotation for people: ``int``, ``str | None``, ``duration``, ``'a' | 'b'``."""
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin is typing.Annotated:
        marks = [mark for mark in annotation.__metadata__ if isinstance(mark, str)]
        return marks[0] if marks else annotation_text(arguments[0])
    if origin is typing.Literal:
        return " | ".join(repr(each) for each in arguments)
    if arguments and origin in (list, dict, tuple):
        inner = ", ".join("..." if a is Ellipsis else annotation_text(a) for a in arguments)
        return f"{origin.__name__}[{inner}]"
    if arguments:
        return " | ".join(annotation_text(each) for each in arguments)
    if annotation is type(None):
        return "None"
    return str(getattr(annotation, "__name__", None) or annotation)


_ARGUMENT_DOC = re.compile(r"^\s+`{0,2}([a-z][\w-]*)`{0,2}\s*(?:\([^)]*\))?:\s*(.*)$")


def argument_docs(doc: str) -> dict[str, str]:
    """What the ``Args:`` section of a docstring says of each argument; lines are joined."""
    docs: dict[str, str] = {}
    lines = iter(doc.splitlines())
    for line in lines:
        if line.strip() in ("Args:", "Arguments:"):
            break
    current, indent = "", 0
    for line in lines:
        if line.strip() and not line[0].isspace():
            break
        depth = len(line) - len(line.lstrip())
        match = _ARGUMENT_DOC.match(line)
        if match and (not indent or depth <= indent):
            current, indent = argument_name(match[1]), depth
            docs[current] = match[2].strip()
        elif current and line.strip():
            docs[current] += " " + line.strip()
    return docs
