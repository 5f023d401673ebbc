"""Steps are laid out as nodes: depth first, at the end of a list of nodes."""

from __future__ import annotations

from engine.model import Block, Step
from engine.plan.node import NONE, Node, Role


def add_node(nodes: list[Node], path: str, parent: int, role: Role, step: Step | None) -> Node:
    """One more node at the end of the list."""
    node = Node(len(nodes), path, parent, role, step)
    nodes.append(node)
    return node


def lay_out_steps(nodes: list[Node], owner: Node, block: Block) -> tuple[int, ...]:
    """The steps of a block, with all that is inside them; the indices of the steps themselves."""
    prefix = f"{owner.path}/" if owner.path else ""
    by_id: dict[str, Node] = {}
    for step in block.steps:
        node = add_node(nodes, prefix + step.id, owner.index, "body", step)
        by_id[step.id] = node
        lay_out_inside(nodes, node, step)
    for step in block.steps:
        node = by_id[step.id]
        node.needs = tuple(by_id[need].index for need in step.needs)
        for need in step.needs:
            before = by_id[need]
            if isinstance(before.dependents, tuple):
                before.dependents = []
            before.dependents.append(node.index)
    return tuple(node.index for node in by_id.values())


def lay_out_inside(nodes: list[Node], node: Node, step: Step) -> None:
    """What is inside a step: its own steps and its blocks."""
    if step.block is not None:
        node.children = lay_out_steps(nodes, node, step.block)
    rescue = lay_out_block(nodes, node, "rescue", step.rescue)
    undo = lay_out_block(nodes, node, "undo", step.undo)
    always = lay_out_block(nodes, node, "always", step.always)
    node.blocks = tuple(index for index in (rescue, undo, always) if index != NONE)
    if not node.fans:
        node.rescue, node.undo, node.always = rescue, undo, always
    node.end = len(nodes)


def lay_out_block(nodes: list[Node], owner: Node, role: Role, block: Block | None) -> int:
    """A rescue, undo or always block of a node; NONE where there is none."""
    if block is None:
        return NONE
    node = add_node(nodes, f"{owner.path}.{role}", owner.index, role, None)
    node.children = lay_out_steps(nodes, node, block)
    node.end = len(nodes)
    return node.index
