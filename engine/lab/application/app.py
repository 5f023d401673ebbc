"""The application in a pod: Claude Enhancer as far as a deployment can tell.

It serves the endpoints that probes, users and monitoring ask for, on the ports of the real one,
keeps sessions in PostgreSQL so that any pod of any version can go on with them, and obeys the
faults that the lab puts on it. `main` is what a process forked by the zygote runs.

Users' requests (`/api/…`) are what faults make slow or wrong; health and metrics stay honest.
A paused write is answered 503 with `Retry-After` and `X-CE-Paused: writes`.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec
from aiohttp import web

from engine.lab.application.pod import PodSpec, PodUpdate
from engine.lab.application.state import AppState
from engine.lab.application.store import SessionUnknown, UserData, WritesPaused
from engine.lab.clock import CLOCK, stamp
from engine.lab.processes.channel import Splitter

COOKIE = "claude-session"
SESSION_SECONDS = 3600


class SignIn(msgspec.Struct):
    """What opens a session."""

    user: str = "guest"


class Order(msgspec.Struct):
    """What a user orders; the sender numbers it, so that it can be sent again safely."""

    seq: int
    source: str = ""
    amount: int = 1


class Advance(msgspec.Struct):
    """Which workflow is to move on."""

    workflow: str


_Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
_CHECK_SECONDS = 0.25  # how long the answer to "is the database there?" is good for
_LOOK_SECONDS = 4.0  # for that question; less than a probe waits
_CHECK_TIMEOUT = 3.0
_LINGER = 0.05  # for a request that the balancer sent just before it was told to stop
_GROWTH_STEP = 0.1
_CRASH_DELAY = 0.1  # from the start of a pod that is to crash until it does


class App:
    """One pod: its HTTP servers and the tasks behind them."""

    def __init__(self, spec: PodSpec) -> None:
        self.state = AppState(spec)
        self.store = UserData(spec.dsn, spec.version, spec.name)
        self._ending = asyncio.Event()
        self._checked_at = 0.0
        self._checks = {"database": False, "redis": False}
        self._checking = asyncio.Lock()
        self._growth: asyncio.Task[None] | None = None

    # -- life ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Serve until `end` is called, then finish what is in flight."""
        spec = self.state.spec
        runners = [await self._serve(self._routes(), [8080])]
        runners.append(await self._serve(self._metrics_routes(), [9090, 9091, 9092]))
        self.state.move_to(await self.store.latest_phase())
        say("INFO", f"version {spec.version} serves, {len(self.state.agents)} agents registered")
        await self._ending.wait()
        self.state.draining = True
        await asyncio.sleep(_LINGER)
        for runner in runners:
            await runner.cleanup()
        await self.store.close()
        say("INFO", "stopped")

    def end(self) -> None:
        """Begin to stop."""
        say("INFO", "asked to stop, finishing what is in flight")
        self._ending.set()

    def follow(self, update: PodUpdate) -> None:
        """Obey an update: faults, paused writes, a changed configuration of agents."""
        before = self.state.update
        self.state.load_agents(update)
        if update.agents != before.agents:
            say("INFO", f"agent configuration reloaded: {len(self.state.agents)} agents")
        if update.fault.crash:
            crash()
        if update.fault.memory_growth and (self._growth is None or self._growth.done()):
            self._growth = asyncio.get_running_loop().create_task(self._leak())

    async def _leak(self) -> None:
        while rate := self.state.update.fault.memory_growth:
            self.state.grow(rate * _GROWTH_STEP)
            await asyncio.sleep(_GROWTH_STEP)

    async def _serve(self, app: web.Application, ports: list[int]) -> web.AppRunner:
        # The balancer keeps connections for as long as it likes: who closes first may lose a
        # request, so it must not be the pod.
        runner = web.AppRunner(
            app, access_log=None, handle_signals=False, keepalive_timeout=7200, shutdown_timeout=10
        )
        await runner.setup()
        for port in ports:
            spec = self.state.spec
            await web.TCPSite(runner, spec.address, spec.ports[port], backlog=512).start()
        return runner

    # -- routes ----------------------------------------------------------------------------

    def _routes(self) -> web.Application:
        app = web.Application(client_max_size=1024 * 1024)
        add = app.router.add_route
        add("GET", "/", self.live)
        add("GET", "/health", self.live)
        add("GET", "/health/live", self.live)
        add("GET", "/health/ready", self.ready)
        add("GET", "/ready", self.ready)
        add("GET", "/health/startup", self.startup)
        add("POST", "/api/v1/sessions", self._for_users(self.sign_in))
        add("GET", "/api/v1/session", self._for_users(self.session))
        add("GET", "/api/v1/agents", self._for_users(self.agents))
        add("POST", "/api/v1/orders", self._for_users(self.order))
        add("POST", "/api/v1/workflow/advance", self._for_users(self.advance))
        return app

    def _metrics_routes(self) -> web.Application:
        app = web.Application()
        for path, group in (
            ("/metrics", "all"),
            ("/metrics/agents", "agents"),
            ("/metrics/workflow", "workflow"),
        ):
            app.router.add_get(path, self._metrics(group))
        return app

    def _metrics(self, group: str) -> _Handler:
        async def handler(request: web.Request) -> web.Response:
            return web.Response(text=self.state.metrics(group))

        return handler

    def _for_users(self, handler: _Handler) -> _Handler:
        """A handler under the pod's faults, its failures told in the application's own words."""

        async def guarded(request: web.Request) -> web.StreamResponse:
            fault = self.state.update.fault
            self.state.counts["requests"] += 1
            if fault.latency:
                await asyncio.sleep(fault.latency)
            if fault.error_rate and random.random() < fault.error_rate:
                return self._failed("agent_failures", "agent_coordination_failed", request)
            try:
                return await handler(request)
            except SessionUnknown:
                return self._json({"error": "session_unknown"}, 401)
            except WritesPaused:
                return self._paused()
            except msgspec.MsgspecError as error:
                return self._json({"error": "bad_request", "message": str(error)}, 400)
            except Exception as error:
                say("ERROR", f"{type(error).__name__}: {error}".strip())
                return self._failed("errors_internal", "internal_error", request)

        return guarded

    # -- health ----------------------------------------------------------------------------

    async def live(self, request: web.Request) -> web.Response:
        """Whether the process lives."""
        return self._json({"status": "healthy", **self._identity()})

    async def ready(self, request: web.Request) -> web.Response:
        """Whether the pod wants traffic, and every check behind that."""
        checks = self.state.checks(**await self._look())
        ready = all(checks.values()) and not self.state.draining
        body = {
            "status": "ready" if ready else "not_ready",
            "ready_for_traffic": ready,
            "checks": checks,
            "agents": {"active": self.state.agents_active, "total": len(self.state.agents)},
            "writes": "paused" if self.state.update.writes_paused else "open",
            **self._identity(),
        }
        return self._json(body, 200 if ready else 503)

    async def startup(self, request: web.Request) -> web.Response:
        """Whether the start is complete."""
        loaded = len(self.state.agents) >= self.state.spec.agent_count
        parts = {"config": True, "agents": loaded, "workflow_engine": True, "hooks": True}
        body = {"status": "started" if loaded else "starting", **parts, **self._identity()}
        return self._json(body, 200 if loaded else 503)

    async def _look(self) -> dict[str, bool]:
        """Ask the database and Redis, at most a few times a second."""
        async with self._checking:
            if CLOCK.monotonic() - self._checked_at > _CHECK_SECONDS:
                database, redis = await asyncio.gather(
                    self.store.answers(_LOOK_SECONDS), self._redis()
                )
                self._checks = {"database": database, "redis": redis}
                self._checked_at = CLOCK.monotonic()
        return self._checks

    async def _redis(self) -> bool:
        spec = self.state.spec
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                reader, writer = await asyncio.open_connection(spec.redis_host, spec.redis_port)
                writer.write(b"*1\r\n$4\r\nPING\r\n")
                answer = await reader.readline()
                writer.close()
        except (OSError, TimeoutError):
            return False
        return answer == b"+PONG\r\n"

    # -- users' requests -------------------------------------------------------------------

    async def sign_in(self, request: web.Request) -> web.Response:
        """Open a session and hand out its cookie."""
        body = msgspec.json.decode(await request.read(), type=SignIn)
        if self.state.update.writes_paused:
            return self._paused()
        session = await self.store.sign_in(body.user)
        response = self._json({"session": session}, 201)
        response.set_cookie(COOKIE, session, max_age=SESSION_SECONDS, httponly=True)
        return response

    async def session(self, request: web.Request) -> web.Response:
        """Who is signed in."""
        session = await self.store.session(_cookie(request))
        return self._json({"user": session.user, "since_version": session.created_by_version})

    async def agents(self, request: web.Request) -> web.Response:
        """All agents and whether they are active."""
        return self._answer(self.state.agents_body, 200)

    async def order(self, request: web.Request) -> web.Response:
        """Write an order; 201 promises that it is committed."""
        body = msgspec.json.decode(await request.read(), type=Order)
        if self.state.update.writes_paused:
            return self._paused()
        order = await self.store.order(_cookie(request), body.source, body.seq, body.amount)
        return self._json({"id": order}, 201)

    async def advance(self, request: web.Request) -> web.Response:
        """Move the user's workflow to its next phase."""
        body = msgspec.json.decode(await request.read(), type=Advance)
        if self.state.update.writes_paused:
            return self._paused()
        rate = self.state.update.fault.workflow_error_rate
        if rate and random.random() < rate:
            return self._failed("workflow_errors", "workflow_failed", request)
        phase = await self.store.advance(_cookie(request), body.workflow)
        self.state.move_to(phase)
        return self._json({"phase": phase})

    # -- answers ---------------------------------------------------------------------------

    def _identity(self) -> dict[str, Any]:
        return {
            "version": self.state.spec.version,
            "timestamp": stamp().replace("+00:00", "Z"),
            "uptime": round(CLOCK.now() - self.state.started, 3),
        }

    def _failed(self, counter: str, error: str, request: web.Request) -> web.Response:
        if request.path.startswith("/api/v1/workflow") and counter == "agent_failures":
            self.state.counts["workflow_errors"] += 1
        self.state.counts[counter] += 1
        self.state.counts["errors"] += 1
        say("ERROR", f"{error.replace('_', ' ')}: {request.method} {request.path}")
        return self._json({"error": error}, 500)

    def _paused(self) -> web.Response:
        response = self._json({"error": "writes_paused"}, 503)
        response.headers["Retry-After"] = "1"
        response.headers["X-CE-Paused"] = "writes"
        return response

    def _json(self, body: Any, status: int = 200) -> web.Response:
        return self._answer(msgspec.json.encode(body), status)

    def _answer(self, body: bytes, status: int) -> web.Response:
        headers = {"X-CE-Version": self.state.spec.version, "Content-Type": "application/json"}
        return web.Response(body=body, status=status, headers=headers)


def _cookie(request: web.Request) -> str:
    session = request.cookies.get(COOKIE, "")
    if not session:
        raise SessionUnknown
    return session


def say(level: str, text: str) -> None:
    """A line of the pod's log."""
    print(f"{stamp().replace('+00:00', 'Z')} {level} {text}", flush=True)


def crash() -> None:
    """End as a process does that met what it cannot go on with."""
    say("FATAL", "agent coordination failed: unrecoverable state in the coordinator, exiting")
    os._exit(1)


def main(spec: PodSpec, updates: int) -> int:
    """Run the pod until it is told to stop; the exit status.

    `updates` is a descriptor from which PodUpdates are read; its end is the end of the lab.
    """
    os.chdir(spec.folder)
    Path(spec.folder, ".phase").mkdir(exist_ok=True)
    log = os.open(spec.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(log, sys.stdout.fileno())
    os.dup2(log, sys.stderr.fileno())
    os.close(log)
    asyncio.run(_run(spec, updates))
    return 0


async def _run(spec: PodSpec, updates: int) -> None:
    app = App(spec)
    loop = asyncio.get_running_loop()
    splitter = Splitter()

    def read() -> None:
        data = os.read(updates, 1 << 16)
        if not data:
            os._exit(0)
        for message in splitter.feed(data):
            app.follow(msgspec.convert(message, PodUpdate))

    loop.add_reader(updates, read)
    loop.add_signal_handler(signal.SIGTERM, app.end)
    if spec.update.fault.crash:
        loop.call_later(_CRASH_DELAY, crash)
    elif spec.update.fault.memory_growth:
        app.follow(spec.update)
    await app.run()
