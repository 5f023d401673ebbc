"""One damaged run hides no other, stops no emergency, and is told in words, never as a defect."""

from __future__ import annotations

import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.conftest import Desk, wait_until

BOOK = "locks: [production]\npreempts: true\nsteps:\n  - shell: echo done\n"


def not_utf8(run: Path) -> None:
    path = run / "journal.jsonl"
    *lines, last = path.read_bytes().splitlines()
    body = last[:-18].replace(b"succeeded", b"succ\xffeded")
    path.write_bytes(b"\n".join([*lines, b'%b,"crc":"%08x"}' % (body, zlib.crc32(body))]) + b"\n")


def misplaced(run: Path) -> None:
    path = run / "journal.jsonl"
    lines = path.read_bytes().splitlines()
    body = re.sub(rb'"seq":\d+', b'"seq":%d' % (len(lines) + 1), lines[0][:-18])
    path.write_bytes(b"\n".join([*lines, b'%b,"crc":"%08x"}' % (body, zlib.crc32(body))]) + b"\n")


def record_of_bytes(run: Path) -> None:
    (run / "run.json").write_bytes(b"\xff\xfe")


def runbook_of_bytes(run: Path) -> None:
    (run / "runbook.json").write_bytes(b"\xff\xfe")


@pytest.mark.parametrize("damage", [not_utf8, misplaced, record_of_bytes, runbook_of_bytes])
def test_a_damaged_run_is_told_in_words_and_hides_no_other(
    desk: Desk, damage: Callable[[Path], None]
) -> None:
    desk.write(BOOK)
    assert desk.ce_run("book.yml").returncode == 0
    damaged = desk.run()
    assert desk.ce_run("book.yml").returncode == 0
    other = desk.run().run_id
    damage(damaged.path)
    for words in (("show",), ("resume", "--redo", "shell"), ("logs", "shell"), ("stop",)):
        result = desk.ce_run(words[0], damaged.run_id, *words[1:])
        assert result.returncode in (0, 2, 3), result.stderr
        assert "unexpectedly" not in result.stderr
    listed = desk.ce_run("runs")
    assert listed.returncode == 0
    assert other in listed.stdout
    assert damaged.run_id in listed.stdout
    assert desk.ce_run("book.yml", "--force").returncode == 0


@pytest.mark.parametrize("name", ["locks/production.json", "locks/production.mutex"])
def test_bytes_in_a_lock_stop_no_emergency(desk: Desk, name: str) -> None:
    desk.write(BOOK)
    assert desk.ce_run("book.yml").returncode == 0
    (desk.state / name).write_bytes(b"\xff\xfe")
    assert desk.ce_run("book.yml").returncode in (0, 4)
    assert desk.ce_run("book.yml", "--force").returncode == 0


def test_a_run_whose_folder_is_removed_starts_nothing_more_and_ends_with_3(desk: Desk) -> None:
    desk.write("steps:\n  - shell: touch first; sleep 60\n  - shell: touch second\n")
    process = desk.start("book.yml")
    wait_until((desk.folder / "first").exists, "the first step")
    shutil.rmtree(desk.run().path)
    status, output = desk.end(process)
    assert status == 3, output
    assert "was removed or replaced while the run was at work" in output
    assert not (desk.folder / "second").exists()


def test_locks_that_cannot_be_read_are_not_no_locks(desk: Desk) -> None:
    desk.state.mkdir(mode=0o700)
    (desk.state / "locks").symlink_to(desk.folder)
    for words in (("locks",), ("unlock", "production", "--reason", "r")):
        result = desk.ce_run(*words)
        assert result.returncode == 3
        assert "locks is a link" in result.stderr
