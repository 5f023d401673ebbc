"""What all tasks of a run share: its clock, its fence, its clients, and ways to tell people."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

import msgspec

from engine.clock import Clock
from engine.errors import Refused

T = TypeVar("T")

_LOOK = 0.05
"""Seconds between two looks of who waits for a client that another task is making."""

CLOSE_PATIENCE = 0.5
"""Seconds for closing all clients: part of the five within which an interrupted run leaves."""


class Fence(Protocol):
    """Guards effects of a run against happening after another run took over its locks."""

    def hold(self) -> contextlib.AbstractContextManager[None]:
        """Shared hold for one request; raises Cancelled when the locks are lost."""
        ...

    def identity(self) -> dict[str, str]:
        """Headers with run and token."""
        ...


class NoFence:
    """For a run that owns no lock."""

    def __init__(self, run_id: str = "") -> None:
        self._headers = {"X-CE-Run": run_id, "X-CE-Token": "0"}

    @contextlib.contextmanager
    def hold(self) -> Iterator[None]:
        """Nothing to hold."""
        yield

    def identity(self) -> dict[str, str]:
        """The run; token 0 stands for "no lock"."""
        return self._headers


class Clients:
    """Clients that the tasks of a run share: each made by the first who asks for it."""

    def __init__(self) -> None:
        self._cache: dict[str, Any] = {}
        self._closers: list[Callable[[], None]] = []
        self._making: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def cached(
        self,
        key: str,
        make: Callable[[], T],
        close: Callable[[T], None] | None,
        checkpoint: Callable[[], None] = lambda: None,
    ) -> T:
        """The client for `key`, made by the first who asks.

        Whoever waits for it looks from time to time with `checkpoint` whether to go on waiting.
        """
        with self._lock:
            making = self._making.setdefault(key, threading.Lock())
        while not making.acquire(timeout=_LOOK):  # one slow connection must not hold up the others
            checkpoint()
        try:
            if key not in self._cache:
                client = make()
                self._cache[key] = client
                if close is not None:
                    self._closers.append(lambda: close(client))
            cached: T = self._cache[key]
            return cached
        finally:
            making.release()

    def close(self) -> None:
        """Close every client, newest first; a client that cannot be closed is let go, and one
        that hangs holds nobody up."""
        with self._lock:
            closers, self._closers, self._cache = self._closers, [], {}

        def close_all() -> None:
            for close in reversed(closers):
                with contextlib.suppress(Exception):
                    close()

        if closers:
            closing = threading.Thread(target=close_all, name="closing", daemon=True)
            closing.start()
            closing.join(CLOSE_PATIENCE)


def _no_section(name: str) -> Mapping[str, Any]:
    return {}


def _no_secret(name: str) -> str:
    raise Refused(f"unknown secret {name!r}", hint="declare it under `secrets:` in the inventory")


def _unmasked(text: str) -> str:
    return text


def _to_nobody(*words: object) -> None:
    """Nobody listens."""


class Services(msgspec.Struct, kw_only=True, eq=False):
    """What all tasks of a run share; whoever puts a run together makes one, and closes it."""

    run_id: str
    clock: Clock
    root: Path
    """What paths of the runbook start from."""
    folders: Sequence[Path] = ()
    """The folders that a runbook may name files in; `root` alone if there are none."""
    logs: Path | None = None
    """The run's folder of logs; None: it keeps none."""
    fence: Fence = msgspec.field(default_factory=NoFence)
    section: Callable[[str], Mapping[str, Any]] = _no_section
    """``section(name)`` gives a part of the inventory, rendered."""
    secret: Callable[[str], str] = _no_secret
    mask: Callable[[str], object] = _to_nobody
    """``mask(value)`` has a value hidden from now on."""
    masked: Callable[[str], str] = _unmasked
    """``masked(text)`` hides secrets."""
    report: Callable[[str, int, str], None] = _to_nobody
    """``report(step, task, text)`` takes lines of progress."""
    warn: Callable[[str, str], None] = _to_nobody
    """``warn(step, text)`` takes warnings."""
    world: Any = None
    """The simulated world, for a run in mode ``simulate``."""
    clients: Clients = msgspec.field(default_factory=Clients)

    def __post_init__(self) -> None:
        self.root = self.root.resolve()
        self.folders = tuple(each.resolve() for each in self.folders) or (self.root,)
        if isinstance(self.fence, NoFence):
            self.fence = NoFence(self.run_id)

    def close(self) -> None:
        """Close what the tasks have opened."""
        self.clients.close()
