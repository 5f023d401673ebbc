"""A runbook that was edited between a run's end and its resume: what has not begun may differ."""

from __future__ import annotations

import pytest

from engine.events import RunResumed
from tests.cli.conftest import Desk

BOOK = """\
name: Edited
vars: {word: one, twice: "{{ word }}{{ word }}", unread: 1}
steps:
  - id: first
    shell: "echo {{ twice }}"
  - id: group
    steps:
      - {id: inside, shell: "true"}
  - id: broken
    shell: "false"
  - id: rest
    steps:
      - {id: last, shell: "echo last"}
"""


@pytest.fixture
def failed(desk: Desk) -> Desk:
    """A run of the book that failed at its third step."""
    desk.write(BOOK)
    assert desk.ce_run("book.yml").returncode == 1
    return desk


def edit(desk: Desk, *edits: tuple[str, str]) -> None:
    """Write the book anew with these edits."""
    text = BOOK
    for before, after in edits:
        assert before in text
        text = text.replace(before, after)
    (desk.folder / "book.yml").write_text(text)


def changed(desk: Desk) -> set[str]:
    """What the last resume says to have changed."""
    event = desk.events(RunResumed)[-1]
    assert isinstance(event, RunResumed)
    return set(event.changed)


def test_steps_that_have_not_begun_may_differ_and_new_ones_may_come(failed: Desk) -> None:
    edit(
        failed,
        ("echo last", "echo the last"),
        ("unread: 1", "unread: 2"),
        ("  - id: rest", '  - {id: new, shell: "echo {{ unread }}"}\n  - id: rest'),
    )
    (failed.folder / "ready").touch()
    done = failed.ce_run("resume", "last", "--skip", "broken", "--reason", "not today")
    assert done.returncode == 0, done.stdout + done.stderr
    assert changed(failed) == {"new", "rest", "rest/last", "variable unread"}
    shown = failed.ce_run("show", "last")
    assert shown.returncode == 0, shown.stderr
    assert "new" in shown.stdout
    assert "2" in failed.ce_run("logs", "last", "new").stdout
    assert list(failed.run().path.glob("runbook-until-*.json"))


def test_a_step_that_is_run_again_may_have_been_put_right(failed: Desk) -> None:
    edit(failed, ('"false"', '"true"'))
    refused = failed.ce_run("resume", "last", "--done", "broken")
    assert refused.returncode == 2
    assert "where this run has been already: broken" in refused.stderr
    assert failed.ce_run("resume", "last", "--redo", "broken").returncode == 0
    assert changed(failed) == {"broken"}


def test_a_run_goes_on_again_and_again_with_the_runbook_of_its_last_resume(failed: Desk) -> None:
    edit(failed, ("  - id: rest", '  - {id: new, shell: "false"}\n  - id: rest'))
    assert failed.ce_run("resume", "last", "--skip", "broken", "--reason", "x").returncode == 1
    assert failed.ce_run("resume", "last", "--skip", "new", "--reason", "x").returncode == 0
    assert changed(failed) == set()


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("echo {{ twice }}", "echo twice", "first"),
        ("- id: first", "- id: erst", "first"),
        ("word: one", "word: two", "variable word, which first has read"),
        ('shell: "true"}', 'shell: "true"}\n      - {id: more, shell: "true"}', "group/more"),
        ("steps:\n  - id: first", "budget: 5m\nsteps:\n  - id: first", "the run's own settings"),
        ('"echo {{ twice }}"', '"echo {{ twice }}"\n    timeout: 5s', "first"),
    ],
    ids=["other", "renamed", "variable", "inside", "settings", "key"],
)
def test_what_has_begun_may_not_differ_and_is_named(
    failed: Desk, before: str, after: str, said: str
) -> None:
    edit(failed, (before, after))
    refused = failed.ce_run("resume", "last", "--skip", "broken", "--reason", "x")
    assert refused.returncode == 2
    assert f"where this run has been already: {said}" in refused.stderr
    edit(failed)
    assert failed.ce_run("resume", "last", "--skip", "broken", "--reason", "x").returncode == 0


def test_a_runbook_that_is_gone_is_told_with_where_a_copy_lies(failed: Desk) -> None:
    (failed.folder / "book.yml").unlink()
    refused = failed.ce_run("resume", "last", "--redo", "broken")
    assert refused.returncode == 2
    assert "there is no such file" in refused.stderr
    assert f"beside {failed.run().journal_path}, in source/" in refused.stderr


def test_another_inventory_is_noted(desk: Desk) -> None:
    desk.write("name: here\nvars: {word: one}\n", "here.yml")
    desk.write('name: I\nsteps:\n  - {id: a, confirm: sure?}\n  - shell: "echo {{ word }}"\n')
    assert desk.ce_run("book.yml", "-i", "here.yml").returncode == 5
    desk.write("name: here\nvars: {word: two}\n", "here.yml")
    assert desk.ce_run("resume", "last", "--yes").returncode == 0
    assert changed(desk) == {"inventory here.yml"}


def test_a_host_that_was_taken_out_of_the_inventory_is_not_worked_on(desk: Desk) -> None:
    inventory = "name: two\nhosts: {{all: {{hosts: {{{0}}}}}}}\n"
    desk.write(inventory.format("a: {}, b: {}"), "two.yml")
    desk.write("""\
        name: Hosts
        inventory: two.yml
        steps:
          - id: s
            hosts: all
            on: controller
            shell: test -e {{ host.name }}
        """)
    (desk.folder / "a").touch()
    assert desk.ce_run("book.yml").returncode == 1
    (desk.folder / "b").touch()
    desk.write(inventory.format("a: {}"), "two.yml")
    refused = desk.ce_run("resume", "last", "--redo", "s")
    assert refused.returncode == 1
    assert "host 'b' is not in the inventory any more" in refused.stdout
    skipped = desk.ce_run("resume", "last", "--skip", "s", "--reason", "b is gone")
    assert skipped.returncode == 0, skipped.stdout
