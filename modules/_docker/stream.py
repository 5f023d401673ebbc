"""What an engine tells while it builds and pushes: to be believed only as far as it goes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from engine.module_api import ActionError, Context, Failed, Refused

_DIGEST = re.compile(r"\bdigest: (sha256:[0-9a-f]{64})\b")
_BUILT = re.compile(r"^(?:Successfully built )?(?:sha256:)?([0-9a-f]{12,64})$")


class End(msgspec.Struct):
    """What an engine's messages came to."""

    digest: str = ""
    """Of the manifest that was pushed; empty if the engine named none."""
    image: str = ""
    """The id of what was built, or its beginning; empty if the engine named none."""
    is_success: bool = False
    """Whether the engine said in words that a build succeeded."""


def follow(ctx: Context, stream: Iterable[Any], what: str) -> End:
    """Read what the engine tells until it has ended.

    Raises Failed, or Refused where we may not, with the last lines if the engine tells of an error.
    """
    end, tail = End(), list[str]()
    for message in stream:
        ctx.checkpoint()
        if not isinstance(message, Mapping):
            continue
        if error := _error(message):
            denied = any(word in error.lower() for word in ("unauthorized", "denied", "forbidden"))
            kind: type[ActionError] = Refused if denied else Failed
            raise kind(f"{what} failed: {error}", evidence=tail[-10:])
        line = _line(message)
        if line:
            tail = [*tail[-20:], line]
            ctx.log(line)
        _note(end, message, line)
    ctx.checkpoint()  # a stream that we broke off ends, too
    return end


def _error(message: Mapping[str, Any]) -> str:
    """The error in a message: ``errorDetail`` is what counts, ``error`` is the older name."""
    if "error" not in message and "errorDetail" not in message:
        return ""
    detail = message.get("errorDetail")
    words = detail.get("message") if isinstance(detail, Mapping) else detail
    words = str(words or message.get("error") or "").strip()
    code = detail.get("code") if isinstance(detail, Mapping) else None
    return words or (f"the engine gave the code {code} and no words" if code else "no reason given")


def _note(end: End, message: Mapping[str, Any], line: str) -> None:
    """Remember what a message says of the end."""
    aux = message.get("aux")
    if isinstance(aux, Mapping):
        end.digest = str(aux.get("Digest") or end.digest)
        end.image = str(aux.get("ID") or end.image)
    if match := _DIGEST.search(line):
        end.digest = end.digest or match[1]
    if "stream" in message and line.startswith("Successfully "):
        end.is_success = True
    if "stream" in message and (built := _BUILT.match(line)):
        end.image = end.image or f"sha256:{built[1]}"


def _line(message: Mapping[str, Any]) -> str:
    if "stream" in message:
        return str(message["stream"]).rstrip()
    if "progressDetail" in message and message.get("progressDetail"):
        return ""  # the moving bar of a layer
    words = [str(message[key]) for key in ("id", "status") if message.get(key)]
    return ": ".join(words)
