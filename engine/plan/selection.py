"""Tags select steps as in Ansible."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from engine.plan.node import NONE, Node


def uses_never(nodes: Sequence[Node]) -> bool:
    """Whether something runs only when its tags are asked for."""
    return any(node.step is not None and "never" in node.step.tags for node in nodes)


def select(nodes: Sequence[Node], chosen: frozenset[str], unwanted: frozenset[str]) -> None:
    """Mark what the tags leave out. A group runs when anything inside it is selected."""
    effective: list[frozenset[str]] = []
    selected: list[bool] = []
    for node in nodes:
        own = frozenset(node.step.tags) if node.step else frozenset()
        tags = own | (effective[node.parent] if node.parent != NONE else frozenset())
        effective.append(tags)
        selected.append(_is_selected(tags, chosen, unwanted))
    for node in reversed(nodes):
        if node.is_group and any(selected[child] for child in node.children):
            selected[node.index] = True
    for node in nodes:
        handler = node.role != "body" or any(nodes[up].role != "body" for up in _chain(nodes, node))
        if not selected[node.index] and not handler and node.step is not None:
            node.deselected = "not selected by tags"


def _chain(nodes: Sequence[Node], node: Node) -> Iterator[int]:
    while node.parent != NONE:
        yield node.parent
        node = nodes[node.parent]


def _is_selected(tags: frozenset[str], chosen: frozenset[str], unwanted: frozenset[str]) -> bool:
    """Ansible's rules, with its words ``all``, ``tagged``, ``untagged``, ``always``, ``never``."""
    kind = "tagged" if tags else "untagged"
    if kind in unwanted or tags & unwanted:
        return False
    if "always" in tags:
        return True
    if "never" in tags and not tags & (chosen - {"all"}):
        return False
    return not chosen or "all" in chosen or kind in chosen or bool(tags & chosen)
