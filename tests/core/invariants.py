"""What has to hold for every run, whatever happened in it.

Read from the journal alone, without asking the fold how it sees things wherever that is possible.
"""

from __future__ import annotations

from engine.errors import IllegalEvent
from engine.events import (
    FailureLatched,
    GateOpened,
    Overridden,
    RunResumed,
    StepFinished,
    StepOpened,
    StepSkipped,
    TaskFinished,
    TaskProbed,
    TaskStarted,
)
from engine.fold import apply
from engine.plan import Node, Plan
from engine.state import FINAL, RunState, Status
from tests.core.harness import Case

BEGINS = (StepOpened, TaskStarted, GateOpened)
ENDS = (StepFinished, StepSkipped, TaskFinished, TaskProbed)


def check(case: Case) -> None:
    """All of it, for a run that is finished and of which no step was overridden."""
    assert case.state.life == "finished"
    assert case.unfinished() == []
    assert case.world.started or not case.events(TaskStarted)
    begun, over = _marks(case)
    for node in case.plan.nodes:
        if node.path in begun:
            _follows_its_needs(case, node, begun, over)
            _lies_inside_its_group(case, node, begun)
    _one_final_status_each(case)
    _nothing_begins_in_a_failed_group(case)
    _undone_backwards(case, over)
    _always_ran(case)
    _bounded(case)


def _marks(case: Case) -> tuple[dict[str, int], dict[str, int]]:
    """The number of the first event that began a step, and of the last that ended one."""
    begun: dict[str, int] = {}
    over: dict[str, int] = {}
    for record in case.records():
        event = record.event
        if isinstance(event, BEGINS):
            begun.setdefault(event.step, record.seq)
        elif isinstance(event, ENDS):
            over[event.step] = record.seq
    return begun, over


def _follows_its_needs(case: Case, node: Node, begun: dict[str, int], over: dict[str, int]) -> None:
    for need in node.needs:
        before = case.plan.nodes[need]
        assert case.state.satisfied(need), f"{node.path} ran, but {before.path} is not satisfied"
        assert over[before.path] < begun[node.path], f"{node.path} began before {before.path} ended"


def _lies_inside_its_group(case: Case, node: Node, begun: dict[str, int]) -> None:
    if node.parent >= 0:
        owner = case.plan.nodes[node.parent]
        assert begun[owner.path] < begun[node.path], f"{node.path} began before {owner.path}"


def _one_final_status_each(case: Case) -> None:
    """Once final, a status changes no more (but for always blocks of an interruption)."""
    state = RunState(case.plan)
    final: dict[int, Status] = {}
    for record in case.records():
        apply(state, record)
        if isinstance(record.event, Overridden | RunResumed):
            final = {}
        for index, step in state.steps.items():
            if index in final:
                assert step.status == final[index], f"{case.plan.nodes[index].path} ended twice"
            elif step.status in FINAL:
                final[index] = step.status


def _nothing_begins_in_a_failed_group(case: Case) -> None:
    latched: set[int] = set()
    for record in case.records():
        event = record.event
        if isinstance(event, Overridden):
            latched = set()
        elif isinstance(event, FailureLatched):
            latched.add(case.plan.by_path[event.step])
        elif isinstance(event, BEGINS):
            node = case.plan.node(event.step)
            inside = node.role == "body" and node.parent in latched
            own_task = isinstance(event, TaskStarted) and node.index in latched
            assert not inside, f"{node.path} began in a failed group"
            assert not own_task, f"{node.path} was tried again after its failure"


def _undone_backwards(case: Case, over: dict[str, int]) -> None:
    done = [
        over[case.plan.nodes[case.plan.node(event.step).parent].path]
        for event in case.events(StepOpened)
        if case.plan.node(event.step).role == "undo"
    ]
    assert done == sorted(done, reverse=True)


def _always_ran(case: Case) -> None:
    opened = {event.step for event in case.events(StepOpened)}
    for path in opened:
        node = case.plan.node(path)
        if node.always >= 0 and case.state.steps.get(node.index) is not None:
            always = case.plan.nodes[node.always]
            assert case.state.status(always) in FINAL, f"{always.path} did not run"


def _bounded(case: Case) -> None:
    """Never more tasks at the same time than there are slots."""
    running: set[tuple[str, int]] = set()
    for record in case.records():
        event = record.event
        if isinstance(event, TaskStarted):
            running.add((event.step, event.task))
        elif isinstance(event, TaskFinished):
            running.discard((event.step, event.task))
        elif isinstance(event, RunResumed):
            running.clear()
        assert len(running) <= case.forks


def refuses(plan: Plan, state: RunState, event: object) -> bool:
    """Whether the fold refuses an event."""
    from engine.events import Record

    try:
        apply(state, Record(state.seq + 1, state.time, event))  # type: ignore[arg-type]
    except IllegalEvent:
        return True
    return False
