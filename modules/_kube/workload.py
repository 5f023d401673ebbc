"""What belongs to a workload: its ReplicaSets, its pods' labels, and who else scales it."""

from __future__ import annotations

from collections.abc import Iterator

from engine.module_api import ActionError, Context, Failed
from modules._kube.api import Cluster, Object
from modules._kube.kinds import Kind, known

_REVISION = "deployment.kubernetes.io/revision"


def replica_sets(ctx: Context, cluster: Cluster, deployment: Object) -> list[Object]:
    """The ReplicaSets of a Deployment, newest revision first."""
    kind = known("ReplicaSet")
    assert kind is not None
    metadata = deployment["metadata"]
    items, _ = cluster.list(ctx, kind, metadata["namespace"], labels=labels_of(deployment))
    owned = [
        one
        for one in items
        if any(
            owner.get("uid") == metadata["uid"]
            for owner in one["metadata"].get("ownerReferences") or []
        )
    ]
    return sorted(owned, key=lambda one: _number(revision_of(one)), reverse=True)


def revision_of(item: Object) -> str:
    """The revision that the deployment controller wrote on a ReplicaSet or Deployment."""
    return str((item["metadata"].get("annotations") or {}).get(_REVISION, ""))


def labels_of(item: Object) -> str:
    """The label selector of the pods of a workload, as text for a query."""
    selector = (item.get("spec") or {}).get("selector") or {}
    return ",".join(_requirements(selector))


def _requirements(selector: Object) -> Iterator[str]:
    for key, value in (selector.get("matchLabels") or {}).items():
        yield f"{key}={value}"
    for one in selector.get("matchExpressions") or []:
        key, values = one["key"], ",".join(one.get("values") or [])
        if one["operator"] in ("In", "NotIn"):
            yield f"{key} {one['operator'].lower()} ({values})"
        else:
            yield key if one["operator"] == "Exists" else f"!{key}"


def other_replicas(
    ctx: Context, cluster: Cluster, kind: Kind, item: Object, asked_for: int, now: int
) -> Failed:
    """The failure when an object has another number of replicas than was set."""
    metadata = item["metadata"]
    scaler = _autoscaler(ctx, cluster, kind, metadata.get("namespace") or "", metadata["name"])
    return Failed(
        f"{kind.label(metadata['name'])} is to have {now} replicas now, not {asked_for}: "
        + (f"the HorizontalPodAutoscaler {scaler} scales it" if scaler else "somebody changed it"),
        hint=f"set the bounds of the HorizontalPodAutoscaler {scaler} instead"
        if scaler
        else "see who else scales it, then try again",
        data={"replicas": now},
    )


def _autoscaler(ctx: Context, cluster: Cluster, kind: Kind, namespace: str, name: str) -> str:
    """The HorizontalPodAutoscaler of a workload; empty if it has none, or it cannot be read."""
    scaler = known("HorizontalPodAutoscaler")
    assert scaler is not None
    try:
        items, _ = cluster.list(ctx, scaler, namespace)
    except ActionError:
        return ""
    for item in items:
        target = (item.get("spec") or {}).get("scaleTargetRef") or {}
        if (target.get("kind"), target.get("name")) == (kind.kind, name):
            return str(item["metadata"]["name"])
    return ""


def _number(revision: str) -> int:
    return int(revision) if revision.isdigit() else 0
