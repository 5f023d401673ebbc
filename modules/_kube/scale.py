"""Setting the number of replicas, and telling it from what the cluster says afterwards."""

from __future__ import annotations

from engine.module_api import Context, Refused, Result, count
from modules._kube import diff as kube_diff
from modules._kube import rollout as kube_rollout
from modules._kube import workload as kube_workload
from modules._kube.api import Subject
from modules._kube.errors import NotFound
from modules._kube.progress import FOLLOWED
from modules._kube.rollout import Terms

_NOT_SCALED = ("Pod", "DaemonSet", "Job", "Service")


def scale(
    ctx: Context, it: Subject, replicas: int, terms: Terms | None, *, missing_ok: bool
) -> Result:
    """Set the number and, with `terms`, wait until the pods are there, or gone."""
    if terms is not None and it.kind.kind not in FOLLOWED:
        raise Refused(
            f"when the pods of a {it.kind.kind} are ready cannot be told",
            hint="scale it with `wait: false`, and wait with `kubectl.wait` for what it tells",
        )
    before = _replicas(ctx, it, missing_ok=missing_ok and replicas == 0)
    if before is None:
        return _result(it, None, replicas, 0)
    if before != replicas:
        _set(ctx, it, replicas)
    ready = replicas
    if terms is not None:
        down = replicas < before or replicas == 0
        terms = terms._replace(replicas=replicas, down=down)
        ready = kube_rollout.follow(ctx, *it, terms).ready
    return _result(it, before, replicas, ready)


def planned(ctx: Context, it: Subject, replicas: int) -> Result:
    """Under --check: compare with the number that is set."""
    before = _replicas(ctx, it, missing_ok=True)
    return _result(it, before, replicas, replicas)


def _replicas(ctx: Context, it: Subject, missing_ok: bool) -> int | None:
    """How many replicas an object is to have; None if it is not there and that is fine."""
    if it.kind.kind in _NOT_SCALED:
        raise Refused(f"a {it.kind.kind} has no number of replicas to set")
    try:
        now = it.cluster.get(ctx, it.kind, it.namespace, it.name, sub="scale")
    except NotFound:
        if missing_ok:
            return None
        raise
    return int((now.get("spec") or {}).get("replicas") or 0)


def _set(ctx: Context, it: Subject, replicas: int) -> None:
    """Set the number; what the server then has decides, not what was sent."""
    cluster, kind, namespace, name = it
    patch = {"spec": {"replicas": replicas}}
    answer = cluster.patch(ctx, kind, namespace, name, patch, sub="scale")
    now = int((answer.get("spec") or {}).get("replicas") or 0)
    if now != replicas:
        item = {"metadata": {"name": name, "namespace": namespace}}
        raise kube_workload.other_replicas(ctx, cluster, kind, item, replicas, now)


def _result(it: Subject, before: int | None, replicas: int, ready: int) -> Result:
    """What a scaling tells; `before` is None for an object that is not there."""
    absent = before is None and replicas == 0
    if absent:
        text = f"{it.label}: absent"
    elif before == replicas:
        text = f"{it.label}: already {count(replicas, 'replica')}, {ready} ready"
    else:
        was = "absent" if before is None else before
        text = f"{it.label}: {was} → {count(replicas, 'replica')}"
        text += f", {ready} ready" if ready != replicas else ""
    old = {} if before is None else {"replicas": before}
    return Result(
        changed=before != replicas and not absent,
        data={
            "kind": it.kind.kind,
            "name": it.name,
            "namespace": it.namespace,
            "replicas": replicas,
            "before": before,
            "ready": ready,
        },
        diff="" if absent else kube_diff.values(it.label, old, {"replicas": replicas}),
        message=text,
    )
