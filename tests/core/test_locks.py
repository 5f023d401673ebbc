"""Locks between real processes: refused, taken over, fenced, and free once their owner is dead."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import stat
import threading
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest

from engine.clock import look_until
from engine.errors import Cancelled, LockHeld, ResumeRefused, UsageError
from engine.events import Person
from engine.people import this_person
from engine.processes import is_stopped
from engine.store import Command, OwnedLocks, RunInfo, state_folder
from engine.store.files import FileLock, FileRun, FileStore

ME = Person("ann", "laptop")
INFO = RunInfo("", "t.yml", None, "/")
NOW = 1_800_000_000.0
PATIENCE = 20.0


class Owner:
    """Another process that carries a run and owns locks; does what it is told."""

    def __init__(self, state: Path, names: list[str], reason: str = "") -> None:
        processes = multiprocessing.get_context("spawn")
        self.here, there = processes.Pipe()
        self.process = processes.Process(target=_own, args=(there, str(state), names, reason))
        self.process.start()
        there.close()
        self.run, self.answer = self.receive()

    def receive(self) -> Any:
        """What it has to say."""
        assert self.here.poll(PATIENCE), "the other process is silent"
        return self.here.recv()

    def ask(self, what: str) -> Any:
        """Have it do something and say what came of it."""
        self.here.send(what)
        return self.receive()

    def kill(self) -> None:
        """End it as SIGKILL does."""
        if self.process.pid is not None and self.process.is_alive():
            os.kill(self.process.pid, signal.SIGKILL)
        self.process.join(PATIENCE)


def _own(pipe: Connection, state: str, names: list[str], reason: str) -> None:
    folder = FileStore(Path(state)).create("other", NOW, RunInfo("", "t.yml", None, "/"), {})
    locks = OwnedLocks(FileStore(Path(state)), names, folder.run_id)
    try:
        locks.take(Person("bob", "server"), NOW, reason, force=False)
        pipe.send((folder.run_id, locks.tokens))
    except LockHeld as error:
        pipe.send((folder.run_id, error.message))
    hold: Any = None
    while True:
        match pipe.recv():
            case "release":
                locks.release()
                pipe.send("released")
            case "lost":
                record = locks.lost()
                pipe.send(record.run if record is not None else None)
            case "enter":
                hold = locks.hold()
                pipe.send(_tried(hold.__enter__))
            case "mutex":
                mutex = FileLock(Path(state), names[0])._mutex()
                mutex.__enter__()
                pipe.send("entered")
            case "leave":
                hold.__exit__(None, None, None)
                pipe.send("left")


def _tried(call: Callable[[], object]) -> str:
    try:
        call()
    except Cancelled as error:
        return error.message
    return "entered"


@pytest.fixture
def owners(tmp_path: Path) -> Iterator[Callable[..., Owner]]:
    """Makes owners, and ends them with the test."""
    made: list[Owner] = []

    def make(*names: str, **keys: Any) -> Owner:
        made.append(Owner(tmp_path, list(names), **keys))
        return made[-1]

    yield make
    for each in made:
        each.kill()


def mine(state: Path, *names: str) -> OwnedLocks:
    """Locks for a run of this process."""
    folder = FileStore(state).create("mine", NOW, RunInfo("", "t.yml", None, "/"), {})
    return OwnedLocks(FileStore(state), names, folder.run_id)


# -- taking ---------------------------------------------------------------------------------------
def test_a_lock_that_a_living_run_owns_is_refused_with_who_since_when_and_why(
    tmp_path: Path, owners: Callable[..., Owner]
) -> None:
    owner = owners("production", reason="Deploy 5.1")
    with pytest.raises(LockHeld) as caught:
        mine(tmp_path, "production").take(ME, NOW + 60, "", force=False)
    assert caught.value.message == (
        f"production is locked by run {owner.run}, which bob@server started at "
        "2027-01-15T08:00:00Z (Deploy 5.1)"
    )
    assert caught.value.exit_status == 4
    assert f"ce-run stop {owner.run}" in caught.value.hint


def test_a_lock_that_was_released_is_free(tmp_path: Path, owners: Callable[..., Owner]) -> None:
    owner = owners("production")
    owner.ask("release")
    locks = mine(tmp_path, "production")
    locks.take(ME, NOW, "", force=False)
    assert locks.tokens == {"production": 2}
    assert locks.over == {}


def test_the_lock_of_a_dead_owner_is_free_at_once(
    tmp_path: Path, owners: Callable[..., Owner]
) -> None:
    owner = owners("production")
    owner.kill()
    locks = mine(tmp_path, "production")
    locks.take(ME, NOW, "", force=False)
    assert locks.tokens["production"] == 2
    assert locks.over == {}, "nobody was pushed aside"
    assert not FileRun(tmp_path / "runs" / owner.run).alive()


def test_locks_are_taken_all_or_none(tmp_path: Path, owners: Callable[..., Owner]) -> None:
    owners("b")
    locks = mine(tmp_path, "a", "b", "c")
    with pytest.raises(LockHeld):
        locks.take(ME, NOW, "", force=False)
    assert locks.tokens == {}
    assert FileLock(tmp_path, "a").owner() is None


def test_of_many_that_want_a_lock_at_once_one_has_it(
    tmp_path: Path, owners: Callable[..., Owner]
) -> None:
    answers = [owners("production").answer for _ in range(3)]
    assert [isinstance(answer, dict) for answer in answers].count(True) == 1

    won: list[int] = []

    def compete() -> None:
        try:
            mine(tmp_path, "staging").take(ME, NOW, "", force=False)
            won.append(1)
        except LockHeld:
            pass

    threads = [threading.Thread(target=compete) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won == [1]


def test_the_token_only_grows(tmp_path: Path) -> None:
    seen = []
    for _ in range(3):
        locks = mine(tmp_path, "production")
        locks.take(ME, NOW, "", force=True)
        seen.append(locks.tokens["production"])
        locks.release()
    FileLock(tmp_path, "production").break_open(ME, NOW, "stuck")
    locks = mine(tmp_path, "production")
    locks.take(ME, NOW, "", force=False)
    assert [*seen, locks.tokens["production"]] == [1, 2, 3, 5]


def test_a_run_takes_its_own_lock_again_when_it_is_resumed(tmp_path: Path) -> None:
    locks = mine(tmp_path, "production")
    locks.take(ME, NOW, "", force=False)
    locks.take(ME, NOW, "", force=False)
    assert locks.tokens == {"production": 2}
    assert locks.lost() is None


def test_names_of_locks_are_not_paths(tmp_path: Path) -> None:
    names = ["../../escape", "eu/production", "a.b", "Produktion Süd", ".."]
    locks = mine(tmp_path, *names)
    locks.take(ME, NOW, "", force=False)
    assert sorted(lock.name for lock in FileStore(tmp_path).locks()) == sorted(names)
    assert not list(tmp_path.parent.glob("*escape*"))
    assert {path.parent for path in tmp_path.rglob("*.json") if path.name != "run.json"} == {
        tmp_path / "locks"
    }


def test_files_of_locks_are_their_owners_alone(tmp_path: Path) -> None:
    mine(tmp_path, "production").take(ME, NOW, "", force=False)
    for path in (tmp_path / "locks").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "locks").stat().st_mode) == 0o700


# -- taking over ----------------------------------------------------------------------------------
def test_a_takeover_names_whom_and_the_old_run_knows_at_once(
    tmp_path: Path, owners: Callable[..., Owner]
) -> None:
    owner = owners("production")
    assert owner.ask("lost") is None
    locks = mine(tmp_path, "production")
    locks.take(ME, NOW, "error_rate_high", force=True)
    assert locks.over == {"production": owner.run}
    assert owner.ask("lost") == FileLock(tmp_path, "production").record().run
    assert "nothing was sent" in owner.ask("enter")


def test_a_run_that_ends_does_not_free_anothers_lock(
    tmp_path: Path, owners: Callable[..., Owner]
) -> None:
    owner = owners("production")
    locks = mine(tmp_path, "production")
    locks.take(ME, NOW, "", force=True)
    owner.ask("release")
    assert locks.lost() is None
    assert FileLock(tmp_path, "production").owner() is not None


def test_a_takeover_waits_for_a_request_that_is_on_its_way(
    tmp_path: Path, owners: Callable[..., Owner], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.store.files.locks.TAKEOVER_PATIENCE", PATIENCE)
    owner = owners("production")
    assert owner.ask("enter") == "entered"
    locks = mine(tmp_path, "production")
    over = threading.Event()

    def take() -> None:
        locks.take(ME, NOW, "", force=True)
        over.set()

    thread = threading.Thread(target=take)
    thread.start()
    lock = FileLock(tmp_path, "production")
    assert look_until(lambda: lock.record().token == 2, PATIENCE), "the record is written first"
    assert not over.wait(0.05)
    assert owner.ask("leave") == "left"
    assert over.wait(PATIENCE)
    thread.join()
    assert "nothing was sent" in owner.ask("enter")


def test_a_request_that_hangs_does_not_hold_up_an_emergency_for_ever(
    tmp_path: Path, owners: Callable[..., Owner], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.store.files.locks.TAKEOVER_PATIENCE", 0.05)
    owner = owners("production")
    owner.ask("enter")
    locks = mine(tmp_path, "production")
    locks.take(ME, NOW, "", force=True)
    assert locks.tokens == {"production": 2}


def test_requests_of_one_run_do_not_wait_for_one_another(tmp_path: Path) -> None:
    locks = mine(tmp_path, "production")
    locks.take(ME, NOW, "", force=False)
    together = threading.Barrier(8)

    def request() -> None:
        with locks.hold():
            together.wait(PATIENCE)

    threads = [threading.Thread(target=request) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not together.broken


def test_after_a_takeover_no_request_of_the_old_run_begins(tmp_path: Path) -> None:
    """Many requests in flight from many threads; the takeover comes at some moment."""
    old = mine(tmp_path, "production")
    old.take(ME, NOW, "", force=False)
    sent: list[str] = []
    guard = threading.Lock()
    warm = threading.Event()

    def work() -> None:
        try:
            for _ in range(10_000):
                with old.hold(), guard:
                    sent.append("old")
                    if len(sent) > 50:
                        warm.set()
        except Cancelled:
            return

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert warm.wait(PATIENCE)
    new = mine(tmp_path, "production")
    new.take(ME, NOW, "", force=True)
    with guard:
        sent.append("new")
    for thread in threads:
        thread.join()
    assert sent[-1] == "new"


def test_a_lock_that_was_broken_open_is_lost_and_free(tmp_path: Path) -> None:
    locks = mine(tmp_path, "production")
    locks.take(ME, NOW, "deploy", force=False)
    lock = FileLock(tmp_path, "production")
    assert lock.break_open(ME, NOW, "stuck").reason == "deploy"
    lost = locks.lost()
    assert lost is not None
    assert (lost.run, lost.reason) == ("", "stuck")
    assert lock.owner() is None


def test_a_record_that_was_removed_under_its_living_owner_is_put_back(tmp_path: Path) -> None:
    locks = mine(tmp_path, "production")
    locks.take(ME, NOW, "deploy", force=False)
    path = FileLock(tmp_path, "production").path
    for _ in range(2):
        before = path.read_bytes()
        path.unlink()
        assert locks.lost() is None
        with locks.hold():
            assert path.read_bytes() == before


def test_a_resume_knows_that_another_run_has_been_there_meanwhile(tmp_path: Path) -> None:
    locks = mine(tmp_path, "production")
    locks.take(ME, NOW, "", force=False)
    known = dict(locks.tokens)
    locks.release()
    assert locks.taken_since(known) is None
    other = mine(tmp_path, "production")
    other.take(ME, NOW, "rollback", force=True)
    taken = locks.taken_since(known)
    assert taken is not None
    assert taken.reason == "rollback"
    other.release()
    assert locks.taken_since(known) is not None, "that it is over changes nothing"
    assert locks.taken_since({}) is None, "a run that never had it misses nothing"


def test_requests_say_which_run_and_token_they_come_from(tmp_path: Path) -> None:
    locks = mine(tmp_path, "production", "db")
    locks.take(ME, NOW, "", force=False)
    assert locks.identity()["X-CE-Token"] == "db=1,production=1"
    assert (tmp_path / "runs" / locks.identity()["X-CE-Run"]).is_dir()


# -- carrying a run -------------------------------------------------------------------------------
def test_two_processes_cannot_carry_one_run(tmp_path: Path, owners: Callable[..., Owner]) -> None:
    owner = owners()
    folder = FileStore(tmp_path).runs()
    assert folder == [], "it has no journal yet"
    (tmp_path / "runs" / owner.run / "journal.jsonl").touch()
    found = FileStore(tmp_path).find(owner.run)
    assert found.alive()
    with pytest.raises(ResumeRefused, match=f"carried by process {owner.process.pid}"):
        found.own()
    owner.kill()
    assert not found.alive()
    found.own()
    assert found.alive()
    found.disown()


def test_looking_whether_a_run_is_alive_does_not_keep_anybody_from_owning_it(
    tmp_path: Path,
) -> None:
    folder = FileStore(tmp_path).create("x", NOW, RunInfo("", "t.yml", None, "/"), {})
    folder.disown()
    over = threading.Event()

    def look() -> None:
        while not over.is_set():
            FileRun(folder.path).alive()

    threads = [threading.Thread(target=look) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(50):
            other = FileRun(folder.path)
            other.own()
            other.disown()
    finally:
        over.set()
        for thread in threads:
            thread.join()


def test_commands_arrive_once_in_order_and_nonsense_is_taken_away(tmp_path: Path) -> None:
    folder = FileStore(tmp_path).create("x", NOW, RunInfo("", "t.yml", None, "/"), {})
    folder.send(Command("approve", ME, "a"))
    (folder.path / "control" / "0-nonsense.json").write_text("{")
    folder.send(Command("stop", ME, reason="lunch"))
    assert [command.verb for command in folder.take_commands()] == ["approve", "stop"]
    assert folder.take_commands() == []
    assert list((folder.path / "control").iterdir()) == []
    folder.disown()


def test_everything_of_a_run_is_its_owners_alone(tmp_path: Path) -> None:
    source = tmp_path / "book.yml"
    source.write_text("x")
    source.chmod(0o644)
    state = tmp_path / "state"
    folder = FileStore(state).create(
        "x", NOW, RunInfo("", "t.yml", None, "/"), {"a/book.yml": source}
    )
    folder.send(Command("stop", ME))
    for path in state.rglob("*"):
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path
    folder.disown()


def test_runs_are_found_by_part_of_their_name(tmp_path: Path) -> None:
    runs = FileStore(tmp_path)
    made = []
    for number, label in enumerate(("deploy", "deploy", "rollback")):
        folder = runs.create(label, NOW + number, RunInfo("", "t.yml", None, "/"), {})
        folder.journal_path.touch()
        folder.disown()
        made.append(folder.run_id)
    assert [run.run_id for run in runs.runs()] == made[::-1]
    assert runs.find("rollback").run_id == runs.find("last").run_id == made[2]
    assert runs.find(made[0]).run_id == made[0]
    with pytest.raises(UsageError, match="fits several runs"):
        runs.find("deploy")
    with pytest.raises(UsageError, match="there is no run 'nothing'"):
        runs.find("nothing")


def test_the_state_folder_is_where_one_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("CE_RUN_STATE", raising=False)
    monkeypatch.chdir(tmp_path)
    assert state_folder() == tmp_path / ".ce-run"
    monkeypatch.setenv("CE_RUN_STATE", str(tmp_path / "env"))
    assert state_folder() == tmp_path / "env"
    assert state_folder(str(tmp_path / "given")) == tmp_path / "given"


def test_who_is_at_work_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.setenv("USER", "ann")
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    monkeypatch.setenv("GITHUB_RUN_ID", "42")
    monkeypatch.setenv("GITHUB_WORKFLOW", "deploy")
    person = this_person()
    assert person.name == "ann"
    assert person.via == "GitHub Actions run 42 of deploy"
    assert (person.claims, person.shown) == ("", "ann")
    assert this_person("ann").claims == ""
    assert this_person("bob").shown == "ann (claims to be bob)"
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.setenv("GITHUB_ACTOR", "octocat")
    assert this_person().name == "octocat"
    monkeypatch.setenv("GITHUB_TRIGGERING_ACTOR", "hubot")
    assert this_person("octocat").shown == "hubot (claims to be octocat)"


# -- what should not happen -----------------------------------------------------------------------
def test_a_process_that_was_stopped_while_it_changed_a_lock_does_not_stop_an_emergency(
    tmp_path: Path, owners: Callable[..., Owner], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.store.files.locks.TAKEOVER_PATIENCE", 0.05)
    monkeypatch.setattr("engine.store.files.locks.MUTEX_PATIENCE", 0.05)
    owner = owners("production")
    owner.ask("mutex")
    assert owner.process.pid is not None
    os.kill(owner.process.pid, signal.SIGSTOP)
    assert look_until(lambda: is_stopped(owner.process.pid or 0), PATIENCE)
    ours = mine(tmp_path, "production")
    with pytest.raises(LockHeld, match=f"process {owner.process.pid} is taking or giving up"):
        ours.take(ME, NOW, "", force=False)
    monkeypatch.setattr("engine.store.files.locks.MUTEX_PATIENCE", PATIENCE)
    ours.take(ME, NOW, "", force=True)
    assert ours.lost() is None


def test_only_the_process_that_has_the_file_open_is_ended(
    tmp_path: Path, owners: Callable[..., Owner], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of a process is given to another one once it is gone."""
    monkeypatch.setattr("engine.store.files.locks.TAKEOVER_PATIENCE", 0.05)
    owner, bystander = owners("production"), owners("elsewhere")
    owner.ask("enter")
    assert bystander.process.pid is not None
    os.kill(bystander.process.pid, signal.SIGSTOP)
    assert look_until(lambda: is_stopped(bystander.process.pid or 0), PATIENCE)
    lock = FileStore(tmp_path).runs_folder / owner.run / "run.lock"
    lock.write_bytes(b"%-10d" % bystander.process.pid)
    mine(tmp_path, "production").take(ME, NOW, "", force=True)
    assert is_stopped(bystander.process.pid)
    os.kill(bystander.process.pid, signal.SIGCONT)


def test_who_takes_a_free_lock_waits_for_what_its_last_owner_still_has_on_its_way(
    tmp_path: Path, owners: Callable[..., Owner]
) -> None:
    owner = owners("production")
    owner.ask("enter")
    owner.ask("release")
    ours = mine(tmp_path, "production")
    taking = threading.Thread(target=ours.take, args=(ME, NOW, ""), kwargs={"force": False})
    taking.start()
    written = FileLock(tmp_path, "production")
    assert look_until(lambda: written.record().run != "", PATIENCE)
    assert taking.is_alive()
    owner.ask("leave")
    taking.join(PATIENCE)
    assert not taking.is_alive()


def test_a_damaged_record_is_a_lock_that_is_lost(tmp_path: Path) -> None:
    ours = mine(tmp_path, "production")
    ours.take(ME, NOW, "", force=False)
    (tmp_path / "locks" / "production.json").write_text("{")
    lost = ours.lost()
    assert lost is not None
    assert "damaged" in lost.reason
    with pytest.raises(Cancelled), ours.hold():
        pass
    ours.release()
    with pytest.raises(LockHeld, match="damaged"):
        mine(tmp_path, "production").take(ME, NOW, "", force=False)


def test_a_full_disk_does_not_keep_a_run_from_letting_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **keys: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    ours = mine(tmp_path, "a", "b")
    ours.take(ME, NOW, "", force=False)
    monkeypatch.setattr("engine.store.files.locks.write_private", full)
    ours.release()
    assert ours.tokens == {}
