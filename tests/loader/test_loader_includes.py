"""Runbooks that include runbooks."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.loader.conftest import Desk

ROLLBACK = """
name: Roll back
inputs:
  to: {default: 5.0, choices: [5.0, 4.9]}
  reason:
vars: {blue: "{{ inputs.to }}"}
locks: [production, traffic]
steps:
  - {id: route, toy.poke: "{{ blue }} {{ inputs.reason }}"}
  - {id: verify, toy.look: "{{ steps.route.result }}"}
"""


def test_an_included_runbook_is_a_group_with_its_inputs(desk: Desk) -> None:
    desk.write("rollback.yml", ROLLBACK)
    book = desk.load("""
        locks: [production]
        steps:
          - {id: a, toy.look: x}
          - runbook: rollback.yml
            with: {reason: "{{ steps.a.result }}", to: 4.9}
          - toy.look: "{{ steps['rollback/verify'].result }}"
    """)
    step = book.block.steps[1]
    assert step.id == "rollback"
    assert step.included is not None
    assert (step.included.file, step.included.name) == ("rollback.yml", "Roll back")
    assert step.included.arguments == {"reason": "{{ steps.a.result }}", "to": "4.9"}
    assert step.included.vars == {"blue": "{{ inputs.to }}"}
    assert step.block is not None
    assert [inner.id for inner in step.block.steps] == ["route", "verify"]
    assert step.block.steps[0].place.file == "rollback.yml"
    assert book.locks == ("production", "traffic")


def test_every_file_that_took_part_is_listed_with_its_digest(desk: Desk) -> None:
    path = desk.write("parts/rollback.yml", ROLLBACK)
    book = desk.load("steps: [{runbook: parts/rollback.yml, with: {reason: x}}]")
    assert list(book.sources) == ["book.yml", "parts/rollback.yml"]
    assert book.sources["parts/rollback.yml"] == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("", "book.yml:1:10: the runbook lacks the input 'reason'"),
        ("with: {to: 4.9}", "book.yml:1:33: the runbook lacks the input 'reason'"),
        ("with: {reson: x}", "book.yml:1:40: the runbook has no input 'reson' … did you mean"),
        ("with: {reason: [x]}", "book.yml:1:48: `reason` wants text, not a list"),
        ("with: {reason: x, to: 5.2}", "book.yml:1:55: `to` cannot be the text '5.2'"),
        ("with: [x]", "book.yml:1:39: `with` wants a mapping, not a list"),
    ],
)
def test_what_is_given_is_checked_against_the_inputs(desk: Desk, given: str, expected: str) -> None:
    desk.write("rollback.yml", ROLLBACK)
    comma = ", " if given else ""
    found = desk.problems(f"steps: [{{runbook: rollback.yml{comma}{given}}}]")
    assert any(str(each).startswith(expected) for each in found), found


def test_names_of_the_caller_are_not_those_of_the_included_runbook(desk: Desk) -> None:
    desk.write("inner.yml", "steps: [{toy.look: '{{ mine }} {{ steps.a }} {{ inputs.v }}'}]")
    found = desk.problems(
        """
        inputs: {v: }
        vars: {mine: 1}
        steps: [{id: a, toy.look: x}, {runbook: inner.yml}]
        """,
        "{}",
    )
    assert [str(each)[:60] for each in found] == [
        "inner.yml:1:24: 'mine' is undefined … declare it under `vars",
        "inner.yml:1:41: unknown step 'a' … known are: toy-look",
        "inner.yml:1:56: the runbook has no input 'v' … declare it un",
    ]


def test_cycles_are_told_with_their_path(desk: Desk) -> None:
    desk.write("b.yml", "steps: [{runbook: c.yml}]")
    desk.write("c.yml", "steps: [{toy.look: x, rescue: [{runbook: book.yml}]}]")
    (problem,) = desk.problems("steps: [{runbook: b.yml}]")
    assert str(problem) == (
        "c.yml:1:42: these runbooks include each other: book.yml → b.yml → c.yml → book.yml"
    )


def test_problems_of_included_files_are_told_once_and_after_those_of_the_first(
    desk: Desk,
) -> None:
    desk.write("inner.yml", "steps: [{toy.lok: x}]")
    found = desk.problems("""
        steps:
          - runbook: inner.yml
          - runbook: ./inner.yml
          - toy.lok: x
    """)
    assert [(each.file, each.line) for each in found] == [("book.yml", 5), ("inner.yml", 1)]


def test_a_file_that_is_not_there(desk: Desk) -> None:
    desk.write("parts/rollback.yml", ROLLBACK)
    (problem,) = desk.problems("steps: [{runbook: parts/rolback.yml}]")
    assert str(problem) == (
        "book.yml:1:19: there is no runbook 'parts/rolback.yml' … "
        "did you mean 'parts/rollback.yml'?"
    )


def test_files_are_looked_for_beside_the_runbook_that_names_them(desk: Desk) -> None:
    desk.write("parts/files/a.txt", "a")
    desk.write("parts/inner.yml", "steps: [{toy.look: {name: x, file: files/a.txt}}]")
    book = desk.load("steps: [{runbook: parts/inner.yml}]")
    block = book.block.steps[0].block
    assert block is not None
    assert block.steps[0].call is not None
    assert block.steps[0].call.arguments["file"] == "parts/files/a.txt"
    assert book.root == str(desk.folder)


def test_a_runbook_may_include_one_from_above_its_folder(desk: Desk) -> None:
    """The root is then the folder that holds both, and all paths are seen from there."""
    desk.write("files/a.txt", "a")
    desk.write("deploy.yml", "steps: [{toy.look: {name: x, file: [files/a.txt]}}]")
    desk.write("drills/files/b.txt", "b")
    path = desk.write(
        "drills/drill.yml",
        "steps: [{runbook: ../deploy.yml}, {toy.look: {name: x, file: 'files/{{ 1 }}.txt'}}]",
    )
    book, _ = desk.load_file(path)
    outer, inner = book.block.steps[1], book.block.steps[0].block
    assert book.root == str(desk.folder)
    assert outer.call is not None
    assert outer.call.arguments["file"] == "drills/files/{{ 1 }}.txt"
    assert inner is not None
    assert inner.steps[0].call is not None
    assert inner.steps[0].call.arguments["file"] == ["files/a.txt"]


def test_including_a_runbook_from_elsewhere_opens_only_its_own_folder(
    desk: Desk, tmp_path_factory: pytest.TempPathFactory
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "files").mkdir()
    (elsewhere / "files" / "a.txt").write_text("a", encoding="utf-8")
    (elsewhere.parent / "private.txt").write_text("x", encoding="utf-8")
    part = elsewhere / "part.yml"
    part.write_text("steps: [{toy.look: {name: x, file: files/a.txt}}]", encoding="utf-8")
    desk.write("b.txt", "b")
    book = desk.load(f"steps: [{{runbook: {part}}}, {{toy.look: {{name: x, file: b.txt}}}}]")
    assert book.folders == (str(desk.folder), str(elsewhere))
    said = desk.said(f"""
        steps:
          - runbook: {part}
          - toy.look: {{name: x, file: {elsewhere.parent / "private.txt"}}}
          - toy.look: {{name: x, file: /etc/passwd}}
    """)
    assert [each.split(" '")[0] for each in said] == ["4:31: the file", "5:31: the file"]
    assert all("lies outside the runbook's folder" in each for each in said)


GUARDED = """
guards: [{toy.look: x, trip: result.bad}]
budget: 5m
steps: [{id: work, toy.look: x}]
rescue: [{toy.poke: inner}]
always: [{toy.poke: tidy}]
"""


def test_guards_rescue_and_always_of_an_included_runbook_come_along(desk: Desk) -> None:
    desk.write("inner.yml", GUARDED)
    step = desk.load("steps: [{runbook: inner.yml}]").block.steps[0]
    assert step.included is not None
    assert len(step.guards) == 1
    assert step.budget == 300
    assert step.rescue is not None
    assert step.always is not None


def test_a_step_with_a_rescue_of_its_own_goes_around_the_included_runbook(desk: Desk) -> None:
    """So each rescue is read in the names of the file that it was written in."""
    desk.write("inner.yml", GUARDED)
    book = desk.load("""
        steps:
          - {id: x, runbook: inner.yml, rescue: [{toy.poke: outer}], guards: []}
          - {toy.look: "{{ steps['x/runbook/work'] }}"}
    """)
    outer = book.block.steps[0]
    assert (outer.included, outer.guards, outer.budget) == (None, (), None)
    assert outer.rescue is not None
    assert outer.rescue.steps[0].call is not None
    assert outer.rescue.steps[0].call.arguments == {"name": "outer"}
    assert outer.block is not None
    (inner,) = outer.block.steps
    assert inner.included is not None
    assert inner.rescue is not None
    assert inner.rescue.steps[0].call is not None
    assert inner.rescue.steps[0].call.arguments == {"name": "inner"}


def test_runbooks_that_include_each_other_too_often_are_refused(desk: Desk) -> None:
    for level in range(8):
        steps = ", ".join([f"{{runbook: level{level + 1}.yml}}"] * 10)
        desk.write(f"level{level}.yml", f"steps: [{steps}]")
    desk.write("level8.yml", "steps: [{toy.look: x}]")
    found = desk.problems("steps: [{runbook: level0.yml}]")
    assert any("this runbook has more than 250000 steps" in str(each) for each in found)


def test_runbooks_that_include_each_other_too_deeply_are_refused(desk: Desk) -> None:
    for level in range(30):
        desk.write(f"level{level}.yml", f"steps: [{{runbook: level{level + 1}.yml}}]")
    desk.write("level30.yml", "steps: [{toy.look: x}]")
    (problem,) = desk.problems("steps: [{runbook: level0.yml}]")
    assert problem.message == "runbooks include each other more than 16 levels deep"


def test_runbooks_without_a_folder_in_common_are_refused(desk: Desk) -> None:
    """Else every file of the machine would lie below their folder."""
    [problem] = desk.said("{steps: [{runbook: /proc/self/status}]}")
    assert "'/proc/self/status' and this runbook have no folder in common" in problem
