"""The supervisor's control socket: one JSON question a connection, one JSON answer.

The question is `{"op": …, …}`; the answer `{"result": …}` or `{"error": …, "hint": …}`. The socket
lies in a folder that only its owner can enter.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from engine.errors import CeRunError
from engine.lab.layout import bind_unix

Operation = Callable[..., Awaitable[Any]]
_log = logging.getLogger(__name__)


class ControlServer:
    """Answers on a unix socket with the operations that it was given."""

    def __init__(self, operations: dict[str, Operation]) -> None:
        self._operations = operations
        self._server: asyncio.Server | None = None

    async def start(self, path: Path) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._serve, sock=bind_unix(path))

    async def stop(self) -> None:
        """Stop listening; questions that are being answered go on."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            line = await reader.readline()
            if line:
                writer.write(msgspec.json.encode(await self._answer(line)) + b"\n")
                await writer.drain()
        except OSError:
            pass  # the client did not wait for its answer
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            question = msgspec.json.decode(line, type=dict[str, Any])
            operation = self._operations[question.pop("op")]
            return {"result": await operation(**question)}
        except CeRunError as error:
            return {"error": error.message, "hint": error.hint}
        except (msgspec.MsgspecError, ValueError) as error:
            return {"error": str(error), "hint": ""}
        except (KeyError, TypeError) as error:
            return {"error": f"the lab does not understand this: {error}", "hint": ""}
        except Exception as error:
            _log.exception("an operation failed")
            return {"error": f"{type(error).__name__}: {error}", "hint": "see supervisor.log"}
