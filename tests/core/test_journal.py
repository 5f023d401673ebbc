"""The journal: what is in it, what a crash leaves of it, and when it cannot be kept."""

from __future__ import annotations

import errno
import json
import os
import resource
import stat
import zlib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from engine import journal
from engine.clock import SystemClock
from engine.errors import JournalDamaged, JournalError, ResumeRefused
from engine.events import (
    SCHEMA_VERSION,
    AnyEvent,
    Failure,
    GateAnswered,
    Person,
    RunResumed,
    RunStarted,
    StepSkipped,
    TaskFinished,
    TaskStarted,
)
from engine.executor import Job
from engine.fold import CANCEL_GRACE
from engine.journal import FileDisk, Journal, encode, read, reopen
from engine.runner import Signal
from engine.session import Options, Surroundings, begin
from engine.store import RunInfo, append_event
from engine.store.files import FileStore
from tests.core import harness
from tests.core.harness import SOMEBODY, Act, Case, Killer, MemoryDisk, book, step

STARTED = RunStarted("run-1", "test.yml", "Test", "run", SOMEBODY, "1")
NOW = 1_800_000_000.25


def written(path: Path, *events: AnyEvent) -> Path:
    """A journal of these events."""
    journal = Journal(FileDisk(path))
    for number, event in enumerate(events):
        journal.append(event, NOW + number)
    journal.sync()
    journal.close()
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A journal of five records."""
    skipped = [StepSkipped(f"s{number}", "because") for number in range(4)]
    return written(tmp_path / "journal.jsonl", STARTED, *skipped)


# -- what is in it --------------------------------------------------------------------------------
def test_a_line_is_json_with_number_time_version_and_checksum(path: Path) -> None:
    lines = path.read_bytes().splitlines()
    assert len(lines) == 5
    for number, line in enumerate(lines, 1):
        found = json.loads(line)
        assert found["seq"] == number
        assert found["v"] == SCHEMA_VERSION
        time = datetime.fromisoformat(found["time"])
        assert time == datetime.fromtimestamp(NOW + number - 1, UTC)
        body = line[: line.rindex(b',"crc":')]
        assert found["crc"] == f"{zlib.crc32(body):08x}"
    assert json.loads(lines[0])["event"]["type"] == "run_started"


def test_what_was_written_is_read_again(path: Path) -> None:
    records = list(read(path))
    assert [record.seq for record in records] == [1, 2, 3, 4, 5]
    assert records[0].event == STARTED
    assert records[2].time == NOW + 2


def test_the_record_that_append_gives_is_the_one_that_is_read(tmp_path: Path) -> None:
    journal = Journal(FileDisk(tmp_path / "j"))
    given = journal.append(
        TaskFinished("ä/b", "succeeded", data={"n": [1, 2.5, None, "\n\0"]}),
        1_800_000_000.123456789,
    )
    journal.sync()
    assert list(read(tmp_path / "j")) == [given]


def test_only_its_owner_may_read_it(path: Path) -> None:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_nothing_is_written_before_it_is_synced_and_then_all_at_once() -> None:
    disk = MemoryDisk()
    journal = Journal(disk)
    journal.append(STARTED, NOW)
    journal.append(StepSkipped("a", "b"), NOW)
    assert disk.size() == 0
    assert journal.pending
    journal.sync()
    assert disk.safe.count(b"\n") == 2
    assert not journal.pending


def test_a_journal_is_continued_where_it_ended(path: Path) -> None:
    records, journal = reopen(path)
    journal.append(StepSkipped("more", ""), NOW)
    journal.sync()
    assert [record.seq for record in read(path)] == [1, 2, 3, 4, 5, 6]
    assert len(records) == 5


# -- what a crash leaves --------------------------------------------------------------------------
def test_a_torn_last_line_is_cut_off_wherever_it_is_torn(path: Path) -> None:
    whole = path.read_bytes()
    start = whole[:-1].rindex(b"\n") + 1
    for end in range(start, len(whole)):
        path.write_bytes(whole[:end])
        records, journal = reopen(path)
        journal.close()
        assert len(records) == 4
        assert path.read_bytes() == whole[:start]


@pytest.mark.parametrize("tail", [b"\0" * 100, b"\0" * 99 + b"\n", b'{"seq":6\0\0\0\0\n\0\0', b"{"])
def test_blocks_that_never_reached_the_disk_are_cut_off(path: Path, tail: bytes) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    records, journal = reopen(path)
    journal.append(StepSkipped("more", ""), NOW)
    journal.sync()
    assert len(records) == 5
    assert len(list(read(path))) == 6


def test_reading_repairs_nothing(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"torn")
    assert len(list(read(path))) == 5
    assert path.read_bytes().endswith(b"torn")


def test_damage_anywhere_else_is_refused_with_its_line(path: Path) -> None:
    whole = path.read_bytes()
    lines = whole.splitlines(keepends=True)
    position = 0
    for number, line in enumerate(lines, 1):
        spoilt = bytearray(whole)
        spoilt[position + len(line) // 2] ^= 1
        path.write_bytes(bytes(spoilt))
        with pytest.raises(JournalDamaged) as caught:
            reopen(path)
        assert caught.value.line == number
        assert str(caught.value).startswith(f"{path}:{number}: ")
        assert path.read_bytes() == bytes(spoilt), "it is evidence: nobody touches it"
        position += len(line)


def test_a_line_that_is_missing_repeated_or_moved_is_refused(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    for wrong, line in (
        ([lines[0], *lines[2:]], 2),
        ([*lines[:3], *lines[2:]], 4),
        ([lines[1], lines[0], *lines[2:]], 1),
    ):
        path.write_bytes(b"".join(wrong))
        with pytest.raises(JournalDamaged, match="this is record") as caught:
            list(read(path))
        assert caught.value.line == line


def test_what_a_newer_version_wrote_is_refused_even_at_the_end(path: Path) -> None:
    body = path.read_bytes().splitlines()[-1]
    newer = (
        body[: body.rindex(b',"crc"')].replace(b'"v":1', b'"v":99').replace(b'"seq":5', b'"seq":6')
    )
    line = newer + b',"crc":"%08x"}\n' % zlib.crc32(newer)
    path.write_bytes(path.read_bytes() + line)
    with pytest.raises(JournalDamaged, match="newer ce-run") as caught:
        reopen(path)
    assert caught.value.line == 6


def test_an_unknown_event_is_refused(path: Path) -> None:
    line = encode(next(iter(read(path)))).replace(b'"seq":1', b'"seq":6')
    body = line[: line.rindex(b',"crc"')].replace(b'"run_started"', b'"run_flown"')
    path.write_bytes(path.read_bytes() + body + b',"crc":"%08x"}\n' % zlib.crc32(body))
    with pytest.raises(JournalDamaged, match="not an event that this version knows"):
        reopen(path)


def test_a_journal_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="cannot be read"):
        list(read(tmp_path / "none"))


def test_an_empty_journal_has_no_records(tmp_path: Path) -> None:
    (tmp_path / "j").write_bytes(b"")
    assert list(read(tmp_path / "j")) == []


def nested(levels: int) -> dict[str, Any]:
    """Mappings in mappings."""
    value: dict[str, Any] = {}
    for _ in range(levels):
        value = {"in": value}
    return value


@pytest.mark.parametrize(
    "event",
    [
        TaskFinished("a", "succeeded", data={"half": "\ud83d", "\udc80": 1}),
        TaskFinished("a", "succeeded", data=nested(5000)),
        TaskFinished("a", "succeeded", data={"odd": {(1, 2): {3}}}),
        TaskFinished(
            "a", "failed", failure=Failure("failed", "oh \udc80", "a", evidence=("\udc81",))
        ),
        RunResumed(Person("n\udc80", "h"), "1"),
    ],
    ids=["half a character", "too deep", "no JSON", "in a failure", "in a name"],
)
def test_what_cannot_be_written_is_replaced_and_the_run_has_what_the_journal_has(
    tmp_path: Path, event: AnyEvent
) -> None:
    journal = Journal(FileDisk(tmp_path / "j"))
    record = journal.append(event, NOW)
    journal.sync()
    assert list(read(tmp_path / "j")) == [record]


# -- disks that fail ------------------------------------------------------------------------------
class FullDisk(MemoryDisk):
    """Takes so many bytes, then a part of a write, then no more."""

    def __init__(self, room: int, data: bytes = b"") -> None:
        super().__init__(data)
        self.room = room
        self.cut = 0

    def write(self, data: bytes) -> None:
        """As much as there is room for."""
        taken = data[: max(0, self.room)]
        self.room -= len(data)
        super().write(taken)
        if len(taken) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def check(self) -> None:
        """Nobody else has it."""

    def truncate(self, size: int) -> None:
        """Works on a full disk, too."""
        self.cut += 1
        super().truncate(size)


class DeadDisk(MemoryDisk):
    """Its cache takes what it is given; nothing reaches the plate."""

    def sync(self) -> None:
        """Fail as a broken disk does."""
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def test_a_full_disk_leaves_whole_lines_and_takes_nothing_more() -> None:
    disk = FullDisk(1000)
    journal = Journal(disk)

    def fill() -> None:
        for number in range(100):
            journal.append(StepSkipped(f"s{number}", "because"), NOW)
            journal.sync()

    with pytest.raises(JournalError, match="No space left") as caught:
        fill()
    assert caught.value.exit_status == 3
    assert "resume" in caught.value.hint
    left = disk.safe + disk.loose
    assert left.endswith(b"\n")
    assert disk.cut == 1
    disk.room = 10_000
    with pytest.raises(JournalError):
        journal.sync()
    assert disk.safe + disk.loose == left, "nobody knows what the disk has done with the rest"


def test_a_disk_that_cannot_confirm_is_an_error() -> None:
    journal = Journal(DeadDisk())
    journal.append(STARTED, NOW)
    with pytest.raises(JournalError, match="Input/output error"):
        journal.sync()


class FullCase(Case):
    """A case on a disk that becomes full."""

    room = 10_000

    def _open(self, killer):  # type: ignore[no-untyped-def]
        state, journal = super()._open(killer)
        self.disk = FullDisk(self.room, self.data)
        journal._disk = self.disk
        return state, journal


def test_nothing_is_started_that_could_not_be_announced() -> None:
    runbook = book(*(step(f"s{number}") for number in range(50)), always=[step("z")])
    case = FullCase(runbook)
    case.room = 3000
    with pytest.raises(JournalError):
        case.begin()
    case.data = case.disk.safe
    announced = [event.step for event in case.events(TaskStarted)]
    assert case.world.paths() == announced
    assert 3 < len(announced) < 50
    case.room = 10**6
    case.resume()
    assert case.outcome == "succeeded"


def test_what_runs_is_cancelled_when_the_journal_cannot_be_kept() -> None:
    runbook = book(step("long", needs=[]), *(step(f"s{n}", needs=[]) for n in range(50)))
    case = FullCase(runbook, {"long": Act(seconds=60)}, forks=2)
    case.room = 3000
    cancelled: list[str] = []

    class Watching(harness.ScriptedExecutor):
        def cancel(self, job: Job) -> None:
            """Note whom."""
            cancelled.append(job.step)
            super().cancel(job)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness, "ScriptedExecutor", Watching)
        with pytest.raises(JournalError):
            case.begin()
    assert "long" in cancelled


def test_the_process_stays_until_what_runs_has_ended_though_not_for_ever() -> None:
    """A command must not go on, with nobody to look after it, while somebody resumes the run."""
    runbook = book(
        *(step(name, needs=[]) for name in ("obeys", "deaf")),
        *(step(f"s{n}", needs=[]) for n in range(50)),
    )
    script = {"obeys": Act(seconds=60, obeys=1), "deaf": Act(seconds=60, obeys=None)}
    case = FullCase(runbook, script, forks=3)
    case.room = 3000
    with pytest.raises(JournalError):
        case.begin()
    last = max(at for at, _ in case.world.started)
    assert case.time - last == CANCEL_GRACE


def test_a_run_and_its_folder_are_safe_before_anything_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power cut must not leave effects of which no folder tells."""
    safe: set[str] = set()
    before = set[str]()
    real, real_data = os.fsync, journal._sync_data

    def note(descriptor: int) -> None:
        safe.add(str(Path(f"/proc/self/fd/{descriptor}").readlink()))
        real(descriptor)

    def confirm(descriptor: int) -> None:
        before.update(safe)
        real_data(descriptor)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(journal, "_sync_data", confirm)
    book = tmp_path / "book.yml"
    book.write_text("name: B\nlocks: [here]\nsteps: [{assert: true}]\n")
    state = tmp_path / "state"
    session = begin(str(book), Options(), Surroundings(store=FileStore(state)))
    session.run()
    run = FileStore(state).runs()[0].path
    wanted = {run / "run.json", run / "runbook.json", run, run.parent, state, state / "locks"}
    assert {str(each) for each in wanted} <= before


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_journal_that_may_not_be_written_says_so(path: Path) -> None:
    path.chmod(0o400)
    with pytest.raises(JournalError, match="Permission denied"):
        reopen(path)


def test_a_folder_that_is_not_there_says_so(tmp_path: Path) -> None:
    with pytest.raises(JournalError, match="No such file"):
        FileDisk(tmp_path / "nowhere" / "journal.jsonl")


def test_a_file_that_may_not_grow_any_more_is_a_full_disk(path: Path) -> None:
    journal = Journal(FileDisk(path))
    journal.append(STARTED, NOW)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, before[1]))
    try:
        with pytest.raises(JournalError, match="File too large"):
            journal.sync()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# -- time -----------------------------------------------------------------------------------------
def test_a_clock_that_was_set_back_does_not_turn_the_journal_back() -> None:
    case = Case(book(step("a"), step("b")), {"a": Act(seconds=30), "b": Act(seconds=30)})
    case.at(10, Signal("SIGTERM")).begin()
    case.time -= 86_400
    case.resume()
    times = [record.time for record in case.records()]
    assert times == sorted(times)
    assert case.outcome == "succeeded"


def test_the_clock_of_a_resumed_run_starts_no_earlier_than_its_journal() -> None:
    later = SystemClock().now() + 3600
    clock = SystemClock(not_before=later)
    assert later <= clock.now() <= later + 60
    assert clock.now() <= clock.now()


# -- a run's folder -------------------------------------------------------------------------------
def new_run(state: Path) -> FileStore:
    """A state folder with one run."""
    runs = FileStore(state)
    info = RunInfo("", "test.yml", None, str(state))
    folder = runs.create("test", NOW, info, {})
    written(folder.journal_path, STARTED)
    folder.disown()
    return runs


def test_an_event_can_be_added_while_nobody_carries_the_run(tmp_path: Path) -> None:
    folder = new_run(tmp_path).find("last")
    append_event(folder, GateAnswered("a", "approved", SOMEBODY))
    assert len(folder.records()) == 2
    assert not folder.alive()


def test_no_event_is_added_to_a_run_that_somebody_carries(tmp_path: Path) -> None:
    folder = new_run(tmp_path).find("last")
    other = FileStore(tmp_path).find("last")
    other.own()
    with pytest.raises(ResumeRefused, match=f"is being carried by process {os.getpid()}"):
        append_event(folder, GateAnswered("a", "approved", SOMEBODY))
    other.disown()
    assert len(folder.records()) == 1


def test_no_event_is_added_to_a_run_that_never_started(tmp_path: Path) -> None:
    folder = new_run(tmp_path).find("last")
    folder.journal_path.write_bytes(b"")
    with pytest.raises(ResumeRefused, match="never started"):
        append_event(folder, GateAnswered("a", "approved", SOMEBODY))


def test_power_lost_between_write_and_sync_loses_only_what_nobody_saw() -> None:
    """A step is in the world only after the disk has confirmed its announcement."""
    for number in range(1, 8):
        case = Case(book(*(step(f"s{n}", effect="once") for n in range(6))))
        case.begin(Killer("before_sync", number))
        announced = {event.step for event in case.events(TaskStarted)}
        assert set(case.world.paths()) <= announced
        case.resume()
        assert case.outcome == "succeeded"
        assert set(case.world.effects.values()) == {1}
