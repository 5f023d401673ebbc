"""``ce-run show``: a run step by step, finished or under way."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from engine.events import Record
from engine.fold import apply
from engine.plan import Plan
from engine.report.facts import GuardFacts, RunFacts, StepFacts
from engine.report.failures import kind_words
from engine.report.next_steps import Advice, advice_lines
from engine.report.summary import (
    change_lines,
    doubt_lines,
    figures_of,
    gate_lines,
    outcome,
    unwatched_lines,
    warning_lines,
    why_lines,
)
from engine.report.telling import Teller, diff_lines
from engine.report.words import (
    Line,
    Span,
    clock_time,
    cut,
    day_time,
    from_where,
    line,
    listed,
    one_line,
    pad,
    planned,
    short_name,
    status_span,
    value_text,
    width,
)
from engine.report.wrapping import wrapped
from engine.state import RunState
from engine.units import count, took

_WORD = 11
_PATH = 44


def show(
    facts: RunFacts,
    plan: Plan,
    advice: Sequence[Advice],
    journal: str,
    *,
    diffs: bool = False,
    columns: int | None = None,
) -> list[Line]:
    """The whole page; `columns` is the terminal's width."""
    lines = [outcome(facts), *unwatched_lines(facts), *head_lines(facts)]
    lines += section("Steps", step_lines(facts))
    lines += section("Guards", guard_lines(facts.guards))
    lines += section("Warnings", warning_lines(facts))
    lines += section("Questions", gate_lines(facts))
    lines += section("In doubt", doubt_lines(facts))
    lines += section("Why", why_lines(facts, plan))
    title = "Would change" if facts.check else "Changed"
    if diffs:
        lines += section(title, all_diffs(facts))
    else:
        lines += section(title, change_lines(facts.changes, most=200))
    lines += section("Figures", figures_of(facts))
    lines += [(), line(Span("Journal  ", "head"), journal)]
    return wrapped(lines, columns) + section("Next", advice_lines(advice, columns))


def section(title: str, lines: Sequence[Line]) -> list[Line]:
    """Lines below a title; nothing at all when there are none."""
    return [(), line(Span(title, "head")), *lines] if lines else []


def head_lines(facts: RunFacts) -> list[Line]:
    """Who, when, with what."""
    ended = f", ended {clock_time(facts.finished)}" if facts.finished else ""
    rows = [
        ("run", facts.run + (f", resumed {_times(facts.resumed)}" if facts.resumed else "")),
        ("runbook", facts.runbook),
        ("started", f"{day_time(facts.started)}{ended}, by {from_where(facts.by)}"),
    ]
    given = [f"{name}={value}" for name, value in facts.inputs.items() if value not in (None, "")]
    if given:
        rows.append(("inputs", ", ".join(given)))
    if facts.reason or facts.forced:
        force = " (--force)" if facts.forced else ""
        told = f", told by {from_where(facts.reason_by)}" if facts.reason_by is not None else ""
        rows.append(("reason", f"{facts.reason or 'not given'}{force}{told}"))
    if facts.locks:
        rows.append(("locks", ", ".join(f"{name} (token {t})" for name, t in facts.locks.items())))
    return [line(Span(f"{name:<9}", "dim"), text) for name, text in rows]


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


# -- steps --------------------------------------------------------------------------------------
def step_lines(facts: RunFacts) -> list[Line]:
    """A line for each step, indented as the runbook is; below it what went wrong."""
    column = min(_PATH, max((width(_label(each)) for each in facts.steps), default=0))
    lines: list[Line] = []
    for each in facts.steps:
        lines += _step(each, column)
    return lines


def _label(step: StepFacts) -> str:
    return "  " * step.depth + short_name(step.path)


def _step(step: StepFacts, column: int) -> list[Line]:
    started = clock_time(step.started) if step.started is not None else ""
    seconds = "" if step.seconds is None or step.status == "skipped" else took(step.seconds)
    limit = f"/{planned(step.planned)}" if step.planned is not None and seconds else ""
    head = line(
        Span(f"{started:<10}", "dim"),
        status_span(step.word, _WORD),
        Span(f" {pad(cut(_label(step), column), column)} ", "name"),
        Span(f"{seconds + limit:<12} ", "dim"),
        cut(_said(step), 90),
    )
    return [head, *_tasks(step)]


def _said(step: StepFacts) -> str:
    if step.waits_for:
        return f"waits for {listed(step.waits_for)}"
    if step.failure is not None and step.word not in ("ok", "changed", "to change"):
        if step.group and step.failure.step != step.path:
            return f"because of {step.failure.step or 'the run'}"
        return one_line(kind_words(step.failure))
    tries = f"{step.attempts} attempts" if step.attempts > 1 else ""
    return "; ".join(part for part in (one_line(step.message), tries) if part)


def _tasks(step: StepFacts) -> list[Line]:
    return [
        line(
            " " * 10,
            status_span(task.status, _WORD),
            f" {'  ' * step.depth}  {task.name}  ",
            Span(took(task.seconds), "dim"),
            f"  {one_line(kind_words(task.failure) if task.failure else task.message)}",
        )
        for task in step.tasks
    ]


# -- guards -------------------------------------------------------------------------------------
def guard_lines(guards: Iterable[GuardFacts]) -> list[Line]:
    """Each guard with its last verdict, value and threshold."""
    lines = []
    for each in guards:
        style = {"pass": "good", "fail": "bad"}.get(each.verdict, "warn")
        lines.append(
            line(
                "  ",
                Span(pad(each.verdict, 12), style),  # type: ignore[arg-type]
                f" {each.step or 'the run'}: {each.name}",
                Span(f"  {guard_text(each)}", "dim"),
            )
        )
    return lines


def guard_text(guard: GuardFacts) -> str:
    """``0.7, trips at result.value > 0.5 for 1m; failing for 20s; 12 observations``."""
    parts = []
    if guard.value is not None:
        parts.append(value_text(guard.value))
    hold = f" for {planned(guard.hold)}" if guard.hold else ""
    parts.append(f"trips at {guard.trip}{hold}")
    if guard.failing is not None:
        parts.append(f"failing for {took(guard.failing)}")
    if guard.message and guard.verdict == "inconclusive":
        parts.append(guard.message)
    parts.append(count(guard.observations, "observation"))
    return ", ".join(parts)


# -- diffs and failures -------------------------------------------------------------------------
def all_diffs(facts: RunFacts) -> list[Line]:
    """Every change with its diff."""
    lines: list[Line] = []
    for each in facts.changes:
        lines.append(line("  ", Span(each.task, "name"), f"  {one_line(each.message)}"))
        lines += diff_lines(each.diff) if each.diff else []
    return lines


# -- the timeline -------------------------------------------------------------------------------
def timeline(plan: Plan, records: Iterable[Record], *, diffs: bool = False) -> list[Line]:
    """Everything that happened, in order."""
    state = RunState(plan)
    teller = Teller(plan, verbose=True, diffs=diffs)
    lines: list[Line] = []
    for record in records:
        apply(state, record)
        if state.start is not None and record.seq == 1:
            teller.check = state.start.mode == "check"
        lines += teller.tell(state, record)
    return lines
