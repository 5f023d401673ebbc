"""What changed about an object, as people read it: a unified diff of two tidied YAML texts.

Left out is what the server keeps for itself (managed fields, status, versions, times) and what
must not be seen: the values of Secrets are replaced by a short fingerprint, so that a change
shows and the value does not. A fingerprint can be compared with those of the same process only.
"""

from __future__ import annotations

import functools
import os
from typing import Any

from modules._kube.api import Object

_SERVERS_OWN = (
    "managedFields",
    "resourceVersion",
    "uid",
    "generation",
    "creationTimestamp",
    "selfLink",
)
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def unified(name: str, before: Object | None, after: Object | None, *, status: bool = False) -> str:
    """A unified diff from `before` to `after` (None: the object is not there); empty if alike.

    The status is the server's own matter and left out, unless `status` asks for it.
    """
    import difflib

    old, new = _lines(before, status), _lines(after, status)
    if old == new:
        return ""
    return "".join(
        f"{line}\n"
        for line in difflib.unified_diff(
            old,
            new,
            f"live/{name}" if before else "/dev/null",
            f"ce-run/{name}" if after else "/dev/null",
            lineterm="",
        )
    )


def values(name: str, before: dict[str, Any], after: dict[str, Any]) -> str:
    """The same for a few named values: ``replicas: 3``."""
    import difflib

    old = [f"{key}: {value}" for key, value in before.items()]
    new = [f"{key}: {value}" for key, value in after.items()]
    if old == new:
        return ""
    lines = difflib.unified_diff(old, new, f"live/{name}", f"ce-run/{name}", lineterm="")
    return "".join(f"{line}\n" for line in lines)


def tidy(item: Object, status: bool = False) -> Object:
    """The object without what the server keeps for itself, and without secret values."""
    kept = {key: value for key, value in item.items() if status or key != "status"}
    metadata = {
        key: value for key, value in item.get("metadata", {}).items() if key not in _SERVERS_OWN
    }
    if _APPLIED in (metadata.get("annotations") or {}):
        metadata["annotations"] = {
            key: value for key, value in metadata["annotations"].items() if key != _APPLIED
        }
    if metadata.get("annotations") == {}:
        del metadata["annotations"]
    kept["metadata"] = metadata
    return without_secrets(kept)


def for_result(item: Object) -> Object:
    """The object as a result may hold it: whole, but for managed fields and secret values."""
    metadata = {
        key: value for key, value in item.get("metadata", {}).items() if key != "managedFields"
    }
    return without_secrets({**item, "metadata": metadata})


def without_secrets(item: Object) -> Object:
    """A Secret with fingerprints in the place of its values; any other object as it is."""
    if item.get("kind") != "Secret":
        return item
    hidden = dict(item)
    for section in ("data", "stringData"):
        if isinstance(item.get(section), dict):
            hidden[section] = {
                key: _fingerprint(section, str(value)) for key, value in item[section].items()
            }
    annotations = (item.get("metadata") or {}).get("annotations") or {}
    if _APPLIED in annotations:
        kept = {key: value for key, value in annotations.items() if key != _APPLIED}
        hidden["metadata"] = {**item["metadata"], "annotations": kept}
    return hidden


@functools.cache
def _salt() -> bytes:
    """New in each process, so that nobody can try out guesses on a fingerprint."""
    return os.urandom(16)


def _fingerprint(section: str, value: str) -> str:
    import base64
    import hashlib

    try:
        plain = base64.b64decode(value) if section == "data" else value.encode()
    except ValueError:
        plain = value.encode()
    return f"(hidden, {len(plain)} bytes, {hashlib.sha256(_salt() + plain).hexdigest()[:8]})"


def _lines(item: Object | None, status: bool) -> list[str]:
    if item is None:
        return []
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(
        tidy(item, status), Dumper=dumper, sort_keys=True, default_flow_style=False, width=200
    )
    return text.splitlines()
