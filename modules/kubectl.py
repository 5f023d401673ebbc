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

Rollouts are watched, not polled, and fail with the pod's own evidence when a new pod cannot get
ready: at once where nothing will mend it (an image that does not exist), after `patience` where it
may mend by itself (a busy registry, a Secret that is yet to come, a container that restarts until
its proxy is up), after `schedule_grace` where no node has room. A cluster that is lost meanwhile is
waited for until the step's time is up.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from engine.module_api import Check, Context, Duration, Failed, File, Refused, Result, action
from modules._kube import apply as kube_apply
from modules._kube import command as kube_command
from modules._kube import companions
from modules._kube import delete as kube_delete
from modules._kube import exec as kube_exec
from modules._kube import logs as kube_logs
from modules._kube import look as kube_look
from modules._kube import manifests as kube_manifests
from modules._kube import patch as kube_patch
from modules._kube import revisions as kube_revisions
from modules._kube import rollout as kube_rollout
from modules._kube import scale as kube_scale
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


@action(effect="idempotent", simulates=True)
def scale(
    ctx: Context,
    name: str,
    replicas: int,
    *,
    kind: str = "Deployment",
    namespace: str | None = None,
    wait: bool = True,
    missing_ok: bool = False,
    schedule_grace: Duration = SCHEDULE_GRACE,
    patience: Duration = PATIENCE,
) -> Result:
    """Set the number of replicas and wait until they are ready (or gone).

    On the way down only their number is waited for: what is left need not be ready. Fails when
    somebody else, such as a HorizontalPodAutoscaler, sets another number meanwhile. Result data:
    ``kind``, ``name``, ``namespace``, ``replicas``, ``before`` (null if it is absent), ``ready``.
    Effect idempotent: a resume sets the same number and waits again.

    Args:
        name: name of the object.
        replicas: how many pods it is to have.
        kind: ``Deployment``, ``StatefulSet``, ``ReplicaSet``, or with `wait: false` another that
            can be scaled.
        namespace: default: the inventory's.
        wait: wait until all are ready; fails when a pod cannot get ready.
        missing_ok: with `replicas` 0, an object that is not there is fine.
        schedule_grace: how long a pod without a node is waited for before it fails.
        patience: how long trouble that may mend by itself is borne.
    """
    it = subject(ctx, kind, name, namespace)
    terms = Terms(schedule_grace, patience) if wait else None
    return kube_scale.scale(ctx, it, replicas, terms, missing_ok=missing_ok)


@action(effect="read", simulates=True)
def rollout_status(
    ctx: Context,
    name: str,
    *,
    kind: str = "Deployment",
    namespace: str | None = None,
    schedule_grace: Duration = SCHEDULE_GRACE,
    patience: Duration = PATIENCE,
) -> Result:
    """Wait until a rollout is done; the step's `timeout` bounds it.

    Result data: ``kind``, ``name``, ``ready``, ``desired``, ``done`` (true). Fails, with
    the pod's evidence, when a pod of the new revision cannot get ready.

    Args:
        name: name of the object.
        kind: ``Deployment``, ``StatefulSet`` or ``DaemonSet``.
        namespace: default: the inventory's.
        schedule_grace: how long a pod without a node is waited for before it fails.
        patience: how long trouble that may mend by itself is borne.
    """
    it = subject(ctx, kind, name, namespace)
    return kube_rollout.status(ctx, it, Terms(schedule_grace, patience))


@action(effect="idempotent", simulates=True)
def rollout_restart(
    ctx: Context,
    name: str,
    *,
    kind: str = "Deployment",
    namespace: str | None = None,
    wait: bool = True,
    schedule_grace: Duration = SCHEDULE_GRACE,
    patience: Duration = PATIENCE,
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
        patience: how long trouble that may mend by itself is borne.
    """
    it = subject(ctx, kind, name, namespace)
    terms = Terms(schedule_grace, patience)
    before, after = kube_revisions.restart(ctx, it, wait=wait, dry_run=False)
    now = kube_rollout.progress(after)
    if wait:
        now = kube_rollout.follow(ctx, *it, terms._replace(before=before))
    return kube_revisions.restarted(ctx, it.kind, before, after, now, "restarted")


@action(effect="idempotent", simulates=True)
def rollout_undo(
    ctx: Context,
    name: str,
    *,
    to_revision: int | None = None,
    namespace: str | None = None,
    wait: bool = True,
    schedule_grace: Duration = SCHEDULE_GRACE,
    patience: Duration = PATIENCE,
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
        patience: how long trouble that may mend by itself is borne.
    """
    it = subject(ctx, "Deployment", name, namespace)
    undo = kube_revisions.undo(ctx, it, to_revision)
    after = undo.carry_out(ctx, dry_run=False)
    now = kube_rollout.progress(after)
    if wait:
        terms = Terms(schedule_grace, patience, before=undo.before)
        now = kube_rollout.follow(ctx, *it, terms)
    return undo.result(after, now, "back at")


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
def logs(
    ctx: Context,
    name: str | None = None,
    *,
    selector: str = "",
    container: str = "",
    tail: int = 100,
    since: Duration | None = None,
    previous: bool = False,
    match: Annotated[str, Check(kube_logs.valid_pattern)] | None = None,
    namespace: str | None = None,
) -> Result:
    """Read the last log lines of pods.

    Result data: ``pods``, pod (``pod/container`` if it has several) → list of lines; ``count``,
    lines in all; ``unread``, pod → why there is no log of it (it never ran, it went away). Fails
    when no log can be read at all. The lines are in the step's log, too.

    Args:
        name: name of a pod, or of its owner: ``deployment/claude-enhancer-blue``.
        selector: label selector, instead of a name.
        container: only this container, an init container too; default: all of the pod, and of its
            init containers the sidecars and those that have not succeeded.
        tail: lines of each container, at most.
        since: only lines that are younger than this.
        previous: of the container's life before its last restart.
        match: only lines in which this regular expression is found.
        namespace: default: the inventory's.
    """
    it = subject(ctx, "Pod", name or "", namespace)
    lines = kube_logs.Lines(container, tail, since, previous, match)
    return kube_logs.logs(ctx, it, selector, lines)


@action(effect="read", simulates=True)
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
    place = namespace or cluster(ctx).namespace
    return kube_look.top(ctx, cluster(ctx), what, place, selector)


@action(effect="once", simulates=True)
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
        container: default: the one that the pod's annotation
            ``kubectl.kubernetes.io/default-container`` names, else its first.
        stdin: text for the command's standard input.
        expect: the exit status, or several, that mean success.
        unless: a command without effects; if it succeeds there, there is nothing to do: skip.
        limit: bytes of stdout and of stderr to keep in the result.
        namespace: default: the inventory's.
    """
    it = kube_command.place(ctx, pod, selector, container, namespace)
    if unless and kube_command.satisfied(ctx, it, unless):
        return kube_command.skipped(it.pod)
    words = kube_command.words(command)
    finished = kube_exec.run(ctx, it, words, stdin=stdin, limit=limit)
    return kube_command.judged(ctx, it.pod, command, finished, expect, changed=True)


@action(effect="read", simulates=True)
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
        container: default: the one that the pod's annotation
            ``kubectl.kubernetes.io/default-container`` names, else its first.
        expect: the exit status, or several, that mean success.
        limit: bytes of stdout and of stderr to keep in the result.
        namespace: default: the inventory's.
    """
    try:
        it = kube_command.place(ctx, pod, selector, container, namespace)
    except Failed:
        if ctx.mode != "check":
            raise
        return Result(data=kube_command.nothing(pod or selector), message="no pod is ready yet")
    finished = kube_exec.run(ctx, it, kube_command.words(command), limit=limit)
    return kube_command.judged(ctx, it.pod, command, finished, expect, changed=False)


# -- under --check, and after a crash ----------------------------------------------------------
apply.check(companions.apply_check)
delete.check(companions.delete_check)
patch.check(companions.patch_check)
scale.check(companions.scale_check)
rollout_restart.check(companions.restart_check)
rollout_undo.check(companions.undo_check)
exec_.check(companions.exec_check)
exec_.probe(companions.exec_probe)
