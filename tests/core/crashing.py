"""Killing a run again and again, resuming it, and comparing how it ends."""

from __future__ import annotations

import random
from collections.abc import Mapping

import msgspec

from engine.state import Status
from tests.core.generate import Generated, Kind, generate, keys_of
from tests.core.harness import SOMEBODY, Case, Killer, KillPoint, written

POINTS: tuple[KillPoint, ...] = (
    "before_append",
    "after_append",
    "before_sync",
    "torn",
    "after_sync",
)
MOST_PROCESSES = 60


class Tally(msgspec.Struct):
    """What a crash matrix has seen."""

    points: int = 0
    runs: int = 0
    duplicates: int = 0
    missing: int = 0
    different: int = 0
    asked: int = 0

    def __str__(self) -> str:
        return (
            f"{self.points} crash points in {self.runs} runs: {self.duplicates} duplicates, "
            f"{self.missing} effects lost, {self.different} runs that ended differently, "
            f"{self.asked} times a person was asked"
        )


def new_case(generated: Generated, forks: int = 20) -> Case:
    """A case of a generated runbook, whose gates are approved."""
    return Case(generated.runbook, approver=SOMEBODY, forks=forks, **keys_of(generated))


def undisturbed(seed: int, kind: Kind) -> Case:
    """How the run of a seed ends when nobody kills it."""
    return new_case(generate(seed, kind)).begin()


def kill_and_resume(
    seed: int, kind: Kind, rng: random.Random, tally: Tally, kills: int = 2
) -> Case:
    """The run of a seed, killed at random points, resumed until it is over."""
    return kill_and_resume_generated(generate(seed, kind), rng, tally, kills)


def kill_and_resume_generated(
    generated: Generated, rng: random.Random, tally: Tally, kills: int
) -> Case:
    """The same for any generated runbook."""
    case = new_case(generated)
    tally.runs += 1
    case.begin(_killer(rng, 40))
    while case.processes < MOST_PROCESSES:
        if case.state.life != "finished" or not _safe(case):
            kills -= 1
            if case.left == "waiting" and _safe(case):
                tally.asked += 1
                case.resume(*decisions(case))
            else:
                tally.points += 1
                case.resume(killer=_killer(rng, 12) if kills > 0 else None)
        else:
            break
    assert case.state.life == "finished", f"not over after {MOST_PROCESSES} processes"
    _count(case, generated, tally)
    return case


def _killer(rng: random.Random, most: int) -> Killer:
    return Killer(rng.choice(POINTS), rng.randrange(1, most), rng.random())


def _safe(case: Case) -> bool:
    """Whether the end of the run is on the disk."""
    records = case.records()
    return bool(records) and records[-1].seq == case.state.seq


def decisions(case: Case) -> list[tuple[str, str]]:
    """What an operator says who has looked: it was done, or it has to be done again."""
    decided: dict[str, str] = {}
    for index, task in case.state.doubts:
        path = case.plan.nodes[index].path
        decided[path] = "done" if case.world.effects[f"{path}#{task}"] else "redo"
    return [(decision, path) for path, decision in decided.items()]


def _count(case: Case, generated: Generated, tally: Tally) -> None:
    for index, step in case.state.steps.items():
        path = case.plan.nodes[index].path
        if written(path) not in generated.once:
            continue
        for number, task in enumerate(step.tasks):
            happened = case.world.effects[f"{path}#{number}"]
            tally.duplicates += max(0, happened - 1)
            tally.missing += task.life == "succeeded" and happened == 0


def same_end(one: Case, other: Case) -> bool:
    """Whether two runs ended with the same outcome and the same statuses."""
    return one.outcome == other.outcome and _statuses(one) == _statuses(other)


def _statuses(case: Case) -> Mapping[str, Status]:
    return case.statuses()
