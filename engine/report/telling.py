"""A run told event by event: the plain output of ``ce-run run`` and the timeline of ``show``.

The same `Teller` serves both, so that what one saw while it ran is what one reads afterwards.
It is given each record after the state has taken it in, keeps no clock, and answers with lines.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.clock import time_text
from engine.events import (
    CancelRequested,
    Failure,
    FailureLatched,
    GateAnswered,
    GateOpened,
    GuardObserved,
    LocksTaken,
    Overridden,
    ReasonGiven,
    Record,
    RunFinished,
    RunResumed,
    RunStarted,
    RunStopped,
    StepFinished,
    StepOpened,
    StepSkipped,
    StopRequested,
    TaskFinished,
    TaskProbed,
    TaskSpec,
    TaskStarted,
    Warned,
)
from engine.plan import Node, Plan
from engine.report.failures import failure_lines, kind_words
from engine.report.words import (
    STATUS_WORDS,
    Line,
    Span,
    clock_time,
    from_where,
    line,
    mode_mark,
    one_line,
    pad,
    planned,
    status_span,
    value_text,
    who,
)
from engine.state import FINAL, RunState, TaskState
from engine.units import count, took

_WORD = 9
_LONGEST_PATH = 40
_DURATION = 7


class Teller:
    """Turns records into lines; one for a run.

    `verbose` adds what is only of interest when looking for something, such as the starts of
    steps; `observations` adds every look of a guard, which otherwise is told when its verdict
    changes; `diffs` adds the diffs of changes.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        verbose: bool = False,
        observations: bool = False,
        diffs: bool = False,
        check: bool = False,
    ) -> None:
        self.plan = plan
        self.verbose = verbose
        self.observations = observations
        self.diffs = diffs
        self.check = check
        self._column = _path_column(plan)
        self._verdicts: dict[tuple[str, int], tuple[str, str]] = {}
        """Of each guard the verdict that was told last, and the one that was observed last."""
        self._introduced = False

    def tell(self, state: RunState, record: Record) -> list[Line]:
        """What there is to say about a record that the state has taken in; often nothing."""
        event: Any = record.event
        return _TELL[type(event)](self, state, event, record.time)

    # -- lines ----------------------------------------------------------------------------------
    def line(
        self, time: float, word: str, what: str, message: str = "", seconds: float | None = None
    ) -> Line:
        """``14:05:09Z ok        canary/route    2.3s  5 % to 5.1``"""
        duration = "" if seconds is None else took(seconds)
        head = (
            Span(f"{clock_time(time)} ", "dim"),
            status_span(word, _WORD),
            Span(f" {pad(what, self._column)} ", "name"),
            Span(f"{duration:>{_DURATION}}", "dim"),
        )
        return (*head, Span(f"  {one_line(message)}")) if message else head

    def failed(
        self, time: float, word: str, what: str, failure: Failure, **more: Any
    ) -> list[Line]:
        """A failure in full: what, where, what to try, and the other side's own words."""
        said = kind_words(failure)
        lines = [self.line(time, word, what, said, more.get("seconds"))]
        node = self._node(failure.step) or self._node(what)
        return lines + failure_lines(failure, node, attempts=more.get("attempts", ""))

    def _node(self, path: str) -> Node | None:
        index = self.plan.by_path.get(path)
        return None if index is None else self.plan.nodes[index]

    # -- the run ----------------------------------------------------------------------------------
    def _run_started(self, state: RunState, event: RunStarted, time: float) -> list[Line]:
        lines = [
            self._title(event),
            line(Span(f"{event.runbook} · by {from_where(event.by)} · {time_text(time)}", "dim")),
        ]
        given = [
            f"{name}={value}" for name, value in event.inputs.items() if value not in (None, "")
        ]
        extra = {name: value for name, value in event.extra.items() if name not in event.inputs}
        given += [f"{name}={value}" for name, value in extra.items()]
        if given:
            lines.append(line(Span(f"with {', '.join(given)}", "dim")))
        if event.options.get("force"):
            reason = event.reason or "not given"
            lines.append(line(Span(f"--force, reason: {reason}", "warn")))
        return lines

    def _title(self, start: RunStarted) -> Line:
        self._introduced = True
        mark = mode_mark(start.mode, "before")
        return line(Span(mark, "warn"), Span(start.name, "head"), f" · run {start.run}")

    def _locks_taken(self, state: RunState, event: LocksTaken, time: float) -> list[Line]:
        lines = []
        for name, run in event.over.items():
            lines.append(self.line(time, "lock", name, f"taken over from run {run}"))
        for name in event.tokens.keys() - event.over.keys():
            lines.append(self.line(time, "lock", name, f"held, token {event.tokens[name]}"))
        return lines

    def _run_resumed(self, state: RunState, event: RunResumed, time: float) -> list[Line]:
        changed = f"; changed since: {', '.join(event.changed)}" if event.changed else ""
        said = f"by {from_where(event.by)}{changed}"
        lines = [self.line(time, "resumed", "(the run)", said)]
        if self._introduced or state.start is None:
            return lines
        return [self._title(state.start), *lines]

    def _stop_requested(self, state: RunState, event: StopRequested, time: float) -> list[Line]:
        by = f"by {who(event.by)}" if event.by is not None else ""
        why = "; ".join(part for part in (event.reason, by) if part)
        return [self.line(time, "stopping", event.kind, why)]

    def _warned(self, state: RunState, event: Warned, time: float) -> list[Line]:
        return [self.line(time, "WARNING", event.step or "(the run)", event.message)]

    def _reason_given(self, state: RunState, event: ReasonGiven, time: float) -> list[Line]:
        said = f"{event.reason} (told by {from_where(event.by)})"
        return [self.line(time, "reason", "(the run)", said)]

    def _run_stopped(self, state: RunState, event: RunStopped, time: float) -> list[Line]:
        if not self.verbose:  # the summary says it
            return []
        return [self.line(time, "stopped", event.kind, event.reason)]

    def _run_finished(self, state: RunState, event: RunFinished, time: float) -> list[Line]:
        if not self.verbose:  # the summary says it
            return []
        bad = event.outcome in ("failed", "needs_person")
        word = "FAILED" if bad else {"succeeded": "ok"}.get(event.outcome, event.outcome)
        return [self.line(time, word, "(the run)", "", time - state.started)]

    # -- steps --------------------------------------------------------------------------------
    def _step_opened(self, state: RunState, event: StepOpened, time: float) -> list[Line]:
        node = self.plan.node(event.step)
        if node.index == 0:
            return []
        if not node.is_group:
            return self._tasks_opened(event, time)
        said = [node.step.name] if node.step is not None and node.step.name else []
        if node.role != "body" and node.step is None:
            said.append(_BLOCK_WORDS[node.role])
        if event.budget is not None:
            said.append(f"budget {planned(event.budget)}")
        if event.guards:
            said.append(count(len(event.guards), "guard"))
        return [self.line(time, "start", node.path, " · ".join(said))]

    def _tasks_opened(self, event: StepOpened, time: float) -> list[Line]:
        if len(event.tasks) < 2:
            return []
        order = ""
        if event.batches and max(event.batches) == 1:
            order = ", one after the other"
        elif event.batches:
            order = f" in {count(len(event.batches), 'batch', 'batches')}"
        return [self.line(time, "start", event.step, count(len(event.tasks), "task") + order)]

    def _step_skipped(self, state: RunState, event: StepSkipped, time: float) -> list[Line]:
        return [self.line(time, "skipped", event.step, event.reason)]

    def _step_finished(self, state: RunState, event: StepFinished, time: float) -> list[Line]:
        node = self.plan.node(event.step)
        found = state.step(node.index)
        seconds = found.finished - found.opened if found.opened else None
        word = self._final_word(state, node)
        failure = event.failure
        if node.is_group:
            said = "" if failure is None or event.status == "succeeded" else _because(failure, node)
            return [self.line(time, word, event.step, said, seconds)]
        if failure is None or event.status == "cancelled":
            said = failure.message if failure else ""
            return [self.line(time, word, event.step, said, seconds)]
        return self.failed(time, word, event.step, failure, seconds=seconds)

    def _final_word(self, state: RunState, node: Node) -> str:
        found = state.step(node.index)
        ignored = found.ignored and found.status != "rescued"
        return "ignored" if ignored else STATUS_WORDS[found.status]

    def _failure_latched(self, state: RunState, event: FailureLatched, time: float) -> list[Line]:
        failure = event.failure
        if failure.step != event.step:  # it was told where it happened
            return []
        if failure.kind == "cancelled" and failure.message.startswith("stopped because of"):
            return []
        what = event.step or "(the run)"
        return self.failed(time, "FAILED", what, failure)

    # -- gates ----------------------------------------------------------------------------------
    def _gate_opened(self, state: RunState, event: GateOpened, time: float) -> list[Line]:
        limit = f" (within {planned(event.timeout)})" if event.timeout is not None else ""
        lines = [self.line(time, "asking", event.step, event.message + limit)]
        return lines + [line(f"{'':10}  [ ] {point}") for point in event.checklist]

    def _gate_answered(self, state: RunState, event: GateAnswered, time: float) -> list[Line]:
        why = f": {event.reason}" if event.reason else ""
        ticked = f", {count(len(event.ticked), 'point')} ticked" if event.ticked else ""
        by = f"by {from_where(event.by)}{ticked}{why}"
        return [self.line(time, event.answer, event.step, by)]

    # -- tasks ----------------------------------------------------------------------------------
    def _task_started(self, state: RunState, event: TaskStarted, time: float) -> list[Line]:
        if not self.verbose:
            return []
        attempt = f"attempt {event.attempt}" if event.attempt > 1 else ""
        return [self.line(time, "start", self._task_name(state, event), attempt)]

    def _task_finished(self, state: RunState, event: TaskFinished, time: float) -> list[Line]:
        node = self.plan.node(event.step)
        task = state.task((node.index, event.task))
        name = self._task_name(state, event)
        seconds = task.finished - task.started
        lines = self._task_outcome(state, node, task, event, name, seconds)
        if self.diffs and event.diff:
            lines += diff_lines(event.diff)
        return lines + self._fan_closed(state, node, time)

    def _task_outcome(
        self,
        state: RunState,
        node: Node,
        task: TaskState,
        event: TaskFinished,
        name: str,
        seconds: float,
    ) -> list[Line]:
        time, failure = task.finished, event.failure
        if event.status == "succeeded" or failure is None:
            word = ("to change" if self.check else "changed") if event.changed else "ok"
            return [self.line(time, word, name, event.message, seconds)]
        attempts = _attempts(node, event.attempt)
        if task.life == "retrying":
            again = state.timers.at(("retry", node.index, event.task))
            later = f"; again in {took(again - time)}" if again is not None else ""
            said = f"{attempts} failed: {kind_words(failure)}{later}"
            if node.step is not None and node.step.until is not None and event.attempt > 1:
                return [self.line(time, "retry", name, said, seconds)] if self.verbose else []
            return [self.line(time, "retry", name, said, seconds)]
        if event.status == "cancelled" and failure.kind in ("cancelled", "interrupted"):
            return [self.line(time, "cancelled", name, failure.message, seconds)]
        word = "ignored" if node.step is not None and node.step.ignore_errors else "FAILED"
        return self.failed(time, word, name, failure, seconds=seconds, attempts=attempts)

    def _fan_closed(self, state: RunState, node: Node, time: float) -> list[Line]:
        """The last word about a step of several tasks."""
        found = state.step(node.index)
        if len(found.tasks) < 2 or found.status not in FINAL:
            return []
        failed = sum(task.life == "failed" for task in found.tasks)
        changed = sum(task.changed for task in found.tasks)
        said = f"{count(len(found.tasks), 'task')}, {changed} changed, {failed} failed"
        return [
            self.line(time, self._final_word(state, node), node.path, said, time - found.opened)
        ]

    def _task_name(self, state: RunState, event: TaskStarted | TaskFinished) -> str:
        node = self.plan.node(event.step)
        found = state.step(node.index)
        return task_name(event.step, found.tasks[event.task].spec)

    def _cancel_requested(self, state: RunState, event: CancelRequested, time: float) -> list[Line]:
        if not self.verbose:
            return []
        return [self.line(time, "cancel", event.step, event.reason)]

    def _task_probed(self, state: RunState, event: TaskProbed, time: float) -> list[Line]:
        said = {
            "done": "it had been done before the interruption",
            "not_done": "it had not been done; it runs again",
            "unknown": "nobody knows whether it was done",
        }[event.verdict]
        return [self.line(time, "in doubt", event.step, f"{said}{_tail(event.message)}")]

    def _overridden(self, state: RunState, event: Overridden, time: float) -> list[Line]:
        said = f"decided by {from_where(event.by)}{_tail(event.reason)}"
        return [self.line(time, event.decision, event.step, said)]

    # -- guards ---------------------------------------------------------------------------------
    def _guard_observed(self, state: RunState, event: GuardObserved, time: float) -> list[Line]:
        """A verdict that changed. That nothing can be told yet is news only the second time:
        at the beginning of a phase there is rarely any data."""
        key = (event.step, event.guard)
        told, before = self._verdicts.get(key, ("" if self.verbose else "pass", ""))
        settled = event.verdict == before or event.verdict != "inconclusive" or self.verbose
        news = settled and event.verdict != told
        self._verdicts[key] = (event.verdict if news else told, event.verdict)
        if not news and not self.observations:
            return []
        guard = self.plan.node(event.step).guards[event.guard]
        value = f" at {value_text(event.value)}" if _is_news(event) else ""
        said = f"guard '{guard.name}' {event.verdict}{value}{_tail(event.message)}"
        word = {"pass": "ok", "fail": "failing", "inconclusive": "unsure"}[event.verdict]
        return [self.line(time, word, event.step or "(the run)", said)]


def _is_news(event: GuardObserved) -> bool:
    """Whether the message does not hold the value already, as that of a metric does."""
    if event.value is None:
        return False
    return f" {_digits(event.value)} " not in f" {event.message} "


def _digits(value: Any) -> str:
    return f"{value:g}" if isinstance(value, int | float) else str(value)


_BLOCK_WORDS = {
    "rescue": "rescue of what failed",
    "undo": "undo",
    "always": "in every case",
    "body": "",
}


def _path_column(plan: Plan) -> int:
    longest = max(len(node.path) for node in plan.nodes)
    return max(12, min(longest, _LONGEST_PATH))


def _because(failure: Failure, node: Node) -> str:
    """Why a group failed, unless that was told when it was latched."""
    return "" if failure.step == node.path else f"because of {failure.step or failure.message}"


def _tail(text: str) -> str:
    return f": {one_line(text)}" if text else ""


def _attempts(node: Node, attempt: int) -> str:
    if node.retry.attempts <= 1:
        return ""
    if node.retry.attempts > 1_000_000:
        return f"attempt {attempt}"
    return f"attempt {attempt} of {node.retry.attempts}"


def task_name(path: str, spec: TaskSpec) -> str:
    """``deploy``, or ``deploy (web-1, 5.1)`` for one of several tasks."""
    labels = [] if spec.host is None else [spec.host]
    if spec.item is not None:
        labels.append(_item_text(spec.item))
    return f"{path} ({', '.join(labels)})" if labels else path


def _item_text(item: Any) -> str:
    if isinstance(item, dict):
        for key in ("name", "id", "label"):
            if key in item:
                return str(item[key])
    text = str(item)
    return text if len(text) <= 40 else f"{text[:39]}…"


def diff_lines(diff: str) -> list[Line]:
    """A unified diff, indented."""
    lines: list[Line] = []
    for each in diff.rstrip("\n").splitlines():
        style = {"+": "good", "-": "bad", "@": "name"}.get(each[:1], "dim")
        lines.append(line(f"{'':10}  ", Span(each, style)))  # type: ignore[arg-type]
    return lines


_TELL: dict[type, Callable[[Teller, RunState, Any, float], list[Line]]] = {
    RunStarted: Teller._run_started,
    LocksTaken: Teller._locks_taken,
    RunResumed: Teller._run_resumed,
    StopRequested: Teller._stop_requested,
    RunStopped: Teller._run_stopped,
    Warned: Teller._warned,
    ReasonGiven: Teller._reason_given,
    RunFinished: Teller._run_finished,
    StepOpened: Teller._step_opened,
    StepSkipped: Teller._step_skipped,
    StepFinished: Teller._step_finished,
    FailureLatched: Teller._failure_latched,
    GateOpened: Teller._gate_opened,
    GateAnswered: Teller._gate_answered,
    TaskStarted: Teller._task_started,
    TaskFinished: Teller._task_finished,
    CancelRequested: Teller._cancel_requested,
    TaskProbed: Teller._task_probed,
    Overridden: Teller._overridden,
    GuardObserved: Teller._guard_observed,
}
