"""Jobs: an attempt that was announced, a probe, or a look of a guard, ready for the executor."""

from __future__ import annotations

from typing import Any

from engine.errors import CeRunError, UsageError
from engine.evaluation.material import Material, Unrecorded
from engine.evaluation.preparing import Preparing
from engine.evaluation.scopes import Scopes
from engine.events import Failure, TaskSpec
from engine.executor import Attempt, Job, TaskContext
from engine.model import Call
from engine.module_api import Host
from engine.plan import Node
from engine.registry import ActionInfo
from engine.state import PLAIN, RunState
from engine.templating import Scope

SHORTEST_LOOK = 5.0
"""Seconds that a guard's look has at least; else as long as its interval."""


class Jobs:
    """Turns what a step says into what an executor can carry out."""

    def __init__(
        self, material: Material, scopes: Scopes, preparing: Preparing, unrecorded: Unrecorded
    ) -> None:
        self._material = material
        self._scopes = scopes
        self._preparing = preparing
        self._unrecorded = unrecorded
        self._constant: dict[tuple[int, int], bool] = {}  # guards that ask the same each time
        self._bound: dict[int, dict[str, Any]] = {}  # arguments without templates, by step

    def job(self, state: RunState, node: Node, task: int) -> Job | Failure:
        """The job for an attempt that was announced just now."""
        call = _call_of(node)
        attempt = state.steps[node.index].tasks[task].attempt
        try:
            info = self._action(call)
            spec = self._preparing.spec(state, node, task)
            arguments = self._arguments(state, node, call, info, spec)
            context = self._context(state, node, task, spec)
        except CeRunError as error:
            return self._material.failure(node, error)
        function = info.function_for(self._material.mode)
        return Job(node.path, task, attempt, function, arguments, context, inline=info.inline)

    def probe(self, state: RunState, node: Node, task: int) -> Job | None:
        """A job that asks whether a task in doubt did its work."""
        call = _call_of(node)
        attempt = state.steps[node.index].tasks[task].attempt
        try:
            info = self._action(call)
            if info.prober is None:
                return None
            spec = self._preparing.spec(state, node, task)
            arguments = self._arguments(state, node, call, info, spec)
            context = self._context(state, node, task, spec)
        except CeRunError:
            return None
        return Job(node.path, task, attempt, info.prober, arguments, context, purpose="probe")

    def observation(self, state: RunState, node: Node, guard: int) -> Job | Failure:
        """A job for one look of a guard."""
        material = self._material
        call = node.guards[guard].call
        seen = state.group(node.index).guards[guard]
        try:
            scope = self._scopes.scope(state, node, inside=True)
            info = self._action(call)
            arguments = info.bind(self._rendered(call, info, scope))
        except CeRunError as error:
            return material.failure(node, error)
        terms = Attempt(
            node.path,
            guard,
            seen.observations + 1,
            mode=material.mode,
            host=self._host(state, node),
            deadline=material.services.clock.now() + max(seen.timing.every, SHORTEST_LOOK),
            log_name=f"guard-{guard}",
            silent=self._unrecorded.hides(node),
        )
        context = TaskContext(
            material.services, terms, scope=lambda: scope, templates=material.templates
        )
        function = info.function_for(material.mode)
        return Job(
            node.path,
            guard,
            1,
            function,
            arguments,
            context,
            purpose="guard",
            constant=material.mode == "simulate" and self._is_constant(node, guard, scope),
        )

    def _is_constant(self, node: Node, guard: int, scope: Scope) -> bool:
        """Whether a guard asks and judges the same each time."""
        known = self._constant.get((node.index, guard))
        if known is None:
            from engine.evaluation.constant import is_constant

            spec = node.guards[guard]
            known = is_constant(spec.call.arguments, scope) and is_constant(
                spec.trip, scope, expression=True
            )
            self._constant[node.index, guard] = known
        return known

    def _host(self, state: RunState, node: Node, spec: TaskSpec = PLAIN) -> Host | None:
        """The host that a task works on, its variables rendered when the module reads them."""
        name = self._scopes.host(state, node, spec)
        if name is None:
            return None
        return Host(name, self._scopes.scope(state, node, spec).names["host"])

    def _action(self, call: Call) -> ActionInfo:
        info = self._material.registry.action(call.action)
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
        scope = self._scopes.scope(state, node, spec)
        return info.bind(self._rendered(call, info, scope))

    def _rendered(self, call: Call, info: ActionInfo, scope: Scope) -> dict[str, Any]:
        templates = self._material.templates
        return info.render(call.arguments, lambda value: templates.render(value, scope))

    def _context(self, state: RunState, node: Node, task: int, spec: TaskSpec) -> TaskContext:
        material = self._material
        step = state.steps[node.index]
        record = step.tasks[task]
        terms = Attempt(
            node.path,
            task,
            record.attempt,
            mode=material.mode,
            host=self._host(state, node, spec),
            deadline=None if step.timeout is None else record.started + step.timeout,
            first_started=record.first_started,
            silent=self._unrecorded.hides(node),
        )
        return TaskContext(
            material.services,
            terms,
            scope=lambda: self._scopes.scope(state, node, spec),
            templates=material.templates,
        )


def _call_of(node: Node) -> Call:
    assert node.step is not None
    assert node.step.call is not None
    return node.step.call
