"""Every example of the guide is a valid runbook."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from engine.loader import load, load_inventory
from engine.loader.fields import COMMON, FOREIGN_IN_STEPS, STRUCTURE
from engine.loader.runbook import KEYS
from engine.registry import Registry

GUIDE = Path(__file__).parents[1] / "docs" / "writing-runbooks.md"
TEXT = GUIDE.read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
HOSTS = (
    "hosts: {web: {hosts: {web1: }}}\nmetrics: {error_rate: up}\nsql: {primary: {dsn: x}}\n"
    "notify: {channels: {team: {console: {}}}}\n"
)


def name_of(example: str, number: int) -> str:
    """The file name in the example's first line, if there is one."""
    found = re.match(r"# (\S+\.yml)\n", example)
    return found[1] if found else f"example-{number}.yml"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """All examples as files side by side, so that they can include each other."""
    for number, example in enumerate(EXAMPLES):
        (tmp_path / name_of(example, number)).write_text(example, encoding="utf-8")
    (tmp_path / "hosts.yml").write_text(HOSTS, encoding="utf-8")
    return tmp_path


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_is_valid(folder: Path, number: int) -> None:
    name = name_of(EXAMPLES[number], number)
    registry = Registry()
    if "steps" not in yaml.safe_load(EXAMPLES[number]):
        load_inventory(folder / name, registry=registry)
    elif "inventory:" in EXAMPLES[number]:
        load(folder / name, registry=registry)
    else:
        load(folder / name, registry=registry, inventory_path=folder / "hosts.yml")


def test_there_are_examples_of_everything() -> None:
    written = "\n".join(EXAMPLES)
    for key in (*KEYS, *COMMON, *STRUCTURE):
        if key not in ("tags", "no_log", "ignore_errors"):
            assert re.search(rf"\b{key}:", written), f"no example has `{key}`"
    for key in (*KEYS, *COMMON, *STRUCTURE):
        assert f"`{key}`" in TEXT, f"the guide does not mention `{key}`"


def test_the_contents_lead_somewhere() -> None:
    headings = re.findall(r"^## (.*)$", TEXT, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in headings}
    assert set(re.findall(r"\(#([^)]+)\)", TEXT)) <= anchors


def test_words_of_others_lead_to_words_that_exist() -> None:
    modules = Registry().names()
    for hint in FOREIGN_IN_STEPS.values():
        (word,) = re.findall(r"`([\w-]+):", hint)[:1]
        assert word in (*COMMON, *STRUCTURE, *KEYS, *modules), hint
