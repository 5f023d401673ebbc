"""What every store has to do (`engine.store.protocol`), whatever it keeps runs and locks in.

A new kind of store is added to `STORES` and has to pass all of this.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from engine.errors import Cancelled, LockHeld, ResumeRefused, UsageError
from engine.events import Person, ReasonGiven
from engine.model import Block, Place, Runbook
from engine.store import Command, OwnedLocks, RunEntry, RunInfo, Store, append_event
from engine.store.files import FileStore

ME = Person("ann", "laptop")
NOW = 1_800_000_000.0
RUNBOOK = Runbook("t.yml", "T", Block((), Place("t.yml", 1, 1)), locks=("production",))
STORES: dict[str, Callable[[Path], Store]] = {"files": FileStore}


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """An empty store of each kind."""
    return STORES[request.param](tmp_path / "state")


def begin(store: Store, label: str = "t", now: float = NOW) -> RunEntry:
    """A run that this process carries, with one record."""
    run = store.create(label, now, RunInfo("", "t.yml", None, "/", {"check": True}), {})
    run.keep_runbook(RUNBOOK)
    journal = run.journal()
    journal.append(ReasonGiven("first", ME), now)
    journal.sync()
    journal.close()
    return run


def test_an_empty_store_has_nothing_and_says_so(store: Store) -> None:
    assert list(store.runs()) == []
    assert list(store.locks()) == []
    with pytest.raises(UsageError, match="there are no runs in"):
        store.find("last")


def test_runs_are_found_newest_first_by_part_of_their_name(store: Store) -> None:
    runs = [begin(store, label, NOW + n) for n, label in enumerate(("deploy", "deploy", "back"))]
    ids = [run.run_id for run in runs]
    assert [run.run_id for run in store.runs()] == ids[::-1]
    assert store.find("last").run_id == store.find("back").run_id == ids[2]
    with pytest.raises(UsageError, match="fits several runs"):
        store.find("deploy")


def test_what_a_run_was_started_with_is_kept(store: Store, tmp_path: Path) -> None:
    source = tmp_path / "t.yml"
    source.write_text("steps: []")
    run = store.create("t", NOW, RunInfo("", "t.yml", None, "/", {"check": True}), {"t": source})
    run.keep_runbook(RUNBOOK)
    assert run.info().options == {"check": True}
    assert run.info().run == run.run_id
    assert run.source("t") == b"steps: []"
    assert run.source("other") is None
    assert run.runbook() == RUNBOOK
    run.remove()
    assert list(store.runs()) == []


def test_one_at_a_time_carries_a_run(store: Store) -> None:
    run = begin(store)
    other = store.find(run.run_id)
    assert other.alive()
    with pytest.raises(ResumeRefused, match="is being carried by"):
        other.own()
    run.disown()
    assert not other.alive()
    other.own()
    assert run.alive()


def test_signs_of_life_are_kept_after_the_process(store: Store) -> None:
    run = begin(store)
    assert store.find("last").last_beat() == 0.0
    run.beat(NOW + 7, 1)
    run.disown()
    assert store.find("last").last_beat() == NOW + 7


def test_a_journal_is_continued_where_it_ended(store: Store) -> None:
    run = begin(store)
    run.disown()
    append_event(store.find("last"), ReasonGiven("second", ME))
    run.own()
    records, journal = run.reopen()
    journal.append(ReasonGiven("third", ME), NOW)
    assert len(run.records()) == len(records) == 2, "nothing is there before it is synced"
    journal.sync()
    reasons = [getattr(each.event, "reason", "") for each in run.records()]
    assert reasons == ["first", "second", "third"]
    assert [each.seq for each in run.records()] == [1, 2, 3]


def test_nobody_adds_to_the_journal_of_a_run_that_is_carried(store: Store) -> None:
    run = begin(store)
    with pytest.raises(ResumeRefused):
        append_event(store.find("last"), ReasonGiven("second", ME))
    assert len(run.records()) == 1


def test_messages_arrive_once_in_order_unless_they_are_withdrawn(store: Store) -> None:
    run, other = begin(store), store.find("last")
    other.send(Command("approve", ME, "a"))
    other.send(Command("reason", ME)).withdraw()
    taken = other.send(Command("stop", ME, reason="lunch"))
    assert [(each.verb, each.step, each.reason) for each in run.take_commands()] == [
        ("approve", "a", ""),
        ("stop", "", "lunch"),
    ]
    taken.withdraw()
    assert run.take_commands() == []


def test_what_attempts_wrote_can_be_read_from_any_position(store: Store) -> None:
    run = begin(store)
    size = run.size()
    (run.logs / "a.0.1.log").write_bytes(b"one\ntwo\n")
    other = store.find("last")
    assert other.log_names() == ["a.0.1"]
    assert other.read_log("a.0.1", 4) == b"two\n"
    assert other.read_log("b.0.1") == b""
    assert other.size() > size
    assert other.keep("note.txt", b"x")


def locked(store: Store, *, force: bool = False) -> tuple[RunEntry, OwnedLocks]:
    """A run with the lock."""
    run = begin(store)
    locks = OwnedLocks(store, ["production"], run.run_id)
    locks.take(ME, NOW, "why", force=force)
    return run, locks


def test_a_lock_has_one_owner_and_a_token_that_grows(store: Store) -> None:
    run, locks = locked(store)
    with pytest.raises(LockHeld, match=f"locked by run {run.run_id}"):
        locked(store)
    owner = store.lock("production").owner()
    assert owner is not None
    assert (owner.run, owner.by, owner.reason) == (run.run_id, ME, "why")
    locks.release()
    assert store.lock("production").owner() is None
    assert locked(store)[1].tokens == {"production": 2}
    assert [each.name for each in store.locks()] == ["production"]


def test_the_lock_of_a_run_that_nobody_carries_is_free(store: Store) -> None:
    run, _ = locked(store)
    run.disown()
    new = locked(store)[1]
    assert (new.tokens, new.over) == ({"production": 2}, {})


def test_a_takeover_fences_the_former_owner(store: Store) -> None:
    run, old = locked(store)
    with old.hold():
        assert old.lost() is None
    _, new = locked(store, force=True)
    assert new.over == {"production": run.run_id}
    with pytest.raises(Cancelled, match="nothing was sent"), old.hold():
        pass
    old.release()
    with new.hold():
        pass


def test_a_lock_that_was_broken_open_is_nobodys(store: Store) -> None:
    _, locks = locked(store)
    store.lock("production").break_open(ME, NOW, "stuck")
    lost = locks.lost()
    assert lost is not None
    assert lost.unlocked
    assert (lost.run, lost.reason) == ("", "stuck")
    assert locked(store)[1].tokens == {"production": 3}
