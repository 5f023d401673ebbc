"""Headlines of results: what any module puts into `shares` and `figures` is shown, and kept."""

from __future__ import annotations

from pathlib import Path

from engine import journal
from engine.events import Record, TaskFinished
from engine.report.gather import gather
from engine.report.summary import figures_of
from engine.report.words import text_of
from tests.report.recorded import Recorded

RUNBOOK = """
    name: Measure
    steps:
      - id: before
        toy.act: {seconds: 1s, figures: {error_rate: 0.7 %, p95: 36.9 ms}}
      - id: figures
        toy.act: {seconds: 1s, message: two metrics, figures: {error_rate: 0.1 %, agents: 61.0}}
      - id: hidden
        no_log: true
        toy.act: {seconds: 1s, figures: {balance: 12}, shares: {"5.0": 100}}
"""


def _figures(run: Recorded) -> list[str]:
    facts = gather(run.plan, run.state, now=run.clock.now())
    return [text_of(each).strip() for each in figures_of(facts)]


def test_of_each_figure_the_last_value_is_told(tmp_path: Path) -> None:
    run = Recorded(tmp_path, RUNBOOK)
    run.run()
    assert _figures(run) == ["error_rate 0.1 % · p95 36.9 ms · agents 61"]


def test_without_figures_of_its_own_a_step_of_that_name_tells_by_its_message(
    tmp_path: Path,
) -> None:
    run = Recorded(
        tmp_path,
        """
    name: Measure
    steps:
      - id: figures
        toy.act: {message: 3 of 1000 requests failed}
      - id: users
        toy.act: {data: {requests: 1000, failures: 3, sessions_lost: 0}}
""",
    )
    run.run()
    assert _figures(run) == [
        "1,000 requests, 3 failed, 0 sessions lost",
        "3 of 1000 requests failed",
    ]


def test_a_figure_that_a_step_tells_by_its_message_is_told_once(tmp_path: Path) -> None:
    run = Recorded(
        tmp_path,
        """
    name: Measure
    steps:
      - {id: verify, toy.act: {figures: {p95: 30.5 ms, agents: 61.0}}}
      - id: figures
        steps: [{toy.act: {message: p95 32.9 ms}}]
""",
    )
    run.run()
    assert _figures(run) == ["p95 32.9 ms", "agents 61"]


def test_an_event_without_headlines_is_written_as_it_always_was() -> None:
    written = journal.encode(Record(1, 0.0, TaskFinished("a", "succeeded", data={"x": 1})))
    assert b"shares" not in written
    assert b"figures" not in written


def test_what_no_journal_can_hold_is_left_out_or_made_text(tmp_path: Path) -> None:
    run = Recorded(
        tmp_path,
        """
    name: Measure
    steps:
      - id: odd
        toy.act:
          shares: "{{ {'5.0': 100, '5.1': 'many' | length} }}"
          figures: "{{ {'nothing': none, 'list': [1, 2], 'rate': 0.5} }}"
""",
    )
    run.run()
    events = [record.event for record in run.records if isinstance(record.event, TaskFinished)]
    assert events[0].figures == {"nothing": "None", "list": "[1, 2]", "rate": 0.5}
    assert events[0].shares == {"5.0": 100.0, "5.1": 4.0}
