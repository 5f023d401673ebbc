"""What a newcomer reads first is true: commands exist, links lead somewhere, the example works."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import click
import pytest
import yaml

from engine.cli.main import commands
from engine.loader import load
from engine.session import registry_for
from tests.surroundings import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def test_the_example_is_valid(tmp_path: Path) -> None:
    (example,) = re.findall(r"```yaml\n(.*?)```", README, re.DOTALL)
    (tmp_path / "hello.yml").write_text(example, encoding="utf-8")
    (tmp_path / "inventories").symlink_to(ROOT / "inventories")
    path = str(tmp_path / "hello.yml")
    runbook, inventory = load(path, registry=registry_for(path))
    assert len(runbook.block.steps) == 3
    assert inventory.name == "lab"


def test_what_make_is_asked_for_is_there() -> None:
    asked = set(re.findall(r"`?make ([a-z-]+)", README))
    assert {"deploy", "test", "rollback", "lab-down"} <= asked
    known = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    assert asked <= known


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))])
def test_links_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#][^)]*)\)", text):
        if not target.startswith("http"):
            assert ((ROOT / page).parent / target.partition("#")[0]).exists(), target


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))])
def test_files_that_a_page_names_exist(page: str) -> None:
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(encoding="utf-8"), flags=re.DOTALL)
    named = re.findall(
        r"`((?:engine|modules|runbooks|inventories|tests|docs|benchmarks|\.github)/[\w./-]*)", text
    )
    for path in named:
        assert (ROOT / path).exists(), path


@pytest.mark.parametrize("page", ["README.md", *(f"docs/{p.name}" for p in ROOT.glob("docs/*.md"))])
def test_commands_and_options_that_a_page_names_exist(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    shown = re.findall(r"`ce-run ([^`\n]+)`", text)
    for block in re.findall(r"```sh\n(.*?)```", text, re.DOTALL):
        shown += re.findall(r"^ce-run ([^#\n]+)", block, re.MULTILINE)
    for words in shown:
        first, *rest = words.split()
        if first in ("COMMAND", "--version", "--help"):
            continue
        is_file = first.endswith((".yml", "FILE"))
        known = options_of("run" if is_file else first, rest)
        for option in (each.partition("=")[0] for each in rest if each.startswith("-")):
            assert option in known, f"ce-run {words}: {option}"


ROOT_CONTEXT = click.Context(commands)


def options_of(command: str, words: list[str]) -> set[str]:
    """The options that a command (of a group: the one inside) understands."""
    found = commands.get_command(ROOT_CONTEXT, command)
    assert found is not None, f"there is no `ce-run {command}`"
    if isinstance(found, click.Group) and words:
        found = found.commands[words[0]]
    return {each for option in found.params for each in (*option.opts, *option.secondary_opts)}


def test_ci_runs_what_everybody_runs() -> None:
    script = ROOT / ".ci" / "run"
    assert script.stat().st_mode & 0o111
    assert "make test" in script.read_text()
    workflow = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())
    assert {"run": ".ci/run"} in workflow["jobs"]["test"]["steps"]


def test_the_action_passes_inputs_as_variables_only() -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text())
    for step in action["runs"]["steps"]:
        assert "${{" not in step.get("run", "")
    given = set(action["inputs"])
    example = yaml.safe_load((ROOT / ".github/workflows/runbook.yml").read_text())
    uses = next(s for s in example["jobs"]["run"]["steps"] if s.get("uses") == "./")
    assert set(uses["with"]) <= given


def test_make_help_names_every_target() -> None:
    said = subprocess.run(
        ["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    known = set(re.findall(r"^([a-z-]+):", MAKEFILE, re.MULTILINE))
    assert known == set(re.findall(r"make ([a-z-]+)", said))
