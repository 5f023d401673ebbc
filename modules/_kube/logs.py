"""Finding pods by what people call them, and reading their logs."""

from __future__ import annotations

import re
from typing import NamedTuple

from engine.module_api import Context, Failed, Refused
from modules._kube import kinds as kube_kinds
from modules._kube import pods as kube_pods
from modules._kube import rollout as kube_rollout
from modules._kube.api import Cluster, Object
from modules._kube.errors import BadRequest, NotFound

_MOST_BYTES = 1_048_576
"""Bytes of log that are read of one container."""


class Wanted(NamedTuple):
    """Which lines."""

    container: str
    tail: int
    since: float | None
    previous: bool
    match: str | None


def pods(
    ctx: Context,
    cluster: Cluster,
    namespace: str,
    name: str | None,
    selector: str,
    none_ok: bool = False,
) -> list[Object]:
    """The pods of a name, of an owner (``deployment/app``) or of a selector.

    Raises Failed if there are none, unless that is fine (they may be still to come).
    """
    try:
        return _pods(ctx, cluster, namespace, name, selector)
    except Failed:
        if none_ok:
            return []
        raise


def _pods(
    ctx: Context, cluster: Cluster, namespace: str, name: str | None, selector: str
) -> list[Object]:
    if bool(name) == bool(selector):
        raise Refused("give either the name of a pod (or of its owner) or a `selector`")
    kind = cluster.kind(ctx, "Pod")
    if name and "/" not in name:
        return [cluster.get(ctx, kind, namespace, name)]
    if name:
        word, owner = kube_kinds.split(name)
        owning = cluster.kind(ctx, word)
        if owning.kind == "Pod":
            return [cluster.get(ctx, kind, namespace, owner)]
        selector = kube_rollout.labels_of(cluster.get(ctx, owning, namespace, owner))
    found, _ = cluster.list(ctx, kind, namespace, labels=selector)
    if not found:
        raise Failed(f"no pod matches {name or selector!r} in namespace {namespace}")
    return found


def ready_pod(
    ctx: Context, cluster: Cluster, namespace: str, name: str | None, selector: str
) -> str:
    """The name of a pod that is ready; Failed with what the pods are doing if there is none.

    A pod that is asked for by its own name need not be ready: it may be what is looked into.
    """
    found = pods(ctx, cluster, namespace, name, selector)
    named = bool(name) and "/" not in (name or "")
    ready = [pod for pod in found if named or kube_pods.is_ready(pod)]
    if not ready:
        raise Failed(
            f"none of the {len(found)} pods of {name or selector} is ready",
            evidence=kube_pods.states(found)[:10],
        )
    return str(min(pod["metadata"]["name"] for pod in ready))


class Read(NamedTuple):
    """What was read, by pod (``pod/container`` if it has several)."""

    lines: dict[str, list[str]]
    unread: dict[str, str]
    """Why there is no log of a container, in the server's words: it never ran, it went away."""


def read(
    ctx: Context, cluster: Cluster, found: list[Object], wanted: Wanted, none_ok: bool = False
) -> Read:
    """The wanted lines. They go to the step's log, too.

    What cannot be read does not keep from reading the rest; when there is no rest, it fails.
    """
    pattern = _pattern(wanted.match)
    result = Read({}, {})
    for pod in found:
        for title, container in _containers(pod, wanted.container):
            try:
                text = _read(ctx, cluster, pod, container, wanted)
            except (BadRequest, NotFound) as error:
                result.unread[title] = error.message
                ctx.log(f"--- {title}: {error.message}")
                continue
            kept = [line for line in text.splitlines() if not pattern or pattern.search(line)]
            result.lines[title] = kept
            ctx.log("\n".join([f"--- {title}", *kept]))
    if result.unread and not result.lines and not none_ok:
        first, *more = [f"{title}: {why}" for title, why in result.unread.items()]
        raise Failed(f"there is no log to read: {first}", evidence=more[:10])
    return result


def _read(ctx: Context, cluster: Cluster, pod: Object, container: str, wanted: Wanted) -> str:
    metadata = pod["metadata"]
    path = cluster.kind(ctx, "Pod").path(metadata["namespace"], metadata["name"], "log")
    query = {
        "container": container,
        "tailLines": str(wanted.tail),
        "limitBytes": str(_MOST_BYTES),
        "sinceSeconds": str(max(1, round(wanted.since))) if wanted.since is not None else "",
        "previous": "true" if wanted.previous else "",
    }
    return cluster.text(ctx, path, query)


def _containers(pod: Object, wanted: str) -> list[tuple[str, str]]:
    """Title and name of each container whose log is read."""
    name = pod["metadata"]["name"]
    containers = [one["name"] for one in (pod.get("spec") or {}).get("containers") or []]
    if wanted:
        if wanted not in containers:
            raise Failed(
                f"pod {name} has no container {wanted!r}",
                hint=f"its containers are {', '.join(containers)}",
            )
        return [(name, wanted)]
    if len(containers) == 1:
        return [(name, containers[0])]
    return [(f"{name}/{one}", one) for one in containers]


def _pattern(match: str | None) -> re.Pattern[str] | None:
    try:
        return re.compile(match) if match else None
    except re.error as error:
        raise Refused(f"`match: {match}` is not a regular expression: {error}") from error
