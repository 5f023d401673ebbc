"""Encoded answers (gzip, deflate, also in each other), decoded piece by piece.

A few kilobytes can hold gigabytes. So nothing is decoded beyond what is asked for, at no layer, and
a layer that gives much and leads to nothing is given up.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator

from engine.module_api import Failed

ACCEPTED = "gzip, deflate"
"""What servers are asked for."""

_PIECE = 65536
_MOST_LAYERS = 4
_MOST_WORK = 64 * 1024 * 1024
"""Bytes that the layers of one answer may give each other."""


class Decoder:
    """What an answer's ``Content-Encoding`` says, undone."""

    def __init__(self, named: str, encodings: str) -> None:
        """`named` is the server in messages; Failed for an encoding that it was not asked for."""
        names = [one.strip().lower() for one in encodings.split(",")]
        names = [one for one in names if one not in ("", "identity")]
        for name in names:
            if name not in ("gzip", "x-gzip", "deflate"):
                raise Failed(
                    f"{named} answered in the encoding {name[:40]!r}, which it was not asked for",
                    hint=f"it was told that {ACCEPTED} are understood",
                )
        if len(names) > _MOST_LAYERS:
            raise Failed(f"{named} encoded its answer {len(names)} times")
        self._named = named
        self._work = 0
        self._layers = [_Layer(name) for name in reversed(names)]

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What these bytes of the answer decode to, in pieces; Failed if they are damaged."""
        pieces: Iterator[bytes] = iter((data,))
        for layer in self._layers:
            pieces = self._through(layer, pieces)
        return pieces

    def _through(self, layer: _Layer, pieces: Iterator[bytes]) -> Iterator[bytes]:
        for piece in pieces:
            for decoded in layer.feed(piece):
                self._work += len(decoded)
                if self._work > _MOST_WORK:
                    raise Failed(f"the answer of {self._named} is one large hull around little")
                yield decoded

    def end(self) -> None:
        """Failed if the answer ended in the middle of what it encodes."""
        if any(layer.is_open for layer in self._layers):
            raise Failed(f"the answer of {self._named} ends in the middle of its encoding")


class _Layer:
    """One encoding."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._inner: Callable[[], zlib._Decompress] = (
            self._deflate if name == "deflate" else self._gzip
        )
        self._current: zlib._Decompress | None = None
        self._raw = False

    @property
    def is_open(self) -> bool:
        """Whether something began that has not ended."""
        return self._current is not None and not self._current.eof

    def _gzip(self) -> zlib._Decompress:
        return zlib.decompressobj(31)

    def _deflate(self) -> zlib._Decompress:
        return zlib.decompressobj(-15 if self._raw else 15)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What it decodes to; a gzip stream may have several members."""
        while data:
            if self._current is None or self._current.eof:
                if self._current is not None and (self._name == "deflate" or not data.strip(b"\0")):
                    return  # what follows the end is padding
                # Some servers say deflate and leave out the two bytes of zlib.
                self._raw = self._name == "deflate" and data[0] & 15 != 8
                self._current = self._inner()
            try:
                piece = self._current.decompress(data, _PIECE)
            except zlib.error as error:
                raise Failed(f"an answer is not what it says, {self._name}: {error}") from None
            data = self._current.unconsumed_tail or self._current.unused_data
            if piece:
                yield piece
            elif not data:
                return
