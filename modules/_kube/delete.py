"""Deleting objects, and knowing that they are gone.

An object is deleted by its uid: what somebody makes anew under the same name in the meantime is
another object and is left alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from engine.module_api import ActionError, Context, Refused, Result
from modules._kube import apply as kube_apply
from modules._kube import diff as kube_diff
from modules._kube import wait as kube_wait
from modules._kube.api import Cluster, Object
from modules._kube.errors import NotFound
from modules._kube.kinds import Kind
from modules._kube.watch import Selection

_PROPAGATION = {"background": "Background", "foreground": "Foreground", "orphan": "Orphan"}


class Target(NamedTuple):
    """An object to delete, as it is now; `live` is None if it is not there."""

    kind: Kind
    namespace: str
    name: str
    live: Object | None

    @property
    def label(self) -> str:
        """``deployment/claude-enhancer-canary``."""
        return self.kind.label(self.name)

    @property
    def data(self) -> dict[str, Any]:
        """For a result."""
        return {
            "kind": self.kind.kind,
            "name": self.name,
            "namespace": self.namespace if self.kind.namespaced else None,
            "result": "deleted" if self.live else "missing",
        }


def targets(
    ctx: Context,
    cluster: Cluster,
    kind: str | None,
    name: str | list[str] | None,
    selector: str | None,
    files: list[Path],
    namespace: str | None,
    api_version: str | None,
) -> list[Target]:
    """What a step names: by kind and name or selector, or by manifests (last object first)."""
    if files:
        items = kube_apply.read(ctx, cluster, files, [], namespace)
        return [
            _look(ctx, cluster, item.kind, item.namespace, item.name) for item in reversed(items)
        ]
    if kind is None or (not name) == (not selector):
        raise Refused(
            "it is not clear what to delete",
            hint="give `kind` and either `name` or `selector`, or else `file`",
        )
    found, place = cluster.kind(ctx, kind, api_version), namespace or cluster.namespace
    if selector:
        items_, _ = cluster.list(ctx, found, place, labels=selector)
        return [Target(found, place, item["metadata"]["name"], item) for item in items_]
    names = [name] if isinstance(name, str) else name or []
    return [_look(ctx, cluster, found, place, one) for one in names]


def delete(
    ctx: Context,
    cluster: Cluster,
    found: list[Target],
    *,
    missing_ok: bool,
    wait: bool,
    grace: float | None,
    propagation: str,
) -> None:
    """Delete targets in order and wait until they are gone.

    Raises NotFound for one that is missing (unless that is fine), before anything is deleted.
    """
    missing = [one for one in found if one.live is None]
    if missing and not missing_ok:
        raise NotFound(
            f"{', '.join(one.label for one in missing)} not found: nothing was deleted",
            hint="`missing_ok: true` if that is fine",
            data={"objects": [one.data for one in missing]},
        )
    there = [one for one in found if one.live is not None]
    deleted: list[Target] = []
    for one in there:
        try:
            _delete(ctx, cluster, one, grace, propagation)
        except ActionError as error:
            error.data.setdefault("objects", [before.data for before in deleted])
            raise
        deleted.append(one)
    for one in there if wait else []:
        _await_gone(ctx, cluster, one)


def result(found: list[Target], verb: str) -> Result:
    """What a step tells; `verb` is empty, or ``would be `` under --check."""
    told = [
        f"{one.label} {verb}deleted" if one.live else f"{one.label} is not there" for one in found
    ]
    return Result(
        changed=any(one.live for one in found),
        data={"objects": [one.data for one in found]},
        diff="".join(kube_diff.unified(one.label, one.live, None) for one in found),
        message=", ".join(told) or "nothing matches, nothing to delete",
    )


def _look(ctx: Context, cluster: Cluster, kind: Kind, namespace: str, name: str) -> Target:
    return Target(kind, namespace, name, cluster.find(ctx, kind, namespace, name))


def _delete(
    ctx: Context, cluster: Cluster, one: Target, grace: float | None, propagation: str
) -> None:
    assert one.live is not None
    options: Object = {
        "kind": "DeleteOptions",
        "apiVersion": "v1",
        "propagationPolicy": _PROPAGATION[propagation],
        "preconditions": {"uid": one.live["metadata"]["uid"]},
    }
    if grace is not None:
        options["gracePeriodSeconds"] = round(grace)
    try:
        cluster.delete(ctx, one.kind, one.namespace, one.name, options)
        ctx.log(f"{one.label} deleted")
    except NotFound:
        ctx.log(f"{one.label} was gone already")


def _await_gone(ctx: Context, cluster: Cluster, one: Target) -> None:
    assert one.live is not None
    kube_wait.until(
        ctx,
        cluster,
        Selection(one.kind, one.namespace if one.kind.namespaced else "", one.name),
        kube_wait.parse("delete"),
        uids={one.name: one.live["metadata"]["uid"]},
    )
