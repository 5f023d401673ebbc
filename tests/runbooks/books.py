"""The project's runbooks and inventories, loaded, and ways to look into them."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from typing import Any

from engine.inventory import Inventory
from engine.loader import load
from engine.model import Block, Runbook, Step
from engine.session import registry_for
from tests.surroundings import ROOT

RUNBOOKS = ("deploy-5.1", "emergency-rollback", "data-restore")
INVENTORIES = ("production", "staging", "lab")


@functools.cache
def loaded(runbook: str, inventory: str = "production") -> tuple[Runbook, Inventory]:
    """A runbook with an inventory; raises InvalidRunbook with every problem."""
    path = str(ROOT / "runbooks" / f"{runbook}.yml")
    where = str(ROOT / "inventories" / f"{inventory}.yml")
    return load(path, registry=registry_for(path), inventory_path=where)


def variables(inventory: str) -> dict[str, Any]:
    """The variables of an inventory, as written."""
    return loaded("deploy-5.1", inventory)[1].vars


def walk(block: Block, prefix: str = "") -> Iterator[tuple[str, Step]]:
    """Every step of a block with its path, in file order; included runbooks inside."""
    for step in block.steps:
        path = f"{prefix}{step.id}"
        yield path, step
        if step.block is not None:
            yield from walk(step.block, f"{path}/")


def step(runbook: str, path: str) -> Step:
    """A step by its path."""
    found = dict(walk(loaded(runbook)[0].block))
    return found[path]


def paths(runbook: str) -> list[str]:
    """The paths of all steps, in file order."""
    return [path for path, _ in walk(loaded(runbook)[0].block)]


def inner_ids(runbook: str, path: str) -> list[str]:
    """The ids of the steps directly inside a group."""
    block = step(runbook, path).block
    assert block is not None
    return [each.id for each in block.steps]
