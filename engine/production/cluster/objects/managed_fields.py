"""Who owns which field: metadata.managedFields, kept as a real server keeps it.

Every write names its manager. An *update* (create, PUT, the plain patches) gives its manager the
fields it changed and takes them from everybody else. An *apply* gives its manager exactly the
fields of the applied configuration; it is refused when it would change a field that another
manager owns, unless forced, and it removes what this manager applied before and nobody else owns.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

from engine.production.cluster.objects.common import Obj
from engine.production.cluster.objects.fields import (
    MISSING,
    FieldSet,
    Path,
    compare,
    decode,
    dotted,
    encode,
    key_element,
    owned_fields,
    prefixes,
    remove,
)
from engine.production.cluster.objects.refusals import ApiError
from engine.production.cluster.objects.schema import Type


class ManagerId(NamedTuple):
    """One entry of managedFields is identified by all of these together."""

    manager: str
    operation: str
    api_version: str
    subresource: str = ""


@dataclass(frozen=True)
class Ownership:
    """What one manager owns, and since when; entries of the scale subresource have no time."""

    fields: FieldSet
    time: str = ""


Managers = dict[ManagerId, Ownership]

_SYSTEM_METADATA = (
    "name",
    "namespace",
    "creationTimestamp",
    "selfLink",
    "uid",
    "generation",
    "managedFields",
    "resourceVersion",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)
_SYSTEM: frozenset[Path] = frozenset(
    {("f:apiVersion",), ("f:kind",), ("f:metadata",)}
    | {("f:metadata", f"f:{name}") for name in _SYSTEM_METADATA}
)


def read(entries: Iterable[Obj] | None) -> Managers:
    """The managers of an object's managedFields; an empty entry, as in `[{}]`, resets them."""
    managers: Managers = {}
    for entry in entries or ():
        if not entry.get("manager"):
            continue
        identity = ManagerId(
            entry["manager"],
            entry.get("operation", "Update"),
            entry.get("apiVersion", ""),
            entry.get("subresource", ""),
        )
        fields = decode(entry.get("fieldsV1") or {})
        managers[identity] = Ownership(fields, entry.get("time", ""))
    return managers


def write(managers: Managers) -> list[Obj]:
    """The managedFields entries: those of apply first, then by age."""
    order = sorted(
        managers.items(),
        key=lambda pair: (
            pair[0].operation,
            pair[1].time,
            pair[0].manager,
            pair[0].api_version,
            pair[0].subresource,
        ),
    )
    return [_entry(identity, ownership) for identity, ownership in order if ownership.fields]


def _entry(identity: ManagerId, ownership: Ownership) -> Obj:
    entry: Obj = {
        "manager": identity.manager,
        "operation": identity.operation,
        "apiVersion": identity.api_version,
    }
    if ownership.time:
        entry["time"] = ownership.time
    entry |= {"fieldsType": "FieldsV1", "fieldsV1": encode(ownership.fields)}
    if identity.subresource:
        entry["subresource"] = identity.subresource
    return entry


def without_untracked(fields: Iterable[Path], untracked: Iterable[str]) -> FieldSet:
    """These fields but the system's own and those below the top-level names in `untracked`."""
    tops = {f"f:{name}" for name in untracked}
    return frozenset(
        path
        for path in fields
        if path[0] not in tops and path not in _SYSTEM and path[:2] not in _SYSTEM
    )


@dataclass(frozen=True)
class FieldWriter:
    """Who writes now: identity, time stamp, and the top-level fields that are not theirs."""

    identity: ManagerId
    now: str
    untracked: tuple[str, ...] = ()

    def owning(self, fields: Iterable[Path]) -> FieldSet:
        return without_untracked(fields, self.untracked)


def after_update(
    managers: Managers, old: Obj, new: Obj, kind: Type, writer: FieldWriter
) -> Managers:
    """The managers after `writer` has changed `old` into `new`."""
    difference = compare(old, new, kind)
    taken = writer.owning(difference.taken)
    result = _released(managers, taken | difference.removed)
    if taken:
        mine = result.get(writer.identity)
        together = taken | mine.fields if mine is not None else taken
        result[writer.identity] = Ownership(together, writer.now)
    return result


def _released(managers: Managers, fields: Iterable[Path]) -> Managers:
    gone = frozenset(fields)
    return {
        identity: Ownership(ownership.fields - gone, ownership.time)
        for identity, ownership in managers.items()
        if ownership.fields - gone
    }


class Conflicts(ApiError):
    """An apply that is not forced would change fields of other managers."""

    def __init__(self, conflicts: list[tuple[ManagerId, Path]]) -> None:
        causes = [
            {
                "reason": "FieldManagerConflict",
                "message": f"conflict with {_described(identity)}",
                "field": dotted(path),
            }
            for identity, path in conflicts
        ]
        super().__init__(409, "Conflict", _conflict_message(conflicts), {"causes": causes})


def _described(identity: ManagerId) -> str:
    text = f'"{identity.manager}"'
    if identity.subresource:
        text += f' with subresource "{identity.subresource}"'
    return f"{text} using {identity.api_version}" if identity.operation == "Update" else text


def _conflict_message(conflicts: list[tuple[ManagerId, Path]]) -> str:
    if len(conflicts) == 1:
        identity, path = conflicts[0]
        return f"Apply failed with 1 conflict: conflict with {_described(identity)}: {dotted(path)}"
    lines: list[str] = []
    for identity in dict.fromkeys(identity for identity, _ in conflicts):
        lines.append(f"conflicts with {_described(identity)}:")
        lines += [f"- {dotted(path)}" for owner, path in conflicts if owner == identity]
    return f"Apply failed with {len(conflicts)} conflicts: " + "\n".join(lines)


def apply(
    live: Obj, config: Obj, managers: Managers, kind: Type, writer: FieldWriter, *, force: bool
) -> tuple[Obj, Managers]:
    """The object and its managers after `writer` has applied `config` to `live`.

    Raises Conflicts unless `force`.
    """
    mine = writer.owning(owned_fields(config, kind))
    before = managers.get(writer.identity)
    others = {identity: own for identity, own in managers.items() if identity != writer.identity}
    merged: Obj = merge(live, config, kind)
    if before is not None:
        merged = _pruned(merged, kind, before.fields, mine, others)
    difference = compare(live, merged, kind)
    conflicts = [
        (identity, path)
        for identity, own in sorted(others.items())
        for path in sorted(own.fields & difference.taken)
    ]
    if conflicts and not force:
        raise Conflicts(conflicts)
    result = _released(others, difference.taken | difference.removed)
    if mine:
        result[writer.identity] = Ownership(mine, writer.now)
    return merged, result


def _pruned(merged: Obj, kind: Type, before: FieldSet, mine: FieldSet, others: Managers) -> Obj:
    """Without what this manager applied before, no longer does, and nobody else owns.

    A structure goes with its last owned field, defaults and all.
    """
    kept = prefixes(mine) | prefixes(path for own in others.values() for path in own.fields)
    gone = prefixes(before) - kept - _SYSTEM
    pruned: Obj = remove(merged, kind, gone, kept)
    return pruned


def merge(live: Any, config: Any, kind: Type) -> Any:
    """`live` with `config` laid over it; the order of lists is the configuration's."""
    if kind.is_leaf(config) or type(live) is not type(config):
        return config
    if isinstance(config, dict):
        merged = dict(live)
        for name, value in config.items():
            merged[name] = merge(live.get(name, MISSING), value, kind.child(name))
        return merged
    return _merge_lists(live, config, kind)


def _merge_lists(live: list[Any], config: list[Any], kind: Type) -> list[Any]:
    assert kind.element is not None
    name = (lambda item: key_element(item, kind)) if kind.form == "keyed" else repr
    old = {name(item): item for item in live}
    new = {name(item): item for item in config}
    merged: list[Any] = []
    waiting = list(old)
    for key, item in new.items():
        # Items that only the live list has stay before the item they stood before.
        while waiting and waiting[0] not in new:
            merged.append(old[waiting.pop(0)])
        if key in waiting:
            waiting.remove(key)
        merged.append(merge(old.get(key, MISSING), item, kind.element))
    return merged + [old[key] for key in waiting if key not in new]
