"""One lab for the tests of the way back, on 5.0 and with nothing counted before each of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from engine.lab import control
from tests.rollback.duty import Duty


@pytest.fixture(scope="package")
def busy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Duty]:
    """A lab with the load of `make deploy`, as the test before left it."""
    state = tmp_path_factory.mktemp("rollback")
    control.up(state)
    yield Duty(state)
    control.down(state)


@pytest.fixture
def duty(busy: Duty) -> Duty:
    """Somebody on duty, and a lab as it is after its start."""
    control.reset(busy.state)
    return busy
