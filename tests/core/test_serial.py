"""Batches as `serial` makes them, in the words of Ansible, from a runbook with five hosts."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.events import StepOpened
from engine.session import Options, Surroundings, begin
from engine.store.files import FileStore

INVENTORY = "name: five\nhosts: {all: {hosts: {a: {}, b: {}, c: {}, d: {}, e: {}}}}\n"


@pytest.mark.parametrize(
    ("serial", "batches"),
    [
        ("2", (2, 2, 1)),
        ("40%", (2, 2, 1)),
        ("1%", (1, 1, 1, 1, 1)),
        ("[1, 50%]", (1, 2, 2)),
        ('"{{ 0 }}"', (5,)),
        ("9", (5,)),
        ('"{{ 1 + 2 }}"', (3, 2)),
    ],
)
def test_serial_makes_batches(serial: str, batches: tuple[int, ...], tmp_path: Path) -> None:
    (tmp_path / "five.yml").write_text(INVENTORY)
    book = tmp_path / "book.yml"
    book.write_text(
        "name: Five\ninventory: five.yml\n"
        f"steps: [{{id: s, hosts: all, serial: {serial}, assert: true}}]\n"
    )
    session = begin(str(book), Options(), Surroundings(store=FileStore(tmp_path / "state")))
    assert session.run() == 0
    opened = [r.event for r in session.entry.records() if isinstance(r.event, StepOpened)]
    assert [event.batches for event in opened if event.step == "s"] == [batches]
