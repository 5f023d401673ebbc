"""A runbook for Graphviz."""

from __future__ import annotations

from collections.abc import Iterator

from engine.cli.drawing.outline import children, does, edges, groups_of, label
from engine.cli.drawing.times import Times
from engine.plan import Node, Plan


def draw_dot(plan: Plan, times: Times) -> str:
    """The graph; groups are clusters, the critical path is bold."""
    lines = [
        "digraph runbook {",
        f"  label={_quote(plan.runbook.name)}; labelloc=t; compound=true; rankdir=TB;",
        '  node [shape=box, style=rounded, fontname="sans-serif", fontsize=11];',
        '  graph [fontname="sans-serif", fontsize=12, style=rounded];',
        *_group(plan, plan.root, times, "  "),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _group(plan: Plan, group: Node, times: Times, indent: str) -> Iterator[str]:
    for node in children(plan, group):
        yield from _node(plan, node, times, indent)
    for block in groups_of(plan, group):
        yield f"{indent}subgraph cluster_{block.index} {{"
        yield f"{indent}  label={_quote(block.role)}; style=dashed;"
        yield from _group(plan, block, times, indent + "  ")
        yield f"{indent}}}"
    for before, after in edges(plan, group):
        yield indent + _edge(plan, before, after, times)


def _node(plan: Plan, node: Node, times: Times, indent: str) -> Iterator[str]:
    time = times.of(node).text()
    bold = ", penwidth=2.5" if node.index in times.critical else ""
    if not node.is_group:
        text = "\\n".join(_plain(part) for part in (label(node), does(node), time) if part)
        yield f'{indent}n{node.index} [label="{text}"{bold}];'
        return
    yield f"{indent}subgraph cluster_{node.index} {{"
    yield f"{indent}  label={_quote(f'{label(node)} {time}'.strip())};{bold[1:]}{';' * bool(bold)}"
    if not node.children:
        yield f'{indent}  n{node.index} [label="", shape=point];'
    yield from _group(plan, node, times, indent + "  ")
    yield f"{indent}}}"


def _edge(plan: Plan, before: Node, after: Node, times: Times) -> str:
    """Graphviz draws edges between nodes; those of groups are cut at the cluster's border."""
    settings = []
    if before.is_group:
        settings.append(f"ltail=cluster_{before.index}")
    if after.is_group:
        settings.append(f"lhead=cluster_{after.index}")
    if {before.index, after.index} <= times.critical:
        settings.append("penwidth=2.5")
    tail = f" [{', '.join(settings)}]" if settings else ""
    return f"n{_leaf(plan, before, last=True)} -> n{_leaf(plan, after, last=False)}{tail};"


def _leaf(plan: Plan, node: Node, *, last: bool) -> int:
    while node.is_group and node.children:
        node = plan.nodes[node.children[-1 if last else 0]]
    return node.index


def _plain(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _quote(text: str) -> str:
    return f'"{_plain(text)}"'
