"""The plan: a runbook laid out flat, as the nodes and edges the scheduler works on.

Every step is a node; so is the run itself (node 0, path ``""``) and every rescue, undo and
always block (path of its owner plus ``.rescue`` and so on: ids hold no dot, so such paths cannot
clash with a step's). Nodes are numbered depth first, so the nodes below one are exactly
``range(node.index + 1, node.end)``. Edges join siblings only; a group's order against its
surroundings follows from the group itself.

The plan never changes during a run, and holds no state.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from engine.model import Block, Guard, Retry, Runbook, Seconds, Step

if TYPE_CHECKING:
    import networkx

Role = Literal["body", "rescue", "undo", "always"]

NONE = -1
"""Stands for "no such node"."""

UNTIL_DELAY = 1.0
"""Seconds between the attempts of a step that has `until` but no `retry`."""

UNTIL_BUDGET = 300.0
"""Seconds after which such a step gives up when it has neither `budget` nor `timeout`."""

_ONCE = Retry()
_UNTIL = Retry(attempts=1_000_000_000, delay=UNTIL_DELAY)


class Node:
    """A step, block or the run in the plan. Indices refer to `Plan.nodes`; `NONE` is none.

    `leads` says that its end has to be decided about when its body is over: that of a group, and
    of an action with guards, a rescue or an always block of its own. `prepared` says that nothing
    has to be rendered before its first task can start.
    """

    __slots__ = (
        "always",
        "budget",
        "children",
        "dependents",
        "deselected",
        "end",
        "guards",
        "index",
        "is_group",
        "leads",
        "needs",
        "parent",
        "path",
        "prepared",
        "rescue",
        "retry",
        "role",
        "step",
        "timeout",
        "undo",
    )

    def __init__(self, index: int, path: str, parent: int, role: Role, step: Step | None) -> None:
        self.index = index
        self.path = path
        self.parent = parent
        self.role: Role = role
        self.step = step
        self.end = index + 1
        self.needs: tuple[int, ...] = ()
        self.dependents: list[int] | tuple[int, ...] = ()
        self.children: tuple[int, ...] = ()
        self.is_group = step is None or step.block is not None
        self.leads = self.is_group or (step is not None and _leads(step))
        self.rescue = NONE
        self.undo = NONE
        self.always = NONE
        self.guards: tuple[Guard, ...] = () if step is None else step.guards
        self.budget: Seconds | None = None if step is None else _budget_of(step)
        self.timeout: Seconds | None = None if step is None else step.timeout
        self.retry = _retry_of(step)
        self.deselected = ""
        self.prepared = step is None or not _needs_preparation(step)

    def __repr__(self) -> str:
        return f"Node({self.index}, {self.path!r})"


def _retry_of(step: Step | None) -> Retry:
    if step is None:
        return _ONCE
    if step.retry is None:
        return _UNTIL if step.until is not None else _ONCE
    return step.retry


def _budget_of(step: Step) -> Seconds | None:
    """What repeats until a condition holds has to end some time: `timeout` bounds it as a whole."""
    if step.budget is not None or step.until is None or step.retry is not None:
        return step.budget
    return UNTIL_BUDGET if step.timeout is None else step.timeout


def _leads(step: Step) -> bool:
    return bool(step.guards) or step.rescue is not None or step.always is not None


def _needs_preparation(step: Step) -> bool:
    """Whether the step has to be opened by an event of its own before its first task."""
    return bool(
        step.when
        or step.fan
        or step.gate
        or step.guards
        or (step.block is None and _leads(step))
        or step.included
        or isinstance(step.timeout, str)
        or isinstance(step.budget, str)
    )


class Plan:
    """All nodes of a runbook; see the module's docstring."""

    def __init__(self, runbook: Runbook, nodes: list[Node]) -> None:
        self.runbook = runbook
        self.nodes = nodes
        self.by_path = {node.path: node.index for node in nodes}

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

    def runbook_of(self, node: Node) -> int:
        """Index of the step that includes the runbook in which a node stands; 0 for the run's own.

        Names that are registered belong to their runbook: two that are included may use the same.
        """
        for each in self.ancestors(node):
            if each.step is not None and each.step.included is not None:
                return each.index
        return 0

    def below(self, node: Node) -> Iterator[Node]:
        """Every node inside a node, in file order."""
        return iter(self.nodes[node.index + 1 : node.end])

    def steps(self) -> Iterator[Node]:
        """Every node that stands for a step as written, in file order."""
        return (node for node in self.nodes if node.step is not None)

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

    def graph(self, under: Node | None = None) -> networkx.DiGraph[str]:
        """The needs among the steps directly inside a node (default: the run), by path."""
        import networkx

        graph: networkx.DiGraph[str] = networkx.DiGraph()
        group = under or self.root
        for index in group.children:
            graph.add_node(self.nodes[index].path)
        for index in group.children:
            node = self.nodes[index]
            graph.add_edges_from((self.nodes[need].path, node.path) for need in node.needs)
        return graph

    def critical_path(self, seconds: Callable[[Node], float]) -> tuple[list[Node], float]:
        """The chain of steps that decides how long the run takes, and how long that is.

        `seconds` tells how long a step without steps inside takes. Groups on the chain are
        followed by the chain inside them.
        """
        return self._longest(self.root, seconds)

    def _longest(self, group: Node, seconds: Callable[[Node], float]) -> tuple[list[Node], float]:
        import networkx

        inside = {
            self.nodes[index].path: self._longest(self.nodes[index], seconds)
            if self.nodes[index].is_group
            else ([], seconds(self.nodes[index]))
            for index in group.children
        }
        best: dict[str, float] = {}
        before: dict[str, str | None] = {}
        for path in networkx.topological_sort(self.graph(group)):
            node = self.node(path)
            needs = [self.nodes[need].path for need in node.needs]
            previous = max(needs, key=lambda need: best[need], default=None)
            before[path] = previous
            best[path] = (best[previous] if previous else 0.0) + inside[path][1]
        if not best:
            return [], 0.0
        last: str | None = max(best, key=lambda path: best[path])
        total = best[last] if last else 0.0
        chain: list[Node] = []
        while last is not None:
            chain[:0] = [self.node(last), *inside[last][0]]
            last = before[last]
        return chain, total


def _drop_places(value: Any) -> None:
    if isinstance(value, dict):
        value.pop("place", None)
        for inner in value.values():
            _drop_places(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            _drop_places(inner)


def build_plan(
    runbook: Runbook, *, tags: Iterable[str] = (), skip_tags: Iterable[str] = ()
) -> Plan:
    """Lay a runbook out flat. Tags select as in Ansible (``always`` and ``never`` included)."""
    nodes: list[Node] = []
    root = _add(nodes, "", NONE, "body", None)
    root.guards = runbook.guards
    root.budget = runbook.budget
    root.prepared = not runbook.guards and not isinstance(runbook.budget, str)
    root.children = _add_steps(nodes, root, runbook.block)
    root.rescue = _add_block(nodes, root, "rescue", runbook.rescue)
    root.always = _add_block(nodes, root, "always", runbook.always)
    root.end = len(nodes)
    wanted, unwanted = frozenset(tags), frozenset(skip_tags)
    if wanted or unwanted or _uses_never(nodes):
        _select(nodes, wanted, unwanted)
    return Plan(runbook, nodes)


def _add(nodes: list[Node], path: str, parent: int, role: Role, step: Step | None) -> Node:
    node = Node(len(nodes), path, parent, role, step)
    nodes.append(node)
    return node


def _add_steps(nodes: list[Node], owner: Node, block: Block) -> tuple[int, ...]:
    prefix = f"{owner.path}/" if owner.path else ""
    by_id: dict[str, Node] = {}
    for step in block.steps:
        node = _add(nodes, prefix + step.id, owner.index, "body", step)
        by_id[step.id] = node
        if step.block is not None:
            node.children = _add_steps(nodes, node, step.block)
        node.rescue = _add_block(nodes, node, "rescue", step.rescue)
        node.undo = _add_block(nodes, node, "undo", step.undo)
        node.always = _add_block(nodes, node, "always", step.always)
        node.end = len(nodes)
    for step in block.steps:
        node = by_id[step.id]
        node.needs = tuple(by_id[need].index for need in step.needs)
        for need in step.needs:
            before = by_id[need]
            if isinstance(before.dependents, tuple):
                before.dependents = []
            before.dependents.append(node.index)
    return tuple(node.index for node in by_id.values())


def _add_block(nodes: list[Node], owner: Node, role: Role, block: Block | None) -> int:
    if block is None:
        return NONE
    node = _add(nodes, f"{owner.path}.{role}", owner.index, role, None)
    node.children = _add_steps(nodes, node, block)
    node.end = len(nodes)
    return node.index


def _uses_never(nodes: list[Node]) -> bool:
    return any(node.step is not None and "never" in node.step.tags for node in nodes)


def _select(nodes: list[Node], wanted: frozenset[str], unwanted: frozenset[str]) -> None:
    """Mark what the tags leave out. A group runs when anything inside it is selected."""
    effective: list[frozenset[str]] = []
    selected: list[bool] = []
    for node in nodes:
        own = frozenset(node.step.tags) if node.step else frozenset()
        tags = own | (effective[node.parent] if node.parent != NONE else frozenset())
        effective.append(tags)
        selected.append(_is_selected(tags, wanted, unwanted))
    for node in reversed(nodes):
        if node.is_group and any(selected[child] for child in node.children):
            selected[node.index] = True
    for node in nodes:
        handler = node.role != "body" or any(nodes[up].role != "body" for up in _chain(nodes, node))
        if not selected[node.index] and not handler and node.step is not None:
            node.deselected = "not selected by tags"


def _chain(nodes: list[Node], node: Node) -> Iterator[int]:
    while node.parent != NONE:
        yield node.parent
        node = nodes[node.parent]


def _is_selected(tags: frozenset[str], wanted: frozenset[str], unwanted: frozenset[str]) -> bool:
    """Ansible's rules, with its words ``all``, ``tagged``, ``untagged``, ``always``, ``never``."""
    kind = "tagged" if tags else "untagged"
    if kind in unwanted or tags & unwanted:
        return False
    if "always" in tags:
        return True
    if "never" in tags and not tags & (wanted - {"all"}):
        return False
    return not wanted or "all" in wanted or kind in wanted or bool(tags & wanted)
