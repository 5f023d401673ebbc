"""One lab for all crashes, under a little load."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.lab import control
from engine.lab.settings import Settings
from tests.crash.stage import Stage
from tests.surroundings import ROOT


@pytest.fixture(scope="package")
def shared_stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A lab and a copy of the shipped runbooks with those of the tests beside them."""
    folder = tmp_path_factory.mktemp("crash")
    runbooks = folder / "runbooks"
    for name in ("runbooks", "inventories"):
        shutil.copytree(ROOT / name, folder / name)
    shutil.copytree(Path(__file__).parent / "runbooks", runbooks, dirs_exist_ok=True)
    state = folder / "state"
    control.up(state, settings=Settings(request_rate=20))
    yield Stage(state, runbooks, folder)
    control.down(state)


@pytest.fixture
def stage(shared_stage: Stage) -> Stage:
    """The stage with a lab on 5.0 as it is after its start."""
    shared_stage.reset()
    return shared_stage
