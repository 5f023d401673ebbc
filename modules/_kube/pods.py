"""Pods: are they ready, are they in trouble that waiting will not mend, and what do they say.

A rollout whose image does not exist would be waited for until its deadline, ten minutes by
default, though the pod says after a second what is wrong. `trouble` reads that from a pod;
`evidence` fetches what a person would look at next: events, container states, last log lines.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from engine.module_api import ActionError, Context
from modules._kube.api import Cluster, Object
from modules._kube.kinds import known

_IMAGE = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull")
_CONFIG = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_CRASH = "CrashLoopBackOff"
_RESTARTS = 2
"""A pod that was restarted this often and still is not ready is taken for crashing."""

_LOG_LINES = 10
_EVENTS = 5
_WIDTH = 300


class Trouble(NamedTuple):
    """Why a pod will not get ready, or not soon."""

    pod: str
    reason: str
    """Kubernetes' own word: ``ImagePullBackOff``, ``Unschedulable`` …"""
    message: str
    container: str = ""
    image: str = ""
    patient: bool = False
    """It may mend by itself (a node may come): only a grace tells."""

    @property
    def text(self) -> str:
        """One line: ``pod app-1: ImagePullBackOff (container app, image app:bad)``."""
        if not self.container:
            what = f"pod {self.pod}" if self.pod else "its pods"
            return f"{what}: {self.reason}: {self.message}".rstrip(": ")
        return f"pod {self.pod}: {self.reason} (container {self.container}, image {self.image})"

    @property
    def hint(self) -> str:
        """What to look at."""
        if self.reason in _IMAGE:
            return "does the image exist, and may the cluster pull it? Correct it and apply again"
        if self.reason in _CONFIG:
            return "does it name a ConfigMap, Secret, command or volume that is not there?"
        if self.reason == "Unschedulable":
            return "no node has room for it: lower its requests or add nodes"
        if not self.container and self.pod:
            return "it has ended and is not started again: delete it, or select others"
        if not self.container:
            return "look at its events: a quota, a service account or an admission rule says no"
        return "its last log lines are below; `kubectl.rollout-undo` goes back a revision"


def is_ready(pod: Object) -> bool:
    """Whether the pod takes traffic: condition Ready, and not on its way out."""
    if pod["metadata"].get("deletionTimestamp"):
        return False
    return any(
        condition.get("type") == "Ready" and condition.get("status") == "True"
        for condition in _status(pod).get("conditions") or []
    )


def trouble(pod: Object) -> Trouble | None:
    """What keeps this pod from getting ready, if waiting will not mend it."""
    if is_ready(pod) or pod["metadata"].get("deletionTimestamp"):
        return None
    name, status = pod["metadata"]["name"], _status(pod)
    for container in _containers(status):
        state = (container.get("state") or {}).get("waiting") or {}
        reason = state.get("reason") or ""
        restarts = container.get("restartCount") or 0
        if reason in (*_IMAGE, *_CONFIG, _CRASH) or restarts >= _RESTARTS:
            return Trouble(
                name,
                reason
                if reason not in ("", "ContainerCreating")
                else f"restarted {restarts} times",
                state.get("message") or _last_exit(container),
                container.get("name", ""),
                container.get("image", ""),
            )
    for condition in status.get("conditions") or []:
        if condition.get("type") == "PodScheduled" and condition.get("status") == "False":
            reason = condition.get("reason") or "Unschedulable"
            return Trouble(name, reason, condition.get("message") or "", patient=True)
    return None


def over(pod: Object) -> Trouble | None:
    """A pod that has ended and is not started again: it will never be ready."""
    phase = _status(pod).get("phase")
    if phase not in ("Failed", "Succeeded") or pod["metadata"].get("deletionTimestamp"):
        return None
    ended = [text for one in _containers(_status(pod)) if (text := _describe(one))]
    why = _status(pod).get("message") or "; ".join(ended)
    return Trouble(pod["metadata"]["name"], _status(pod).get("reason") or phase, why)


def summary(pod: Object) -> dict[str, Any]:
    """A pod for a result: ``name``, ``version``, ``phase``, ``ready``, ``restarts``, ``reason``."""
    status = _status(pod)
    found = trouble(pod)
    return {
        "name": pod["metadata"]["name"],
        "version": (pod["metadata"].get("labels") or {}).get("version"),
        "phase": status.get("phase"),
        "ready": is_ready(pod),
        "restarts": sum(one.get("restartCount") or 0 for one in _containers(status)),
        "reason": found.reason if found else None,
    }


def states(pods: Iterable[Object]) -> list[str]:
    """One line for each pod that is not ready: what its containers are doing."""
    lines = []
    for pod in pods:
        if is_ready(pod):
            continue
        name, status = pod["metadata"]["name"], _status(pod)
        described = [_describe(one) for one in _containers(status)]
        said = "; ".join(filter(None, described)) or status.get("phase") or "unknown"
        lines.append(_cut(f"pod {name} is not ready: {said}"))
    return lines


def evidence(ctx: Context, cluster: Cluster, pod: Object) -> list[str]:
    """What the pod says about itself: container states, events, the last lines of its log."""
    namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
    lines = [
        _cut(f"{name}: {described}")
        for one in _containers(_status(pod))
        if (described := _describe(one))
    ]
    for condition in _status(pod).get("conditions") or []:
        if condition.get("status") == "False" and condition.get("message"):
            lines.append(_cut(f"{name}: {condition['type']}: {condition['message']}"))
    lines += events(ctx, cluster, namespace, name)
    for container in _containers(_status(pod)):
        lines += _log_lines(ctx, cluster, namespace, name, container)
    return lines


def events(ctx: Context, cluster: Cluster, namespace: str, name: str) -> list[str]:
    """The last events about an object, warnings first; none if they cannot be had."""
    kind = known("Event")
    assert kind is not None
    try:
        found, _ = cluster.list(
            ctx, kind, namespace, fields=f"involvedObject.name={name}", limit=50
        )
    except ActionError:
        return []
    found.sort(key=lambda event: event.get("lastTimestamp") or event.get("eventTime") or "")
    warnings = [event for event in found if event.get("type") == "Warning"]
    return [_event(event) for event in (warnings or found)[-_EVENTS:]]


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
        last = _last_exit(container)
        return ": ".join(filter(None, words)) + (f"; {last}" if last else "")
    if ended := state.get("terminated"):
        return f"{name}: {_exit(ended)}"
    return "" if container.get("ready") else f"{name}: running, but not ready"


def _last_exit(container: Object) -> str:
    ended = (container.get("lastState") or {}).get("terminated") or (
        container.get("state") or {}
    ).get("terminated")
    return f"last {_exit(ended)}" if ended else ""


def _exit(ended: Object) -> str:
    words = [f"exit {ended.get('exitCode')}", ended.get("reason") or "", ended.get("message") or ""]
    return " ".join(filter(None, words))


def _containers(status: Object) -> list[Object]:
    return [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]


def _status(pod: Object) -> Object:
    found: Object = pod.get("status") or {}
    return found


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _WIDTH else f"{line[: _WIDTH - 1]}…"
