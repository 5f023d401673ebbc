"""Rollouts: how many pods there are, of which template, and whether they are ready."""

from __future__ import annotations

from engine.module_api import Context, Duration, Result, action
from modules._kube import companions
from modules._kube import revisions as kube_revisions
from modules._kube import rollout as kube_rollout
from modules._kube import scale as kube_scale
from modules._kube.api import subject
from modules._kube.rollout import PATIENCE, SCHEDULE_GRACE, Terms


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


# -- under --check, and after a crash ----------------------------------------------------------
scale.check(companions.scale_check)
rollout_restart.check(companions.restart_check)
rollout_undo.check(companions.undo_check)
