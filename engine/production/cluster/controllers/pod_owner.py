"""Pods that belong to a workload: made from its template, adopted, let go, deleted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from engine.production.cluster.api import CONTROLLER, Api
from engine.production.cluster.controllers.events import Recorder
from engine.production.cluster.intake import WriteOptions
from engine.production.cluster.objects.common import (
    Key,
    Obj,
    controller_of,
    copy_json,
    is_deleting,
    is_pod_active,
    key_of,
    labels_of,
    owner_reference,
)
from engine.production.cluster.objects.refusals import ApiError
from engine.production.cluster.objects.selectors import matches
from engine.production.cluster.objects.store import Change

BURST = 10
"""Pods that are made in one step, so that others are served between."""
RETRY_AFTER = 15.0
"""Seconds until a refused pod (a quota, say) is tried again."""


class PodOwner:
    """What controllers of a kind do with their pods. `component` tells the events."""

    def __init__(self, api: Api, resource: str, kind: str, component: str) -> None:
        self.events = Recorder(api, component, CONTROLLER)
        self._api = api
        self._store = api.store
        self._resource = resource
        self._kind = kind

    def concerned(self, change: Change) -> Iterable[Key]:
        """The owners to look at after a change of their own kind or of a pod."""
        if change.resource == self._resource:
            yield key_of(change.object)
        elif change.resource == "pods":
            owner = controller_of(change.object)
            namespace = change.object["metadata"]["namespace"]
            if owner is not None and owner["kind"] == self._kind:
                yield (namespace, owner["name"])
            elif owner is None:
                for each in self._store.items(self._resource, namespace):
                    if matches(each["spec"].get("selector"), labels_of(change.object)):
                        yield key_of(each)

    def pods(self, owner: Obj) -> list[Obj]:
        """Its pods, oldest first."""
        uid = owner["metadata"]["uid"]
        return [obj for resource, obj in self._store.owned_by(uid) if resource == "pods"]

    def sort_out(self, owner: Obj) -> bool:
        """Let go of a pod that no longer matches, adopt one that does and has no owner."""
        selector, uid = owner["spec"].get("selector"), owner["metadata"]["uid"]
        for pod in self.pods(owner):
            if not matches(selector, labels_of(pod)) and not is_deleting(pod):
                released = copy_json(pod)
                kept = [r for r in released["metadata"]["ownerReferences"] if r["uid"] != uid]
                released["metadata"]["ownerReferences"] = kept
                self._api.save(released)
                return True
        for pod in self._store.items("pods", owner["metadata"]["namespace"]):
            if controller_of(pod) is None and is_pod_active(pod):
                if not matches(selector, labels_of(pod)):
                    continue
                adopted = copy_json(pod)
                references = adopted["metadata"].setdefault("ownerReferences", [])
                references.append(owner_reference(owner))
                self._api.save(adopted)
                return True
        return False

    def create(
        self,
        owner: Obj,
        *,
        name: str = "",
        labels: Mapping[str, str] | None = None,
        spec: Mapping[str, object] | None = None,
    ) -> str:
        """A pod of the owner's template with these labels and fields beside it.

        Without a `name` it gets one. Returns why it was refused, or nothing.
        """
        metadata = owner["metadata"]
        template = copy_json(owner["spec"]["template"])
        own = template.get("metadata") or {}
        named = {"name": name} if name else {"generateName": f"{metadata['name']}-"}
        annotations = {"annotations": own["annotations"]} if own.get("annotations") else {}
        pod = {
            "metadata": {
                "labels": {**(own.get("labels") or {}), **(labels or {})},
                **annotations,
                **named,
                "ownerReferences": [owner_reference(owner)],
            },
            "spec": {**template["spec"], **(spec or {})},
        }
        try:
            created = self._api.create(
                self._api.catalog["pods"],
                "v1",
                metadata["namespace"],
                pod,
                WriteOptions(CONTROLLER),
            )
        except ApiError as refusal:
            self.events.tell(owner, "Warning", "FailedCreate", f"Error creating: {refusal}")
            return str(refusal)
        message = f"Created pod: {created['metadata']['name']}"
        self.events.tell(owner, "Normal", "SuccessfulCreate", message)
        return ""

    def delete(self, owner: Obj, pod: Obj) -> None:
        """Begin to end a pod."""
        self._api.delete(self._api.catalog["pods"], *key_of(pod))
        message = f"Deleted pod: {pod['metadata']['name']}"
        self.events.tell(owner, "Normal", "SuccessfulDelete", message)

    def report(self, owner: Obj, status: Obj) -> bool:
        """Write the owner's status if it is another one; whether it was."""
        current = self._store.get(self._resource, *key_of(owner))
        if current is None or status == current.get("status"):
            return False
        changed = {**current, "metadata": copy_json(current["metadata"]), "status": status}
        self._api.save(changed, subresource="status")
        return True
