"""Messages between the supervisor and its forked children, over a pair of connected sockets.

Each side sends JSON values, one a line. Both ends die together: a child that reads the end of
its channel has lost its lab and exits.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

_ENCODER = msgspec.json.Encoder()
_DECODER = msgspec.json.Decoder()


def pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)


def encode(message: Any) -> bytes:
    """One message, ready to be sent."""
    return _ENCODER.encode(message) + b"\n"


class Splitter:
    """Puts arriving bytes together to messages."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> Iterator[Any]:
        """The messages that are whole now."""
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            yield _DECODER.decode(line)


class Channel(asyncio.Protocol):
    """An end of a channel in an event loop: calls `receive` a message, `lost` at the end."""

    def __init__(self, receive: Callable[[Any], None], lost: Callable[[], None]) -> None:
        self._receive = receive
        self._lost = lost
        self._splitter = Splitter()
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def on(
        cls, end: socket.socket, receive: Callable[[Any], None], lost: Callable[[], None]
    ) -> Channel:
        """A channel on this end of a pair."""
        end.setblocking(False)
        loop = asyncio.get_running_loop()
        _, channel = await loop.create_connection(lambda: cls(receive, lost), sock=end)
        return channel

    def send(self, message: Any) -> None:
        """Send a message; nothing happens when the other end is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(encode(message))

    def close(self) -> None:
        """Close this end."""
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        for message in self._splitter.feed(data):
            self._receive(message)

    def connection_lost(self, error: Exception | None) -> None:
        self._lost()
