"""A run that goes on somewhere else says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.events import Person, Warned
from engine.session import Options, Surroundings, begin, resume
from engine.store.files import FileStore


@pytest.mark.parametrize(("host", "told"), [("laptop", False), ("ci-7", True)])
def test_a_journal_of_another_machine_is_not_resumed_silently(
    tmp_path: Path, host: str, told: bool
) -> None:
    book = tmp_path / "book.yml"
    book.write_text("name: Asks\nsteps: [{id: ask, confirm: Go on?}]\n")
    store = FileStore(tmp_path / "state")
    assert (
        begin(str(book), Options(), Surroundings(store=store, by=Person("ada", "laptop"))).run()
        == 5
    )
    again = resume(store.find("last"), Surroundings(store=store, by=Person("ada", host)))
    assert again.run() == 5
    events = [record.event for record in store.find("last").records()]
    warnings = [event.message for event in events if isinstance(event, Warned)]
    assert any("carried on laptop" in each and host in each for each in warnings) == told
