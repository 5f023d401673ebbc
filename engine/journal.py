"""The journal: one file, one event a line, written ahead and never changed.

A line is JSON: ``seq`` (from 1, without gaps), ``time`` (UTC, microseconds), ``v`` (schema
version), ``event`` (with its ``type``) and last ``crc`` (CRC-32 of everything before it, eight
hex digits). `Journal.append` only collects; `Journal.sync` writes what was collected in one
piece and has the disk confirm it. The runner syncs before every effect, so events that are
decided together share one confirmation.

After a crash the last line may be torn: it has no end, or blocks of it never reached the disk and
read as zeros. That line announced nothing that was carried out (else it would have been
confirmed), so it is cut off. Any other bad line means that somebody or something changed the
file, and is refused with its number.
"""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import msgspec

from engine.clock import utc
from engine.errors import JournalDamaged, JournalError
from engine.events import SCHEMA_VERSION, AnyEvent, Record
from engine.files import UNDECODABLE, open_file, read_file, sync_folder
from engine.text import as_json, writable
from engine.units import count

FILE_NAME = "journal.jsonl"


class _Line(msgspec.Struct, gc=False):
    seq: int
    time: datetime
    v: int
    event: AnyEvent


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(_Line)
_CRC_MARK = b',"crc":"'
_CRC_TAIL = len(_CRC_MARK) + 8 + 2


class Disk(Protocol):
    """The few things a journal needs of a file; tests put failing disks in its place."""

    def write(self, data: bytes) -> None:
        """Append all of it; OSError when that is impossible."""
        ...

    def sync(self) -> None:
        """Return once everything written is safe from a power cut."""
        ...

    def size(self) -> int:
        """Bytes in the file."""
        ...

    def truncate(self, size: int) -> None:
        """Cut the file."""
        ...

    def check(self) -> None:
        """Raise JournalError when the file is no longer the one that was opened. Any thread."""
        ...

    def close(self) -> None:
        """Let go of the file."""
        ...


class FileDisk:
    """A real file, 0600, opened for appending. Raises JournalError when that is impossible.

    What is written waits for the disk, unless it is not to be `durable`: a run that changes nothing
    in the world announces nothing that a crash may not forget.
    """

    def __init__(self, path: Path, *, durable: bool = True) -> None:
        try:
            new = not path.exists()
            self._descriptor = open_file(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            if new and durable:
                sync_folder(path.parent)
        except OSError as error:
            raise _unwritable(error) from error
        self._path = path
        self._durable = durable
        self._end = self.size()

    def check(self) -> None:
        """Compare path against descriptor: what nobody finds any more would confirm nothing."""
        try:
            there = os.lstat(self._path)
        except OSError:
            there = None
        here = os.fstat(self._descriptor)
        if there is None or not os.path.samestat(there, here):
            raise JournalError(
                f"{self._path} was removed or replaced while the run was at work",
                hint="nothing more was started; put the journal back and `ce-run resume`, or look "
                "at what was done and start anew",
            )

    def _check_end(self) -> None:
        """What somebody else wrote or cut off has left a journal that nobody can read."""
        if self.size() != self._end:
            raise JournalError(
                f"{self._path} was changed by somebody else while the run was at work",
                hint="nothing more was started; put the journal back as it was and "
                "`ce-run resume`, or look at what was done and start anew",
            )

    def write(self, data: bytes) -> None:
        """Append, however many pieces the system makes of it."""
        self.check()
        self._check_end()
        self._end += len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    def sync(self) -> None:
        """``fdatasync``: the data and the file's new length, not its time stamps."""
        if self._durable:
            _sync_data(self._descriptor)

    def size(self) -> int:
        """Bytes in the file."""
        return os.fstat(self._descriptor).st_size

    def truncate(self, size: int) -> None:
        """Cut the file, and have that confirmed."""
        self._end = size
        os.ftruncate(self._descriptor, size)
        os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)


_sync_data = getattr(os, "fdatasync", os.fsync)  # macOS has none


def _unwritable(error: OSError) -> JournalError:
    return JournalError(
        f"the journal cannot be written: {error.strerror or error}",
        hint="nothing more was started; once the disk can be written to, `ce-run resume`",
    )


def encode(record: Record) -> bytes:
    """The line, with its line feed, that stands for a record."""
    return _encode(record.seq, utc(record.time), record.event)


def _encode(seq: int, time: datetime, event: AnyEvent) -> bytes:
    body = _encoder.encode(_Line(seq, time, SCHEMA_VERSION, event))[:-1]
    return b'%b,"crc":"%08x"}\n' % (body, zlib.crc32(body))


_UNWRITABLE = (UnicodeEncodeError, RecursionError, TypeError, OverflowError)


def _writable(value: Any) -> Any:
    """An event, or what is in it, as it can be written down."""
    if isinstance(value, msgspec.Struct):
        parts = {name: _writable(getattr(value, name)) for name in value.__struct_fields__}
        return msgspec.structs.replace(value, **parts)
    if isinstance(value, tuple):
        return tuple(_writable(each) for each in value)
    return writable(value) if isinstance(value, str) else as_json(value)


class Journal:
    """A journal that is being written, by one process."""

    def __init__(self, disk: Disk, seq: int = 0, cut: int = 0) -> None:
        """`seq` is the number of the last record that is in the file already; `cut` the bytes of a
        torn last line that were cut off."""
        self.confirmed = seq
        self.cut = cut
        self._disk = disk
        self._seq = seq
        self._collected: list[bytes] = []
        self._good = disk.size()
        self._broken: OSError | None = None

    def append(self, event: AnyEvent, now: float) -> Record:
        """The event as the next record; it is in the file after the next `sync`.

        What cannot be written (half a character in somebody's output) is replaced, in the file
        and in the record alike: a run must not end because of what it was told.
        """
        time = utc(now)
        try:
            line = _encode(self._seq + 1, time, event)
        except _UNWRITABLE:
            event = _writable(event)
            line = _encode(self._seq + 1, time, event)
        self._seq += 1
        self._collected.append(line)
        return Record(self._seq, time.timestamp(), event)

    @property
    def pending(self) -> bool:
        """Whether there are records that are not in the file yet."""
        return bool(self._collected)

    def sync(self) -> None:
        """Write what was collected and have the disk confirm it.

        Raises JournalError; then the file ends where it ended before, as far as the disk obeys,
        and this journal takes nothing more: what the disk holds is for the next reader to see.
        """
        if not self._collected:
            return
        if self._broken is not None:
            raise _unwritable(self._broken)
        data = b"".join(self._collected)
        try:
            self._disk.write(data)
            self._disk.sync()
        except OSError as error:
            self._broken = error
            with contextlib.suppress(OSError):  # else the next reader cuts the torn line off
                self._disk.truncate(self._good)
            raise _unwritable(error) from error
        self._collected.clear()
        self._good += len(data)
        self.confirmed = self._seq

    def check(self) -> None:
        """Raise JournalError when the journal is not where it was. Any thread may ask."""
        self._disk.check()

    def close(self) -> None:
        """Let go of the file without writing anything."""
        self._disk.close()


def read(path: Path) -> Iterator[Record]:
    """The records of a journal, without a torn last line.

    Raises JournalDamaged at the first line before the last that does not check out, and
    JournalError when the file cannot be read.
    """
    return (record for record, _ in _read_with_end(path))


def _read_with_end(path: Path) -> Iterator[tuple[Record, int]]:
    try:
        data = read_file(path)
    except OSError as error:
        raise JournalError(f"{path} cannot be read: {error.strerror or error}") from error
    return records_of(data, str(path))


def records_of(data: bytes, name: str) -> Iterator[tuple[Record, int]]:
    """The records in a journal's bytes, each with the position at which its line ends.

    `name` is what JournalDamaged calls the file.
    """
    position = 0
    number = 0
    while position < len(data):
        number += 1
        newline = data.find(b"\n", position)
        end = len(data) if newline < 0 else newline + 1
        line = data[position:newline] if newline >= 0 else data[position:]
        record = _check(line, number) if newline >= 0 else "it has no end"
        if isinstance(record, str):
            if _is_torn(line, newline >= 0, data[end:]):
                return
            raise JournalDamaged(name, number, record)
        yield record, end
        position = end


def _is_torn(line: bytes, ended: bool, rest: bytes) -> bool:
    """Whether a bad line can be the end of a write that was never confirmed."""
    return (not ended or b"\0" in line) and not rest.strip(b"\0\n")


def _check(line: bytes, number: int) -> Record | str:
    """The record in a line, or what is wrong with it."""
    body, crc = line[:-_CRC_TAIL], line[-_CRC_TAIL:]
    if not crc.startswith(_CRC_MARK) or not crc.endswith(b'"}'):
        return "it has no checksum"
    if b"%08x" % zlib.crc32(body) != crc[len(_CRC_MARK) : -2]:
        return "its checksum does not match"
    try:
        record = _decoder.decode(body + b"}")
    except UNDECODABLE as error:
        return f"it is not an event that this version knows: {error}"
    if record.v > SCHEMA_VERSION:
        return f"a newer ce-run wrote it (schema {record.v})"
    if record.seq != number:
        return f"record {number} is missing; this is record {record.seq}"
    return Record(record.seq, record.time.timestamp(), record.event)


def refuse_loss(path: Path, there: int, confirmed: int) -> None:
    """Raise JournalDamaged when fewer records are there than the disk had confirmed: what these
    announced was done, so they are no torn last line."""
    if there < confirmed:
        lost = count(confirmed - there, "record")
        reason = f"{lost} that the disk had confirmed can no longer be read"
        raise JournalDamaged(str(path), there + 1, reason)


def reopen(path: Path, confirmed: int = 0) -> tuple[list[Record], Journal]:
    """The records of a journal, at least those `confirmed`, and the journal to be continued.

    A torn last line is cut off. Only for the process that holds the run's lock.
    """
    records: list[Record] = []
    end = 0
    for record, position in _read_with_end(path):
        records.append(record)
        end = position
    refuse_loss(path, len(records), confirmed)
    disk = FileDisk(path)
    cut = disk.size() - end
    if cut > 0:
        try:
            disk.truncate(end)
        except OSError as error:
            disk.close()
            raise _unwritable(error) from error
    return records, Journal(disk, len(records), cut)
