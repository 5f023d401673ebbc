"""The tree of blocks and steps while a runbook is loaded: who comes before whom.

A `BlockNode` knows the ids of its steps and what each needs; a `StepNode` is made for steps that
something has to be known of later: those with templates, with children or with a registered
result. Both exist only during a load.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

ListKind = Literal["steps", "rescue", "always", "undo"]

MOST_CYCLES = 100
"""Cycles that are told of one list."""

_BAND = 2048  # steps whose order is worked out in one go
_MOST_BITS_KEPT = 200_000  # sets of `_BAND` bits kept for one list


class BlockNode:
    """A list of steps: ids, and for each step the indices of those it needs."""

    __slots__ = (
        *("_bands", "_chain", "_order"),
        *("blocks", "branches", "ids", "index", "kind", "needs", "owner"),
    )

    def __init__(self, owner: StepNode | None, kind: ListKind) -> None:
        self.owner = owner
        self.kind: ListKind = kind
        self.ids: list[str] = []
        self.index: dict[str, int] = {}
        self.needs: list[tuple[int, ...]] = []
        self.blocks: dict[int, BlockNode] = {}
        """Blocks of groups and included runbooks, by the index of their step."""
        self.branches: dict[tuple[int, str], BlockNode] = {}
        """``rescue``, ``always`` and ``undo`` of steps, by index and kind."""
        self._chain: list[int] | None = None
        self._order: list[int] | None = None
        self._bands: dict[int, list[int]] = {}

    def comes_before(self, first: int, second: int) -> bool:
        """Whether `second` starts only after `first` has ended.

        Most steps stand in a row with what they read, which one look tells. For the others it is
        worked out for many at once who comes after whom, because a long file asks often. Where
        steps wait for each other nothing has an order, and that has been noted as it is.
        """
        if first == second:
            return False
        if self._chains()[second] <= first < second:
            return True
        order = self._in_order()
        if order is None:
            return True
        band, bit = divmod(first, _BAND)
        return bool(self._before(band, order)[second] >> bit & 1)

    def _before(self, band: int, order: list[int]) -> list[int]:
        """For each step, as bits, which of the steps of one band end before it starts."""
        found = self._bands.get(band)
        if found is not None:
            return found
        while self._bands and (len(self._bands) + 1) * len(order) > _MOST_BITS_KEPT:
            self._bands.pop(next(iter(self._bands)))
        start = band * _BAND
        found = self._bands[band] = [0] * len(order)
        for index in order:
            mask = 0
            for need in self.needs[index]:
                mask |= found[need]
                if 0 <= need - start < _BAND:
                    mask |= 1 << (need - start)
            found[index] = mask
        return found

    def _in_order(self) -> list[int] | None:
        """The steps, each after those it needs; None if there is no such order."""
        if self._order is None:
            waiting = [len(set(needs)) for needs in self.needs]
            after: list[list[int]] = [[] for _ in self.needs]
            for index, needs in enumerate(self.needs):
                for need in set(needs):
                    after[need].append(index)
            order = [index for index, count in enumerate(waiting) if count == 0]
            for index in order:
                for each in after[index]:
                    waiting[each] -= 1
                    if waiting[each] == 0:
                        order.append(each)
            self._order = order
        return self._order if len(self._order) == len(self.needs) else None

    def _chains(self) -> list[int]:
        """For each step the first of the row it ends: each step of a row needs the one before."""
        if self._chain is None:
            self._chain = []
            for index, needs in enumerate(self.needs):
                linked = index > 0 and index - 1 in needs
                self._chain.append(self._chain[index - 1] if linked else index)
        return self._chain

    def cycles(self) -> list[list[int]]:
        """Cycles of needs, each as indices, of very many only the first; found by walking, without
        recursion."""
        if not any(need >= i for i, needs in enumerate(self.needs) for need in needs):
            return []  # without references forward there can be none
        state = [0] * len(self.needs)
        found: list[list[int]] = []
        for start in range(len(self.needs)):
            if len(found) >= MOST_CYCLES:
                break
            if state[start] == 0:
                self._walk_from(start, state, found)
        return found

    def _walk_from(self, start: int, state: list[int], found: list[list[int]]) -> None:
        path: list[int] = [start]
        waiting: list[Iterator[int]] = [iter(self.needs[start])]
        state[start] = 1
        while path and len(found) < MOST_CYCLES:
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

    __slots__ = ("block", "hosts", "index", "loop", "on", "order", "register", "vars")

    def __init__(self, block: BlockNode, index: int, order: int = 0) -> None:
        self.block = block
        self.index = index
        self.order = order
        """How many steps of the file were begun before it."""
        self.vars: dict[str, Any] = {}
        self.loop = False
        self.hosts = False
        self.on = ""
        """Where it says that a command works: ``controller`` or ``hosts``; "" if it does not."""
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


Precedence = Literal["before", "itself", "maybe", "not before"]


def may_read(reader: StepNode | None, trail: Trail) -> Precedence:
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
