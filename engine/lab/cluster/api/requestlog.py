"""Who asked what: every request that reached the server, for tests and for people afterwards.

A run of ce-run sends `X-CE-Run` and its fencing token `X-CE-Token` with each request; a test that
must prove that a preempted run sent nothing more looks here.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec

from engine.lab.clock import stamp


class RequestRecord(msgspec.Struct, frozen=True):
    """One request. `seq` counts from 1 in order of arrival, `time` is UTC (RFC 3339)."""

    seq: int
    time: str
    method: str
    path: str
    status: int
    run: str
    token: str
    user_agent: str


class RequestLog:
    """The newest `limit` requests in memory, and all of them in a JSONL file if one is given.

    Requests are recorded when their status is known: a watch when it begins, others at their end.
    """

    def __init__(self, path: Path | None = None, limit: int = 50_000) -> None:
        self._records: deque[RequestRecord] = deque(maxlen=limit)
        self._arrived = 0
        self._path = path
        self._file: IO[bytes] | None = None

    def open(self) -> None:
        if self._path is not None:
            self._file = self._path.open("ab", buffering=0)

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def arrival(self) -> tuple[int, str]:
        """The number and time of a request that has just arrived."""
        self._arrived += 1
        return self._arrived, stamp()

    def add(self, record: RequestRecord) -> None:
        self._records.append(record)
        if self._file is not None:
            self._file.write(msgspec.json.encode(record) + b"\n")

    def __iter__(self) -> Iterator[RequestRecord]:
        return iter(tuple(self._records))

    def __len__(self) -> int:
        return len(self._records)

    def of_run(self, run: str) -> list[RequestRecord]:
        """The requests that carried this run's name."""
        return [record for record in self._records if record.run == run]
