"""What the inventory's metrics are called in the model, and how some come from others."""

from __future__ import annotations

from collections.abc import Callable

from engine.production.metrics import ALL, METRICS, Value, View

_EVERY_VERSION = ("", ".*", "all")

_OTHER_NAMES = {
    "p50": "p50_ms",
    "p95": "p95_ms",
    "p99": "p99_ms",
    "agents_loaded": "agents_active",
    "satisfaction": "user_satisfaction",
    "task_completion": "workflow_success",
}


def _coordination(view: View) -> Value | None:
    requests = view.counts.requests
    return Value(100 - 100 * view.counts.agent_failures / requests, requests) if requests else None


def _interruption(view: View) -> Value | None:
    workflows = view.counts.workflows
    return Value(100 * view.counts.workflow_jumps / workflows, workflows) if workflows else None


def _transition(view: View) -> Value | None:
    value = _interruption(view)
    return None if value is None else Value(100 - value.value, value.samples)


_DERIVED: dict[str, Callable[[View], Value | None]] = {
    "agent_coordination": _coordination,
    "workflow_interruption": _interruption,
    "phase_transition": _transition,
}


def known_metrics() -> list[str]:
    """Names of the inventory that the model gives a meaning."""
    hidden = set(_OTHER_NAMES.values())
    return sorted({*METRICS, *_OTHER_NAMES, *_DERIVED} - hidden)


def version_of(version: str) -> str:
    """A version as the model knows it: a pattern for every version is `all`."""
    return ALL if version in _EVERY_VERSION else version


def meaning(name: str) -> Callable[[View], Value | None] | None:
    """How a metric of that name is measured; None if the model does not know."""
    return _DERIVED.get(name) or METRICS.get(_OTHER_NAMES.get(name, name))
