"""A runbook as indented text: what runs after what, how long, which steps decide."""

from __future__ import annotations

from collections.abc import Iterator

from engine.cli.drawing.outline import children, does, groups_of, label, marks
from engine.cli.drawing.times import Times
from engine.plan import Node, Plan
from engine.report.words import Line, Span, Style, cut, line, listed, pad, planned, width
from engine.units import format_duration, took

_LABEL = 44


def draw_text(plan: Plan, times: Times) -> list[Line]:
    """The whole runbook; ``*`` marks the critical path."""
    rows = list(_rows(plan, plan.root, 0, times))
    column = min(_LABEL, max((width(row[1]) for row in rows), default=0))
    actions = min(24, max((width(row[2]) for row in rows), default=0))
    spans = max((width(row[3]) for row in rows), default=0)
    lines: list[Line] = [_head(plan, times), ()]
    for critical, name, action, time, more in rows:
        style: Style = "head" if critical else ""
        lines.append(
            line(
                Span("* " if critical else "  ", "warn"),
                Span(pad(cut(name, column), column), style),
                Span(f"  {pad(cut(action, actions), actions)}", "name"),
                f"  {pad(time, spans)}",
                Span(f"  {more}", "dim"),
            )
        )
    return lines


def _head(plan: Plan, times: Times) -> Line:
    budget = plan.root.budget
    within = f", budget {planned(budget)}" if isinstance(budget, int | float) else ""
    return line(
        Span(plan.runbook.name, "head"), f"  (* critical path: {total_text(times)}{within})"
    )


def total_text(times: Times) -> str:
    """How long the critical path is: ``at most 1h5m``, ``22.1s as measured``.

    Where it has steps of which nothing is known it is no more than a guess: ``up to about 2h``.
    """
    if times.measured:
        return f"{took(times.total)} as measured"
    text = format_duration(round(times.total))
    if times.guessed:
        return f"{'up to ' if times.bounded else ''}about {text}"
    return f"at most {text}" if times.bounded else text


_Row = tuple[bool, str, str, str, str]


def _rows(plan: Plan, group: Node, depth: int, times: Times) -> Iterator[_Row]:
    before: Node | None = None
    for node in children(plan, group):
        order = _order(plan, node, before)
        more = "; ".join(part for part in (order, *marks(plan, node)) if part)
        name = f"{'  ' * depth}{label(node)}"
        yield node.index in times.critical, name, does(node), times.of(node).text(), more
        yield from _rows(plan, node, depth + 1, times)
        before = node
    for block in groups_of(plan, group):
        yield False, f"{'  ' * depth}({block.role})", "", "", _when(block)
        yield from _rows(plan, block, depth + 1, times)


def _when(block: Node) -> str:
    return "when something above fails" if block.role == "rescue" else "in every case, at the end"


def _order(plan: Plan, node: Node, before: Node | None) -> str:
    """Nothing where the order is that of the file."""
    needs = [plan.nodes[index] for index in node.needs]
    if needs == ([before] if before is not None else []):
        return ""
    if not needs:
        return "at once"
    return f"after {listed(label(each) for each in needs)}"
