"""What the actions of `kubectl` do under --check, and after a crash: their companions.

Each gets the arguments of its action. Under --check the server itself rehearses a change
(``dryRun=All``); what is not there may be made by an earlier step, and is no failure.
"""

from __future__ import annotations

from engine.module_api import Arguments, Context, Failed, Probe, Result
from modules._kube import apply as kube_apply
from modules._kube import command as kube_command
from modules._kube import delete as kube_delete
from modules._kube import errors as kube_errors
from modules._kube import manifests as kube_manifests
from modules._kube import patch as kube_patch
from modules._kube import revisions as kube_revisions
from modules._kube import rollout as kube_rollout
from modules._kube import scale as kube_scale
from modules._kube.api import cluster, subject


def apply_check(ctx: Context, args: Arguments) -> Result:
    """Have the server rehearse it (``dryRun=All``) and show what it would store."""
    items = kube_manifests.read(
        ctx,
        cluster(ctx),
        kube_manifests.files(args.file),
        args.objects or [],
        args.namespace,
        template=args.template,
    )
    done = kube_apply.apply(ctx, cluster(ctx), items, force=args.force_conflicts, dry_run=True)
    return kube_apply.rehearsed(done, args.wait)


def delete_check(ctx: Context, args: Arguments) -> Result:
    """Tell which objects are there; what is missing may be made by an earlier step."""
    names = kube_delete.Names(
        args.kind,
        args.name,
        args.selector,
        kube_manifests.files(args.file),
        args.template,
        args.namespace,
        args.api_version,
    )
    return kube_delete.result(kube_delete.targets(ctx, cluster(ctx), names), "would be ")


def patch_check(ctx: Context, args: Arguments) -> Result:
    """Have the server rehearse it (``dryRun=All``); several patches are rehearsed one by one.

    What is not there may be made by an earlier step.
    """
    it = subject(ctx, args.kind, args.name, args.namespace, args.api_version)
    plan = kube_patch.plan(it, args.patch, args.type_, args.subresource)
    try:
        return kube_patch.carry_out(ctx, plan, dry_run=True)
    except kube_errors.NotFound:
        return kube_patch.of_what_is_to_come(plan)


def scale_check(ctx: Context, args: Arguments) -> Result:
    """Compare with the number that is set."""
    it = subject(ctx, args.kind, args.name, args.namespace)
    return kube_scale.planned(ctx, it, args.replicas)


def restart_check(ctx: Context, args: Arguments) -> Result:
    """Have the server rehearse the restart; what is not there may be made by an earlier step."""
    it = subject(ctx, args.kind, args.name, args.namespace)
    try:
        before, after = kube_revisions.restart(ctx, it, wait=args.wait, dry_run=True)
    except kube_errors.NotFound:
        return kube_revisions.restart_to_come(ctx, it.kind, it.name)
    now = kube_rollout.progress(before)
    return kube_revisions.restarted(ctx, it.kind, before, after, now, "would be restarted")


def undo_check(ctx: Context, args: Arguments) -> Result:
    """Have the server rehearse it and show the template that would come back.

    The revision to leave, or the one to go back to, may be made by an earlier step.
    """
    it = subject(ctx, "Deployment", args.name, args.namespace)
    try:
        undo = kube_revisions.undo(ctx, it, args.to_revision)
    except Failed as error:  # no such Deployment, or no such revision
        return kube_revisions.undo_to_come(it.name, args.to_revision, error.message)
    after = undo.carry_out(ctx, dry_run=True)
    return undo.result(after, kube_rollout.progress(undo.before), "would go back to")


def exec_check(ctx: Context, args: Arguments) -> Result:
    """Find the pod (one may still be to come) and say what would run in it."""
    try:
        it = kube_command.place(ctx, args.pod, args.selector, args.container, args.namespace)
    except Failed:
        return kube_command.planned(args.pod or args.selector, args.command, args.expect)
    if args.unless and kube_command.satisfied(ctx, it, args.unless):
        return kube_command.skipped(it.pod)
    return kube_command.planned(it.pod, args.command, args.expect)


def exec_probe(ctx: Context, args: Arguments) -> Probe:
    """Only `unless` can tell whether the command has done its work."""
    if not args.unless:
        return Probe("unknown", message="a command leaves no trace that could be asked for")
    it = kube_command.place(ctx, args.pod, args.selector, args.container, args.namespace)
    if kube_command.satisfied(ctx, it, args.unless):
        return Probe("done", kube_command.skipped(it.pod))
    return Probe("unknown", message="it was started, and what it should bring about is not there")
