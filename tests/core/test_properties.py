"""What holds for every runbook and everything that may happen in it.

Random DAGs with nested groups, blocks of every kind, retries, fan-out, guards, deadlines and
budgets; random outcomes; random deaths. What has to hold is written down in
`tests.core.invariants`; the harness itself fails a run whose loop spins, that dead-locks, whose
scheduler asks for what the fold refuses, or whose journal folds to another state.
"""

from __future__ import annotations

import copy
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.actions import Append, Start
from engine.errors import IllegalEvent
from engine.events import (
    AnyEvent,
    CancelRequested,
    Failure,
    FailureLatched,
    GateAnswered,
    GateOpened,
    GuardObserved,
    Record,
    RunFinished,
    RunResumed,
    RunStopped,
    StepFinished,
    StepOpened,
    StepSkipped,
    StopRequested,
    TaskFinished,
    TaskProbed,
    TaskSpec,
    TaskStarted,
)
from engine.fold import apply, fold
from engine.journal import records_of
from engine.model import Runbook
from engine.plan import build_plan
from engine.runner import Signal
from engine.scheduler import decide
from engine.state import RunState
from tests.core.crashing import Tally, decisions, kill_and_resume_generated, new_case, same_end
from tests.core.generate import Generated, Kind
from tests.core.harness import SOMEBODY, Case, book, group, guard, snapshot, step
from tests.core.invariants import check

KINDS: tuple[Kind, ...] = ("calm", "sequential", "wild")
OUTCOMES = ("succeeded", "failed", "rescued", "undone", "needs_person")
RANDOMS = st.randoms(use_true_random=False)


@pytest.mark.parametrize("kind", KINDS)
@given(rng=RANDOMS, forks=st.integers(1, 6))
def test_every_run_keeps_the_rules(kind: Kind, rng: random.Random, forks: int) -> None:
    case = new_case(Generated(rng, kind), forks=forks).begin()
    check(case)
    if kind == "calm":
        assert case.outcome == "succeeded"


@pytest.mark.parametrize("kind", ["calm", "sequential"])
@given(rng=RANDOMS, deaths=st.randoms(use_true_random=False))
def test_a_run_that_was_killed_ends_as_one_that_was_not(
    kind: Kind, rng: random.Random, deaths: random.Random
) -> None:
    generated = Generated(rng, kind)
    undisturbed = new_case(generated).begin()
    tally = Tally()
    case = kill_and_resume_generated(generated, deaths, tally, kills=3)
    assert same_end(undisturbed, case)
    assert (tally.duplicates, tally.missing) == (0, 0)


@given(rng=RANDOMS, deaths=st.randoms(use_true_random=False))
def test_a_wild_run_that_was_killed_ends_and_repeats_no_effect(
    rng: random.Random, deaths: random.Random
) -> None:
    tally = Tally()
    case = kill_and_resume_generated(Generated(rng, "wild"), deaths, tally, kills=3)
    assert case.unfinished() == []
    assert (tally.duplicates, tally.missing) == (0, 0)


@given(rng=RANDOMS, part=st.floats(0, 1), kind=st.sampled_from(KINDS))
def test_a_journal_cut_at_any_byte_folds_to_a_valid_state_and_can_be_resumed(
    rng: random.Random, part: float, kind: Kind
) -> None:
    generated = Generated(rng, kind)
    whole = new_case(generated).begin()
    case = new_case(generated)
    case.data = whole.data[: int(len(whole.data) * part)]
    case.time = whole.time
    found = [record for record, _ in records_of(case.data, "journal.jsonl")]
    assert found == whole.records()[: len(found)]
    state = fold(case.plan, found)
    if state.life == "finished":
        return
    _remember_what_happened(case, state)
    case.resume()
    _decide_what_is_asked(case)
    assert case.state.life == "finished"
    assert case.unfinished() == []
    if kind != "wild":
        assert same_end(whole, case)


def _remember_what_happened(case: Case, state: RunState) -> None:
    """Give the world the memory of what the journal says has been done."""
    for index, record in state.steps.items():
        for number, task in enumerate(record.tasks):
            name = f"{case.plan.nodes[index].path}#{number}"
            case.world.tried[name] = task.failures
            case.world.effects[name] = int(task.life == "succeeded")


@given(rng=RANDOMS, at=st.floats(0.1, 20), kind=st.sampled_from(KINDS))
def test_an_interrupted_run_leaves_in_time_and_ends_after_its_resume(
    rng: random.Random, at: float, kind: Kind
) -> None:
    case = new_case(Generated(rng, kind)).at(at, Signal("SIGTERM")).begin()
    if case.state.life == "finished":
        return
    asked = [each.time for each in case.records() if isinstance(each.event, StopRequested)]
    if asked:
        assert case.records()[-1].time - asked[0] <= 5
    case.resume()
    _decide_what_is_asked(case)
    assert case.outcome in OUTCOMES
    assert case.unfinished() == []


def _decide_what_is_asked(case: Case) -> None:
    for _ in range(20):
        if case.left != "waiting":
            return
        case.resume(*decisions(case))


# -- the fold -------------------------------------------------------------------------------------
def events() -> st.SearchStrategy[AnyEvent]:
    """Events of every kind about a few steps, sensible or not."""
    paths = st.sampled_from(
        ["", "a", "b", "g", "g/x", "g.rescue", "g.rescue/r", "a.undo", "nowhere"]
    )
    small = st.integers(-1, 2)
    failure = Failure("failed", "it failed")
    maybe = st.sampled_from([None, failure])
    return st.one_of(
        st.builds(
            StepOpened, paths, st.sampled_from([(), (TaskSpec(),), (TaskSpec(), TaskSpec())])
        ),
        st.builds(StepSkipped, paths, st.just("why")),
        st.builds(
            StepFinished,
            paths,
            st.sampled_from(["succeeded", "failed", "rescued", "cancelled"]),
            maybe,
        ),
        st.builds(FailureLatched, paths, st.just(failure), st.booleans()),
        st.builds(GateOpened, paths, st.just("?")),
        st.builds(
            GateAnswered, paths, st.sampled_from(["approved", "rejected"]), st.just(SOMEBODY)
        ),
        st.builds(TaskStarted, paths, small, small),
        st.builds(
            TaskFinished,
            paths,
            st.sampled_from(["succeeded", "failed", "cancelled"]),
            small,
            small,
            failure=maybe,
        ),
        st.builds(CancelRequested, paths, st.sampled_from(["timed_out", "interrupted"]), small),
        st.builds(TaskProbed, paths, st.sampled_from(["done", "not_done", "unknown"]), small),
        st.builds(GuardObserved, paths, small, st.sampled_from(["pass", "fail"])),
        st.builds(StopRequested, st.sampled_from(["interrupted", "preempted"])),
        st.builds(RunStopped, st.just("interrupted")),
        st.builds(RunResumed, st.just(SOMEBODY), st.just("1")),
        st.builds(RunFinished, st.sampled_from(["succeeded", "failed"])),
    )


def _small() -> Runbook:
    return book(
        step("a", undo="u"),
        step("b", needs=[], effect="once"),
        group("g", step("x"), rescue=[step("r")], needs=[], guards=(guard(),)),
    )


@given(given_events=st.lists(events(), max_size=25), walk=st.integers(0, 12))
def test_an_event_that_cannot_follow_is_refused_and_changes_nothing(
    given_events: list[AnyEvent], walk: int
) -> None:
    case = Case(_small(), attended=True).begin()
    plan = case.plan
    state = fold(plan, case.records()[:walk])
    for event in given_events:
        before = snapshot(state)
        number = state.seq
        try:
            apply(state, Record(state.seq + 1, state.time + 1, event))
        except IllegalEvent:
            assert snapshot(state) == before
            assert state.seq == number
        else:
            assert state.seq == number + 1


@given(given_events=st.lists(events(), max_size=25), walk=st.integers(1, 12))
def test_whatever_was_accepted_the_scheduler_asks_for_nothing_illegal(
    given_events: list[AnyEvent], walk: int
) -> None:
    """Even from states that no run of ours leads to, a decision can be carried out."""
    case = Case(_small(), attended=True).begin()
    state = fold(case.plan, case.records()[:walk])
    for event in given_events:
        try:
            apply(state, Record(state.seq + 1, state.time + 1, event))
        except IllegalEvent:
            continue
        trial = copy.deepcopy(state)
        for action in decide(case.plan, trial, trial.time + 100):
            if isinstance(action, Append):
                apply(trial, Record(trial.seq + 1, trial.time, action.event))
            elif isinstance(action, Start):
                path = case.plan.nodes[action.node].path
                started = TaskStarted(path, action.attempt, action.task)
                apply(trial, Record(trial.seq + 1, trial.time, started))


@given(rng=RANDOMS, kind=st.sampled_from(KINDS))
def test_decide_only_reads(rng: random.Random, kind: Kind) -> None:
    case = new_case(Generated(rng, kind)).begin()
    state = RunState(case.plan)
    for record in case.records():
        apply(state, record)
        before = snapshot(state)
        first = decide(case.plan, state, record.time)
        assert decide(case.plan, state, record.time) == first
        assert snapshot(state) == before


@given(rng=RANDOMS)
def test_nodes_of_a_plan_are_numbered_depth_first(rng: random.Random) -> None:
    plan = build_plan(Generated(rng, "wild").runbook)
    for node in plan.nodes:
        assert plan.nodes[node.index] is node
        inside = {below.index for below in plan.below(node)}
        assert inside == {each.index for each in plan.nodes if node in list(plan.ancestors(each))}
        for other in node.dependents:
            assert node.index in plan.nodes[other].needs
