"""Patches in the three forms that Kubernetes knows, and the number of replicas."""

from __future__ import annotations

from typing import Any, NamedTuple

from engine.module_api import Context, Refused, Result, count
from modules._kube import diff as kube_diff
from modules._kube.api import Cluster
from modules._kube.errors import NotFound
from modules._kube.kinds import Kind


class Plan(NamedTuple):
    """Patches to send to one object, in order."""

    kind: Kind
    namespace: str
    name: str
    patches: list[Any]
    form: str
    subresource: str

    @property
    def label(self) -> str:
        """``service/claude-enhancer-service``."""
        return self.kind.label(self.name)


def plan(
    kind: Kind,
    namespace: str,
    name: str,
    patch: dict[str, Any] | list[dict[str, Any]],
    form: str | None,
    subresource: str,
) -> Plan:
    """The patches that a step asks for; Refused when they do not fit their form."""
    form = form or ("merge" if kind.custom else "strategic")
    if form == "json":
        if not isinstance(patch, list):
            raise Refused("a JSON patch is a list of operations", hint="write `patch: [{op: …}]`")
        _repeatable(patch)
        return Plan(kind, namespace, name, [patch], form, subresource)
    if form == "strategic" and kind.custom:
        raise Refused(
            f"a {kind.kind} is a custom resource: it has no strategic merge patch",
            hint="use `type: merge` (lists are replaced as a whole) or `type: json`",
        )
    patches = patch if isinstance(patch, list) else [patch]
    if not patches:
        raise Refused("there is no patch to send")
    return Plan(kind, namespace, name, patches, form, subresource)


def carry_out(ctx: Context, cluster: Cluster, wanted: Plan, dry_run: bool) -> Result:
    """Send the patches; in a dry run each is rehearsed on the object as it is now."""
    before = cluster.get(ctx, wanted.kind, wanted.namespace, wanted.name)
    now, diff = before, ""
    for patch in wanted.patches:
        after = cluster.patch(
            ctx,
            wanted.kind,
            wanted.namespace,
            wanted.name,
            patch,
            form=wanted.form,
            sub=wanted.subresource,
            dry_run=dry_run,
        )
        diff += kube_diff.unified(wanted.label, before if dry_run else now, after)
        now = after
    verb = "would be patched" if dry_run else "patched"
    return Result(
        changed=bool(diff),
        data={
            "kind": wanted.kind.kind,
            "name": wanted.name,
            "namespace": wanted.namespace if wanted.kind.namespaced else None,
            "object": kube_diff.for_result(now),
        },
        diff=diff,
        message=f"{wanted.label} {verb}" if diff else f"{wanted.label} is so already",
    )


def of_what_is_to_come(wanted: Plan) -> Result:
    """Under --check, of an object that is not there: what a step tells that cannot be rehearsed."""
    shown: dict[str, Any] = {
        "apiVersion": wanted.kind.api_version,
        "kind": wanted.kind.kind,
        "metadata": {"name": wanted.name},
    }
    for patch in wanted.patches:
        if isinstance(patch, dict):
            shown = _merged(shown, patch)
    return Result(
        changed=True,
        data={
            "kind": wanted.kind.kind,
            "name": wanted.name,
            "namespace": wanted.namespace if wanted.kind.namespaced else None,
            "object": kube_diff.for_result(shown),
        },
        message=f"{wanted.label} is not there: it would be patched once an earlier step made it",
    )


def _merged(target: dict[str, Any], patch: dict[str, Any]) -> dict[str, Any]:
    merged = dict(target)
    for key, value in patch.items():
        below = merged.get(key)
        if isinstance(value, dict):
            merged[key] = _merged(below if isinstance(below, dict) else {}, value)
        elif value is not None:
            merged[key] = value
        else:
            merged.pop(key, None)
    return merged


def replicas(
    ctx: Context, cluster: Cluster, kind: Kind, namespace: str, name: str, missing_ok: bool
) -> int | None:
    """How many replicas an object is to have; None if it is not there and that is fine."""
    if kind.kind in ("Pod", "DaemonSet", "Job", "Service"):
        raise Refused(f"a {kind.kind} has no number of replicas to set")
    try:
        now = cluster.get(ctx, kind, namespace, name, sub="scale")
    except NotFound:
        if missing_ok:
            return None
        raise
    return int((now.get("spec") or {}).get("replicas") or 0)


def scaled(
    kind: Kind, namespace: str, name: str, before: int | None, wanted: int, ready: int
) -> Result:
    """What a scaling tells; `before` is None for an object that is not there."""
    label = kind.label(name)
    absent = before is None and wanted == 0
    if absent:
        text = f"{label}: absent"
    elif before == wanted:
        text = f"{label}: already {count(wanted, 'replica')}, {ready} ready"
    else:
        text = f"{label}: {'absent' if before is None else before} → {count(wanted, 'replica')}"
    was = {} if before is None else {"replicas": before}
    return Result(
        changed=before != wanted and not absent,
        data={
            "kind": kind.kind,
            "name": name,
            "namespace": namespace,
            "replicas": wanted,
            "before": before,
            "ready": ready,
        },
        diff="" if absent else kube_diff.values(label, was, {"replicas": wanted}),
        message=text,
    )


def _repeatable(operations: list[dict[str, Any]]) -> None:
    """A resume may send a patch twice; one that would then add twice is refused."""
    if any(one.get("op") == "test" for one in operations):
        return
    for one in operations:
        last = str(one.get("path", "")).rpartition("/")[2]
        in_list = last == "-" or last.isdigit()
        if (one.get("op") in ("add", "remove") and in_list) or one.get("op") in ("move", "copy"):
            raise Refused(
                f"`{one.get('op')} {one.get('path')}` would do it again if it were repeated",
                hint="put a `test` operation before it that says what must hold, or use a "
                "strategic or merge patch",
            )
