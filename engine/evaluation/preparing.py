"""Preparing a step whose turn it is: open it, ask about it, skip it, or fail it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.errors import CeRunError, Refused, UsageError
from engine.evaluation.material import Material, Unrecorded
from engine.evaluation.scopes import Scopes
from engine.evaluation.values import plain
from engine.events import (
    AnyEvent,
    GateOpened,
    GuardTiming,
    StepFinished,
    StepOpened,
    StepSkipped,
    TaskSpec,
)
from engine.model import Step
from engine.plan import Node
from engine.redaction import MASK
from engine.state import PLAIN, RunState
from engine.templating import Scope
from engine.units import parse_duration


class Preparing:
    """How a step begins: its conditions, its tasks and batches, its gate, its times."""

    def __init__(self, material: Material, scopes: Scopes, unrecorded: Unrecorded) -> None:
        self._material = material
        self._scopes = scopes
        self._unrecorded = unrecorded
        self._templates = material.templates
        scopes.instance_spec = self.instance_spec

    def prepare(self, state: RunState, node: Node) -> AnyEvent:
        """Open, ask about, skip or fail a step whose turn it is."""
        try:
            return self._prepared(state, node)
        except CeRunError as error:
            return StepFinished(node.path, "failed", self._material.failure(node, error))

    def _prepared(self, state: RunState, node: Node) -> AnyEvent:
        step = node.step
        scope = self._scopes.scope(state, node)
        if step is None:
            return self._opening(node, scope)
        if step.fan is None and not self._holds(step, scope):
            return StepSkipped(node.path, _conditions(step))
        tasks, batches = self._tasks(state, node, step, scope)
        if step.fan is not None and not tasks:
            return StepSkipped(node.path, "no host or item is left for it")
        tasks = self._without_secrets(node, tasks)
        if step.gate is not None and self._material.mode != "check" and not _answered(state, node):
            return self._gate(node, step, scope)
        if step.included is not None and not node.fans:
            scope = self._scopes.scope(state, node, inside=True)
        return self._opening(node, scope, tasks, batches)

    def _holds(self, step: Step, scope: Scope) -> bool:
        return all(self._templates.test(condition, scope) for condition in step.when)

    def _tasks(
        self, state: RunState, node: Node, step: Step, scope: Scope
    ) -> tuple[tuple[TaskSpec, ...], tuple[int, ...]]:
        """The step's tasks, leaving out those for which its conditions do not hold; batches.

        As in Ansible, hosts work at the same time and the items of a loop one after the other,
        each on all hosts, unless `serial` says how many tasks make a batch.
        """
        fan = step.fan
        if fan is None:
            return (() if step.block is not None else (PLAIN,)), ()
        by_item = [
            [
                spec
                for spec in row
                if not step.when or self._holds(step, self._scopes.scope(state, node, spec))
            ]
            for row in self._specs(step, scope)
        ]
        tasks = tuple(spec for row in by_item for spec in row)
        if fan.serial is not None:
            return tasks, _batches(self._templates.render(fan.serial, scope), len(tasks))
        return tasks, tuple(len(row) for row in by_item if row) if len(by_item) > 1 else ()

    def _without_secrets(self, node: Node, tasks: tuple[TaskSpec, ...]) -> tuple[TaskSpec, ...]:
        """The tasks as the journal may have them; items that hold secrets, and all those of a
        ``no_log`` step, are kept here."""
        private = self._unrecorded.hides(node)
        if not (private or self._material.redactor.active) or all(
            task.item is None for task in tasks
        ):
            return tasks
        masked = self._as_journaled(node, tasks)
        if masked != tasks:
            self._unrecorded.items[node.index] = tasks
        return masked

    def _as_journaled(self, node: Node, tasks: tuple[TaskSpec, ...]) -> tuple[TaskSpec, ...]:
        private, mask = self._unrecorded.hides(node), self._material.redactor.mask_value
        return tuple(
            TaskSpec(MASK if private else mask(plain(task.item)), task.host) for task in tasks
        )

    def spec(self, state: RunState, node: Node, task: int) -> TaskSpec:
        """A task with its item as it really is. After a resume a loop over secrets is rendered
        anew. Raises Refused when that no longer gives the same tasks, or its host is gone."""
        return self._spec(state, node, task, [each.spec for each in state.steps[node.index].tasks])

    def instance_spec(self, state: RunState, instance: Node) -> TaskSpec:
        """The same for an instance of a group."""
        specs = state.fans[instance.parent].specs
        number = list(specs).index(instance.index)
        group = self._material.plan.nodes[instance.parent]
        return self._spec(state, group, number, list(specs.values()))

    def _spec(
        self, state: RunState, node: Node, number: int, journaled: Sequence[TaskSpec]
    ) -> TaskSpec:
        spec = journaled[number]
        if spec.host is not None and spec.host not in self._material.inventory.hosts:
            raise Refused(
                f"host {spec.host!r} is not in the inventory any more",
                hint="put it back, or go on without it: `ce-run resume` with --done or --skip",
            )
        known = self._unrecorded.items.get(node.index)
        if known is None:
            if spec.item is None or MASK not in str(spec.item):
                return spec
            assert node.step is not None
            known, _ = self._tasks(state, node, node.step, self._scopes.scope(state, node))
            if self._as_journaled(node, known) != tuple(journaled):
                raise Refused(
                    "its loop over secrets gives other items than when the run was started",
                    hint="put the secrets back as they were, or start a new run",
                )
            self._unrecorded.items[node.index] = known
        return known[number]

    def _specs(self, step: Step, scope: Scope) -> list[list[TaskSpec]]:
        """For each item, a task on each host."""
        fan = step.fan
        assert fan is not None
        hosts: Sequence[str | None] = [None]
        if fan.hosts is not None:
            pattern = self._templates.render(fan.hosts, scope)
            hosts = self._material.inventory.select(pattern, self._material.limit)
        items: Sequence[Any] = [None]
        if fan.loop is not None:
            rendered = self._templates.render(fan.loop, scope)
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
        checklist = self._templates.render(list(gate.checklist or ()), scope)
        return GateOpened(
            node.path,
            self._material.redactor.mask(str(self._templates.render(gate.message, scope))),
            tuple(self._material.redactor.mask(str(line)) for line in checklist),
            self._seconds(gate.timeout, scope, "timeout"),
        )

    def _opening(
        self,
        node: Node,
        scope: Scope,
        tasks: tuple[TaskSpec, ...] = (),
        batches: tuple[int, ...] = (),
    ) -> StepOpened:
        guards = () if self._material.mode == "check" else node.guards
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
                    int(self._templates.render(guard.min_samples, scope)),
                )
                for guard in guards
            ),
        )

    def _seconds(self, value: Any, scope: Scope, what: str) -> float | None:
        if value is None or isinstance(value, int | float):
            return value
        rendered = self._templates.render(value, scope)
        seconds = parse_duration(rendered)
        if seconds is None:
            raise UsageError(f"`{what}` gave {rendered!r}, and a duration such as 90s is wanted")
        return seconds


def _conditions(step: Step) -> str:
    return "when: " + " and ".join(step.when)


def _answered(state: RunState, node: Node) -> bool:
    step = state.steps.get(node.index)
    return step is not None and step.gate_passed is not None


def _batches(serial: Any, count: int) -> tuple[int, ...]:
    """Sizes of the batches that `serial` makes of so many tasks; the last size goes on, and 0 means
    all that are left."""
    sizes = (serial or [None]) if isinstance(serial, list | tuple) else [serial]
    batches: list[int] = []
    left = count
    for number in range(count):
        size = _batch_size(sizes[min(number, len(sizes) - 1)], count)
        batches.append(min(size, left))
        left -= batches[-1]
        if left == 0:
            break
    return tuple(batches)


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
