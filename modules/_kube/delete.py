"""Deleting objects, and knowing that they are gone.

An object is deleted by its uid: what somebody makes anew under the same name in the meantime is
another object and is left alone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from engine.module_api import ActionError, Context, Failed, Refused, Result
from modules._kube import diff as kube_diff
from modules._kube import manifests as kube_manifests
from modules._kube import wait as kube_wait
from modules._kube.api import Cluster, Object
from modules._kube.errors import NotFound
from modules._kube.kinds import Kind
from modules._kube.watch import Selection

_PROPAGATION = {"background": "Background", "foreground": "Foreground", "orphan": "Orphan"}


class Names(NamedTuple):
    """What a step names to be deleted."""

    kind: str | None
    name: str | list[str] | None
    selector: str | None
    files: list[Path]
    template: bool
    """Whether the files are templates."""
    namespace: str | None
    api_version: str | None


class How(NamedTuple):
    """How it is to be deleted."""

    missing_ok: bool
    wait: bool
    grace: float | None
    """Seconds that pods may take to end."""
    propagation: str


class Target(NamedTuple):
    """An object to delete, as it is now; `live` is None if it is not there."""

    kind: Kind
    namespace: str
    name: str
    live: Object | None
    held: bool = False
    """It was asked to be deleted and is still there, as something holds it."""

    @property
    def outcome(self) -> str:
        """``deleted`` or ``missing``."""
        return "missing" if self.live is None else "deleted"

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
            "result": self.outcome,
        }


def targets(ctx: Context, cluster: Cluster, names: Names) -> list[Target]:
    """What a step names: by kind and name or selector, or by manifests (last object first)."""
    if names.files:
        items = kube_manifests.read(
            ctx, cluster, names.files, [], names.namespace, template=names.template
        )
        return [
            _look(ctx, cluster, item.kind, item.namespace, item.name) for item in reversed(items)
        ]
    if names.kind is None or (not names.name) == (not names.selector):
        raise Refused(
            "it is not clear what to delete",
            hint="give `kind` and either `name` or `selector`, or else `file`",
        )
    kind = cluster.kind(ctx, names.kind, names.api_version)
    place = names.namespace or cluster.namespace
    if names.selector:
        items_, _ = cluster.list(ctx, kind, place, labels=names.selector)
        return [Target(kind, place, item["metadata"]["name"], item) for item in items_]
    each = [names.name] if isinstance(names.name, str) else names.name or []
    return [_look(ctx, cluster, kind, place, one) for one in each]


def delete(ctx: Context, cluster: Cluster, targets: list[Target], how: How) -> list[Target]:
    """Delete targets in order and wait until they are gone; what became of each.

    Raises NotFound for one that is missing (unless that is fine), before anything is deleted.
    """
    missing = [one for one in targets if one.live is None]
    if missing and not how.missing_ok:
        raise NotFound(
            f"{', '.join(one.label for one in missing)} not found: nothing was deleted",
            hint="`missing_ok: true` if that is fine",
            data={"objects": [one.data for one in missing]},
        )
    deleted: list[Target] = []
    held: list[Target] = []
    for one in targets:
        try:
            if one.live is not None:
                held += [one] if _delete(ctx, cluster, one, how) else []
                deleted.append(one)
        except ActionError as error:
            raise _told_with(error, deleted) from error
    for one in deleted if how.wait else []:
        _await_gone(ctx, cluster, one)
    return [one._replace(held=one in held and not how.wait) for one in targets]


def _told_with(error: ActionError, deleted: list[Target]) -> ActionError:
    """The error of an object, with what was deleted before it: then it is no mere refusal."""
    if deleted and isinstance(error, Refused):
        error = Failed(error.message, hint=error.hint, evidence=error.evidence, data=error.data)
    if deleted:
        error.evidence.append(f"deleted before: {', '.join(one.label for one in deleted)}")
    error.data.setdefault("objects", [one.data for one in deleted])
    return error


def result(targets: list[Target], verb: str) -> Result:
    """What a step tells; `verb` is empty, or ``would be `` under --check."""
    words = [
        f"{one.label} is not there" if one.live is None else f"{one.label} {_done(one, verb)}"
        for one in targets
    ]
    return Result(
        changed=any(one.live for one in targets),
        data={"objects": [one.data for one in targets]},
        diff="".join(kube_diff.unified(one.label, one.live, None) for one in targets),
        message=", ".join(words) or "nothing matches, nothing to delete",
    )


def _done(one: Target, verb: str) -> str:
    return "is being deleted" if one.held else f"{verb}deleted"


def _look(ctx: Context, cluster: Cluster, kind: Kind, namespace: str, name: str) -> Target:
    return Target(kind, namespace, name, cluster.find(ctx, kind, namespace, name))


def _delete(ctx: Context, cluster: Cluster, one: Target, how: How) -> bool:
    """Delete an object; whether it stays for a while: it ends, or a finalizer holds it."""
    assert one.live is not None
    options: Object = {
        "kind": "DeleteOptions",
        "apiVersion": "v1",
        "propagationPolicy": _PROPAGATION[how.propagation],
    }
    if uid := one.live["metadata"].get("uid"):
        options["preconditions"] = {"uid": uid}
    if how.grace is not None:
        options["gracePeriodSeconds"] = round(how.grace)
    try:
        answer = cluster.delete(ctx, one.kind, one.namespace, one.name, options)
    except NotFound:
        ctx.log(f"{one.label} was gone already")
        return False
    ctx.log(f"{one.label} deleted")
    metadata = answer.get("metadata")
    return isinstance(metadata, dict) and bool(metadata.get("deletionTimestamp"))


def _await_gone(ctx: Context, cluster: Cluster, one: Target) -> None:
    assert one.live is not None
    kube_wait.until(
        ctx,
        cluster,
        Selection(one.kind, one.namespace if one.kind.namespaced else "", one.name),
        kube_wait.parse("delete"),
        uids={one.name: one.live["metadata"].get("uid", "")},
    )
