"""More runs of which journals are kept: what the scenarios of the reports do not show."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from engine.events import GateAnswered, Overridden, Person, RunStopped, StopRequested
from engine.runner import Signal
from tests.report.recorded import Recorded
from tests.report.scenarios import SCENARIOS

BOB = Person("bob", "ops2", "CI")


class _PowerCut(BaseException):
    """The process is gone."""


def _cut(run: Recorded, seconds: float) -> Recorded:
    """Carry the run until the power goes, so many seconds after its start."""

    def go(state: object, now: float) -> None:
        raise _PowerCut

    try:
        run.look(seconds, go).run()
    except _PowerCut:
        run.journal.sync()
    return run


_PRESS = """
    name: Press
    budget: 10m
    steps:
      - id: one
        register: first
        toy.act: {seconds: 2s}
      - id: both
        steps:
          - {id: press, timeout: 60s, toy.press: {seconds: 30s}}
          - {id: beside, needs: [], toy.act: {seconds: 40s}}
      - id: last
        toy.act: {message: done}
    always: [{id: bye, toy.act: {changed: false}}]
"""


def in_doubt(folder: Path) -> Recorded:
    """The power went while something once-only was under way."""
    return _cut(Recorded(folder, _PRESS), 20.0)


def decided(folder: Path) -> Recorded:
    """The same; a person says what became of it, and the run goes on to its end."""
    run = in_doubt(folder).resume()
    run.append(Overridden("both/press", "done", BOB, "the lamp is on"))
    return run.resume()


def preempted(folder: Path) -> Recorded:
    """Another run takes the locks."""
    run = Recorded(folder, _PRESS)

    def take(state: object, now: float) -> None:
        run.lost = lambda: StopRequested("preempted", BOB, "by the rollback")

    return run.look(10.0, take).at(10.0, Signal("SIGTERM")).run()


def found_dead(folder: Path) -> Recorded:
    """Whoever finds the dead process notes it."""
    run = in_doubt(folder)
    return run.append(RunStopped("interrupted", "its process is gone", seen=run.state.time + 5))


def resumed(folder: Path) -> Recorded:
    """Interrupted in the middle of a group with an always block, then carried to its end."""
    text = """
        name: Roll
        budget: 5m
        steps:
          - id: roll
            budget: 2m
            steps:
              - {id: a, toy.act: {seconds: 20s}}
              - {id: b, retry: {attempts: 3, delay: 10s}, toy.act: {fail: failed, times: 1}}
            always: [{id: tidy, toy.act: {message: tidied}}]
            undo: {toy.act: {message: rolled back}}
          - id: nodes
            loop: [x, y, z]
            serial: 2
            max_fail_percentage: 50
            register: nodes
            toy.act: {seconds: 5s, fail: "{{ 'failed' if item == 'x' else none }}"}
          - {id: sum, toy.act: {message: "{{ nodes.results | length }}"}}
    """
    return Recorded(folder, text).at(10.0, Signal("SIGINT")).run().resume(later=600.0)


def redone(folder: Path) -> Recorded:
    """A step failed, a person skips it in one case and has it done again in another."""
    text = """
        name: Redo
        steps:
          - id: g
            steps:
              - {id: a, toy.act: {}, undo: {toy.act: {message: back}}}
              - {id: b, toy.act: {fail: refused, hint: look}}
              - {id: c, toy.act: {}}
            rescue: [{id: mend, toy.act: {fail: failed}}]
          - {id: d, ignore_errors: true, toy.act: {fail: failed}}
          - {id: e, confirm: {message: go on?, timeout: 5m}, toy.act: {}}
    """
    run = Recorded(folder, text).run()
    run.append(Overridden("g.rescue/mend", "done", BOB, "mended by hand"))
    return run.resume()


def gate_late(folder: Path) -> Recorded:
    """A gate with a deadline is left open and answered by somebody else in time."""
    text = """
        name: Ask
        steps:
          - {id: a, toy.act: {seconds: 1s}}
          - {id: b, confirm: {message: go on?, timeout: 5m}, toy.act: {}}
    """
    run = Recorded(folder, text).run()
    run.append(GateAnswered("b", "approved", BOB, "fine"))
    return run


OLD_RUNS: dict[str, Callable[[Path], Recorded]] = {
    **{
        name: (lambda folder, scenario=scenario: scenario(folder, []))  # type: ignore[misc]
        for name, scenario in SCENARIOS.items()
    },
    **{
        each.__name__: each
        for each in (in_doubt, decided, preempted, found_dead, resumed, redone, gate_late)
    },
}
