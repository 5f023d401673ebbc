"""The crash matrix in memory: many generated runs, killed at seeded points, resumed, compared.

The process dies right before or right after an append, between write and sync with what was not
synced lost or torn, or right after a sync. However often that happens, a run ends as the one that
nobody disturbed, and no once-only effect happens twice. (The matrix against real processes and a
real lab is in `tests/crash`.)
"""

from __future__ import annotations

import random

import pytest

from tests.core.crashing import Tally, kill_and_resume, same_end, undisturbed
from tests.core.generate import Kind


def matrix(points: int, seed: int) -> Tally:
    """Kill runs until so many points have been tried."""
    tally = Tally()
    kinds: tuple[Kind, ...] = ("calm", "sequential", "wild")
    while tally.points < points:
        seed += 1
        kind = kinds[seed % 3]
        case = kill_and_resume(seed, kind, random.Random(seed), tally, kills=4)
        assert case.unfinished() == [], f"seed {seed}"
        if kind != "wild" and not same_end(undisturbed(seed, kind), case):
            tally.different += 1
    return tally


def report(tally: Tally) -> None:
    print(f"\ncrash matrix: {tally}")
    assert (tally.duplicates, tally.missing, tally.different) == (0, 0, 0)


def test_a_sample_of_the_crash_matrix() -> None:
    report(matrix(300, seed=0))


@pytest.mark.slow
def test_ten_thousand_crash_points() -> None:
    report(matrix(10_000, seed=100_000))
