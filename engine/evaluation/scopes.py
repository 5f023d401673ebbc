"""Scopes: the names that the templates of a step can read, for one of its tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from engine.clock import utc
from engine.evaluation.material import Material, Unrecorded
from engine.evaluation.values import Registered, failure_value, result_value, run_stamp
from engine.events import TaskSpec
from engine.loader.inputs import convert_inputs
from engine.model import Included
from engine.plan import Node
from engine.state import FINAL, PLAIN, TASK_FINAL, RunState, TaskState
from engine.templating import Forgotten, Scope, Steps


class _Frame(msgspec.Struct, frozen=True, eq=False):
    """What of a step's scope stays the same through a run: made once, used by every render."""

    scope: Scope
    """Variables of the runbook, of the groups around the step and of the step, and inputs."""
    chain: tuple[Node, ...]
    """The steps around it, from the top, and the step itself."""
    top: str
    """Path of the step that includes the runbook in which it is read; ``""`` at the top."""
    runbook: int
    """The number of that step."""


class Scopes:
    """Makes the scopes of a run."""

    def __init__(self, material: Material, unrecorded: Unrecorded) -> None:
        self._material = material
        self._plan = material.plan
        self._unrecorded = unrecorded
        self._inventory_names = material.inventory.variables()
        self._frames: dict[tuple[int, bool], _Frame] = {}
        self._included: dict[int, dict[str, Any]] = {}
        self._run: dict[str, Any] = {}

    def scope(
        self, state: RunState, node: Node, spec: TaskSpec = PLAIN, *, inside: bool = False
    ) -> Scope:
        """What the templates of a step can read, for one of its tasks.

        A step that includes a runbook is read `inside` the runbook where the runbook says it
        (budget, guards), and outside where the step does (conditions, inputs).
        """
        frame = self._frames.get((node.index, inside)) or self._frame(state, node, inside)
        names: dict[str, Any] = {
            "run": self._run_names(state),
            "steps": self._steps(state, node, frame.top),
        }
        self._failure_names(state, frame.chain, names)
        step = state.steps.get(node.index)
        if step is not None and step.gate_passed is not None:
            by = step.gate_passed
            at = utc(step.opened).isoformat(timespec="seconds")
            names["approval"] = {"by": by.name, "via": by.via, "at": at}
        if spec.item is not None:
            names["item"] = spec.item
        host_vars = None
        if spec.host is not None:
            host_vars = self._material.inventory.host_vars(spec.host)
            names["host"] = {"name": spec.host, **host_vars}
            names["inventory_hostname"] = spec.host
        registered = Registered(
            state.registered, frame.runbook, lambda index: self._value(state, index)["result"]
        )
        return frame.scope.child(names, host_vars=host_vars, registered=registered, place=node.path)

    def _frame(self, state: RunState, node: Node, inside: bool) -> _Frame:
        start = state.start
        assert start is not None
        scope = Scope(
            {"inputs": start.inputs},
            vars=self._plan.runbook.vars,
            extra=self._material.extra,
            inventory=self._inventory_names,
        )
        chain = (*reversed(list(self._plan.ancestors(node))), node)
        top, runbook = "", 0
        for each in chain:
            step = each.step
            if step is not None and step.vars:
                scope = scope.child(vars=step.vars)
            if step is not None and step.included is not None and (inside or each is not node):
                top, runbook = each.path, each.index
                inputs = self._included_inputs(state, each, step.included)
                scope = scope.included({"inputs": inputs}, vars=step.included.vars)
        frame = self._frames[node.index, inside] = _Frame(scope, chain, top, runbook)
        return frame

    def _run_names(self, state: RunState) -> dict[str, Any]:
        """``run``: all but the time that has passed stays what it was."""
        if not self._run:
            start = state.start
            assert start is not None
            self._run = {
                "id": start.run,
                "name": start.name,
                "runbook": start.runbook,
                "mode": start.mode,
                "check": self._material.mode == "check",
                "reason": start.reason,
                "force": bool(start.options.get("force")),
                "by": start.by.name,
                "started": run_stamp(state.started),
                "started_at": utc(state.started).isoformat(timespec="seconds"),
            }
        elapsed = round(self._material.services.clock.now() - state.started, 3)
        return {**self._run, "elapsed": elapsed}

    def _included_inputs(self, state: RunState, node: Node, included: Included) -> dict[str, Any]:
        """The inputs of an included runbook, rendered once, when it is first needed.

        They are given by the step that includes it, so they are read outside.
        """
        inputs = self._included.get(node.index)
        if inputs is None:
            arguments = self._material.templates.render(included.arguments, self.scope(state, node))
            inputs = self._included[node.index] = convert_inputs(included.inputs, arguments)
        return inputs

    def _failure_names(self, state: RunState, chain: Sequence[Node], names: dict[str, Any]) -> None:
        """``failure``, inside a rescue, undo or always block: what the block answers to."""
        for each in reversed(chain):
            if each.role != "body":
                owner = each.parent if each.role != "undo" else 0
                step = state.steps.get(owner)
                latch = step.group.latch if step and step.group else None
                names["failure"] = failure_value(latch or state.failure)
                return

    def _steps(self, state: RunState, node: Node, top: str) -> Steps:
        group = self._plan.nodes[node.parent].path if node.index else ""

        def find(path: str) -> dict[str, Any] | None:
            if top and not path.startswith(top + "/"):
                return None
            index = self._plan.by_path.get(path)
            return None if index is None else self._value_if_over(state, index)

        def known() -> list[str]:
            inside = (each.path for each in self._plan.steps() if each.index in state.steps)
            return [path.removeprefix(top + "/") if top else path for path in inside]

        return Steps(find, group, known)

    def _value_if_over(self, state: RunState, index: int) -> dict[str, Any] | None:
        step = state.steps.get(index)
        if step is None or (step.status not in FINAL and not step.tasks):
            return None
        return self._value(state, index)

    def _value(self, state: RunState, index: int) -> dict[str, Any]:
        """``steps.<id>``: status, changed, failed, skipped, and the result."""
        step = state.steps[index]
        node = self._plan.nodes[index]
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
        data = self._unrecorded.results.get((node.index, number), task.data)
        value = result_value(data, task.changed, task.message) | {"failed": task.life == "failed"}
        gone = self._unrecorded.hides(node) and (node.index, number) not in self._unrecorded.results
        return Forgotten(node.path, value) if gone and task.life in TASK_FINAL else value
