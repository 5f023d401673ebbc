"""The live view's picture, at moments of a recorded run, compared with a file.

Run this file as a program (``python -m tests.cli.test_frame``) to write ``golden/frame.txt`` anew.
"""

from __future__ import annotations

import contextlib
import tempfile
from pathlib import Path

import pytest

from engine.cli.frame import Picture, frame
from engine.events import TaskFinished
from engine.report.words import text_of, width
from engine.runner import Signal
from engine.state import RunState
from tests.report.recorded import START, Recorded

GOLDEN = Path(__file__).parent / "golden" / "frame.txt"

RUNBOOK = """
    name: Deploy Claude Enhancer 5.1
    budget: 1h
    steps:
      - id: prepare
        name: 准备环境
        budget: 10s
        steps:
          - id: backup
            timeout: 30s
            toy.act: {seconds: 8s}
          - id: image
            needs: []
            toy.act: {seconds: 5s}
      - id: canary
        name: Canary at 5 %
        budget: 30m
        guards:
          - name: error rate
            every: 10s
            toy.look: {values: [0.01, null, 0.7, 0.7, 0.02]}
            trip: result.value > 0.5
            for: 60s
        steps:
          - id: route
            toy.act: {shares: {"5.0": 95, "5.1": 5}}
          - id: soak
            timeout: 5m
            wait: {for: 2m, reason: watching the canary}
          - id: warm
            needs: []
            retry: {attempts: 3, delay: 20s}
            toy.act: {seconds: 1s, fail: unreachable, times: 1, message: connection refused}
      - id: hosts
        loop: [web-1, web-2]
        serial: 2
        toy.act: {seconds: 60s}
      - id: switch
        confirm: Switch all traffic to 5.1?
        toy.act: {}
      - id: clean
        toy.act: {}
"""


class Moments:
    """Takes pictures of a run when the time for each has come."""

    def __init__(self, columns: int = 96, rows: int = 30) -> None:
        self.picture = Picture()
        self.size = (columns, rows)
        self.taken: list[tuple[float, list[str]]] = []

    def event(self, state: RunState, record: object) -> None:
        """Note traffic, as the live view does."""
        event = getattr(record, "event", None)
        if isinstance(event, TaskFinished):
            self.picture.shares = event.shares or self.picture.shares

    def progress(self, step: str, task: int, text: str) -> None:
        """Note what a task said."""
        self.picture.progress[step, task] = text

    def tick(self, state: RunState, now: float) -> None:
        """Pictures are taken at set times only."""

    def take(self, state: RunState, now: float) -> None:
        """One picture."""
        lines = frame(state, now, self.picture, *self.size)
        assert len(lines) <= self.size[1]
        assert all(width(text_of(each)) <= self.size[0] for each in lines)
        self.taken.append((now - START, [text_of(each) for each in lines]))


def film(folder: Path, *times: float, columns: int = 96, rows: int = 30) -> Moments:
    """Pictures of the run at these times; it is interrupted after the last."""
    moments = Moments(columns, rows)
    run = Recorded(folder, RUNBOOK, attended=True, observers=[moments])
    for time in times:
        run.look(time, moments.take)
    run.at(times[-1] + 0.5, Signal("SIGINT")).run()
    return moments


def told() -> str:
    """Moments that between them show everything."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        moments = film(Path(folder), 2.0, 10.5, 13.0, 50.0, 135.0, 300.0)
    return "\n".join(
        f"after {time:g} s\n" + "\n".join(lines) + "\n" for time, lines in moments.taken
    )


def test_pictures_are_those_of_the_file() -> None:
    assert told() == GOLDEN.read_text(encoding="utf-8")


@pytest.mark.parametrize("rows", [1, 2, 3, 5, 8, 12])
@pytest.mark.parametrize("columns", [1, 10, 40])
def test_any_size_is_kept_to(tmp_path: Path, columns: int, rows: int) -> None:
    assert film(tmp_path, 2.0, 50.0, 300.0, columns=columns, rows=rows).taken


def test_what_runs_is_shown_before_phases_when_room_is_short(tmp_path: Path) -> None:
    _, lines = film(tmp_path, 50.0, rows=9).taken[0]
    assert any("canary/soak" in each for each in lines)
    assert any("▶ canary" in each for each in lines)


MANY_GUARDS = """
    name: Watched
    steps:
      - {id: before, toy.act: {}}
      - id: outer
        steps:
          - id: first
            budget: 10m
            toy.act: {}
          - id: inner
            budget: 20m
            guards: [GUARDS]
            steps:
              - id: a-group-with-a-long-name
                steps:
                  - {id: soak, wait: 5m}
          - id: last
            budget: 30m
            toy.act: {}
      - {id: after, toy.act: {}}
"""


def guarded(folder: Path, columns: int, rows: int) -> list[str]:
    """A picture of a run with eight guards, of which the last but one fails."""
    each = (
        "{{name: guard {0}, every: 5s, toy.look: {{values: [{1}]}}, "
        "trip: result.value > 5, for: 5m}}"
    )
    folder.mkdir(exist_ok=True)
    guards = ", ".join(each.format(number, 9 if number == 6 else 1) for number in range(8))
    moments = Moments(columns, rows)
    book = MANY_GUARDS.replace("GUARDS", guards)
    run = Recorded(folder, book, attended=True, observers=[moments])
    run.look(20.0, moments.take)
    run.at(21.0, Signal("SIGINT")).run()
    return moments.taken[0][1]


def test_a_guard_that_fails_is_shown_before_those_that_pass(tmp_path: Path) -> None:
    lines = guarded(tmp_path, 80, 14)
    guards = [each for each in lines if each.startswith("  guard ")]
    assert "guard 6  fail  9  trips at" in guards[0]
    assert any("more, which pass" in each for each in lines)


def test_where_room_is_short_the_innermost_phase_stays(tmp_path: Path) -> None:
    for rows in (8, 10, 14):
        lines = guarded(tmp_path / str(rows), 80, rows)
        assert any("▶   inner" in each for each in lines), lines


def test_of_a_long_path_the_end_is_kept_on_a_narrow_screen(tmp_path: Path) -> None:
    lines = guarded(tmp_path, 40, 10)
    assert any(each.startswith("    ▶ …/soak  ") for each in lines), lines


def main() -> None:
    """Write the golden file anew."""
    GOLDEN.write_text(told(), encoding="utf-8")


if __name__ == "__main__":
    main()


@pytest.mark.parametrize("columns", [36, 40, 60])
def test_on_a_narrow_terminal_the_shares_of_traffic_stay(tmp_path: Path, columns: int) -> None:
    shown = film(tmp_path, 50.0, columns=columns).taken[-1][1]
    (traffic,) = [each for each in shown if each.startswith("  traffic")]
    assert traffic.endswith("%")
    assert "5.0 " in traffic
    assert "5.1 " in traffic
