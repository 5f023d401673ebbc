"""Restarting workloads and going back to earlier revisions, each at most once a task.

Both are done by changing the pod template, and both would happen twice if a crashed run repeated
them. So they leave the task's key on the object, and a repetition sees its own mark.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from engine.module_api import Context, Failed, Refused, Result
from modules._kube import diff as kube_diff
from modules._kube import rollout as kube_rollout
from modules._kube import workload as kube_workload
from modules._kube.api import Cluster, Object, Subject
from modules._kube.kinds import Kind
from modules._kube.rollout import RolloutProgress

_RESTARTED_AT = "kubectl.kubernetes.io/restartedAt"
_RESTARTED_BY = "ce-run/restarted-by"
_UNDONE_BY = "ce-run/undone-by"
_UNDONE_FROM = "ce-run/undone-from"
_HASH = "pod-template-hash"


def stamps(ctx: Context) -> dict[str, str]:
    """The annotations of a restart: the time of the task's first start, and its key."""
    first = ctx.now() - timedelta(seconds=ctx.elapsed_since_first_start())
    stamp = datetime.fromtimestamp(round(first.timestamp()), UTC)
    return {_RESTARTED_AT: stamp.strftime("%Y-%m-%dT%H:%M:%SZ"), _RESTARTED_BY: ctx.key}


def restart(ctx: Context, it: Subject, *, wait: bool, dry_run: bool) -> tuple[Object, Object]:
    """Stamp the pod template unless this task has done so: the object before and after."""
    cluster, kind, namespace, name = it
    if kind.kind not in kube_rollout.ROLLED_OUT:
        raise Refused(f"a {kind.kind} cannot be restarted: it has no pod template to change")
    before, marks = cluster.get(ctx, kind, namespace, name), stamps(ctx)
    if wait:
        kube_rollout.must_roll(kind, before)
    template = ((before.get("spec") or {}).get("template") or {}).get("metadata") or {}
    if (template.get("annotations") or {}).get(_RESTARTED_BY) == marks[_RESTARTED_BY]:
        return before, before
    patch = {"spec": {"template": {"metadata": {"annotations": marks}}}}
    after = cluster.patch(ctx, kind, namespace, name, patch, form="strategic", dry_run=dry_run)
    return before, after


def restarted(
    ctx: Context, kind: Kind, before: Object, after: Object, now: RolloutProgress, verb: str
) -> Result:
    """What a restart tells."""
    name = before["metadata"]["name"]
    label = kind.label(name)
    diff = kube_diff.unified(label, before, after)
    message = f"{label} {verb}" if diff else f"{label} was restarted by this step before"
    return Result(
        changed=bool(diff),
        data={
            "kind": kind.kind,
            "name": name,
            **now.data,
            "restarted_at": stamps(ctx)[_RESTARTED_AT],
        },
        diff=diff,
        message=f"{message}: {now.text}",
    )


def restart_to_come(ctx: Context, kind: Kind, name: str) -> Result:
    """Under --check, of an object that an earlier step would have made."""
    return Result(
        changed=True,
        data={
            "kind": kind.kind,
            "name": name,
            **kube_rollout.NOT_THERE.data,
            "restarted_at": stamps(ctx)[_RESTARTED_AT],
        },
        message=f"{kind.label(name)} is not there: it would be restarted once an earlier step "
        "made it",
    )


def undo_to_come(name: str, to_revision: int | None, why: str) -> Result:
    """Under --check, of a revision that an earlier step would have made."""
    return Result(
        changed=True,
        data={
            "kind": "Deployment",
            "name": name,
            **kube_rollout.NOT_THERE.data,
            "revision": to_revision or 0,
            "from_revision": 0,
        },
        message=f"would go back once earlier steps made the revisions for it; now {why}",
    )


class Undo(NamedTuple):
    """Going back to a revision of a Deployment."""

    subject: Subject
    before: Object
    revision: int
    from_revision: int
    template: Object | None
    """The pod template to put back; None when this task has done so already."""

    def carry_out(self, ctx: Context, dry_run: bool) -> Object:
        """Put the template back; the Deployment as it is then."""
        if self.template is None:
            return self.before
        cluster, kind, namespace, name = self.subject
        patch = [
            # Somebody else's rollout in between must not be overwritten by what we saw before.
            {
                "op": "test",
                "path": "/metadata/annotations/deployment.kubernetes.io~1revision",
                "value": str(self.from_revision),
            },
            {"op": "replace", "path": "/spec/template", "value": self.template},
            {
                "op": "add",
                "path": f"/metadata/annotations/{_pointer(_UNDONE_BY)}",
                "value": ctx.key,
            },
            {
                "op": "add",
                "path": f"/metadata/annotations/{_pointer(_UNDONE_FROM)}",
                "value": f"{self.from_revision}>{self.revision}",
            },
        ]
        return cluster.patch(ctx, kind, namespace, name, patch, form="json", dry_run=dry_run)

    def result(self, after: Object, now: RolloutProgress, verb: str) -> Result:
        """What it tells."""
        label = self.subject.label
        diff = kube_diff.unified(label, self.before, after)
        return Result(
            changed=bool(diff),
            data={
                "kind": self.subject.kind.kind,
                "name": self.subject.name,
                **now.data,
                "revision": self.revision,
                "from_revision": self.from_revision,
            },
            diff=diff,
            message=f"{label} {verb} revision {self.revision}: {now.text}",
        )


def undo(ctx: Context, it: Subject, to_revision: int | None) -> Undo:
    """Find the revision to go back to; Failed names the ones that there are."""
    item = it.cluster.get(ctx, it.kind, it.namespace, it.name)
    annotations = item["metadata"].get("annotations") or {}
    if annotations.get(_UNDONE_BY) == ctx.key:
        was, _, now = annotations.get(_UNDONE_FROM, "0>0").partition(">")
        return Undo(it, item, int(now), int(was), None)
    if (item.get("spec") or {}).get("paused"):
        raise Refused(
            f"{it.label} is paused: its revision cannot be changed",
            hint="resume it: patch `spec.paused` to false",
        )
    current = kube_workload.revision_of(item)
    history = _history(ctx, it.cluster, item)
    target = _choose(it.label, history, current, to_revision)
    template = history[target]["spec"]["template"]
    labels = template["metadata"].get("labels") or {}
    kept = {key: value for key, value in labels.items() if key != _HASH}
    template = {**template, "metadata": {**template["metadata"], "labels": kept}}
    if str(target) == current:
        return Undo(it, item, target, target, None)
    return Undo(it, item, target, int(current or 0), template)


def _history(ctx: Context, cluster: Cluster, item: Object) -> dict[int, Object]:
    sets = kube_workload.replica_sets(ctx, cluster, item)
    return {
        int(revision): one for one in sets if (revision := kube_workload.revision_of(one)).isdigit()
    }


def _choose(label: str, history: dict[int, Object], current: str, to_revision: int | None) -> int:
    known_ones = ", ".join(str(number) for number in sorted(history)) or "none"
    if to_revision is not None:
        if to_revision not in history:
            raise Failed(
                f"{label} has no revision {to_revision}", hint=f"its revisions are {known_ones}"
            )
        return to_revision
    earlier = [number for number in history if str(number) != current]
    if not earlier:
        raise Failed(
            f"{label} has no earlier revision to go back to", hint=f"its revisions: {known_ones}"
        )
    return max(earlier)


def _pointer(key: str) -> str:
    """A key as a step of a JSON pointer."""
    return key.replace("~", "~0").replace("/", "~1")
