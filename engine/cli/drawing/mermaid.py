"""A runbook as a Mermaid flowchart, for pages that render it."""

from __future__ import annotations

from collections.abc import Iterator

from engine.cli.drawing.outline import children, does, edges, groups_of, label
from engine.cli.drawing.times import Times
from engine.plan import Node, Plan


def draw_mermaid(plan: Plan, times: Times) -> str:
    """The flowchart; the critical path has thick borders and arrows."""
    lines = ["flowchart TD"]
    lines += _group(plan, plan.root, times, "  ")
    critical = [f"n{index}" for index in sorted(times.critical)]
    lines += ["  classDef critical stroke-width:4px"]
    if critical:
        lines.append(f"  class {','.join(critical)} critical")
    return "\n".join(lines) + "\n"


def _group(plan: Plan, group: Node, times: Times, indent: str) -> Iterator[str]:
    for node in children(plan, group):
        yield from _node(plan, node, times, indent)
    for before, after in edges(plan, group):
        thick = {before.index, after.index} <= times.critical
        yield f"{indent}n{before.index} {'==>' if thick else '-->'} n{after.index}"
    for block in groups_of(plan, group):
        yield f'{indent}subgraph n{block.index}["{block.role}"]'
        yield from _group(plan, block, times, indent + "  ")
        yield f"{indent}end"


def _node(plan: Plan, node: Node, times: Times, indent: str) -> Iterator[str]:
    time = times.of(node).text()
    if node.is_group:
        title = f"{label(node)} {time}".strip()
        yield f'{indent}subgraph n{node.index}["{_escape(title)}"]'
        yield from _group(plan, node, times, indent + "  ")
        yield f"{indent}end"
        return
    parts = [label(node), does(node), time]
    text = "<br/>".join(_escape(part) for part in parts if part)
    yield f'{indent}n{node.index}["{text}"]'


def _escape(text: str) -> str:
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
