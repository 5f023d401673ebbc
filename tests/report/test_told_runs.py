"""What people read of a run, compared word for word with files.

Run this file as a program (``python -m tests.report.test_told_runs``) to write ``golden/`` anew;
then read the difference.
"""

from __future__ import annotations

import contextlib
import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from engine.cli.plain import PlainView
from engine.cli.terminal import Writer
from engine.report.facts import RunFacts
from engine.report.gather import gather
from engine.report.next_steps import CommandLines, advise
from engine.report.showing import show, timeline
from engine.report.summary import summary
from engine.report.words import Line, text_of
from tests.report.recorded import RUN, Recorded
from tests.report.scenarios import SCENARIOS, success, undone

GOLDEN = Path(__file__).parent / "golden"
JOURNAL = f".ce-run/runs/{RUN}/journal.jsonl"


@contextlib.contextmanager
def recorded(scenario: str) -> Iterator[tuple[Recorded, str]]:
    """A scenario's run, and what was printed while it ran."""
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        printed = io.StringIO()
        view = PlainView(Writer(printed), diffs=scenario == "check")
        run = SCENARIOS[scenario](Path(folder), [view])
        yield run, printed.getvalue()


def facts_of(run: Recorded, *, records: bool = True) -> RunFacts:
    """What is known of the run."""
    return gather(run.plan, run.state, run.records if records else (), now=run.clock.now())


def text(lines: list[Line]) -> str:
    """Lines as they are printed without colours."""
    return "".join(f"{text_of(each)}\n" for each in lines)


def told(scenario: str) -> str:
    """Everything that is told of a scenario."""
    with recorded(scenario) as (run, printed):
        advice = advise(facts_of(run), CommandLines())
        parts = {
            "ce-run run": printed
            + text(summary(facts_of(run, records=False), run.plan, advice, JOURNAL)),
            "ce-run show --diff": text(show(facts_of(run), run.plan, advice, JOURNAL, diffs=True)),
            "ce-run show --events": text(timeline(run.plan, run.records)),
        }
        return "\n".join(f"$ {command}\n{output}" for command, output in parts.items())


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_run_is_told_as_in_the_file(scenario: str) -> None:
    assert told(scenario) == (GOLDEN / f"{scenario}.txt").read_text(encoding="utf-8")


def test_show_is_the_same_from_the_journal_alone(tmp_path: Path) -> None:
    run = success(tmp_path, [])
    again = gather(run.plan, run.folded(len(run.records)), run.records, now=run.clock.now())
    assert msgspec.json.encode(again) == msgspec.json.encode(facts_of(run))


def test_show_at_every_moment_of_a_run(tmp_path: Path) -> None:
    """A run is shown while it is under way, so every prefix of a journal has to be tellable."""
    run = undone(tmp_path, [])
    for count in range(1, len(run.records) + 1):
        state = run.folded(count)
        for alive in (True, False):
            facts = gather(run.plan, state, run.records[:count], now=state.time + 1.0, alive=alive)
            advice = advise(facts, CommandLines("/state"))
            page = text(show(facts, run.plan, advice, JOURNAL))
            assert facts.status in page.replace("dead, resumable", "dead") or facts.over
            assert all("--state /state" in each.command for each in advice)


def main() -> None:
    """Write the golden files anew."""
    for scenario in SCENARIOS:
        (GOLDEN / f"{scenario}.txt").write_text(told(scenario), encoding="utf-8")


if __name__ == "__main__":
    main()
