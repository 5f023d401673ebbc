"""A KubeServer in a thread of its own, so that ordinary blocking clients can be tested with it."""

from __future__ import annotations

import asyncio
import ssl
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx

from engine.lab.cluster import KubeServer, ServerSettings
from tests.lab.cluster.memory_runtime import MemoryRuntime

T = TypeVar("T")
_PATIENCE = 20.0


class RunningServer:
    """Starts on entering, stops on leaving. `do` runs a function in the server's event loop."""

    def __init__(self, directory: Path, runtime: MemoryRuntime | None = None, **options: Any):
        self.runtime = runtime or MemoryRuntime()
        self.server = KubeServer(self.runtime, directory, ServerSettings(**options))
        self._door = threading.Lock()
        self._over = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> RunningServer:
        self._thread.start()
        self.wait(self.server.start())
        self.settle()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.wait(self.server.stop())
        with self._door:
            self._over = True
        asyncio.run_coroutine_threadsafe(self._end_all(), self._loop).result(_PATIENCE)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end_all(self) -> None:
        """Whoever still waits for something to be done here learns that it will not be."""
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """What a coroutine gives; CancelledError when the server went away meanwhile or before."""
        with self._door:
            if self._over:
                work.close()
                raise CancelledError
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        return future.result(_PATIENCE)

    def do(self, function: Callable[..., T], *arguments: Any, **named: Any) -> T:
        async def run() -> T:
            return function(*arguments, **named)

        return self.wait(run())

    def settle(self) -> None:
        """Wait until nothing changes any more by itself (timers aside)."""
        self.wait(self._settle())

    async def _settle(self) -> None:
        quiet = 0
        while quiet < 5:
            before = self.server.store.version
            await self.server.settled()
            await asyncio.sleep(0)
            quiet = quiet + 1 if self.server.store.version == before else 0

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait until `condition`, looked at after every change in the store, holds."""
        self.wait(asyncio.wait_for(self._until(condition), _PATIENCE))

    async def _until(self, condition: Callable[[], bool]) -> None:
        changed = asyncio.Event()
        end = self.server.subscribe(lambda _change: changed.set())
        try:
            while not condition():
                await changed.wait()
                changed.clear()
        finally:
            end()

    def client(self, agent: str = "python-httpx/0.28.1") -> httpx.Client:
        """An HTTP client with the token, which verifies the server's certificate."""
        context = ssl.create_default_context(cadata=self._authority())
        headers = {"Authorization": f"Bearer {self.server.token}", "User-Agent": agent}
        return httpx.Client(base_url=self.server.url, verify=context, headers=headers)

    def _authority(self) -> str:
        import base64

        import yaml

        config = yaml.safe_load(self.server.kubeconfig_path.read_text())
        data = config["clusters"][0]["cluster"]["certificate-authority-data"]
        return base64.b64decode(data).decode()
