"""The plan: a runbook laid out flat, as the nodes and edges the scheduler works on.

Every step is a node; so is the run itself (node 0, path ``""``) and every rescue, undo and
always block (path of its owner plus ``.rescue`` and so on: ids hold no dot, so such paths cannot
clash with a step's). Nodes are numbered depth first, so the nodes below one are exactly
``range(node.index + 1, node.end)``. Edges join siblings only; a group's order against its
surroundings follows from the group itself.

A group with `hosts` or `loop` is laid out twice. As written it is one group, which is what is
drawn and what tags select. Once the run knows what it fans out into, the plan grows: each
instance (``roll[web01]``) is a node inside the group with the steps and blocks as its own
(``roll[web01]/drain``, ``roll[web01].rescue``), at the end of the list, again depth first. What an
instance consists of follows from the runbook alone, so growing changes nothing of what was
there, and an instance is the same for whoever asks for it.

The plan holds no state.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.model import Runbook
from engine.plan.layout import add_node, lay_out_block, lay_out_steps
from engine.plan.node import NONE, UNTIL_BUDGET, UNTIL_DELAY, Node, Role
from engine.plan.plan import Plan
from engine.plan.selection import select, uses_never

__all__ = [
    "NONE",
    "UNTIL_BUDGET",
    "UNTIL_DELAY",
    "Node",
    "Plan",
    "Role",
    "build_plan",
]


def build_plan(
    runbook: Runbook, *, tags: Iterable[str] = (), skip_tags: Iterable[str] = ()
) -> Plan:
    """Lay a runbook out flat. Tags select as in Ansible (``always`` and ``never`` included)."""
    nodes: list[Node] = []
    root = add_node(nodes, "", NONE, "body", None)
    root.guards = runbook.guards
    root.budget = runbook.budget
    root.prepared = not runbook.guards and not isinstance(runbook.budget, str)
    root.children = lay_out_steps(nodes, root, runbook.block)
    root.rescue = lay_out_block(nodes, root, "rescue", runbook.rescue)
    root.always = lay_out_block(nodes, root, "always", runbook.always)
    root.blocks = tuple(index for index in (root.rescue, root.always) if index != NONE)
    root.end = len(nodes)
    tag_sets, unwanted = frozenset(tags), frozenset(skip_tags)
    if tag_sets or unwanted or uses_never(nodes):
        select(nodes, tag_sets, unwanted)
    return Plan(runbook, nodes)
