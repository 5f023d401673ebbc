"""Whether this machine has time for a lab: its thresholds are meant for cores that are free.

``python -m engine.lab.busy`` says so if it has not, after a deployment that failed.
"""

from __future__ import annotations

import os
import sys

_STARTED_ALONE = 0.75
"""Load for each core, before a lab is there, above which others use the machine."""
_WITH_LAB = 1.5
"""Load for each core above which more than a lab and its deployment is at work."""


def too_busy(load: float, cores: int, *, with_lab: bool) -> str:
    """That others use the machine, in words; empty if they do not.

    `load` is how many processes want a core, over the last minute.
    """
    if load <= cores * (_WITH_LAB if with_lab else _STARTED_ALONE):
        return ""
    return (
        f"this machine is too busy for the lab's thresholds: {load:.1f} processes want its "
        f"{cores} core{'s' if cores != 1 else ''}"
    )


def now(*, with_lab: bool) -> str:
    """`too_busy` as it is now; empty where the system does not tell."""
    try:
        load = os.getloadavg()[0]
        cores = len(os.sched_getaffinity(0))
    except (OSError, AttributeError):
        return ""
    return too_busy(load, cores, with_lab=with_lab)


if __name__ == "__main__" and (words := now(with_lab=True)):
    print(f"{words}; what was slow may be well: try again when it is quiet", file=sys.stderr)
