"""``ce-run modules``: what can be written into a runbook, from the modules' own signatures."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import click

from engine.cli.options import color_option, json_option, modules_option
from engine.cli.terminal import echo_json

if TYPE_CHECKING:
    from engine.registry import ActionInfo, ModuleInfo, Parameter, Registry
    from engine.report.words import Line

_EFFECTS = {
    "read": "read: changes nothing, may always run again",
    "idempotent": "idempotent: running it again does the same again",
    "once": "once: running it again would do harm; after a crash it is asked about first",
}


@click.command()
@click.argument("name", metavar="[NAME]", required=False)
@modules_option
@color_option
@json_option
def modules(name: str | None, modules: tuple[str, ...], no_color: bool, output: str) -> None:
    """Show the modules; with NAME one module, or one action with its arguments.

    Modules come from `modules/` beside the current folder's runbooks, --modules, the built-in
    ones, and installed packages. For each argument: its type, whether it must be given, its
    default, what it means.

    \b
    Examples:
      ce-run modules
      ce-run modules kubectl
      ce-run modules kubectl.scale
      ce-run modules sql.backup --output json
    """
    from engine.cli.terminal import Writer
    from engine.errors import UsageError
    from engine.registry import Registry

    registry = Registry([*modules, "modules"], imports=False)
    writer = Writer(no_color=no_color)
    if name is None:
        found = registry.modules()
        if output == "json":
            _print_json([_module_data(each) for each in found])
        else:
            writer.lines(_list(found))
        return
    action = registry.action(name)
    module = registry.module(name) if "." not in name else None
    if module is not None and (action is None or len(module.actions) > 1):
        if output == "json":
            _print_json(_module_data(module))
        else:
            writer.lines(_module(module))
    elif action is not None:
        if output == "json":
            _print_json(_action_data(action))
        else:
            writer.lines([*_action(action), *(_about(module) if module is not None else ())])
    else:
        raise UsageError(f"there is no module or action '{name}'", hint=_suggest(registry, name))


def _suggest(registry: Registry, name: str) -> str:
    return registry.suggest(name) or "`ce-run modules` lists them"


def _print_json(value: Any) -> None:
    import json

    echo_json(json.dumps(value, indent=2, default=str, ensure_ascii=False))


# -- as text ------------------------------------------------------------------------------------
def _list(found: list[ModuleInfo]) -> list[Line]:
    from engine.report.words import Span, line, pad

    lines: list[Line] = []
    column = max((len(info.name) for each in found for info in each.actions.values()), default=0)
    for module in found:
        summary = module.doc.split("\n", 1)[0]
        lines += [(), line(Span(module.name, "head"), f"  {summary}")]
        for info in _actions(module):
            effect = Span(f"  {info.effect:<10}  ", "dim")
            name = Span(pad(info.name, column), "name")
            lines.append(line("  ", name, effect, _plain(info.summary)))
    return lines[1:]


def _actions(module: ModuleInfo) -> list[ActionInfo]:
    return sorted(module.actions.values(), key=lambda info: info.name)


def _module(module: ModuleInfo) -> list[Line]:
    from engine.report.words import Span, line

    lines: list[Line] = [line(Span(module.name, "head"))]
    lines += [line(_plain(text)) for text in module.doc.splitlines()]
    for info in _actions(module):
        lines += [(), line(Span(_usage(info), "name")), line(f"    {_plain(info.summary)}")]
    return [*lines, (), line(Span(f"Arguments: ce-run modules {module.name}.ACTION", "dim"))]


def _usage(info: ActionInfo) -> str:
    """``kubectl.scale: {name, replicas, [kind], [wait]}``."""
    words = [each.name if each.required else f"[{each.name}]" for each in info.parameters.values()]
    if info.extra is not None:
        words.append("…")
    return f"{info.name}: {{{', '.join(words)}}}"


def _action(info: ActionInfo) -> list[Line]:
    from engine.report.words import Span, line

    lines: list[Line] = [line(Span(_usage(info), "head")), ()]
    lines += [line(_plain(text)) for text in _without_arguments(info.doc).splitlines()]
    lines += [(), line(Span("Effect   ", "head"), _EFFECTS[info.effect])]
    lines.append(line(Span("--check  ", "head"), _check_words(info)))
    if info.effect == "once":
        said = "asks the world whether it happened" if info.prober else "asks you"
        lines.append(line(Span("resume   ", "head"), said))
    if info.parameters:
        lines += [(), line(Span("Arguments", "head"))]
    for each in info.parameters.values():
        lines += _parameter(each, first=each.name == info.first)
    return lines


def _about(module: ModuleInfo) -> list[Line]:
    """What holds for the module as a whole, below its only action."""
    from engine.report.words import Span, line

    text = [line(f"  {_plain(text)}") if text else () for text in module.doc.splitlines()]
    return [(), line(Span("Module", "head")), *text]


def _check_words(info: ActionInfo) -> str:
    if info.checker is not None:
        return "reads and tells what it would change"
    return "runs as it is" if info.effect == "read" else "is told, but does nothing"


def _parameter(each: Parameter, *, first: bool) -> list[Line]:
    from textwrap import wrap

    from engine.report.words import Span, line

    default = "required" if each.required else f"default {_default(each.default)}"
    bare = "; a bare value is this one" if first else ""
    head = line(
        "  ", Span(each.name, "name"), f"  {each.type_name}", Span(f"  ({default}{bare})", "dim")
    )
    return [head, *(line(f"      {text}") for text in wrap(_plain(each.doc), 88))]


def _default(value: object) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, str) else str(value)


def _plain(text: str) -> str:
    """A docstring's text without its marks."""
    return text.replace("``", "`")


def _without_arguments(doc: str) -> str:
    return re.split(r"\n\s*Args:\s*\n", doc, maxsplit=1)[0].rstrip()


# -- as data ------------------------------------------------------------------------------------
def _module_data(module: ModuleInfo) -> dict[str, Any]:
    return {
        "name": module.name,
        "doc": module.doc,
        "file": module.file,
        "actions": [_action_data(info) for info in _actions(module)],
    }


def _action_data(info: ActionInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "effect": info.effect,
        "summary": info.summary,
        "doc": _without_arguments(info.doc),
        "check": info.checker is not None or info.effect == "read",
        "probe": info.prober is not None,
        "arguments": [
            {
                "name": each.name,
                "type": each.type_name,
                "schema": each.kind.schema(),
                "required": each.required,
                "default": each.default,
                "doc": each.doc,
            }
            for each in info.parameters.values()
        ],
    }
