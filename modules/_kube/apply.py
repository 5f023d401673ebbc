"""Applying objects, and telling what became of each.

Apply is server-side: the server merges, keeps book of who owns which field, and refuses to take
a field from another manager unless it is told to. What was applied on the client's side before, by
kubectl or Helm, is taken over with its book (see `adopt`). A dry run is the same request with
``dryRun=All``, so what --check shows is what the server itself would store.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from engine.module_api import ActionError, Context, Failed, Refused, Result
from modules._kube import adopt as kube_adopt
from modules._kube import diff as kube_diff
from modules._kube import rollout as kube_rollout
from modules._kube import wait as kube_wait
from modules._kube.api import Cluster, Object
from modules._kube.errors import NotFound
from modules._kube.manifests import DEFINITION, Item, to_come
from modules._kube.watch import Selection

_SERVED = 10.0
"""Seconds after which a kind that was just defined must be served."""

_AGAIN = 0.2


class Applied(NamedTuple):
    """What became of one object."""

    item: Item
    outcome: str
    """``created``, ``configured`` or ``unchanged``."""
    diff: str
    before: Object | None = None
    """As it was; None if it was not there."""

    @property
    def data(self) -> dict[str, Any]:
        """For a result."""
        return {
            "kind": self.item.kind.kind,
            "name": self.item.name,
            "namespace": self.item.namespace if self.item.kind.namespaced else None,
            "result": self.outcome,
        }


def apply(
    ctx: Context, cluster: Cluster, items: list[Item], *, force: bool, dry_run: bool
) -> list[Applied]:
    """Apply items in order. An error tells in `data["objects"]` which were applied before it."""
    done: list[Applied] = []
    for item in items:
        try:
            live = cluster.find(ctx, item.kind, item.namespace, item.name)
            if dry_run:
                done.append(_rehearse(ctx, cluster, item, live, force))
                to_come(ctx, cluster).note(item)
            else:
                done.append(_apply(ctx, cluster, item, live, force))
                ctx.log(f"{item.label} {done[-1].outcome}")
                _await_definition(ctx, cluster, item)
        except ActionError as error:
            raise _told_with(error, item, done, dry_run) from error
    return done


def rolled_out(
    ctx: Context, cluster: Cluster, done: list[Applied], terms: kube_rollout.Terms | None
) -> Result:
    """The result, once the workloads among the objects are rolled out, if that is waited for."""
    rollouts = {}
    for one in done if terms is not None else []:
        item = one.item
        if terms is not None and item.kind.kind in kube_rollout.ROLLED_OUT:
            rollouts[item.label] = kube_rollout.follow(
                ctx,
                cluster,
                item.kind,
                item.namespace,
                item.name,
                terms._replace(before=one.before),
            ).data
    return result(done, rollouts, "")


def rehearsed(done: list[Applied], wait: bool) -> Result:
    """The result under --check."""
    rollouts = {}
    for one in done:
        if wait and one.item.kind.kind in kube_rollout.ROLLED_OUT:
            desired = kube_rollout.desired_replicas(one.item.object)
            rollouts[one.item.label] = {"ready": desired, "desired": desired, "done": True}
    return result(done, rollouts, "would be ")


def result(done: list[Applied], rollouts: dict[str, dict[str, Any]], verb: str) -> Result:
    """What a step tells; `verb` is empty, or ``would be `` under --check."""
    return Result(
        changed=any(one.outcome != "unchanged" for one in done),
        data={"objects": [one.data for one in done], "rollouts": rollouts},
        diff="".join(one.diff for one in done),
        message=", ".join(f"{one.item.label} {verb}{one.outcome}" for one in done),
    )


def _told_with(error: ActionError, item: Item, done: list[Applied], dry_run: bool) -> ActionError:
    """The error of an item, with what was applied before it: then it is no mere refusal."""
    data = {"objects": [one.data for one in done], **error.data}
    message = f"{item.label}: {error.message}"
    changed = [one for one in done if one.outcome != "unchanged"]
    if isinstance(error, Refused) and changed and not dry_run:
        error = Failed(error.message, hint=error.hint, evidence=error.evidence)
    error.message, error.args, error.data = message, (message,), data
    if done and not dry_run:
        applied = ", ".join(f"{one.item.label} {one.outcome}" for one in done)
        error.evidence.append(f"applied before: {applied}")
    return error


def _apply(ctx: Context, cluster: Cluster, item: Item, live: Object | None, force: bool) -> Applied:
    if live is not None:
        kube_adopt.adopt(ctx, cluster, item, live)
    deadline = ctx.monotonic() + _SERVED
    while True:
        try:
            answer = cluster.apply(ctx, item.kind, item.namespace, item.object, force=force)
        except NotFound:
            # A kind that was defined a moment ago may not be served yet.
            if not item.defined_here or ctx.monotonic() > deadline:
                raise
            ctx.sleep(_AGAIN)
        else:
            return _outcome(item, live, answer.body)


def _await_definition(ctx: Context, cluster: Cluster, item: Item) -> None:
    """Objects of a kind that an item defines can be applied once it is established."""
    if item.kind.kind == DEFINITION:
        established = kube_wait.parse("condition=Established")
        kube_wait.until(ctx, cluster, Selection(item.kind, "", item.name), established)


def _outcome(item: Item, live: Object | None, now: Object) -> Applied:
    diff = kube_diff.unified(item.label, live, now)
    if live is None:
        return Applied(item, "created", diff)
    if not diff:  # its status may have moved meanwhile; that is not our doing
        return Applied(item, "unchanged", "", live)
    return Applied(item, "configured", diff, live)


def _rehearse(
    ctx: Context,
    cluster: Cluster,
    item: Item,
    live: Object | None,
    force: bool,
) -> Applied:
    """The server's dry run. What only an earlier object would make possible is taken as it is."""
    owners = kube_adopt.client_side(live) if live else []
    try:
        answer = cluster.apply(
            ctx,
            item.kind,
            item.namespace,
            item.object,
            force=force or _only_theirs(ctx, cluster, item, owners),
            dry_run=True,
        )
    except NotFound:
        if live is None and (
            item.defined_here or item.namespace in to_come(ctx, cluster).namespaces
        ):
            return Applied(item, "created", kube_diff.unified(item.label, None, item.object))
        raise
    after = kube_adopt.without_dropped(answer.body, item.object, live, owners)
    diff = kube_diff.unified(item.label, live, after)
    outcome = "created" if live is None else "configured" if diff else "unchanged"
    return Applied(item, outcome, diff, live)


def _only_theirs(ctx: Context, cluster: Cluster, item: Item, owners: list[str]) -> bool:
    """Whether all that conflicts belongs to managers that a run would take over."""
    if not owners:
        return False
    try:
        cluster.apply(ctx, item.kind, item.namespace, item.object, dry_run=True)
    except Refused as error:
        conflicts: Any = error.data.get("conflicts") or []
        return bool(conflicts) and all(one["manager"] in owners for one in conflicts)
    return False
