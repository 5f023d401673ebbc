"""What every picture says about a step: its label, what it does, its marks, its order."""

from __future__ import annotations

from collections.abc import Iterator

from engine.plan import Node, Plan
from engine.units import count


def label(node: Node) -> str:
    """The step's own id; for a rescue, undo or always block its role."""
    return node.path.rsplit("/", 1)[-1] if node.step is not None else node.role


def does(node: Node) -> str:
    """The action or the included runbook."""
    step = node.step
    if step is None:
        return ""
    if step.included is not None:
        return step.included.file.rsplit("/", 1)[-1]
    return step.call.action if step.call is not None else ""


def marks(plan: Plan, node: Node) -> list[str]:
    """What else matters about a step, a few words each."""
    step = node.step
    found: list[str] = []
    if step is None:
        return found
    if step.gate is not None:
        found.append("asks")
    if step.fan is not None:
        found.append("for each host" if step.fan.hosts is not None else "for each item")
    if node.guards:
        found.append(count(len(node.guards), "guard"))
    if step.when:
        found.append("conditional")
    if any(plan.nodes[index].role == "undo" for index in node.blocks):
        found.append("has undo")
    if node.deselected:
        found.append("not selected")
    return found


def groups_of(plan: Plan, node: Node) -> Iterator[Node]:
    """The blocks beside a group's body that its failure or its end leads to."""
    for index in node.blocks:
        if plan.nodes[index].role != "undo":
            yield plan.nodes[index]


def children(plan: Plan, node: Node) -> list[Node]:
    """The steps directly inside."""
    return [plan.nodes[index] for index in node.children]


def edges(plan: Plan, node: Node) -> Iterator[tuple[Node, Node]]:
    """Needs among the steps directly inside a group, without those that follow from others."""
    above: dict[int, frozenset[int]] = {}
    for child in _in_order(plan, node):
        reached = frozenset().union(*(above[need] for need in child.needs))
        above[child.index] = reached | frozenset(child.needs)
        for need in child.needs:
            if need not in reached:
                yield plan.nodes[need], child


def _in_order(plan: Plan, node: Node) -> list[Node]:
    """Children with each after what it needs, otherwise in file order."""
    left = dict.fromkeys(node.children)
    done: set[int] = set()
    ordered: list[Node] = []
    while left:
        ready = [index for index in left if done.issuperset(plan.nodes[index].needs)]
        for index in ready:
            del left[index]
            ordered.append(plan.nodes[index])
        done.update(ready)
    return ordered
