"""A runbook as SVG: one file, readable in light and dark surroundings and without colours."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from engine.cli.drawing.layout import HEAD, LINE, PAD, Box, Route, lay_out
from engine.cli.drawing.text import total_text
from engine.cli.drawing.times import Times
from engine.plan import Plan

_MARGIN = 12.0
_STYLE = """\
  .page { fill: #ffffff; stroke: none; }
  text { font: 12px ui-sans-serif, system-ui, "Noto Sans", "Noto Sans CJK SC", sans-serif;
         fill: #1c2430; }
  text.more { fill: #5b6675; font-size: 11px; }
  text.title { font-weight: 600; }
  rect { fill: #ffffff; stroke: #8a96a6; stroke-width: 1; }
  rect.group { fill: #f3f5f8; }
  rect.handler { stroke-dasharray: 5 4; }
  path { fill: none; stroke: #8a96a6; stroke-width: 1.2; }
  path.head { fill: #8a96a6; stroke: none; }
  rect.critical, path.critical { stroke: #b3261e; stroke-width: 2.5; }
  path.head.critical { fill: #b3261e; stroke: none; }
  @media (prefers-color-scheme: dark) {
    .page { fill: #12161c; stroke: none; }
    text { fill: #e6eaf0; }
    text.more { fill: #a7b1bf; }
    rect { fill: #232a34; stroke: #7d8897; }
    rect.group { fill: #1a2028; }
    path { stroke: #7d8897; }
    path.head { fill: #7d8897; }
    rect.critical, path.critical { stroke: #ff8a80; }
    path.head.critical { fill: #ff8a80; }
  }
"""


def draw_svg(plan: Plan, times: Times, depth: int | None = None) -> str:
    """The picture, with groups more than `depth` levels deep folded (`lay_out`)."""
    root = lay_out(plan, times, depth)
    wide, high = root.width + 2 * _MARGIN, root.height + 2 * _MARGIN + LINE
    size = f'viewBox="0 0 {wide:.0f} {high:.0f}" width="{wide:.0f}" height="{high:.0f}"'
    legend = f"thick: critical path, {total_text(times)}"
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">',
        f"<title>{_escape(plan.runbook.name)}</title>",
        f"<style>\n{_STYLE}</style>",
        f'<rect class="page" width="{wide:.0f}" height="{high:.0f}" stroke="none"/>',
        *_draw(root, _MARGIN, _MARGIN, times),
        f'<text class="more" x="{_MARGIN:.0f}" y="{high - 8:.0f}">{_escape(legend)}</text>',
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def _draw(box: Box, x: float, y: float, times: Times) -> Iterator[str]:
    node = box.node
    classes = ["group"] if box.group else []
    if node.role != "body" and node.step is None:
        classes.append("handler")
    if node.index in times.critical:
        classes.append("critical")
    kind = f' class="{" ".join(classes)}"' if classes else ""
    yield (
        f'<g id="n{node.index}"><title>{_escape(node.path or times.plan.runbook.name)}</title>'
        f'<rect{kind} x="{x:.1f}" y="{y:.1f}" width="{box.width:.1f}" '
        f'height="{box.height:.1f}" rx="6"/>'
    )
    yield from _labels(box, x, y)
    for route in box.routes:
        yield _route(route, x, y, times)
    for inner in box.boxes:
        yield from _draw(inner, x + inner.x, y + inner.y, times)
    yield "</g>"


def _labels(box: Box, x: float, y: float) -> Iterator[str]:
    for number, text in enumerate(box.lines):
        kind = "title" if number == 0 else "more"
        if box.group:
            place = f'x="{x + PAD:.1f}" y="{y + HEAD - 8 + number * LINE:.1f}"'
        else:
            middle = x + box.width / 2
            place = f'x="{middle:.1f}" y="{y + PAD + 5 + number * LINE:.1f}" text-anchor="middle"'
        yield f'<text class="{kind}" {place}>{_escape(text)}</text>'


def _route(route: Route, x: float, y: float, times: Times) -> str:
    points = [(px + x, py + y) for px, py in route.points]
    hot = {route.before.index, route.after.index} <= times.critical
    kind = ' class="critical"' if hot else ""
    head = "head critical" if hot else "head"
    (end_x, end_y) = points[-1]
    points[-1] = (end_x, end_y - 6)
    way = f"M{points[0][0]:.1f} {points[0][1]:.1f}"
    for (ax, ay), (bx, by) in itertools.pairwise(points):
        middle = (ay + by) / 2
        way += f" C{ax:.1f} {middle:.1f} {bx:.1f} {middle:.1f} {bx:.1f} {by:.1f}"
    arrow = f"M{end_x:.1f} {end_y:.1f} l-4 -7 h8 z"
    return f'<path{kind} d="{way}"/><path class="{head}" d="{arrow}"/>'


def _escape(text: str) -> str:
    return (
        text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")
    )
