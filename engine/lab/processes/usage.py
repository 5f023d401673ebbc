"""What processes use, read from /proc: memory, and CPU time between two readings."""

from __future__ import annotations

import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from engine.lab.clock import CLOCK

_TICKS = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


def memory_bytes(pid: int) -> int:
    """Resident memory of a process; 0 if it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        return 0


def cpu_seconds(pid: int) -> float:
    """CPU time that a process has used; 0 if it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / _TICKS
    except (OSError, IndexError):
        return 0.0


@dataclass
class Meter:
    """One process's use of CPU, as the rate over the last few readings."""

    pid: int
    _readings: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=4))

    def read(self) -> None:
        """Take a reading."""
        self._readings.append((CLOCK.monotonic(), cpu_seconds(self.pid)))

    @property
    def millicores(self) -> int:
        """Thousandths of a core that the process used lately; 0 before two readings."""
        if len(self._readings) < 2:
            return 0
        (start, before), (end, after) = self._readings[0], self._readings[-1]
        return round(1000 * max(0.0, after - before) / max(end - start, 0.001))
