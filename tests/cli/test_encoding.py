"""What the world says commands nobody: no output of ce-run holds a control character, a hidden
one, or a line that GitHub Actions obeys, whoever wrote the text and wherever it is shown."""

from __future__ import annotations

import json
import re
import textwrap
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from unicodedata import category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.cli.github import annotation
from engine.report.encoding import (
    fenced,
    for_actions,
    for_json,
    for_markdown,
    visible,
    visible_lines,
)
from tests.cli.conftest import Desk
from tests.cli.screen import Screen

NASTY = (
    "x\x1b[2K\x1b[1A\x1b]0;owned\x07\x1b]52;c;ZWNobyBvd25lZA==\x07\x1b]8;;http://evil\x07link"
    "\r22:00:00Z ok        switch\x9b31m\x85next\u202eltr\u2066\u200b\u2028end"
    " version ##[add-mask]o ####[error]x :::: <b>bold</b> `code` ```"
    "\n::add-mask::e\n \u00a0 ::error file=a.yml::not ours\n##[error]not ours\x7f"
)
OURS = ("::group::", "::endgroup::", "::error file=", "::error::")


def assert_harmless(text: str, *, actions: bool = False) -> None:
    """Fail unless `text` can do nothing to who shows it."""
    control = {each for each in text if category(each) in ("Cc", "Cs", "Zl", "Zp")} - {"\n", "\t"}
    assert control == set()
    assert not re.search(r"[\u061c\u200b\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]", text)
    if not actions:
        return
    assert "##[" not in text
    for line in text.splitlines():
        command = line.strip()
        if command.startswith(OURS):
            command = command.replace("::", "", 2)
        assert "::" not in command


# -- the functions --------------------------------------------------------------------------------
@given(st.text())
def test_any_text_is_harmless_once_it_is_encoded(text: str) -> None:
    once = visible(text)
    assert "\n" not in once
    assert visible(once) == once
    assert_harmless(visible_lines(text))
    assert_harmless(for_actions(visible_lines(text)), actions=True)
    assert_harmless(annotation(text, 1, 1, text, text), actions=True)
    assert json.loads(for_json(json.dumps(text, ensure_ascii=False))) == text


def test_colours_are_left_out_and_the_rest_is_shown() -> None:
    assert visible("\x1b[1;31mred\x1b[0m, \x9b32mgreen") == "red, green"
    assert visible("a\x1b[2Kb\rc\nd\u202ee") == "a\\x1b[2Kb\\rc\\nd\\u202ee"
    assert visible("naïve 灰度 👩‍🚀 a\tb") == "naïve 灰度 👩‍🚀 a\tb"


def test_nothing_is_markup_on_a_page() -> None:
    assert for_markdown("<b>*a*</b> [x](y) @all #1") == (
        "&#60;b&#62;&#42;a&#42;&#60;/b&#62; &#91;x&#93;(y) &#64;all &#35;1"
    )
    page = fenced("a\n````\n</pre>\n# title\n~~~~~~~\n")
    assert page.startswith("````````text\n")
    assert page.endswith("\n````````\n")


# -- every output ---------------------------------------------------------------------------------
RUNBOOK = """
    name: NASTY
    locks: [production]
    inputs: {word: {default: plain}}
    vars: {odd: NASTY}
    steps:
      - id: group
        name: NASTY
        steps:
          - id: out
            name: NASTY
            shell: cat said; cat said >&2
          - id: bad
            ignore_errors: true
            shell: cat said >&2; exit 3
          - id: item
            loop: [NASTY, two]
            assert: {that: ["true"], success_msg: "{{ item }}"}
      - id: gate
        when: inputs.word == 'ask'
        confirm: {message: NASTY, checklist: [NASTY]}
      - id: message
        assert: {that: ["inputs.word != inputs.word"], fail_msg: "{{ inputs.word }} {{ odd }}"}
"""


@pytest.fixture
def nasty(desk: Desk) -> Desk:
    """A desk with a runbook that is nasty wherever a runbook can be."""
    output = NASTY.encode("utf-8", "surrogatepass")
    (desk.folder / "said").write_bytes(output + b"\xff\xfe\n")
    desk.write(textwrap.dedent(RUNBOOK).replace("NASTY", json.dumps(NASTY)))
    desk.environment["USER"] = desk.environment["LOGNAME"] = f"ada{NASTY.replace(chr(10), ' ')}"
    return desk


def test_a_run_and_all_that_is_told_of_it_afterwards_is_harmless(nasty: Desk) -> None:
    run = nasty.ce_run("book.yml", "-v", "--diff", "-e", json.dumps({"word": NASTY}))
    assert run.returncode == 1, run.stdout + run.stderr
    assert "\\x1b]52;c;" in run.stdout
    for words in (
        ("show", "last"),
        ("show", "last", "--diff"),
        ("show", "last", "--events"),
        ("show", "last", "--output", "json"),
        ("show", "last", "--events", "--output", "json"),
        ("logs", "last", "group"),
        ("logs", "last", "group", "-f"),
        ("logs", "last", NASTY),
        ("runs",),
        ("runs", "--output", "json"),
        ("locks",),
        ("locks", "--output", "json"),
        ("reason", "last", NASTY),
        ("stop", "last"),
        ("validate", "book.yml"),
        ("graph", "book.yml"),
        ("graph", "book.yml", "--format", "mermaid"),
        ("graph", "book.yml", "--format", "dot"),
        ("graph", "book.yml", "--format", "svg"),
        ("approve", "last", NASTY),
        ("resume", NASTY),
        ("show", NASTY),
        ("run", NASTY),
        ("unlock", NASTY, "--reason", NASTY),
        ("book.yml", "-e", NASTY),
        ("book.yml", f"--{NASTY}"),
        ("modules", NASTY),
    ):
        told = nasty.ce_run(*words)
        assert_harmless(told.stdout + told.stderr)
        if "svg" in words:
            ElementTree.fromstring(told.stdout)
        if "json" in words:
            [
                json.loads(line)
                for line in ([told.stdout], told.stdout.splitlines())["--events" in words]
            ]
    assert_harmless(run.stdout + run.stderr)


def test_a_log_and_a_page_of_github_actions_obey_nothing(nasty: Desk) -> None:
    page = nasty.folder / "summary.md"
    env = {"GITHUB_ACTIONS": "true", "GITHUB_STEP_SUMMARY": str(page)}
    extra = ("-e", json.dumps({"word": NASTY}))
    for words in (
        ("book.yml", *extra),
        ("book.yml", "-v", "--diff", *extra),
        ("show", "last"),
        ("show", "last", "--events"),
        ("logs", "last", "group"),
        ("logs", "last", "group", "-f"),
        ("runs",),
        ("locks",),
        ("graph", "book.yml"),
        ("reason", "last", NASTY),
        ("run", NASTY),
        ("book.yml", "-e", NASTY),
    ):
        told = nasty.ce_run(*words, env=env)
        assert_harmless(told.stdout + told.stderr, actions=True)
    told = nasty.ce_run("book.yml", "--output", "json", *extra, env=env)
    assert_harmless(told.stdout)
    assert "##[" not in told.stdout
    assert [json.loads(line) for line in told.stdout.splitlines()]
    text = page.read_text(encoding="utf-8")
    assert_harmless(text)
    heads = [each for each in text.splitlines() if each.startswith("#")]
    assert len(heads) == 3
    assert all("<b>" not in each and "`" not in each for each in heads)


def test_the_live_view_and_a_question_are_harmless(nasty: Desk) -> None:
    screen = Screen(
        "book.yml", "-e", "word=ask", folder=nasty.folder, environment=nasty.environment
    )
    screen.wait_for("? gate", "tick with numbers")
    screen.type("all\ry\r")
    screen.wait_for("Next")
    screen.end()
    for sequence in ("\x1b]", "\x07", "\x9b", "\x85", "\u202e", "\u2066", "\x1b[1A\x1b]0"):
        assert sequence not in screen.output


def test_a_module_of_somebody_else_is_harmless(desk: Desk) -> None:
    desk.write(
        f'''
        """A module. {NASTY.encode("unicode_escape").decode()}"""
        from engine.module_api import Context, Result, action

        @action(effect="read")
        def look(ctx: Context, at: str = {NASTY!r}) -> Result:
            """Look. {NASTY.encode("unicode_escape").decode()}"""
            return Result(message=at, data={{"at": at}})
        ''',
        "modules/odd.py",
    )
    for words in (
        ("modules",),
        ("modules", "odd"),
        ("modules", "odd.look"),
        ("modules", "odd.look", "--output", "json"),
    ):
        told = desk.ce_run(*words)
        assert_harmless(told.stdout + told.stderr)


def test_what_is_wrong_with_a_file_is_told_harmlessly(desk: Desk, tmp_path: Path) -> None:
    name = "bo\x1b]0;owned\x07ok\u202e.yml"
    desk.write(f"name: x\nsteps:\n  - {json.dumps(NASTY)}: 1\n    id: 'a\u202eb'\n", name)
    for env in ({}, {"GITHUB_ACTIONS": "true"}):
        for words in (("validate", name), ("run", name)):
            told = desk.ce_run(*words, env=env)
            assert told.returncode == 2
            assert_harmless(told.stdout + told.stderr, actions=bool(env))
