"""Pods as people see them: ready or not, what their containers do, and what they say.

`evidence` fetches what a person would look at next when a pod does not get ready: events,
container states, last log lines.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from engine.module_api import ActionError, Context
from modules._kube.api import Cluster, Object
from modules._kube.kinds import known
from modules._kube.trouble import (
    Trouble,
    containers,
    exit_text,
    is_ready,
    last_exit,
    status_of,
    trouble,
)

__all__ = [
    "Trouble",
    "events",
    "evidence",
    "is_ready",
    "over",
    "pull_error",
    "states",
    "summary",
    "trouble",
]

_LOG_LINES = 10
_EVENTS = 5
_WIDTH = 300


def over(pod: Object) -> Trouble | None:
    """A pod that has ended and is not started again: it will never be ready."""
    phase = status_of(pod).get("phase")
    if phase not in ("Failed", "Succeeded") or pod["metadata"].get("deletionTimestamp"):
        return None
    ended = [text for one in containers(status_of(pod)) if (text := _describe(one))]
    why = status_of(pod).get("message") or "; ".join(ended)
    return Trouble(pod["metadata"]["name"], status_of(pod).get("reason") or phase, why)


def summary(pod: Object) -> dict[str, Any]:
    """A pod for a result: ``name``, ``version``, ``phase``, ``ready``, ``restarts``, ``reason``."""
    status = status_of(pod)
    problem = trouble(pod)
    return {
        "name": pod["metadata"]["name"],
        "version": (pod["metadata"].get("labels") or {}).get("version"),
        "phase": status.get("phase"),
        "ready": is_ready(pod),
        "restarts": sum(one.get("restartCount") or 0 for one in containers(status)),
        "reason": problem.reason if problem else None,
    }


def states(pods: Iterable[Object]) -> list[str]:
    """One line for each pod that is not ready: what its containers are doing."""
    lines = []
    for pod in pods:
        if is_ready(pod):
            continue
        name, status = pod["metadata"]["name"], status_of(pod)
        described = [_describe(one) for one in containers(status)]
        state = "; ".join(filter(None, described)) or status.get("phase") or "unknown"
        lines.append(_cut(f"pod {name} is not ready: {state}"))
    return lines


def evidence(ctx: Context, cluster: Cluster, pod: Object) -> list[str]:
    """What the pod says about itself: container states, events, the last lines of its log."""
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    lines = [
        _cut(f"{name}: {described}")
        for one in containers(status_of(pod))
        if (described := _describe(one))
    ]
    for condition in status_of(pod).get("conditions") or []:
        if condition.get("status") == "False" and condition.get("message"):
            lines.append(_cut(f"{name}: {condition['type']}: {condition['message']}"))
    lines += events(ctx, cluster, namespace, name)
    for container in containers(status_of(pod)):
        lines += _log_lines(ctx, cluster, namespace, name, container)
    return lines


def pull_error(ctx: Context, cluster: Cluster, pod: Object) -> str:
    """Why an image could not be pulled, by the events; empty if they do not tell.

    A state of ``ImagePullBackOff`` often says no more than that it is tried again later.
    """
    metadata = pod["metadata"]
    for event in reversed(_events(ctx, cluster, metadata["namespace"], metadata["name"])):
        message = str(event.get("message") or "")
        if event.get("reason") == "Failed" and "pull" in message.lower():
            return message
    return ""


def events(ctx: Context, cluster: Cluster, namespace: str, name: str) -> list[str]:
    """The last events about an object, warnings first; none if they cannot be had."""
    items = _events(ctx, cluster, namespace, name)
    warnings = [event for event in items if event.get("type") == "Warning"]
    return [_event(event) for event in (warnings or items)[-_EVENTS:]]


def _events(ctx: Context, cluster: Cluster, namespace: str, name: str) -> list[Object]:
    kind = known("Event")
    assert kind is not None
    try:
        items, _ = cluster.list(
            ctx, kind, namespace, fields=f"involvedObject.name={name}", limit=200
        )
    except ActionError:
        return []
    return sorted(items, key=lambda one: one.get("lastTimestamp") or one.get("eventTime") or "")


def _event(event: Object) -> str:
    times = f" (x{event['count']})" if (event.get("count") or 1) > 1 else ""
    return _cut(f"event {event.get('reason')}{times}: {event.get('message')}")


def _log_lines(
    ctx: Context, cluster: Cluster, namespace: str, pod: str, container: Object
) -> list[str]:
    """The end of the log of a container that ran; of its last life if it was restarted."""
    running = "running" in (container.get("state") or {})
    restarted = bool(container.get("restartCount")) and not running
    if not running and not restarted and "terminated" not in (container.get("state") or {}):
        return []
    kind = known("Pod")
    assert kind is not None
    query = {
        "container": container["name"],
        "tailLines": str(_LOG_LINES),
        "previous": "true" if restarted else "",
    }
    try:
        text = cluster.text(ctx, kind.path(namespace, pod, "log"), query)
    except ActionError:
        return []
    return [_cut(f"log {container['name']}: {line}") for line in text.splitlines()[-_LOG_LINES:]]


def _describe(container: Object) -> str:
    """``app: waiting: ImagePullBackOff: …``; empty for one that runs and is ready."""
    state = container.get("state") or {}
    name = container.get("name", "")
    if waiting := state.get("waiting"):
        words = [name, "waiting", waiting.get("reason") or "", waiting.get("message") or ""]
        last = last_exit(container)
        return ": ".join(filter(None, words)) + (f"; {last}" if last else "")
    if ended := state.get("terminated"):
        return f"{name}: {exit_text(ended)}"
    return "" if container.get("ready") else f"{name}: running, but not ready"


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"
