"""Waiting for a workload to be rolled out, or scaled, and knowing when not to.

`follow` watches the object and its pods until it is done, and fails, with evidence, when a pod of
the *new* template cannot get ready: at once where nothing will mend it, after a while where it may
mend by itself (see `trouble`). Pods of an older template do not count: replacing them is often
what the rollout is for. Nothing has to get ready on the way to fewer pods.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from engine.module_api import Context, Failed, Refused, Result, TimedOut
from modules._kube import pods as kube_pods
from modules._kube import trouble as kube_trouble
from modules._kube.api import Cluster, Object, Subject
from modules._kube.errors import NotFound
from modules._kube.kinds import Kind, known
from modules._kube.progress import (
    FOLLOWED,
    NOT_THERE,
    ROLLED_OUT,
    RolloutProgress,
    deadline_condition,
    desired_replicas,
    going_down,
    on_delete,
    progress,
)
from modules._kube.trouble import Trouble
from modules._kube.watch import Selection, View
from modules._kube.workload import labels_of, other_replicas, replica_sets, revision_of

__all__ = [
    "NOT_THERE",
    "ROLLED_OUT",
    "RolloutProgress",
    "Terms",
    "desired_replicas",
    "follow",
    "must_roll",
    "progress",
    "status",
]

SCHEDULE_GRACE = 30.0
"""Seconds for which a pod that no node has room for is waited for, when nothing else is said."""

PATIENCE = 30.0
"""Seconds for which trouble that may mend by itself is borne, when nothing else is said."""

_REVISION = "deployment.kubernetes.io/revision"
_TEMPLATE_GENERATION = "deprecated.daemonset.template.generation"
_MOST_PODS = 3
"""Pods whose evidence is fetched when a rollout fails."""

_BEFORE_THE_END = 1.0
"""Seconds before the deadline at which evidence is fetched: after it there is no time left."""

_WORTH_IT = 3.0


class Terms(NamedTuple):
    """What is waited for, and how long trouble is borne."""

    schedule_grace: float = SCHEDULE_GRACE
    patience: float = PATIENCE
    replicas: int | None = None
    """How many pods the object is to have; somebody else may change that meanwhile."""
    down: bool = False
    """It goes to fewer pods: what is left need not get ready."""
    must_roll: bool = False
    """Refuse to wait for an object whose pods are replaced only when somebody deletes them."""
    before: Object | None = None
    """The object before it was changed: what its controller said then does not count any more."""


def must_roll(kind: Kind, item: Object | None = None) -> None:
    """Refuse to wait for a rollout that this kind, or this object, does not have."""
    if kind.kind not in ROLLED_OUT:
        raise Refused(
            f"a {kind.kind} has no rollout to wait for",
            hint=f"rollouts are of {', '.join(ROLLED_OUT)}; `kubectl.wait` waits for conditions",
        )
    if item is not None and on_delete(item):
        raise Refused(
            f"{kind.label(item['metadata']['name'])} has the update strategy OnDelete: its pods "
            "are replaced only when somebody deletes them, so there is no rollout to wait for",
            hint="delete its pods one by one and wait for each, or set the strategy RollingUpdate",
        )


def follow(
    ctx: Context,
    cluster: Cluster,
    kind: Kind,
    namespace: str,
    name: str,
    terms: Terms | None = None,
) -> RolloutProgress:
    """Wait until the rollout is done and return its end.

    Raises Failed with the pods' evidence when it cannot get done, TimedOut with how far it got.
    """
    if kind.kind not in FOLLOWED:
        must_roll(kind)
    rollout = _Rollout(ctx, cluster, kind, namespace, name, terms or Terms())
    with View.of(ctx, cluster, {"object": Selection(kind, namespace, name)}) as view:
        try:
            return rollout.wait(view)
        except TimedOut as error:
            raise rollout.timed_out(error, view) from error


def status(ctx: Context, it: Subject, terms: Terms) -> Result:
    """How a rollout has ended; under --check, how far it is: an earlier step may be to come."""
    must_roll(it.kind)
    if ctx.mode == "check":
        item = it.cluster.find(ctx, it.kind, it.namespace, it.name)
        now = progress(item) if item else NOT_THERE
    else:
        now = follow(ctx, *it, terms._replace(must_roll=True))
    return Result(
        data={"kind": it.kind.kind, "name": it.name, **now.data},
        message=f"{it.label}: {now.text}",
    )


class _Rollout:
    """One rollout being waited for."""

    def __init__(
        self,
        ctx: Context,
        cluster: Cluster,
        kind: Kind,
        namespace: str,
        name: str,
        terms: Terms,
    ) -> None:
        self.ctx = ctx
        self.cluster = cluster
        self.kind = kind
        self.namespace = namespace
        self.label = kind.label(name)
        self.name = name
        self.terms = terms
        self._last_text = ""
        self._troubled: dict[str, float] = {}
        """Since when a pod has been in trouble."""
        self._restarts: dict[str, dict[str, int]] = {}
        """By pod: restarts of its containers before it was waited for."""
        self._pulls: dict[str, str] = {}
        """By pod: why its image could not be pulled."""
        self._gave_up_since: float | None = None
        self._current: dict[str, str | None] = {}
        left = ctx.remaining()
        self._evidence: list[str] | None = None if left is None or left > _WORTH_IT else []
        """What was fetched right before the deadline; none where all there is are seconds."""

    def wait(self, view: View) -> RolloutProgress:
        """Until it is done; see `follow`."""
        following = False
        while True:
            item = self._item(view)
            if self.terms.must_roll:
                must_roll(self.kind, item)
            self._still_ours(item)
            now = going_down(item) if self.terms.down else progress(item)
            if now.text != self._last_text:
                self._last_text = now.text
                self.ctx.progress(f"{self.label}: {now.text}")
            if now.done:
                return now
            if not following:
                self._follow_pods(item, view)
                following = True
            bad = [] if self.terms.down else self._bad(item, view)
            if not self.terms.down and now.failure and self._is_news(item):
                raise self._failed(now, now.failure, bad, view)
            if fatal := [one for one in bad if not one.patient or self._overdue(one)]:
                raise self._failed(now, fatal[0].text, fatal, view)
            self._look_closer_in_time(view)
            view.wait(at_most=self._next_look(bad))

    def _follow_pods(self, item: Object, view: View) -> None:
        """Follow the pods, too; who may not read them waits for the object alone."""
        try:
            view.add("pods", Selection(_pod(), self.namespace, labels=labels_of(item)))
        except (Refused, NotFound) as error:
            view.drop("pods")
            self.ctx.log(f"the pods cannot be read, so only the object is: {error.message}")
        for pod in view.items("pods"):
            self._restarts[pod["metadata"]["name"]] = kube_trouble.restarts_of(pod)

    def timed_out(self, error: TimedOut, view: View) -> TimedOut:
        """The time-out, told with how far the rollout was."""
        item = view.one("object")
        now = progress(item) if item else None
        lines = kube_pods.states(view.items("pods"))
        return TimedOut(
            f"{self.label} was not rolled out in time"
            + (f": {now.text}" if now else ": it is gone"),
            hint=error.hint,
            evidence=list(
                dict.fromkeys([*lines[:10], *_conditions(item), *(self._evidence or [])])
            ),
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

    def _still_ours(self, item: Object) -> None:
        """Fail when somebody else has set another number of pods than what is waited for."""
        replicas = self.terms.replicas
        if replicas is None or self.kind.kind == "DaemonSet" or desired_replicas(item) == replicas:
            return
        raise other_replicas(
            self.ctx, self.cluster, self.kind, item, replicas, desired_replicas(item)
        )

    def _bad(self, item: Object, view: View) -> list[Trouble]:
        """Troubles of pods of the new template."""
        if (item["metadata"].get("generation") or 0) > (
            (item.get("status") or {}).get("observedGeneration") or 0
        ):
            return []
        bad, pods = _not_created(item), view.items("pods")
        ready = {pod["metadata"]["name"] for pod in pods if kube_pods.is_ready(pod)}
        for name in ready & set(self._troubled):
            del self._troubled[name]
        troubled = [(pod, troubles) for pod in pods if (troubles := self._trouble(pod))]
        if not troubled:
            return bad
        key, current = self._template(item, view)
        return bad + [
            troubles
            for pod, troubles in troubled
            if not key or (pod["metadata"].get("labels") or {}).get(key) == current
        ]

    def _trouble(self, pod: Object) -> Trouble | None:
        """The trouble of a pod; for an image that is not pulled, with the words of its events."""
        name = pod["metadata"]["name"]
        trouble = kube_trouble.trouble(pod, self._restarts.get(name))
        if trouble is None or not (trouble.backs_off and trouble.patient):
            return trouble
        if name not in self._pulls:
            self._pulls[name] = kube_pods.pull_error(self.ctx, self.cluster, pod)
        return trouble.explained(self._pulls[name])

    def _template(self, item: Object, view: View) -> tuple[str, str | None]:
        """Label and value by which pods of the new template are known; no label: all are."""
        metadata = item["metadata"]
        if self.kind.kind == "StatefulSet":
            revision = (item.get("status") or {}).get("updateRevision")
            return ("controller-revision-hash", revision) if revision else ("", None)
        if self.kind.kind == "DaemonSet":
            generation = (metadata.get("annotations") or {}).get(_TEMPLATE_GENERATION)
            return ("pod-template-generation", generation) if generation else ("", None)
        if self.kind.kind != "Deployment":
            return "", None
        revision = (metadata.get("annotations") or {}).get(_REVISION, "")
        if self._current.get(revision) is None:
            self._current[revision] = view.persist(lambda: self._hash_of(item, revision))
        return "pod-template-hash", self._current[revision]

    def _hash_of(self, item: Object, revision: str) -> str | None:
        for replica_set in replica_sets(self.ctx, self.cluster, item):
            if revision_of(replica_set) == revision:
                labels = replica_set["metadata"].get("labels") or {}
                template_hash: str | None = labels.get("pod-template-hash")
                return template_hash
        return None

    def _is_news(self, item: Object) -> bool:
        """Whether the controller gave up after the change that is waited for.

        What it said of an earlier template stays for a moment: that is borne as other trouble is.
        """
        before = deadline_condition((self.terms.before or {}).get("status") or {})
        if before is None or before != deadline_condition(item.get("status") or {}):
            return True
        now = self.ctx.monotonic()
        self._gave_up_since = now if self._gave_up_since is None else self._gave_up_since
        return now - self._gave_up_since >= self.terms.patience

    def _grace(self, one: Trouble) -> float:
        return self.terms.schedule_grace if one.of_placing else self.terms.patience

    def _overdue(self, one: Trouble) -> bool:
        since = self._troubled.setdefault(one.pod, self.ctx.monotonic())
        return self.ctx.monotonic() - since >= self._grace(one)

    def _next_look(self, bad: list[Trouble]) -> float | None:
        """Seconds until something has to be looked at though nothing was heard of."""
        now, ends = self.ctx.monotonic(), []
        for one in bad:
            if one.pod in self._troubled:
                ends.append(self._troubled[one.pod] + self._grace(one))
        if self._gave_up_since is not None:
            ends.append(self._gave_up_since + self.terms.patience)
        left = self.ctx.remaining()
        if left is not None and self._evidence is None:
            ends.append(now + left - _BEFORE_THE_END)
        return max(0.05, min(ends) - now) if ends else None

    def _look_closer_in_time(self, view: View) -> None:
        """Shortly before the deadline: fetch the evidence that a time-out will tell."""
        left = self.ctx.remaining()
        if left is None or left > _BEFORE_THE_END or self._evidence is not None:
            return
        self._evidence = []
        unready = [pod for pod in view.items("pods") if not kube_pods.is_ready(pod)]
        for pod in unready[:_MOST_PODS]:
            self._evidence += kube_pods.evidence(self.ctx, self.cluster, pod)
        if not unready:
            self._evidence += kube_pods.events(self.ctx, self.cluster, self.namespace, self.name)

    def _failed(self, now: RolloutProgress, why: str, bad: list[Trouble], view: View) -> Failed:
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

    def _data(
        self, now: RolloutProgress | None, bad: list[Trouble] | None = None
    ) -> dict[str, Any]:
        return {
            "kind": self.kind.kind,
            "name": self.name,
            **(now.data if now else {"ready": 0, "desired": 0, "done": False}),
            "pods": [
                {"name": one.pod, "reason": one.reason, "message": one.message} for one in bad or []
            ],
        }


def _not_created(item: Object) -> list[Trouble]:
    """Pods that the controller may not even create: a quota, a missing service account."""
    return [
        Trouble("", condition.get("reason") or "FailedCreate", condition["message"], patient=True)
        for condition in (item.get("status") or {}).get("conditions") or []
        if condition.get("type") == "ReplicaFailure" and condition.get("status") == "True"
    ]


def _conditions(item: Object | None) -> list[str]:
    """What the object itself says of what does not go on."""
    return [
        f"{condition.get('type')}: {condition.get('reason') or ''}: "
        f"{' '.join(str(condition.get('message') or '').split())}"
        for condition in ((item or {}).get("status") or {}).get("conditions") or []
        if condition.get("type") == "ReplicaFailure"
        or (condition.get("type") == "Progressing" and condition.get("status") != "True")
    ]


def _pod() -> Kind:
    kind = known("Pod")
    assert kind is not None
    return kind
