"""One lab for the runbooks' tests, used the way people use it: through the command line."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.lab import control
from engine.lab.settings import Settings
from tests.runbooks.desk import Desk


@pytest.fixture(scope="package")
def desk_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    """A lab on 5.0, with half the load of `make deploy` for busy machines; use `desk`."""
    state = tmp_path_factory.mktemp("desk")
    control.up(state, settings=Settings(request_rate=120))
    yield Desk(state)
    control.down(state)


@pytest.fixture(scope="module")
def desk(desk_for_all: Desk) -> Desk:
    """The lab, fresh for each file of tests."""
    control.reset(desk_for_all.state)
    return desk_for_all
