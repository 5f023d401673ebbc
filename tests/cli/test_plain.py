"""Plain lines: what is added for GitHub Actions, with -v, and for steps that take long."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from engine.cli.plain import ActionsView, PlainView
from engine.cli.terminal import Writer
from engine.report.words import Span, line
from tests.report.recorded import Recorded

BOOK = """
    name: Two phases
    steps:
      - id: first
        steps:
          - id: a
            toy.act: {seconds: 1s, changed: false}
      - id: second
        steps:
          - id: b
            retry: {attempts: 2, delay: 1s}
            toy.act: {fail: failed, message: "50 % gone: all", hint: "look, then act"}
"""


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def lines_of(folder: Path, text: str, kind: type[PlainView], verbose: bool = False) -> list[str]:
    """What a view prints of a run, without times."""
    stream = io.StringIO()
    view = kind(Writer(stream), verbose=verbose)
    Recorded(folder, text, observers=[view]).run()
    view.finish()
    return [each[10:] if each[8:9] == "Z" else each for each in stream.getvalue().splitlines()]


def test_phases_fold_in_github_actions(tmp_path: Path) -> None:
    lines = [each for each in lines_of(tmp_path, BOOK, ActionsView) if each.startswith("::")]
    place = "file=deploy.yml,line=10,col=9"
    wanted = [
        "::group::first",
        "::endgroup::",
        "::group::second",
        f"::error {place},title=second/b::50 %25 gone: all%0Ahint: look, then act",
        "::endgroup::",
    ]
    assert lines == wanted


def test_groups_that_run_at_the_same_time_are_not_nested(tmp_path: Path) -> None:
    lines = lines_of(
        tmp_path,
        """
        name: At once
        steps:
          - id: long
            steps: [{id: a, toy.act: {seconds: 5s}}]
          - id: short
            needs: []
            steps: [{id: b, toy.act: {seconds: 1s}}]
        """,
        ActionsView,
    )
    marks = [each for each in lines if each.startswith("::")]
    assert marks == ["::group::long", "::endgroup::"]


def test_ignored_failures_are_not_annotated(tmp_path: Path) -> None:
    lines = lines_of(
        tmp_path,
        """
        name: Ignored
        steps:
          - {id: a, ignore_errors: true, toy.act: {fail: failed}}
        """,
        ActionsView,
    )
    assert not [each for each in lines if each.startswith("::error")]


def test_verbose_adds_starts_and_every_look_of_a_guard(tmp_path: Path) -> None:
    text = """
        name: Guarded
        steps:
          - id: canary
            guards:
              - {name: errors, every: 10s, toy.look: {values: [1]}, trip: result.value > 5}
            steps: [{id: soak, toy.act: {seconds: 25s}}]
    """
    quiet = lines_of(tmp_path, text, PlainView)
    verbose = lines_of(tmp_path, text, PlainView, verbose=True)
    assert not any("guard 'errors'" in each for each in quiet)
    assert sum("guard 'errors' pass at 1" in each for each in verbose) == 2
    assert any(each.startswith("start     canary/soak") for each in verbose)


def test_a_step_that_takes_long_is_mentioned_now_and_then(tmp_path: Path) -> None:
    text = """
        name: Long
        steps:
          - {id: quick, toy.act: {seconds: 4s}}
          - {id: slow, toy.act: {seconds: 200s}}
    """
    stream = io.StringIO()
    view = PlainView(Writer(stream))
    run = Recorded(tmp_path, text, observers=[view])
    run.runner.tick = 1.0
    run.run()
    mentioned = [each for each in stream.getvalue().splitlines() if "running" in each]
    assert all("slow" in each for each in mentioned)
    assert [each.split()[-1] for each in mentioned] == ["5.0s", "1m05s", "2m05s", "3m05s"]


def test_lines_are_written_above_a_question() -> None:
    stream = io.StringIO()
    writer = Writer(stream)
    writer.ask("really? ")
    writer.lines([line(Span("something", "bad"))])
    writer.drop()
    writer.lines([line("more")])
    assert stream.getvalue() == "really? \r\x1b[Ksomething\nreally? \r\x1b[Kmore\n"
