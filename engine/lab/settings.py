"""What can be chosen when a lab is started: sizes, rates and how fast its clocks tick.

The defaults are a production that two cores carry beside the run that is being rehearsed. Two
hours of the real deployment take a minute in the lab, so probes, windows and scrapes are shorter
than in production by the same order of magnitude.
"""

from __future__ import annotations

import msgspec


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How big and how fast a lab is. Times are seconds, rates are per second, sizes MiB."""

    blue_replicas: int = 3
    """Pods of 5.0 that the lab starts with."""

    request_rate: float = 240.0
    """Requests that the steady load sends; 0 starts no load."""

    users: int = 60
    """Signed-in users among whom the load shares its requests."""

    mesh_share: float = 0.25
    """Share of the load that comes in through the mesh's entrance instead of the edge's."""

    start_delay: float = 0.05
    """From the start of a container to its first readiness probe."""

    probe_period: float = 0.5
    """Between two probes of a pod that is ready."""

    scrape_period: float = 1.0
    """Between two readings of the pods' own metrics ports."""

    metrics_window: float = 5.0
    """The stretch of time that a metric looks back over when the question names none."""

    pod_memory: int = 256
    """What a pod may use before it is killed as out of memory; 100 % of the metric `memory`."""

    pace: float = 20.0
    """Divides the cluster's own delays: back-off after a crash, progress deadlines."""

    durable: bool = False
    """Whether PostgreSQL waits for the disk; the lab's data dies with it, so by default not."""

    def __post_init__(self) -> None:
        for name in ("blue_replicas", "users", "pod_memory"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1")
        for name in ("request_rate", "start_delay"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")
        for name in ("probe_period", "scrape_period", "metrics_window", "pace"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} must be above 0")
        if not 0 <= self.mesh_share <= 1:
            raise ValueError("mesh_share must lie between 0 and 1")
