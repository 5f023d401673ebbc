"""Journals that were written before still fold, show and resume, and mean what they meant.

``journals/`` holds runs as an earlier version left them: journal, runbook, and what its state and
the state after a resume came to. They are never written anew when the engine changes; a new kind
of run is added with ``python -m tests.report.test_old_journals NAME``.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import pytest

from engine.journal import Journal
from engine.model import Runbook
from engine.report.gather import gather
from engine.report.next_steps import CommandLines, advise
from engine.report.showing import show, timeline
from engine.state import RunState
from tests.report.old_runs import OLD_RUNS
from tests.report.recorded import MemoryDisk, Recorded
from tests.report.test_told_runs import text

FOLDER = Path(__file__).parent / "journals"
KEPT = sorted(each.name for each in FOLDER.iterdir() if each.is_dir())


def meaning(state: RunState) -> dict[str, Any]:
    """What a state says, in words that no restructuring changes."""
    nodes = state.plan.nodes
    return {
        "life": state.life,
        "outcome": state.outcome,
        "finished": state.finished,
        "stop": state.stop.kind if state.stop else None,
        "failure": state.failure.summary if state.failure else None,
        "steps": {
            nodes[index].path: _step(state, index)
            for index in sorted(state.steps)
            if state.steps[index].status != "pending"
        },
        "ready": [nodes[index].path for index, _ in state.ready],
        "in doubt": [nodes[index].path for index, _ in state.doubts],
        "gates": [nodes[index].path for index in state.gates],
        "undoable": [nodes[index].path for index in state.undoable],
        "undone": {nodes[index].path: status for index, status in state.undone.items()},
        "registered": sorted(name for _, name in state.registered),
        "timers": sorted(
            [kind, nodes[index].path, which, at]
            for (kind, index, which), at in state.timers.all().items()
        ),
    }


def _step(state: RunState, index: int) -> dict[str, Any]:
    step = state.steps[index]
    group = step.group
    return {
        "status": step.status,
        "opened": step.opened,
        "finished": step.finished,
        "reason": step.reason,
        "ignored": step.ignored,
        "failure": step.failure.summary if step.failure else None,
        "latch": group.latch.summary if group and group.latch else None,
        "phase": group.phase if group else None,
        "tasks": [[task.life, task.attempt, task.changed, task.message] for task in step.tasks],
        "guards": [[guard.last, guard.observations] for guard in group.guards] if group else [],
    }


def reopened(name: str) -> Recorded:
    """A kept run."""
    folder = FOLDER / name
    runbook = msgspec.json.decode((folder / "runbook.json").read_bytes(), type=Runbook)
    return Recorded.reopened(runbook, (folder / "journal.jsonl").read_bytes())


def goes_on(run: Recorded) -> bool:
    """Whether the run can be resumed."""
    return run.state.life != "finished" and not (
        run.state.stop is not None and run.state.stop.kind == "preempted"
    )


def after(run: Recorded) -> dict[str, Any]:
    """What it comes to once a new process has carried it on."""
    before = run.state.seq
    if goes_on(run):
        run.resume()
    added = [
        [type(each.event).__name__, getattr(each.event, "step", None)]
        for each in run.records[before:]
    ]
    return {"events": added, **meaning(run.state)}


def kept(name: str, file: str) -> Any:
    """What the earlier version made of a run."""
    return json.loads((FOLDER / name / file).read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", KEPT)
def test_a_journal_that_was_written_before_folds_to_the_same_state(name: str) -> None:
    assert json.loads(json.dumps(meaning(reopened(name).state))) == kept(name, "state.json")


@pytest.mark.parametrize("name", KEPT)
def test_a_run_that_was_begun_before_ends_in_the_same_way(name: str) -> None:
    assert json.loads(json.dumps(after(reopened(name)))) == kept(name, "resumed.json")


@pytest.mark.parametrize("name", KEPT)
def test_a_run_that_was_recorded_before_can_be_told(name: str) -> None:
    run = reopened(name)
    facts = gather(run.plan, run.state, run.records, now=run.clock.now())
    advice = advise(facts, CommandLines())
    shown = text(show(facts, run.plan, advice, "journal.jsonl", diffs=True))
    shown += text(timeline(run.plan, run.records))
    for path, step in kept(name, "state.json")["steps"].items():
        if step["status"] != "not_run":
            assert path.rpartition("/")[2].partition(".")[0] in shown


@pytest.mark.parametrize("name", KEPT)
def test_an_event_is_still_written_as_it_was_written_before(name: str) -> None:
    run = reopened(name)
    disk = MemoryDisk()
    journal = Journal(disk)
    for record in run.records:
        journal.append(record.event, record.time)
    journal.sync()
    assert disk.data == (FOLDER / name / "journal.jsonl").read_bytes()


def main(names: list[str]) -> None:
    """Record runs that are not kept yet."""
    for name in names or OLD_RUNS:
        target = FOLDER / name
        if target.exists():
            continue
        target.mkdir()
        with tempfile.TemporaryDirectory() as folder:
            run = OLD_RUNS[name](Path(folder))
        runbook = msgspec.structs.replace(run.runbook, root=".", folders=(), sources={})
        (target / "runbook.json").write_bytes(msgspec.json.encode(runbook))
        run.journal.sync()
        (target / "journal.jsonl").write_bytes(run.disk.data)
        for file, made in (("state", meaning(run.state)), ("resumed", after(reopened(name)))):
            content = json.dumps(made, indent=1, ensure_ascii=False) + "\n"
            (target / f"{file}.json").write_text(content, encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
