"""The nodes of a runbook, and what can be asked of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from engine.events import TaskSpec
from engine.model import Runbook
from engine.plan.instances import instance_step, labels_of
from engine.plan.layout import add_node, lay_out_inside
from engine.plan.node import NONE, Node

if TYPE_CHECKING:
    import networkx


class Plan:
    """All nodes of a runbook; see `engine.plan`. The first `written` are as the runbook says."""

    def __init__(self, runbook: Runbook, nodes: list[Node]) -> None:
        self.runbook = runbook
        self.nodes = nodes
        self.written = len(nodes)
        self.by_path = {node.path: node.index for node in nodes}
        self._instances: dict[int, list[int]] = {}

    @property
    def root(self) -> Node:
        """The run itself."""
        return self.nodes[0]

    def node(self, path: str) -> Node:
        """The node with that path; KeyError when there is none."""
        return self.nodes[self.by_path[path]]

    def ancestors(self, node: Node) -> Iterator[Node]:
        """The groups and blocks around a node, innermost first, the run last."""
        while node.parent != NONE:
            node = self.nodes[node.parent]
            yield node

    def names_of(self, node: Node) -> list[tuple[int, int]]:
        """Where a result is known that a step registers: whose names they are, and whose result
        it is there; innermost first.

        Names belong to their runbook: two that are included may use the same, and each has the
        index of the step that includes it (0 for the run's own). Inside an instance of a group a
        name means that instance's result; around the group it means the results of all
        instances, which is what the step as written stands for.
        """
        reads: list[tuple[int, int]] = []
        index = node.index
        for each in self.ancestors(node):
            included = each.step is not None and each.step.included is not None
            if self.is_instance(each) or (included and not each.fans):
                reads.append((each.index, index))
                index = each.parent + index - each.index
                if included:
                    return reads
        return [*reads, (0, index)]

    def scopes_of(self, node: Node, *, inside: bool) -> tuple[int, ...]:
        """Whose names a reader knows, innermost first; see `names_of`. A step that includes a
        runbook, or is an instance, is read from `inside` or from outside."""
        scopes: list[int] = []
        for each in (node, *self.ancestors(node)) if inside else self.ancestors(node):
            included = each.step is not None and each.step.included is not None
            if self.is_instance(each) or (included and not each.fans):
                scopes.append(each.index)
                if included:
                    return tuple(scopes)
        return (*scopes, 0)

    def below(self, node: Node) -> Iterator[Node]:
        """Every node inside a node, in file order; instances after the group as written."""
        if not self._instances:
            return iter(self.nodes[node.index + 1 : node.end])
        return (self.nodes[index] for index in self._inside(node) if index != node.index)

    def _inside(self, node: Node) -> Iterator[int]:
        """The node itself, what is laid out inside it, and the instances of all that fans out."""
        for index in range(node.index, node.end):
            yield index
            for instance in self._instances.get(index, ()):
                yield from self._inside(self.nodes[instance])

    def is_inside(self, index: int, node: Node) -> bool:
        """Whether a node lies inside another at any depth."""
        if node.index < index < node.end:
            return True
        if not self._instances:
            return False
        return any(up is node for up in self.ancestors(self.nodes[index]))

    def steps(self) -> Iterator[Node]:
        """Every node that stands for a step as written, in file order."""
        return (node for node in self.nodes[: self.written] if node.step is not None)

    # -- instances ------------------------------------------------------------------------------
    def instances(self, group: Node, specs: Sequence[TaskSpec]) -> tuple[int, ...]:
        """The nodes of a group's instances, one for each of the tasks that it fans out into.

        They are laid out when they are first asked for.
        """
        return tuple(self._instance(group, label) for label in labels_of(specs))

    def _instance(self, group: Node, label: str) -> int:
        path = f"{group.path}[{label}]"
        known = self.by_path.get(path)
        if known is not None:
            return known
        assert group.step is not None
        step = instance_step(group.step)
        node = add_node(self.nodes, path, group.index, "body", step)
        lay_out_inside(self.nodes, node, step)
        for number, each in enumerate(self.nodes[node.index :]):
            written = self.nodes[group.origin + number]
            each.origin = written.index
            each.deselected = "" if each is node else written.deselected
            self.by_path[each.path] = each.index
        self._instances.setdefault(group.index, []).append(node.index)
        return node.index

    def grow_as(self, other: Plan) -> None:
        """Lay out the instances that another plan of the same runbook has, where it still fans out
        there."""
        for node in other.nodes[other.written :]:
            head, bracket, label = node.path.rpartition("[")
            group = self.by_path.get(head)
            whole = bracket and label.endswith("]") and "/" not in label
            if whole and group is not None and self.nodes[group].fans:
                self._instance(self.nodes[group], label[:-1])

    def is_instance(self, node: Node) -> bool:
        """Whether a node is an instance of the group that it lies in."""
        return node.index >= self.written and node.origin == self.nodes[node.parent].origin

    # -- as a graph -----------------------------------------------------------------------------
    def graph(self, under: Node | None = None) -> networkx.DiGraph[str]:
        """The needs among the steps directly inside a node (default: the run), by path."""
        from engine.plan.chains import graph

        return graph(self, under or self.root)

    def critical_path(self, seconds: Callable[[Node], float]) -> tuple[list[Node], float]:
        """The chain of steps that decides how long the run takes; see `engine.plan.chains`."""
        from engine.plan.chains import critical_path

        return critical_path(self, seconds)

    # -- fingerprints ---------------------------------------------------------------------------
    def rescued(self, node: Node) -> bool:
        """Whether a failure in this node meets a rescue on its way to the top."""
        return node.rescue != NONE or any(up.rescue != NONE for up in self.ancestors(node))

    def digest(self, node: Node) -> str:
        """A fingerprint of what a node says, without where it stands and what is inside it.

        What the run itself says are its settings, without its variables.
        """
        step = node.step
        if step is not None:
            plain: dict[str, Any] = msgspec.to_builtins(step)
        elif node.index == 0:
            runbook = self.runbook
            plain = {
                name: msgspec.to_builtins(getattr(runbook, name))
                for name in ("locks", "budget", "preempts", "guards")
            }
        else:
            return ""
        for inner in ("block", "undo", "rescue", "always", "place"):
            plain.pop(inner, None)
        _drop_places(plain)
        return hashlib.sha256(msgspec.json.encode(plain, order="sorted")).hexdigest()[:16]


def _drop_places(value: Any) -> None:
    if isinstance(value, dict):
        value.pop("place", None)
        for inner in value.values():
            _drop_places(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _drop_places(inner)
