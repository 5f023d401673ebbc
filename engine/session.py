"""A session: one process carrying one run, put together from its parts and taken apart again.

`begin` starts a new run, `resume` goes on with an old one; both give a `Session` whose `run`
does the work. Here is decided what belongs to a run on disk (its folder, its runbook as it was),
who may run it (locks, preemption), what a signal means, and with which exit status it ends.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from engine import VERSION, journal
from engine.clock import Clock, Mailbox, SystemClock
from engine.errors import IllegalEvent, InvalidRunbook, JournalError, ResumeRefused, UsageError
from engine.evaluation import StepEvaluator
from engine.events import (
    AnyEvent,
    GateAnswered,
    LocksTaken,
    Overridden,
    Person,
    Record,
    RunResumed,
    RunStarted,
    RunStopped,
    StopRequested,
)
from engine.executor import NoFence, Services, ThreadExecutor
from engine.fold import apply, fold, override_refusal
from engine.inventory import Inventory, Secrets
from engine.lab.addresses import LabAddresses
from engine.loader import load
from engine.loader.inputs import convert_inputs
from engine.locks import OwnedLocks
from engine.model import Runbook
from engine.plan import Plan, build_plan
from engine.redaction import Redactor
from engine.registry import Registry
from engine.runner import Caution, Observer, Progress, Runner, Signal, Wake
from engine.runs import (
    Command,
    RunFolder,
    RunInfo,
    Runs,
    replace_file,
    this_person,
    write_private,
)
from engine.scheduler import DEFAULT_FORKS
from engine.state import RunState, Status
from engine.templating import Entries, Scope, Templates
from engine.templating.references import references
from engine.text import as_json, did_you_mean, writable

WATCH_INTERVAL = 0.1
"""Seconds between two looks at the run's control folder and its locks."""

EXIT_OUTCOME = {"succeeded": 0, "failed": 1, "rescued": 1, "undone": 1, "needs_person": 3}
EXIT_STOPPED = {"waiting": 5, "preempted": 6, "interrupted": 130}


class Options(msgspec.Struct, frozen=True, omit_defaults=True):
    """What the command line says about a run. Paths are as given, relative to `RunInfo.cwd`."""

    inventory: str | None = None
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


class Session:
    """A run in this process. `state` is live; read it from the runner's thread only."""

    def __init__(
        self,
        *,
        plan: Plan,
        inventory: Inventory,
        registry: Registry,
        folder: RunFolder,
        state_folder: Path,
        state: RunState,
        book: journal.Journal,
        options: Options,
        clock: Clock,
        attended: bool,
        observers: Sequence[Observer] = (),
        tick: float | None = None,
    ) -> None:
        self.plan = plan
        self.folder = folder
        self.state = state
        self.options = options
        self.clock = clock
        self.attended = attended
        self.mailbox = Mailbox()
        self.redactor = Redactor()
        self.locks: OwnedLocks | None = None
        if plan.runbook.locks and not options.check:
            self.locks = OwnedLocks(state_folder, plan.runbook.locks, folder.run_id)
        secrets = Secrets(inventory, mask=self.redactor.add, warn=self._warn)
        secrets.prepare([] if state.life == "new" else _secrets_named_in(folder))
        self.templates = Templates(
            secret=secrets.get,
            lab=LabAddresses(state_folder, self.redactor.add),
            now=clock.now,
        )
        self._inventory = inventory
        self._sections: dict[str, Mapping[str, Any]] = {}
        self.services = Services(
            run_id=folder.run_id,
            clock=clock,
            root=Path(plan.runbook.root),
            folders=[Path(each) for each in plan.runbook.folders],
            logs=folder.logs,
            fence=self.locks or NoFence(folder.run_id),
            section=self._section,
            secret=secrets.get,
            mask=self.redactor.add,
            masked=self.redactor.mask,
            report=lambda step, task, text: self.mailbox.put(Progress(step, task, text)),
            warn=lambda step, text: self.mailbox.put(Caution(step, text)),
        )
        self.evaluator = StepEvaluator(
            plan,
            inventory,
            registry,
            self.templates,
            self.services,
            self.redactor,
            extra=_extra_vars(plan.runbook, options.extra),
            check=options.check,
            limit=options.limit,
        )
        self.runner = Runner(
            plan=plan,
            state=state,
            journal=book,
            clock=clock,
            mailbox=self.mailbox,
            executor=ThreadExecutor(self.mailbox),
            evaluator=self.evaluator,
            forks=options.forks,
            observers=observers,
            approver=_approver(options),
            lost=self._lost,
            tick=tick,
        )
        self._book = book
        self._signal = ""

    def _warn(self, text: str) -> None:
        self.mailbox.put(Caution("", text))

    def _section(self, name: str) -> Mapping[str, Any]:
        """A section of the inventory, its entries rendered when a module first asks for them."""
        found = self._sections.get(name)
        if found is None:
            scope = Scope(
                vars=self.plan.runbook.vars,
                extra=self.evaluator.extra,
                inventory=self._inventory.variables(),
                place=f"inventory, {name}",
            )
            found = self._sections[name] = Entries(
                self._inventory.section(name), scope, self.templates
            )
        return found

    def run(self) -> int:
        """Work until the run ends or has to be left; the process's exit status.

        Raises JournalError when the journal could not be written.
        """
        _leave_no_core()
        with self._signals():
            try:
                with self._watch():  # ends before what it looks at is closed
                    self.runner.run()
            finally:
                self.close()
        return exit_status(self.state, self._signal)

    def take_locks(self, by: Person) -> None:
        """Own the run's locks, taking them over with ``--force``. Raises LockHeld."""
        if self.locks is None:
            return
        force = self.options.force and self.plan.runbook.preempts
        reason = self.options.reason or self.plan.runbook.name
        try:
            self.locks.take(by, self.clock.now(), reason, force=force)
        except OSError as error:
            raise JournalError(
                f"the run's locks cannot be written: {error.strerror or error}",
                hint="nothing was started; give a folder you can write to with --state",
            ) from error

    def close(self) -> None:
        """Let go of everything that the run held, whatever of it cannot be."""
        try:
            self.services.close()
            with contextlib.suppress(OSError):
                self._book.close()
            if self.locks is not None:
                self.locks.release()
        finally:
            self.folder.disown()

    def _lost(self) -> StopRequested | None:
        record = self.locks.lost() if self.locks is not None else None
        if record is None:
            return None
        run = record.run or ("" if record.unlocked else record.last)
        who = f"run {run}" if run else "an operator (`ce-run unlock`)"
        why = f": {record.reason}" if record.reason else ""
        return StopRequested("preempted", record.by, f"{who} took over {record.name}{why}")

    # -- signals and other shells -----------------------------------------------------------------
    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """The first SIGINT or SIGTERM asks to leave, a second SIGINT leaves at once.

        So does a terminal that went away (SIGHUP), unless the run is to outlive it (nohup).
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return

        def handle(number: int, frame: object) -> None:
            name = signal.Signals(number).name
            if self._signal and number == signal.SIGINT:
                os._exit(130)
            self._signal = self._signal or name
            self.mailbox.put(Signal(name))

        asking = [signal.SIGINT, signal.SIGTERM]
        if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
            asking.append(signal.SIGHUP)
        before = {each: signal.signal(each, handle) for each in asking}
        try:
            yield
        finally:
            for each, former in before.items():
                signal.signal(each, former)

    @contextlib.contextmanager
    def _watch(self) -> Iterator[None]:
        """A thread that passes on what other shells say, wakes the runner for its locks, and leaves
        signs of life."""
        over = threading.Event()

        def look() -> None:
            while not over.wait(WATCH_INTERVAL):
                with contextlib.suppress(UsageError, OSError):
                    self.folder.beat(self.clock.now())
                    for command in self.folder.take_commands():
                        self.mailbox.put(command)
                with contextlib.suppress(OSError):
                    if self.locks is not None and self.locks.lost() is not None:
                        self.mailbox.put(Wake())

        thread = threading.Thread(target=look, name="watch", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()


def _leave_no_core() -> None:
    """The memory of a process that crashes holds secrets; it shall not become a file."""
    import resource

    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, hard))


def _secrets_named_in(folder: RunFolder) -> list[str]:
    """Names of the secrets that the runbook of a run asks for; its steps may have done so."""
    text = (folder.path / "runbook.json").read_text(encoding="utf-8")
    return re.findall(r"""\bsecret\(\s*\\?['"](\w+)""", text)


def _approver(options: Options) -> Person | None:
    if not (options.yes or options.force):
        return None
    by = this_person()
    word = "--force" if options.force else "--yes"
    return Person(by.name, by.host, f"{by.via}, by {word}")


def exit_status(state: RunState, signal_name: str = "") -> int:
    """The status of design §3 for a run that this process is done with."""
    if state.life == "finished":
        return EXIT_OUTCOME[state.outcome or "failed"]
    kind = state.stop.kind if state.stop is not None else "interrupted"
    if kind == "interrupted" and signal_name:
        return 128 + signal.Signals[signal_name]
    return EXIT_STOPPED[kind]


# -- beginning ------------------------------------------------------------------------------------
def begin(
    runbook_path: str,
    options: Options,
    *,
    state_folder: Path,
    attended: bool = False,
    observers: Sequence[Observer] = (),
    tick: float | None = None,
    by: Person | None = None,
) -> Session:
    """A new run, started in the journal and owning its locks.

    Raises InvalidRunbook, UsageError (inputs), LockHeld, JournalError; then nothing is left.
    """
    options = msgspec.structs.replace(
        options, extra=as_json(options.extra), reason=writable(options.reason)
    )
    registry = registry_for(runbook_path, options.modules)
    runbook, inventory = load(
        runbook_path, registry=registry, inventory_path=options.inventory, strict=True
    )
    check_options(runbook, options)
    inputs = convert_inputs(runbook.inputs, options.extra)
    plan = build_plan(runbook, tags=options.tags, skip_tags=options.skip_tags)
    _known_extras(plan, inventory, options.extra)
    by = by or this_person()
    clock = SystemClock()
    folder = _create_folder(state_folder, runbook, inventory, options, clock.now())
    try:
        session = Session(
            plan=plan,
            inventory=inventory,
            registry=registry,
            folder=folder,
            state_folder=state_folder,
            state=RunState(plan),
            book=journal.Journal(journal.FileDisk(folder.journal_path)),
            options=options,
            clock=clock,
            attended=attended,
            observers=observers,
            tick=tick,
        )
        session.take_locks(by)
    except BaseException:
        folder.disown()
        shutil.rmtree(folder.path, ignore_errors=True)
        raise
    session.runner.append(
        RunStarted(
            run=folder.run_id,
            runbook=runbook.file,
            name=runbook.name,
            mode="check" if options.check else "run",
            by=by,
            version=VERSION,
            attended=attended,
            inputs=inputs,
            extra=options.extra,
            options=msgspec.to_builtins(options),
            reason=session.redactor.mask(options.reason),
        )
    )
    _note_locks(session)
    return session


def _note_locks(session: Session) -> None:
    if session.locks is not None:
        session.runner.append(LocksTaken(session.locks.tokens, session.locks.over))


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


def _extra_vars(runbook: Runbook, extra: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in extra.items() if name not in runbook.inputs}


def _known_extras(plan: Plan, inventory: Inventory, extra: Mapping[str, Any]) -> None:
    if not extra:
        return
    known = dict.fromkeys((*plan.runbook.inputs, *plan.runbook.vars))
    for node in plan.steps():
        assert node.step is not None
        known.update(dict.fromkeys(node.step.vars or ()))
        known.update(dict.fromkeys(node.step.included.vars if node.step.included else ()))
    for layer in (inventory.vars, *(each.vars for each in inventory.groups.values())):
        known.update(dict.fromkeys(layer))
    for host in inventory.hosts.values():
        known.update(dict.fromkeys(host))
    for name in extra:
        if name not in known:
            hint = did_you_mean(name, known, what="there are")
            raise UsageError(
                f"-e {name}=…: neither the runbook nor the inventory has an input or variable "
                f"'{name}'",
                hint=hint or "declare it under `inputs:`, so that it is checked",
            )


def _create_folder(
    state_folder: Path, runbook: Runbook, inventory: Inventory, options: Options, now: float
) -> RunFolder:
    label = Path(runbook.file).stem.replace("_", "-")
    sources = _sources(runbook, inventory)
    info = RunInfo(
        run="",
        runbook=str(Path(runbook.file).absolute()),
        inventory=str(Path(inventory.file).absolute()) if inventory.file else None,
        cwd=str(Path.cwd()),
        options=msgspec.to_builtins(options),
        sources={name: str(path) for name, path in sources.items()},
    )
    try:
        folder = Runs(state_folder).create(label, now, info, sources)
        write_private(folder.path / "runbook.json", msgspec.json.encode(runbook), synced=True)
        for each in (folder.path, folder.path.parent, state_folder):
            journal.sync_folder(each)
    except OSError as error:
        raise JournalError(
            f"no run can be recorded in {state_folder}: {error.strerror or error}",
            hint="nothing was started; give a folder you can write to with --state",
        ) from error
    return folder


def _sources(runbook: Runbook, inventory: Inventory) -> dict[str, Path]:
    """Names below ``source/`` for every file that the run was made from."""
    files = [Path(name).absolute() for name in (runbook.file, *runbook.sources)]
    if inventory.file:
        files.append(Path(inventory.file).absolute())
    unique = list(dict.fromkeys(files))
    common = Path(os.path.commonpath([file.parent for file in unique]))
    return {str(file.relative_to(common)): file for file in unique if file.is_file()}


# -- going on -------------------------------------------------------------------------------------
class Decision(msgspec.Struct, frozen=True):
    """What an operator decides about a step before a resume."""

    step: str
    decision: str
    reason: str = ""


def resume(
    folder: RunFolder,
    *,
    state_folder: Path,
    decisions: Sequence[Decision] = (),
    give_up: str | None = None,
    after: str = "",
    yes: bool = False,
    attended: bool = False,
    observers: Sequence[Observer] = (),
    tick: float | None = None,
    by: Person | None = None,
) -> Session:
    """Go on with a run that stopped or died. `give_up` (a reason) has it rescued or undone.

    `after` names (a part of) the run that has owned a lock of this one in between: somebody has
    looked at what it did. Raises ResumeRefused, LockHeld, JournalDamaged, InvalidRunbook.
    """
    by = by or this_person()
    folder.own()
    try:
        return _resumed(
            folder, state_folder, decisions, give_up, after, yes, attended, observers, tick, by
        )
    except BaseException:
        folder.disown()
        raise


def _resumed(
    folder: RunFolder,
    state_folder: Path,
    decisions: Sequence[Decision],
    give_up: str | None,
    after: str,
    yes: bool,
    attended: bool,
    observers: Sequence[Observer],
    tick: float | None,
    by: Person,
) -> Session:
    records, book = journal.reopen(folder.journal_path)
    if not records:
        raise ResumeRefused(
            f"run {folder.run_id} was never started: its journal is empty",
            hint="start it anew",
        )
    info = folder.info()
    options = msgspec.convert(info.options, Options, strict=False)
    options = msgspec.structs.replace(options, yes=options.yes or yes)
    old = old_plan(folder, options)
    state = fold(old, records)
    _refuse_if_over(folder, state, decisions)
    _forget_commands(folder)
    redone = frozenset(each.step for each in decisions if each.decision == "redo")
    plan, inventory, registry, changed = _plan_for_resume(folder, info, options, old, state, redone)
    if plan is not old:
        state = _fold_anew(old, state, plan, records)
    session = Session(
        plan=plan,
        inventory=inventory,
        registry=registry,
        folder=folder,
        state_folder=state_folder,
        state=state,
        book=book,
        options=options,
        clock=SystemClock(not_before=max(records[-1].time, folder.last_beat())),
        attended=attended,
        observers=observers,
        tick=tick,
    )
    _refuse_if_overtaken(session, after)
    session.take_locks(by)
    if plan is not old:
        _keep_plan(folder, plan, len(records))
    _append_resume(session, decisions, give_up, attended, changed, by)
    return session


def _forget_commands(folder: RunFolder) -> None:
    """What was said to a process that is gone is not meant for the one that goes on."""
    with contextlib.suppress(OSError):
        folder.take_commands()


def _keep_plan(folder: RunFolder, plan: Plan, records: int) -> None:
    """The journal is read with the runbook that the run goes on with; the one before is kept."""
    path = folder.path / "runbook.json"
    try:
        write_private(path.with_name(f"runbook-until-{records}.json"), path.read_bytes())
        replace_file(path, msgspec.json.encode(plan.runbook))
    except OSError as error:
        raise JournalError(f"{path} cannot be written: {error.strerror or error}") from error


def _refuse_if_overtaken(session: Session, after: str) -> None:
    """What another run did to the environment meanwhile is not undone by its being over."""
    other = session.locks.taken_since(session.state.tokens) if session.locks else None
    run = (other.run or other.last) if other is not None else ""
    if other is None or run in ("", session.folder.run_id):  # only unlocked: nothing has changed
        return
    if after and after in run:
        return
    raise ResumeRefused(
        f"run {run} has owned {other.name} since this run stopped, and may have changed what it "
        "relies on",
        hint=f"look at `ce-run show {run}`; then start the runbook anew, or go on all the same "
        f"with `ce-run resume {session.folder.run_id} --after {run}`",
    )


def _append_resume(
    session: Session,
    decisions: Sequence[Decision],
    give_up: str | None,
    attended: bool,
    changed: tuple[str, ...],
    by: Person,
) -> None:
    runner = session.runner
    for event in _found_dead(session.folder, session.state):
        runner.append(event)
    for each in decisions:
        _override(session, each, by)
    runner.append(RunResumed(by, VERSION, attended, changed))
    _note_locks(session)
    if give_up is not None:
        session.mailbox.put(Command("abandon", by, reason=give_up))


def _found_dead(folder: RunFolder, state: RunState) -> list[AnyEvent]:
    """What a process that died could not note itself."""
    if state.life not in ("running", "stopping"):
        return []
    return [RunStopped("interrupted", "its process ended without a word", folder.last_beat())]


def answer(folder: RunFolder, event: GateAnswered) -> None:
    """Note a person's answer in the journal of a run that no process carries.

    Raises ResumeRefused when one does, and UsageError when nobody waits for the answer any more.
    """

    def before(records: list[Record]) -> list[AnyEvent]:
        plan = old_plan(folder, msgspec.convert(folder.info().options, Options, strict=False))
        state = fold(plan, records)
        stopped = _found_dead(folder, state)
        now = records[-1].time
        try:
            for number, each in enumerate((*stopped, event), len(records) + 1):
                apply(state, Record(number, now, each))
        except IllegalEvent as error:
            raise UsageError(
                f"step '{event.step}' does not wait for an answer any more",
                hint=f"see `ce-run show {folder.run_id}`",
            ) from error
        return stopped

    folder.append(event, before)


def _override(session: Session, each: Decision, by: Person) -> None:
    state = session.state
    index = state.plan.by_path.get(each.step)
    if index is None:
        paths = [node.path for node in state.plan.steps() if node.index in state.steps]
        raise UsageError(
            f"there is no step '{each.step}' in this run",
            hint=did_you_mean(each.step, paths, what="there are"),
        )
    why = override_refusal(state, state.plan.nodes[index])
    if why:
        raise ResumeRefused(f"--{each.decision} {each.step}: {why}")
    decision: Any = each.decision
    session.runner.append(Overridden(each.step, decision, by, each.reason))


def _refuse_if_over(folder: RunFolder, state: RunState, decisions: Sequence[Decision]) -> None:
    if state.stop is not None and state.stop.kind == "preempted" and state.life == "stopped":
        raise ResumeRefused(
            f"run {folder.run_id} was preempted ({state.stop.reason}) and cannot go on",
            hint="start the runbook anew once the other run is over",
        )
    if state.life == "finished" and not decisions:
        raise ResumeRefused(
            f"run {folder.run_id} is finished: {state.outcome}",
            hint="a failed step can be taken up with --redo, --done or --skip"
            if state.outcome in ("failed", "needs_person")
            else f"see `ce-run show {folder.run_id}`",
        )


def old_plan(folder: RunFolder, options: Options) -> Plan:
    """The plan as it was when the run started."""
    path = folder.path / "runbook.json"
    try:
        runbook = msgspec.json.decode(path.read_bytes(), type=Runbook)
    except (OSError, msgspec.MsgspecError) as error:
        raise JournalError(f"{path} cannot be read: {error}") from error
    return build_plan(runbook, tags=options.tags, skip_tags=options.skip_tags)


def _plan_for_resume(
    folder: RunFolder,
    info: RunInfo,
    options: Options,
    old: Plan,
    state: RunState,
    redone: frozenset[str],
) -> tuple[Plan, Inventory, Registry, tuple[str, ...]]:
    """The plan to go on with: that of the files as they are now, if that is allowed."""
    with _inside(info.cwd):
        registry = registry_for(info.runbook, options.modules)
        try:
            runbook, inventory = load(
                info.runbook, registry=registry, inventory_path=info.inventory or options.inventory
            )
        except InvalidRunbook as error:
            error.hint = f"the files as they were when the run started are in {folder.path}/source"
            raise
    new = build_plan(runbook, tags=options.tags, skip_tags=options.skip_tags)
    changed, refused = compare_plans(old, new, state, redone)
    if refused:
        raise ResumeRefused(
            f"the runbook changed where this run has been already: {', '.join(refused)}",
            hint="put these steps back as they were (see `source/` in the run's folder), "
            "or start a new run",
        )
    inventories = _changed_inventory(folder, info)
    return (new if changed else old), inventory, registry, (*changed, *inventories)


def _changed_inventory(folder: RunFolder, info: RunInfo) -> tuple[str, ...]:
    """The inventory, if it says something else than when the run was started."""
    for name, path in info.sources.items():
        if path == info.inventory:
            with contextlib.suppress(OSError):
                kept = (folder.path / "source" / name).read_bytes()
                if kept != Path(path).read_bytes():
                    return (f"inventory {name}",)
    return ()


def _fold_anew(old: Plan, before: RunState, new: Plan, records: Sequence[Record]) -> RunState:
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


@contextlib.contextmanager
def _inside(folder: str) -> Iterator[None]:
    """Relative paths of the command line mean what they meant when the run was started."""
    before = Path.cwd()
    if Path(folder).is_dir():
        os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


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
    found: set[str] = set()
    waiting = [plain]
    while waiting:
        names = {each for each in _names_in(waiting.pop()) if each in vars} - found
        found |= names
        waiting += [vars[each] for each in names]
    return name in found


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


def read_run(folder: RunFolder) -> tuple[Plan, RunState, list[Record]]:
    """A run as its journal tells it, for looking at. Raises JournalError, and UsageError when the
    run has not begun."""
    options = msgspec.convert(folder.info().options, Options, strict=False)
    plan = old_plan(folder, options)
    records = folder.records()
    if not records:
        raise UsageError(
            f"run {folder.run_id} has not begun: its journal is empty",
            hint="it is starting right now, or was ended before it could; `ce-run runs` tells",
        )
    return plan, fold(plan, records), records
