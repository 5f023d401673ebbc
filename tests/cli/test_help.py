"""Every command explains itself, and the documentation names every command and option."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from engine.cli.main import EXAMPLES, SECTIONS, commands
from tests.cli.conftest import Desk

DOCS = Path(__file__).parents[2] / "docs" / "commands.md"


def every_command() -> Iterator[tuple[str, click.Command]]:
    """All commands with their full names, groups' own ones included."""
    context = click.Context(commands)
    for name in commands.list_commands(context):
        command = commands.get_command(context, name)
        assert command is not None
        yield name, command
        if isinstance(command, click.Group):
            for inner, each in command.commands.items():
                yield f"{name} {inner}", each


ALL = dict(every_command())


def help_of(name: str) -> str:
    """What ``--help`` prints."""
    words = name.split()
    context = click.Context(ALL[name], info_name=f"ce-run {' '.join(words)}")
    return ALL[name].get_help(context)


@pytest.mark.parametrize("name", ALL)
def test_help_has_a_summary_and_examples(name: str) -> None:
    text = help_of(name)
    assert (ALL[name].help or "").strip()[0].isupper()
    assert "Examples:" in text
    assert f"ce-run {name}" in text


@pytest.mark.parametrize("name", ALL)
def test_every_option_is_explained_and_no_help_is_cut_off(name: str) -> None:
    for parameter in ALL[name].params:
        assert not isinstance(parameter, click.Option) or parameter.help, parameter.opts
    assert "..." not in help_of(name).replace("FILE...", "").replace("[ARGS]...", "")


@pytest.mark.parametrize("name", ALL)
def test_every_command_and_option_is_documented(name: str) -> None:
    text = DOCS.read_text(encoding="utf-8")
    heading = re.search(rf"^#+ .*`ce-run {re.escape(name)}\b.*$", text, re.MULTILINE)
    assert heading is not None, f"docs/commands.md has no section on {name}"
    section = re.split(r"^#+ ", text[heading.end() :], maxsplit=1, flags=re.MULTILINE)[0]
    common = text.split("## ", 2)[1]
    for parameter in ALL[name].params:
        if isinstance(parameter, click.Option):
            option = max(parameter.opts, key=len)
            assert option in section or option in common, f"{name} {option}"


def test_the_table_of_commands_says_what_the_commands_say() -> None:
    for _, rows in SECTIONS:
        for name, _, help in rows:
            assert help.endswith(".")
            assert name in ALL


def test_examples_name_commands_that_exist() -> None:
    for text in (EXAMPLES, *(ALL[name].help or "" for name in ALL)):
        for line in re.findall(r"^\s+ce-run (.*)$", text, re.MULTILINE):
            word = line.split()[0]
            assert word in ALL or word.endswith(".yml"), line


@pytest.mark.parametrize("name", ALL)
def test_examples_can_be_parsed(name: str) -> None:
    """An example with a misspelled option would be worse than none."""
    import shlex

    for line in re.findall(r"^\s+ce-run (.*)$", ALL[name].help or "", re.MULTILINE):
        words = shlex.split(line.split("|")[0])
        if words[0].endswith(".yml"):
            words.insert(0, "run")
        command, rest = ALL[words[0]], words[1:]
        if isinstance(command, click.Group) and rest:
            command, rest = ALL[f"{words[0]} {rest[0]}"], rest[1:]
        command.make_context(words[0], rest, resilient_parsing=False)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("ce-run va", "plain,validate"),
        ("ce-run bo", "file,bo"),
        ("ce-run show la", "plain,last"),
        ("ce-run run --che", "plain,--check"),
        ("ce-run lab fi", "plain,figures"),
    ],
)
def test_the_shell_completes(desk: Desk, words: str, offered: str) -> None:
    asked = {"_CE_RUN_COMPLETE": "bash_complete", "COMP_WORDS": words}
    done = desk.ce_run(env=asked | {"COMP_CWORD": str(len(words.split()) - 1)})
    assert offered in done.stdout.splitlines()
