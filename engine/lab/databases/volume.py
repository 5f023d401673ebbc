"""How full the database's volume is: what lies in its folder against a size that is pretended."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

_BYTES = 1 << 30
"""The 100 % of the metric `disk`."""
_AGE = 10.0


class Volume:
    """A folder that stands for a volume; it is looked through at most every ten seconds."""

    def __init__(self, folder: Path, now: Callable[[], float]) -> None:
        self._folder = folder
        self._now = now
        self._reading: tuple[float, float] | None = None

    def share(self) -> float:
        """Percent in use."""
        now = self._now()
        if self._reading is None or now - self._reading[0] > _AGE:
            self._reading = (now, 100 * _folder_bytes(self._folder) / _BYTES)
        return self._reading[1]


def _folder_bytes(folder: Path) -> int:
    size = 0
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                size += os.lstat(os.path.join(place, name)).st_size  # noqa: PTH118 - a thousand files
            except OSError:
                continue
    return size
