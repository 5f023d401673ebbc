"""Commands in a pod: run for real on this machine, with the pod's view of paths and addresses.

A pod's `/app` is a folder of the lab, and its `localhost` an address of the lab's network, so both
are translated in the command line on the way in and in what is printed on the way out.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from engine.lab.cluster.node.runtime import ExecResult
from engine.lab.processes import children

_APP = re.compile(r"(?<![\w./-])/app(?=/|$|[\s'\";)])")
_LOCAL = re.compile(r"\b(?:localhost|127\.0\.0\.1):(\d+)\b")
_SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin"


@dataclass(frozen=True)
class PodShell:
    """Where a pod's commands run. `app` is its `/app`, `ports` maps its ports to the real ones."""

    app: Path
    address: str
    ports: Mapping[int, int]
    environment: Mapping[str, str]
    tools: str = ""
    """Folders that come before the system's on the search path, separated by colons."""

    async def run(self, command: list[str], stdin: bytes | None) -> ExecResult:
        """Run a command to its end; exit code 126 or 127 if it cannot be started.

        Cancelling it kills the command with its children.
        """
        line = [self._inward(word) for word in command]
        parent = os.getpid()
        try:
            process = await asyncio.create_subprocess_exec(
                *line,
                stdin=asyncio.subprocess.DEVNULL if stdin is None else asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=self.app,
                env=self._environment(),
                process_group=0,
                preexec_fn=lambda: children.die_with_parent(parent),
            )
        except FileNotFoundError:
            return ExecResult(b"", f"{command[0]}: executable file not found\n".encode(), 127)
        except OSError as error:
            return ExecResult(b"", f"{command[0]}: {error.strerror}\n".encode(), 126)
        try:
            stdout, stderr = await process.communicate(stdin)
        except asyncio.CancelledError:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            raise
        code = process.returncode or 0
        return ExecResult(
            self._outward(stdout), self._outward(stderr), code if code >= 0 else 128 - code
        )

    def _inward(self, word: str) -> str:
        word = _APP.sub(lambda _: str(self.app), word)
        return _LOCAL.sub(self._real_address, word)

    def _real_address(self, match: re.Match[str]) -> str:
        port = int(match[1])
        return f"{self.address}:{self.ports[port]}" if port in self.ports else match[0]

    def _outward(self, output: bytes) -> bytes:
        return output.replace(os.fsencode(self.app), b"/app")

    def _environment(self) -> dict[str, str]:
        path = ":".join(filter(None, (self.tools, _SYSTEM_PATH)))
        return {"PATH": path, "HOME": str(self.app), "LANG": "C.UTF-8", **self.environment}
