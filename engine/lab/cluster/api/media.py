"""In which format an answer goes out: what the client takes, and what there is."""

from __future__ import annotations

from typing import Any

import msgspec

from engine.production.cluster.objects.refusals import not_acceptable

JSON, YAML = "application/json", "application/yaml"
_OFFERED = {JSON: JSON, YAML: YAML, "application/*": JSON, "*/*": JSON}
_SHOWN = (JSON, YAML, f"{JSON};stream=watch")


def negotiate(accept: str) -> str:
    """JSON or YAML, whichever comes first in an Accept header. Raises ApiError (406)."""
    if not accept.strip():
        return JSON
    clauses = [_clause(part) for part in accept.split(",")]
    for media, quality in sorted(clauses, key=lambda clause: -clause[1]):
        if media in _OFFERED and quality > 0:
            return _OFFERED[media]
    raise not_acceptable(_SHOWN)


def _clause(text: str) -> tuple[str, float]:
    """(media type, quality) of one part of the header."""
    media, *parameters = (part.strip() for part in text.split(";"))
    quality = next((each[2:] for each in parameters if each.startswith("q=")), "1")
    try:
        return media.lower(), float(quality)
    except ValueError:
        return media.lower(), 1.0


def encode(body: Any, media: str) -> bytes:
    """A document in that format."""
    if media != YAML:
        return msgspec.json.encode(body)
    import yaml  # only people ask for YAML

    text = yaml.dump(body, Dumper=getattr(yaml, "CSafeDumper", yaml.SafeDumper), allow_unicode=True)
    return str(text).encode()
