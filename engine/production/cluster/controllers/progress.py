"""A Deployment's status: what it counts, and how its progress is judged. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from engine.production.cluster.controllers.rollout import Rollout, bounds
from engine.production.cluster.objects.common import Obj, find_condition, without_empty

AVAILABLE = "NewReplicaSetAvailable"
TIMED_OUT = "ProgressDeadlineExceeded"


def _sum(replica_sets: Iterable[Obj], count: str) -> int:
    return sum(each.get("status", {}).get(count, 0) for each in replica_sets)


def status_of(rollout: Rollout, now: str) -> Obj:
    """The Deployment's status as its ReplicaSets are; Progressing is left as it was."""
    deployment = rollout.deployment
    old = deployment.get("status", {})
    available = _sum(rollout.all, "availableReplicas")
    counts = without_empty(
        {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": _sum(rollout.all, "replicas"),
            "updatedReplicas": _sum([rollout.new] if rollout.new else [], "replicas"),
            "readyReplicas": _sum(rollout.all, "readyReplicas"),
            "availableReplicas": available,
            "unavailableReplicas": max(0, rollout.total - available),
        }
    )
    status: Obj = {
        **counts,
        "terminatingReplicas": _sum(rollout.all, "terminatingReplicas"),
        "conditions": [dict(each) for each in old.get("conditions") or ()],
    }
    if available >= rollout.replicas - bounds(deployment)[1]:
        verdict = ("True", "MinimumReplicasAvailable", "Deployment has minimum availability.")
    else:
        message = "Deployment does not have minimum availability."
        verdict = ("False", "MinimumReplicasUnavailable", message)
    set_condition(status, "Available", *verdict, now=now)
    _tell_refused_pods(rollout, status, now)
    return status


def _tell_refused_pods(rollout: Rollout, status: Obj, now: str) -> None:
    """ReplicaFailure, as long as a ReplicaSet's pods are refused (by a quota, say)."""
    conditions = (find_condition(each.get("status", {}), "ReplicaFailure") for each in rollout.all)
    refused = next(filter(None, conditions), None)
    if refused is None:
        rest = [each for each in status["conditions"] if each["type"] != "ReplicaFailure"]
        status["conditions"] = rest
    else:
        why = refused["reason"], refused["message"]
        set_condition(status, "ReplicaFailure", "True", *why, now=now)


def set_condition(
    status: Obj,
    kind: str,
    value: str,
    reason: str,
    message: str,
    *,
    now: str,
    refresh: bool = False,
) -> None:
    """Set a condition as of `now`.

    The same status and reason again change nothing unless `refresh`.
    """
    known = find_condition(status, kind)
    if known and not refresh and (known["status"], known["reason"]) == (value, reason):
        return
    since = known["lastTransitionTime"] if known and known["status"] == value else now
    rest = [each for each in status.get("conditions") or () if each["type"] != kind]
    status["conditions"] = [
        *rest,
        {
            "type": kind,
            "status": value,
            "lastUpdateTime": now,
            "lastTransitionTime": since,
            "reason": reason,
            "message": message,
        },
    ]


def is_settled(status: Obj, progressing: Obj | None) -> bool:
    """The rollout had ended before, and all pods are still of the newest template."""
    same = status.get("replicas", 0) == status.get("updatedReplicas", 0)
    return same and progressing is not None and progressing["reason"] == AVAILABLE


def is_complete(deployment: Obj, status: Obj) -> bool:
    """Whether every replica is of the newest template, available, and none is left over."""
    replicas = deployment["spec"]["replicas"]
    return all(
        status.get(count, 0) == replicas
        for count in ("replicas", "updatedReplicas", "availableReplicas")
    ) and bool(status.get("observedGeneration", 0) >= deployment["metadata"]["generation"])


def has_progressed(old: Obj, new: Obj) -> bool:
    """Whether the rollout came nearer to its end, which restarts its deadline."""

    def outdated(status: Obj) -> int:
        count: int = status.get("replicas", 0) - status.get("updatedReplicas", 0)
        return count

    return (
        new.get("updatedReplicas", 0) > old.get("updatedReplicas", 0)
        or outdated(old) > outdated(new)
        or new.get("readyReplicas", 0) > old.get("readyReplicas", 0)
        or new.get("availableReplicas", 0) > old.get("availableReplicas", 0)
    )
