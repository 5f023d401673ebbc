"""The quota controller: what a namespace uses, told in the status of its ResourceQuotas."""

from __future__ import annotations

from collections.abc import Iterable

from engine.production.cluster.api import Api
from engine.production.cluster.objects.common import Key, copy_json, key_of
from engine.production.cluster.objects.store import Change
from engine.production.cluster.quota import QUOTAS, used


class QuotaController:
    """Keeps `status.used` of ResourceQuotas."""

    name = "quotas"

    def __init__(self, api: Api) -> None:
        self._api = api
        self._store = api.store

    def concerns(self, change: Change) -> Iterable[Key]:
        if change.resource == QUOTAS:
            yield key_of(change.object)
        elif change.type != "MODIFIED" or change.resource == "pods":
            namespace = change.object["metadata"].get("namespace", "")
            if namespace:
                yield from (key_of(each) for each in self._store.items(QUOTAS, namespace))

    def reconcile(self, key: Key) -> bool:
        quota = self._store.get(QUOTAS, *key)
        if quota is None:
            return False
        hard = (quota.get("spec") or {}).get("hard") or {}
        status = {"hard": dict(hard), "used": used(self._store, key[0], hard)}
        if status != quota.get("status"):
            changed = {**quota, "metadata": copy_json(quota["metadata"]), "status": status}
            self._api.save(changed, subresource="status")
        return False
