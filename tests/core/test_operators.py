"""People and crashes, in any order: what operators say to runs that live, died, wait or failed.

Hypothesis plays the operator, the machine that dies, and chance. After every process the journal
folds to the very state that it had (the harness looks); no once-only effect happens twice unless a
person had its step redone; and whatever was done to a run, answers bring it to an end.
"""

from __future__ import annotations

import random
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from engine.events import GateAnswered, Overridden, RunStopped, StopRequested
from engine.fold import fold, override_refusal
from engine.runner import Signal, Wake
from engine.state import RunState
from engine.store import Command
from tests.core.crashing import POINTS, decisions
from tests.core.generate import Generated, Kind, keys_of
from tests.core.harness import SOMEBODY, Case, Killer, KillPoint

KINDS: tuple[Kind, ...] = ("calm", "sequential", "wild")
SAID = ("SIGTERM", "stop", "rescue", "abandon", "approve", "reject", "takeover")
ANSWERS = ("approved", "rejected")
MOST_PROCESSES = 60
LONG_SINCE = 5000.0


class Operators(RuleBasedStateMachine):
    """One run, and everything that people and machines do to it."""

    @initialize(
        rng=st.randoms(use_true_random=False), kind=st.sampled_from(KINDS), attended=st.booleans()
    )
    def start(self, rng: random.Random, kind: Kind, attended: bool) -> None:
        self.generated = Generated(rng, kind)
        self.case = Case(self.generated.runbook, attended=attended, **keys_of(self.generated))
        self.redone: set[int] = set()

    @property
    def journaled(self) -> RunState:
        """What the journal says, which is all that a command of an operator knows."""
        return fold(self.case.plan, self.case.records())

    def _preempted(self) -> bool:
        stop = self.journaled.stop
        return stop is not None and stop.kind == "preempted"

    def _goes_on(self) -> bool:
        return self.journaled.life != "finished" and not self._preempted()

    # -- processes ----------------------------------------------------------------------------
    @precondition(_goes_on)
    @rule(
        said=st.lists(st.tuples(st.floats(0, 30), st.sampled_from(SAID)), max_size=3),
        killed=st.none() | st.tuples(st.sampled_from(POINTS), st.integers(1, 25)),
        downtime=st.sampled_from((0.0, 1.0, 1000.0)),
    )
    def carry(
        self,
        said: list[tuple[float, str]],
        killed: tuple[KillPoint, int] | None,
        downtime: float,
    ) -> None:
        """A process takes the run as far as it comes while it is talked to, and may die."""
        for seconds, word in said:
            self.case.at(seconds, lambda case, word=word: _message(case, word))
        self._process((), killed, downtime)

    def _process(
        self,
        decided: tuple[tuple[str, str], ...],
        killed: tuple[KillPoint, int] | None,
        downtime: float,
    ) -> None:
        killer = Killer(*killed) if killed is not None else None
        self._note_death()
        self.case.lost = lambda: None
        self.case.at(LONG_SINCE, Signal("SIGINT"))  # somebody at a terminal who never answers
        self.case.resume(*decided, killer=killer, downtime=downtime)

    def _note_death(self) -> None:
        """What every command does first with a run whose process is gone."""
        if self.journaled.life in ("running", "stopping"):
            self.case.note(RunStopped("interrupted", "found dead", seen=self.case.time))

    # -- operators, while no process carries the run ---------------------------------------------
    @precondition(lambda self: self._goes_on() and self.journaled.gates)
    @rule(which=st.integers(0, 5), answer=st.sampled_from(ANSWERS))
    def answer(self, which: int, answer: Any) -> None:
        """`ce-run approve` or `reject`."""
        gates = list(self.journaled.gates)
        path = self.case.plan.nodes[gates[which % len(gates)]].path
        self._note_death()
        self.case.note(GateAnswered(path, answer, SOMEBODY))

    @precondition(lambda self: self.journaled.steps and not self._preempted())
    @rule(
        which=st.integers(0, 1000),
        decision=st.sampled_from(("redo", "done", "skip")),
        killed=st.none() | st.tuples(st.sampled_from(POINTS), st.integers(1, 25)),
    )
    def decide(self, which: int, decision: str, killed: tuple[KillPoint, int] | None) -> None:
        """`ce-run resume --redo`, `--done` or `--skip`, of a step that can be decided about."""
        self._note_death()
        state = self.journaled
        open_to = [i for i in sorted(state.steps) if not self._refusal(state, i)]
        if not open_to:
            return
        node = self.case.plan.nodes[open_to[which % len(open_to)]]
        if decision == "redo":
            self.redone.update(range(node.index, node.end))
        self._process(((decision, node.path),), killed, 1.0)

    def _refusal(self, state: RunState, index: int) -> str:
        return override_refusal(state, self.case.plan.nodes[index])

    @rule()
    def look(self) -> None:
        """`ce-run show`, at any time."""
        assert self.journaled.seq == len(self.case.records())

    # -- what has to hold ---------------------------------------------------------------------
    @invariant()
    def nothing_happens_twice(self) -> None:
        """Unless a person had it done again. Always and rescue blocks answer each end of their
        group: when the run is left, and anew once a person has decided about what is in it."""
        for path in self.generated.once:
            node = self.case.plan.node(path)
            if node.index in self.redone:
                continue
            answers = any(up.role in ("always", "rescue") for up in self.case.plan.ancestors(node))
            most = 1 + (self._ends_taken_back() if answers else 0)
            for number in range(5):
                assert self.case.world.effects[f"{path}#{number}"] <= most, path

    def _ends_taken_back(self) -> int:
        """How often a group may have ended, or been left, and gone on."""
        events = [record.event for record in self.case.records()]
        return sum(
            isinstance(event, Overridden)
            or (isinstance(event, StopRequested) and event.kind == "interrupted")
            for event in events
        )

    def teardown(self) -> None:
        """Answer and go on: every run comes to its end."""
        if not hasattr(self, "case"):
            return
        for _ in range(MOST_PROCESSES):
            if not self._goes_on():
                break
            self._settle()
        if self._preempted():
            return
        assert self.journaled.life == "finished", "it never ends"
        self.case.state = self.journaled
        assert self.case.unfinished() == []
        self.nothing_happens_twice()

    def _settle(self) -> None:
        self._note_death()
        state = self.journaled
        for index in state.gates:
            path = self.case.plan.nodes[index].path
            self.case.note(GateAnswered(path, "approved", SOMEBODY))
        self.case.state = self.journaled
        told = decisions(self.case) if self.case.left == "waiting" else []
        self._process(tuple(told), None, 1.0)


def _message(case: Case, word: str) -> object:
    if word == "SIGTERM":
        return Signal("SIGTERM")
    if word == "takeover":
        case.lost = lambda: StopRequested("preempted", SOMEBODY, "run r2 took over")
        return Wake()
    if word in ("approve", "reject"):
        gates = [case.plan.nodes[index].path for index in case.state.gates]
        return Command(word, SOMEBODY, gates[0]) if gates else None
    return Command(word, SOMEBODY, reason="so be it")


def test_people_and_crashes_in_any_order() -> None:
    run_state_machine_as_test(Operators, settings=settings(max_examples=60, stateful_step_count=8))
