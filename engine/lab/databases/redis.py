"""A stand-in for Redis: the few commands with which people and probes ask whether it lives.

Strings that expire, counters and `INFO`, over the real protocol; nothing is kept on disk.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from engine.lab.clock import CLOCK


class RedisError(Exception):
    """What the client is told after `-`."""


class Redis:
    """A server in this event loop."""

    def __init__(self) -> None:
        self._values: dict[bytes, tuple[bytes, float | None]] = {}
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._commands: dict[bytes, Callable[..., bytes]] = {
            b"PING": self._ping,
            b"ECHO": lambda text: _bulk(text),
            b"INFO": lambda *_: _bulk(b"# Server\r\nredis_version:7.0.0\r\nrole:master\r\n"),
            b"SET": self._set,
            b"GET": lambda key: _bulk(self._get(key)),
            b"DEL": self._delete,
            b"EXISTS": lambda *keys: _integer(sum(self._get(key) is not None for key in keys)),
            b"INCR": self._increase,
            b"DBSIZE": lambda: _integer(len(self._values)),
            b"FLUSHALL": self._flush,
            b"COMMAND": lambda *_: b"*0\r\n",
            b"CLIENT": lambda *_: b"+OK\r\n",
        }

    async def start(self, host: str, port: int) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._serve, host, port)

    async def stop(self) -> None:
        """Stop listening, and hang up."""
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            while words := await _read_command(reader):
                writer.write(self._answer(words))
                await writer.drain()
        except (OSError, ValueError, asyncio.IncompleteReadError):
            pass  # hung up, or spoke something else
        finally:
            self._writers.discard(writer)
            writer.close()

    def _answer(self, words: list[bytes]) -> bytes:
        command = self._commands.get(words[0].upper())
        if command is None:
            return f"-ERR unknown command '{words[0].decode(errors='replace')}'\r\n".encode()
        try:
            return command(*words[1:])
        except TypeError:
            return b"-ERR wrong number of arguments\r\n"
        except RedisError as error:
            return f"-{error}\r\n".encode()

    def _ping(self, text: bytes | None = None) -> bytes:
        return b"+PONG\r\n" if text is None else _bulk(text)

    def _get(self, key: bytes) -> bytes | None:
        value, expires = self._values.get(key, (None, None))
        if expires is not None and expires <= CLOCK.monotonic():
            del self._values[key]
            return None
        return value

    def _set(self, key: bytes, value: bytes, *options: bytes) -> bytes:
        expires = None
        if options and options[0].upper() in (b"EX", b"PX") and len(options) == 2:
            unit = 1.0 if options[0].upper() == b"EX" else 0.001
            expires = CLOCK.monotonic() + int(options[1]) * unit
        elif options:
            raise RedisError("ERR syntax error")
        self._values[key] = (value, expires)
        return b"+OK\r\n"

    def _delete(self, *keys: bytes) -> bytes:
        return _integer(sum(self._values.pop(key, None) is not None for key in keys))

    def _increase(self, key: bytes) -> bytes:
        try:
            number = int(self._get(key) or b"0") + 1
        except ValueError as error:
            raise RedisError("ERR value is not an integer or out of range") from error
        self._values[key] = (b"%d" % number, None)
        return _integer(number)

    def _flush(self, *_: bytes) -> bytes:
        self._values.clear()
        return b"+OK\r\n"


async def _read_command(reader: asyncio.StreamReader) -> list[bytes]:
    """The words of the next command; none at the end."""
    line = await reader.readline()
    if not line.startswith(b"*"):
        return line.split()  # typed by a person
    words = []
    for _ in range(int(line[1:])):
        length = int((await reader.readline())[1:])
        words.append((await reader.readexactly(length + 2))[:-2])
    return words


def _bulk(value: bytes | None) -> bytes:
    return b"$-1\r\n" if value is None else b"$%d\r\n%s\r\n" % (len(value), value)


def _integer(number: int) -> bytes:
    return b":%d\r\n" % number
