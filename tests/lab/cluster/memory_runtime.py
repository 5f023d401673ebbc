"""A PodRuntime without processes: what a pod does is chosen by the tag of its image.

`:bad` cannot be pulled, `:crash` exits with 1 as soon as it runs, `:slow` runs but is ready only
when `make_ready` says so; every other image is ready at once. Nothing here sleeps.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from engine.lab.cluster import ExecResult, PodReport, Usage

Report = Callable[[PodReport], None]


@dataclass
class MemoryRuntime:
    """`ip` fixes the address of all pods; without it each has its own.

    `hold` keeps every image from being ready until told, as if all were `:slow`.
    """

    ip: str = ""
    hold: bool = False
    started: list[str] = field(default_factory=list)
    stopped: list[tuple[str, float]] = field(default_factory=list)
    running: dict[str, tuple[dict[str, Any], Report]] = field(default_factory=dict)
    written: dict[str, bytes] = field(default_factory=dict)
    refuses_to_stop: bool = False
    hanging: int = 0
    """Commands that were asked to hang."""
    on_stop: Callable[[str], None] = field(default=lambda uid: None)
    _count: int = 0

    def start(self, pod: dict[str, Any], report: Report) -> None:
        uid = pod["metadata"]["uid"]
        self.started.append(pod["metadata"]["name"])
        self.running[uid] = (pod, report)
        asyncio.get_running_loop().call_soon(self._tell, uid)

    def _tell(self, uid: str) -> None:
        if uid not in self.running:
            return
        pod, report = self.running[uid]
        tag = pod["spec"]["containers"][0]["image"].rpartition(":")[2]
        if tag == "bad":
            report(PodReport("image_pull_error", message="image not found"))
            return
        self._count += 1
        ip = self.ip or f"10.244.0.{self._count}"
        if tag == "crash":
            report(PodReport("crashed", ip=ip, exit_code=1, message="boom"))
        else:
            ready = not self.hold and tag != "slow"
            report(PodReport("running", ready=ready, ip=ip))

    def make_ready(self, name: str) -> None:
        """Let the pod of this name become ready."""
        for pod, report in list(self.running.values()):
            if pod["metadata"]["name"] == name:
                report(PodReport("running", ready=True, ip=self.ip or "10.244.1.1"))

    def crash(self, name: str, exit_code: int) -> None:
        """Let the container of this pod end."""
        for pod, report in list(self.running.values()):
            if pod["metadata"]["name"] == name:
                report(PodReport("crashed", exit_code=exit_code))

    async def stop(self, uid: str, grace_seconds: float) -> None:
        self.stopped.append((uid, grace_seconds))
        self.on_stop(uid)
        while self.refuses_to_stop and grace_seconds > 0:
            await asyncio.sleep(0.01)
        self.running.pop(uid, None)

    async def logs(self, uid: str, container: str, *, previous: bool = False) -> bytes:
        return b"before\n" if previous else self.written.get(uid, b"one\ntwo\nthree\n")

    async def exec(
        self, uid: str, container: str, command: list[str], stdin: bytes | None
    ) -> ExecResult:
        match command:
            case ["echo", *words]:
                return ExecResult(" ".join(words).encode() + b"\n", b"", 0)
            case ["cat"]:
                return ExecResult(stdin or b"", b"", 0)
            case ["hang"]:
                self.hanging += 1
                await asyncio.Event().wait()
            case ["fail", code]:
                return ExecResult(b"", b"it failed\n", int(code))
        return ExecResult(b"", b"no such command\n", 127)

    def usage(self, uid: str) -> Usage:
        return Usage(cpu=250, memory=64 * 1024 * 1024)
