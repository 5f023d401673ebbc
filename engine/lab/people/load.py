"""The steady load: users with sessions who come in through both entrances at a fixed rate.

An open loop: requests are sent when they are due, however slow the answers are, and a latency
counts from when the request was due, so a stall shows as what it is to the users who arrive
during it. It runs in a process of its own, forked before the supervisor has an event loop, and
reports what it counted ten times a second.

Commands: `["begin"]`, `["rate", n]`, `["flush", token]`, `["acknowledged", token]`, `["stop"]`.
Events: `["ready"]`, `["slices", [...]]`, `["flushed", token]`, `["acknowledged", token, ranges]`,
`["failed", message]`.
"""

from __future__ import annotations

import asyncio
import gc
import random
import signal
import socket
from array import array
from collections import deque
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

import msgspec

from engine.lab.processes.channel import Channel
from engine.lab.wire import Connection, WireAnswer, WireError, as_json
from engine.production.counts import UNKNOWN, Slice, bucket, increase, ranges

_REPORT_SECONDS = 0.1
_TIMEOUT = 15.0
_CONNECTIONS = 400  # at each entrance; beyond that, requests that are due wait for one
_SIGN_INS_AT_ONCE = 8
_SATISFIED, _TOLERATED = 0.5, 2.0

# What users do: look at their session, move their workflow on, order, look at the agents.
_KINDS = ("session", "advance", "order", "agents")
_SHARES = (35, 30, 25, 10)


class LoadPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What load to make. `entrances` is name → (host, port)."""

    entrances: dict[str, tuple[str, int]]
    mesh_share: float
    rate: float
    users: int
    source: str
    """Names this load's orders in the database."""


@dataclass(slots=True)
class _User:
    name: str
    cookie: str = ""
    phase: int | None = None
    advancing: bool = False


class _Entrance:
    """A pool of kept connections to one front door."""

    def __init__(self, name: str, host: str, port: int) -> None:
        self.name = name
        self._host, self._port = host, port
        self._idle: list[Connection] = []
        self._waiting: deque[asyncio.Future[Connection]] = deque()
        self._open = 0

    async def take(self) -> Connection:
        if self._idle:
            return self._idle.pop()
        if self._open < _CONNECTIONS:
            self._open += 1
            return Connection(self._host, self._port)
        turn: asyncio.Future[Connection] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        return await turn

    def give_back(self, connection: Connection) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return
        self._idle.append(connection)


class Load:
    """The load of one lab."""

    def __init__(self, plan: LoadPlan) -> None:
        self._plan = plan
        self._rate = plan.rate
        self._users = [_User(f"user-{n}") for n in range(plan.users)]
        self._entrances = [_Entrance(name, *place) for name, place in plan.entrances.items()]
        self._random = random.Random(plan.source)
        self._slices: dict[tuple[str, str], Slice] = {}
        self._acknowledged = array("Q")
        self._sequence = 0
        self._turn = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._begun = asyncio.Event()
        self._stopped = asyncio.Event()
        self._channel: Channel | None = None
        self._due = 0.0

    async def run(self, end: socket.socket) -> None:
        """When told to begin: sign everyone in, then send requests until told to stop."""
        loop = asyncio.get_running_loop()
        self._channel = await Channel.on(end, self._obey, self._stop)
        loop.add_signal_handler(signal.SIGTERM, self._stop)
        await self._begun.wait()
        if self._stopped.is_set():
            return
        try:
            await self._sign_everyone_in()
        except (WireError, TimeoutError, LookupError) as error:
            self._send("failed", f"the load's users cannot sign in: {error}")
            return
        self._send("ready")
        self._due = loop.time()
        self._tick()
        while not self._stopped.is_set():
            await asyncio.sleep(_REPORT_SECONDS)
            self._report()
        self._report()

    # -- pacing ----------------------------------------------------------------------------

    def _tick(self) -> None:
        """Send what is due, and come back when the next is."""
        if self._stopped.is_set():
            return
        loop = asyncio.get_running_loop()
        now = loop.time()
        while self._due <= now and self._rate > 0:
            self._begin(self._request(self._due))
            self._due += 1 / self._rate
        loop.call_at(self._due if self._rate > 0 else now + _REPORT_SECONDS, self._tick)

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _request(self, due: float) -> None:
        self._turn = (self._turn + 1) % len(self._users)
        user = self._users[self._turn]
        entrance = self._entrances[self._random.random() < self._plan.mesh_share]
        kind = self._random.choices(_KINDS, _SHARES)[0]
        if kind == "advance" and user.advancing:
            kind = "session"  # one step at a time, so that its outcome can be foretold
        await getattr(self, f"_{kind}")(user, entrance, due)

    # -- what users do ---------------------------------------------------------------------

    async def _session(self, user: _User, entrance: _Entrance, due: float) -> None:
        answer, counted = await self._ask(user, entrance, due, "GET", "/api/v1/session")
        if answer is not None and answer.status == 200 and as_json(answer).get("user") != user.name:
            self._lose_session(user, counted)

    async def _agents(self, user: _User, entrance: _Entrance, due: float) -> None:
        await self._ask(user, entrance, due, "GET", "/api/v1/agents")

    async def _order(self, user: _User, entrance: _Entrance, due: float) -> None:
        self._sequence += 1
        seq = self._sequence
        body = {"source": self._plan.source, "seq": seq, "amount": 1 + seq % 100}
        answer, counted = await self._ask(user, entrance, due, "POST", "/api/v1/orders", body)
        if answer is not None and answer.status == 201:
            counted.writes += 1
            self._acknowledged.append(seq)

    async def _advance(self, user: _User, entrance: _Entrance, due: float) -> None:
        user.advancing = True
        path, body = "/api/v1/workflow/advance", {"workflow": user.name}
        answer, counted = await self._ask(user, entrance, due, "POST", path, body)
        user.advancing = False
        if answer is not None and answer.header(b"x-ce-paused"):
            return
        counted.workflows += 1
        if answer is None or answer.status != 200:
            counted.workflow_errors += 1
            user.phase = None
            return
        phase = as_json(answer).get("phase")
        if user.phase is not None and phase != (user.phase + 1) % 8:
            counted.workflow_jumps += 1
        user.phase = phase

    # -- asking and counting ---------------------------------------------------------------

    async def _ask(
        self,
        user: _User,
        entrance: _Entrance,
        due: float,
        method: str,
        path: str,
        body: Any = None,
    ) -> tuple[WireAnswer | None, Slice]:
        """Send one request of a user and count its outcome; the answer, and where it counts."""
        connection = await entrance.take()
        answer, reason = None, ""
        try:
            answer = await self._exchange(connection, method, path, user.cookie, body)
        except WireError as error:
            reason = str(error)
        except TimeoutError:
            reason = f"no answer within {_TIMEOUT:g} s"
            connection.close()
        finally:
            entrance.give_back(connection)
        took = asyncio.get_running_loop().time() - due
        version = answer.header(b"x-ce-version") if answer is not None else ""
        counted = self._slice(entrance.name, version or UNKNOWN)
        self._count(counted, answer, reason, took)
        if answer is not None and answer.status == 401:
            self._lose_session(user, counted)
        return answer, counted

    async def _exchange(
        self, connection: Connection, method: str, path: str, cookie: str, body: Any
    ) -> WireAnswer:
        headers = f"Cookie: claude-session={cookie}\r\n" if cookie else ""
        content = msgspec.json.encode(body) if body is not None else b""
        async with asyncio.timeout(_TIMEOUT):
            return await connection.request(method, path, headers=headers, body=content)

    def _count(self, counted: Slice, answer: WireAnswer | None, reason: str, took: float) -> None:
        counted.requests += 1
        if answer is None:
            increase(counted.failures, reason)
            return
        increase(counted.latencies, bucket(took))
        counted.bytes += len(answer.head) + len(answer.body)
        if answer.header(b"x-ce-paused"):
            counted.paused += 1
            return
        if answer.status >= 400:
            error = as_json(answer).get("error") or "no pod answered"
            increase(counted.failures, f"{answer.status} {error}")
            counted.agent_failures += error == "agent_coordination_failed"
        elif took <= _SATISFIED:
            counted.satisfied += 1
        elif took <= _TOLERATED:
            counted.satisfied += 0.5

    def _slice(self, entrance: str, version: str) -> Slice:
        counted = self._slices.get((entrance, version))
        if counted is None:
            counted = self._slices[entrance, version] = Slice(entrance, version)
        return counted

    # -- sessions --------------------------------------------------------------------------

    async def _sign_everyone_in(self) -> None:
        waiting = list(self._users)

        async def sign_in_some() -> None:
            while waiting:
                await self._sign_in(waiting.pop())

        await asyncio.gather(*(sign_in_some() for _ in range(_SIGN_INS_AT_ONCE)))

    async def _sign_in(self, user: _User) -> None:
        connection = await self._entrances[0].take()
        try:
            path = "/api/v1/sessions"
            answer = await self._exchange(connection, "POST", path, "", {"user": user.name})
        finally:
            self._entrances[0].give_back(connection)
        if answer.status != 201:
            raise LookupError(f"status {answer.status}")
        user.cookie = as_json(answer)["session"]

    def _lose_session(self, user: _User, counted: Slice) -> None:
        counted.sessions_lost += 1
        user.phase = None
        self._begin(self._sign_in_again(user))

    async def _sign_in_again(self, user: _User) -> None:
        try:
            await self._sign_in(user)
        except (WireError, TimeoutError, LookupError):
            return  # the next answer of 401 brings us back here

    # -- the channel -----------------------------------------------------------------------

    def _obey(self, command: list[Any]) -> None:
        match command:
            case ["begin"]:
                self._begun.set()
            case ["rate", rate]:
                self._rate = float(rate)
                self._due = asyncio.get_running_loop().time()
            case ["flush", token]:
                self._report()
                self._send("flushed", token)
            case ["acknowledged", token]:
                self._report()
                self._send("acknowledged", token, ranges(self._acknowledged))
            case ["stop"]:
                self._stop()

    def _stop(self) -> None:
        self._stopped.set()
        self._begun.set()

    def _report(self) -> None:
        if self._slices:
            self._send("slices", list(self._slices.values()))
            # A request in flight counts into the slice it fetches when it is answered.
            self._slices = {}

    def _send(self, *event: Any) -> None:
        if self._channel is not None:
            self._channel.send(event)


def main(end: socket.socket, plan: LoadPlan) -> int:
    """What the load's process runs."""
    gc.freeze()
    asyncio.run(Load(plan).run(end))
    return 0
