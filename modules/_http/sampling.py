"""Samples for `http-check`: requests sent one after the other by several senders, and what came."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from engine.module_api import ActionError, Context
from modules._http import client as http_client
from modules._http import expect as http_expect
from modules._http.expect import Expect
from modules._http.response import Response
from modules._http.tls import Tls

T = TypeVar("T")


class Samples:
    """What has been seen so far."""

    def __init__(self) -> None:
        self.taken = 0
        self.failures = 0
        self.seconds: list[float] = []
        self.statuses: dict[str, int] = {}
        self.unmet: dict[str, int] = {}
        self.last: Response | None = None
        self.error: ActionError | None = None

    def answer(self, response: Response, unmet: list[str]) -> None:
        self.taken += 1
        self.last = response
        self.seconds.append(response.seconds)
        self._count(self.statuses, str(response.status))
        self.failures += bool(unmet)
        for reason in unmet:
            self._count(self.unmet, reason)

    def no_answer(self, error: ActionError) -> None:
        self.taken += 1
        self.failures += 1
        self.error = error
        self._count(self.unmet, " ".join([error.message, *error.evidence[:1]]))

    def _count(self, counts: dict[str, int], key: str) -> None:
        if key in counts or len(counts) < 20:
            counts[key] = counts.get(key, 0) + 1

    @property
    def error_rate(self) -> float:
        return 100.0 * self.failures / self.taken if self.taken else 0.0


class Target(NamedTuple):
    """What is asked, and how."""

    method: str
    url: str
    headers: dict[str, Any] | None
    options: dict[str, Any]
    """Those of `client.send`."""


class SamplingPlan(NamedTuple):
    """How many requests are to be sent."""

    samples: int
    duration: float | None
    """Seconds of sending, instead of a number of samples."""
    interval: float | None
    concurrency: int

    @property
    def pause(self) -> float:
        """Seconds that each sender pauses between its requests."""
        return self.interval if self.interval is not None else (1.0 if self.duration else 0.0)

    @property
    def senders(self) -> int:
        """How many send at the same time."""
        return 1 if self.samples == 1 and self.duration is None else self.concurrency


class SamplingProgress:
    """How many samples are still to be taken, and when to tell about them."""

    def __init__(self, ctx: Context, plan: SamplingPlan, *, stop_at_failure: bool) -> None:
        """`stop_at_failure` if the first sample that fails is the last."""
        self._ctx = ctx
        self._left = plan.samples
        self._end = None if plan.duration is None else ctx.monotonic() + plan.duration
        self._stop_at_failure = stop_at_failure
        self._last_report = ctx.monotonic()

    def more(self, seen: Samples) -> bool:
        """Whether to take another one; it then counts as begun."""
        if seen.failures and self._stop_at_failure:
            return False
        if self._end is not None:
            return self._ctx.monotonic() < self._end
        self._left -= 1
        return self._left >= 0

    def tell(self, seen: Samples) -> None:
        """Every two seconds, how it looks."""
        if self._ctx.monotonic() - self._last_report > 2:
            self._last_report = self._ctx.monotonic()
            self._ctx.progress(f"{seen.taken} requests, {seen.failures} failed")


class Sampling(NamedTuple):
    """Requests to be sent until there are enough, and what was seen of them."""

    ctx: Context
    expect: Expect
    progress: SamplingProgress
    target: Target
    pause: float
    seen: Samples

    async def one(self, session: Any) -> None:
        """Send a request and note what came."""
        try:
            answer = await http_client.send(
                self.ctx, session, self.target.method, self.target.url, **self.target.options
            )
        except ActionError as error:
            self.seen.no_answer(error)
        else:
            self.seen.answer(answer, await self._judge(answer))

    async def _judge(self, answer: Response) -> list[str]:
        """What does not hold for an answer. A pattern that takes long keeps nobody from leaving."""
        if not self.expect.patterns():
            return http_expect.unmet(self.ctx, self.expect, answer)
        return await _on_a_thread(lambda: http_expect.unmet(self.ctx, self.expect, answer))

    async def sender(self, session: Any) -> None:
        """One after the other, until there are enough."""
        import asyncio

        while self.progress.more(self.seen):
            await self.one(session)
            self.progress.tell(self.seen)
            if self.pause:
                await asyncio.sleep(self.pause)

    def run(self, tls: Tls, senders: int) -> None:
        """So many senders at a time."""
        import asyncio

        async def work() -> None:
            async with http_client.client(self.ctx, tls, connections=senders) as session:
                await asyncio.gather(*(self.sender(session) for _ in range(senders)))

        http_client.run(self.ctx, work)

    def simulate(self) -> None:
        """In virtual time one sender is as good as many."""
        while self.progress.more(self.seen):
            try:
                answer = http_client.simulated(
                    self.ctx, self.target.method, self.target.url, **self.target.options
                )
            except ActionError as error:
                self.seen.no_answer(error)
            else:
                self.seen.answer(answer, http_expect.unmet(self.ctx, self.expect, answer))
            self.progress.tell(self.seen)
            if self.pause:
                self.ctx.sleep(self.pause)


async def _on_a_thread(function: Callable[[], T]) -> T:
    """What a function returns, called on a thread that nobody waits for who has to leave."""
    import asyncio

    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def tell(set_it: Callable[[Any], object], value: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits for it
            loop.call_soon_threadsafe(lambda: None if result.done() else set_it(value))

    def work() -> None:
        try:
            value = function()
        except BaseException as error:
            tell(result.set_exception, error)
        else:
            tell(result.set_result, value)

    threading.Thread(target=work, name="http-check", daemon=True).start()
    return await result
