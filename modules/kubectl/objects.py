"""Objects of a cluster: made, changed, deleted, read and waited for."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from engine.module_api import Check, Context, Duration, File, Refused, Result, action
from modules._kube import apply as kube_apply
from modules._kube import companions
from modules._kube import delete as kube_delete
from modules._kube import look as kube_look
from modules._kube import manifests as kube_manifests
from modules._kube import patch as kube_patch
from modules._kube import wait as kube_wait
from modules._kube.api import cluster, subject
from modules._kube.rollout import PATIENCE, SCHEDULE_GRACE, Terms


@action(effect="idempotent", simulates=True)
def apply(
    ctx: Context,
    file: File | list[File] | None = None,
    *,
    objects: list[dict[str, Any]] | None = None,
    namespace: str | None = None,
    template: bool = True,
    force_conflicts: bool = False,
    wait: bool = False,
    schedule_grace: Duration = SCHEDULE_GRACE,
    patience: Duration = PATIENCE,
) -> Result:
    """Create objects or bring them to what their manifests say (server-side apply).

    Manifests are YAML as kubectl reads it, may hold several documents, and are templates:
    ``{{ inputs.version }}``. A definition of a kind and its objects may stand in one. The field
    manager is ``ce-run``; if another manager owns a field that would change, the apply is refused
    and names manager and field. What ``kubectl apply`` or Helm applied before is taken over: what
    the manifest no longer has goes. Result data: ``objects``, a list of ``kind``, ``name``,
    ``namespace``, ``result`` (``created``, ``configured``, ``unchanged``); ``rollouts``, with
    `wait`: ``deployment/name`` → ``ready``, ``desired``, ``done``. Effect idempotent: a resume
    applies again.

    Args:
        file: a manifest, or a list of them.
        objects: objects written in the runbook, instead of files or after them.
        namespace: for objects that name none; default: the inventory's.
        template: false: the files are no templates, as of a vendor; they go as they are.
        force_conflicts: take fields over from other managers.
        wait: wait until applied Deployments, StatefulSets and DaemonSets are rolled out.
        schedule_grace: how long a pod without a node is waited for before the rollout fails.
        patience: how long trouble that may mend by itself is borne.
    """
    items = kube_manifests.read(
        ctx, cluster(ctx), kube_manifests.files(file), objects or [], namespace, template=template
    )
    done = kube_apply.apply(ctx, cluster(ctx), items, force=force_conflicts, dry_run=False)
    terms = Terms(schedule_grace, patience)
    return kube_apply.rolled_out(ctx, cluster(ctx), done, terms if wait else None)


@action(effect="idempotent", simulates=True)
def delete(
    ctx: Context,
    kind: str | None = None,
    name: str | list[str] | None = None,
    *,
    selector: str | None = None,
    file: File | list[File] | None = None,
    template: bool = True,
    namespace: str | None = None,
    api_version: str | None = None,
    missing_ok: bool = False,
    wait: bool = True,
    grace: Duration | None = None,
    propagation: Literal["background", "foreground", "orphan"] = "background",
) -> Result:
    """Delete objects and wait until they are gone.

    Result data: ``objects``, a list of ``kind``, ``name``, ``namespace``, ``result`` (``deleted``
    or ``missing``). What is made anew under an old name meanwhile is left alone. Effect
    idempotent; a resume needs ``missing_ok``, as the first try may have been done.

    Args:
        kind: kind of the objects; not needed with `file`.
        name: name of the object, or a list of names.
        selector: label selector, instead of a name.
        file: manifests whose objects are to be deleted, last one first.
        template: false: the files are no templates.
        namespace: default: the inventory's.
        api_version: for a kind that several groups have.
        missing_ok: an object that is not there is fine; a selector may match nothing in any case.
        wait: wait until the objects are gone.
        grace: how long pods may take to end; default: what they say themselves.
        propagation: what happens to dependents: deleted after it, before it, or left.
    """
    names = kube_delete.Names(
        kind, name, selector, kube_manifests.files(file), template, namespace, api_version
    )
    targets = kube_delete.targets(ctx, cluster(ctx), names)
    how = kube_delete.How(missing_ok, wait, grace, propagation)
    return kube_delete.result(kube_delete.delete(ctx, cluster(ctx), targets, how), "")


@action(effect="idempotent", simulates=True)
def patch(
    ctx: Context,
    kind: str,
    name: str,
    patch: dict[str, Any] | list[dict[str, Any]],
    *,
    type_: Literal["strategic", "merge", "json"] | None = None,
    namespace: str | None = None,
    api_version: str | None = None,
    subresource: str = "",
) -> Result:
    """Change parts of an object.

    Result data: ``kind``, ``name``, ``namespace``, ``object`` (as it is afterwards). Effect
    idempotent: a resume patches again. A JSON patch that adds to or removes from a list would
    not be: it is refused unless a ``test`` operation in it says what must hold before.

    Args:
        kind: kind of the object.
        name: its name.
        patch: the patch; for `json` the list of operations, else one patch or several in order.
        type: default: ``strategic`` (lists merge by key), for custom resources ``merge``.
        namespace: default: the inventory's.
        api_version: for a kind that several groups have.
        subresource: such as ``status``.
    """
    it = subject(ctx, kind, name, namespace, api_version)
    return kube_patch.carry_out(ctx, kube_patch.plan(it, patch, type_, subresource), dry_run=False)


@action(effect="read", simulates=True)
def get(
    ctx: Context,
    kind: str,
    name: str | None = None,
    *,
    selector: str = "",
    fields: str = "",
    namespace: str | None = None,
    all_namespaces: bool = False,
    api_version: str | None = None,
    missing_ok: bool = False,
    limit: int | None = None,
) -> Result:
    """Read one object or a list of them.

    Result data with `name`: ``found`` and ``object`` (null if it is not there); without:
    ``items`` and ``count``. Objects are whole but for managed fields; the values of Secrets are
    hidden (use the inventory's ``secrets`` for those).

    Args:
        kind: kind of the objects.
        name: name of the object; without it, a list is read.
        selector: label selector, such as ``app=claude-enhancer,version=5.1``.
        fields: field selector, such as ``status.phase=Running``.
        namespace: default: the inventory's.
        all_namespaces: read from all namespaces.
        api_version: for a kind that several groups have.
        missing_ok: an object that is not there is no failure.
        limit: the most objects to read.
    """
    it = subject(ctx, kind, name or "", namespace, api_version)
    if name:
        return kube_look.one(ctx, it, missing_ok=missing_ok or ctx.mode == "check")
    if all_namespaces:
        it = it._replace(namespace="")
    return kube_look.several(ctx, it, selector, fields, limit)


@action(effect="read", simulates=True)
def wait(
    ctx: Context,
    kind: str,
    name: str | None = None,
    *,
    for_: Annotated[str, Check(kube_wait.parse)],
    selector: str = "",
    namespace: str | None = None,
    api_version: str | None = None,
    patience: Duration = PATIENCE,
) -> Result:
    """Wait until objects are as they should be; the step's `timeout` bounds it.

    Result data: ``kind``, ``names``, ``for``. A condition counts once its controller has seen
    the object as it is now. What cannot come fails the wait, with evidence: pods that cannot get
    ready (a bad image at once, other trouble after `patience`), Jobs that have ended otherwise.

    Args:
        kind: kind of the objects.
        name: name of the object.
        for: ``condition=Ready``, ``condition=Ready=False``, ``delete``, ``create``, or
            ``jsonpath={.status.phase}=Running``.
        selector: label selector, instead of a name: all that match are waited for.
        namespace: default: the inventory's.
        api_version: for a kind that several groups have.
        patience: how long trouble of pods that may mend by itself is borne.
    """
    if bool(name) == bool(selector):
        raise Refused("give either `name` or `selector` to wait for")
    it = subject(ctx, kind, name or "", namespace, api_version)
    return kube_wait.wait(ctx, it, selector, for_, patience)


# -- under --check, and after a crash ----------------------------------------------------------
apply.check(companions.apply_check)
delete.check(companions.delete_check)
patch.check(companions.patch_check)
