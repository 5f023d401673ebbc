"""One lab for all tests of this folder, put back to 5.0 after each."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.lab import control
from engine.lab.settings import Settings
from tests.lab.production import Production


@pytest.fixture(scope="package")
def shared_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Production]:
    """A lab for all tests of this folder; use `lab`."""
    state = tmp_path_factory.mktemp("lab")
    lab = Production(state, control.up(state, settings=Settings(request_rate=80)))
    yield lab
    lab.close()
    control.down(state)


@pytest.fixture
def lab(shared_lab: Production) -> Iterator[Production]:
    """A production on 5.0 under load."""
    yield shared_lab
    shared_lab.restore()
