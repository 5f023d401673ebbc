"""Gathers the facts of a run from its plan, its state and its records.

It decides nothing about wording or layout, and reads no clock: `now` is given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import msgspec

from engine.events import Failure, Record, RunResumed, TaskFinished
from engine.fold import override_refusal
from engine.plan import NONE, Node, Plan
from engine.report import headlines
from engine.report.facts import (
    ChangeFacts,
    GateFacts,
    GuardFacts,
    RunFacts,
    StepFacts,
    TaskFacts,
)
from engine.report.phases import phases_of
from engine.report.telling import task_name
from engine.report.words import STATUS_WORDS
from engine.state import FINAL, RunState, Status, StepState, TaskState

_STANDING_STILL = {"running": "stopped"}
_NEVER = {"waiting": "not run"}
"""What no process carries does not run; what is over for good does not wait for anything."""


def run_status(state: RunState, *, alive: bool) -> str:
    """The status word of `RunFacts`. `alive` says whether a process carries the run."""
    if state.life == "finished":
        return state.outcome or "failed"
    if state.life == "stopped":
        return state.stop.kind if state.stop is not None else "interrupted"
    if not alive:
        return "dead"
    if state.gates and not state.running:
        return "waiting"
    return "stopping" if state.life == "stopping" else "running"


def gather(
    plan: Plan,
    state: RunState,
    records: Sequence[Record] = (),
    *,
    now: float,
    alive: bool = False,
) -> RunFacts:
    """All facts. Without `records` the diffs of changes and the order of failures are missing."""
    end = state.finished or (now if alive else state.time)
    facts = _as_a_whole(state, run_status(state, alive=alive), end)
    root = state.steps.get(0)
    facts.budget = root.budget if root is not None and root.budget else _number(plan.root.budget)
    facts.steps = [_step(state, node, end) for node in _shown(state)]
    if not alive:
        _stand_still(facts, state)
    facts.phases = _phases(plan, facts.steps)
    facts.gates = [_gate(state, index) for index in state.gates]
    facts.guards = list(_guards(state, end))
    facts.doubts = _doubts(state)
    facts.changes = list(_changes(plan, state, records))
    facts.effects = _effects(state)
    facts.failures = _failures(state)
    facts.undone = {plan.nodes[index].path: status for index, status in state.undone.items()}
    facts.rescues = _rescues(state)
    facts.reopenable = _reopenable(state) if facts.status not in ("running", "stopping") else []
    facts.measured = headlines.measured(state)
    facts.figures = headlines.answered(state)
    facts.notes = headlines.notes(facts.steps, state)
    facts.resumed = sum(isinstance(record.event, RunResumed) for record in records)
    return facts


def _as_a_whole(state: RunState, status: str, end: float) -> RunFacts:
    """The facts that no step has a part in."""
    start = state.start
    assert start is not None
    facts = RunFacts(
        run=start.run,
        name=start.name,
        runbook=start.runbook,
        mode=start.mode,
        status=status,
        by=start.by,
        version=start.version,
        started=state.started,
        seconds=max(0.0, end - state.started),
        charged=state.charged(0, end),
        finished=state.finished or None,
        reason=state.reason.reason if state.reason is not None else start.reason,
        reason_by=state.reason.by if state.reason is not None else None,
        forced=bool(start.options.get("force")),
        inputs=start.inputs,
        locks=state.tokens,
        warnings=state.warnings,
        failure=state.failure,
    )
    if state.stop is not None and state.life in ("stopping", "stopped"):
        facts.stop_reason = state.stop.reason
        facts.stopped_by = state.stop.by
    return facts


def _stand_still(facts: RunFacts, state: RunState) -> None:
    """Say of a run that no process carries what does not go on by itself."""
    if not facts.over:
        facts.unwatched = [node.path for node in state.open_groups() if node.guards]
    words = _STANDING_STILL | (_NEVER if facts.over else {})
    for each in facts.steps:
        each.word = words.get(each.word, each.word)


def _number(value: float | str | None) -> float | None:
    return value if isinstance(value, float | int) else None


# -- steps --------------------------------------------------------------------------------------
def _shown(state: RunState) -> Iterable[Node]:
    """Every step in file order; what is in a rescue, undo or always block only if it ran."""
    ran = state.walk(lambda node: node.role == "body" or node.index in state.steps)
    return (node for node in ran if node.index)


def _step(state: RunState, node: Node, end: float) -> StepFacts:
    found = state.steps.get(node.index)
    status = state.status(node)
    step = node.step
    check = state.start is not None and state.start.mode == "check"
    facts = StepFacts(
        path=node.path,
        status=status,
        word=_word(node, found, status, check),
        depth=sum(1 for _ in state.plan.ancestors(node)) - 1,
        name=step.name if step is not None else "",
        role=node.role,
        action=step.call.action if step is not None and step.call is not None else "",
        group=node.is_group,
        planned=_planned(node, found),
        place=str(step.place) if step is not None else "",
    )
    if status in ("pending", "gate"):
        facts.waits_for = _waits_for(state, node, status)
    if found is None:
        return facts
    if found.opened:
        facts.started = found.opened
        facts.seconds = max(0.0, (found.finished if status in FINAL else end) - found.opened)
        facts.charged = state.charged(node.index, end)
    facts.failure = found.failure
    facts.changed = any(task.changed for task in found.tasks)
    facts.attempts = max((task.attempt for task in found.tasks), default=0)
    facts.message = found.reason or _message(found) or _message_of_fan(state, node, status)
    if node.step is not None and node.step.fan is not None and not node.is_group:
        ignored = node.step.ignore_errors
        facts.tasks = [
            _task(node.path, task, end, check=check, ignored=ignored) for task in found.tasks
        ]
    return facts


def _word(node: Node, found: StepState | None, status: Status, check: bool) -> str:
    if found is None:
        return STATUS_WORDS[status]
    if found.ignored and status != "rescued":
        return "ignored"
    if any(task.life == "doubt" for task in found.tasks):
        return "in doubt" if _once(node) else "interrupted"
    if status == "opened" and any(task.life == "retrying" for task in found.tasks):
        return "retry"
    if status == "succeeded" and any(task.changed for task in found.tasks):
        return "to change" if check else "changed"
    return STATUS_WORDS[status]


def _planned(node: Node, found: StepState | None) -> float | None:
    if found is not None and (found.budget or found.timeout):
        return found.budget or found.timeout
    return _number(node.budget) or _number(node.timeout)


def _message(found: StepState) -> str:
    if len(found.tasks) == 1:
        return found.tasks[0].message
    if not found.tasks:
        return ""
    failed = sum(task.life == "failed" for task in found.tasks)
    changed = sum(task.changed for task in found.tasks)
    return f"{len(found.tasks)} tasks, {changed} changed, {failed} failed"


def _message_of_fan(state: RunState, node: Node, status: Status) -> str:
    """What became of a group's instances, once it is over."""
    fan = state.fans.get(node.index)
    if fan is None or status not in FINAL:
        return ""
    ended = [state.status(state.plan.nodes[member]) for member in fan.specs]
    parts = [f"{len(ended)} instances"]
    for word in ("succeeded", "rescued", "failed", "cancelled", "skipped", "not_run"):
        if word in ended:
            parts.append(f"{ended.count(word)} {word.replace('_', ' ')}")
    return ", ".join(parts)


def _task(path: str, task: TaskState, end: float, *, check: bool, ignored: bool) -> TaskFacts:
    began = task.first_started
    seconds = (task.finished if task.finished >= task.started else end) - began if began else 0.0
    status: str = task.life
    if status == "succeeded" and task.changed:
        status = "to change" if check else "changed"
    word = {"succeeded": "ok", "doubt": "in doubt", "failed": "ignored" if ignored else "FAILED"}
    return TaskFacts(
        name=task_name(path, task.spec).removeprefix(path).strip(" ()"),
        status=word.get(status, status),
        attempts=task.attempt,
        seconds=max(0.0, seconds),
        changed=task.changed,
        message=task.message,
        failure=task.failure if task.life in ("failed", "retrying", "cancelled") else None,
    )


def _waits_for(state: RunState, node: Node, status: Status) -> list[str]:
    """What has to happen before a step can start."""
    if status == "gate":
        return ["a person's answer"]
    nodes = state.plan.nodes
    needs = [nodes[need].path for need in node.needs if not state.satisfied(need)]
    if needs or node.parent == NONE:
        return needs
    owner = nodes[node.parent]
    if state.status(owner) == "pending":
        return [owner.path or "the start of the run"]
    return []


def _phases(plan: Plan, steps: Sequence[StepFacts]) -> list[StepFacts]:
    """Facts of the phases, `depth` counted among them, and the run's own blocks that ran."""
    depths = {phase.node.path: phase.depth for phase in phases_of(plan)}
    depths |= {each.path: 0 for each in steps if each.depth == 0}
    return [
        msgspec.structs.replace(each, depth=depths[each.path])
        for each in steps
        if each.path in depths
    ]


# -- gates, guards, doubts ----------------------------------------------------------------------
def _gate(state: RunState, index: int) -> GateFacts:
    step = state.step(index)
    assert step.gate is not None
    return GateFacts(
        step=state.plan.nodes[index].path,
        message=step.gate.message,
        since=step.opened,
        checklist=list(step.gate.checklist),
        until=state.timers.at(("gate", index, 0)),
    )


def _guards(state: RunState, end: float) -> Iterable[GuardFacts]:
    for index in sorted(state.steps):
        found = state.steps[index]
        if found.group is None or not found.group.guards:
            continue
        node = state.plan.nodes[index]
        for guard, seen in zip(node.guards, found.group.guards, strict=True):
            failing = None if seen.failing_since is None else seen.observed - seen.failing_since
            yield GuardFacts(
                step=node.path,
                name=guard.name,
                trip=guard.trip,
                verdict=seen.last or "not yet observed",
                value=seen.value,
                message=seen.message,
                failing=failing,
                hold=seen.timing.hold,
                observations=seen.observations,
            )


def _doubts(state: RunState) -> list[str]:
    """Steps of which nobody knows whether they happened, and for which that matters."""
    return [
        state.plan.nodes[index].path
        for index, step in state.steps.items()
        if any(task.life == "doubt" for task in step.tasks) and _once(state.plan.nodes[index])
    ]


def _once(node: Node) -> bool:
    """Whether running it again would do harm; anything else simply runs again."""
    return node.step is not None and node.step.call is not None and node.step.call.effect == "once"


# -- what changed, what failed ------------------------------------------------------------------
def _changes(plan: Plan, state: RunState, records: Sequence[Record]) -> Iterable[ChangeFacts]:
    if not records:
        yield from _changes_of_state(plan, state)
        return
    for record in records:
        event = record.event
        if isinstance(event, TaskFinished) and (event.changed or event.diff):
            step = state.steps.get(plan.by_path.get(event.step, NONE))
            specs = step.tasks if step is not None else []
            known = event.task < len(specs)
            name = task_name(event.step, specs[event.task].spec) if known else event.step
            yield ChangeFacts(step=event.step, task=name, message=event.message, diff=event.diff)


def _changes_of_state(plan: Plan, state: RunState) -> Iterable[ChangeFacts]:
    for index in sorted(state.steps):
        path = plan.nodes[index].path
        for task in state.steps[index].tasks:
            if task.changed:
                yield ChangeFacts(step=path, task=task_name(path, task.spec), message=task.message)


def _failures(state: RunState) -> list[Failure]:
    """Failures of steps with an action of their own; groups only pass theirs on."""
    found = [
        (step.finished, _in_handler(state, index), index, step.failure)
        for index, step in state.steps.items()
        if step.failure is not None
        and step.status == "failed"
        and not _ignored(state, index)
        and (step.group is None or step.failure.step == state.plan.nodes[index].path)
    ]
    return [each[-1] for each in sorted(found, key=lambda each: each[:3])]


def _ignored(state: RunState, index: int) -> bool:
    """Whether a step's failure counts for nothing, because of itself or of a group around it."""
    around = (state.steps.get(up.index) for up in state.plan.ancestors(state.plan.nodes[index]))
    return state.steps[index].ignored or any(up is not None and up.ignored for up in around)


def _in_handler(state: RunState, index: int) -> bool:
    """Whether a step is part of a rescue, undo or always block: those come after what failed."""
    return any(up.role != "body" for up in state.plan.ancestors(state.plan.nodes[index]))


def _effects(state: RunState) -> bool:
    """Whether a task changed something, or may have: one that did not end well, unless it reads."""
    for index, step in state.steps.items():
        node = state.plan.nodes[index]
        if any(task.changed for task in step.tasks):
            return True
        call = node.step.call if node.step is not None else None
        if (call is None or call.effect != "read") and any(
            task.life in ("failed", "cancelled", "doubt") and task.attempt for task in step.tasks
        ):
            return True
    return False


def _rescues(state: RunState) -> dict[str, str]:
    blocks = (state.plan.nodes[index] for index in state.steps)
    return {
        state.plan.nodes[node.parent].path: state.status(node)
        for node in blocks
        if node.role == "rescue"
    }


def _reopenable(state: RunState) -> list[str]:
    """Innermost steps that ``--redo``, ``--done`` and ``--skip`` would be accepted for, and help.

    A step that can only fail, as a rescue's last word, is none: what it answers to has been
    decided, so the way on is a new run.
    """
    found = []
    for index, step in sorted(state.steps.items()):
        node = state.plan.nodes[index]
        doubt = _once(node) and any(task.life == "doubt" for task in step.tasks)
        wanting = step.status == "failed" or doubt
        if (
            step.group is None
            and wanting
            and not (step.failure is not None and step.failure.final)
            and not _ignored(state, index)
            and not override_refusal(state, node)
        ):
            found.append(node.path)
    return found
