"""What a process that carries a run is made of: one description, and one function that builds it.

Beginning a run, resuming one, and simulating one differ in their `Description` and nowhere else.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

import msgspec

from engine.clock import Clock, Mailbox, SystemClock
from engine.evaluation import Material, StepEvaluator
from engine.events import Person, StopRequested
from engine.executor import Executor, Services, ThreadExecutor
from engine.inventory import Inventory, Secrets
from engine.journal import Journal
from engine.module_api import Mode
from engine.plan import Plan
from engine.redaction import Redactor
from engine.redaction.written import literal_secrets
from engine.registry import Registry
from engine.runner import Caution, Observer, Parts, Progress, Runner
from engine.session.options import Options, extra_vars
from engine.state import RunState
from engine.store import LockKeeper, OwnedLocks, RunEntry, Store, loss_text
from engine.templating import Entries, Scope, Templates

Addresses: TypeAlias = Callable[[str], Any]
"""``lab('app_url')`` of templates: where a part of the lab is to be found."""


class LabFinder(Protocol):
    """Knows where the lab of a folder is, once an inventory asks; whoever starts runs has one."""

    def __call__(self, folder: Path, mask: Callable[[str], object]) -> Addresses:
        """The addresses of the lab of a folder; `mask` hides a value that is handed out."""
        ...


class Surroundings(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """What a process brings along to carry a run, whichever run it is."""

    store: Store
    by: Person | None = None
    """Who is at work; None: whoever this process belongs to."""
    attended: bool = False
    """Whether somebody can be asked."""
    observers: Sequence[Observer] = ()
    tick: float | None = None
    """The longest time in seconds without a look around."""
    lab: LabFinder | None = None
    clock: Callable[[float], Clock] = SystemClock
    """Makes the clock of a run that begins no earlier than the given epoch seconds."""
    executor: Callable[[Mailbox], Executor] = ThreadExecutor
    world: Callable[[Callable[[str], Mapping[str, Any]]], Any] | None = None
    """Makes the world of a simulated run from the sections of its inventory."""
    locks: LockKeeper | None = None
    """Keeps the locks of that world; None: nobody else takes part in it."""
    warm_up: float = 0.0
    """Seconds for which that world has been running when the run begins."""
    secret: Callable[[str], str] | None = None
    """Knows secrets by their names, where those of the inventory are not to be looked up."""


class Description(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """Everything that a run is carried with in this process."""

    plan: Plan
    inventory: Inventory
    registry: Registry
    options: Options
    mode: Mode
    entry: RunEntry
    journal: Journal
    state: RunState
    clock: Clock
    surroundings: Surroundings
    approver: Person | None = None
    """Answers every gate with yes."""


class Assembly(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The parts, put together; each knows those that it needs."""

    mailbox: Mailbox
    redactor: Redactor
    locks: OwnedLocks | None
    templates: Templates
    services: Services
    evaluator: StepEvaluator
    runner: Runner


def assemble(description: Description) -> Assembly:
    """Build what carries the run. Nothing is begun, and no lock is taken."""
    run, around = description, description.surroundings
    mailbox, redactor = Mailbox(), Redactor()
    locks = _locks(run)
    secrets = Secrets(
        run.inventory,
        mask=redactor.add,
        warn=lambda text: mailbox.put(Caution("", text)),
    )
    for value in _written(run):
        redactor.add(value)
    secret = around.secret or secrets.get
    if around.secret is None:
        secrets.prepare([] if run.state.life == "new" else _secrets_named_in(run.entry))
    templates = Templates(
        secret=secret,
        lab=around.lab(around.store.local, redactor.add) if around.lab is not None else None,
        now=run.clock.now,
    )
    services = _services(run, mailbox, redactor, templates, secret)
    services.fence = locks or services.fence
    evaluator = StepEvaluator(_material(run, templates, services, redactor))
    return Assembly(
        mailbox=mailbox,
        redactor=redactor,
        locks=locks,
        templates=templates,
        services=services,
        evaluator=evaluator,
        runner=_runner(run, mailbox, locks, evaluator),
    )


def _services(
    run: Description,
    mailbox: Mailbox,
    redactor: Redactor,
    templates: Templates,
    secret: Callable[[str], str],
) -> Services:
    """What the tasks share, but the fence."""
    around = run.surroundings
    section = _Sections(run, templates)
    return Services(
        run_id=run.entry.run_id,
        clock=run.clock,
        root=Path(run.plan.runbook.root),
        folders=[Path(each) for each in run.plan.runbook.folders],
        logs=run.entry.logs,
        section=section,
        secret=secret,
        mask=redactor.add,
        masked=redactor.mask,
        report=lambda step, task, text: mailbox.put(Progress(step, task, text)),
        warn=lambda step, text: mailbox.put(Caution(step, text)),
        world=around.world(section) if around.world is not None else None,
    )


def _written(run: Description) -> Iterator[str]:
    """Secrets that stand literally in the inventory or in the runbook's variables."""
    inventory = run.inventory
    groups = {name: group.vars for name, group in inventory.groups.items()}
    yield from literal_secrets([run.plan.runbook.vars, inventory.vars, inventory.endpoints])
    yield from literal_secrets([inventory.metrics, inventory.sections, inventory.hosts, groups])


def _material(
    run: Description, templates: Templates, services: Services, redactor: Redactor
) -> Material:
    return Material(
        plan=run.plan,
        inventory=run.inventory,
        registry=run.registry,
        templates=templates,
        services=services,
        redactor=redactor,
        extra=extra_vars(run.plan.runbook, run.options.extra),
        mode=run.mode,
        limit=run.options.limit,
    )


def _runner(
    run: Description, mailbox: Mailbox, locks: OwnedLocks | None, evaluator: StepEvaluator
) -> Runner:
    around = run.surroundings
    return Runner(
        Parts(
            plan=run.plan,
            state=run.state,
            journal=run.journal,
            clock=run.clock,
            mailbox=mailbox,
            executor=around.executor(mailbox),
            evaluator=evaluator,
            forks=run.options.forks,
            observers=around.observers,
            approver=run.approver,
            lost=lambda: _lost(locks),
            tick=around.tick,
        )
    )


def _locks(run: Description) -> OwnedLocks | None:
    """The run's locks, for a run that changes the world, be it a simulated one."""
    names, around = run.plan.runbook.locks, run.surroundings
    keeper = around.store if run.mode == "run" else around.locks
    if not names or run.mode == "check" or keeper is None:
        return None
    return OwnedLocks(keeper, names, run.entry.run_id)


def _lost(locks: OwnedLocks | None) -> StopRequested | None:
    """Why the run has to stop, if somebody took a lock of it."""
    record = locks.lost() if locks is not None else None
    if record is None:
        return None
    why = f": {record.reason}" if record.reason else ""
    return StopRequested("preempted", record.by, f"{loss_text(record)}{why}")


class _Sections:
    """Sections of the inventory, their entries rendered when a module first asks for them."""

    def __init__(self, run: Description, templates: Templates) -> None:
        self._vars = run.plan.runbook.vars
        self._inventory = run.inventory
        self._extra = extra_vars(run.plan.runbook, run.options.extra)
        self._templates = templates
        self._sections: dict[str, Mapping[str, Any]] = {}

    def __call__(self, name: str) -> Mapping[str, Any]:
        """The section of that name; empty if there is none."""
        section = self._sections.get(name)
        if section is None:
            scope = Scope(
                vars=self._vars,
                extra=self._extra,
                inventory=self._inventory.variables(),
                place=f"inventory, {name}",
            )
            section = self._sections[name] = Entries(
                self._inventory.section(name), scope, self._templates
            )
        return section


def _secrets_named_in(entry: RunEntry) -> list[str]:
    """Names of the secrets that the runbook of a run asks for; its steps may have done so."""
    text = msgspec.json.encode(entry.runbook()).decode()
    return re.findall(r"""\bsecret\(\s*\\?['"](\w+)""", text)
