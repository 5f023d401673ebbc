"""The StatefulSet controller: pods with numbers, one after the other, each with its claims.

Pod N is made when all before it are ready, and goes when none after it is left; with
`podManagementPolicy: Parallel` nobody waits. An update replaces pods from the highest number down
to the partition, one at a time, and goes on when the one before is ready again.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.production.cluster.api import CONTROLLER, Api
from engine.production.cluster.controllers.dispatcher import Dispatcher
from engine.production.cluster.controllers.pod_owner import RETRY_AFTER, PodOwner
from engine.production.cluster.controllers.revisions import (
    HASH_LABEL,
    Revisions,
    name_of,
    template_of,
)
from engine.production.cluster.intake import WriteOptions
from engine.production.cluster.objects.common import (
    Key,
    Obj,
    copy_json,
    is_deleting,
    is_pod_ready,
    key_of,
    labels_of,
    without_empty,
)
from engine.production.cluster.objects.store import Change

_POD_NAME = "statefulset.kubernetes.io/pod-name"
_POD_INDEX = "apps.kubernetes.io/pod-index"
_CLAIMS = "persistentvolumeclaims"


class StatefulSetController:
    """Keeps the pods of StatefulSets."""

    name = "statefulsets"

    def __init__(self, api: Api, dispatcher: Dispatcher) -> None:
        self._api = api
        self._store = api.store
        self._dispatcher = dispatcher
        self._owner = PodOwner(api, "statefulsets.apps", "StatefulSet", "statefulset-controller")
        self._revisions = Revisions(api)

    def concerns(self, change: Change) -> Iterable[Key]:
        yield from self._owner.concerned(change)

    def reconcile(self, key: Key) -> bool:
        stateful_set = self._store.get("statefulsets.apps", *key)
        if stateful_set is None:
            return False
        if not is_deleting(stateful_set):
            if self._owner.sort_out(stateful_set):
                return True
            update = self._revisions.current(stateful_set)
            if self._step(stateful_set, update):
                return True
            self._forget(stateful_set)
        return self._owner.report(stateful_set, self._status(stateful_set))

    def _numbered(self, stateful_set: Obj) -> dict[int, Obj]:
        """Its pods by their number."""
        prefix = f"{stateful_set['metadata']['name']}-"
        pods = {}
        for pod in self._owner.pods(stateful_set):
            number = pod["metadata"]["name"].removeprefix(prefix)
            if number.isdigit():
                pods[int(number)] = pod
        return pods

    def _step(self, stateful_set: Obj, update: Obj) -> bool:
        """Make, end or replace the next pod; True when there may be more to do at once."""
        spec = stateful_set["spec"]
        pods = self._numbered(stateful_set)
        first = (spec.get("ordinals") or {}).get("start", 0)
        numbers = range(first, first + spec.get("replicas", 0))
        parallel = spec.get("podManagementPolicy") == "Parallel"
        for number in numbers:
            pod = pods.get(number)
            if pod is None:
                return self._create(stateful_set, number, update)
            if _has_ended(pod) and not is_deleting(pod):
                self._owner.delete(stateful_set, pod)
                return True
            if not parallel and not _is_well(pod):
                return False
        surplus = sorted(set(pods) - set(numbers), reverse=True)
        if surplus:
            return self._shrink(stateful_set, [pods[number] for number in surplus], parallel)
        return self._update(stateful_set, [pods[number] for number in numbers], update)

    def _shrink(self, stateful_set: Obj, pods: list[Obj], parallel: bool) -> bool:
        """End the pods with the highest numbers, one at a time unless `parallel`."""
        for pod in pods:
            if not is_deleting(pod):
                self._owner.delete(stateful_set, pod)
                return parallel
            if not parallel:
                return False
        return False

    def _update(self, stateful_set: Obj, pods: list[Obj], update: Obj) -> bool:
        """Replace the highest pod that has an old template, once all above it are well."""
        strategy = stateful_set["spec"].get("updateStrategy") or {}
        if strategy.get("type") == "OnDelete":
            return False
        partition = (strategy.get("rollingUpdate") or {}).get("partition", 0)
        first = (stateful_set["spec"].get("ordinals") or {}).get("start", 0)
        for offset in reversed(range(len(pods))):
            pod = pods[offset]
            if offset + first < partition:
                return False
            if labels_of(pod).get(HASH_LABEL) != name_of(update) and not is_deleting(pod):
                self._owner.delete(stateful_set, pod)
                return False
            if not _is_well(pod):
                return False
        return False

    def _create(self, stateful_set: Obj, number: int, update: Obj) -> bool:
        """Pod `number`: below the partition it is made from the revision that was before."""
        spec, metadata = stateful_set["spec"], stateful_set["metadata"]
        revision = self._revision_of(stateful_set, number, update)
        name = f"{metadata['name']}-{number}"
        template = template_of(revision)
        volumes = [
            *(template["spec"].get("volumes") or ()),
            *self._claims(stateful_set, name),
        ]
        more = {"hostname": name, "subdomain": spec.get("serviceName", "")}
        refused = self._owner.create(
            {**stateful_set, "spec": {**spec, "template": template}},
            name=name,
            labels={HASH_LABEL: name_of(revision), _POD_NAME: name, _POD_INDEX: str(number)},
            spec=without_empty({**more, "volumes": volumes}),
        )
        if refused:
            self._dispatcher.later(self.name, key_of(stateful_set), RETRY_AFTER, "refused")
        return not refused

    def _revision_of(self, stateful_set: Obj, number: int, update: Obj) -> Obj:
        strategy = stateful_set["spec"].get("updateStrategy") or {}
        partition = (strategy.get("rollingUpdate") or {}).get("partition", 0)
        if number >= partition:
            return update
        current = stateful_set.get("status", {}).get("currentRevision")
        revisions = self._revisions.of(stateful_set)
        return next((each for each in revisions if name_of(each) == current), update)

    def _claims(self, stateful_set: Obj, pod: str) -> list[Obj]:
        """The volumes of a pod that stand for its claims, which are made if they are missing."""
        namespace = stateful_set["metadata"]["namespace"]
        volumes = []
        for template in stateful_set["spec"].get("volumeClaimTemplates") or ():
            volume = template["metadata"]["name"]
            name = f"{volume}-{pod}"
            if self._store.get(_CLAIMS, namespace, name) is None:
                self._create_claim(stateful_set, template, name)
            volumes.append({"name": volume, "persistentVolumeClaim": {"claimName": name}})
        return volumes

    def _create_claim(self, stateful_set: Obj, template: Obj, name: str) -> None:
        labels = stateful_set["spec"]["selector"].get("matchLabels") or {}
        claim = {"metadata": {"name": name, "labels": labels}, "spec": copy_json(template["spec"])}
        namespace = stateful_set["metadata"]["namespace"]
        resource = self._api.catalog[_CLAIMS]
        created = self._api.create(resource, "v1", namespace, claim, WriteOptions(CONTROLLER))
        size = (template["spec"].get("resources") or {}).get("requests") or {}
        modes = template["spec"].get("accessModes") or []
        status = {"phase": "Bound", "accessModes": modes, "capacity": size}
        metadata = copy_json(created["metadata"])
        self._api.save({**created, "metadata": metadata, "status": status}, subresource="status")

    def _forget(self, stateful_set: Obj) -> None:
        used = {labels_of(pod).get(HASH_LABEL, "") for pod in self._owner.pods(stateful_set)}
        used.add(stateful_set.get("status", {}).get("currentRevision", ""))
        self._revisions.forget_oldest(stateful_set, used)

    def _status(self, stateful_set: Obj) -> Obj:
        revisions = [name_of(each) for each in self._revisions.of(stateful_set)]
        old = stateful_set.get("status", {})
        newest = revisions[-1] if revisions else ""
        pods = list(self._numbered(stateful_set).values())
        ready = [pod for pod in pods if _is_well(pod)]
        of_newest = [pod for pod in pods if labels_of(pod).get(HASH_LABEL) == newest]
        current = old.get("currentRevision") or newest
        replicas = stateful_set["spec"].get("replicas", 0)
        if len(of_newest) == len(pods) == len(ready) == replicas:
            current = newest
        counts = without_empty(
            {
                "readyReplicas": len(ready),
                "currentReplicas": sum(labels_of(p).get(HASH_LABEL) == current for p in pods),
                "updatedReplicas": len(of_newest),
                "currentRevision": current,
                "updateRevision": newest,
            }
        )
        return {
            "observedGeneration": stateful_set["metadata"]["generation"],
            "replicas": len(pods),
            **counts,
            "collisionCount": 0,
            "availableReplicas": len(ready),
        }


def _is_well(pod: Obj) -> bool:
    return is_pod_ready(pod) and not is_deleting(pod)


def _has_ended(pod: Obj) -> bool:
    return pod["status"].get("phase") in ("Failed", "Succeeded")
