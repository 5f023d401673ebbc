"""The live view's picture of a run at one moment, as lines that fit a given size.

Pure: state, time and what the tasks said go in, lines come out. What matters most when there is
little room stands in `_fit`: the head and what runs stay, finished and waiting phases give way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from engine.cli.watched import Watched, guard_lines, watched_by
from engine.plan import Node
from engine.report.phases import Phase, phases_of
from engine.report.telling import task_name
from engine.report.words import (
    STATUS_STYLES,
    STATUS_WORDS,
    Line,
    Span,
    cut,
    line,
    mode_mark,
    pad,
    planned,
    short_name,
    width,
)
from engine.state import FINAL, RunState, StepState
from engine.units import took

_MARKS = {
    "ok": "✓",
    "changed": "✓",
    "to change": "✓",
    "running": "▶",
    "asking": "?",
    "FAILED": "✗",
    "rescued": "!",
    "cancelled": "!",
    "ignored": "!",
    "skipped": "–",
    "waiting": "·",
    "not run": "·",
}
_MANY = 500
_BAR = 24
_SHORTEST_PATH = 16


class Picture:
    """Everything that `frame` needs besides the state."""

    def __init__(self) -> None:
        self.progress: dict[tuple[str, int], str] = {}
        """The last words of each task, by step and task."""
        self.shares: dict[str, float] = {}
        """The share of traffic of each version, percent, as last told by a step."""
        self.phases: list[Phase] | None = None
        """The runbook's phases, found when they are first needed."""
        self.threshold: Callable[[Node, int], str] | None = None
        """Puts a guard's condition into words, with the values of the variables in it."""
        self.limit: Callable[[Node], float | None] | None = None
        """Tells the budget or timeout of a step that has not begun."""


def frame(state: RunState, now: float, picture: Picture, columns: int, rows: int) -> list[Line]:
    """At most `rows` lines of at most `columns` columns."""
    head = [_rule(columns), *_head(state, now)]
    running = _running(state, now, picture, max(columns // 2, _SHORTEST_PATH))
    guards = watched_by(state, picture.threshold)
    traffic = _traffic(picture.shares, columns)
    phases = _phases(state, now, picture)
    shown = [*head, *_fit(phases, running, traffic, guards, (columns, rows - len(head)))]
    return [_cut_line(each, columns) for each in shown[:rows]]


def _fit(
    phases: list[Line],
    running: list[Line],
    traffic: list[Line],
    guards: list[Watched],
    room: tuple[int, int],
) -> list[Line]:
    """Make sections fit: what runs comes first, then the phases around it, traffic and guards."""
    columns, rows = room
    left = max(rows, 0)
    reserve = min(len(phases), max(4, left // 3))
    work = _limit(running, max(left - reserve, 1))
    left -= len(work)
    shares = _limit(traffic, max(0, left - reserve))
    left -= len(shares)
    watched = guard_lines(guards, columns, max(0, left - reserve))
    left -= len(watched)
    return [*_window(phases, max(left, 0)), *work, *shares, *watched]


def _limit(lines: list[Line], most: int) -> list[Line]:
    if len(lines) <= most:
        return lines
    if most <= 0:
        return []
    hidden = len(lines) - most + 1
    return [*lines[: most - 1], line(Span(f"  … and {hidden} more", "dim"))]


def _window(phases: list[Line], most: int) -> list[Line]:
    """Phases around the innermost at work, with a word about those left out on either side."""
    if len(phases) <= most:
        return phases
    if most <= 0:
        return []
    marks = [each[0].text.strip()[:1] for each in phases]
    at_work = [n for n, mark in enumerate(marks) if mark in ("▶", "?", "✗")]
    begun = sum(mark != "·" for mark in marks)
    middle = at_work[-1] if at_work else min(begun, len(phases) - 1)
    if most < 3:
        return phases[middle : middle + 1]
    start = max(0, min(middle - most // 2, len(phases) - most))
    shown = phases[start : start + most]
    if start:
        shown[0] = line(Span(f"  … {start + 1} before", "dim"))
    after = len(phases) - start - most
    if after:
        shown[-1] = line(Span(f"  … {after + 1} more", "dim"))
    return shown


def _cut_line(given: Line, columns: int) -> Line:
    kept: list[Span] = []
    left = columns
    for span in given:
        text = cut(span.text, left)
        kept.append(Span(text, span.style))
        left -= width(text)
        if left <= 0:
            break
    return tuple(kept)


def _rule(columns: int) -> Line:
    return line(Span("─" * columns, "dim"))


_TELLING = 1.0
"""Seconds that people and stops have to take before the time without them is told."""


# -- the head -----------------------------------------------------------------------------------
def _head(state: RunState, now: float) -> list[Line]:
    start = state.start
    assert start is not None
    mark = mode_mark(start.mode, "during")
    check = (Span(mark, "warn"),) if mark else ()
    elapsed = max(0.0, now - state.started)
    root = state.steps.get(0)
    budget = root.budget if root is not None else None
    charged = state.charged(0, now)
    of = f" of {planned(budget)}" if budget else ""
    if budget and elapsed - charged > _TELLING:
        of = f", {took(charged)}{of}"
    over = bool(budget) and charged > (budget or 0)
    time = Span(f"{took(elapsed)}{of}", "bad" if over else "head")
    parts: list[Span] = [*check, Span(start.name, "head"), Span(" · "), time]
    if state.tokens:
        locks = ", ".join(f"{name} #{token}" for name, token in state.tokens.items())
        parts.append(Span(f" · lock {locks}"))
    if state.life == "stopping" and state.stop is not None:
        parts.append(Span(f" · STOPPING: {state.stop.reason or state.stop.kind}", "bad"))
    return [tuple(parts), line(Span(f"run {start.run}", "dim"))]


# -- phases -------------------------------------------------------------------------------------
def _phases(state: RunState, now: float, picture: Picture) -> list[Line]:
    """The phases, and the run's own rescue, undo or always block once it is at work."""
    plan, root = state.plan, state.plan.root
    lines: list[Line] = []
    if picture.phases is None:
        picture.phases = phases_of(plan)
    shown: list[Phase] = picture.phases
    if len(shown) > _MANY:
        found = state.steps.get(0)
        group = found.group if found is not None else None
        over = len(root.children) - group.left if group is not None else 0
        lines.append(line(f"  {over:,} of {len(root.children):,} steps are over"))
        opened = list(group.opened)[:_MANY] if group is not None else []
        shown = [Phase(plan.nodes[index], 0) for index in opened]
    blocks = [index for index in (root.rescue, root.always) if index in state.steps]
    top = state.steps.get(0)
    if top is not None and top.group is not None and top.group.undoing is not None:
        blocks.insert(0, plan.nodes[top.group.undoing].undo)
    shown = [*shown, *(Phase(plan.nodes[index], 0) for index in blocks)]
    column = min(32, max((width(_label(phase)) for phase in shown), default=0))
    return lines + [_phase(state, phase, now, column, picture) for phase in shown]


def _label(phase: Phase) -> str:
    return "  " * phase.depth + short_name(phase.node.path)


def _phase(state: RunState, phase: Phase, now: float, column: int, picture: Picture) -> Line:
    node = phase.node
    found = state.steps.get(node.index)
    check = state.start is not None and state.start.mode == "check"
    word = _word(found, check)
    style = STATUS_STYLES.get(word, "")
    limit = _limit_of(node, found, picture)
    time = _elapsed(found, now)
    times = f"{time}{f'/{planned(limit)}' if limit else ''}" if time else planned(limit)
    over = bool(limit) and state.charged(node.index, now) > (limit or 0)
    name = node.step.name if node.step is not None and node.step.name != node.path else ""
    inside = _inside(state, node, found)
    return (
        Span(f"  {_MARKS.get(word, '·')} ", style),
        Span(f"{pad(cut(_label(phase), column), column)} "),
        Span(pad(word, 9), style),
        Span(f" {times:<13}", "bad" if over else "dim"),
        Span(f" {inside:<8}"),
        Span(f" {name}", "dim"),
    )


def _word(found: StepState | None, check: bool) -> str:
    if found is None:
        return "waiting"
    if found.ignored:
        return "ignored"
    if found.status == "succeeded" and any(task.changed for task in found.tasks):
        return "to change" if check else "changed"
    return STATUS_WORDS[found.status]


def _limit_of(node: Node, found: StepState | None, picture: Picture) -> float | None:
    if found is not None and (found.budget or found.timeout):
        return found.budget or found.timeout
    if found is None and picture.limit is not None:
        return picture.limit(node)
    given = node.budget if node.budget is not None else node.timeout
    return given if isinstance(given, int | float) else None


def _seconds(found: StepState, now: float) -> float:
    if not found.opened:
        return 0.0
    return max(0.0, (found.finished if found.status in FINAL else now) - found.opened)


def _elapsed(found: StepState | None, now: float) -> str:
    if found is None or not found.opened or found.status in ("skipped", "not_run"):
        return ""
    return took(_seconds(found, now))


def _inside(state: RunState, node: Node, found: StepState | None) -> str:
    """``3/7``: how many of the steps inside are over."""
    if not node.is_group or found is None or found.group is None or found.status in FINAL:
        return ""
    if node.index in state.fans:
        members = state.fans[node.index].members
        return f"{len(members) - found.group.left}/{len(members)}"
    if node.end - node.index > _MANY:
        return f"{len(node.children) - found.group.left}/{len(node.children)}"
    inside = [
        each
        for each in state.plan.below(node)
        if each.step is not None and not each.is_group and _counts(state, node, each)
    ]
    over = sum(state.status(each) in FINAL for each in inside)
    return f"{over}/{len(inside)}"


def _counts(state: RunState, node: Node, each: Node) -> bool:
    """Steps of handlers count once they are at work."""
    for up in state.plan.ancestors(each):
        if up is node:
            return True
        if up.role != "body" and up.index not in state.steps:
            return False
    return True


# -- what runs ----------------------------------------------------------------------------------
def _running(state: RunState, now: float, picture: Picture, most: int) -> list[Line]:
    """Tasks at work; of a path longer than `most` columns the end is what tells them apart."""
    lines: list[Line] = []
    for index, number in state.running:
        node = state.plan.nodes[index]
        step = state.step(index)
        task = step.tasks[number]
        spent = max(0.0, now - task.started)
        parts = [
            Span("    ▶ ", "name"),
            Span(_ending(task_name(node.path, task.spec), most), "name"),
            Span(f"  {took(spent)}", "head"),
        ]
        if step.timeout is not None:
            parts.append(Span(f", {took(max(0.0, step.timeout - spent))} left", "dim"))
        if task.attempt > 1:
            parts.append(Span(f", attempt {task.attempt}", "warn"))
        if task.cancel is not None:
            parts.append(Span(", being stopped", "bad"))
        said = picture.progress.get((node.path, number), "")
        lines.append((*parts, Span(f"  {said}", "dim")))
    lines += _retrying(state, now, most)
    lines += [
        line(
            Span(f"    ? {_ending(state.plan.nodes[index].path, most)}  waits for a person", "warn")
        )
        for index in state.gates
    ]
    return lines


def _ending(path: str, most: int) -> str:
    """``…/watch/soak``: the end of a path, from one of its parts on where that is possible."""
    if width(path) <= most:
        return path
    kept = path[len(path) - most + 1 :]
    _, slash, after = kept.partition("/")
    return f"…{slash}{after}" if after else f"…{kept}"


def _retrying(state: RunState, now: float, most: int) -> list[Line]:
    lines: list[Line] = []
    for (kind, index, number), at in state.timers.all().items():
        if kind != "retry":
            continue
        node = state.plan.nodes[index]
        task = state.task((index, number))
        why = task.failure.message if task.failure is not None else ""
        lines.append(
            (
                Span("    ↻ ", "warn"),
                Span(_ending(task_name(node.path, task.spec), most), "name"),
                Span(f"  again in {took(max(0.0, at - now))}, attempt {task.attempt + 1}", "warn"),
                Span(f"  {why}", "dim"),
            )
        )
    return lines


# -- traffic --------------------------------------------------------------------------------------
def _traffic(shares: Mapping[str, float], columns: int) -> list[Line]:
    """A bar and the shares in numbers; where room is short, the bar gets shorter."""
    if not shares:
        return []
    label = "  traffic "
    numbers = " · ".join(f"{version} {share:g} %" for version, share in sorted(shares.items()))
    room = max(0, min(_BAR, columns - width(label) - width(numbers) - 1))
    total = sum(shares.values()) or 1.0
    bar = "".join(
        mark * round(room * share / total)
        for mark, (_, share) in zip("█░▒▓", sorted(shares.items()), strict=False)
    )
    return [line(Span(label, "dim"), Span(f"{bar} " if room else "", "name"), numbers)]
