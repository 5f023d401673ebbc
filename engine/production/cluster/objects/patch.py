"""The plain patches: JSON patch (RFC 6902), merge patch (RFC 7386), strategic merge patch.

All three are pure: they return a new document and leave the old one as it was.
"""

from __future__ import annotations

from typing import Any

from engine.production.cluster.objects.common import Obj, copy_json
from engine.production.cluster.objects.refusals import ApiError, bad_request, go_kind, unprocessable
from engine.production.cluster.objects.schema import Type


def merge_patch(document: Any, patch: Any) -> Any:
    """RFC 7386: maps are merged, null removes, everything else replaces."""
    if not isinstance(patch, dict):
        return copy_json(patch)
    merged = dict(document) if isinstance(document, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), value)
    return merged


def json_patch(document: Any, operations: Any) -> Any:
    """RFC 6902. Raises ApiError: 400 for what is no patch, 422 for one that does not fit."""
    if not isinstance(operations, list):
        raise bad_request(
            f"error decoding patch: json: cannot unmarshal {go_kind(operations)} into Go value of "
            "type []handlers.jsonPatchOp"
        )
    result = copy_json(document)
    for operation in operations:
        try:
            result = _operate(result, operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise unprocessable() from error
    return result


def _pointer(text: str) -> list[str]:
    if text and not text.startswith("/"):
        raise ValueError(text)
    return [part.replace("~1", "/").replace("~0", "~") for part in text.split("/")[1:]]


def _lookup(document: Any, path: list[str]) -> Any:
    for part in path:
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


def _insert(document: Any, path: list[str], value: Any) -> Any:
    if not path:
        return value
    target, last = _lookup(document, path[:-1]), path[-1]
    if isinstance(target, list):
        index = len(target) if last == "-" else int(last)
        if not 0 <= index <= len(target):
            raise IndexError(last)
        target.insert(index, value)
    else:
        target[last] = value
    return document


def _delete(document: Any, path: list[str]) -> Any:
    target, last = _lookup(document, path[:-1]), path[-1]
    return target.pop(int(last)) if isinstance(target, list) else target.pop(last)


def _operate(document: Any, operation: Any) -> Any:
    name, path = operation["op"], _pointer(operation["path"])
    if name == "add":
        return _insert(document, path, copy_json(operation["value"]))
    if name == "replace":
        value = copy_json(operation["value"])
        _lookup(document, path)
        if not path:
            return value
        target = _lookup(document, path[:-1])
        target[int(path[-1]) if isinstance(target, list) else path[-1]] = value
        return document
    if name == "remove":
        _delete(document, path)
        return document
    if name == "test":
        if _lookup(document, path) != operation["value"]:
            raise ValueError("test failed")
        return document
    origin = _pointer(operation["from"])
    if name == "copy":
        return _insert(document, path, copy_json(_lookup(document, origin)))
    if name == "move":
        return _insert(document, path, _delete(document, origin))
    raise ValueError(name)


_ORDER = "$setElementOrder/"
_DELETE_VALUES = "$deleteFromPrimitiveList/"


def strategic_merge(document: Any, patch: Obj, kind: Type) -> Obj:
    """The strategic merge patch: like a merge patch, but keyed lists are merged by their key.

    Understands the directives that kubectl sends: $patch (merge, replace, delete), $retainKeys,
    $setElementOrder and $deleteFromPrimitiveList. Raises ApiError for unknown ones: 500, as a
    real server does, though the mistake is the client's.
    """
    directive = patch.get("$patch", "merge")
    if directive == "replace":
        replacement: Obj = _plain(patch)
        return replacement
    if directive == "delete":
        return {}
    if directive != "merge":
        message = f"unknown patch type: {directive} in map: {_go_text(patch)}"
        raise ApiError(500, "", message)
    merged: Obj = dict(document) if isinstance(document, dict) else {}
    if "$retainKeys" in patch:
        merged = {name: merged[name] for name in merged if name in patch["$retainKeys"]}
    for name, value in patch.items():
        if not name.startswith("$"):
            _merge_field(merged, name, value, kind.child(name))
    _apply_list_directives(merged, patch, kind)
    return merged


def _merge_field(merged: Obj, name: str, value: Any, kind: Type) -> None:
    if value is None:
        merged.pop(name, None)
    elif isinstance(value, dict):
        merged[name] = strategic_merge(merged.get(name), value, kind)
    elif isinstance(value, list) and kind.form in ("keyed", "set"):
        merged[name] = _merge_list(merged.get(name) or [], value, kind)
    else:
        merged[name] = _plain(value)


def _merge_list(live: list[Any], patch: list[Any], kind: Type) -> list[Any]:
    if kind.form == "set":
        return live + [item for item in patch if item not in live]
    if any(isinstance(item, dict) and item.get("$patch") == "replace" for item in patch):
        return [_plain(item) for item in patch if item.get("$patch") != "replace"]
    assert kind.element is not None
    key = kind.keys[0]
    merged = list(live)
    for item in patch:
        if not isinstance(item, dict) or key not in item:
            raise _missing_key(key, item)
        places = [index for index, other in enumerate(merged) if other.get(key) == item[key]]
        if item.get("$patch") == "delete":
            merged = [other for other in merged if other.get(key) != item[key]]
        elif places:
            merged[places[0]] = strategic_merge(merged[places[0]], item, kind.element)
        else:
            merged.append(strategic_merge({}, item, kind.element))
    return merged


def _missing_key(key: str, item: Any) -> ApiError:
    message = f"map: {_go_text(item)} does not contain declared merge key: {key}"
    return ApiError(500, "", message)


def _go_text(value: Any) -> str:
    """A value as Go prints it: map[a:1 b:[x y]]."""
    if isinstance(value, dict):
        pairs = (f"{name}:{_go_text(item)}" for name, item in sorted(value.items()))
        return f"map[{' '.join(pairs)}]"
    if isinstance(value, list):
        return f"[{' '.join(_go_text(item) for item in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    return "<nil>" if value is None else str(value)


def _apply_list_directives(merged: Obj, patch: Obj, kind: Type) -> None:
    for name, value in patch.items():
        if name.startswith(_DELETE_VALUES):
            field = name.removeprefix(_DELETE_VALUES)
            merged[field] = [item for item in merged.get(field) or () if item not in value]
        elif name.startswith(_ORDER):
            field = name.removeprefix(_ORDER)
            if isinstance(merged.get(field), list):
                merged[field] = _ordered(merged[field], value, kind.child(field))


def _ordered(items: list[Any], order: list[Any], kind: Type) -> list[Any]:
    key = kind.keys[0] if kind.form == "keyed" else None
    names = [entry[key] if key else entry for entry in order]

    def place(item: Any) -> int:
        name = item.get(key) if key else item
        return names.index(name) if name in names else len(names)

    return sorted(items, key=place)


def _plain(value: Any) -> Any:
    """A patch's value as it is stored: without directives and nulls."""
    if isinstance(value, dict):
        return {
            name: _plain(item)
            for name, item in value.items()
            if item is not None and not name.startswith("$")
        }
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value
