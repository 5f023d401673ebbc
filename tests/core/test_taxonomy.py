"""One taxonomy of failures: whatever the kind, it is rescued, undone, cleaned up after, and stays.

Every kind that there is has a row here, and is brought about as it comes about in a run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import msgspec
import pytest

from engine.errors import FailureKind, IllegalEvent
from engine.events import FailureLatched, GateAnswered
from engine.model import Gate
from engine.runner import Signal
from engine.store import Command
from tests.core.harness import OK, SOMEBODY, Act, Case, book, group, guard, step
from tests.core.invariants import check

KINDS: tuple[FailureKind, ...] = get_args(FailureKind)
LONG = Act(seconds=600)


class Cause(msgspec.Struct):
    """How a kind comes about in the group ``g`` with its step ``x``, and what takes it away."""

    keys: dict[str, Any] = {}
    of_step: dict[str, Any] = {}
    act: Act = OK
    looks: tuple[str, ...] = ()
    after: float = 0.0
    message: object = None
    given_up: bool = False


CAUSES: dict[FailureKind, Cause] = {
    "failed": Cause(act=Act("failed", 1)),
    "unreachable": Cause(act=Act("unreachable", 1)),
    "refused": Cause(act=Act("refused", 1)),
    "timed_out": Cause(of_step={"timeout": 5.0}, act=LONG),
    "guard_tripped": Cause({"guards": (guard(every=5),)}, act=LONG, looks=("fail", "pass")),
    "inconclusive": Cause({"guards": (guard(every=5),)}, looks=("inconclusive", "pass")),
    "budget_exceeded": Cause({"budget": 5.0}, act=LONG),
    "gate_refused": Cause(
        of_step={"gate": Gate("go on?")},
        after=20,
        message=GateAnswered("g/x", "rejected", SOMEBODY),
    ),
    "gate_timed_out": Cause(of_step={"gate": Gate("go on?", timeout=5.0)}),
    "cancelled": Cause(act=LONG, after=20, message=Command("rescue", SOMEBODY, reason="enough")),
    "interrupted": Cause(act=LONG, after=20, message=Signal("SIGTERM"), given_up=True),
}


def failing(kind: FailureKind, make: Callable[[Any], Any], **keys: Any) -> Case:
    """A run whose group ``g`` fails in one way. `make` puts the group into a runbook."""
    cause = CAUSES[kind]
    found = group("g", step("x", **cause.of_step), step("y"), **cause.keys, **keys)
    looks = {"g!errors": list(cause.looks)} if cause.looks else {}
    script = {"g/x": cause.act, "a": Act(seconds=9), "b": Act(seconds=3)}
    case = Case(make(found), script, looks=looks, attended=True)
    if cause.message is not None:
        case.at(cause.after, cause.message)
    case.begin()
    if cause.given_up:
        assert case.outcome == "interrupted"
        case.at(0, Command("abandon", SOMEBODY, reason="not tonight")).resume()
    return case


def test_every_kind_of_failure_has_a_cause_here() -> None:
    assert set(CAUSES) == set(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_rescued_where_it_happened_and_always_runs(kind: FailureKind) -> None:
    case = failing(
        kind,
        lambda g: book(step("a"), g, step("after"), always=[step("last")]),
        rescue=[step("r")],
        always=[step("z")],
    )
    assert case.failure("g").kind == kind
    assert case.outcome == "rescued"
    assert case.world.paths()[-3:] == ["g.rescue/r", "g.always/z", ".always/last"]
    assert "after" not in case.world.paths()
    check(case)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_rescued_further_out(kind: FailureKind) -> None:
    case = failing(kind, lambda g: book(g, rescue=[step("r")]))
    assert case.state.failure is not None
    assert case.state.failure.kind == kind
    assert case.outcome == "rescued"
    assert case.world.paths()[-1] == ".rescue/r"


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_done_is_undone_in_reverse_order_of_completion(kind: FailureKind) -> None:
    def make(failing: Any) -> Any:
        late = msgspec.structs.replace(failing, needs=("a", "b"))
        first = [step(name, undo=[step("u")], needs=[]) for name in ("a", "b")]
        return book(*first, late, always=[step("last")])

    case = failing(kind, make)
    assert case.outcome == "undone"
    assert case.world.paths()[-3:] == ["a.undo/u", "b.undo/u", ".always/last"]
    check(case)


@pytest.mark.parametrize("kind", KINDS)
def test_it_stays_until_somebody_names_what_failed(kind: FailureKind) -> None:
    case = failing(kind, lambda g: book(step("a"), g, step("after")))
    assert case.outcome == "failed"
    latched = [event for event in case.events(FailureLatched) if event.step == "g"]
    assert [event.failure.kind for event in latched] == [kind]
    with pytest.raises(IllegalEvent, match="finished"):
        case.resume()
    case.approver = SOMEBODY
    case.world.script = {}  # the cause is gone
    case.resume(("redo", "g"))
    assert case.outcome == "succeeded"
    assert case.world.paths()[-2:] == ["g/y", "after"]
    assert case.world.effects["a#0"] == 1
