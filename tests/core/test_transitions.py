"""The table of transitions is the whole truth: nothing happens that it lacks, all that it has
happens, and what it does not let follow is refused."""

from __future__ import annotations

import random
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, get_args

import pytest

from engine.errors import IllegalEvent
from engine.events import (
    AnyEvent,
    CancelRequested,
    Failure,
    FailureLatched,
    GateAnswered,
    GateOpened,
    GuardObserved,
    Overridden,
    Record,
    RunFinished,
    RunStopped,
    StepFinished,
    StepOpened,
    StepSkipped,
    TaskFinished,
    TaskProbed,
    TaskSpec,
    TaskStarted,
)
from engine.fold import _TABLE as FOLD
from engine.fold import apply, fold
from engine.model import Gate, Retry, Runbook
from engine.plan import Plan
from engine.report.telling import _TELL as TELL
from engine.runner import Signal
from engine.state import FINAL, RunState
from engine.transitions import (
    RULES,
    Lifecycle,
    diagrams,
    gate_state,
    group_state,
    guard_state,
    missing,
)
from tests.core.crashing import Tally, kill_and_resume
from tests.core.harness import (
    FAILS,
    OK,
    SOMEBODY,
    Act,
    Case,
    Killed,
    book,
    group,
    guard,
    loop,
    snapshot,
    step,
)
from tests.surroundings import ROOT

Where = tuple[Lifecycle, str, int]
SLOW = Act(seconds=60)


def standing(state: RunState) -> dict[Where, str]:
    """In which state everything is."""
    found: dict[Where, str] = {("run", "", 0): state.life}
    for index, record in state.steps.items():
        path = state.plan.nodes[index].path
        found["step", path, 0] = record.status
        found["group", path, 0] = group_state(record)
        found["gate", path, 0] = gate_state(record)
        for number, task in enumerate(record.tasks):
            found["task", path, number] = task.life
        guards = record.group.guards if record.group is not None else []
        for number, each in enumerate(guards):
            found["guard", path, number] = guard_state(each)
    return found


INITIAL = {
    "run": "new",
    "step": "pending",
    "group": "closed",
    "task": "pending",
    "gate": "unasked",
    "guard": "unobserved",
}


def key_of(subject: str, where: Where, event: AnyEvent, plan: Plan) -> str:
    """The event as the table calls it."""
    name = type(event).__name__
    if subject == "group" and isinstance(event, StepOpened) and event.step != where[1]:
        return f"{name} {plan.node(event.step).role}"
    return name


def cases() -> Iterator[tuple[Plan, list[Record]]]:
    """Runs in which much happens."""
    kinds: Any = ("calm", "sequential", "wild")
    for seed in range(90):
        case = kill_and_resume(seed, kinds[seed % 3], random.Random(seed), Tally(), kills=2)
        yield case.plan, case.records()
    for case in by_hand():
        yield case.plan, case.records()


def by_hand() -> Iterator[Case]:
    """What chance does not lead to often."""
    ask = Gate("?", timeout=30)
    yield Case(book(step("a", gate=ask), step("b"))).begin().resume(downtime=60)
    beside = book(step("x", needs=[]), step("a", needs=[], gate=ask), step("c", needs=["a"]))
    yield Case(beside, {"x": Act("failed", 5)}, attended=True).begin().resume(("redo", "x"))
    yield (
        Case(book(step("a", gate=ask)), attended=True)
        .at(5, GateAnswered("a", "rejected", SOMEBODY))
        .begin()
        .resume(("redo", "a"), downtime=1)
    )
    inner = group("g", step("x"), step("y"), rescue=[step("r")], always=[step("z")])
    for decision in ("redo", "done", "skip"):
        script: Any = {"g/x": [FAILS, OK], "g.rescue/r": [FAILS, OK]}
        yield Case(book(inner, step("e")), script).begin().resume((decision, "g.rescue/r"))
        yield (
            Case(book(group("g", step("x"), step("y")), step("e")), {"g/x": FAILS})
            .begin()
            .resume((decision, "g/x" if decision != "done" else "g"))
        )
        many = step("m", fan=loop(1, 2, 3, serial=2), effect="once", retry=Retry(2, 5.0))
        some: Any = {"m#0": OK, "m#1": FAILS, "m#2": OK}
        yield Case(book(many, step("e")), some).begin().resume((decision, "m"))
    yield Case(book(inner), {"g/x": SLOW}).at(5, Signal("SIGTERM")).begin().resume()
    undo = book(step("a", undo="u"), step("b", undo="v"), step("c"))
    yield Case(undo, {"c": FAILS, "b.undo/v": [FAILS, OK]}).begin().resume(("redo", "b.undo/v"))
    looks = {"g!errors": ["pass", "inconclusive", "fail"]}
    guarded = book(group("g", step("x"), guards=(guard(every=5, hold=10),), rescue=[step("r")]))
    yield Case(guarded, {"g/x": SLOW}, looks=looks).begin()
    pauses = Case(guarded, {"g/x": SLOW}, looks={"g!errors": ["pass", "fail", "pass"]})
    yield pauses.at(12, Signal("SIGTERM")).begin().resume()
    yield killed(book(step("a", effect="once")), {"a": SLOW}, 5).resume(("done", "a"))
    stopping = book(group("g", step("x", effect="once")), always=[step("z")])
    slow: Any = {"g/x": Act(seconds=60, obeys=None), ".always/z": SLOW}
    yield killed(stopping, slow, 6, stop=5).resume()
    yield killed(stopping, slow, 6, stop=5).resume(("done", "g/x"))
    yield killed(book(step("a")), {"a": SLOW}, 5).note(RunStopped("interrupted")).resume()
    own = book(step("a", rescue=[step("r")]), step("b"))
    yield Case(own, {"a": [FAILS, OK]}).begin().resume(("redo", "a"))
    two = book(group("g", step("x", needs=[]), step("y", needs=[])), step("e"))
    yield Case(two, {"g/x": SLOW, "g/y": Act("failed", 5)}).begin().resume(("redo", "g/x"))
    timed = book(step("a", effect="once", timeout=5.0, retry=Retry(2, 1.0)))
    for probe in ("none", "unknown", "truth"):
        yield Case(timed, {"a": [SLOW, OK]}, probes={"a": probe}).begin()


def killed(runbook: Runbook, script: Any, at: float, stop: float = 0.0) -> Case:
    """A run whose process died at some time, perhaps while it was leaving."""

    def die(case: Case) -> None:
        raise Killed

    case = Case(runbook, script).at(at, die)
    return (case.at(stop, Signal("SIGTERM")) if stop else case).begin()


@lru_cache(maxsize=1)
def history() -> tuple[set[tuple[str, str, str, str]], list[tuple[Plan, list[Record]]]]:
    """Every change that was seen: subject, event, before, after; and the runs."""
    seen: set[tuple[str, str, str, str]] = set()
    runs = list(cases())
    for plan, records in runs:
        state = RunState(plan)
        before = standing(state)
        for record in records:
            apply(state, record)
            after = standing(state)
            for where in before.keys() | after.keys():
                initial = INITIAL[where[0]]
                old, new = before.get(where, initial), after.get(where, initial)
                if old != new:
                    seen.add((where[0], key_of(where[0], where, record.event, plan), old, new))
            before = after
    return seen, runs


def test_nothing_happens_that_the_table_lacks() -> None:
    table = {
        (rule.subject, rule.event, old, new)
        for rule in RULES
        for old in rule.before
        for new in rule.after
    }
    assert sorted(history()[0] - table) == []


def test_what_the_table_says_about_a_subject_happens() -> None:
    seen = history()[0]
    lacking = [
        (rule.subject, rule.event, old)
        for rule in RULES
        if rule.about
        for old in rule.before
        if not any((rule.subject, rule.event, old, new) in seen or old == new for new in rule.after)
    ]
    assert lacking == []


# -- every pair of a state and an event -----------------------------------------------------------
FAILURE = Failure("failed", "it failed")


def about(subject: str, path: str, number: int, state: RunState) -> Iterator[AnyEvent]:
    """Events of every kind about a subject, as sensible as they can be."""
    index = state.plan.by_path.get(path, 0)
    record = state.steps.get(index)
    attempt = record.tasks[number].attempt if record and number < len(record.tasks) else 0
    node = state.plan.nodes[index]
    tasks = () if node.is_group and not node.fans else (TaskSpec(),)
    yield StepOpened(path, tasks)
    yield StepSkipped(path, "why")
    for status in ("succeeded", "failed", "rescued", "cancelled"):
        yield StepFinished(path, status, FAILURE)
    yield FailureLatched(path, FAILURE)
    yield GateOpened(path, "?")
    yield GateAnswered(path, "approved", SOMEBODY)
    yield TaskStarted(path, attempt + 1, number)
    yield TaskFinished(path, "failed", attempt, number, failure=FAILURE)
    yield CancelRequested(path, "timed_out", number)
    yield TaskProbed(path, "done", number)
    yield Overridden(path, "redo", SOMEBODY)
    yield GuardObserved(path, number, "pass")
    if subject == "run":
        yield from (each for each in RUN_EVENTS)


RUN_EVENTS: tuple[AnyEvent, ...] = (RunFinished("succeeded"), RunFinished("failed", FAILURE))


def test_every_pair_of_a_state_and_an_event() -> None:
    """What the table does not let follow is refused and changes nothing, in every state that a
    subject was seen in; and every event that it lets follow was accepted somewhere."""
    allowed: dict[tuple[str, str], set[str]] = {}
    for rule in RULES:
        if rule.about:
            allowed.setdefault((rule.subject, rule.event), set()).update(rule.before)
    tried: set[tuple[str, str, str]] = set()
    for plan, records in history()[1]:
        for length in range(0, len(records) + 1, 3):
            state = fold(plan, records[:length])
            new = [
                (where, current)
                for where, current in standing(state).items()
                if (where[0], current, "") not in tried
            ]
            for (subject, path, number), current in new:
                tried.add((subject, current, ""))
                for event in about(subject, path, number, state):
                    name = type(event).__name__
                    states = allowed.get((subject, name))
                    if states is None or current in states:
                        continue
                    tried.add((subject, current, name))
                    before = snapshot(state)
                    with pytest.raises(IllegalEvent, match="cannot follow"):
                        apply(state, Record(state.seq + 1, state.time, event))
                    assert snapshot(state) == before
    every: set[tuple[str, str]] = {
        (rule.subject, each) for rule in RULES for each in (*rule.before, *rule.after)
    }
    reached = {(subject, current) for subject, current, _ in tried}
    assert every - reached - UNREACHED == set()


UNREACHED = {("run", "new"), ("group", "closed"), ("step", "pending"), ("gate", "unasked")}
"""States of which nothing is recorded: nothing has happened yet."""


# -- completeness ---------------------------------------------------------------------------------
def test_every_event_has_its_fold_its_telling_and_its_transition() -> None:
    assert missing(FOLD) == []
    assert missing(TELL) == []


def test_an_event_that_lacks_one_is_named() -> None:
    fewer = {kind: each for kind, each in FOLD.items() if kind is not GateOpened}
    assert missing(fewer) == ["GateOpened"]


def test_every_event_of_the_table_is_one_that_there_is() -> None:
    names = {each.__name__ for each in get_args(AnyEvent)}
    assert {rule.event.split()[0] for rule in RULES} == names


def test_the_page_on_architecture_shows_the_table() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    assert diagrams() in page, "run `python -m engine.transitions` and put it there"


def test_final_states_are_final() -> None:
    for rule in RULES:
        if rule.subject == "step" and rule.about and rule.event != "Overridden":
            assert not FINAL & set(rule.before)
