"""Which steps of a runbook are its phases: what a person follows instead of two hundred steps.

Those at the top, and inside them every group that was given a budget of its own, with the groups
around it. Whoever writes a runbook so decides what is a phase, without a word for it.
"""

from __future__ import annotations

from typing import NamedTuple

from engine.plan import Node, Plan

_DEEPEST = 4


class Phase(NamedTuple):
    """A phase, and inside how many others it stands."""

    node: Node
    depth: int


def phases_of(plan: Plan) -> list[Phase]:
    """All phases, in file order."""
    wanted = _wanted(plan)
    found: list[Phase] = []
    depths: dict[int, int] = {0: -1}
    for index in sorted(wanted):
        node = plan.nodes[index]
        depths[index] = depths[node.parent] + 1
        found.append(Phase(node, depths[index]))
    return found


def _wanted(plan: Plan) -> set[int]:
    wanted = set(plan.root.children)
    for node in plan.steps():
        if node.budget is None or not node.is_group or node.index in wanted:
            continue
        around = list(plan.ancestors(node))
        if any(up.fans for up in around):
            continue  # it stands for what each instance of a group does
        if len(around) <= _DEEPEST and all(up.role == "body" for up in around):
            wanted.add(node.index)
            wanted.update(up.index for up in around[:-1])
    return wanted
