"""What may differ between a recorded answer of a real server and ours, and nothing else.

Before two answers are compared, on both sides:

* Times become "<time>"; whether a time is there still counts.
* uids and pod-template-hashes become "<uid 1>", "<hash 1>", ... in the order in which they first
  appear in the whole session, so that the same object must keep its uid from answer to answer.
* Random suffixes of pods and events, and the clusterIP, become placeholders; so does the server's
  own address.
* resourceVersions become "<version>". Their relations are kept: see `versions_seen`.
* ReplicaSets in a list are put in the order of their revisions, pods in the order of their
  resourceVersions, since their names are arbitrary.
* managedFields are put in one order: a real one is by time, and here all happens in one second.
* The recorded cluster had a script named "OpenAPI-Generator" for a kubelet. It is called
  "kubelet" here, and the one field that it touched and a kubelet does not (the time of the
  scheduler's condition PodScheduled) is left out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

_TIMES = frozenset(
    {
        "creationTimestamp",
        "deletionTimestamp",
        "time",
        "lastUpdateTime",
        "lastTransitionTime",
        "startTime",
        "startedAt",
        "firstTimestamp",
        "lastTimestamp",
        "endpoints.kubernetes.io/last-change-trigger-time",
    }
)
_HASHED = re.compile(
    r"(?P<owner>claude-enhancer-(?:blue|green|canary))-(?P<hash>[a-z0-9]{6,10})"
    r"(?P<pod>-[a-z0-9]{5})?(?![a-z0-9])"
)
_EVENT = re.compile(r"\.[0-9a-f]{14,16}$")
_UID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
_SCHEDULED = 'k:{"type":"PodScheduled"}'


class Normaliser:
    """One side of a session: remembers which uid and hash came first."""

    def __init__(self, *, numbered: bool = True) -> None:
        self._numbered = numbered
        self._known: dict[str, str] = {}

    def _placeholder(self, kind: str, value: str) -> str:
        if not self._numbered:
            return f"<{kind}>"
        if value not in self._known:
            count = sum(known.startswith(f"<{kind} ") for known in self._known.values())
            self._known[value] = f"<{kind} {count + 1}>"
        return self._known[value]

    def normalise(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return self._normalise_map(value)
        if isinstance(value, list):
            return self._normalise_list(value, key)
        if not isinstance(value, str):
            return value
        if key in _TIMES:
            return "<time>"
        if key == "resourceVersion":
            return "<version>"
        if key == "pod-template-hash":
            return self._placeholder("hash", value)
        if key in ("clusterIP", "serverAddress"):
            return f"<{key}>"
        return self._normalise_text(value)

    def _normalise_text(self, text: str) -> str:
        text = _UID.sub(lambda match: self._placeholder("uid", match[0]), text)
        text = _EVENT.sub(".<event>", text)

        def hashed(match: re.Match[str]) -> str:
            pod = "-<pod>" if match["pod"] else ""
            return f"{match['owner']}-{self._placeholder('hash', match['hash'])}{pod}"

        return _HASHED.sub(hashed, text)

    def _normalise_map(self, value: dict[str, Any]) -> dict[str, Any]:
        if value.get("manager") == "OpenAPI-Generator":
            value = {**value, "manager": "kubelet"}
        return {
            self._normalise_text(key): self.normalise(value[key], key)
            for key in sorted(value)
            if key != _SCHEDULED
        }

    def _normalise_list(self, value: list[Any], key: str) -> list[Any]:
        if key == "managedFields":
            entries = [self.normalise(item) for item in value]
            return sorted(entries, key=lambda entry: json.dumps(entry, sort_keys=True))
        if key == "clusterIPs":
            return ["<clusterIP>"]
        if key == "items" and value and "ownerReferences" in value[0]["metadata"]:
            value = sorted(value, key=_by_age)
        return [self.normalise(item) for item in value]


def _by_age(item: dict[str, Any]) -> tuple[int, int]:
    metadata = item["metadata"]
    revision = metadata.get("annotations", {}).get("deployment.kubernetes.io/revision", "0")
    return int(revision), int(metadata["resourceVersion"])


def versions_seen(body: Any) -> Iterator[tuple[str, int]]:
    """(uid, resourceVersion) of all objects in an answer, a list's own as uid "list"."""
    if isinstance(body, list):
        for item in body:
            yield from versions_seen(item)
    elif isinstance(body, dict):
        metadata = body.get("metadata")
        if isinstance(metadata, dict) and metadata.get("resourceVersion"):
            yield metadata.get("uid", "list"), int(metadata["resourceVersion"])
        for key, value in body.items():
            if key not in ("metadata", "involvedObject"):
                yield from versions_seen(value)
