"""What the engine itself costs: steps that do nothing, with a journal that is synced as always.

Runner, scheduler, fold, evaluator and journal are the real ones; only the action does nothing,
on the runner's own thread. The floor is what no engine with such a journal can go below: a step
is two events, so two appends of 200 bytes, each confirmed by the disk. Both take turns in the same
folder, and of both the best round counts: whatever else the machine does can only add to them.
Run it alone: ``python -m benchmarks.core``.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.figures import Figure
from engine.clock import Mailbox, SystemClock
from engine.evaluation import Material, StepEvaluator
from engine.events import Person, RunStarted
from engine.executor import Services, ThreadExecutor
from engine.fold import fold
from engine.inventory import Inventory
from engine.journal import FileDisk, Journal, read
from engine.model import Block, Call, Place, Runbook, Step
from engine.plan import build_plan
from engine.redaction import Redactor
from engine.registry import Registry
from engine.runner import Parts, Runner
from engine.state import RunState
from engine.templating import Templates

MODULE = '''
"""A module whose action does nothing."""

from engine.module_api import Context, Result, action


@action(effect="read", inline=True)
def nothing(ctx: Context) -> Result:
    """Do nothing."""
    return Result()


@action(effect="read", inline=True)
def echo(ctx: Context, value: int) -> Result:
    """Give a value back."""
    return Result(data={"value": value})
'''

CHAIN = 1_000
WIDE = 10_000
HUGE = 100_000
READING = 2_000
ROUNDS = 9
HUGE_MEGABYTES = 600
FOLD_SECONDS = 3


def runbook(steps: int, *, chained: bool) -> Runbook:
    """So many steps that do nothing: each after the one before, or all at once."""
    place = Place("bench.yml", 1, 1)
    call = Call("bench.nothing", {}, "read", place, literal=True)
    made = tuple(
        Step(
            f"s{number}", place, call=call, needs=(f"s{number - 1}",) if chained and number else ()
        )
        for number in range(steps)
    )
    return Runbook(file="bench.yml", name="Bench", block=Block(made, place))


def reading(steps: int) -> Runbook:
    """A chain of so many steps, each of which reads what the one before has registered."""
    place = Place("bench.yml", 1, 1)
    made = tuple(
        Step(
            f"s{number}",
            place,
            call=Call(
                "bench.echo",
                {"value": f"{{{{ r{number - 1}.value + 1 }}}}" if number else 0},
                "read",
                place,
            ),
            needs=(f"s{number - 1}",) if number else (),
            register=f"r{number}",
        )
        for number in range(steps)
    )
    return Runbook(file="bench.yml", name="Bench", block=Block(made, place))


def run(book: Runbook, folder: Path) -> float:
    """Seconds that a run takes, from its first event to its last; its journal stays in `folder`."""
    (folder / "bench.py").write_text(MODULE)
    path = folder / "journal.jsonl"
    path.unlink(missing_ok=True)
    plan = build_plan(book)
    state = RunState(plan)
    clock, mailbox = SystemClock(), Mailbox()
    services = Services(run_id="bench", clock=clock, root=folder)
    material = Material(
        plan=plan,
        inventory=Inventory(),
        registry=Registry([folder]),
        templates=Templates(),
        services=services,
        redactor=Redactor(),
    )
    runner = Runner(
        Parts(
            plan=plan,
            state=state,
            journal=Journal(FileDisk(path)),
            clock=clock,
            mailbox=mailbox,
            executor=ThreadExecutor(mailbox),
            evaluator=StepEvaluator(material),
        )
    )
    start = time.perf_counter()
    runner.append(RunStarted("bench", "bench.yml", "Bench", "run", Person("bench"), "0"))
    runner.run()
    taken = time.perf_counter() - start
    runner.journal.close()
    if state.outcome != "succeeded":
        raise SystemExit(f"the run ended as {state.outcome}: {state.failure}")
    return taken


def two_appends(folder: Path, times: int = 500) -> float:
    """The floor: seconds for two appends of 200 bytes, each confirmed by the disk; the mean."""
    line = b"x" * 199 + b"\n"
    path = folder / "floor"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        start = time.perf_counter()
        for _ in range(2 * times):
            os.write(descriptor, line)
            os.fdatasync(descriptor)
        return (time.perf_counter() - start) / times
    finally:
        os.close(descriptor)
        path.unlink()


def against_floor(steps: int, *, chained: bool, rounds: int) -> tuple[float, float]:
    """Seconds per step, and the floor: the best of rounds in which both take turns."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        book = runbook(steps, chained=chained)
        floors, works = [two_appends(folder)], []
        for _ in range(rounds):
            works.append(run(book, folder) / steps)
            floors.append(two_appends(folder))
    return min(works), min(floors)


def small_runs() -> list[Figure]:
    """A chain, and steps that can all run at once."""
    chain, floor = against_floor(CHAIN, chained=True, rounds=ROUNDS)
    wide, floor_too = against_floor(WIDE, chained=False, rounds=3)
    what = "two appends with fdatasync"
    return [
        Figure("1,000 no-op steps in a chain, per step", chain, floor, 3.0, what),
        Figure("10,000 independent no-op steps, per step", wide, floor_too, 1.0, what),
    ]


def reading_runs() -> list[Figure]:
    """What a template costs must not grow with how much was registered before."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        few = min(run(reading(READING // 10), folder) / (READING // 10) for _ in range(3))
        many = min(run(reading(READING), folder) / READING for _ in range(3))
    what = f"the same of {READING // 10}"
    return [Figure(f"{READING:,} steps that read the one before, per step", many, few, 1.3, what)]


def huge_run() -> list[Figure]:
    """100,000 steps against 1,000, each in a process of its own; and folding the journal."""
    with tempfile.TemporaryDirectory() as name:
        small = min(_in_process(CHAIN, name)["per_step"] for _ in range(ROUNDS))
        taken = [_in_process(HUGE, name) for _ in range(3)]
    huge = {key: min(each[key] for each in taken) for key in taken[0]}
    return [
        Figure("100,000 no-op steps, per step", huge["per_step"], small, 1.3, "the same of 1,000"),
        Figure("  peak memory", huge["megabytes"], HUGE_MEGABYTES, 1.0, "the limit", "MB"),
        Figure("  folding its journal", huge["fold"], 1.0, FOLD_SECONDS, "1 s"),
    ]


def _in_process(steps: int, folder: str) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.core", str(steps), folder]
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, cwd=root)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _one(steps: int, folder: Path) -> dict[str, float]:
    """A run of so many independent steps and the folding of its journal, for `_in_process`."""
    book = runbook(steps, chained=False)
    taken = run(book, folder)
    plan = build_plan(book)
    start = time.perf_counter()
    state = fold(plan, read(folder / "journal.jsonl"))
    folded = time.perf_counter() - start
    if state.outcome != "succeeded":
        raise SystemExit("the journal folds to another outcome")
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {"per_step": taken / steps, "megabytes": kilobytes / 1024, "fold": folded}


ALL: tuple[Callable[[], list[Figure]], ...] = (small_runs, reading_runs, huge_run)

if __name__ == "__main__":
    if len(sys.argv) > 2:
        print(json.dumps(_one(int(sys.argv[1]), Path(sys.argv[2]))))
    else:
        for measure in ALL:
            for figure in measure():
                print(figure)
