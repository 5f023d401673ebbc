"""Faults: what can be made wrong with the pods of a version, and where that is kept.

In the lab the table belongs to the supervisor. Each running pod is told through its own pipe, so a
change is in force within a few milliseconds and costs a request nothing; a pod that starts later is
given its faults before it serves anything. In virtual time pods.py obeys them.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

ALL_VERSIONS = "all"


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is wrong with the pods of a version; the default is nothing."""

    error_rate: float = 0.0
    """Share of the users' requests answered 500, 0 to 1."""
    latency: float = 0.0
    """Seconds added to every user's request."""
    crash: bool = False
    """The process exits: the running ones at once, later ones soon after their start."""
    never_ready: bool = False
    """Readiness fails; liveness does not."""
    bad_image: bool = False
    """The image cannot be pulled; pods that run already keep running."""
    memory_growth: float = 0.0
    """MiB a second that the process takes and never gives back."""
    agents_down: int = 0
    """Agents that do not answer."""
    workflow_error_rate: float = 0.0
    """Share of workflow transitions that fail, 0 to 1."""

    def __post_init__(self) -> None:
        for name in ("error_rate", "workflow_error_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie between 0 and 1")
        for name in ("latency", "memory_growth", "agents_down"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative")


NO_FAULT = Fault()


class Faults:
    """The table of faults by version, and those who want to know when it changes."""

    def __init__(self) -> None:
        self._by_version: dict[str, Fault] = {}
        self._listeners: list[Callable[[], None]] = []

    def of(self, version: str) -> Fault:
        """What is wrong with this version now; a version's own entry hides the one for all."""
        return self._by_version.get(version) or self._by_version.get(ALL_VERSIONS) or NO_FAULT

    def table(self) -> dict[str, Fault]:
        """Version (or `all`) → fault, for those that have one."""
        return dict(self._by_version)

    def set(self, version: str, changes: dict[str, object]) -> Fault:
        """Change some properties of a version's fault, keeping the others; the fault now.

        Raises msgspec.ValidationError for a property that does not exist or a value out of range.
        """
        merged = msgspec.to_builtins(self._by_version.get(version, NO_FAULT)) | changes
        fault = msgspec.convert(merged, Fault)
        if fault == NO_FAULT:
            self._by_version.pop(version, None)
        else:
            self._by_version[version] = fault
        self._tell()
        return fault

    def clear(self, version: str | None = None) -> None:
        """End the faults of a version, or all of them."""
        if version is None:
            self._by_version.clear()
        else:
            self._by_version.pop(version, None)
        self._tell()

    def subscribe(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each change."""
        self._listeners.append(listener)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()
