"""Every runbook fits every inventory: a promise that a change of either can break."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import InvalidRunbook
from tests.runbooks.books import INVENTORIES, RUNBOOKS, loaded, variables
from tests.surroundings import ROOT


@pytest.mark.parametrize("inventory", INVENTORIES)
@pytest.mark.parametrize("runbook", RUNBOOKS)
def test_a_runbook_is_valid_with_an_inventory(runbook: str, inventory: str) -> None:
    try:
        made, where = loaded(runbook, inventory)
    except InvalidRunbook as error:
        pytest.fail("\n".join(map(str, error.problems)))
    assert made.block.steps
    assert where.name == inventory


def shape(value: Any) -> Any:
    """The names in a mapping, all the way down."""
    if isinstance(value, dict):
        return {key: shape(each) for key, each in value.items()}
    return None


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_inventories_have_the_same_names(inventory: str) -> None:
    assert shape(variables(inventory)) == shape(variables("production"))
    ours, theirs = loaded("deploy-5.1", inventory)[1], loaded("deploy-5.1")[1]
    assert list(ours.metrics) == list(theirs.metrics)
    assert list(ours.endpoints) == list(theirs.endpoints)
    assert list(ours.sections["notify"]["channels"]) == list(theirs.sections["notify"]["channels"])


def test_no_secret_is_written_down() -> None:
    for name in ("production", "staging"):
        inventory = loaded("deploy-5.1", name)[1]
        assert inventory.secrets
        assert all(source.kind == "env" for source in inventory.secrets.values())


def test_every_notice_that_is_sent_exists_in_both_languages() -> None:
    sent = {
        line.split("template:")[1].split(",")[0].strip().rstrip("}")
        for file in [*(ROOT / "runbooks").glob("*.yml"), *(ROOT / "runbooks/parts").glob("*.yml")]
        for line in file.read_text().splitlines()
        if "template:" in line and "template: true" not in line
    }
    assert {"deployment-started", "phase-done", "urgent-problem", "rollback-report"} <= sent
    for language in ("en", "zh"):
        folder = ROOT / "runbooks" / "files" / "notices" / language
        assert sent <= {path.stem for path in folder.glob("*.txt")}
