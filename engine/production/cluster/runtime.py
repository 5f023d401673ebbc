"""What the cluster asks of whoever really runs the pods.

A kubelet has two halves: bookkeeping (phases, back-off, restart counts, conditions) and doing
(processes, sockets, probes). The bookkeeping lives in controllers/pods.py; the doing is behind this
Protocol, so that the lab can run real processes and a simulation can run none.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

PodState = Literal["creating", "image_pull_error", "running", "crashed"]


@dataclass(frozen=True)
class PodReport:
    """What has become of a pod. `exit_code` is set exactly when `state` is "crashed"."""

    state: PodState
    ready: bool = False
    ip: str | None = None
    exit_code: int | None = None
    message: str = ""


@dataclass(frozen=True)
class Usage:
    """What a pod uses now: `cpu` in millicores, `memory` in bytes."""

    cpu: int
    memory: int


Done = Callable[[], None]


class PodRuntime(Protocol):
    """Carries out what a kubelet would. Every method returns at once."""

    def start(self, pod: dict[str, Any], report: Callable[[PodReport], None]) -> None:
        """Begin to run `pod`. Reports follow, as many as there is news.

        It is called again for the same uid when a crashed or unpullable pod is to be tried anew;
        reports of the earlier try are then ignored.
        """

    def stop(self, uid: str, grace_seconds: float, done: Done) -> None:
        """SIGTERM, wait, SIGKILL; `done` when the pod is gone. Unknown uids are no error."""

    def run_hook(self, uid: str, container: str, command: list[str], done: Done) -> None:
        """Run a preStop command inside the container; `done` at its end, whatever it was."""
