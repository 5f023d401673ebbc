"""Finding pods by what people call them, and reading their logs."""

from __future__ import annotations

import re
from typing import NamedTuple

from engine.module_api import Context, Failed, Refused, Result, containing, count
from modules._kube import kinds as kube_kinds
from modules._kube import pods as kube_pods
from modules._kube import workload as kube_workload
from modules._kube.api import Cluster, Object, Subject
from modules._kube.errors import BadRequest, NotFound

_MOST_BYTES = 1_048_576
"""Bytes of log that are read of one container."""


class Lines(NamedTuple):
    """Which lines."""

    container: str
    tail: int
    since: float | None
    previous: bool
    match: str | None


def logs(ctx: Context, it: Subject, selector: str, lines: Lines) -> Result:
    """The lines that a step asks for; under --check, pods may still be to come."""
    none_ok = ctx.mode == "check"
    targets = pods(ctx, it, selector, none_ok=none_ok)
    result = read(ctx, it.cluster, targets, lines, none_ok=none_ok)
    number = sum(len(each) for each in result.lines.values())
    without = "; ".join(f"none of {title}: {why}" for title, why in result.unread.items())
    return Result(
        data={"pods": result.lines, "count": number, "unread": result.unread},
        message=f"{count(number, 'line')} of {count(len(targets), 'pod')}"
        + (f"; {without}" if without else ""),
    )


def pods(ctx: Context, it: Subject, selector: str, none_ok: bool = False) -> list[Object]:
    """The pods of a name, of an owner (``deployment/app``) or of a selector.

    Raises Failed if there are none, unless that is fine (they may be still to come).
    """
    try:
        return _pods(ctx, it, selector)
    except Failed:
        if none_ok:
            return []
        raise


def _pods(ctx: Context, it: Subject, selector: str) -> list[Object]:
    cluster, kind, namespace, name = it
    if bool(name) == bool(selector):
        raise Refused("give either the name of a pod (or of its owner) or a `selector`")
    if name and "/" not in name:
        return [cluster.get(ctx, kind, namespace, name)]
    if name:
        word, owner = kube_kinds.split(name)
        owning = cluster.kind(ctx, word)
        if owning.kind == "Pod":
            return [cluster.get(ctx, kind, namespace, owner)]
        selector = kube_workload.labels_of(cluster.get(ctx, owning, namespace, owner))
    items, _ = cluster.list(ctx, kind, namespace, labels=selector)
    if not items:
        raise Failed(f"no pod matches {name or selector!r} in namespace {namespace}")
    return items


def ready_pod(ctx: Context, it: Subject, selector: str) -> Object:
    """A pod that is ready; Failed with what the pods are doing if there is none.

    A pod that is asked for by its own name need not be ready: it may be what is looked into.
    """
    candidates = pods(ctx, it, selector)
    named = bool(it.name) and "/" not in it.name
    ready = [pod for pod in candidates if named or kube_pods.is_ready(pod)]
    if not ready:
        raise Failed(
            f"none of the {len(candidates)} pods of {it.name or selector} is ready",
            evidence=kube_pods.states(candidates)[:10],
        )
    return min(ready, key=lambda pod: str(pod["metadata"]["name"]))


class Read(NamedTuple):
    """What was read, by pod (``pod/container`` if it has several)."""

    lines: dict[str, list[str]]
    unread: dict[str, str]
    """Why there is no log of a container, in the server's words: it never ran, it went away."""


def read(
    ctx: Context, cluster: Cluster, targets: list[Object], lines: Lines, none_ok: bool = False
) -> Read:
    """The lines that are asked for. They go to the step's log, too.

    What cannot be read does not keep from reading the rest; when there is no rest, it fails.
    """
    result = Read({}, {})
    for pod in targets:
        for title, container in _containers(pod, lines.container):
            try:
                text = _read(ctx, cluster, pod, container, lines)
            except (BadRequest, NotFound) as error:
                result.unread[title] = error.message
                ctx.log(f"--- {title}: {error.message}")
                continue
            kept = _matching(lines.match, text.splitlines())
            result.lines[title] = kept
            ctx.log("\n".join([f"--- {title}", *kept]))
    if result.unread and not result.lines and not none_ok:
        first, *more = [f"{title}: {why}" for title, why in result.unread.items()]
        raise Failed(f"there is no log to read: {first}", evidence=more[:10])
    return result


def _read(ctx: Context, cluster: Cluster, pod: Object, container: str, lines: Lines) -> str:
    metadata = pod["metadata"]
    path = cluster.kind(ctx, "Pod").path(metadata["namespace"], metadata["name"], "log")
    query = {
        "container": container,
        "tailLines": str(lines.tail),
        "limitBytes": str(_MOST_BYTES),
        "sinceSeconds": str(max(1, round(lines.since))) if lines.since is not None else "",
        "previous": "true" if lines.previous else "",
    }
    return cluster.text(ctx, path, query)


def _containers(pod: Object, named: str) -> list[tuple[str, str]]:
    """Title and name of each container whose log is read."""
    name, spec = pod["metadata"]["name"], pod.get("spec") or {}
    main = [one["name"] for one in spec.get("containers") or []]
    others = [
        one["name"]
        for section in ("initContainers", "ephemeralContainers")
        for one in spec.get(section) or []
    ]
    if named:
        if named not in (*main, *others):
            raise Failed(
                f"pod {name} has no container {named!r}",
                hint=f"its containers are {', '.join([*main, *others])}",
            )
        return [(name, named)]
    chosen = [*_of_interest(pod), *main]
    if len(chosen) == 1:
        return [(name, chosen[0])]
    return [(f"{name}/{one}", one) for one in chosen]


def _of_interest(pod: Object) -> list[str]:
    """Init containers with something to say: sidecars, and those that have not succeeded."""
    states = {
        one.get("name"): one.get("state") or {}
        for one in (pod.get("status") or {}).get("initContainerStatuses") or []
    }
    chosen = []
    for one in (pod.get("spec") or {}).get("initContainers") or []:
        state = states.get(one["name"]) or {}
        failed = (state.get("terminated") or {}).get("exitCode") not in (None, 0)
        waits = (state.get("waiting") or {}).get("reason", "").startswith(("Crash", "Err"))
        if one.get("restartPolicy") == "Always" or "running" in state or failed or waits:
            chosen.append(one["name"])
    return chosen


def valid_pattern(text: str) -> None:
    """Refuse a `match` that is no regular expression."""
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise Refused(f"`match: {text}` is not a regular expression: {error}") from None


def _matching(match: str | None, lines: list[str]) -> list[str]:
    """The lines that match, found in bounded time: both pattern and lines may be odd."""
    if not match:
        return lines
    valid_pattern(match)
    try:
        return containing(match, lines)
    except ValueError as error:
        raise Refused(f"`match`: {error}", hint="write a simpler pattern") from error
