"""How far the rollout of a workload is, from the object alone.

What is done follows kubectl: a controller has seen the newest generation, as many pods as wanted
are of the new template, none of an older one is left, and all of them are available.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from modules._kube.api import Object

ROLLED_OUT = ("Deployment", "StatefulSet", "DaemonSet")
"""Kinds that have rollouts."""

FOLLOWED = (*ROLLED_OUT, "ReplicaSet", "ReplicationController")
"""Kinds whose pods can be waited for."""


class RolloutProgress(NamedTuple):
    """How far a rollout is."""

    ready: int
    """Pods of the new template that are ready."""
    desired: int
    done: bool
    text: str
    """``3 of 10 ready``, with what else it waits for."""
    failure: str = ""
    """Why the controller gave up; empty while it has not."""

    @property
    def data(self) -> dict[str, Any]:
        """For a result."""
        return {"ready": self.ready, "desired": self.desired, "done": self.done}


NOT_THERE = RolloutProgress(0, 0, False, "not there yet")
"""Under --check, of an object that an earlier step would have made."""


def desired_replicas(item: Object) -> int:
    """How many pods an object is to have; nothing said, or an empty value, is one."""
    spec = item.get("spec")
    replicas = spec.get("replicas") if isinstance(spec, dict) else None
    return replicas if isinstance(replicas, int) else 1


def on_delete(item: Object) -> bool:
    """Whether pods of an older template are replaced only when somebody deletes them."""
    spec = item.get("spec") or {}
    return ((spec.get("updateStrategy") or {}).get("type")) == "OnDelete"


def progress(item: Object) -> RolloutProgress:
    """How far the object's rollout is, from its spec and status."""
    status = item.get("status") or {}
    kind = item["kind"]
    desired = desired_replicas(item)
    if kind == "DaemonSet":
        desired = status.get("desiredNumberScheduled") or 0
    if not _seen(item, status):
        return RolloutProgress(
            0, desired, False, f"0 of {desired} ready, not yet seen by its controller"
        )
    if kind == "Deployment":
        return _deployment(item, status, desired)
    if kind == "StatefulSet":
        return _statefulset(item, status, desired)
    if kind == "DaemonSet":
        return _daemonset(item, status, desired)
    return _replicas(status, desired)


def going_down(item: Object) -> RolloutProgress:
    """How far a workload is on its way to fewer pods: nothing has to get ready for that."""
    status, desired = item.get("status") or {}, desired_replicas(item)
    ready = status.get("readyReplicas") or 0
    if not _seen(item, status):
        return RolloutProgress(
            ready, desired, False, f"{ready} of {desired} ready, not yet seen by its controller"
        )
    total = status.get("replicas") or 0
    waits = [f"{total - desired} too many"] if total > desired else []
    return RolloutProgress(min(ready, desired), desired, not waits, _text(ready, desired, waits))


def _seen(item: Object, status: Object) -> bool:
    generation = item["metadata"].get("generation") or 0
    return (status.get("observedGeneration") or 0) >= generation


def _deployment(item: Object, status: Object, desired: int) -> RolloutProgress:
    total, updated = status.get("replicas") or 0, status.get("updatedReplicas") or 0
    old = max(0, total - updated)
    ready = max(0, min(updated, (status.get("readyReplicas") or 0) - old))
    available = status.get("availableReplicas") or 0
    failure = _gave_up(status)
    waits = []
    if updated < desired:
        waits.append(f"{updated} updated")
    if old:
        waits.append(f"{old} of the old revision left")
    if total > desired and not old:
        waits.append(f"{total - desired} too many")
    done = not waits and updated == desired and available >= desired
    if (item.get("spec") or {}).get("paused") and not done:
        failure = "it is paused"
    if ready == desired and not done and not waits:
        waits.append("not yet available")
    return RolloutProgress(ready, desired, done, _text(ready, desired, waits), failure)


def _statefulset(item: Object, status: Object, desired: int) -> RolloutProgress:
    rolling = ((item.get("spec") or {}).get("updateStrategy") or {}).get("rollingUpdate") or {}
    to_update = max(0, desired - int(rolling.get("partition") or 0))
    if on_delete(item):
        to_update = 0
    total, ready = status.get("replicas") or 0, status.get("readyReplicas") or 0
    same = status.get("updateRevision") == status.get("currentRevision")
    updated = total if same else status.get("updatedReplicas") or 0
    waits = [] if updated >= to_update else [f"{updated} updated"]
    if total > desired:
        waits.append(f"{total - desired} too many")
    done = not waits and ready >= desired
    return RolloutProgress(ready, desired, done, _text(ready, desired, waits))


def _daemonset(item: Object, status: Object, desired: int) -> RolloutProgress:
    updated = status.get("updatedNumberScheduled") or 0
    available = status.get("numberAvailable") or 0
    waits = [] if updated >= desired or on_delete(item) else [f"{updated} updated"]
    done = not waits and available >= desired
    return RolloutProgress(
        status.get("numberReady") or 0, desired, done, _text(available, desired, waits)
    )


def _replicas(status: Object, desired: int) -> RolloutProgress:
    total, ready = status.get("replicas") or 0, status.get("readyReplicas") or 0
    waits = [f"{total - desired} too many"] if total > desired else []
    done = total == desired and (status.get("availableReplicas") or 0) >= desired
    if ready >= desired and not done and not waits:
        waits.append("not yet available")
    return RolloutProgress(ready, desired, done, _text(ready, desired, waits))


def _text(ready: int, desired: int, waits: list[str]) -> str:
    return ", ".join([f"{ready} of {desired} ready", *waits])


def deadline_condition(status: Object) -> Object | None:
    """The condition by which a Deployment's controller says that it gave up."""
    for condition in status.get("conditions") or []:
        if (
            condition.get("type") == "Progressing"
            and condition.get("reason") == "ProgressDeadlineExceeded"
        ):
            deadline: Object = condition
            return deadline
    return None


def _gave_up(status: Object) -> str:
    condition = deadline_condition(status)
    if condition is None:
        return ""
    return f"ProgressDeadlineExceeded: {condition.get('message') or ''}".rstrip(": ")
