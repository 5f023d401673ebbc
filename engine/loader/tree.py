"""The tree of blocks and steps while a runbook is loaded: who comes before whom.

A `BlockNode` knows the ids of its steps and what each needs; a `StepNode` is made for steps that
something has to be known of later: those with templates, with children or with a registered
result. Both exist only during a load.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

Kind = Literal["steps", "rescue", "always", "undo"]


class BlockNode:
    """A list of steps: ids, and for each step the indices of those it needs."""

    __slots__ = ("_chain", "blocks", "branches", "ids", "index", "kind", "needs", "owner")

    def __init__(self, owner: StepNode | None, kind: Kind) -> None:
        self.owner = owner
        self.kind: Kind = kind
        self.ids: list[str] = []
        self.index: dict[str, int] = {}
        self.needs: list[tuple[int, ...]] = []
        self.blocks: dict[int, BlockNode] = {}
        """Blocks of groups and included runbooks, by the index of their step."""
        self.branches: dict[tuple[int, str], BlockNode] = {}
        """``rescue``, ``always`` and ``undo`` of steps, by index and kind."""
        self._chain: list[int] | None = None

    def comes_before(self, first: int, second: int) -> bool:
        """Whether `second` starts only after `first` has ended.

        Steps in a row are passed in one jump, so that a long list stays quick.
        """
        chain = self._chains()
        seen: set[int] = set()
        waiting = [second]
        while waiting:
            index = waiting.pop()
            start = chain[index]
            if start <= first < index or (index == first and index != second):
                return True
            if start not in seen:
                seen.add(start)
                waiting.extend(self.needs[start])
            waiting.extend(self._side_needs(start, index, seen))
        return False

    def _side_needs(self, start: int, index: int, seen: set[int]) -> Iterator[int]:
        """What steps within a row need besides the one before them."""
        for each in range(index, start, -1):
            if each in seen:
                return
            if len(self.needs[each]) > 1:
                seen.add(each)
                yield from (need for need in self.needs[each] if need != each - 1)

    def _chains(self) -> list[int]:
        """For each step the first of the row it ends: each step of a row needs the one before."""
        if self._chain is None:
            self._chain = []
            for index, needs in enumerate(self.needs):
                linked = index > 0 and index - 1 in needs
                self._chain.append(self._chain[index - 1] if linked else index)
        return self._chain

    def cycles(self) -> list[list[int]]:
        """Cycles of needs, each as indices; found by walking, without recursion."""
        if not any(need >= i for i, needs in enumerate(self.needs) for need in needs):
            return []  # without references forward there can be none
        state = [0] * len(self.needs)
        found: list[list[int]] = []
        for start in range(len(self.needs)):
            if state[start] == 0:
                self._walk_from(start, state, found)
        return found

    def _walk_from(self, start: int, state: list[int], found: list[list[int]]) -> None:
        path: list[int] = [start]
        waiting: list[Iterator[int]] = [iter(self.needs[start])]
        state[start] = 1
        while path:
            following = next(waiting[-1], None)
            if following is None:
                state[path.pop()] = 2
                waiting.pop()
            elif state[following] == 1:
                found.append(path[path.index(following) :])
            elif state[following] == 0:
                state[following] = 1
                path.append(following)
                waiting.append(iter(self.needs[following]))


class StepNode:
    """A step: where it stands and what its templates may read of it."""

    __slots__ = ("block", "hosts", "index", "loop", "register", "vars")

    def __init__(self, block: BlockNode, index: int) -> None:
        self.block = block
        self.index = index
        self.vars: dict[str, Any] = {}
        self.loop = False
        self.hosts = False
        self.register: str | None = None

    @property
    def id(self) -> str:
        """The step's id."""
        return self.block.ids[self.index]

    def around(self) -> Iterator[StepNode]:
        """This step and the groups around it, innermost first."""
        node: StepNode | None = self
        while node is not None:
            yield node
            node = node.block.owner

    def trail(self) -> list[tuple[BlockNode, int]]:
        """Blocks and indices from the top to this step."""
        return [(node.block, node.index) for node in self.around()][::-1]

    @property
    def path(self) -> str:
        """Ids from the top, joined by ``/``."""
        text = ""
        for node in self.around():
            text = f"{node.id}/{text}" if text else node.id
            if node.block.kind != "steps":
                outer = node.block.owner
                text = f"{outer.id if outer else ''}.{node.block.kind}/{text}"
                return f"{outer.prefix}{text}" if outer else text
        return text

    @property
    def prefix(self) -> str:
        """The path of the block that it stands in, with a ``/`` behind it; ``""`` at the top."""
        path = self.path
        return path[: len(path) - len(self.id)]

    @property
    def in_branch(self) -> bool:
        """Whether it runs after a failure (or at the end): in rescue, always or undo."""
        return any(node.block.kind != "steps" for node in self.around())


Trail = list[tuple[BlockNode, int]]
"""Blocks and indices from an outer block down to a step."""


def find_below(block: BlockNode, path: str) -> Trail | None:
    """The step at a path (``route``, ``canary/route``, ``canary.rescue/tell``) below a block."""
    trail: Trail = []
    current: BlockNode | None = block
    for part in path.split("/"):
        name, _, branch = part.partition(".")
        index = current.index.get(name) if current is not None else None
        if current is None or index is None:
            return None
        trail.append((current, index))
        below = current.branches.get((index, branch)) if branch else current.blocks.get(index)
        current = below
    return trail


def find_from(node: StepNode | None, top: BlockNode, key: str) -> Trail | None:
    """The step that ``steps[key]`` means for a reader: looked for in its own block, then in the
    blocks around it. The trail begins in the block where it was found."""
    for each in node.around() if node is not None else ():
        found = find_below(each.block, key) or _find_in_group_of(each.block, key)
        if found is not None:
            return found
    return find_below(top, key)


def _find_in_group_of(block: BlockNode, key: str) -> Trail | None:
    """For a rescue, always or undo: a step of the group that it belongs to."""
    owner = block.owner
    if block.kind == "steps" or owner is None:
        return None
    inner = owner.block.blocks.get(owner.index)
    return find_below(inner, key) if inner is not None else None


Verdict = Literal["before", "itself", "maybe", "not before"]


def may_read(reader: StepNode | None, trail: Trail) -> Verdict:
    """Whether the step at the end of `trail` has certainly run when `reader` starts.

    ``maybe``: it is in a rescue, always or undo that need not have run. In such a block itself
    everything may be read, because what has run when something fails cannot be known.
    """
    if reader is None or not trail:
        return "before"
    own = {id(block): index for block, index in reader.trail()}
    for depth, (block, index) in enumerate(trail):
        mine = own.get(id(block))
        if mine is None:
            return "before" if reader.in_branch else "not before"
        if mine != index:
            if _runs_in_branch_below(reader, block):
                return "before"
            if not block.comes_before(index, mine):
                return "not before"
            below = trail[depth + 1 :]
            return "maybe" if any(b.kind != "steps" for b, _ in below) else "before"
    if (reader.block, reader.index) == trail[-1]:
        return "itself"
    return "before" if reader.in_branch else "itself"


def _runs_in_branch_below(reader: StepNode, block: BlockNode) -> bool:
    """Whether the reader stands in a rescue, always or undo inside `block`."""
    for node in reader.around():
        if node.block is block:
            return False
        if node.block.kind != "steps":
            return True
    return False
