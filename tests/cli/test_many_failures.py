"""Failures of many tasks, ignored or not, and texts without end: told as what they are, and so
that a person, a log and a page can bear them."""

from __future__ import annotations

from tests.cli.conftest import Desk

MANY = """
    name: Many
    steps:
      - id: many
        loop: "{{ range(60) | list }}"
        max_fail_percentage: 100
        ignore_errors: true
        assert: {that: ["item < 0"], fail_msg: "no {{ item }}"}
      - id: tolerated
        ignore_errors: true
        steps:
          - {id: inner, assert: {that: ["false"], fail_msg: inside}}
      - id: real
        loop: "{{ range(60) | list }}"
        serial: 60
        assert: {that: ["item < 0"], fail_msg: "really not {{ item }}"}
"""


def test_what_a_step_ignores_is_told_as_ignored_and_annotates_nothing(desk: Desk) -> None:
    desk.write(MANY)
    told = desk.ce_run("book.yml", env={"GITHUB_ACTIONS": "true"})
    assert told.returncode == 1
    lines = told.stdout.splitlines()
    many = [each for each in lines if " many (" in each]
    assert len(many) == 60
    assert all(" ignored " in each for each in many)
    errors = [each for each in lines if each.startswith("::error")]
    assert len(errors) == 10
    assert all("title=real::" in each for each in errors)
    warnings = [each for each in lines if each.startswith("::warning")]
    assert [each.rpartition("::")[2] for each in warnings] == ["inside"]
    why = told.stdout.partition("\nWhy\n")[2]
    assert "real: " in why
    assert "tolerated/inner" not in why
    shown = desk.ce_run("show", "last").stdout
    assert shown.count(" ignored ") >= 60


def test_a_text_without_end_is_cut_where_people_read(desk: Desk) -> None:
    desk.write(
        """
        name: Long
        steps:
          - id: long
            assert: {that: ["false"], fail_msg: "{{ 'long ' * 40000 }}"}
        """
    )
    page = desk.folder / "summary.md"
    env = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(page)}
    told = desk.ce_run("book.yml", env=env)
    assert told.returncode == 1
    assert len(told.stdout) < 20_000
    assert page.stat().st_size < 20_000
    assert len(desk.ce_run("show", "last").stdout) < 20_000
    assert desk.run().size() > 200_000


def test_an_invalid_runbook_is_annotated_by_a_run_too(desk: Desk) -> None:
    desk.write("name: x\nsteps:\n  - sehll: true\n", "books/wrong.yml")
    env = {"GITHUB_ACTIONS": "true", "GITHUB_WORKSPACE": str(desk.folder)}
    for words in (("run", "books/wrong.yml"), ("validate", "books/wrong.yml")):
        told = desk.ce_run(*words, env=env)
        assert told.returncode == 2
        assert "::error file=books/wrong.yml,line=3," in told.stdout + told.stderr


def test_the_next_commands_of_a_job_name_no_path_of_its_machine(desk: Desk) -> None:
    desk.write("name: x\nsteps:\n  - shell: 'false'\n")
    told = desk.ce_run("book.yml", env={"GITHUB_ACTIONS": "true"}).stdout
    after = told.partition("\nNext\n")[2].splitlines()
    assert after
    assert all(each.startswith("  ce-run ") for each in after)


def test_what_is_refused_before_a_run_is_annotated_in_actions(desk: Desk) -> None:
    desk.write("steps:\n  - shell: 'true'\n")
    told = desk.ce_run("resume", "nope", env={"GITHUB_ACTIONS": "true"})
    assert told.returncode == 2
    assert "::error::there are no runs in" in told.stderr
    assert "%0Ahint: --state names another folder" in told.stderr
