"""The revisions of a StatefulSet or a DaemonSet: each template that it had, kept as an object."""

from __future__ import annotations

from engine.production.cluster.api import CONTROLLER, Api
from engine.production.cluster.controllers.rollout import same_template, template_hash
from engine.production.cluster.intake import WriteOptions
from engine.production.cluster.objects.common import Obj, copy_json, key_of, owner_reference

HASH_LABEL = "controller-revision-hash"
_RESOURCE = "controllerrevisions.apps"


class Revisions:
    """Makes and finds ControllerRevisions."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def of(self, owner: Obj) -> list[Obj]:
        """The owner's revisions, oldest first."""
        owned = self._api.store.owned_by(owner["metadata"]["uid"])
        revisions = [obj for resource, obj in owned if resource == _RESOURCE]
        return sorted(revisions, key=lambda each: int(each["revision"]))

    def current(self, owner: Obj) -> Obj:
        """The newest revision, which has the owner's template: found, or made the newest again."""
        revisions = self.of(owner)
        template = owner["spec"]["template"]
        number = int(revisions[-1]["revision"]) if revisions else 0
        for each in revisions:
            if same_template(template_of(each), template):
                if each is revisions[-1]:
                    return each
                return self._api.save({**copy_json(each), "revision": number + 1})
        return self._create(owner, number + 1)

    def _create(self, owner: Obj, number: int) -> Obj:
        metadata = owner["metadata"]
        template = copy_json(owner["spec"]["template"])
        name = template_hash(template)
        revision = {
            "metadata": {
                "name": f"{metadata['name']}-{name}",
                "labels": {**(template["metadata"].get("labels") or {}), HASH_LABEL: name},
                "ownerReferences": [owner_reference(owner)],
            },
            "data": {"spec": {"template": {**template, "$patch": "replace"}}},
            "revision": number,
        }
        return self._api.create(
            self._api.catalog[_RESOURCE],
            "v1",
            metadata["namespace"],
            revision,
            WriteOptions(CONTROLLER),
        )

    def forget_oldest(self, owner: Obj, used: set[str]) -> None:
        """Delete what no pod has and is beyond revisionHistoryLimit."""
        unused = [each for each in self.of(owner)[:-1] if name_of(each) not in used]
        surplus = len(unused) - int(owner["spec"].get("revisionHistoryLimit", 10))
        for each in unused[: max(0, surplus)]:
            self._api.delete(self._api.catalog[_RESOURCE], *key_of(each))


def template_of(revision: Obj) -> Obj:
    """The pod template that a revision keeps."""
    kept = revision["data"]["spec"]["template"]
    return {name: copy_json(value) for name, value in kept.items() if name != "$patch"}


def name_of(revision: Obj) -> str:
    """How its pods' labels and its owner's status call it."""
    name: str = revision["metadata"]["name"]
    return name
