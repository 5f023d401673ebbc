"""Reading objects, and what pods and nodes use, for steps that only look."""

from __future__ import annotations

from typing import Any

from engine.module_api import Context, Result, count
from modules._kube import diff as kube_diff
from modules._kube import top as kube_top
from modules._kube.api import Cluster, Subject
from modules._kube.errors import NotFound


def one(ctx: Context, it: Subject, *, missing_ok: bool) -> Result:
    """One object; that it is not there may be an answer, too."""
    try:
        item = it.cluster.get(ctx, it.kind, it.namespace, it.name)
    except NotFound:
        if not missing_ok:
            raise
        return Result(data={"found": False, "object": None}, message=f"{it.label}: absent")
    return Result(data={"found": True, "object": kube_diff.for_result(item)}, message=it.label)


def several(ctx: Context, it: Subject, selector: str, fields: str, limit: int | None) -> Result:
    """A list of objects."""
    items, _ = it.cluster.list(
        ctx, it.kind, it.namespace, labels=selector, fields=fields, limit=limit
    )
    return Result(
        data={"items": [kube_diff.for_result(item) for item in items], "count": len(items)},
        message=count(len(items), it.kind.kind.lower(), it.kind.plural),
    )


def top(ctx: Context, cluster: Cluster, what: str, namespace: str, selector: str) -> Result:
    """What pods or nodes use: each, and in all."""
    if what == "nodes":
        items = kube_top.nodes(ctx, cluster, selector)
    else:
        items = kube_top.pods(ctx, cluster, namespace, selector)
    data: dict[str, Any] = {
        "items": items,
        "cpu": round(sum(item["cpu"] for item in items), 6),
        "memory": sum(item["memory"] for item in items),
    }
    if what == "nodes":
        for key in ("cpu_percent", "memory_percent"):
            known = [item[key] for item in items if item[key] is not None]
            data[key] = max(known) if known else None
    number = count(len(items), what.rstrip("s"), what)
    return Result(
        data=data,
        message=f"{number}: {data['cpu']:.2f} cores, {data['memory'] / 2**20:.0f} MiB",
    )
