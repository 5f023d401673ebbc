"""The state of a whole run."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Literal

from engine.events import Failure, Outcome, ReasonGiven, RunStarted, StopRequested, TaskSpec
from engine.plan import Node, Plan
from engine.state.records import (
    FINAL,
    SATISFYING,
    FanState,
    GroupState,
    Status,
    StepState,
    TaskKey,
    TaskState,
)
from engine.state.timers import Timers


class RunState:
    """Everything known about a run; see the module's docstring for who may change it."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.seq = 0
        self.time = 0.0
        self.life: Literal["new", "running", "stopping", "stopped", "finished"] = "new"
        self.start: RunStarted | None = None
        self.started = 0.0
        self.finished = 0.0
        self.attended = False
        self.tokens: dict[str, int] = {}
        self.warnings: dict[str, str] = {}
        """What people were warned of → the first step that did it."""
        self.reason: ReasonGiven | None = None
        """Why the run was started, if that was told afterwards."""
        self.stop: StopRequested | None = None
        self.outcome: Outcome | None = None
        self.steps: dict[int, StepState] = {}
        self.unmet: list[int] = [len(node.needs) for node in plan.nodes]
        self.ready: deque[TaskKey] = deque()
        self.running: dict[TaskKey, None] = {}
        self.doubts: dict[TaskKey, None] = {}
        self.gates: dict[int, None] = {}
        self.groups: dict[int, None] = {}
        self.attention: dict[int, None] = {}
        self.fans: dict[int, FanState] = {}
        """Groups that fan out, once it is known into what."""
        self.undoable: dict[int, None] = {}
        self.undone: dict[int, Status] = {}
        self.registered: dict[tuple[int, str], int] = {}
        """Whose name it is (`Plan.names_of`) and the name → the step that it tells about."""
        self.timers = Timers()
        self.left_at: float | None = None
        self.pauses: list[tuple[float, float]] = []
        """From when to when no process carried the run."""

    # -- looking things up ----------------------------------------------------------------------
    def status(self, node: Node) -> Status:
        """The status of a node."""
        record = self.steps.get(node.index)
        return record.status if record is not None else "pending"

    def step(self, index: int) -> StepState:
        """The record of a node that something has happened to; KeyError otherwise."""
        return self.steps[index]

    def group(self, index: int) -> GroupState:
        """The group record of an opened group; raises AssertionError otherwise."""
        group = self.steps[index].group
        assert group is not None
        return group

    def task(self, key: TaskKey) -> TaskState:
        """A task of a step that has been opened."""
        return self.steps[key[0]].tasks[key[1]]

    def satisfied(self, index: int) -> bool:
        """Whether what needs this step may go on."""
        record = self.steps.get(index)
        return record is not None and (record.status in SATISFYING or record.ignored)

    def charged(self, index: int, until: float) -> float:
        """Seconds that count for a step's or the run's budget: without those in which no process
        carried the run, and without those in which people were waited for inside."""
        step = self.steps.get(index)
        if step is None or not step.opened:
            return 0.0
        end = step.finished if step.status in FINAL else until
        if self.left_at is not None:
            end = min(end, self.left_at)
        lay = sum(max(0.0, min(end, to) - max(step.opened, since)) for since, to in self.pauses)
        asking = max(0.0, end - step.asked_since) if step.asked else 0.0
        return max(0.0, end - step.opened - lay - step.waited - asking)

    def children(self, node: Node) -> tuple[int, ...]:
        """The steps directly inside a group; instances where it has fanned out."""
        fan = self.fans.get(node.index)
        return node.children if fan is None else fan.members

    def spec_of(self, instance: Node) -> TaskSpec:
        """The item and the host of a group's instance."""
        return self.fans[instance.parent].specs[instance.index]

    def walk(self, entered: Callable[[Node], bool] = lambda node: True) -> Iterator[Node]:
        """Every node in the order of the file, those of instances where the group stands.

        What `entered` is false for is left out with all that is inside it.
        """
        return self._walk(0, self.plan.written, entered)

    def _walk(self, start: int, end: int, entered: Callable[[Node], bool]) -> Iterator[Node]:
        nodes = self.plan.nodes
        index = start
        while index < end:
            node = nodes[index]
            if not entered(node):
                index = node.end
                continue
            yield node
            fan = self.fans.get(index)
            index = index + 1 if fan is None else node.end
            for member in fan.specs if fan is not None else ():
                yield from self._walk(member, nodes[member].end, entered)

    def open_groups(self) -> Iterator[Node]:
        """Every group that is under way, outermost first."""
        return (self.plan.nodes[index] for index in sorted(self.groups))

    @property
    def failure(self) -> Failure | None:
        """What made the run fail, if it did."""
        root = self.steps.get(0)
        if root is None or root.group is None:
            return None
        return root.failure or root.group.latch
