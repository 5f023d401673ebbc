"""Keys that stand twice in what a client sent: the last one counts, which nobody means.

Read apart from the document itself, because no decoder that is fast tells of them.
"""

from __future__ import annotations

import json
from typing import Any


class _Object(list[tuple[str, Any]]):
    """A JSON object as the list of its members, doubled ones and all."""


def complaints(body: bytes) -> tuple[str, ...]:
    """What is to be said of the doubled keys in a body; () when it cannot be read at all."""
    text = body.strip()
    if text[:1] == b"{":
        try:
            document = json.loads(text, object_pairs_hook=_Object)
        except (ValueError, RecursionError):
            return ()
        return tuple(f'duplicate field "{path}"' for path in _paths(document, ""))
    return _in_yaml(text)


def _paths(value: Any, path: str) -> list[str]:
    if isinstance(value, _Object):
        paths: list[str] = []
        seen: set[str] = set()
        for name, item in value:
            place = f"{path}.{name}" if path else name
            if name in seen:
                paths.append(place)
            seen.add(name)
            paths += _paths(item, place)
        return paths
    if isinstance(value, list):
        return [
            found for index, item in enumerate(value) for found in _paths(item, f"{path}[{index}]")
        ]
    return []


def _in_yaml(text: bytes) -> tuple[str, ...]:
    import yaml  # only people send YAML

    try:
        root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, UnicodeDecodeError):
        return ()
    lines = _yaml_lines(root) if root is not None else []
    if not lines:
        return ()
    return ("yaml: unmarshal errors:\n" + "\n".join(f"  {line}" for line in lines),)


def _yaml_lines(node: Any) -> list[str]:
    lines: list[str] = []
    if isinstance(node.value, str):
        return lines
    seen: set[str] = set()
    for child in node.value:
        key, value = child if isinstance(child, tuple) else (None, child)
        if key is not None and isinstance(key.value, str):
            if key.value in seen:
                line = key.start_mark.line + 1
                lines.append(f'line {line}: key "{key.value}" already set in map')
            seen.add(key.value)
        lines += _yaml_lines(value)
    return lines
