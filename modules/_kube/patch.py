"""Patches in the three forms that Kubernetes knows."""

from __future__ import annotations

from typing import Any, NamedTuple

from engine.module_api import Context, Failed, Refused, Result
from modules._kube import diff as kube_diff
from modules._kube.api import Object, Subject
from modules._kube.manifests import texts
from modules._kube.yaml import as_json


class PatchPlan(NamedTuple):
    """Patches to send to one object, in order."""

    subject: Subject
    patches: list[Any]
    form: str
    subresource: str

    @property
    def label(self) -> str:
        """``service/claude-enhancer-service``."""
        return self.subject.label

    @property
    def data(self) -> dict[str, Any]:
        """What a result names."""
        kind, namespace = self.subject.kind, self.subject.namespace
        return {
            "kind": kind.kind,
            "name": self.subject.name,
            "namespace": namespace if kind.namespaced else None,
        }


def plan(
    subject: Subject,
    patch: dict[str, Any] | list[dict[str, Any]],
    form: str | None,
    subresource: str,
) -> PatchPlan:
    """The patches that a step asks for; Refused when they do not fit their form."""
    kind = subject.kind
    patch = texts(as_json(patch, "patch"))
    form = form or ("merge" if kind.custom else "strategic")
    if form == "json":
        if not isinstance(patch, list):
            raise Refused("a JSON patch is a list of operations", hint="write `patch: [{op: …}]`")
        _repeatable(patch)
        return PatchPlan(subject, [patch], form, subresource)
    if form == "strategic" and kind.custom:
        raise Refused(
            f"a {kind.kind} is a custom resource: it has no strategic merge patch",
            hint="use `type: merge` (lists are replaced as a whole) or `type: json`",
        )
    patches = patch if isinstance(patch, list) else [patch]
    if not patches:
        raise Refused("there is no patch to send")
    return PatchPlan(subject, patches, form, subresource)


def carry_out(ctx: Context, plan: PatchPlan, dry_run: bool) -> Result:
    """Send the patches; in a dry run each is rehearsed on the object as it is now."""
    cluster, kind, namespace, name = plan.subject
    before = cluster.get(ctx, kind, namespace, name)
    now, diff = before, ""
    for number, patch in enumerate(plan.patches):
        try:
            after = cluster.patch(
                ctx,
                kind,
                namespace,
                name,
                patch,
                form=plan.form,
                sub=plan.subresource,
                dry_run=dry_run,
            )
        except Refused as error:
            if not number or dry_run:
                raise
            raise _half_done(plan, number, error) from error
        shown = kube_diff.unified(
            plan.label, before if dry_run else now, after, status=plan.subresource == "status"
        )
        if not shown and not plan.subresource:
            _must_hold(plan, patch, after)
        diff, now = diff + shown, after
    verb = "would be patched" if dry_run else "patched"
    return Result(
        changed=bool(diff),
        data={**plan.data, "object": kube_diff.for_result(now)},
        diff=diff,
        message=f"{plan.label} {verb}" if diff else f"{plan.label} is so already",
    )


def _half_done(plan: PatchPlan, number: int, error: Refused) -> Failed:
    return Failed(
        f"{plan.label}: patch {number + 1} of {len(plan.patches)} was refused after the ones "
        f"before it were made: {error.message}",
        hint=error.hint,
        evidence=error.evidence,
    )


def _must_hold(plan: PatchPlan, patch: Any, after: Object) -> None:
    """Fail when a patch changed nothing although the object is not as it says.

    A server drops, for one, a `status` that is not sent to the subresource of that name.
    """
    if "status" in patch and "status" not in _sections_kept(patch, after):
        raise Failed(
            f"{plan.label}: the cluster took the patch, but kept nothing of its status",
            hint="a status is changed with `subresource: status`",
        )


def _sections_kept(patch: Any, after: Object) -> list[str]:
    return [key for key in patch if _covers(after.get(key), patch[key])]


def _covers(value: Any, patch: Any) -> bool:
    """Whether a value is as a patch says, as far as mappings tell."""
    if not isinstance(patch, dict):
        return bool(value == patch)
    return isinstance(value, dict) and all(
        _covers(value.get(key), below) for key, below in patch.items()
    )


def of_what_is_to_come(plan: PatchPlan) -> Result:
    """Under --check, of an object that is not there: what a step tells that cannot be rehearsed."""
    shown: dict[str, Any] = {
        "apiVersion": plan.subject.kind.api_version,
        "kind": plan.subject.kind.kind,
        "metadata": {"name": plan.subject.name},
    }
    for patch in plan.patches:
        if isinstance(patch, dict):
            shown = _merged(shown, patch)
    return Result(
        changed=True,
        data={**plan.data, "object": kube_diff.for_result(shown)},
        message=f"{plan.label} is not there: it would be patched once an earlier step made it",
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
