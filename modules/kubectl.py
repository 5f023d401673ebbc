"""Work on a Kubernetes cluster, in the words of kubectl.

Inventory section (all keys optional; without any, kubectl's own defaults hold: ``KUBECONFIG``,
``~/.kube/config``, or the service account when running in a pod)::

    kubectl:
      context: production          # a context of the kubeconfig; default: its current one
      namespace: claude-enhancer   # where objects are that do not say it themselves
      kubeconfig: ~/.kube/config
      timeout: 30                  # seconds that one answer may take
      verify: true                 # false: TLS certificates are not checked

Instead of a kubeconfig, ``server`` (a URL) with ``token``, ``certificate_authority``,
``client_certificate`` and ``client_key`` (files). A kind is named as in kubectl: ``Deployment``,
``deployments`` or ``deploy``; kinds of custom resources are looked up in the cluster.

Rollouts are watched, not polled, and fail at once, with the pod's own evidence, when a new pod
cannot get ready: a bad image, a crash loop, a missing ConfigMap, no node, an exceeded deadline.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from engine.module_api import Context, Duration, Failed, File, Probe, Refused, Result, action, count
from modules._kube import api as kube_api
from modules._kube import apply as kube_apply
from modules._kube import command as kube_command
from modules._kube import delete as kube_delete
from modules._kube import diff as kube_diff
from modules._kube import errors as kube_errors
from modules._kube import exec as kube_exec
from modules._kube import logs as kube_logs
from modules._kube import patch as kube_patch
from modules._kube import revisions as kube_revisions
from modules._kube import rollout as kube_rollout
from modules._kube import top as kube_top
from modules._kube import wait as kube_wait
from modules._kube.watch import Selection


# -- apply --------------------------------------------------------------------------------------
@action(effect="idempotent")
def apply(
    ctx: Context,
    file: File | list[File] | None = None,
    *,
    objects: list[dict[str, Any]] | None = None,
    namespace: str | None = None,
    force_conflicts: bool = False,
    wait: bool = False,
    schedule_grace: Duration = kube_rollout.SCHEDULE_GRACE,
) -> Result:
    """Create objects or bring them to what their manifests say (server-side apply).

    Manifests may hold several documents and are templates: ``{{ inputs.version }}``. The field
    manager is ``ce-run``; if another manager owns a field that would change, the apply is refused
    and names manager and field. Result data: ``objects``, a list of ``kind``, ``name``,
    ``namespace``, ``result`` (``created``, ``configured``, ``unchanged``); ``rollouts``, with
    `wait`: ``deployment/name`` → ``ready``, ``desired``, ``done``. Effect idempotent: a resume
    applies again.

    Args:
        file: a manifest, or a list of them.
        objects: objects written in the runbook, instead of files or after them.
        namespace: for objects that name none; default: the inventory's.
        force_conflicts: take fields over from other managers.
        wait: wait until applied Deployments, StatefulSets and DaemonSets are rolled out.
        schedule_grace: how long a pod without a node is waited for before the rollout fails.
    """
    cluster = kube_api.cluster(ctx)
    items = kube_apply.read(ctx, cluster, _files(file), objects or [], namespace)
    done = kube_apply.apply(ctx, cluster, items, force=force_conflicts, dry_run=False)
    rollouts = {}
    for one in done:
        if wait and one.item.kind.kind in kube_rollout.ROLLED_OUT:
            item = one.item
            rollouts[item.label] = kube_rollout.follow(
                ctx, cluster, item.kind, item.namespace, item.name, schedule_grace=schedule_grace
            ).data
    return kube_apply.result(done, rollouts, "")


@apply.check
def apply_check(
    ctx: Context,
    file: File | list[File] | None = None,
    *,
    objects: list[dict[str, Any]] | None = None,
    namespace: str | None = None,
    force_conflicts: bool = False,
    wait: bool = False,
    schedule_grace: Duration = 0.0,
) -> Result:
    """Have the server rehearse it (``dryRun=All``) and show what it would store."""
    cluster = kube_api.cluster(ctx)
    items = kube_apply.read(ctx, cluster, _files(file), objects or [], namespace)
    done = kube_apply.apply(ctx, cluster, items, force=force_conflicts, dry_run=True)
    rollouts = {}
    for one in done:
        if wait and one.item.kind.kind in kube_rollout.ROLLED_OUT:
            desired = int((one.item.object.get("spec") or {}).get("replicas", 1))
            rollouts[one.item.label] = {"ready": desired, "desired": desired, "done": True}
    return kube_apply.result(done, rollouts, "would be ")


# -- delete -------------------------------------------------------------------------------------
@action(effect="idempotent")
def delete(
    ctx: Context,
    kind: str | None = None,
    name: str | list[str] | None = None,
    *,
    selector: str | None = None,
    file: File | list[File] | None = None,
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
        namespace: default: the inventory's.
        api_version: for a kind that several groups have.
        missing_ok: an object that is not there is fine; a selector may match nothing in any case.
        wait: wait until the objects are gone.
        grace: how long pods may take to end; default: what they say themselves.
        propagation: what happens to dependents: deleted after it, before it, or left.
    """
    cluster = kube_api.cluster(ctx)
    found = kube_delete.targets(
        ctx, cluster, kind, name, selector, _files(file), namespace, api_version
    )
    kube_delete.delete(
        ctx,
        cluster,
        found,
        missing_ok=missing_ok,
        wait=wait,
        grace=grace,
        propagation=propagation,
    )
    return kube_delete.result(found, "")


@delete.check
def delete_check(
    ctx: Context,
    kind: str | None = None,
    name: str | list[str] | None = None,
    *,
    selector: str | None = None,
    file: File | list[File] | None = None,
    namespace: str | None = None,
    api_version: str | None = None,
    **others: Any,
) -> Result:
    """Tell which objects are there; what is missing may be made by an earlier step."""
    found = kube_delete.targets(
        ctx, kube_api.cluster(ctx), kind, name, selector, _files(file), namespace, api_version
    )
    return kube_delete.result(found, "would be ")


# -- patch and scale ----------------------------------------------------------------------------
@action(effect="idempotent")
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
    cluster = kube_api.cluster(ctx)
    found, place = cluster.kind(ctx, kind, api_version), namespace or cluster.namespace
    wanted = kube_patch.plan(found, place, name, patch, type_, subresource)
    return kube_patch.carry_out(ctx, cluster, wanted, dry_run=False)


@patch.check
def patch_check(
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
    """Have the server rehearse it (``dryRun=All``); several patches are rehearsed one by one.

    What is not there may be made by an earlier step.
    """
    cluster = kube_api.cluster(ctx)
    found, place = cluster.kind(ctx, kind, api_version), namespace or cluster.namespace
    wanted = kube_patch.plan(found, place, name, patch, type_, subresource)
    try:
        return kube_patch.carry_out(ctx, cluster, wanted, dry_run=True)
    except kube_errors.NotFound:
        return kube_patch.of_what_is_to_come(wanted)


@action(effect="idempotent")
def scale(
    ctx: Context,
    name: str,
    replicas: int,
    *,
    kind: str = "Deployment",
    namespace: str | None = None,
    wait: bool = True,
    missing_ok: bool = False,
    schedule_grace: Duration = kube_rollout.SCHEDULE_GRACE,
) -> Result:
    """Set the number of replicas and wait until they are ready (or gone).

    Result data: ``kind``, ``name``, ``namespace``, ``replicas``, ``before`` (null if it is
    absent), ``ready``. Effect idempotent: a resume sets the same number and waits again.

    Args:
        name: name of the object.
        replicas: how many pods it is to have.
        kind: ``Deployment``, ``StatefulSet`` or ``ReplicaSet``.
        namespace: default: the inventory's.
        wait: wait until all are ready; fails at once when a pod cannot get ready.
        missing_ok: with `replicas` 0, an object that is not there is fine.
        schedule_grace: how long a pod without a node is waited for before it fails.
    """
    cluster = kube_api.cluster(ctx)
    found, place = cluster.kind(ctx, kind), namespace or cluster.namespace
    before = kube_patch.replicas(
        ctx, cluster, found, place, name, missing_ok=missing_ok and replicas == 0
    )
    if before is None:
        return kube_patch.scaled(found, place, name, None, replicas, 0)
    if before != replicas:
        patch = {"spec": {"replicas": replicas}}
        cluster.patch(ctx, found, place, name, patch, sub="scale")
    ready = replicas
    if wait and found.kind in kube_rollout.ROLLED_OUT:
        ready = kube_rollout.follow(
            ctx, cluster, found, place, name, schedule_grace=schedule_grace
        ).ready
    return kube_patch.scaled(found, place, name, before, replicas, ready)


@scale.check
def scale_check(
    ctx: Context,
    name: str,
    replicas: int,
    *,
    kind: str = "Deployment",
    namespace: str | None = None,
    **others: Any,
) -> Result:
    """Compare with the number that is set."""
    cluster = kube_api.cluster(ctx)
    found, place = cluster.kind(ctx, kind), namespace or cluster.namespace
    before = kube_patch.replicas(ctx, cluster, found, place, name, missing_ok=True)
    return kube_patch.scaled(found, place, name, before, replicas, replicas)


# -- rollouts -----------------------------------------------------------------------------------
@action(effect="read")
def rollout_status(
    ctx: Context,
    name: str,
    *,
    kind: str = "Deployment",
    namespace: str | None = None,
    schedule_grace: Duration = kube_rollout.SCHEDULE_GRACE,
) -> Result:
    """Wait until a rollout is done; the step's `timeout` bounds it.

    Result data: ``kind``, ``name``, ``ready``, ``desired``, ``done`` (true). Fails at once, with
    the pod's evidence, when a pod of the new revision cannot get ready.

    Args:
        name: name of the object.
        kind: ``Deployment``, ``StatefulSet`` or ``DaemonSet``.
        namespace: default: the inventory's.
        schedule_grace: how long a pod without a node is waited for before it fails.
    """
    cluster = kube_api.cluster(ctx)
    found, place = cluster.kind(ctx, kind), namespace or cluster.namespace
    if ctx.mode == "check":  # what is to be rolled out may come of a step that was not carried out
        item = cluster.find(ctx, found, place, name)
        now = kube_rollout.progress(item) if item else kube_rollout.NOT_THERE
    else:
        now = kube_rollout.follow(ctx, cluster, found, place, name, schedule_grace=schedule_grace)
    return Result(
        data={"kind": found.kind, "name": name, **now.data},
        message=f"{found.label(name)}: {now.text}",
    )


@action(effect="idempotent")
def rollout_restart(
    ctx: Context,
    name: str,
    *,
    kind: str = "Deployment",
    namespace: str | None = None,
    wait: bool = True,
    schedule_grace: Duration = kube_rollout.SCHEDULE_GRACE,
) -> Result:
    """Replace all pods by new ones of the same template, in the object's own update strategy.

    Result data: ``kind``, ``name``, ``ready``, ``desired``, ``done``, ``restarted_at`` (UTC).
    Effect idempotent: the restart is stamped with the step's first start, so that retries and a
    resume do not restart again what they restarted already.

    Args:
        name: name of the object.
        kind: ``Deployment``, ``StatefulSet`` or ``DaemonSet``.
        namespace: default: the inventory's.
        wait: wait until the new pods are ready.
        schedule_grace: how long a pod without a node is waited for before it fails.
    """
    cluster = kube_api.cluster(ctx)
    found, place = cluster.kind(ctx, kind), namespace or cluster.namespace
    before, after = kube_revisions.restart(ctx, cluster, found, place, name, dry_run=False)
    now = kube_rollout.progress(after)
    if wait:
        now = kube_rollout.follow(ctx, cluster, found, place, name, schedule_grace=schedule_grace)
    return kube_revisions.restarted(ctx, found, before, after, now, "restarted")


@rollout_restart.check
def rollout_restart_check(
    ctx: Context,
    name: str,
    *,
    kind: str = "Deployment",
    namespace: str | None = None,
    **others: Any,
) -> Result:
    """Have the server rehearse the restart; what is not there may be made by an earlier step."""
    cluster = kube_api.cluster(ctx)
    found, place = cluster.kind(ctx, kind), namespace or cluster.namespace
    try:
        before, after = kube_revisions.restart(ctx, cluster, found, place, name, dry_run=True)
    except kube_errors.NotFound:
        return kube_revisions.restart_to_come(ctx, found, name)
    now = kube_rollout.progress(before)
    return kube_revisions.restarted(ctx, found, before, after, now, "would be restarted")


@action(effect="idempotent")
def rollout_undo(
    ctx: Context,
    name: str,
    *,
    to_revision: int | None = None,
    namespace: str | None = None,
    wait: bool = True,
    schedule_grace: Duration = kube_rollout.SCHEDULE_GRACE,
) -> Result:
    """Put a Deployment's pods back to an earlier revision of their template.

    Result data: ``kind``, ``name``, ``ready``, ``desired``, ``done``, ``revision`` (the one gone
    back to), ``from_revision``. Effect idempotent: the Deployment is stamped with the task, so
    that a resume does not go back a second time.

    Args:
        name: name of the Deployment.
        to_revision: number of the revision; default: the one before the current.
        namespace: default: the inventory's.
        wait: wait until its pods are ready.
        schedule_grace: how long a pod without a node is waited for before it fails.
    """
    cluster = kube_api.cluster(ctx)
    place = namespace or cluster.namespace
    undo = kube_revisions.undo(ctx, cluster, place, name, to_revision)
    after = undo.carry_out(ctx, cluster, dry_run=False)
    now = kube_rollout.progress(after)
    if wait:
        now = kube_rollout.follow(
            ctx, cluster, undo.kind, place, name, schedule_grace=schedule_grace
        )
    return undo.result(after, now, "back at")


@rollout_undo.check
def rollout_undo_check(
    ctx: Context,
    name: str,
    *,
    to_revision: int | None = None,
    namespace: str | None = None,
    **others: Any,
) -> Result:
    """Have the server rehearse it and show the template that would come back.

    The revision to leave, or the one to go back to, may be made by an earlier step.
    """
    cluster = kube_api.cluster(ctx)
    place = namespace or cluster.namespace
    try:
        undo = kube_revisions.undo(ctx, cluster, place, name, to_revision)
    except Failed as error:  # no such Deployment, or no such revision
        return kube_revisions.undo_to_come(name, to_revision, error.message)
    after = undo.carry_out(ctx, cluster, dry_run=True)
    return undo.result(after, kube_rollout.progress(undo.before), "would go back to")


# -- looking ------------------------------------------------------------------------------------
@action(effect="read")
def wait(
    ctx: Context,
    kind: str,
    name: str | None = None,
    *,
    for_: str,
    selector: str = "",
    namespace: str | None = None,
    api_version: str | None = None,
) -> Result:
    """Wait until objects are as they should be; the step's `timeout` bounds it.

    Result data: ``kind``, ``names``, ``for``. Pods that are waited for to be ready and cannot
    get so (bad image, crash loop) fail the wait at once, with their evidence.

    Args:
        kind: kind of the objects.
        name: name of the object.
        for: ``condition=Ready``, ``condition=Ready=False``, ``delete``, ``create``, or
            ``jsonpath={.status.phase}=Running``.
        selector: label selector, instead of a name: all that match are waited for.
        namespace: default: the inventory's.
        api_version: for a kind that several groups have.
    """
    if bool(name) == bool(selector):
        raise Refused("give either `name` or `selector` to wait for")
    cluster = kube_api.cluster(ctx)
    found = cluster.kind(ctx, kind, api_version)
    place = (namespace or cluster.namespace) if found.namespaced else ""
    selection = Selection(found, place, name or "", selector)
    wanted = kube_wait.parse(for_)
    if ctx.mode == "check":  # what is waited for may come of steps that were not carried out
        items, _ = cluster.list(ctx, found, place, labels=selector, fields=selection.field_selector)
    else:
        items = kube_wait.until(ctx, cluster, selection, wanted)
    names = [item["metadata"]["name"] for item in items]
    return Result(
        data={"kind": found.kind, "names": names, "for": for_},
        message=f"{', '.join(names) or name or selector}: {for_}",
    )


@action(effect="read")
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
    cluster = kube_api.cluster(ctx)
    found = cluster.kind(ctx, kind, api_version)
    place = "" if all_namespaces else namespace or cluster.namespace
    if name:
        try:
            item = kube_diff.for_result(cluster.get(ctx, found, place, name))
        except kube_errors.NotFound:
            if not missing_ok and ctx.mode != "check":
                raise
            return Result(
                data={"found": False, "object": None}, message=f"{found.label(name)}: absent"
            )
        return Result(data={"found": True, "object": item}, message=found.label(name))
    items, _ = cluster.list(ctx, found, place, labels=selector, fields=fields, limit=limit)
    return Result(
        data={"items": [kube_diff.for_result(item) for item in items], "count": len(items)},
        message=count(len(items), found.kind.lower(), found.plural),
    )


@action(effect="read")
def logs(
    ctx: Context,
    name: str | None = None,
    *,
    selector: str = "",
    container: str = "",
    tail: int = 100,
    since: Duration | None = None,
    previous: bool = False,
    match: str | None = None,
    namespace: str | None = None,
) -> Result:
    """Read the last log lines of pods.

    Result data: ``pods``, pod (``pod/container`` if it has several) → list of lines; ``count``,
    lines in all; ``unread``, pod → why there is no log of it (it never ran, it went away). Fails
    when no log can be read at all. The lines are in the step's log, too.

    Args:
        name: name of a pod, or of its owner: ``deployment/claude-enhancer-blue``.
        selector: label selector, instead of a name.
        container: only this container; default: all of the pod.
        tail: lines of each container, at most.
        since: only lines that are younger than this.
        previous: of the container's life before its last restart.
        match: only lines in which this regular expression is found.
        namespace: default: the inventory's.
    """
    cluster = kube_api.cluster(ctx)
    place = namespace or cluster.namespace
    pods = kube_logs.pods(ctx, cluster, place, name, selector, none_ok=ctx.mode == "check")
    wanted = kube_logs.Wanted(container, tail, since, previous, match)
    found = kube_logs.read(ctx, cluster, pods, wanted, none_ok=ctx.mode == "check")
    total = sum(len(lines) for lines in found.lines.values())
    without = "; ".join(f"none of {title}: {why}" for title, why in found.unread.items())
    return Result(
        data={"pods": found.lines, "count": total, "unread": found.unread},
        message=f"{count(total, 'line')} of {count(len(pods), 'pod')}"
        + (f"; {without}" if without else ""),
    )


@action(effect="read")
def top(
    ctx: Context,
    what: Literal["pods", "nodes"] = "pods",
    *,
    selector: str = "",
    namespace: str | None = None,
) -> Result:
    """Tell what pods or nodes use, by the cluster's metrics server.

    Result data: ``items``, a list of ``name``, ``cpu`` (cores), ``memory`` (bytes), for pods
    ``containers`` (the same by container), for nodes ``cpu_percent`` and ``memory_percent``;
    ``cpu`` and ``memory`` in all; for nodes also the highest ``cpu_percent``, ``memory_percent``.

    Args:
        what: ``pods`` or ``nodes``.
        selector: label selector.
        namespace: of the pods; default: the inventory's.
    """
    cluster = kube_api.cluster(ctx)
    if what == "nodes":
        items = kube_top.nodes(ctx, cluster, selector)
    else:
        items = kube_top.pods(ctx, cluster, namespace or cluster.namespace, selector)
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


# -- exec ---------------------------------------------------------------------------------------
@action(effect="once")
def exec_(
    ctx: Context,
    command: str | list[str],
    *,
    pod: str | None = None,
    selector: str = "",
    container: str = "",
    stdin: str | None = None,
    expect: int | list[int] = 0,
    unless: str | list[str] = "",
    limit: int = 65536,
    namespace: str | None = None,
) -> Result:
    """Run a command in a container of a pod.

    Result data: ``pod``, ``code`` (exit status), ``stdout``, ``stderr`` (without the last
    newline), ``truncated`` (output beyond `limit`: its middle is left out), ``skipped`` (true
    when `unless` said that there is nothing to do). Effect once: after a crash in the middle the
    run asks a person whether to repeat it, unless `unless` can tell. For commands that only look,
    use `kubectl.exec-read`. A deadline or cancellation lets go of the command; Kubernetes does
    not end it.

    Args:
        command: text for ``/bin/sh -c`` in the container, or a list of words.
        pod: name of the pod, or of its owner: ``deployment/claude-enhancer-blue``.
        selector: label selector, instead of a name: its first ready pod.
        container: default: the pod's first.
        stdin: text for the command's standard input.
        expect: the exit status, or several, that mean success.
        unless: a command without effects; if it succeeds there, there is nothing to do: skip.
        limit: bytes of stdout and of stderr to keep in the result.
        namespace: default: the inventory's.
    """
    cluster = kube_api.cluster(ctx)
    place = namespace or cluster.namespace
    target = kube_logs.ready_pod(ctx, cluster, place, pod, selector)
    if unless and kube_command.satisfied(ctx, cluster, place, target, container, unless):
        return kube_command.skipped(target)
    finished = kube_exec.run(
        ctx,
        cluster,
        place,
        target,
        kube_command.words(command),
        container=container,
        stdin=stdin,
        limit=limit,
    )
    return kube_command.judged(ctx, target, command, finished, expect, changed=True)


@exec_.check
def exec_check(
    ctx: Context,
    command: str | list[str],
    *,
    pod: str | None = None,
    selector: str = "",
    container: str = "",
    expect: int | list[int] = 0,
    unless: str | list[str] = "",
    namespace: str | None = None,
    **others: Any,
) -> Result:
    """Find the pod (one may still be to come) and say what would run in it."""
    cluster = kube_api.cluster(ctx)
    place = namespace or cluster.namespace
    try:
        target = kube_logs.ready_pod(ctx, cluster, place, pod, selector)
    except Failed:
        target = pod or selector
        unless = ""
    if unless and kube_command.satisfied(ctx, cluster, place, target, container, unless):
        return kube_command.skipped(target)
    return kube_command.planned(target, command, expect)


@exec_.probe
def exec_probe(
    ctx: Context,
    command: str | list[str],
    *,
    pod: str | None = None,
    selector: str = "",
    container: str = "",
    unless: str | list[str] = "",
    namespace: str | None = None,
    **others: Any,
) -> Probe:
    """Only `unless` can tell whether the command has done its work."""
    if not unless:
        return Probe("unknown", message="a command leaves no trace that could be asked for")
    cluster = kube_api.cluster(ctx)
    place = namespace or cluster.namespace
    target = kube_logs.ready_pod(ctx, cluster, place, pod, selector)
    if kube_command.satisfied(ctx, cluster, place, target, container, unless):
        return Probe("done", kube_command.skipped(target))
    return Probe("unknown", message="it was started, and what it should bring about is not there")


@action(effect="read")
def exec_read(
    ctx: Context,
    command: str | list[str],
    *,
    pod: str | None = None,
    selector: str = "",
    container: str = "",
    expect: int | list[int] = 0,
    limit: int = 65536,
    namespace: str | None = None,
) -> Result:
    """Run a command that only looks (``cat /app/.phase/current``) in a container of a pod.

    Result data: ``pod``, ``code``, ``stdout``, ``stderr``, ``truncated``, ``skipped`` (false).
    Effect read: it runs under --check, too, and again after a crash.

    Args:
        command: text for ``/bin/sh -c`` in the container, or a list of words.
        pod: name of the pod, or of its owner: ``deployment/claude-enhancer-blue``.
        selector: label selector, instead of a name: its first ready pod.
        container: default: the pod's first.
        expect: the exit status, or several, that mean success.
        limit: bytes of stdout and of stderr to keep in the result.
        namespace: default: the inventory's.
    """
    cluster = kube_api.cluster(ctx)
    place = namespace or cluster.namespace
    try:
        target = kube_logs.ready_pod(ctx, cluster, place, pod, selector)
    except Failed:
        if ctx.mode != "check":
            raise
        return Result(data=kube_command.nothing(pod or selector), message="no pod is ready yet")
    finished = kube_exec.run(
        ctx,
        cluster,
        place,
        target,
        kube_command.words(command),
        container=container,
        limit=limit,
    )
    return kube_command.judged(ctx, target, command, finished, expect, changed=False)


def _files(file: File | list[File] | None) -> list[Path]:
    if file is None:
        return []
    return [Path(one) for one in (file if isinstance(file, list) else [file])]
