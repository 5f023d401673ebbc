"""``--list-tasks``: which steps would run, and nothing runs."""

from __future__ import annotations

from tests.cli.conftest import Desk

BOOK = """
    name: Book
    steps:
      - id: group
        tags: [all-of-it]
        steps:
          - {id: a, name: First, tags: [fast], shell: touch ran}
          - {id: b, tags: [slow], wait: {for: 1h}}
      - {id: c, assert: {that: ["true"]}}
    always:
      - {id: d, tags: [fast], shell: touch ran}
"""


def test_steps_are_listed_with_actions_and_tags_and_none_runs(desk: Desk) -> None:
    desk.write(BOOK)
    told = desk.ce_run("book.yml", "--list-tasks")
    assert told.returncode == 0
    rows = [each.split() for each in told.stdout.splitlines()]
    assert [row[:2] for row in rows] == [
        ["group/a", "shell"],
        ["group/b", "wait"],
        ["c", "assert"],
        [".always/d", "shell"],
    ]
    assert "First" in rows[0]
    assert told.stdout.splitlines()[0].endswith("tags: all-of-it, fast")
    assert not (desk.folder / "ran").exists()
    assert not desk.state.exists()


def test_only_what_is_selected_is_listed(desk: Desk) -> None:
    desk.write(BOOK)
    told = desk.ce_run("book.yml", "--list-tasks", "--tags", "slow").stdout
    assert "group/b" in told
    assert "group/a" not in told
    wrong = desk.ce_run("book.yml", "--list-tasks", "--tags", "slwo")
    assert wrong.returncode == 2
    assert "slow" in wrong.stderr
