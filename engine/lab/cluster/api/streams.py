"""Inside the containers: logs and commands."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime

import msgspec
from aiohttp import WSCloseCode, WSMsgType, web

from engine.clock import utc
from engine.lab.cluster.api.exchange import Exchange
from engine.lab.cluster.api.query import check_log_options
from engine.lab.cluster.node.runtime import ExecResult, NodeRuntime
from engine.production.cluster.api import Api
from engine.production.cluster.objects.common import Obj, parse_time
from engine.production.cluster.objects.refusals import ApiError, bad_request

_LINE_TIME = re.compile(rb"^(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)) ")
_FOLLOW_EVERY = 0.1
_QUIET = 0.3
_STDIN, _STDOUT, _STDERR, _ERROR, _RESIZE = range(5)
_CLOSE = 255
_PROTOCOLS = ("v5.channel.k8s.io", "v4.channel.k8s.io")


class Streams:
    """Serves /log and /exec of pods from the runtime."""

    def __init__(self, api: Api, runtime: NodeRuntime) -> None:
        self._api = api
        self._runtime = runtime
        self._closing = asyncio.Event()

    def close(self) -> None:
        self._closing.set()

    def _pod(self, namespace: str, name: str) -> Obj:
        return self._api.get(self._api.catalog["pods"], namespace, name)

    def _container(self, pod: Obj, name: str) -> str:
        """The container that is meant; it must be named when there are several."""
        names = [container["name"] for container in pod["spec"]["containers"]]
        pod_name = pod["metadata"]["name"]
        if not name and len(names) > 1:
            raise bad_request(
                f"a container name must be specified for pod {pod_name}, choose one of: "
                f"[{' '.join(names)}]"
            )
        if name and name not in names:
            raise bad_request(f"container {name} is not valid for pod {pod_name}")
        return name or str(names[0])

    # -- logs ----------------------------------------------------------------------------

    async def logs(self, exchange: Exchange, namespace: str, name: str) -> web.StreamResponse:
        """GET .../log with container, previous, follow, tailLines, sinceSeconds, ..."""
        pod = self._pod(namespace, name)
        check_log_options(exchange, name)
        container = self._container(pod, exchange.query.get("container", ""))
        previous = exchange.flag("previous")
        _check_started(pod, container, previous=previous)
        uid = pod["metadata"]["uid"]
        written = await self._runtime.logs(uid, container, previous=previous)
        text = self._selected(written, exchange)
        if not exchange.flag("follow"):
            return web.Response(body=text, content_type="text/plain")
        response = web.StreamResponse(headers={"Content-Type": "text/plain"})
        response.enable_chunked_encoding()
        await response.prepare(exchange.request)
        exchange.record(200)
        if text:
            await response.write(text)
        await self._follow(exchange, response, pod, container, len(written))
        await response.write_eof()
        return response

    async def _follow(
        self,
        exchange: Exchange,
        response: web.StreamResponse,
        pod: Obj,
        container: str,
        position: int,
    ) -> None:
        """Send what is appended until the container ends (the runtime tells nothing by itself)."""
        uid, name = pod["metadata"]["uid"], pod["metadata"]["name"]
        while not self._closing.is_set():
            current = self._api.store.get("pods", pod["metadata"]["namespace"], name)
            over = current is None or current["metadata"]["uid"] != uid or _has_ended(current)
            written = await self._runtime.logs(uid, container)
            end = written.rfind(b"\n") + 1 if not over else len(written)
            if end > position:
                lines = written[position:end].splitlines(keepends=True)
                await response.write(self._dressed(lines, exchange))
                position = end
            if over:
                return
            await asyncio.sleep(_FOLLOW_EVERY)

    def _selected(self, text: bytes, exchange: Exchange) -> bytes:
        """The lines of a log that the request asks for."""
        lines = text.splitlines(keepends=True)
        since = self._since(exchange)
        if since is not None:
            lines = [line for line in lines if _is_after(line, since)]
        tail = exchange.integer("tailLines")
        if tail is not None:
            lines = lines[-tail:] if tail > 0 else []
        chosen = self._dressed(lines, exchange)
        limit = exchange.integer("limitBytes")
        return chosen if limit is None else chosen[:limit]

    def _since(self, exchange: Exchange) -> datetime | None:
        seconds = exchange.integer("sinceSeconds")
        if seconds is not None:
            return utc(max(0.0, self._api.timeline.now() - seconds))
        text = exchange.query.get("sinceTime")
        try:
            return parse_time(text) if text else None
        except ValueError:
            raise bad_request(f'parsing time "{text}": not a time as of RFC 3339') from None

    def _dressed(self, lines: list[bytes], exchange: Exchange) -> bytes:
        """Lines with or without their time, as the client wishes."""
        if exchange.flag("timestamps"):
            now = self._api.timestamp().encode() + b" "
            return b"".join(line if _LINE_TIME.match(line) else now + line for line in lines)
        return b"".join(_LINE_TIME.sub(b"", line, count=1) for line in lines)

    # -- exec ----------------------------------------------------------------------------

    async def exec(self, exchange: Exchange, namespace: str, name: str) -> web.StreamResponse:
        """A command in a container, over a websocket (channel protocols v4 and v5)."""
        pod = self._pod(namespace, name)
        container = self._container(pod, exchange.query.get("container", ""))
        socket = web.WebSocketResponse(protocols=_PROTOCOLS)
        if not socket.can_prepare(exchange.request):
            raise bad_request("Upgrade request required")
        command = exchange.request.query.getall("command", [])
        if not command:
            raise bad_request("you must specify at least 1 command for the container")
        statuses = pod["status"].get("containerStatuses") or ()
        if not any(s["name"] == container and "running" in s["state"] for s in statuses):
            raise ApiError(500, "InternalError", f'container not found ("{container}")')
        await socket.prepare(exchange.request)
        exchange.record(101)
        stdin = await _read_stdin(socket) if exchange.flag("stdin") else None
        uid = pod["metadata"]["uid"]
        result = await self._runtime.exec(uid, container, list(command), stdin)
        await _send_result(socket, exchange, result)
        await socket.close(code=WSCloseCode.OK)
        # Both sides have said goodbye; a TLS farewell on top of it could hang on the client.
        if exchange.request.transport is not None:
            exchange.request.transport.abort()
        return socket


def _check_started(pod: Obj, container: str, *, previous: bool) -> None:
    """Refuse logs of a container that has never run."""
    name = pod["metadata"]["name"]
    statuses = pod["status"].get("containerStatuses") or ()
    status = next((s for s in statuses if s["name"] == container), None)
    if previous:
        if status is None or not status["lastState"]:
            raise bad_request(
                f'previous terminated container "{container}" in pod "{name}" not found'
            )
        return
    waiting = "ContainerCreating" if status is None else ""
    if status is not None and "waiting" in status["state"] and not status["lastState"]:
        waiting = status["state"]["waiting"]["reason"]
    if waiting in ("ErrImagePull", "ImagePullBackOff"):
        waiting = "trying and failing to pull image"
    if waiting:
        raise bad_request(f'container "{container}" in pod "{name}" is waiting to start: {waiting}')


def _has_ended(pod: Obj) -> bool:
    return pod["status"].get("phase") in ("Succeeded", "Failed")


def _is_after(line: bytes, since: datetime) -> bool:
    """A line without a time counts as recent: nobody can tell."""
    match = _LINE_TIME.match(line)
    return match is None or parse_time(match[1].decode()) >= since


async def _read_stdin(socket: web.WebSocketResponse) -> bytes:
    """Everything the client sends on stdin.

    Protocol v5 says when it ends. v4 cannot, so there a short silence after input counts as it.
    """
    closes = socket.ws_protocol == _PROTOCOLS[0]
    received = bytearray()
    while True:
        try:
            wait = None if closes or not received else _QUIET
            message = await asyncio.wait_for(socket.receive(), wait)
        except TimeoutError:
            return bytes(received)
        if message.type not in (WSMsgType.BINARY, WSMsgType.TEXT):
            return bytes(received)
        data = message.data.encode() if isinstance(message.data, str) else message.data
        if data[:1] == bytes([_CLOSE]):
            return bytes(received)
        if data[:1] == bytes([_STDIN]):
            received += data[1:]


async def _send_result(
    socket: web.WebSocketResponse, exchange: Exchange, result: ExecResult
) -> None:
    terminal = exchange.flag("tty")
    if result.stdout:
        await socket.send_bytes(bytes([_STDOUT]) + result.stdout)
    if result.stderr:
        channel = _STDOUT if terminal else _STDERR
        await socket.send_bytes(bytes([channel]) + result.stderr)
    await socket.send_bytes(bytes([_ERROR]) + msgspec.json.encode(_exit_status(result.exit_code)))


def _exit_status(code: int) -> Obj:
    if code == 0:
        return {"metadata": {}, "status": "Success"}
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"command terminated with exit code {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }
