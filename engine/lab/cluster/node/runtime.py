"""What the API server asks of whoever really runs the pods.

A kubelet has two halves: bookkeeping (phases, back-off, restart counts, conditions) and doing
(processes, sockets, probes). The bookkeeping lives in controllers/pods.py; the doing is behind this
Protocol, so that the lab can run real processes and a test can run none.
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
class ExecResult:
    """The outcome of one command that ran to its end inside a container."""

    stdout: bytes
    stderr: bytes
    exit_code: int


@dataclass(frozen=True)
class Usage:
    """What a pod uses now: `cpu` in millicores, `memory` in bytes."""

    cpu: int
    memory: int


class PodRuntime(Protocol):
    """Carries out what a kubelet would. All methods run in the server's event loop."""

    def start(self, pod: dict[str, Any], report: Callable[[PodReport], None]) -> None:
        """Begin to run `pod`; return at once. Reports follow, as many as there is news.

        It is called again for the same uid when a crashed or unpullable pod is to be tried anew;
        reports of the earlier try are then ignored.
        """

    async def stop(self, uid: str, grace_seconds: float) -> None:
        """SIGTERM, wait, SIGKILL; return when the pod is gone. Unknown uids are no error."""

    async def logs(self, uid: str, container: str, *, previous: bool = False) -> bytes:
        """All that the container wrote, or its predecessor before the last restart.

        A line may begin with an RFC 3339 time and a blank, as in a kubelet's log files; the
        server strips it unless it was asked for, and filters by it.
        """

    async def exec(
        self, uid: str, container: str, command: list[str], stdin: bytes | None
    ) -> ExecResult:
        """Run a command inside the container to its end."""

    def usage(self, uid: str) -> Usage:
        """What the pod uses now, for metrics.k8s.io."""
