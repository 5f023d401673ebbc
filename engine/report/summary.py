"""The end of a run in words: how it ended, phases against their budgets, what changed, what next.

Every function takes the facts of a run and gives lines; nothing is read or decided here.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from typing import Any

from engine.plan import Plan
from engine.report.facts import ChangeFacts, RunFacts, StepFacts
from engine.report.failures import failure_lines, kind_words
from engine.report.next_steps import Advice, advice_lines
from engine.report.words import (
    STATUS_STYLES,
    Line,
    Span,
    Style,
    cut,
    from_where,
    line,
    listed,
    mode_mark,
    one_line,
    planned,
    short_name,
    status_span,
    table,
    value_text,
    who,
    width,
)
from engine.report.wrapping import wrapped
from engine.units import count, took

_MOST_PHASES = 40
_MOST_CHANGES = 12
_MESSAGE = 70
_MOST_DEEDS = 6


def summary(
    facts: RunFacts,
    plan: Plan,
    advice: Sequence[Advice],
    journal: str,
    columns: int | None = None,
) -> list[Line]:
    """Everything that is said when a run ends or is left; `columns` is the terminal's width."""
    lines: list[Line] = [(), outcome(facts), *unwatched_lines(facts)]
    lines += _section("", phase_table(facts))
    lines += _section("Questions", gate_lines(facts))
    lines += _section("In doubt", doubt_lines(facts))
    lines += _section("Why", why_lines(facts, plan))
    paths = [each.path for each in facts.phases]
    lines += _section("Warnings", warning_lines(facts))
    lines += _section("Reason", reason_lines(facts))
    lines += _section(_changed_title(facts), change_lines(facts.changes, paths))
    lines += _section("Figures", figures_of(facts))
    lines += [(), line(Span("Journal  ", "head"), journal)]
    return wrapped(lines, columns) + _section("Next", advice_lines(advice, columns))


def _section(title: str, lines: Sequence[Line]) -> list[Line]:
    if not lines:
        return []
    return [(), *([line(Span(title, "head"))] if title else []), *lines]


# -- the outcome --------------------------------------------------------------------------------
def outcome(facts: RunFacts) -> Line:
    """One sentence."""
    name = f"{facts.name}: "
    mark = mode_mark(facts.mode, "after")
    check = (Span(mark, "warn"),) if mark else ()
    word, style, rest = _OUTCOMES[facts.status](facts)
    return (*check, Span(name, "head"), Span(word, style), Span(rest))


def unwatched_lines(facts: RunFacts) -> list[Line]:
    """That what the run has begun is watched by nobody while no process carries it."""
    if not facts.unwatched:
        return []
    guards = sum(each.step in facts.unwatched for each in facts.guards)
    where = listed(each or "the run" for each in facts.unwatched)
    said = f"until then nobody watches what it left: {count(guards, 'guard')} of {where}"
    return [line(Span(said, "warn"))]


def _succeeded(facts: RunFacts) -> tuple[str, Style, str]:
    return "succeeded", "good", f" {against_budget(facts)}"


def _failed(facts: RunFacts) -> tuple[str, Style, str]:
    return "FAILED", "bad", f" {against_budget(facts)}: {_summary(facts)}"


def _rescued(facts: RunFacts) -> tuple[str, Style, str]:
    return "failed and was rescued", "warn", f" {against_budget(facts)}: {_summary(facts)}"


def _undone(facts: RunFacts) -> tuple[str, Style, str]:
    done = count(len(facts.undone), "step")
    said = f" ({done}) {against_budget(facts)}: {_summary(facts)}"
    return "failed and was undone", "warn", said


def _needs_person(facts: RunFacts) -> tuple[str, Style, str]:
    what = "its undo" if facts.undone and not facts.rescues else "its rescue"
    said = f" {against_budget(facts)}, and {what} failed too: a person has to act"
    return "FAILED", "bad", said


def _waiting(facts: RunFacts) -> tuple[str, Style, str]:
    waits = [gate.step for gate in facts.gates] + facts.doubts
    return "waits for a person", "warn", f" at {listed(waits)}, after {took(facts.seconds)}"


def _interrupted(facts: RunFacts) -> tuple[str, Style, str]:
    why = f" ({facts.stop_reason})" if facts.stop_reason else ""
    return "interrupted", "warn", f" after {took(facts.seconds)}{why}; it can be resumed"


def _preempted(facts: RunFacts) -> tuple[str, Style, str]:
    said = f" after {took(facts.seconds)}: {facts.stop_reason}; it can do nothing more"
    return "preempted", "bad", said


def _dead(facts: RunFacts) -> tuple[str, Style, str]:
    said = " its process is gone, without a word; it can be resumed"
    return "dead, resumable:", "warn", said


def _running(facts: RunFacts) -> tuple[str, Style, str]:
    return facts.status, "name", f" for {_of_budget(facts)}"


_OUTCOMES = {
    "succeeded": _succeeded,
    "failed": _failed,
    "rescued": _rescued,
    "undone": _undone,
    "needs_person": _needs_person,
    "waiting": _waiting,
    "interrupted": _interrupted,
    "preempted": _preempted,
    "dead": _dead,
    "running": _running,
    "stopping": _running,
}


def _summary(facts: RunFacts) -> str:
    failure = facts.failure
    if failure is None:
        return "no reason is known"
    where = f"{failure.step}: " if failure.step else ""
    return where + one_line(kind_words(failure))


def against_budget(facts: RunFacts) -> str:
    """``in 52.3s of its budget of 4h (0 %)``."""
    return f"in {_of_budget(facts)}"


_TELLING = 1.0
"""Seconds that stops and people have to take before the time without them is told."""


def _of_budget(facts: RunFacts) -> str:
    if not facts.budget:
        return took(facts.seconds)
    share = 100 * facts.charged / facts.budget
    budget = f"of its budget of {planned(facts.budget)} ({share:.0f} %)"
    if facts.seconds - facts.charged > _TELLING:  # it lay stopped, or waited for people
        return f"{took(facts.seconds)}, with {took(facts.charged)} {budget}"
    return f"{took(facts.seconds)} {budget}"


# -- phases -------------------------------------------------------------------------------------
def phase_table(facts: RunFacts) -> list[Line]:
    """The phases: planned against actual time. Of very many those that stand out."""
    phases = facts.phases
    if len(phases) > _MOST_PHASES:
        phases = [each for each in phases if each.group or each.word not in ("ok", "skipped")]
    shown = phases[:_MOST_PHASES]
    if not shown:
        return []
    rows = [_phase_row(each) for each in shown]
    head, *texts = table([("phase", "status", "planned", "actual", ""), *rows])
    start = max(width(row[0]) for row in (("phase",), *rows)) + 2
    lines = [line(Span(head, "dim"))]
    for row, text in zip(rows, texts, strict=True):
        at = start - width(row[0]) + len(row[0])
        end = at + len(row[1])
        style = STATUS_STYLES.get(row[1], "")
        lines.append(line(text[:at], Span(text[at:end], style), text[end:]))
    left = len(facts.phases) - len(shown)
    if left:
        lines.append(line(Span(f"and {count(left, 'more step')}", "dim")))
    return lines


def _phase_row(phase: StepFacts) -> tuple[str, str, str, str, str]:
    started = phase.seconds is not None and phase.status not in ("skipped", "not_run")
    actual = took(phase.seconds) if started and phase.seconds is not None else "-"
    notes = [phase.name] if phase.name and phase.name != phase.path else []
    if phase.planned and phase.charged is not None and phase.charged > phase.planned:
        notes.append(f"({took(phase.charged - phase.planned)} over)")
    label = "  " * phase.depth + short_name(phase.path)
    return label, phase.word, planned(phase.planned), actual, cut(" ".join(notes), 50)


# -- what waits ---------------------------------------------------------------------------------
def gate_lines(facts: RunFacts) -> list[Line]:
    """Each open question, with its checklist."""
    lines: list[Line] = []
    for gate in facts.gates:
        lines.append(line("  ", status_span("asking"), f" {gate.step}: {gate.message}"))
        lines += [line(f"    [ ] {point}") for point in gate.checklist]
    return lines


def doubt_lines(facts: RunFacts) -> list[Line]:
    """Each step of which nobody knows whether it happened."""
    by_path = {each.path: each for each in facts.steps}
    return [
        line("  ", status_span("in doubt"), f" {path}: {_doubt(by_path[path])}")
        for path in facts.doubts
        if path in by_path
    ]


def _doubt(step: StepFacts) -> str:
    known = f" ({step.message})" if step.message else ""
    return f"it was started, and its process ended before it told an outcome{known}"


# -- why ----------------------------------------------------------------------------------------
def why_lines(facts: RunFacts, plan: Plan) -> list[Line]:
    """What failed and why, what rescue or undo did about it, what is left for a person."""
    if facts.status in ("succeeded", "running", "waiting") and not facts.rescues:
        return []
    lines: list[Line] = []
    told = facts.failures or ([facts.failure] if facts.failure is not None else [])
    for failure in told[:5]:
        where = failure.step or "the run"
        lines.append(line(Span(f"  {where}: ", "name"), Span(one_line(kind_words(failure)), "bad")))
        node = plan.nodes[plan.by_path[failure.step]] if failure.step in plan.by_path else None
        lines += failure_lines(failure, node, indent="    ")
    if len(told) > 5:
        lines.append(line(f"  and {count(len(told) - 5, 'more failure')}"))
    lines += _answers(facts)
    return lines


def _answers(facts: RunFacts) -> list[Line]:
    lines: list[Line] = []
    for group, status in facts.rescues.items():
        name = group or "the run"
        done = status == "succeeded"
        word = "did its work" if done else "FAILED"
        lines.append(line(f"  rescue of {name} ", Span(word, "good" if done else "bad")))
        inside = [each for each in facts.changes if each.step.startswith(f"{group}.rescue/")]
        deeds = [one_line(each.message) for each in inside if each.message]
        lines += [line(f"    {cut(text, 90)}") for text in deeds[:_MOST_DEEDS]]
    for step, status in facts.undone.items():
        done = status == "succeeded"
        word = "undone" if done else "could NOT be undone"
        lines.append(line(f"  {step} ", Span(word, "good" if done else "bad")))
    if facts.status == "needs_person":
        left = [
            f"{step} is as the run left it" for step, s in facts.undone.items() if s != "succeeded"
        ]
        left += [
            _half_rescued(facts, group) for group, s in facts.rescues.items() if s != "succeeded"
        ]
        said = "; ".join(left) or "see what failed above"
        lines.append(line("  ", Span("a person has to act: ", "bad"), said))
    return lines


def warning_lines(facts: RunFacts) -> list[Line]:
    """What was done though it is not safe."""
    return [
        line("  ", Span(text, "warn"), Span(f" ({step})" if step else "", "dim"))
        for text, step in facts.warnings.items()
    ]


def _half_rescued(facts: RunFacts, group: str) -> str:
    """Where a rescue stopped, and with which words; what it did before that stands above."""
    name = group or "the run"
    inside = [each for each in facts.failures if each.step.startswith(f"{group}.rescue/")]
    if not inside:
        return f"what the rescue of {name} should have put right is not"
    last = inside[-1]
    return f"the rescue of {name} stopped at {last.step}: {one_line(kind_words(last))}"


def reason_lines(facts: RunFacts) -> list[Line]:
    """A run that was forced without saying why asks for it afterwards."""
    if not facts.forced or facts.reason:
        return []
    said = f"none was given for --force, used by {from_where(facts.by)}: tell it now (see below)"
    return [line("  ", Span(said, "warn"))]


# -- what changed -------------------------------------------------------------------------------
def _changed_title(facts: RunFacts) -> str:
    steps = count(len(facts.changes), "change")
    return f"Would change ({steps})" if facts.check else f"Changed ({steps})"


def change_lines(
    changes: Sequence[ChangeFacts], phases: Sequence[str] = (), most: int = _MOST_CHANGES
) -> list[Line]:
    """What was changed; many changes are counted by phase instead of being listed."""
    if len(changes) <= most:
        rows = [(f"  {each.task}", cut(one_line(each.message), _MESSAGE)) for each in changes]
        return [line(text) for text in table(rows, head=False)]
    grouped: dict[str, list[str]] = {}
    known = frozenset(phases)
    for each in changes:
        phase = _phase_of(each.step, known)
        name = each.task.removeprefix(phase).strip("/ ") or phase
        grouped.setdefault(phase, []).append(name)
    shown = list(grouped.items())[: 2 * most]
    counted = [(f"  {phase}", f"{len(names)}", _named(names)) for phase, names in shown]
    lines = [line(text) for text in table(counted, head=False)]
    if len(grouped) > len(shown):
        lines.append(line(f"  and {count(len(grouped) - len(shown), 'more step')}"))
    return lines


def _named(names: Sequence[str]) -> str:
    """As many of the names as there is room for, and how many more there are."""
    most = 8
    while most > 2 and width(listed(names, most)) > _MESSAGE:
        most -= 1
    return cut(listed(names, most), _MESSAGE)


def _phase_of(path: str, phases: Container[str]) -> str:
    """The innermost phase around a step, or its rescue or undo; else the step at the top."""
    phase = path.split("/")[0]
    end = len(path)
    while end > 0:
        if path[:end] in phases:
            phase = path[:end]
            break
        end = max(path.rfind(mark, 0, end) for mark in "/.[")
    handler = path[len(phase) :].split("/")[0]  # `.rescue` or `[web01]`, where it stands in one
    return phase + handler


# -- how users fared ----------------------------------------------------------------------------
def figures_of(facts: RunFacts) -> list[Line]:
    """What steps measured for people to read at the end."""
    notes = [one_line(text) for text in facts.notes.values()]
    noted = {text.partition(" ")[0] for text in notes}  # `p95 32.9 ms`: told once, by the step
    measured = {name: value for name, value in facts.measured.items() if name not in noted}
    lines = [line(f"  {text}") for text in notes]
    return [*figure_lines(facts.figures), *lines, *_measured_lines(measured)]


def _measured_lines(figures: Mapping[str, float | str]) -> list[Line]:
    """``error_rate 0.18 % · p95 36.9 ms``, several lines of them where there are many."""
    lines: list[Line] = []
    row = ""
    for name, value in figures.items():
        part = f"{name} {one_line(value_text(value))}"
        if row and width(row) + width(part) > _MESSAGE:
            lines.append(line(f"  {row}"))
            row = ""
        row = f"{row} · {part}" if row else part
    return [*lines, line(f"  {row}")] if row else lines


def figure_lines(figures: dict[str, Any]) -> list[Line]:
    """Requests, failures, lost sessions, latencies, as a step's result had them."""
    if not figures:
        return []
    failures = figures["failures"]
    lost = figures["sessions_lost"]
    parts = [
        Span(f"  {_number(figures['requests'])} requests"),
        Span(f", {_number(failures)} failed", "bad" if failures else "good"),
        Span(f", {_number(lost)} sessions lost", "bad" if lost else "good"),
    ]
    rate = figures.get("requests_per_second")
    if isinstance(rate, int | float):
        parts.insert(1, Span(f" at {rate:.0f}/s"))
    lines = [tuple(parts)]
    latencies = [
        f"{name.upper()} {figures[key]:.1f} ms"
        for name, key in (("p50", "p50_ms"), ("p95", "p95_ms"), ("p99", "p99_ms"))
        if isinstance(figures.get(key), int | float)
    ]
    if latencies:
        lines.append(line(f"  {' · '.join(latencies)}"))
    return lines


def _number(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int | float) else str(value)


def started_by(facts: RunFacts) -> str:
    """``started 2026-… by ada@host, no terminal``."""
    return f"by {from_where(facts.by)}" if facts.by.via else f"by {who(facts.by)}"
