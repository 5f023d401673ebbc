"""``ce-run FILE --list-tasks``: which steps would run, as in Ansible; nothing is run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.report.words import Line, Span, line, pad, width

if TYPE_CHECKING:
    from engine.plan import Node, Plan
    from engine.session import Options


def list_tasks(file: str, options: Options) -> list[Line]:
    """A line for each step that has an action and is selected: its path, action, name and tags.

    Raises InvalidRunbook, and UsageError for tags and limits that fit nothing.
    """
    from engine.loader import load
    from engine.plan import build_plan
    from engine.session import check_options
    from engine.session.options import registry_for
    from engine.session.selection import check_selection

    registry = registry_for(file, options.modules)
    runbook, inventory = load(
        file, registry=registry, inventory_path=options.inventory, strict=True
    )
    check_options(runbook, options)
    plan = build_plan(runbook, tags=options.tags, skip_tags=options.skip_tags)
    chosen = {"tags": options.tags, "skip_tags": options.skip_tags}
    check_selection(plan, inventory, **chosen, limit=options.limit)
    nodes = [node for node in plan.steps() if not node.is_group and not _left_out(plan, node)]
    column = max((width(node.path) for node in nodes), default=0)
    actions = max((width(_action(node)) for node in nodes), default=0)
    return [
        line(
            Span(pad(node.path, column), "name"),
            f"  {pad(_action(node), actions)}",
            Span(f"  {_notes(plan, node)}", "dim"),
        )
        for node in nodes
    ]


def _left_out(plan: Plan, node: Node) -> bool:
    return any(each.deselected for each in (node, *plan.ancestors(node)))


def _action(node: Node) -> str:
    step = node.step
    return step.call.action if step is not None and step.call is not None else ""


def _notes(plan: Plan, node: Node) -> str:
    """The step's name, and its tags with those of the groups around it."""
    step = node.step
    around = [each.step for each in (*reversed(list(plan.ancestors(node))), node)]
    tags = dict.fromkeys(tag for each in around if each is not None for tag in each.tags)
    name = step.name if step is not None and step.name != node.path else ""
    return "  ".join(part for part in (name, f"tags: {', '.join(tags)}" if tags else "") if part)
