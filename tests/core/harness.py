"""A whole run in memory: the real runner, scheduler, fold and journal in a scripted world.

Only three things are not the real ones. Time is virtual. The *world* does what a script says: how
long each attempt takes, how it ends, when its effect happens, whether it obeys a cancellation.
And the evaluator has no templates: conditions are the words ``true``, ``false`` and ``error``.

A `Case` is a run from its first process to its last: `begin`, be killed or interrupted, `resume`,
until it is over. After every process it checks that the journal folds to the very state that the
process had.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias

import msgspec

from engine.clock import Mailbox, VirtualClock
from engine.errors import ActionError, Cancelled, Failed, Refused, TimedOut, Unreachable
from engine.events import (
    AnyEvent,
    Failure,
    GateOpened,
    GuardObserved,
    GuardTiming,
    Overridden,
    Person,
    Record,
    RunResumed,
    RunStarted,
    StepFinished,
    StepOpened,
    StepSkipped,
    StopRequested,
    TaskFinished,
    TaskProbed,
    TaskSpec,
    TaskStatus,
    Verdict,
)
from engine.executor import Attempt, Job, JobResult, Services, TaskContext
from engine.fold import apply, fold
from engine.journal import Journal, records_of
from engine.model import Block, Call, Effect, Fan, Guard, Place, Runbook, Step
from engine.module_api import Probe, Result
from engine.plan import Node, Plan, build_plan
from engine.runner import Parts, Runner
from engine.state import FINAL, RunState, Status

PLACE = Place("test.yml", 1, 1)
SOMEBODY = Person("somebody", "somewhere", "test")


# -- writing runbooks -----------------------------------------------------------------------------
def step(
    name: str,
    *,
    effect: Effect = "idempotent",
    needs: Sequence[str] | None = None,
    inline: bool = False,
    **keys: Any,
) -> Step:
    """An action. `needs` is filled in by `block` where it is not given."""
    call = Call("test.inline" if inline else "test.act", {}, effect, PLACE, literal=True)
    return Step(id=name, place=PLACE, call=call, needs=_needs(needs), **_blocks(keys))


def group(name: str, *steps: Step, needs: Sequence[str] | None = None, **keys: Any) -> Step:
    """A group of steps."""
    return Step(id=name, place=PLACE, block=block(*steps), needs=_needs(needs), **_blocks(keys))


_BEFORE = ("<the step before>",)


def _needs(needs: Sequence[str] | None) -> tuple[str, ...]:
    return _BEFORE if needs is None else tuple(needs)


def _blocks(keys: dict[str, Any]) -> dict[str, Any]:
    for key in ("rescue", "undo", "always"):
        if isinstance(keys.get(key), list):
            keys[key] = block(*keys[key])
        elif isinstance(keys.get(key), str):
            keys[key] = block(step(keys[key]))
    return keys


def block(*steps: Step) -> Block:
    """Steps, each of which needs the one before unless it says otherwise."""
    resolved: list[Step] = []
    for each in steps:
        if each.needs == _BEFORE:
            before = (resolved[-1].id,) if resolved else ()
            each = msgspec.structs.replace(each, needs=before)
        resolved.append(each)
    return Block(tuple(resolved), PLACE)


def book(*steps: Step, **keys: Any) -> Runbook:
    """A runbook of these steps."""
    return Runbook(file="test.yml", name="Test", block=block(*steps), **_blocks(keys))


def guard(name: str = "errors", *, every: float = 10.0, hold: float = 0.0, least: int = 1) -> Guard:
    """A guard; what it sees is scripted under ``path!name``."""
    call = Call("test.look", {}, "read", PLACE, literal=True)
    return Guard(name, call, "true", every, hold, least)


def loop(*items: Any, **keys: Any) -> Fan:
    """A fan over items."""
    return Fan(loop=list(items), **keys)


# -- the world ------------------------------------------------------------------------------------
End: TypeAlias = Literal["ok", "failed", "unreachable", "refused", "timed_out", "cancelled"]


class Act(msgspec.Struct, frozen=True):
    """What becomes of an attempt.

    Its effect happens when it is `effect` of the way through: 0.0 at once, 1.0 just before the
    end; a failed attempt has none unless `harm` is set. `obeys` tells how many seconds after a
    cancellation it ends; None: it never does.
    """

    end: End = "ok"
    seconds: float = 0.0
    effect: float = 1.0
    harm: bool = False
    obeys: float | None = 0.0
    data: dict[str, Any] = {}
    changed: bool = True


OK = Act()
FAILS = Act("failed")

Script: TypeAlias = Mapping[str, Act | Sequence[Act]]
"""By path (or ``path#task``) what each attempt does; the last goes for all later ones."""


def written(path: str) -> str:
    """A path as the runbook has it, whatever instance it lies in: ``roll[1]/a`` is ``roll/a``."""
    return re.sub(r"\[[^]]*\]", "", path)


class World:
    """What really happened, whatever the journal says about it. Outlives every process."""

    def __init__(self, script: Script, looks: Mapping[str, Sequence[str]] | None = None) -> None:
        self.script = script
        self.looks = {name: deque(verdicts) for name, verdicts in (looks or {}).items()}
        self.tried: Counter[str] = Counter()
        self.effects: Counter[str] = Counter()
        self.started: list[tuple[float, str]] = []
        self.probes: Mapping[str, str] = {}

    def act(self, step: str, task: int) -> Act:
        """What the attempt that begins now will do."""
        names = (f"{step}#{task}", step, f"{written(step)}#{task}", written(step))
        acts = next((self.script[name] for name in names if name in self.script), OK)
        if isinstance(acts, Act):
            return acts
        name = f"{step}#{task}"
        return acts[min(self.tried[name], len(acts) - 1)]

    def attempted(self, step: str, task: int, at: float) -> None:
        """An attempt has begun."""
        self.started.append((at, step))

    def over(self, step: str, task: int) -> None:
        """An attempt has come to its own end, so the script goes on to the next line."""
        self.tried[f"{step}#{task}"] += 1

    def look(self, name: str) -> str:
        """What a guard sees: one after the other, the last for ever; ``silent`` is no answer."""
        verdicts = self.looks.get(name) or self.looks.get(written(name))
        if not verdicts:
            return "pass"
        return verdicts.popleft() if len(verdicts) > 1 else verdicts[0]

    def paths(self) -> list[str]:
        """The steps that were started, in order."""
        return [path for _, path in self.started]


class ScriptedExecutor:
    """Lets the world act, in virtual time. One per process: what it had planned dies with it."""

    def __init__(self, clock: VirtualClock, mailbox: Mailbox, world: World) -> None:
        self.clock = clock
        self.mailbox = mailbox
        self.world = world
        self._open: dict[int, Act] = {}

    def start(self, job: Job) -> None:
        """Schedule the effect and the end of an attempt."""
        now = self.clock.now()
        if job.purpose == "guard":
            verdict = self.world.look(f"{job.step}!{job.arguments['guard']}")
            if verdict == "silent":
                return
            self.mailbox.put(JobResult(job, result=Result(data={"verdict": verdict})))
            return
        if job.purpose == "probe":
            if self.world.probes.get(written(job.step)) == "silent":
                return
            self.mailbox.put(JobResult(job, probe=self._probe(job)))
            return
        act = self.world.act(job.step, job.task)
        self.world.attempted(job.step, job.task, now)
        self._open[id(job)] = act
        if act.end == "ok" or act.harm:
            self._later(act.seconds * act.effect, lambda: self._effect(job))
        self._later(act.seconds, lambda: self._end(job, act))

    def cancel(self, job: Job) -> None:
        """Ask an attempt to end."""
        act = self._open.get(id(job))
        if act is not None and act.obeys is not None:
            error = Cancelled(Cancelled.STOPPED)
            self._later(act.obeys, lambda: self._answer(job, JobResult(job, error=error)))

    def close(self) -> None:
        """Nothing more is started."""

    def _later(self, seconds: float, happen: Callable[[], None]) -> None:
        if seconds <= 0:
            happen()
        else:
            self.clock.schedule(self.clock.now() + seconds, happen)

    def _effect(self, job: Job) -> None:
        if id(job) in self._open:
            self.world.effects[f"{job.step}#{job.task}"] += 1

    def _end(self, job: Job, act: Act) -> None:
        if id(job) in self._open:
            self.world.over(job.step, job.task)
        self._answer(job, outcome_of(job, act))

    def _answer(self, job: Job, outcome: JobResult) -> None:
        if self._open.pop(id(job), None) is not None:
            self.mailbox.put(outcome)

    def _probe(self, job: Job) -> Probe:
        said = self.world.probes.get(written(job.step), "truth")
        if said == "truth":
            said = "done" if self.world.effects[f"{job.step}#{job.task}"] else "not_done"
        return Probe(said, Result(changed=said == "done"))  # type: ignore[arg-type]


_ERRORS: dict[str, type[ActionError]] = {
    "failed": Failed,
    "unreachable": Unreachable,
    "refused": Refused,
    "timed_out": TimedOut,
    "cancelled": Cancelled,
}


def outcome_of(job: Job, act: Act) -> JobResult:
    """How an attempt ends that nobody disturbs."""
    if act.end == "ok":
        return JobResult(job, result=Result(changed=act.changed, data=dict(act.data)))
    return JobResult(job, error=_ERRORS[act.end](f"scripted to be {act.end}"))


# -- the evaluator --------------------------------------------------------------------------------
class PlainEvaluator:
    """What a step says, read without templates."""

    def __init__(self, clock: VirtualClock, world: World) -> None:
        self.world = world
        self.services = Services(run_id="test", clock=clock, root=Path("/"))

    def prepare(self, state: RunState, node: Node) -> AnyEvent:
        """Open, skip, ask or fail."""
        found = node.step
        if found is None:
            return self._opened(node, ())
        if "error" in found.when:
            return StepFinished(node.path, "failed", Failure("failed", "bad template", node.path))
        if "false" in found.when:
            return StepSkipped(node.path, "when: false")
        record = state.steps.get(node.index)
        if found.gate is not None and (record is None or record.gate_passed is None):
            return GateOpened(node.path, str(found.gate.message), (), _number(found.gate.timeout))
        if found.fan is None:
            return self._opened(node, () if found.block is not None else (TaskSpec(),))
        tasks = _tasks(found.fan)
        return self._opened(node, tasks) if tasks else StepSkipped(node.path, "nothing to do")

    def _opened(self, node: Node, tasks: tuple[TaskSpec, ...]) -> StepOpened:
        fan = node.step.fan if node.step is not None else None
        return StepOpened(
            node.path,
            tasks,
            _batches(fan.serial if fan else None, len(tasks)),
            None if node.is_group else _number(node.timeout),
            _number(node.budget),
            tuple(
                GuardTiming(_number(each.every) or 0.0, _number(each.hold) or 0.0, each.min_samples)
                for each in node.guards
            ),
        )

    def job(self, state: RunState, node: Node, task: int) -> Job | Failure:
        """An attempt; inline ones act at once, on the runner's thread."""
        assert node.step is not None
        assert node.step.call is not None
        inline = node.step.call.action == "test.inline"
        if node.step.vars and "broken" in node.step.vars:
            return Failure("failed", "bad argument", node.path)
        found = state.step(node.index).tasks[task]
        job = self._job(node, task, found.attempt, "run", inline=inline)
        job.function = lambda context: self._act_at_once(job)
        return job

    def _act_at_once(self, job: Job) -> Result:
        name = f"{job.step}#{job.task}"
        act = self.world.act(job.step, job.task)
        self.world.attempted(job.step, job.task, self.services.clock.now())
        self.world.tried[name] += 1
        self.world.effects[name] += act.end == "ok" or act.harm
        outcome = outcome_of(job, act)
        if outcome.error is not None:
            raise outcome.error
        assert outcome.result is not None
        return outcome.result

    def _job(self, node: Node, task: int, attempt: int, purpose: Any, **more: Any) -> Job:
        context = TaskContext(self.services, Attempt(node.path, task, attempt))
        arguments: dict[str, Any] = {}
        if purpose == "guard":
            arguments["guard"] = node.guards[task].name
        return Job(
            node.path, task, attempt, lambda c: Result(), arguments, context, purpose, **more
        )

    def probe(self, state: RunState, node: Node, task: int) -> Job | None:
        """A question about a task in doubt, unless the script says that there is none."""
        if self.world.probes.get(written(node.path)) == "none":
            return None
        return self._job(node, task, state.step(node.index).tasks[task].attempt, "probe")

    def observation(self, state: RunState, node: Node, guard: int) -> Job | Failure:
        """A look."""
        return self._job(node, guard, 1, "guard")

    def judge(self, state: RunState, node: Node, outcome: JobResult) -> TaskFinished:
        """As the real evaluator judges, without conditions."""
        job = outcome.job
        if outcome.result is not None:
            result = outcome.result
            return TaskFinished(
                node.path, "succeeded", job.attempt, job.task, result.changed, result.data
            )
        error = outcome.error
        assert error is not None
        failure = Failure(error.kind, error.message, node.path, retryable=error.retryable)
        status: TaskStatus = "failed"
        if failure.kind == "cancelled":
            task = state.task((node.index, job.task))
            kind = task.cancel or "cancelled"
            status = "failed" if kind == "timed_out" else "cancelled"
            failure = Failure(
                kind,
                task.cancel_reason or failure.message,
                node.path,
                retryable=kind == "timed_out",
            )
        return TaskFinished(node.path, status, job.attempt, job.task, failure=failure)

    def judge_probe(self, node: Node, outcome: JobResult) -> TaskProbed:
        """What the probe said."""
        verdict = outcome.probe.verdict if outcome.probe is not None else "unknown"
        return TaskProbed(node.path, verdict, outcome.job.task, verdict == "done")

    def judge_observation(
        self, state: RunState, node: Node, guard: int, outcome: JobResult | Failure
    ) -> GuardObserved:
        """What the look said."""
        result = None if isinstance(outcome, Failure) else outcome.result
        verdict: Verdict = result.data["verdict"] if result is not None else "inconclusive"
        seen = state.group(node.index).guards[guard]
        if seen.observations + 1 < seen.timing.min_samples:
            verdict = "inconclusive"
        return GuardObserved(node.path, guard, verdict, message=f"it is {verdict}")


def _number(value: Any) -> float | None:
    return None if value is None else float(value)


def _tasks(fan: Fan) -> tuple[TaskSpec, ...]:
    hosts = fan.hosts if fan.hosts is not None else [None]
    items = fan.loop if fan.loop is not None else [None]
    return tuple(TaskSpec(item, host) for host in hosts for item in items)


def _batches(serial: int | None, count: int) -> tuple[int, ...]:
    if serial is None:
        return ()
    full, rest = divmod(count, serial)
    return (serial,) * full + ((rest,) if rest else ())


# -- disks and clocks -----------------------------------------------------------------------------
class Killed(BaseException):
    """The process is gone: nothing after this line was executed."""


class MemoryDisk:
    """A disk that keeps what was synced, and loses the rest when the power goes."""

    def __init__(self, data: bytes = b"") -> None:
        self._safe = bytearray(data)
        self.loose = b""

    @property
    def safe(self) -> bytes:
        """What is left after a power cut."""
        return bytes(self._safe)

    def write(self, data: bytes) -> None:
        """Into the cache."""
        self.loose += data

    def sync(self) -> None:
        """Onto the disk."""
        self._safe += self.loose
        self.loose = b""

    def size(self) -> int:
        """Bytes, as the process sees them."""
        return len(self._safe) + len(self.loose)

    def check(self) -> None:
        """Nobody else has it."""

    def truncate(self, size: int) -> None:
        """Cut."""
        self._safe = (self._safe + self.loose)[:size]
        self.loose = b""

    def close(self) -> None:
        """Nothing to let go of."""


KillPoint: TypeAlias = Literal["before_append", "after_append", "before_sync", "torn", "after_sync"]


class Killer:
    """Kills the process at the n-th occurrence of a point; `torn` keeps that part of the write."""

    def __init__(self, point: KillPoint, number: int, torn: float = 0.5) -> None:
        self.point = point
        self.left = number
        self.torn = torn

    def at(self, point: KillPoint) -> None:
        """The process has come to such a point."""
        if point == self.point:
            self.left -= 1
            if self.left == 0:
                raise Killed(point)


class MortalDisk(MemoryDisk):
    """A disk whose process may die between write and sync."""

    def __init__(self, data: bytes, killer: Killer | None) -> None:
        super().__init__(data)
        self.killer = killer

    def sync(self) -> None:
        """Die before, during or after."""
        if self.killer is not None:
            self.killer.at("before_sync")
            try:
                self.killer.at("torn")
            except Killed:
                self._safe += self.loose[: int(len(self.loose) * self.killer.torn)]
                raise
        super().sync()
        if self.killer is not None:
            self.killer.at("after_sync")


class MortalJournal(Journal):
    """A journal whose process may die right before or right after an append."""

    def __init__(self, disk: MemoryDisk, seq: int, killer: Killer | None) -> None:
        super().__init__(disk, seq)
        self.killer = killer

    def append(self, event: AnyEvent, now: float) -> Record:
        """Die before or after."""
        if self.killer is not None:
            self.killer.at("before_append")
        record = super().append(event, now)
        if self.killer is not None:
            self.killer.at("after_append")
        return record


MOST_WAITS = 50_000


class WatchedClock(VirtualClock):
    """Notices a loop that turns without anything happening, and one that never ends."""

    def __init__(self, start: float) -> None:
        super().__init__(start)
        self.progress: Callable[[], object] = object
        self._last: object = None
        self._idle = 0
        self._waits = 0

    def wait(self, mailbox: Mailbox, until: float | None) -> list[Any]:
        """As the virtual clock, and complain when it is asked again and again in one instant."""
        messages = super().wait(mailbox, until)
        now = (self.now(), self.progress(), len(messages))
        self._idle = self._idle + 1 if now == self._last else 0
        self._last = now
        self._waits += 1
        assert self._idle < 5, f"the loop spins at {self.now()} without progress"
        assert self._waits < MOST_WAITS, "the run goes on and on"
        return messages


# -- a run ----------------------------------------------------------------------------------------
class Case:
    """One run over all its processes; see the module's docstring."""

    def __init__(
        self,
        runbook: Runbook,
        script: Script | None = None,
        *,
        looks: Mapping[str, Sequence[str]] | None = None,
        probes: Mapping[str, str] | None = None,
        forks: int = 20,
        attended: bool = False,
        approver: Person | None = None,
        tags: Iterable[str] = (),
        skip_tags: Iterable[str] = (),
        check: bool = True,
    ) -> None:
        self.plan: Plan = build_plan(runbook, tags=tags, skip_tags=skip_tags)
        self.world = World(script or {}, looks)
        self.world.probes = probes or {}
        self.forks = forks
        self.attended = attended
        self.approver = approver
        self.check = check
        self.lost: Callable[[], StopRequested | None] = lambda: None
        self.data = b""
        self.time = 1_800_000_000.0
        self.disk: MemoryDisk = MemoryDisk()
        self.state = RunState(self.plan)
        self.processes = 0
        self._planned: list[tuple[float, Callable[[Case], object]]] = []

    # -- what happens to it ------------------------------------------------------------------------
    def at(self, seconds: float, message: object) -> Case:
        """Have the next process find a message in its mailbox after so many seconds (0: at once).

        A function is called (with the case) and its result is the message; None is none.
        """
        made = message if callable(message) else lambda case: message
        self._planned.append((seconds, made))
        return self

    def begin(self, killer: Killer | None = None) -> Case:
        """The first process. Returns when it has left the run, however."""
        event = RunStarted("run-1", "test.yml", "Test", "run", SOMEBODY, "1", self.attended)
        return self._process([event], killer)

    def resume(
        self, *decisions: tuple[str, str], killer: Killer | None = None, downtime: float = 100.0
    ) -> Case:
        """The next process, `downtime` seconds later; decisions such as ``("redo", path)``."""
        self.time += downtime
        events: list[AnyEvent] = [
            Overridden(path, decision, SOMEBODY, "as the test says")  # type: ignore[arg-type]
            for decision, path in decisions
        ]
        return self._process([*events, RunResumed(SOMEBODY, "1", self.attended)], killer)

    def note(self, event: AnyEvent) -> Case:
        """Append an event while no process carries the run, as ``ce-run approve`` does."""
        state, journal = self._open(None)
        apply(state, journal.append(event, max(self.time, state.time)))
        journal.sync()
        self.data = self.disk.safe
        self.state = state
        return self

    def _open(self, killer: Killer | None) -> tuple[RunState, MortalJournal]:
        found = list(records_of(self.data, "journal.jsonl"))
        end = found[-1][1] if found else 0
        self.disk = MortalDisk(self.data[:end], killer)
        state = fold(self.plan, (record for record, _ in found))
        return state, MortalJournal(self.disk, len(found), killer)

    def _process(self, first: Sequence[AnyEvent], killer: Killer | None) -> Case:
        self.processes += 1
        try:
            state, journal = self._open(killer)
            if state.life == "new":
                first = [
                    RunStarted("run-1", "test.yml", "Test", "run", SOMEBODY, "1", self.attended)
                ]
            clock = WatchedClock(max(self.time, state.time))
            runner = self._runner(state, journal, clock)
            self._schedule(clock, runner.mailbox)
            self.state = state
            try:
                for event in first:
                    runner.append(event)
                runner.run()
            finally:
                self.time = clock.now()
        except Killed:
            self.data = self.disk.safe
            return self
        self.data = self.disk.safe
        if self.check:
            self._same_from_journal()
        return self

    def _runner(self, state: RunState, journal: Journal, clock: WatchedClock) -> Runner:
        mailbox = Mailbox()
        clock.progress = lambda: state.seq
        return Runner(
            Parts(
                plan=self.plan,
                state=state,
                journal=journal,
                clock=clock,
                mailbox=mailbox,
                executor=ScriptedExecutor(clock, mailbox, self.world),
                evaluator=PlainEvaluator(clock, self.world),
                forks=self.forks,
                approver=self.approver,
                lost=lambda: self.lost(),
            )
        )

    def _schedule(self, clock: WatchedClock, mailbox: Mailbox) -> None:
        def deliver(make: Callable[[Case], object]) -> None:
            message = make(self)
            if message is not None:
                mailbox.put(message)

        for seconds, make in self._planned:
            if seconds <= 0:
                deliver(make)
                continue
            clock.schedule(clock.now() + seconds, lambda make=make: deliver(make))  # type: ignore[misc]
        self._planned = []

    def _same_from_journal(self) -> None:
        again = fold(self.plan, self.records())
        assert snapshot(again) == snapshot(self.state)

    # -- what became of it -------------------------------------------------------------------------
    def records(self) -> list[Record]:
        """What the journal says, as far as it is safe."""
        return [record for record, _ in records_of(self.data, "journal.jsonl")]

    def events(self, *kinds: type) -> list[Any]:
        """The events of some kinds."""
        return [each.event for each in self.records() if not kinds or type(each.event) in kinds]

    def statuses(self) -> dict[str, Status]:
        """The status of every step that something happened to, by path."""
        found = ((node.path, self.state.status(node)) for node in self.plan.nodes)
        return {path: status for path, status in found if path and status != "pending"}

    def status(self, path: str) -> Status:
        """The status of one step."""
        return self.state.status(self.plan.node(path))

    def failure(self, path: str) -> Failure:
        """Why a step failed."""
        found = self.state.step(self.plan.by_path[path])
        failure = found.failure or (found.group.latch if found.group else None)
        assert failure is not None
        return failure

    def seconds(self) -> float:
        """How long the run took, in virtual seconds."""
        return self.state.finished - self.state.started

    @property
    def outcome(self) -> str:
        """The run's outcome, or how it was left."""
        if self.state.life == "finished":
            return str(self.state.outcome)
        assert self.state.stop is not None
        return self.state.stop.kind

    @property
    def left(self) -> str:
        """How the last process left the run; empty when it was killed."""
        return self.state.stop.kind if self.state.life == "stopped" and self.state.stop else ""

    def unfinished(self) -> list[str]:
        """Steps of the body that have no final status though the run is finished."""
        return [
            node.path
            for node in self.state.walk()
            if node.step is not None
            and self.state.status(node) not in FINAL
            and self._belongs(node)
        ]

    def _belongs(self, node: Node) -> bool:
        """Whether the node had to come to an end: it is not in a block that was not needed."""
        for up in self.plan.ancestors(node):
            if up.role != "body" and up.index not in self.state.steps:
                return False
        return True


def snapshot(value: Any) -> Any:
    """A state as plain data, all of it, to compare with another."""
    if isinstance(value, RunState):
        return {key: snapshot(each) for key, each in vars(value).items() if key != "plan"}
    if hasattr(value, "all") and hasattr(value, "due"):
        return value.all()
    if isinstance(value, dict):
        return [(key, snapshot(each)) for key, each in value.items()]
    if isinstance(value, list | deque | tuple):
        return [snapshot(each) for each in value]
    slots = getattr(type(value), "__slots__", None)
    if slots and not isinstance(value, msgspec.Struct):
        return {key: snapshot(getattr(value, key)) for key in slots}
    return value
