"""Scopes: the names that the templates of a step can read, for one of its tasks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from engine.clock import utc
from engine.evaluation.material import Material, Unrecorded
from engine.evaluation.values import Registered, failure_value, result_value, run_stamp
from engine.events import TaskSpec
from engine.loader.inputs import convert_inputs
from engine.model import Included
from engine.plan import NONE, Node
from engine.state import FINAL, PLAIN, TASK_FINAL, RunState, TaskState
from engine.templating import Forgotten, Lazy, Scope, Steps


class _Frame(msgspec.Struct, frozen=True, eq=False):
    """What of a step's scope stays the same through a run: made once, used by every render."""

    scope: Scope
    """Variables of the runbook, of the groups around the step and of the step, and inputs."""
    chain: tuple[Node, ...]
    """The steps around it, from the top, and the step itself."""
    top: str
    """Path of the step that includes the runbook in which it is read; ``""`` at the top."""
    known: tuple[int, ...]
    """Whose registered names it knows (`Plan.scopes_of`)."""
    hosts: tuple[Node, ...]
    """Instances of groups in which the step lies, whose host is there, innermost first."""
    items: tuple[Node, ...]
    """The same for an item: one ends where a runbook is included."""


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
        self.instance_spec: Callable[[RunState, Node], TaskSpec] = RunState.spec_of
        """The item and the host of a group's instance; set by who renders them."""

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
            names["approval"] = {"by": by.shown, "via": by.via, "at": at}
        item, host = self._around(state, frame, spec)
        if item is not None:
            names["item"] = item
        host_vars = None
        if host is not None:
            host_vars = self._material.inventory.host_vars(host)
            names["inventory_hostname"] = host
        registered = Registered(
            state.registered, frame.known, lambda index: self._value(state, index)["result"]
        )
        scope = frame.scope.child(
            names, host_vars=host_vars, registered=registered, place=node.path
        )
        return scope if host is None else self._on_host(scope, host)

    def _on_host(self, scope: Scope, host: str) -> Scope:
        """The scope with ``host``: its variables, rendered among themselves when they are read."""
        values = {"name": host, **scope.host_vars}
        names: dict[str, Any] = {**scope.names}
        inner = scope.child(names)
        inner.names = names
        names["host"] = Lazy("host", values, inner, self._material.templates)
        return inner

    def host(self, state: RunState, node: Node, spec: TaskSpec = PLAIN) -> str | None:
        """The host of a task: its own, or that of the instance in which its step lies."""
        frame = self._frames.get((node.index, False)) or self._frame(state, node, False)
        return self._around(state, frame, spec)[1]

    def _around(self, state: RunState, frame: _Frame, spec: TaskSpec) -> tuple[Any, str | None]:
        """Item and host of a task, where it has none those of the instances around it."""
        item, host = spec.item, spec.host
        for instance in frame.items:
            item = self.instance_spec(state, instance).item if item is None else item
        for instance in frame.hosts:
            host = self.instance_spec(state, instance).host if host is None else host
        return item, host

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
        top = ""
        hosts: list[Node] = []
        items: list[Node] = []
        for each in chain:
            step = each.step
            if self._plan.is_instance(each):
                hosts.insert(0, each)
                items.insert(0, each)
            if step is not None and step.vars:
                scope = scope.child(vars=step.vars)
            if step is None or step.included is None or each.fans:
                continue
            if inside or each is not node:
                top = each.path
                items.clear()
                inputs = self._included_inputs(state, each, step.included)
                scope = scope.included({"inputs": inputs}, vars=step.included.vars)
        known = self._plan.scopes_of(node, inside=inside)
        frame = _Frame(scope, chain, top, known, tuple(hosts), tuple(items))
        self._frames[node.index, inside] = frame
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
                "by": start.by.shown,
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
            inside = (each.path for each in state.walk() if each.step and each.index in state.steps)
            return [path.removeprefix(top + "/") if top else path for path in inside]

        return Steps(find, group, known)

    def _value_if_over(self, state: RunState, index: int) -> dict[str, Any] | None:
        step = state.steps.get(index)
        if step is None:
            return self._of_all_instances(state, index)
        if step.status not in FINAL and not step.tasks:
            return None
        return self._value(state, index)

    def _value(self, state: RunState, index: int) -> dict[str, Any]:
        """``steps.<id>``: status, changed, failed, skipped, and the result."""
        if index not in state.steps:
            return self._of_all_instances(state, index) or {"result": {"results": []}}
        step = state.steps[index]
        node = self._plan.nodes[index]
        results = [self._task_value(node, number, task) for number, task in enumerate(step.tasks)]
        fanned = node.step is not None and node.step.fan is not None
        if fanned:
            for task, result in zip(step.tasks, results, strict=True):
                result |= {"item": task.spec.item, "host": task.spec.host}
        if index in state.fans:
            results = self._instances(state, index)
        changed = any(result["changed"] for result in results)
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

    def _instances(self, state: RunState, group: int) -> list[dict[str, Any]]:
        """What became of each instance of a group that has begun."""
        instances = []
        for member, spec in state.fans[group].specs.items():
            if member in state.steps:
                value = self._value(state, member)
                del value["result"]
                inside = [each.index for each in self._plan.below(self._plan.nodes[member])]
                changed = any(
                    task.changed
                    for each in inside
                    if each in state.steps
                    for task in state.steps[each].tasks
                )
                instances.append(
                    {**value, "changed": changed, "item": spec.item, "host": spec.host}
                )
        return instances

    def _of_all_instances(self, state: RunState, index: int) -> dict[str, Any] | None:
        """A step inside a group that fans out, as seen from outside: as if it did so itself."""
        node = self._plan.nodes[index]
        group = NONE  # the outermost of which the step is a part as written, not of an instance
        for up in self._plan.ancestors(node):
            group = up.index if up.index in state.fans and index < up.end else group
        if group == NONE:
            return None
        results: list[dict[str, Any]] = []
        for member, spec in state.fans[group].specs.items():
            value = self._value_if_over(state, member + index - group)
            if value is not None:
                states = {name: value[name] for name in ("status", "failed", "skipped")}
                of = {"item": spec.item, "host": spec.host}
                results.append({**value["result"], **states, **of})
        changed = any(result.get("changed") for result in results)
        return {
            "status": "failed" if any(each["failed"] for each in results) else "succeeded",
            "changed": changed,
            "failed": any(each["failed"] for each in results),
            "skipped": bool(results) and all(each["skipped"] for each in results),
            "started": "",
            "seconds": None,
            "result": {"results": results, "changed": changed},
        }

    def _task_value(self, node: Node, number: int, task: TaskState) -> dict[str, Any]:
        data = self._unrecorded.results.get((node.index, number), task.data)
        value = result_value(data, task.changed, task.message) | {"failed": task.life == "failed"}
        gone = self._unrecorded.hides(node) and (node.index, number) not in self._unrecorded.results
        return Forgotten(node.path, value) if gone and task.life in TASK_FINAL else value
