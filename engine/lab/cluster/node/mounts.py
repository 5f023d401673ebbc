"""ConfigMaps as folders, as a kubelet mounts them into pods.

Each content gets a folder of its own, shared by all pods that mount it; a changed ConfigMap is a
new folder, so a pod never reads half of a change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path


class Mounts:
    """The folders of the ConfigMaps that pods have mounted."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def folder(self, name: str, data: Mapping[str, str]) -> Path:
        """The folder that holds exactly this data, one file a key."""
        digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:12]
        folder = self._root / f"{name}-{digest}"
        if folder.exists():
            return folder
        draft = self._root / f".{name}-{digest}"
        draft.mkdir(parents=True, exist_ok=True)
        for key, value in data.items():
            (draft / Path(key).name).write_text(value)
        draft.rename(folder)
        return folder


def link(place: Path, target: Path) -> None:
    """Let `place` be a symbolic link to `target`, whatever it was before."""
    place.parent.mkdir(parents=True, exist_ok=True)
    draft = place.with_name(f".{place.name}.new")
    draft.unlink(missing_ok=True)
    draft.symlink_to(target)
    draft.replace(place)
