"""How a running lab is, as its clients see it."""

from __future__ import annotations

import msgspec

from engine.lab.layout import LabInfo
from engine.production.faults import Fault


class PodStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One pod of the application that has a process."""

    name: str
    version: str
    address: str
    ready: bool


class LabStatus(msgspec.Struct, frozen=True, kw_only=True):
    """A lab at one moment."""

    info: LabInfo
    uptime: float
    """Seconds since it was ready."""
    pods: list[PodStatus]
    weights: dict[str, dict[str, int]]
    """Entrance → `stable` and `canary` → weight."""
    serving: dict[str, list[str]]
    """HAProxy backend → the names of the servers that take requests."""
    faults: dict[str, Fault]
    requests_per_second: float | None
    """Of the load, lately; None if nothing has been counted."""
    error_rate: float | None
    """Percent, lately."""
