"""The Deployment controller: ReplicaSets by revision, rollouts, progress and its deadline.

One call of `reconcile` makes one decision, in this order: adopt, create the ReplicaSet of the
current template, number it, scale, report the status, tidy up. What number a ReplicaSet gets is
arithmetic and lives in rollout.py.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.production.cluster.api import CONTROLLER, Api
from engine.production.cluster.controllers.dispatcher import Dispatcher
from engine.production.cluster.controllers.events import Recorder
from engine.production.cluster.controllers.progress import (
    AVAILABLE,
    TIMED_OUT,
    has_progressed,
    is_complete,
    is_settled,
    set_condition,
    status_of,
)
from engine.production.cluster.controllers.rollout import (
    DESIRED,
    HASH_LABEL,
    MAXIMUM,
    REVISION,
    REVISION_HISTORY,
    Rollout,
    Scaling,
    bounds,
    revision_of,
    same_template,
    size_of,
    template_hash,
)
from engine.production.cluster.intake import WriteOptions
from engine.production.cluster.objects.common import (
    Key,
    Obj,
    annotations_of,
    controller_of,
    copy_json,
    find_condition,
    is_deleting,
    key_of,
    labels_of,
    owner_reference,
)
from engine.production.cluster.objects.selectors import matches
from engine.production.cluster.objects.store import Change

_NOT_COPIED = frozenset(
    {
        "kubectl.kubernetes.io/last-applied-configuration",
        REVISION,
        REVISION_HISTORY,
        DESIRED,
        MAXIMUM,
    }
)


class DeploymentController:
    """Rolls Deployments out."""

    name = "deployments"

    def __init__(self, api: Api, dispatcher: Dispatcher) -> None:
        self._api = api
        self._store = api.store
        self._dispatcher = dispatcher
        self._events = Recorder(api, "deployment-controller", CONTROLLER)
        self._progress: dict[str, float] = {}

    def concerns(self, change: Change) -> Iterable[Key]:
        if change.resource == "deployments.apps":
            if change.type == "DELETED":
                self._progress.pop(change.object["metadata"]["uid"], None)
            yield key_of(change.object)
        elif change.resource == "replicasets.apps":
            owner = controller_of(change.object)
            if owner is not None and owner["kind"] == "Deployment":
                yield (change.object["metadata"]["namespace"], owner["name"])

    def reconcile(self, key: Key) -> bool:
        deployment = self._store.get("deployments.apps", *key)
        if deployment is None:
            return False
        if self._adopt(deployment):
            return True
        rollout = self._rollout(deployment)
        if is_deleting(deployment):
            return self._report(rollout, progress=False)
        if deployment["spec"].get("paused"):
            return self._pause_condition(deployment) or self._scale_to_size(rollout)
        if rollout.is_scaling():
            return self._scale_to_size(rollout)
        return (
            self._create_new(rollout)
            or self._number(rollout)
            or self._scale(rollout.next_scaling())
            or self._report(rollout, progress=True)
            or self._tidy_up(rollout)
        )

    def _scale_to_size(self, rollout: Rollout) -> bool:
        return self._scale(rollout.scaled_deployment()) or self._report(rollout, progress=False)

    # -- what belongs together -----------------------------------------------------------

    def _adopt(self, deployment: Obj) -> bool:
        """Take over a ReplicaSet that the selector means and nobody owns."""
        selector = deployment["spec"]["selector"]
        for each in self._store.items("replicasets.apps", deployment["metadata"]["namespace"]):
            free = controller_of(each) is None and not is_deleting(each)
            if free and matches(selector, labels_of(each)) and not is_deleting(deployment):
                adopted = copy_json(each)
                references = adopted["metadata"].setdefault("ownerReferences", [])
                references.append(owner_reference(deployment))
                self._api.save(adopted)
                return True
        return False

    def _rollout(self, deployment: Obj) -> Rollout:
        owned = [
            obj
            for resource, obj in self._store.owned_by(deployment["metadata"]["uid"])
            if resource == "replicasets.apps"
        ]
        template = deployment["spec"]["template"]
        new = next((e for e in owned if same_template(e["spec"]["template"], template)), None)
        return Rollout(deployment, new, [each for each in owned if each is not new])

    # -- the ReplicaSet of the current template ------------------------------------------

    def _create_new(self, rollout: Rollout) -> bool:
        if rollout.new is not None:
            return False
        if rollout.is_recreate and rollout.old:
            for each in rollout.old:
                if size_of(each) > 0:
                    return self._scale(Scaling(each, 0))
            if rollout.has_old_pods:
                return False
        replicas = rollout.replicas_of_a_new_set()
        created = self._api.create(
            self._api.catalog["replicasets.apps"],
            "v1",
            rollout.deployment["metadata"]["namespace"],
            self._replica_set(rollout, replicas),
            WriteOptions(CONTROLLER),
        )
        if replicas > 0:
            self._tell_scaling(rollout.deployment, created, 0, replicas)
        return True

    def _replica_set(self, rollout: Rollout, replicas: int) -> Obj:
        deployment = rollout.deployment
        metadata, spec = deployment["metadata"], deployment["spec"]
        template = copy_json(spec["template"])
        name = template_hash(template)
        template["metadata"]["labels"] = {**template["metadata"]["labels"], HASH_LABEL: name}
        selector = copy_json(spec["selector"])
        selector["matchLabels"] = {**(selector.get("matchLabels") or {}), HASH_LABEL: name}
        own: Obj = {"replicas": replicas, "selector": selector, "template": template}
        if spec.get("minReadySeconds"):
            own["minReadySeconds"] = spec["minReadySeconds"]
        return {
            "metadata": {
                "name": f"{metadata['name']}-{name}",
                "labels": dict(template["metadata"]["labels"]),
                "annotations": {
                    **_inherited(deployment),
                    **_sizes(deployment),
                    REVISION: str(_next_revision(rollout)),
                },
                "ownerReferences": [owner_reference(deployment)],
            },
            "spec": own,
        }

    def _number(self, rollout: Rollout) -> bool:
        """Give the newest ReplicaSet the highest revision, and the Deployment the same one."""
        new = rollout.new
        if new is None:
            return False
        highest = max((revision_of(each) for each in rollout.old), default=0)
        if revision_of(new) <= highest:
            return self._renumber(new, highest + 1)
        if self._refresh(rollout.deployment, new):
            return True
        deployment = rollout.deployment
        revision = annotations_of(new)[REVISION]
        known = find_condition(deployment.get("status", {}), "Progressing")
        if annotations_of(deployment).get(REVISION) == revision and known is not None:
            return False
        changed = copy_json(deployment)
        changed["metadata"].setdefault("annotations", {})[REVISION] = revision
        self._announce(changed, new, known)
        self._api.save(changed, subresource="status")
        return True

    def _announce(self, deployment: Obj, new: Obj, known: Obj | None) -> None:
        """Begin to reckon the progress of a rollout to a ReplicaSet that was just made."""
        name = new["metadata"]["name"]
        status = deployment.setdefault("status", {})
        fresh = new["metadata"]["generation"] == 1 and not new.get("status", {}).get("replicas")
        if fresh:
            message = f'Created new replica set "{name}"'
            self._set_progress(status, "True", "NewReplicaSetCreated", message)
        elif known is None:
            message = f'Found new replica set "{name}"'
            self._set_progress(status, "True", "FoundNewReplicaSet", message)
        self._progress[deployment["metadata"]["uid"]] = self._api.timeline.elapsed()

    def _renumber(self, replica_set: Obj, revision: int) -> bool:
        changed = copy_json(replica_set)
        annotations = changed["metadata"].setdefault("annotations", {})
        history = [annotations.get(REVISION_HISTORY), annotations.get(REVISION)]
        annotations[REVISION_HISTORY] = ",".join(filter(None, history))
        annotations[REVISION] = str(revision)
        self._api.save(changed)
        return True

    def _refresh(self, deployment: Obj, new: Obj) -> bool:
        """Carry the Deployment's annotations and minReadySeconds over to its ReplicaSet."""
        ready = deployment["spec"].get("minReadySeconds", 0)
        wanted_annotations = {**annotations_of(new), **_inherited(deployment)}
        if annotations_of(new) == wanted_annotations and (
            new["spec"].get("minReadySeconds", 0) == ready
        ):
            return False
        changed = copy_json(new)
        changed["metadata"]["annotations"] = wanted_annotations
        if ready != changed["spec"].get("minReadySeconds", 0):
            changed["spec"]["minReadySeconds"] = ready
        self._api.save(changed)
        return True

    # -- scaling -------------------------------------------------------------------------

    def _scale(self, scaling: Scaling | None) -> bool:
        if scaling is None:
            return False
        deployment = self._owner(scaling.replica_set)
        changed = copy_json(scaling.replica_set)
        before = size_of(changed)
        changed["metadata"].setdefault("annotations", {}).update(_sizes(deployment))
        changed["spec"]["replicas"] = scaling.replicas
        if changed == scaling.replica_set:
            return False
        saved = self._api.save(changed)
        if before != scaling.replicas:
            self._tell_scaling(deployment, saved, before, scaling.replicas)
        return True

    def _owner(self, replica_set: Obj) -> Obj:
        owner = controller_of(replica_set)
        assert owner is not None
        namespace = replica_set["metadata"]["namespace"]
        deployment = self._store.get("deployments.apps", namespace, owner["name"])
        assert deployment is not None
        return deployment

    def _tell_scaling(self, deployment: Obj, replica_set: Obj, old: int, new: int) -> None:
        direction = "up" if new > old else "down"
        name = replica_set["metadata"]["name"]
        message = f"Scaled {direction} replica set {name} from {old} to {new}"
        self._events.tell(deployment, "Normal", "ScalingReplicaSet", message)

    # -- status --------------------------------------------------------------------------

    def _report(self, rollout: Rollout, *, progress: bool) -> bool:
        deployment = rollout.deployment
        status = status_of(rollout, self._api.timestamp())
        if progress:
            self._judge_progress(rollout, status)
        if status == deployment.get("status"):
            return False
        changed = {**deployment, "metadata": copy_json(deployment["metadata"]), "status": status}
        self._api.save(changed, subresource="status")
        return True

    def _judge_progress(self, rollout: Rollout, status: Obj) -> None:
        """Set the Progressing condition, and the timer of its deadline."""
        deployment = rollout.deployment
        key, uid = key_of(deployment), deployment["metadata"]["uid"]
        self._dispatcher.forget(self.name, key)
        deadline = deployment["spec"].get("progressDeadlineSeconds")
        known = find_condition(status, "Progressing")
        if deadline is None or is_settled(status, known):
            return
        name = (rollout.new or deployment)["metadata"]["name"]
        if is_complete(deployment, status):
            message = f'ReplicaSet "{name}" has successfully progressed.'
            self._set_progress(status, "True", AVAILABLE, message)
            return
        if has_progressed(deployment.get("status", {}), status):
            self._progress[uid] = self._api.timeline.elapsed()
            message = f'ReplicaSet "{name}" is progressing.'
            self._set_progress(status, "True", "ReplicaSetUpdated", message, refresh=True)
        known = find_condition(status, "Progressing")
        if known is None or known["reason"] in (TIMED_OUT, AVAILABLE):
            return
        now = self._api.timeline.elapsed()
        elapsed = now - self._progress.setdefault(uid, now)
        if elapsed < deadline:
            # A little late rather than a little early: the timer must find the deadline over.
            self._dispatcher.later(self.name, key, deadline - elapsed + 0.001)
            return
        message = f'ReplicaSet "{name}" has timed out progressing.'
        self._set_progress(status, "False", TIMED_OUT, message)

    def _set_progress(
        self, status: Obj, value: str, reason: str, message: str, *, refresh: bool = False
    ) -> None:
        now = self._api.timestamp()
        set_condition(status, "Progressing", value, reason, message, now=now, refresh=refresh)

    def _pause_condition(self, deployment: Obj) -> bool:
        known = find_condition(deployment.get("status", {}), "Progressing")
        if known is None or known["reason"] == "DeploymentPaused":
            return False
        changed = copy_json(deployment)
        self._set_progress(changed["status"], "Unknown", "DeploymentPaused", "Deployment is paused")
        self._api.save(changed, subresource="status")
        return True

    def _tidy_up(self, rollout: Rollout) -> bool:
        """Forget the oldest ReplicaSets beyond revisionHistoryLimit once the rollout is done."""
        limit = rollout.deployment["spec"].get("revisionHistoryLimit", 10)
        if not is_complete(rollout.deployment, rollout.deployment.get("status", {})):
            return False
        unused = [e for e in rollout.old if not size_of(e) and not e["status"].get("replicas")]
        if len(unused) <= limit:
            return False
        oldest = min(unused, key=revision_of)
        self._api.delete(self._api.catalog["replicasets.apps"], *key_of(oldest))
        return True


def _inherited(deployment: Obj) -> dict[str, str]:
    own = annotations_of(deployment)
    return {name: value for name, value in own.items() if name not in _NOT_COPIED}


def _sizes(deployment: Obj) -> dict[str, str]:
    replicas = deployment["spec"]["replicas"]
    return {DESIRED: str(replicas), MAXIMUM: str(replicas + bounds(deployment)[0])}


def _next_revision(rollout: Rollout) -> int:
    return max((revision_of(each) for each in rollout.old), default=0) + 1
