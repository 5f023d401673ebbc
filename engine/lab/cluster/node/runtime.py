"""What the lab asks of a node beyond the cluster's bookkeeping, and the bridge between both.

The cluster in `engine.production` knows no event loop: it asks and is called back. A node works
with coroutines; `AsyncPods` runs them and calls back.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from engine.production.cluster.runtime import Done, PodReport, Usage

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ExecResult:
    """How one command ended that ran inside a container."""

    stdout: bytes
    stderr: bytes
    exit_code: int


class NodeRuntime(Protocol):
    """Runs the pods of the lab. All methods run in the server's event loop."""

    def start(self, pod: dict[str, Any], report: Callable[[PodReport], None]) -> None:
        """As `PodRuntime.start`."""

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


class AsyncPods:
    """A `PodRuntime` whose work is done by a node's coroutines in the running event loop."""

    def __init__(self, node: NodeRuntime) -> None:
        self._node = node
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, pod: dict[str, Any], report: Callable[[PodReport], None]) -> None:
        """Hand the pod to the node."""
        self._node.start(pod, report)

    def stop(self, uid: str, grace_seconds: float, done: Done) -> None:
        """Let the node end the pod."""
        self._spawn(self._node.stop(uid, grace_seconds), done)

    def run_hook(self, uid: str, container: str, command: list[str], done: Done) -> None:
        """Let the node run a preStop command."""
        self._spawn(self._node.exec(uid, container, command, None), done)

    async def end(self, uids: Iterable[str]) -> None:
        """Stop these pods at once, without their grace periods, and give up what still waits."""
        stops = (self._node.stop(uid, 0) for uid in uids)
        await asyncio.gather(*stops, return_exceptions=True)
        waiting = set(self._tasks)
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)

    def _spawn(self, work: Coroutine[Any, Any, object], done: Done) -> None:
        task = asyncio.get_running_loop().create_task(_then(work, done))
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            _log.error("the node failed at a pod", exc_info=task.exception())


async def _then(work: Coroutine[Any, Any, object], done: Done) -> None:
    await work
    done()
