"""Taking over objects that were applied on the client's side.

``kubectl apply`` and Helm 3 merge by themselves and then send an update. The server keeps book of
their fields as of an *Update*; a server-side apply beside it would own the same fields a second
time: what a manifest no longer has would stay for ever, and what it changes would conflict. So
their book is made ours first, as ``kubectl apply --server-side`` does it (client-go, csaupgrade).
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

from engine.module_api import Context
from modules._kube.api import MANAGER, Cluster, Object
from modules._kube.errors import Modified
from modules._kube.manifests import Item

LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

_NAMES = ("kubectl-client-side-apply", "before-first-apply", "helm")
"""Managers that apply on the client's side. Whoever writes kubectl's annotation is one, too."""

_TRIES = 3


class _Entry(NamedTuple):
    """Fields that a manager owns: those of one record in ``managedFields``."""

    manager: str
    fields: Object


def client_side(item: Object) -> list[str]:
    """The managers of an object that applied it on the client's side."""
    return [one.manager for one in _entries(item)]


def _entries(item: Object) -> list[_Entry]:
    entries = []
    for entry in item["metadata"].get("managedFields") or []:
        fields = entry.get("fieldsV1") or {}
        if entry.get("operation") != "Update" or entry.get("subresource"):
            continue
        annotations = (fields.get("f:metadata") or {}).get("f:annotations") or {}
        if entry.get("manager") in _NAMES or f"f:{LAST_APPLIED}" in annotations:
            entries.append(_Entry(str(entry.get("manager")), fields))
    return entries


def adopt(ctx: Context, cluster: Cluster, item: Item, live: Object) -> None:
    """Make the fields of client-side managers ours; nothing but the book changes."""
    for attempt in range(1, _TRIES + 1):
        patch = _patch(live)
        if not patch:
            return
        owners = ", ".join(client_side(live))
        try:
            cluster.patch(ctx, item.kind, item.namespace, item.name, patch, form="json")
        except Modified:
            if attempt == _TRIES:
                raise
            live = cluster.get(ctx, item.kind, item.namespace, item.name)
        else:
            ctx.log(f"{item.label}: the fields of {owners} are {MANAGER}'s now")
            return


def _patch(live: Object) -> list[Object]:
    """The JSON patch that puts the book right; empty if there is nothing to take over."""
    entries = _entries(live)
    if not entries:
        return []
    owners = [one.fields for one in entries]
    ours: Object = {}
    kept = []
    for entry in live["metadata"].get("managedFields") or []:
        if entry.get("fieldsV1") in owners and entry.get("operation") == "Update":
            continue
        if _is_ours(entry):
            ours = entry
        else:
            kept.append(entry)
    fields = copy.deepcopy(ours.get("fieldsV1") or {})
    for one in owners:
        _unite(fields, one)
    _forget(fields, ("f:metadata", "f:annotations", f"f:{LAST_APPLIED}"))
    mine = {
        "manager": MANAGER,
        "operation": "Apply",
        "apiVersion": ours.get("apiVersion") or live.get("apiVersion"),
        "fieldsType": "FieldsV1",
        "fieldsV1": fields,
    }
    version = live["metadata"].get("resourceVersion")
    patch: list[Object] = [
        {"op": "replace", "path": "/metadata/managedFields", "value": [*kept, mine]},
        # Whoever changed it meanwhile owns other fields now: then it is begun anew.
        {"op": "replace", "path": "/metadata/resourceVersion", "value": version},
    ]
    if LAST_APPLIED in (live["metadata"].get("annotations") or {}):
        key = LAST_APPLIED.replace("/", "~1")
        patch.append({"op": "remove", "path": f"/metadata/annotations/{key}"})
    return patch


def _is_ours(entry: Object) -> bool:
    return (
        entry.get("manager") == MANAGER
        and entry.get("operation") == "Apply"
        and not entry.get("subresource")
    )


def _unite(into: Object, other: Object) -> None:
    for key, below in other.items():
        if isinstance(below, dict):
            _unite(into.setdefault(key, {}), below)
        else:
            into[key] = below


def _forget(fields: Object, path: tuple[str, ...]) -> None:
    """Drop a path, and what is empty above it then."""
    first, *rest = path
    if first not in fields:
        return
    if rest:
        _forget(fields[first], tuple(rest))
    if not rest or not fields[first]:
        del fields[first]


def without_dropped(
    after: Object, manifest: Object, live: Object | None, owners: list[str]
) -> Object:
    """An object of a dry run without what a take-over would drop.

    A dry run takes no book over, so the server shows fields that only the client-side managers
    own and that the manifest no longer has; a run would drop them.
    """
    if not owners or live is None:
        return after
    shown = copy.deepcopy(after)
    others = [
        entry.get("fieldsV1") or {}
        for entry in live["metadata"].get("managedFields") or []
        if entry.get("manager") not in owners
    ]
    for entry in _entries(live):
        for path in _leaves(entry.fields):
            kept = _holds(manifest, path) or any(_owned(fields, path) for fields in others)
            if not kept:
                _drop(shown, path)
    _drop(shown, ("metadata", "annotations", LAST_APPLIED))
    return shown


def _leaves(fields: Object, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Paths of fields that lead through mappings only; members of lists are left to the server."""
    for key, below in fields.items():
        if not key.startswith("f:"):
            continue
        path = (*above, key[2:])
        if any(inner != "." for inner in below):
            yield from _leaves(below, path)
        else:
            yield path


def _owned(fields: Object, path: tuple[str, ...]) -> bool:
    at: Any = fields
    for step in path:
        at = at.get(f"f:{step}") if isinstance(at, dict) else None
    return at is not None


def _holds(item: Any, path: tuple[str, ...]) -> bool:
    for step in path:
        if not isinstance(item, dict) or step not in item:
            return False
        item = item[step]
    return True


def _drop(item: Any, path: tuple[str, ...]) -> None:
    for step in path[:-1]:
        item = item.get(step) if isinstance(item, dict) else None
    if isinstance(item, dict):
        item.pop(path[-1], None)
