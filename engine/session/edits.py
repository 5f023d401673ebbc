"""A runbook that was edited meanwhile: what may differ when a run goes on, and what may not.

Only tasks that have not started may differ: neither may a run do what it never announced, nor may a
good run be stranded because somebody corrected a step that is still to come.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import IllegalEvent, ResumeRefused
from engine.events import Record
from engine.fold import fold
from engine.inventory import Inventory
from engine.model import Runbook
from engine.plan import Plan
from engine.state import RunState, Status
from engine.store import RunEntry, RunInfo
from engine.templating.references import references


def compare_plans(
    old: Plan, new: Plan, state: RunState, redone: frozenset[str] = frozenset()
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Paths that differ but have not been started, and paths that differ though they have.

    A step that a person has run again (`redone`) may differ, with all that is inside it.
    """
    begun = {
        old.nodes[index].path: step.status
        for index, step in state.steps.items()
        if step.status != "not_run"
    }
    new.grow_as(old)
    changed: list[str] = []
    refused: list[str] = []
    for path in dict.fromkeys([*old.by_path, *new.by_path]):
        if _same(old, new, path):
            continue
        free = path not in begun and not _in_what_is_over(new, path, begun)
        free = free or _is_redone(old, new, path, redone)
        (changed if free else refused).append(path or "the run's own settings")
    for name in _changed_vars(old.runbook, new.runbook):
        readers = [path for path in begun if _reads(old, path, name)]
        refused += [f"variable {name}, which {path} has read" for path in readers]
        changed += [] if readers else [f"variable {name}"]
    return tuple(changed), tuple(refused)


def _same(old: Plan, new: Plan, path: str) -> bool:
    before, after = old.by_path.get(path), new.by_path.get(path)
    if before is None or after is None:
        return False
    a, b = old.nodes[before], new.nodes[after]
    needs_a = [old.nodes[need].path for need in a.needs]
    needs_b = [new.nodes[need].path for need in b.needs]
    return sorted(needs_a) == sorted(needs_b) and old.digest(a) == new.digest(b)


def _in_what_is_over(new: Plan, path: str, begun: Mapping[str, Status]) -> bool:
    """Whether a step or block stands where nothing begins any more; an undo still may, and so may
    what is in a group that failed, once a person takes that back."""
    if path not in new.by_path:
        return False
    node = new.node(path)
    for up in new.ancestors(node):
        if node.role != "undo" and begun.get(up.path) in ("succeeded", "skipped", "rescued"):
            return True
        node = up
    return False


def _is_redone(old: Plan, new: Plan, path: str, redone: frozenset[str]) -> bool:
    """Whether a path belongs to what is run again; tasks that succeeded keep their items."""
    for name in redone:
        if path == name or path.startswith((f"{name}/", f"{name}.")):
            before, after = old.by_path.get(name), new.by_path.get(name)
            a = old.nodes[before].step if before is not None else None
            b = new.nodes[after].step if after is not None else None
            return a is not None and b is not None and (a.fan, a.needs) == (b.fan, b.needs)
    return False


def _changed_vars(old: Runbook, new: Runbook) -> list[str]:
    names = dict.fromkeys([*old.vars, *new.vars])
    return [
        name
        for name in names
        if name not in old.vars or name not in new.vars or old.vars[name] != new.vars[name]
    ]


def _reads(plan: Plan, path: str, name: str) -> bool:
    """Whether a step reads a variable of the runbook, or one that is made of it."""
    vars = plan.runbook.vars
    step = plan.node(path).step
    if step is None:
        return False
    plain = msgspec.to_builtins(step)
    for inner in ("block", "undo", "rescue", "always", "place", "id", "name", "needs"):
        plain.pop(inner, None)
    reads: set[str] = set()
    waiting = [plain]
    while waiting:
        names = {each for each in _names_in(waiting.pop()) if each in vars} - reads
        reads |= names
        waiting += [vars[each] for each in names]
    return name in reads


def _names_in(value: Any) -> Iterator[str]:
    """The names that templates and expressions in a value read; a text may be either."""
    if isinstance(value, str):
        yield from references(value, expression="{{" not in value and "{%" not in value).names
    elif isinstance(value, dict):
        for each in value.values():
            yield from _names_in(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _names_in(each)


def changed_inventory(folder: RunEntry, info: RunInfo, inventory: Inventory) -> tuple[str, ...]:
    """A file of the inventory that says something else than when the run was started."""
    files = {info.inventory, *(str(Path(name).absolute()) for name in inventory.files)}
    for name, path in info.sources.items():
        if path in files:
            with contextlib.suppress(OSError):
                kept = folder.source(name)
                if kept is not None and kept != Path(path).read_bytes():
                    return (f"inventory {name}",)
    return ()


def fold_anew(old: Plan, before: RunState, new: Plan, records: Sequence[Record]) -> RunState:
    """The state that the same events lead to in the changed runbook: where the run has been it
    has to be the same one."""
    try:
        state = fold(new, records)
        differs = [
            old.nodes[index].path
            for index, step in before.steps.items()
            if step.status != "not_run"
            and state.status(new.node(old.nodes[index].path)) != step.status
        ]
    except IllegalEvent as error:
        raise ResumeRefused(
            f"what this run has done does not fit the changed runbook: {error}",
            hint="put it back as it was (see `source/` in the run's folder), or start a new run",
        ) from error
    if differs:
        raise ResumeRefused(
            f"the runbook changed where this run has been already: {', '.join(differs)}"
        )
    return state
