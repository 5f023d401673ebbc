"""What evaluating is done with, and what of it no event may hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from engine.errors import ActionError, CeRunError
from engine.events import Failure, TaskSpec
from engine.executor import Services
from engine.inventory import Inventory
from engine.module_api import Mode
from engine.plan import Node, Plan
from engine.redaction import Redactor
from engine.registry import Registry
from engine.templating import Templates


class Material(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """The plan, the inventory, and the machinery that reads them. One for a run."""

    plan: Plan
    inventory: Inventory
    registry: Registry
    templates: Templates
    services: Services
    redactor: Redactor
    extra: Mapping[str, Any] = {}
    """The variables of ``-e``."""
    mode: Mode = "run"
    limit: str | None = None
    """Narrows every pattern of hosts (``--limit``)."""

    def failure(self, node: Node, error: CeRunError) -> Failure:
        """An error as the failure of a step, without secrets."""
        action = error if isinstance(error, ActionError) else None
        return self.masked(
            Failure(
                action.kind if action else "failed",
                error.message,
                node.path,
                error.hint,
                tuple(action.evidence) if action else (),
                action.retryable if action else False,
                action.final if action else False,
            )
        )

    def masked(self, failure: Failure) -> Failure:
        """A failure without secrets."""
        mask = self.redactor.mask
        return msgspec.structs.replace(
            failure,
            message=mask(failure.message),
            hint=mask(failure.hint),
            evidence=tuple(mask(line) for line in failure.evidence),
        )


class Unrecorded:
    """What no event may hold, and ends with the process: results of ``no_log`` steps, and secret
    items of loops, which a resumed run renders anew."""

    def __init__(self, plan: Plan) -> None:
        self.results: dict[tuple[int, int], dict[str, Any]] = {}
        """By step and task."""
        self.items: dict[int, tuple[TaskSpec, ...]] = {}
        """By step: its tasks with their items as they really are."""
        self._hidden = frozenset(
            index
            for node in plan.steps()
            if node.step is not None and node.step.no_log
            for index in range(node.index, node.end)
        )

    def hides(self, node: Node) -> bool:
        """Whether nothing that a step gives may be kept: it or a group around it says no_log."""
        return node.origin in self._hidden
