"""What the command line says about a run, and whether it fits the runbook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import UsageError
from engine.events import Person
from engine.inventory import Inventory
from engine.model import Runbook
from engine.module_api import Mode
from engine.plan import Plan
from engine.registry import Registry
from engine.scheduler import DEFAULT_FORKS
from engine.text import did_you_mean


class Options(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the command line says about a run. Paths are as given, relative to `RunInfo.cwd`."""

    inventory: str | None = None
    more_inventories: tuple[str, ...] = ()
    """Those of further ``-i``."""
    extra: dict[str, Any] = {}
    check: bool = False
    tags: tuple[str, ...] = ()
    skip_tags: tuple[str, ...] = ()
    limit: str | None = None
    forks: int = DEFAULT_FORKS
    force: bool = False
    reason: str = ""
    yes: bool = False
    modules: tuple[str, ...] = ()
    simulate: bool = False

    @property
    def mode(self) -> Mode:
        """How the run treats the world."""
        if self.simulate:
            return "simulate"
        return "check" if self.check else "run"


def approver(options: Options, by: Person, *, forced_by: Person | None = None) -> Person | None:
    """Who answers every gate with yes, if anybody does: whoever says ``--yes`` now, or whoever
    said ``--force`` when the run was started (`forced_by`; None: that is now)."""
    if options.force:
        forced_by = forced_by or by
        return Person(forced_by.name, forced_by.host, f"{forced_by.via}, by --force")
    return Person(by.name, by.host, f"{by.via}, by --yes") if options.yes else None


def registry_for(runbook_path: str, folders: Sequence[str] = ()) -> Registry:
    """The modules a runbook can use: built in, beside it, from ``--modules``, installed."""
    beside = Path(runbook_path).parent / "modules"
    return Registry([*([beside] if beside.is_dir() else []), *(Path(each) for each in folders)])


def check_options(runbook: Runbook, options: Options) -> None:
    """Refuse options that do not fit the runbook."""
    if options.force and not runbook.preempts:
        raise UsageError(
            f"--force: {runbook.file} does not say `preempts: true`, so it takes nothing over",
            hint="use --yes if you want to approve its confirmations",
        )


def refuse_what_cannot_be_simulated(plan: Plan, registry: Registry) -> None:
    """Raise UsageError for actions that say nothing of a simulated world, naming all of them."""
    lacking: dict[str, str] = {}
    for node in plan.steps():
        calls = [node.step.call] if node.step is not None and node.step.call is not None else []
        for call in [*calls, *(guard.call for guard in node.guards)]:
            info = registry.action(call.action)
            if info is not None and not info.simulates:
                lacking.setdefault(info.name, node.path)
    if lacking:
        listed = ", ".join(f"{name} (step {path})" for name, path in lacking.items())
        raise UsageError(
            f"--simulate: these actions do not say what happens in a simulated world: {listed}",
            hint="give each a companion with `@….simulate` (docs/writing-modules.md)",
        )


def extra_vars(runbook: Runbook, extra: Mapping[str, Any]) -> dict[str, Any]:
    """What was given with ``-e`` and is no input: variables, above all others."""
    return {name: value for name, value in extra.items() if name not in runbook.inputs}


def known_extras(plan: Plan, inventory: Inventory, extra: Mapping[str, Any]) -> None:
    """Raise UsageError for a name of ``-e`` that nothing reads."""
    if not extra:
        return
    known = dict.fromkeys((*plan.runbook.inputs, *plan.runbook.vars))
    for node in plan.steps():
        assert node.step is not None
        known.update(dict.fromkeys(node.step.vars or ()))
        known.update(dict.fromkeys(node.step.included.vars if node.step.included else ()))
    known.update(inventory.variable_names())
    for name in extra:
        if name not in known:
            hint = did_you_mean(name, known, what="there are")
            raise UsageError(
                f"-e {name}=…: neither the runbook nor the inventory has an input or variable "
                f"'{name}'",
                hint=hint or "declare it under `inputs:`, so that it is checked",
            )
