"""A small HTTP/1.1 client over one kept connection, for everything in the lab that asks often.

Probes, scrapes and the steady load share two cores with all else, so this does only what they
need: one request at a time, bodies with a length, no redirects.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

_HEAD_END = b"\r\n\r\n"


class WireError(Exception):
    """No whole answer came: refused, closed, cut off or not HTTP."""


@dataclass(frozen=True, slots=True)
class WireAnswer:
    """One response. `head` is the raw status line and headers."""

    status: int
    head: bytes
    body: bytes

    def header(self, name: bytes) -> str:
        """The value of a header by its lower-case name; empty if it is absent."""
        return _find_header(self.head, name)


class Connection(asyncio.Protocol):
    """A kept connection; `request` opens it anew when it has been closed in between."""

    def __init__(self, host: str, port: int) -> None:
        self._host = host
        self._port = port
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[WireAnswer] | None = None
        self._buffer = b""

    async def request(
        self, method: str, path: str, *, headers: str = "", body: bytes = b""
    ) -> WireAnswer:
        """Send a request and wait for its answer.

        `headers` are whole lines, each ended by CR LF. Raises WireError when no whole answer
        comes; cancelling it closes the connection.
        """
        if self._transport is None or self._transport.is_closing():
            await self._open()
        assert self._transport is not None
        self._waiting = asyncio.get_running_loop().create_future()
        length = f"Content-Length: {len(body)}\r\n" if body or method == "POST" else ""
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\n{headers}{length}\r\n"
        )
        self._transport.write(head.encode() + body)
        try:
            return await self._waiting
        except asyncio.CancelledError:
            self.close()
            raise

    def close(self) -> None:
        """Close the connection; it may be used again."""
        if self._transport is not None:
            self._transport.abort()
            self._transport = None

    async def _open(self) -> None:
        self._buffer = b""
        loop = asyncio.get_running_loop()
        try:
            self._transport, _ = await loop.create_connection(lambda: self, self._host, self._port)
        except OSError as error:
            raise WireError(f"cannot connect: {error.strerror or error}") from error

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        end = self._buffer.find(_HEAD_END)
        if end < 0:
            return
        head = self._buffer[:end]
        try:
            status = int(head[9:12])
            length = int(_find_header(head, b"content-length") or 0)
        except ValueError:
            self._fail("not an HTTP answer")
            return
        start = end + len(_HEAD_END)
        if len(self._buffer) < start + length:
            return
        body, self._buffer = self._buffer[start : start + length], b""
        waiting, self._waiting = self._waiting, None
        if b"connection: close" in head.lower():
            self.close()
        if waiting is not None and not waiting.done():
            waiting.set_result(WireAnswer(status, head, body))

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        self._fail(f"connection closed{f': {error}' if error else ''}")

    def _fail(self, why: str) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_exception(WireError(why))
        self.close()


async def get(host: str, port: int, path: str, *, timeout: float) -> WireAnswer:
    """Ask once over a connection of its own. Raises WireError or TimeoutError."""
    connection = Connection(host, port)
    try:
        async with asyncio.timeout(timeout):
            return await connection.request("GET", path)
    finally:
        connection.close()


def _find_header(head: bytes, name: bytes) -> str:
    lowered = head.lower()
    start = lowered.find(b"\r\n" + name + b":")
    if start < 0:
        return ""
    start += len(name) + 3
    end = head.find(b"\r\n", start)
    return head[start : end if end >= 0 else None].strip().decode("latin-1")


def as_json(answer: WireAnswer) -> Any:
    """The body as JSON, or an empty dict if it is none."""
    import msgspec

    try:
        return msgspec.json.decode(answer.body)
    except msgspec.MsgspecError:
        return {}
