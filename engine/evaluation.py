"""What the runbook's templates, the inventory and the modules say about a step.

`StepEvaluator` is the runner's `Evaluator`: it builds the scope in which a step's templates are
read, turns a step into a job for the executor, and turns the outcome of a job into the event
that the journal gets. It keeps no state of the run, except what no event may hold: results of
``no_log`` steps, which end with the process, and secret items of loops, which are rendered anew.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from engine.clock import utc
from engine.errors import ActionError, CeRunError, FailureKind, Refused, UsageError
from engine.events import (
    AnyEvent,
    Failure,
    GateOpened,
    GuardObserved,
    GuardTiming,
    StepFinished,
    StepOpened,
    StepSkipped,
    TaskFinished,
    TaskProbed,
    TaskSpec,
    TaskStatus,
    Verdict,
)
from engine.executor import Job, Outcome, Services, TaskContext
from engine.inventory import Inventory
from engine.loader.inputs import convert_inputs
from engine.model import Call, Included, Step
from engine.module_api import Host, Mode, Result
from engine.plan import Node, Plan
from engine.redaction import MASK, Redactor
from engine.registry import ActionInfo, Registry
from engine.state import FINAL, PLAIN, TASK_FINAL, RunState, StepState, TaskState
from engine.templating import Forgotten, Scope, Steps, Templates
from engine.text import DEEPEST, as_json, writable
from engine.units import parse_duration


def run_stamp(started: float) -> str:
    """``run.started`` in templates: UTC, fit for file names, such as ``20260131T140509Z``."""
    return utc(started).strftime("%Y%m%dT%H%M%SZ")


class StepEvaluator:
    """See the module's docstring. One for a run; used by the runner's thread only."""

    def __init__(
        self,
        plan: Plan,
        inventory: Inventory,
        registry: Registry,
        templates: Templates,
        services: Services,
        redactor: Redactor,
        *,
        extra: Mapping[str, Any] | None = None,
        mode: Mode = "run",
        limit: str | None = None,
    ) -> None:
        """`extra` are the variables of ``-e``; `limit` narrows every host pattern."""
        self.plan = plan
        self.inventory = inventory
        self.registry = registry
        self.templates = templates
        self.services = services
        self.redactor = redactor
        self.extra = dict(extra or {})
        self.mode = mode
        self.limit = limit
        self._inventory_names = inventory.variables()
        self._bound: dict[int, dict[str, Any]] = {}
        self._inputs: dict[int, dict[str, Any]] = {}
        self._private: dict[tuple[int, int], dict[str, Any]] = {}
        self._hidden = frozenset(
            index
            for node in plan.steps()
            if node.step is not None and node.step.no_log
            for index in range(node.index, node.end)
        )
        self._secret_items: dict[int, tuple[TaskSpec, ...]] = {}

    # -- preparing a step -------------------------------------------------------------------------
    def prepare(self, state: RunState, node: Node) -> AnyEvent:
        """Open, ask about, skip or fail a step whose turn it is."""
        try:
            return self._prepared(state, node)
        except CeRunError as error:
            return StepFinished(node.path, "failed", self.failure(node, error))

    def _prepared(self, state: RunState, node: Node) -> AnyEvent:
        step = node.step
        scope = self.scope(state, node)
        if step is None:
            return self._opening(node, scope)
        if step.fan is None and not self._holds(step, scope):
            return StepSkipped(node.path, _conditions(step))
        tasks, batches = self._tasks(state, node, step, scope)
        if step.fan is not None and not tasks:
            return StepSkipped(node.path, "no host or item is left for it")
        tasks = self._without_secrets(node, tasks)
        if step.gate is not None and self.mode != "check" and not _answered(state, node):
            return self._gate(node, step, scope)
        if step.included is not None:
            scope = self.scope(state, node, inside=True)
        return self._opening(node, scope, tasks, batches)

    def _holds(self, step: Step, scope: Scope) -> bool:
        return all(self.templates.test(condition, scope) for condition in step.when)

    def _tasks(
        self, state: RunState, node: Node, step: Step, scope: Scope
    ) -> tuple[tuple[TaskSpec, ...], tuple[int, ...]]:
        """The step's tasks, leaving out those for which its conditions do not hold; batches.

        As in Ansible, hosts work at the same time and the items of a loop one after the other,
        each on all hosts, unless `serial` says how many tasks make a batch.
        """
        if step.block is not None:
            return (), ()
        fan = step.fan
        if fan is None:
            return (PLAIN,), ()
        by_item = [
            [
                spec
                for spec in row
                if not step.when or self._holds(step, self.scope(state, node, spec))
            ]
            for row in self._specs(step, scope)
        ]
        tasks = tuple(spec for row in by_item for spec in row)
        if fan.serial is not None:
            return tasks, _batches(self.templates.render(fan.serial, scope), len(tasks))
        return tasks, tuple(len(row) for row in by_item if row) if len(by_item) > 1 else ()

    def _without_secrets(self, node: Node, tasks: tuple[TaskSpec, ...]) -> tuple[TaskSpec, ...]:
        """The tasks as the journal may have them; items that hold secrets, and all those of a
        ``no_log`` step, are kept here."""
        private = self._is_private(node)
        if not (private or self.redactor.active) or all(task.item is None for task in tasks):
            return tasks
        masked = self._as_journaled(node, tasks)
        if masked != tasks:
            self._secret_items[node.index] = tasks
        return masked

    def _as_journaled(self, node: Node, tasks: tuple[TaskSpec, ...]) -> tuple[TaskSpec, ...]:
        private, mask = self._is_private(node), self.redactor.mask_value
        return tuple(
            TaskSpec(MASK if private else mask(_plain(task.item)), task.host) for task in tasks
        )

    def _spec(self, state: RunState, node: Node, task: int) -> TaskSpec:
        """A task with its item as it really is. After a resume a loop over secrets is rendered
        anew. Raises Refused when that no longer gives the same tasks, or its host is gone."""
        spec = state.task((node.index, task)).spec
        if spec.host is not None and spec.host not in self.inventory.hosts:
            raise Refused(
                f"host {spec.host!r} is not in the inventory any more",
                hint="put it back, or go on without it: `ce-run resume` with --done or --skip",
            )
        known = self._secret_items.get(node.index)
        if known is None:
            if spec.item is None or MASK not in str(spec.item):
                return spec
            assert node.step is not None
            known, _ = self._tasks(state, node, node.step, self.scope(state, node))
            journaled = tuple(each.spec for each in state.steps[node.index].tasks)
            if self._as_journaled(node, known) != journaled:
                raise Refused(
                    "its loop over secrets gives other items than when the run was started",
                    hint="put the secrets back as they were, or start a new run",
                )
            self._secret_items[node.index] = known
        return known[task]

    def _specs(self, step: Step, scope: Scope) -> list[list[TaskSpec]]:
        """For each item, a task on each host."""
        fan = step.fan
        assert fan is not None
        hosts: Sequence[str | None] = [None]
        if fan.hosts is not None:
            pattern = self.templates.render(fan.hosts, scope)
            hosts = self.inventory.select(pattern, self.limit)
        items: Sequence[Any] = [None]
        if fan.loop is not None:
            rendered = self.templates.render(fan.loop, scope)
            if not isinstance(rendered, list | tuple):
                raise UsageError(
                    f"`loop` gave {type(rendered).__name__}, and a list is wanted",
                    hint="a mapping's entries are `mapping | dictsort` or `mapping.items()`",
                )
            items = rendered
        return [[TaskSpec(item, host) for host in hosts] for item in items]

    def _gate(self, node: Node, step: Step, scope: Scope) -> GateOpened:
        gate = step.gate
        assert gate is not None
        checklist = self.templates.render(list(gate.checklist or ()), scope)
        return GateOpened(
            node.path,
            self.redactor.mask(str(self.templates.render(gate.message, scope))),
            tuple(self.redactor.mask(str(line)) for line in checklist),
            self._seconds(gate.timeout, scope, "timeout"),
        )

    def _opening(
        self,
        node: Node,
        scope: Scope,
        tasks: tuple[TaskSpec, ...] = (),
        batches: tuple[int, ...] = (),
    ) -> StepOpened:
        guards = () if self.mode == "check" else node.guards
        return StepOpened(
            node.path,
            tasks,
            batches,
            None if node.is_group else self._seconds(node.timeout, scope, "timeout"),
            self._seconds(node.budget, scope, "budget"),
            tuple(
                GuardTiming(
                    self._seconds(guard.every, scope, "every") or 10.0,
                    self._seconds(guard.hold, scope, "for") or 0.0,
                    int(self.templates.render(guard.min_samples, scope)),
                )
                for guard in guards
            ),
        )

    def _seconds(self, value: Any, scope: Scope, what: str) -> float | None:
        if value is None or isinstance(value, int | float):
            return value
        rendered = self.templates.render(value, scope)
        seconds = parse_duration(rendered)
        if seconds is None:
            raise UsageError(f"`{what}` gave {rendered!r}, and a duration such as 90s is wanted")
        return seconds

    # -- jobs --------------------------------------------------------------------------------------
    def job(self, state: RunState, node: Node, task: int) -> Job | Failure:
        """The job for an attempt that was announced just now."""
        assert node.step is not None
        assert node.step.call is not None
        call = node.step.call
        step = state.steps[node.index]
        found = step.tasks[task]
        try:
            info = self._action(call)
            arguments = self._arguments(state, node, call, info, self._spec(state, node, task))
        except CeRunError as error:
            return self.failure(node, error)
        context = self._context(state, node, task, step, found)
        return Job(
            node.path,
            task,
            found.attempt,
            info.function_for(self.mode),
            arguments,
            context,
            inline=info.inline,
        )

    def _action(self, call: Call) -> ActionInfo:
        info = self.registry.action(call.action)
        if info is None:
            raise UsageError(
                f"there is no action {call.action!r} any more",
                hint="was a folder of modules left out? see --modules",
            )
        return info

    def _arguments(
        self, state: RunState, node: Node, call: Call, info: ActionInfo, spec: TaskSpec
    ) -> dict[str, Any]:
        if call.literal:
            bound = self._bound.get(node.index)
            if bound is None:
                bound = self._bound[node.index] = info.bind(call.arguments)
            return bound
        scope = self.scope(state, node, spec)
        return info.bind(self._rendered(call, info, scope))

    def _rendered(self, call: Call, info: ActionInfo, scope: Scope) -> dict[str, Any]:
        return info.render(call.arguments, lambda value: self.templates.render(value, scope))

    def _context(
        self, state: RunState, node: Node, task: int, step: StepState, found: TaskState
    ) -> TaskContext:
        spec = self._spec(state, node, task)
        deadline = None if step.timeout is None else found.started + step.timeout
        return TaskContext(
            self.services,
            step=node.path,
            task=task,
            attempt=found.attempt,
            mode=self.mode,
            host=self._host(spec.host),
            deadline=deadline,
            first_started=found.first_started,
            scope=lambda: self.scope(state, node, spec),
            templates=self.templates,
            silent=self._is_private(node),
        )

    def _host(self, name: str | None) -> Host | None:
        return None if name is None else Host(name, self.inventory.host_vars(name))

    def probe(self, state: RunState, node: Node, task: int) -> Job | None:
        """A job that asks whether a task in doubt did its work."""
        assert node.step is not None
        assert node.step.call is not None
        call = node.step.call
        step = state.steps[node.index]
        found = step.tasks[task]
        try:
            info = self._action(call)
            if info.prober is None:
                return None
            arguments = self._arguments(state, node, call, info, self._spec(state, node, task))
        except CeRunError:
            return None
        context = self._context(state, node, task, step, found)
        return Job(node.path, task, found.attempt, info.prober, arguments, context, purpose="probe")

    def observation(self, state: RunState, node: Node, guard: int) -> Job | Failure:
        """A job for one look of a guard."""
        given = node.guards[guard]
        scope = self.scope(state, node, inside=True)
        try:
            info = self._action(given.call)
            arguments = info.bind(self._rendered(given.call, info, scope))
        except CeRunError as error:
            return self.failure(node, error)
        timing = state.group(node.index).guards[guard].timing
        context = TaskContext(
            self.services,
            step=node.path,
            task=guard,
            attempt=state.group(node.index).guards[guard].observations + 1,
            deadline=self.services.clock.now() + max(timing.every, 5.0),
            scope=lambda: scope,
            templates=self.templates,
            log_name=f"guard-{guard}",
        )
        return Job(node.path, guard, 1, info.function, arguments, context, purpose="guard")

    def _is_private(self, node: Node) -> bool:
        """Whether nothing that a step gives may be kept: it or a group around it says no_log."""
        return node.index in self._hidden

    # -- judging -----------------------------------------------------------------------------------
    def judge(self, state: RunState, node: Node, outcome: Outcome) -> TaskFinished:
        """The event for an outcome."""
        task = state.task((node.index, outcome.job.task))
        if outcome.error is not None:
            return self._judge_error(node, task, outcome.job, outcome.error)
        result = outcome.result
        if result is None:
            error = ActionError("the action gave no result")
            return self._judge_error(node, task, outcome.job, error)
        try:
            return self._judge_result(state, node, task, outcome.job, result)
        except CeRunError as error:
            return self._finished(node, outcome.job, "failed", result, self.failure(node, error))

    def _judge_error(
        self, node: Node, task: TaskState, job: Job, error: ActionError
    ) -> TaskFinished:
        failure = self.failure(node, error)
        status: TaskStatus = "failed"
        if failure.kind == "cancelled":
            kind = task.cancel or "cancelled"
            status = "failed" if kind == "timed_out" else "cancelled"
            failure = msgspec.structs.replace(
                failure, kind=kind, message=_CANCEL_WORDS.get(kind, failure.message)
            )
            if kind == "timed_out":
                failure = msgspec.structs.replace(failure, retryable=True)
        result = Result(data=dict(error.data))
        return self._finished(node, job, status, result, failure)

    def _judge_result(
        self, state: RunState, node: Node, task: TaskState, job: Job, result: Result
    ) -> TaskFinished:
        step = node.step
        assert step is not None
        if step.failed_when is None and step.changed_when is None and step.until is None:
            return self._finished(node, job, "succeeded", result, None)
        seen = _result_of(result.data, result.changed, result.message)
        names = {"result": seen} | ({step.register: seen} if step.register else {})
        scope = self.scope(state, node, self._spec(state, node, job.task)).child(names)
        if step.changed_when is not None:
            result = msgspec.structs.replace(
                result, changed=self.templates.test(step.changed_when, scope)
            )
        failure = None
        if step.failed_when is not None and self.templates.test(step.failed_when, scope):
            failure = Failure("failed", f"failed_when holds: {step.failed_when}", step=node.path)
        elif (
            step.until is not None
            and self.mode != "check"
            and not self.templates.test(step.until, scope)
        ):
            tail = f" ({result.message})" if result.message else ""
            failure = Failure("failed", f"not yet: {step.until}{tail}", step=node.path)
        return self._finished(node, job, "failed" if failure else "succeeded", result, failure)

    def _finished(
        self, node: Node, job: Job, status: TaskStatus, result: Result, failure: Failure | None
    ) -> TaskFinished:
        data, message, diff = result.data, result.message, result.diff
        shares, figures = _headlines(result)
        if self._is_private(node):
            self._private[node.index, job.task] = data
            data, message, diff, shares, figures = {}, "", "", {}, {}
            if failure is not None:
                failure = Failure(
                    failure.kind, "hidden by no_log", step=node.path, retryable=failure.retryable
                )
        elif data:
            data = self.redactor.mask_value(_plain(data))
        if self.redactor.active:
            message, diff = self.redactor.mask(message), self.redactor.mask(diff)
            shares = {self.redactor.mask(version): share for version, share in shares.items()}
            figures = dict(self.redactor.mask_value(figures))
            if failure is not None:
                failure = self._masked(failure)
        return TaskFinished(
            node.path,
            status,
            job.attempt,
            job.task,
            result.changed,
            data,
            message,
            diff,
            failure,
            shares,
            figures,
        )

    def judge_probe(self, node: Node, outcome: Outcome) -> TaskProbed:
        """What a probe found out; one that failed found out nothing."""
        task = outcome.job.task
        probe = outcome.probe
        if probe is None:
            said = outcome.error.message if outcome.error else "the probe gave no answer"
            shown = "hidden by no_log" if self._is_private(node) else self.redactor.mask(said)
            return TaskProbed(node.path, "unknown", task, message=shown)
        result = probe.result or Result()
        changed = result.changed or probe.verdict == "done"
        if self._is_private(node):
            self._private[node.index, task] = result.data
            return TaskProbed(node.path, probe.verdict, task, changed)
        return TaskProbed(
            node.path,
            probe.verdict,
            task,
            changed,
            self.redactor.mask_value(_plain(result.data)),
            self.redactor.mask(probe.message or result.message),
        )

    def judge_observation(
        self, state: RunState, node: Node, guard: int, outcome: Outcome | Failure
    ) -> GuardObserved:
        """pass, fail or inconclusive. Whatever goes wrong while looking is inconclusive."""
        given = node.guards[guard]
        seen = state.group(node.index).guards[guard]
        if isinstance(outcome, Failure):
            return GuardObserved(node.path, guard, "inconclusive", message=outcome.message)
        if outcome.result is None:
            said = outcome.error.message if outcome.error else "no result"
            message = self.redactor.mask(said)
            return GuardObserved(node.path, guard, "inconclusive", message=message)
        result = outcome.result
        value = result.data.get("value")
        samples = result.data.get("samples")
        counted = samples if isinstance(samples, int) else seen.observations + 1
        verdict: Verdict = "inconclusive"
        message = result.message
        if "value" in result.data and value is None:
            message = message or "no data"
        elif counted < seen.timing.min_samples:
            message = f"{counted} of at least {seen.timing.min_samples} samples"
        else:
            names = {"result": _result_of(result.data, result.changed, result.message)}
            try:
                scope = self.scope(state, node, inside=True)
                fails = self.templates.test(given.trip, scope.child(names))
                verdict = "fail" if fails else "pass"
                message = message or f"{given.trip} is {'true' if fails else 'false'}"
            except CeRunError as error:
                message = error.message
        return GuardObserved(
            node.path,
            guard,
            verdict,
            self.redactor.mask_value(_plain(value)),
            samples if isinstance(samples, int) else None,
            self.redactor.mask(message),
        )

    def failure(self, node: Node, error: CeRunError) -> Failure:
        """An error as the failure of a step, without secrets."""
        action = error if isinstance(error, ActionError) else None
        return self._masked(
            Failure(
                action.kind if action else "failed",
                error.message,
                node.path,
                error.hint,
                tuple(action.evidence) if action else (),
                action.retryable if action else False,
            )
        )

    def _masked(self, failure: Failure) -> Failure:
        mask = self.redactor.mask
        return msgspec.structs.replace(
            failure,
            message=mask(failure.message),
            hint=mask(failure.hint),
            evidence=tuple(mask(line) for line in failure.evidence),
        )

    # -- scopes -----------------------------------------------------------------------------------
    def scope(
        self, state: RunState, node: Node, spec: TaskSpec = PLAIN, *, inside: bool = False
    ) -> Scope:
        """What the templates of a step can read, for one of its tasks.

        A step that includes a runbook is read `inside` the runbook where the runbook says it
        (budget, guards), and outside where the step does (conditions, inputs).
        """
        scope = self._base(state)
        chain = [*reversed(list(self.plan.ancestors(node))), node]
        top, runbook = "", 0
        for each in chain:
            step = each.step
            if step is not None and step.vars:
                scope = scope.child(vars=step.vars)
            if step is not None and step.included is not None and (inside or each is not node):
                top, runbook = each.path, each.index
                inputs = self._included_inputs(state, each, step.included)
                scope = scope.included({"inputs": inputs}, vars=step.included.vars)
        names: dict[str, Any] = {"steps": self._steps(state, node, top)}
        self._failure_names(state, chain, names)
        passed = state.steps[node.index].gate_passed if node.index in state.steps else None
        if passed is not None:
            at = utc(state.steps[node.index].opened).isoformat(timespec="seconds")
            names["approval"] = {"by": passed.name, "via": passed.via, "at": at}
        if spec.item is not None:
            names["item"] = spec.item
        host_vars = None
        if spec.host is not None:
            host_vars = self.inventory.host_vars(spec.host)
            names["host"] = {"name": spec.host, **host_vars}
            names["inventory_hostname"] = spec.host
        registered = _Registered(
            state.registered, runbook, lambda index: self._value(state, index)["result"]
        )
        return scope.child(names, host_vars=host_vars, registered=registered, place=node.path)

    def _base(self, state: RunState) -> Scope:
        start = state.start
        assert start is not None
        names = {
            "inputs": start.inputs,
            "run": {
                "id": start.run,
                "name": start.name,
                "runbook": start.runbook,
                "mode": start.mode,
                "check": self.mode == "check",
                "reason": start.reason,
                "force": bool(start.options.get("force")),
                "by": start.by.name,
                "started": run_stamp(state.started),
                "started_at": utc(state.started).isoformat(timespec="seconds"),
                "elapsed": round(self.services.clock.now() - state.started, 3),
            },
        }
        return Scope(
            names,
            vars=self.plan.runbook.vars,
            extra=self.extra,
            inventory=self._inventory_names,
        )

    def _included_inputs(self, state: RunState, node: Node, included: Included) -> dict[str, Any]:
        """The inputs of an included runbook, rendered once, when it is first needed.

        They are given by the step that includes it, so they are read outside.
        """
        found = self._inputs.get(node.index)
        if found is None:
            given = self.templates.render(included.arguments, self.scope(state, node))
            found = self._inputs[node.index] = convert_inputs(included.inputs, given)
        return found

    def _failure_names(self, state: RunState, chain: Sequence[Node], names: dict[str, Any]) -> None:
        """``failure``, inside a rescue, undo or always block: what the block answers to."""
        for each in reversed(chain):
            if each.role != "body":
                owner = each.parent if each.role != "undo" else 0
                step = state.steps.get(owner)
                latch = step.group.latch if step and step.group else None
                names["failure"] = _failure_value(latch or state.failure)
                return

    def _steps(self, state: RunState, node: Node, top: str) -> Steps:
        def find(path: str) -> dict[str, Any] | None:
            if top and not path.startswith(top + "/"):
                return None
            index = self.plan.by_path.get(path)
            return None if index is None else self._value_if_over(state, index)

        def known() -> list[str]:
            inside = (each.path for each in self.plan.steps() if each.index in state.steps)
            return [path.removeprefix(top + "/") if top else path for path in inside]

        return Steps(find, _group_path(self.plan, node), known)

    def _value_if_over(self, state: RunState, index: int) -> dict[str, Any] | None:
        step = state.steps.get(index)
        if step is None or (step.status not in FINAL and not step.tasks):
            return None
        return self._value(state, index)

    def _value(self, state: RunState, index: int) -> dict[str, Any]:
        """``steps.<id>``: status, changed, failed, skipped, and the result."""
        step = state.steps[index]
        node = self.plan.nodes[index]
        results = [self._task_value(node, number, task) for number, task in enumerate(step.tasks)]
        fanned = node.step is not None and node.step.fan is not None
        if fanned:
            for task, result in zip(step.tasks, results, strict=True):
                result |= {"item": task.spec.item, "host": task.spec.host}
        changed = any(task.changed for task in step.tasks)
        single = results[0] if results and not fanned else {"results": results, "changed": changed}
        return {
            "status": step.status,
            "changed": changed,
            "failed": step.status in ("failed", "cancelled", "rescued"),
            "skipped": step.status == "skipped",
            "started": utc(step.opened).isoformat(timespec="seconds") if step.opened else "",
            "seconds": round(step.finished - step.opened, 3) if step.finished else None,
            "result": single,
        }

    def _task_value(self, node: Node, number: int, task: TaskState) -> dict[str, Any]:
        data = self._private.get((node.index, number), task.data)
        value = _result_of(data, task.changed, task.message) | {"failed": task.life == "failed"}
        gone = self._is_private(node) and (node.index, number) not in self._private
        return Forgotten(node.path, value) if gone and task.life in TASK_FINAL else value


class _Registered(Mapping[str, Any]):
    """The registered results of one runbook, each made when a template first reads it.

    A run may register thousands, and most steps read none of them.
    """

    __slots__ = ("_made", "_make", "_runbook", "_steps")

    def __init__(
        self, steps: Mapping[tuple[int, str], int], runbook: int, make: Callable[[int], Any]
    ) -> None:
        """`steps` has the step for each runbook and name, `make` the result of a step."""
        self._steps = steps
        self._runbook = runbook
        self._make = make
        self._made: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = self._make(self._steps[self._runbook, name])
        return self._made[name]

    def __contains__(self, name: object) -> bool:
        return (self._runbook, name) in self._steps

    def __iter__(self) -> Iterator[str]:
        return (name for runbook, name in self._steps if runbook == self._runbook)

    def __len__(self) -> int:
        return sum(1 for _ in self)


_CANCEL_WORDS: dict[FailureKind, str] = {
    "timed_out": "its timeout passed; it was stopped",
    "budget_exceeded": "it took longer than its budget; it was stopped",
    "interrupted": "the run was interrupted while it worked",
}


def _group_path(plan: Plan, node: Node) -> str:
    return plan.nodes[node.parent].path if node.index else ""


def _conditions(step: Step) -> str:
    return "when: " + " and ".join(step.when)


def _answered(state: RunState, node: Node) -> bool:
    step = state.steps.get(node.index)
    return step is not None and step.gate_passed is not None


def _batches(serial: Any, count: int) -> tuple[int, ...]:
    """Sizes of the batches that `serial` makes of so many tasks; the last size goes on, and 0 means
    all that are left."""
    sizes = (serial or [None]) if isinstance(serial, list | tuple) else [serial]
    made: list[int] = []
    left = count
    for number in range(count):
        size = _batch_size(sizes[min(number, len(sizes) - 1)], count)
        made.append(min(size, left))
        left -= made[-1]
        if left == 0:
            break
    return tuple(made)


def _batch_size(value: Any, count: int) -> int:
    text = str(value).strip()
    try:
        if text.endswith("%"):
            return max(1, int(float(text[:-1]) * count / 100))
        size = int(text)
    except ValueError:
        raise UsageError(
            f"`serial` gave {value!r}, and a number of tasks or a percentage is wanted"
        ) from None
    return size if size > 0 else count


def _result_of(data: Mapping[str, Any], changed: bool, message: str) -> dict[str, Any]:
    return {"changed": changed, "message": message, **data}


def _failure_value(failure: Failure | None) -> dict[str, Any] | None:
    if failure is None:
        return None
    return {**msgspec.structs.asdict(failure), "summary": failure.summary}


def _headlines(result: Result) -> tuple[dict[str, float], dict[str, float | str]]:
    """Shares and figures as the journal can hold them, whatever a module put there."""
    shares = {
        writable(str(version)): float(share)
        for version, share in result.shares.items()
        if _is_finite(share)
    }
    figures = {
        writable(str(name)): value if _is_finite(value) else writable(str(value))
        for name, value in result.figures.items()
    }
    return shares, figures


def _is_finite(value: Any) -> bool:
    numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return numeric and abs(value) < 1e300


def _plain(value: Any) -> Any:
    """The value as it will be read from the journal again, so that a step finds the same result
    before a crash and after it."""
    if value is None or isinstance(value, bool | int):
        return value
    try:
        text = msgspec.json.encode(value, enc_hook=str)
        if text.count(b"{") + text.count(b"[") <= DEEPEST:  # or it may lie too deep to be read
            return msgspec.json.decode(text)
    except (UnicodeEncodeError, RecursionError, TypeError, OverflowError):
        pass
    return as_json(value)
