"""Plays one drill: runs, happenings and answers in one world, on one virtual clock.

Every run's loop is a coroutine beside those of its tasks; the stage is the hub that lets time pass.
What has to be noticed (conditions of the timeline, expectations) is looked at after each event of
a run and once in every second of the world's time; so a moment is known to the second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
from greenlet import greenlet

from engine.clock import Mailbox, SystemClock
from engine.drill.happenings import happen
from engine.drill.judging import Assessment, Judge
from engine.drill.names import Conditions, WorldNames
from engine.drill.people import VIA, DrillPeople
from engine.drill.reading import Drill
from engine.drill.scenario import MAIN, ROLLBACK, START, Crash, OperatorStart, ScenarioEntry, Stop
from engine.errors import CeRunError
from engine.events import GuardObserved, Person, Record, StepOpened
from engine.executor import Executor
from engine.runner import Observer, Wake
from engine.session import Options, Session, Surroundings, begin, exit_status, resume
from engine.simulation import WARM_UP, SimulatedClock, SimulatedExecutor, World
from engine.simulation.databases import Database
from engine.simulation.description import world_as_told
from engine.simulation.locks import SimulatedLocks
from engine.simulation.setting import address, secret
from engine.state import RunState
from engine.store import Command, Store

LOOK_EVERY = 1.0
"""Seconds of the world's time between two looks at what has to be noticed."""


class Crashed(BaseException):
    """The engine dies: thrown into a run's loop, which must not take it for a failure."""


class Happening(msgspec.Struct, frozen=True):
    """Something that happened in a drill, for its timeline; `at` is in seconds from its start."""

    at: float
    what: str
    text: str


class Played(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a drill."""

    name: str
    judgements: list[Assessment]
    happenings: list[Happening]
    runs: dict[str, str]
    """Name of a run → its id, for `ce-run show`."""
    outcomes: dict[str, str]
    seconds: float
    """How long it took in the world's time."""

    @property
    def passed(self) -> bool:
        """Whether every expectation was met."""
        return all(each.met for each in self.judgements)


class _Run:
    """One run of a drill."""

    def __init__(self, name: str, session: Session) -> None:
        self.name = name
        self.session = session
        self.loop: greenlet | None = None
        self.over = False
        """Whether no process carries it any more."""
        self.crashed = False

    @property
    def outcome(self) -> str:
        """How it stands, in a word."""
        state = self.session.state
        if state.life == "finished":
            return state.outcome or "failed"
        if self.crashed:
            return "crashed"
        if state.life == "stopped":
            return state.stop.kind if state.stop is not None else "interrupted"
        return "waiting" if state.gates else "running"


class Stage:
    """One drill while it is played.

    Args:
        drill: what is played.
        store: where its runs are kept.
        inventory: an inventory above those that scenario and runbook name.
        observers: watch the drill's own run.
        speed: how many seconds of the world pass in a real one; None: as fast as can be.
    """

    def __init__(
        self,
        drill: Drill,
        store: Store,
        inventory: str | None = None,
        observers: list[Observer] | None = None,
        speed: float | None = None,
    ) -> None:
        self.drill = drill
        self.clock = SimulatedClock(SystemClock().now() - WARM_UP)
        self.moments: dict[str, float] = {}
        self.happenings: list[Happening] = []
        self._store = store
        self._inventory = inventory
        self._observers = observers or []
        self._speed = speed
        self._world: World | None = None
        self._first_database = ""
        self._runs: dict[str, _Run] = {}
        self._refusals: dict[str, str] = {}
        self._pending: list[ScenarioEntry] = []
        self._planned = 0
        self._over = Mailbox()
        self._locks = SimulatedLocks()
        self._looking = False
        names = WorldNames(self, drill.case)
        self._conditions = Conditions(names)
        self._judge = Judge(drill.expect, self._conditions, self.moments)

    # -- what expressions ask for -----------------------------------------------------------------
    @property
    def world(self) -> World:
        """The world, as soon as the first run has been put together."""
        assert self._world is not None
        return self._world

    @property
    def database(self) -> Database:
        """The inventory's first database."""
        return self.world.database(self._first_database)

    @property
    def began(self) -> float:
        """When the drill's run began, in epoch seconds."""
        return self.moments[START]

    @property
    def elapsed(self) -> float:
        """Seconds since then."""
        return self.clock.now() - self.began

    def shares(self, entrance: str = "") -> Mapping[str, float]:
        """Version → percent of the users' requests."""
        return self.world.shares(entrance)

    def outcome_of(self, run: str) -> str:
        """How a run stands, in a word; empty before it was started."""
        if run in self._refusals:
            return "refused"
        return self._runs[run].outcome if run in self._runs else ""

    def status(self, step: str, run: str = MAIN) -> str:
        """A step's status; empty for a run that was not started."""
        if run not in self._runs:
            return ""
        state = self._runs[run].session.state
        index = state.plan.by_path.get(step)
        return "pending" if index is None else str(state.status(state.plan.nodes[index]))

    # -- playing ----------------------------------------------------------------------------------
    def play(self) -> Played:
        """Play it to its end. Raises CeRunError when its own run cannot begin."""
        scenario = self.drill.scenario
        operation = OperatorStart(
            runbook=scenario.runbook,
            inputs=scenario.inputs,
            force=scenario.force,
            reason=scenario.reason,
            by=scenario.by,
        )
        session = self._begin(operation, self._surroundings(MAIN, operation.by))
        self.moments[START] = self.clock.now()
        self.clock.speed = self._speed
        self._plan_timeline()
        self._carry(_Run(MAIN, session))
        self._tick()
        self.clock.schedule(self.began + scenario.lasts, lambda: self._over.put("late"))
        self.clock.wait(self._over, None)
        judgements = self._judge.verdicts(self.clock.now())
        outcomes = {name: self.outcome_of(name) for name in (*self._runs, *self._refusals)}
        self._leave()
        return Played(
            name=self.drill.name,
            judgements=judgements,
            happenings=self.happenings,
            runs={name: run.session.entry.run_id for name, run in self._runs.items()},
            outcomes=outcomes,
            seconds=self.elapsed,
        )

    def _begin(self, operation: OperatorStart, around: Surroundings) -> Session:
        options = Options(
            inventory=self._chosen_inventory(),
            extra=dict(operation.inputs),
            force=operation.force,
            reason=operation.reason,
            simulate=True,
        )
        return begin(str(self.drill.beside(operation.runbook)), options, around)

    def _chosen_inventory(self) -> str | None:
        if self._inventory is not None:
            return self._inventory
        named = self.drill.scenario.inventory
        return str(self.drill.beside(named)) if named else None

    def _surroundings(self, name: str, by: str) -> Surroundings:
        return Surroundings(
            store=self._store,
            by=Person(by, via=VIA) if by else None,
            attended=True,
            observers=self._observers if name == MAIN else [],
            lab=lambda folder, mask: address,
            clock=lambda not_before: self.clock,
            executor=self._executor,
            world=self._make_world,
            locks=self._locks,
            warm_up=WARM_UP if self._world is None else 0.0,
            secret=secret,
        )

    def _executor(self, mailbox: Mailbox) -> Executor:
        self.world.subscribe(lambda: mailbox.put(Wake()))
        return SimulatedExecutor(self.clock, mailbox)

    def _make_world(self, section: Callable[[str], Mapping[str, Any]]) -> World:
        """The one world of the drill, made for its first run."""
        if self._world is None:
            self._world = world_as_told(self.clock, section, self.drill.world)
            self._first_database = next(iter(section("sql")), "primary")
        return self._world

    # -- runs --------------------------------------------------------------------------------------
    def _carry(self, run: _Run) -> None:
        """Begin a run's loop, beside all others."""
        self._runs[run.name] = run
        session = run.session
        session.runner.observers.append(
            DrillPeople(self.clock, session.mailbox, self.drill.scenario.answers)
        )
        session.runner.observers.append(_Eye(self))
        run.loop = greenlet(lambda: self._loop(run), parent=self.clock.hub)
        self.clock.schedule(self.clock.now(), run.loop.switch)

    def _loop(self, run: _Run) -> None:
        try:
            run.session.runner.run()
        except Crashed:
            run.crashed = True
        except CeRunError as error:
            self._tell("error", f"{run.name}: {error.message}")
        finally:
            run.over = True
            run.session.close()
        status = exit_status(run.session.state) if not run.crashed else "none"
        self._tell("run", f"{run.name}: {run.outcome} (status {status})")
        self.look()

    def _start(self, entry: ScenarioEntry, operation: OperatorStart) -> None:
        """An operator starts another run."""
        how = " --force" if operation.force else ""
        self._tell("operator", f"ce-run {operation.runbook}{how}")
        try:
            session = self._begin(operation, self._surroundings(entry.id, operation.by))
        except CeRunError as error:
            self._refusals[entry.id] = error.message
            self._tell("run", f"{entry.id}: refused: {error.message}")
            return
        if session.locks is not None and session.locks.over:
            self.moments.setdefault(ROLLBACK, self.clock.now())
        self._carry(_Run(entry.id, session))
        self._wake()

    def _wake(self) -> None:
        """Have every run look at its locks."""
        for run in self._runs.values():
            run.session.mailbox.put(Wake())

    def _stop(self, stop: Stop) -> None:
        verb = "rescue" if stop.rescue else "stop"
        self._tell("operator", f"ce-run stop {stop.run}{' --rescue' if stop.rescue else ''}")
        if stop.run in self._runs:
            by = Person(stop.by or "an operator", via=VIA)
            self._runs[stop.run].session.mailbox.put(Command(verb, by, reason=stop.reason))

    def _crash(self, crash: Crash) -> None:
        run = self._runs.get(crash.run)
        if run is None or run.over or not run.loop:
            self._tell("crash", f"{crash.run} does not run: nothing dies")
            return
        self._tell("crash", f"the engine of {crash.run} dies")
        if crash.resume is not None:
            self._later(crash.resume, lambda: self._resume(run))
        run.loop.throw(Crashed)

    def _resume(self, run: _Run) -> None:
        self._tell("operator", f"ce-run resume {run.name}")
        try:
            session = resume(run.session.entry, self._surroundings(run.name, ""))
        except CeRunError as error:
            self._tell("run", f"{run.name}: not resumed: {error.message}")
            return
        self._carry(_Run(run.name, session))

    # -- the timeline ------------------------------------------------------------------------------
    def _plan_timeline(self) -> None:
        for each in self.drill.scenario.timeline:
            if each.at is not None:
                self._later(each.at, lambda each=each: self._happens(each))  # type: ignore[misc]
            else:
                self._pending.append(each)

    def _later(self, seconds: float, step: Callable[[], None]) -> None:
        """Something that will happen for certain: the drill is not over before it."""
        self._planned += 1

        def happen_now() -> None:
            self._planned -= 1
            step()
            self.look()

        self.clock.schedule(self.clock.now() + seconds, happen_now)

    def _happens(self, entry: ScenarioEntry) -> None:
        if entry.id:
            self.moments.setdefault(entry.id, self.clock.now())
        told = _told(entry)
        if told:
            self._tell("inject" if entry.note else "world", told)
        happen(self.world, entry, self._first_database)
        if entry.run is not None:
            self._start(entry, entry.run)
        if entry.stop is not None:
            self._stop(entry.stop)
        if entry.crash is not None:
            self._crash(entry.crash)

    # -- looking -----------------------------------------------------------------------------------
    def _tick(self) -> None:
        self.look()
        if self._over.empty():
            self.clock.schedule(self.clock.now() + LOOK_EVERY, self._tick)

    def look(self) -> None:
        """See what has come true, and whether all is over."""
        if self._looking:
            return
        self._looking = True
        try:
            for each in list(self._pending):
                if self._conditions.holds(each.when):
                    self._pending.remove(each)
                    self._later(each.after, lambda each=each: self._happens(each))  # type: ignore[misc]
            self._judge.look(self.clock.now())
        finally:
            self._looking = False
        if not self._planned and self._is_quiet() and not self._judge.waits(self.clock.now()):
            self._over.put("over")

    def _is_quiet(self) -> bool:
        return all(run.over for run in self._runs.values())

    def seen(self, record: Record) -> None:
        """An event of a run was noted."""
        event = record.event
        if isinstance(event, GuardObserved):
            return
        if isinstance(event, StepOpened) and event.step.rpartition(".")[2] in ("rescue", "undo"):
            self.moments.setdefault(ROLLBACK, self.clock.now())
        self.clock.schedule(self.clock.now(), self.look)

    def _tell(self, what: str, text: str) -> None:
        self.happenings.append(Happening(self.elapsed, what, text))

    def _leave(self) -> None:
        """End what still runs when the drill's time is up."""
        for run in self._runs.values():
            if run.loop and not run.over:
                self._tell("drill", f"{run.name} still ran when the drill's time was up")
                run.loop.throw(Crashed)


class _Eye:
    """Observes a run for the stage."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage

    def event(self, state: RunState, record: Record) -> None:
        """Pass it on."""
        self._stage.seen(record)

    def progress(self, step: str, task: int, text: str) -> None:
        """Nothing to pass on."""

    def tick(self, state: RunState, now: float) -> None:
        """Nothing to pass on."""


def _told(entry: ScenarioEntry) -> str:
    """An entry in words."""
    words = [entry.note] if entry.note else []
    if entry.fault is not None:
        from engine.simulation.description import changes

        what = ", ".join(f"{name} {value:g}" for name, value in changes(entry.fault).items())
        words.append(f"fault of {entry.fault.version}: {what}")
    if entry.heal:
        words.append(f"{entry.heal} is healthy again")
    words += [f"{each} is down" for each in entry.down]
    words += [f"{each} is up again" for each in entry.up]
    if entry.lose is not None:
        words.append(f"{entry.lose.rows} rows of {entry.lose.table} vanish")
    if entry.command is not None:
        words.append(f"commands like {entry.command.command} end with {entry.command.code}")
    if entry.query is not None:
        words.append(f"queries like {entry.query.sql} return something else")
    if entry.site is not None:
        words.append(f"{entry.site.url} answers {entry.site.status}")
    return "; ".join(words)


def play(drill: Drill, state: Path, inventory: str | None = None) -> Played:
    """Play a drill, its runs kept in a state folder."""
    from engine.store import open_store

    return Stage(drill, open_store(state), inventory).play()
