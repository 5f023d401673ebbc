"""The needs among steps as a graph, and the chain of steps that takes longest."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from engine.plan.node import Node

if TYPE_CHECKING:
    import networkx

    from engine.plan.plan import Plan


def graph(plan: Plan, group: Node) -> networkx.DiGraph[str]:
    """The needs among the steps directly inside a node, by path."""
    import networkx

    graph: networkx.DiGraph[str] = networkx.DiGraph()
    for index in group.children:
        graph.add_node(plan.nodes[index].path)
    for index in group.children:
        node = plan.nodes[index]
        graph.add_edges_from((plan.nodes[need].path, node.path) for need in node.needs)
    return graph


def critical_path(plan: Plan, seconds: Callable[[Node], float]) -> tuple[list[Node], float]:
    """The chain of steps that decides how long the run takes, and how long that is.

    `seconds` tells how long a step without steps inside takes. Groups on the chain are
    followed by the chain inside them.
    """
    return _longest(plan, plan.root, seconds)


def _time(plan: Plan, node: Node, seconds: Callable[[Node], float]) -> tuple[list[Node], float]:
    if not node.is_group:
        return [], seconds(node)
    chain, total = _longest(plan, node, seconds)
    return chain, max(total, seconds(node)) if node.fans else total


def _longest(plan: Plan, group: Node, seconds: Callable[[Node], float]) -> tuple[list[Node], float]:
    import networkx

    inside = {
        plan.nodes[index].path: _time(plan, plan.nodes[index], seconds) for index in group.children
    }
    best: dict[str, float] = {}
    before: dict[str, str | None] = {}
    for path in networkx.topological_sort(graph(plan, group)):
        node = plan.node(path)
        needs = [plan.nodes[need].path for need in node.needs]
        previous = max(needs, key=lambda need: best[need], default=None)
        before[path] = previous
        best[path] = (best[previous] if previous else 0.0) + inside[path][1]
    if not best:
        return [], 0.0
    last: str | None = max(best, key=lambda path: best[path])
    total = best[last] if last else 0.0
    chain: list[Node] = []
    while last is not None:
        chain[:0] = [plan.node(last), *inside[last][0]]
        last = before[last]
    return chain, total
