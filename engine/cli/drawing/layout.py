"""Where the boxes of a picture stand: layers from top to bottom, groups laid out on their own.

Edges join siblings only, so every group is a small graph: its steps are put into layers by the
longest way from its beginning, long edges get a place in every layer that they pass, each layer
is ordered by where its neighbours stand, and everything is moved together without overlaps.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Mapping

from engine.cli.drawing.outline import children, does, edges, groups_of, label, marks
from engine.cli.drawing.times import Times
from engine.plan import Node, Plan
from engine.report.words import width
from engine.units import count

LETTER = 7.0
"""Width of a letter of the font that boxes are labelled in."""

PAD = 12.0
HEAD = 24.0
LINE = 15.0
GAP_X = 18.0
GAP_Y = 30.0
_SWEEPS = 4

MOST_BOXES = 60
"""Boxes of a picture that a person can still look at."""


class Box:
    """A step or group, with its place relative to the group around it."""

    def __init__(self, node: Node, lines: list[str], group: bool) -> None:
        self.node = node
        self.lines = lines
        self.group = group
        self.x = 0.0
        self.y = 0.0
        self.width = max((width(text) for text in lines), default=0) * LETTER + 2 * PAD
        self.height = len(lines) * LINE + PAD
        self.boxes: list[Box] = []
        self.routes: list[Route] = []


class Route:
    """An edge: points from the lower border of one box to the upper border of another."""

    def __init__(self, before: Node, after: Node, points: list[tuple[float, float]]) -> None:
        self.before = before
        self.after = after
        self.points = points


class _Stop:
    """A box, or the place where a long edge passes a layer."""

    def __init__(self, box: Box | None, layer: int, order: float) -> None:
        self.box = box
        self.layer = layer
        self.order = order
        self.width = box.width if box is not None else 4.0
        self.height = box.height if box is not None else 0.0
        self.x = 0.0
        self.above: list[_Stop] = []
        self.below: list[_Stop] = []

    @property
    def center(self) -> float:
        return self.x + self.width / 2


def lay_out(plan: Plan, times: Times, depth: int | None = None) -> Box:
    """The whole runbook as one box; groups more than `depth` levels deep are folded.

    Without a depth as many levels are open as make a picture that can be looked at.
    """
    levels = readable_depth(plan) if depth is None else depth
    return _group_box(plan, plan.root, times, plan.runbook.name, levels)


def readable_depth(plan: Plan) -> int:
    """Levels of groups that can be open with no more than `MOST_BOXES` boxes; one at least."""
    levels = Counter(len(list(plan.ancestors(node))) for node in plan.nodes[1:])
    boxes = 0
    for level in sorted(levels):
        boxes += levels[level]
        if boxes > MOST_BOXES:
            return max(1, level - 1)
    return max(levels, default=1)


def _box(plan: Plan, node: Node, times: Times, levels: int) -> Box:
    time = times.of(node).text()
    if node.is_group:
        title = " · ".join(filter(None, (_title(node), time)))
        return _group_box(plan, node, times, title, levels)
    second = " · ".join(filter(None, (does(node), time)))
    third = ", ".join(marks(plan, node))
    return Box(node, [text for text in (label(node), second, third) if text], group=False)


def _title(node: Node) -> str:
    own = label(node)
    name = node.step.name if node.step is not None else ""
    return f"{own}: {name}" if name and name != own else own


def _folded(plan: Plan, node: Node, title: str) -> Box:
    """A group of which only is told how much is in it."""
    inside = sum(not each.is_group for each in plan.below(node))
    more = ", ".join([count(inside, "step"), *marks(plan, node)])
    return Box(node, [title, more], group=True)


def _group_box(plan: Plan, node: Node, times: Times, title: str, levels: int) -> Box:
    if levels <= 0:
        return _folded(plan, node, title)
    notes = ", ".join(marks(plan, node))
    box = Box(node, [text for text in (title, notes) if text], group=True)
    head = HEAD + LINE * (len(box.lines) - 1)
    inside = [_box(plan, child, times, levels - 1) for child in children(plan, node)]
    size, box.routes = _place(inside, list(edges(plan, node)))
    for each in inside:
        each.x += PAD
        each.y += head
    for route in box.routes:
        route.points = [(x + PAD, y + head) for x, y in route.points]
    bottom = head + size[1]
    blocks = [
        _group_box(plan, block, times, block.role, levels - 1) for block in groups_of(plan, node)
    ]
    right = PAD
    for block in blocks:
        block.x, block.y = right, bottom + GAP_Y / 2
        right += block.width + GAP_X
    if blocks:
        bottom += GAP_Y / 2 + max(block.height for block in blocks)
    content = max(size[0] + 2 * PAD, right - GAP_X + PAD if blocks else 0.0)
    box.boxes = [*inside, *blocks]
    if content < box.width:
        _shift(inside, box.routes, (box.width - content) / 2)
    box.width = max(box.width, content)
    box.height = bottom + PAD
    return box


def _shift(boxes: list[Box], routes: list[Route], by: float) -> None:
    for box in boxes:
        box.x += by
    for route in routes:
        route.points = [(x + by, y) for x, y in route.points]


# -- one group ----------------------------------------------------------------------------------
def _place(
    boxes: list[Box], joined: list[tuple[Node, Node]]
) -> tuple[tuple[float, float], list[Route]]:
    """Give boxes their places; the size of them all, and the edges' ways."""
    if not boxes:
        return (0.0, 0.0), []
    layers_of = _layers_of(boxes, joined)
    stops = {
        box.node.index: _Stop(box, layers_of[box.node.index], order)
        for order, box in enumerate(boxes)
    }
    ways = [_way(stops[a.index], stops[b.index]) for a, b in joined]
    layers = _collect([*stops.values(), *(stop for way in ways for stop in way[1:-1])])
    _order(layers)
    _spread(layers)
    tops, bottoms, y = [], [], 0.0
    for layer in layers:
        height = max(stop.height for stop in layer)
        tops.append(y)
        bottoms.append(y + height)
        for stop in layer:
            if stop.box is not None:
                stop.box.x, stop.box.y = stop.x, y
        y += height + GAP_Y
    routes = [
        Route(a, b, _points(way, tops, bottoms)) for (a, b), way in zip(joined, ways, strict=True)
    ]
    right = max(stop.x + stop.width for layer in layers for stop in layer)
    return (right, y - GAP_Y), routes


def _layers_of(boxes: list[Box], joined: list[tuple[Node, Node]]) -> Mapping[int, int]:
    """The longest way from the beginning; edges come in an order in which that is known."""
    layers = {box.node.index: 0 for box in boxes}
    for before, after in joined:
        layers[after.index] = max(layers[after.index], layers[before.index] + 1)
    return layers


def _way(start: _Stop, end: _Stop) -> list[_Stop]:
    """The stops of an edge, with one in each layer that it passes."""
    way = [start]
    for layer in range(start.layer + 1, end.layer):
        way.append(_Stop(None, layer, (start.order + end.order) / 2))
    way.append(end)
    for above, below in itertools.pairwise(way):
        above.below.append(below)
        below.above.append(above)
    return way


def _collect(stops: list[_Stop]) -> list[list[_Stop]]:
    layers: list[list[_Stop]] = [[] for _ in range(max(stop.layer for stop in stops) + 1)]
    for stop in sorted(stops, key=lambda stop: stop.order):
        layers[stop.layer].append(stop)
    return layers


def _order(layers: list[list[_Stop]]) -> None:
    """Neighbours near each other: sort each layer by where those above, then below, stand."""
    for sweep in range(_SWEEPS):
        downwards = sweep % 2 == 0
        for layer in layers if downwards else reversed(layers):
            for place, stop in enumerate(layer):
                stop.order = float(place)
            places = {id(stop): float(place) for place, stop in enumerate(layer)}
            for stop in layer:
                near = stop.above if downwards else stop.below
                if near:
                    places[id(stop)] = sum(each.order for each in near) / len(near)
            layer.sort(key=lambda stop: places[id(stop)])
            for place, stop in enumerate(layer):
                stop.order = float(place)


def _spread(layers: list[list[_Stop]]) -> None:
    """Places from left to right: first side by side around the middle, then below neighbours."""
    widths = [sum(s.width for s in layer) + GAP_X * (len(layer) - 1) for layer in layers]
    widest = max(widths)
    for layer, used in zip(layers, widths, strict=True):
        x = (widest - used) / 2
        for stop in layer:
            stop.x = x
            x += stop.width + GAP_X
    for _ in range(_SWEEPS):
        for layer in layers[1:]:
            _settle(layer, up=True)
        for layer in reversed(layers[:-1]):
            _settle(layer, up=False)
    left = min(stop.x for layer in layers for stop in layer)
    for layer in layers:
        for stop in layer:
            stop.x -= left


def _settle(layer: list[_Stop], *, up: bool) -> None:
    """Move each towards the middle of its neighbours, keeping order and distances."""
    wanted = []
    for stop in layer:
        near = stop.above if up else stop.below
        middle = sum(each.center for each in near) / len(near) if near else stop.center
        wanted.append(middle - stop.width / 2)
    left = _packed(layer, wanted)
    backwards = [-(x + stop.width) for x, stop in zip(wanted, layer, strict=True)]
    right = [
        -x - stop.width
        for x, stop in zip(reversed(_packed(layer[::-1], backwards[::-1])), layer, strict=True)
    ]
    for stop, a, b in zip(layer, left, right, strict=True):
        stop.x = (a + b) / 2


def _packed(layer: list[_Stop], wanted: list[float]) -> list[float]:
    """Each where it wants to be, or as far beyond as the one before it makes necessary."""
    placed: list[float] = []
    edge = float("-inf")
    for stop, x in zip(layer, wanted, strict=True):
        placed.append(max(x, edge))
        edge = placed[-1] + stop.width + GAP_X
    return placed


def _points(way: list[_Stop], tops: list[float], bottoms: list[float]) -> list[tuple[float, float]]:
    start, end = way[0], way[-1]
    assert start.box is not None
    points = [(start.center, start.box.y + start.box.height)]
    for stop in way[1:-1]:
        points.append((stop.center, tops[stop.layer]))
        points.append((stop.center, bottoms[stop.layer]))
    return [*points, (end.center, tops[end.layer])]
