"""What holds in every test of the production: no controller fails at what it was given."""

from __future__ import annotations

from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def no_controller_fails(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """A controller's exception is logged, not raised: here it fails the test."""
    yield
    assert [each.getMessage() for each in caplog.records if each.levelname == "ERROR"] == []
