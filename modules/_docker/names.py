"""Names of images: one image has several, and each has parts."""

from __future__ import annotations

import re

HUB = "docker.io"
"""The registry of names that name none."""


def split(image: str) -> tuple[str, str]:
    """Name and tag of an image; without a tag it is ``latest``. A digest is left out."""
    image = image.partition("@")[0]
    head, colon, tag = image.rpartition(":")
    if not colon or "/" in tag:
        return image, "latest"
    return head, tag


def registry(name: str) -> str:
    """The registry that a name stands for."""
    first, slash, _ = name.partition("/")
    if not slash or not re.search(r"[.:]|^localhost$", first):
        return HUB
    return HUB if first in ("index.docker.io", "registry-1.docker.io") else first


def repository(image: str) -> str:
    """The one full name of an image's repository: ``nginx`` is ``docker.io/library/nginx``."""
    name = split(image)[0]
    place = registry(name)
    if place != HUB:
        return name
    first, slash, rest = name.partition("/")
    path = rest if slash and re.search(r"[.:]", first) else name
    return f"{HUB}/{path}" if "/" in path else f"{HUB}/library/{path}"
