"""The supervisor's side of the load's process: forks it, starts it, takes in what it counts."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
from collections.abc import Callable
from typing import Any

from engine.errors import LabError
from engine.lab.clock import CLOCK
from engine.lab.people import load
from engine.lab.people.load import LoadPlan
from engine.lab.processes import channel, children

_ANSWER_PATIENCE = 5.0
_BEGIN_PATIENCE = 20.0


class LoadProcess:
    """The load of a lab. Make it before there is an event loop: it forks."""

    def __init__(self, plan: LoadPlan) -> None:
        self.plan = plan
        self.began = CLOCK.monotonic()
        ours, theirs = channel.pair()
        self._end = ours
        self.pid = children.fork_child(lambda: load.main(theirs, plan), theirs.fileno())
        theirs.close()
        self._channel: channel.Channel | None = None
        self._ready: asyncio.Future[None] | None = None
        self._tokens = itertools.count(1)
        self._answers: dict[int, asyncio.Future[Any]] = {}
        self._take_slices: Callable[[list[Any]], None] = lambda slices: None

    async def begin(
        self, take_slices: Callable[[list[Any]], None], lost: Callable[[], None]
    ) -> None:
        """Start the load; returns when all its users are signed in and requests flow.

        Raises LabError if they cannot sign in.
        """
        self._take_slices = take_slices
        self._ready = asyncio.get_running_loop().create_future()
        self._channel = await channel.Channel.on(self._end, self._heard, lost)
        self._channel.send(["begin"])
        try:
            await asyncio.wait_for(self._ready, _BEGIN_PATIENCE)
        except TimeoutError as error:
            raise LabError("the load's users could not sign in in time") from error
        self.began = CLOCK.monotonic()

    async def flush(self) -> None:
        """Return when everything that was answered until now has been taken in."""
        await self._ask("flush")

    async def acknowledged(self) -> set[int]:
        """The numbers of all orders that were acknowledged."""
        pairs = await self._ask("acknowledged")
        return {number for first, last in pairs for number in range(first, last + 1)}

    def set_rate(self, rate: float) -> None:
        """Send this many requests a second from now on."""
        self._send("rate", rate)

    def stop(self) -> None:
        """Send no more requests."""
        self._send("stop")

    def reap(self) -> None:
        """End the process; returns when it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)

    async def _ask(self, command: str) -> Any:
        token = next(self._tokens)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._answers[token] = answer
        self._send(command, token)
        try:
            return await asyncio.wait_for(answer, _ANSWER_PATIENCE)
        except TimeoutError as error:
            raise LabError("the load does not answer", hint="start the lab again") from error
        finally:
            del self._answers[token]

    def _heard(self, event: list[Any]) -> None:
        match event:
            case ["slices", slices]:
                self._take_slices(slices)
            case ["flushed", token] if token in self._answers:
                self._answers[token].set_result(None)
            case ["acknowledged", token, pairs] if token in self._answers:
                self._answers[token].set_result(pairs)
            case ["ready"] if self._ready is not None:
                self._ready.set_result(None)
            case ["failed", message] if self._ready is not None:
                self._ready.set_exception(LabError(message))

    def _send(self, *command: Any) -> None:
        if self._channel is not None:
            self._channel.send(command)
