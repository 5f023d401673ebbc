"""Waiting for a Deployment, StatefulSet or DaemonSet to be rolled out, and knowing when not to.

`progress` says from the object alone how far a rollout is; `follow` watches the object and its
pods until it is done, and fails at once, with evidence, when a pod of the *new* template cannot
get ready. Pods of an older template do not count: replacing them is often what the rollout is for.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from engine.module_api import Context, Failed, Refused, TimedOut
from modules._kube import pods as kube_pods
from modules._kube.api import Cluster, Object
from modules._kube.errors import NotFound
from modules._kube.kinds import Kind, known
from modules._kube.pods import Trouble
from modules._kube.watch import Selection, View

ROLLED_OUT = ("Deployment", "StatefulSet", "DaemonSet")
"""Kinds whose rollout can be followed."""

SCHEDULE_GRACE = 30.0
"""Seconds for which a pod that no node has room for is waited for, when nothing else is said."""

_REVISION = "deployment.kubernetes.io/revision"
_MOST_PODS = 3
"""Pods whose evidence is fetched when a rollout fails."""


class Progress(NamedTuple):
    """How far a rollout is."""

    ready: int
    """Pods of the new template that are ready."""
    desired: int
    done: bool
    text: str
    """``3 of 10 ready``, with what else it waits for."""
    failure: str = ""
    """Why the controller gave up; empty while it has not."""

    @property
    def data(self) -> dict[str, Any]:
        """For a result."""
        return {"ready": self.ready, "desired": self.desired, "done": self.done}


NOT_THERE = Progress(0, 0, False, "not there yet")
"""Under --check, of an object that an earlier step would have made."""


def progress(item: Object) -> Progress:
    """How far the object's rollout is, from its spec and status."""
    status = item.get("status") or {}
    kind = item["kind"]
    if kind == "DaemonSet":
        desired = status.get("desiredNumberScheduled") or 0
    else:
        replicas = (item.get("spec") or {}).get("replicas")
        desired = 1 if replicas is None else int(replicas)
    if (status.get("observedGeneration") or 0) < (item["metadata"].get("generation") or 0):
        return Progress(0, desired, False, f"0 of {desired} ready, not yet seen by its controller")
    if kind == "Deployment":
        return _deployment(item, status, desired)
    if kind == "StatefulSet":
        return _statefulset(item, status, desired)
    return _daemonset(status, desired)


def _deployment(item: Object, status: Object, desired: int) -> Progress:
    total, updated = status.get("replicas") or 0, status.get("updatedReplicas") or 0
    old = max(0, total - updated)
    ready = max(0, min(updated, (status.get("readyReplicas") or 0) - old))
    available = status.get("availableReplicas") or 0
    failure = _gave_up(status)
    waits = []
    if updated < desired:
        waits.append(f"{updated} updated")
    if old:
        waits.append(f"{old} of the old revision left")
    if total > desired and not old:
        waits.append(f"{total - desired} too many")
    done = not waits and updated == desired and available >= desired
    if (item.get("spec") or {}).get("paused") and not done:
        failure = "it is paused"
    if ready == desired and not done and not waits:
        waits.append("not yet available")
    return Progress(ready, desired, done, _text(ready, desired, waits), failure)


def _statefulset(item: Object, status: Object, desired: int) -> Progress:
    rolling = ((item.get("spec") or {}).get("updateStrategy") or {}).get("rollingUpdate") or {}
    wanted = max(0, desired - int(rolling.get("partition") or 0))
    total, ready = status.get("replicas") or 0, status.get("readyReplicas") or 0
    same = status.get("updateRevision") == status.get("currentRevision")
    updated = total if same else status.get("updatedReplicas") or 0
    waits = [] if updated >= wanted else [f"{updated} updated"]
    if total > desired:
        waits.append(f"{total - desired} too many")
    done = not waits and ready >= desired
    return Progress(ready, desired, done, _text(ready, desired, waits))


def _daemonset(status: Object, desired: int) -> Progress:
    updated, available = (
        status.get("updatedNumberScheduled") or 0,
        status.get("numberAvailable") or 0,
    )
    waits = [] if updated >= desired else [f"{updated} updated"]
    done = not waits and available >= desired
    return Progress(status.get("numberReady") or 0, desired, done, _text(available, desired, waits))


def _text(ready: int, desired: int, waits: list[str]) -> str:
    return ", ".join([f"{ready} of {desired} ready", *waits])


def _gave_up(status: Object) -> str:
    for condition in status.get("conditions") or []:
        if (
            condition.get("type") == "Progressing"
            and condition.get("reason") == "ProgressDeadlineExceeded"
        ):
            return f"ProgressDeadlineExceeded: {condition.get('message') or ''}".rstrip(": ")
    return ""


def _not_created(item: Object) -> list[Trouble]:
    """Pods that the controller may not even create: a quota, a missing service account."""
    return [
        Trouble("", condition.get("reason") or "FailedCreate", condition["message"], patient=True)
        for condition in (item.get("status") or {}).get("conditions") or []
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True"
    ]


def follow(
    ctx: Context,
    cluster: Cluster,
    kind: Kind,
    namespace: str,
    name: str,
    *,
    schedule_grace: float = SCHEDULE_GRACE,
) -> Progress:
    """Wait until the rollout is done and return its end.

    Raises Failed with the pods' evidence when it cannot get done, TimedOut with how far it got.
    """
    if kind.kind not in ROLLED_OUT:
        raise Refused(
            f"a {kind.kind} has no rollout to wait for",
            hint=f"rollouts are of {', '.join(ROLLED_OUT)}; `kubectl.wait` waits for conditions",
        )
    rollout = _Rollout(ctx, cluster, kind, namespace, name, schedule_grace)
    with View(ctx, cluster, {"object": Selection(kind, namespace, name)}) as view:
        try:
            return rollout.wait(view)
        except TimedOut as error:
            raise rollout.timed_out(error, view) from error


class _Rollout:
    """One rollout being waited for."""

    def __init__(
        self,
        ctx: Context,
        cluster: Cluster,
        kind: Kind,
        namespace: str,
        name: str,
        schedule_grace: float,
    ) -> None:
        self.ctx = ctx
        self.cluster = cluster
        self.kind = kind
        self.namespace = namespace
        self.label = kind.label(name)
        self.name = name
        self.grace = schedule_grace
        self._told = ""
        self._unschedulable: dict[str, float] = {}
        self._current: dict[str, str | None] = {}

    def wait(self, view: View) -> Progress:
        """Until it is done; see `follow`."""
        following = False
        while True:
            item = self._item(view)
            now = progress(item)
            if now.text != self._told:
                self._told = now.text
                self.ctx.progress(f"{self.label}: {now.text}")
            if now.done:
                return now
            if not following:
                view.add("pods", Selection(_pod(), self.namespace, labels=labels_of(item)))
                following = True
            bad = self._bad(item, view.items("pods"))
            if now.failure:
                raise self._failed(now, now.failure, bad, view)
            if fatal := [one for one in bad if not one.patient or self._overdue(one)]:
                raise self._failed(now, fatal[0].text, fatal, view)
            view.wait(at_most=self._next_look(bad))

    def timed_out(self, error: TimedOut, view: View) -> TimedOut:
        """The time-out, told with how far the rollout was."""
        item = view.one("object")
        now = progress(item) if item else None
        try:
            lines = kube_pods.states(view.items("pods"))
        except KeyError:
            lines = []
        return TimedOut(
            f"{self.label} was not rolled out in time"
            + (f": {now.text}" if now else ": it is gone"),
            hint=error.hint,
            evidence=lines[:10],
            data=self._data(now),
        )

    def _item(self, view: View) -> Object:
        item = view.one("object")
        if item is None:
            raise NotFound(
                f"{self.label} is not there (namespace {self.namespace})",
                hint="was it deleted meanwhile, or never applied?",
            )
        return item

    def _bad(self, item: Object, pods: list[Object]) -> list[Trouble]:
        """Troubles of pods of the new template."""
        if (item["metadata"].get("generation") or 0) > (
            (item.get("status") or {}).get("observedGeneration") or 0
        ):
            return []
        bad = _not_created(item)
        troubled = [(pod, found) for pod in pods if (found := kube_pods.trouble(pod))]
        if not troubled:
            return bad
        key, current = self._template(item)
        return bad + [
            found
            for pod, found in troubled
            if not key or (pod["metadata"].get("labels") or {}).get(key) == current
        ]

    def _template(self, item: Object) -> tuple[str, str | None]:
        """Label and value by which pods of the new template are known; no label: all are."""
        if self.kind.kind == "StatefulSet":
            revision = (item.get("status") or {}).get("updateRevision")
            return ("controller-revision-hash", revision) if revision else ("", None)
        if self.kind.kind == "DaemonSet":
            return "pod-template-generation", str(item["metadata"].get("generation"))
        revision = (item["metadata"].get("annotations") or {}).get(_REVISION, "")
        if self._current.get(revision) is None:
            self._current[revision] = self._hash_of(item, revision)
        return "pod-template-hash", self._current[revision]

    def _hash_of(self, item: Object, revision: str) -> str | None:
        for replica_set in replica_sets(self.ctx, self.cluster, item):
            if revision_of(replica_set) == revision:
                labels = replica_set["metadata"].get("labels") or {}
                found: str | None = labels.get("pod-template-hash")
                return found
        return None

    def _overdue(self, one: Trouble) -> bool:
        since = self._unschedulable.setdefault(one.pod, self.ctx.monotonic())
        return self.ctx.monotonic() - since >= self.grace

    def _next_look(self, bad: list[Trouble]) -> float | None:
        waiting = [self._unschedulable[one.pod] for one in bad if one.pod in self._unschedulable]
        if not waiting:
            return None
        return max(0.05, min(waiting) + self.grace - self.ctx.monotonic())

    def _failed(self, now: Progress, why: str, bad: list[Trouble], view: View) -> Failed:
        pods = {pod["metadata"]["name"]: pod for pod in view.items("pods")}
        lines: list[str] = []
        for one in bad[:_MOST_PODS]:
            lines.append(one.text)
            if one.pod in pods:
                lines += kube_pods.evidence(self.ctx, self.cluster, pods[one.pod])
        if not bad:
            lines += kube_pods.states(pods.values())[:10]
            lines += kube_pods.events(self.ctx, self.cluster, self.namespace, self.name)
        hint = bad[0].hint if bad else "look at the events of its pods and ReplicaSets"
        if why == "it is paused":
            hint = "resume it: patch `spec.paused` to false"
        return Failed(
            f"{self.label} cannot be rolled out, {now.text}: {why}",
            hint=hint,
            evidence=list(dict.fromkeys(lines)),
            data=self._data(now, bad),
        )

    def _data(self, now: Progress | None, bad: list[Trouble] | None = None) -> dict[str, Any]:
        return {
            "kind": self.kind.kind,
            "name": self.name,
            **(now.data if now else {"ready": 0, "desired": 0, "done": False}),
            "pods": [
                {"name": one.pod, "reason": one.reason, "message": one.message} for one in bad or []
            ],
        }


def replica_sets(ctx: Context, cluster: Cluster, deployment: Object) -> list[Object]:
    """The ReplicaSets of a Deployment, newest revision first."""
    kind = known("ReplicaSet")
    assert kind is not None
    metadata = deployment["metadata"]
    found, _ = cluster.list(ctx, kind, metadata["namespace"], labels=labels_of(deployment))
    owned = [
        one
        for one in found
        if any(
            owner.get("uid") == metadata["uid"]
            for owner in one["metadata"].get("ownerReferences") or []
        )
    ]
    return sorted(owned, key=lambda one: _number(revision_of(one)), reverse=True)


def revision_of(item: Object) -> str:
    """The revision that the deployment controller wrote on a ReplicaSet or Deployment."""
    return str((item["metadata"].get("annotations") or {}).get(_REVISION, ""))


def labels_of(item: Object) -> str:
    """The label selector of the pods of a workload, as text for a query."""
    selector = (item.get("spec") or {}).get("selector") or {}
    return ",".join(_requirements(selector))


def _requirements(selector: Object) -> Iterator[str]:
    for key, value in (selector.get("matchLabels") or {}).items():
        yield f"{key}={value}"
    for one in selector.get("matchExpressions") or []:
        key, values = one["key"], ",".join(one.get("values") or [])
        if one["operator"] in ("In", "NotIn"):
            yield f"{key} {one['operator'].lower()} ({values})"
        else:
            yield key if one["operator"] == "Exists" else f"!{key}"


def _pod() -> Kind:
    kind = known("Pod")
    assert kind is not None
    return kind


def _number(revision: str) -> int:
    return int(revision) if revision.isdigit() else 0
