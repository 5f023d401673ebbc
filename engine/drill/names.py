"""The names that expressions of a scenario can read, and what they are at a moment of a drill."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from engine.production.names import CANARY_VERSION
from engine.simulation.databases import ORDERS
from engine.templating import Scope, Templates

if TYPE_CHECKING:
    from engine.drill.stage import Stage

SEVERITIES = {"P1": "critical", "P2": "error", "P3": "warning", "P4": "info"}
"""Facts of incidents: how severe a notice of an incident is."""

FUNCTIONS = {
    "traffic": "percent of the users' requests that a version answers: traffic('5.1')",
    "ready": "pods of a version that serve: ready('5.0')",
    "metric": "a metric of the inventory: metric('error_rate', '5.1', 60); none without data",
    "status": "a step's status: status('execute/phases/canary'); a second argument names the run",
    "started": "whether a step has begun (or ended): started('execute/phases/canary/route')",
    "outcome_of": "how a run stands: outcome_of('main'), outcome_of('rollback')",
    "notified": "how many notices reached a channel, a transport, or a severity (P1 is critical)",
    "failing_for": "seconds of the longest time in which more than 1 % of the requests failed",
    "failed_requests": "requests that failed",
    "rows": "rows of a table: rows('public.orders')",
    "object": "a Kubernetes object: object('ConfigMap', 'claude-enhancer-agents'); none without",
}
VALUES = {
    "outcome": "how the drill's own run stands: running, waiting, preempted, succeeded, rescued, …",
    "elapsed": "seconds since the drill's run began",
    "rolling_back": "whether anything has begun to be taken back: rescue, undo or a run preempting",
    "writes_paused": "whether orders are refused",
    "weights_agree": "whether all layers send the same shares to each version (within 1 %)",
    "over_capacity": "whether a version has more traffic than its ready pods can serve",
    "no_data_lost": "whether everything that users were promised is in a database",
    "lost_rows": "rows that users were promised and that nobody has",
    "case": "the variants of this case of the matrix",
}


_NOT_BEGUN = ("", "pending", "not_run", "skipped")
"""Statuses of a step that has done nothing."""


class WorldNames(Mapping[str, Any]):
    """Every name with what it is now; a value is found out when it is read."""

    def __init__(self, stage: Stage, case: Mapping[str, Any]) -> None:
        self._stage = stage
        self._made: dict[str, Callable[[], Any]] = {
            "outcome": lambda: stage.outcome_of("main"),
            "elapsed": lambda: stage.elapsed,
            "rolling_back": lambda: stage.moments.get("rollback") is not None,
            "writes_paused": lambda: stage.world.writes_paused,
            "weights_agree": self._weights_agree,
            "over_capacity": self._over_capacity,
            "no_data_lost": lambda: not self._lost_rows(),
            "lost_rows": self._lost_rows,
            "case": lambda: case,
        }
        functions: dict[str, Any] = {
            "traffic": lambda version, entrance="": round(
                stage.shares(entrance).get(version, 0.0), 3
            ),
            "ready": lambda version: stage.world.ready(version),
            "metric": self._metric,
            "status": stage.status,
            "started": lambda step, run="main": stage.status(step, run) not in _NOT_BEGUN,
            "outcome_of": stage.outcome_of,
            "notified": self._notified,
            "failing_for": lambda: round(stage.world.load.longest_failing(stage.began), 3),
            "failed_requests": lambda: stage.world.load.failed_since(stage.began),
            "rows": lambda table=ORDERS: stage.database.tables.get(table, 0),
            "object": lambda kind, name: stage.world.cluster.get(kind, name),
        }
        self._made |= {name: self._constant(each) for name, each in functions.items()}
        assert set(self._made) == {*FUNCTIONS, *VALUES}

    @staticmethod
    def _constant(value: Any) -> Callable[[], Any]:
        return lambda: value

    def __getitem__(self, name: str) -> Any:
        return self._made[name]()

    def __iter__(self) -> Iterator[str]:
        return iter(self._made)

    def __len__(self) -> int:
        return len(self._made)

    def _metric(self, name: str, version: str = "", window: float = 60.0) -> float | None:
        value = self._stage.world.measure(name, version, window)
        return None if value is None else value.value

    def _notified(self, word: str) -> int:
        known = SEVERITIES.get(word, word)
        return sum(
            known in (each.channel, each.transport, each.severity)
            for each in self._stage.world.inbox.notices
        )

    def _lost_rows(self) -> int:
        return sum(sum(each.vanished.values()) for each in self._stage.world.databases())

    def _weights_agree(self) -> bool:
        shares = [self._stage.shares(entrance) for entrance in ("mesh", "edge")]
        mesh, edge = (each.get(CANARY_VERSION, 0.0) for each in shares)
        return abs(mesh - edge) <= 1.0

    def _over_capacity(self) -> bool:
        world = self._stage.world
        room = 100 / world.scale.pods_for_full_load
        return any(
            share > room * world.ready(version) + 0.01
            for version, share in self._stage.shares().items()
        )


class Conditions:
    """Evaluates the expressions of one drill."""

    def __init__(self, names: WorldNames) -> None:
        self._templates = Templates(environ={})
        self._names = names

    def holds(self, expression: str) -> bool:
        """Whether a condition holds now. Raises TemplateFailed."""
        return self._templates.test(expression, Scope(registered=self._names))

    def value(self, expression: str) -> Any:
        """What an expression is now. Raises TemplateFailed."""
        return self._templates.evaluate(expression, Scope(registered=self._names))
