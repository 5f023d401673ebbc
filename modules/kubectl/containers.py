"""What runs in pods: their logs, what they use, commands in them."""

from __future__ import annotations

from typing import Annotated, Literal

from engine.module_api import Check, Context, Duration, Failed, Result, action
from modules._kube import command as kube_command
from modules._kube import companions
from modules._kube import exec as kube_exec
from modules._kube import logs as kube_logs
from modules._kube import look as kube_look
from modules._kube.api import cluster, subject


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
exec_.check(companions.exec_check)
exec_.probe(companions.exec_probe)
