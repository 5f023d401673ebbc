"""``lab('app_url')`` in an inventory: where the parts of the running lab are to be found.

A lab chooses free addresses when it starts, so an inventory cannot name them. It asks by the
names of `LabInfo` instead, and is answered for the lab of the run's own state folder.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.errors import Refused
from engine.lab.layout import LabInfo, Layout
from engine.text import did_you_mean

SECRETS = ("postgres_password", "dsn")
"""Fields that hold the database's password, which is masked before anybody reads them."""


class LabAddresses:
    """The function `lab` of templates. Reads `lab.json` at its first call."""

    def __init__(self, state: Path, mask: Callable[[str], object] = lambda value: None) -> None:
        """`state` is the folder that the lab was started in; `mask` hides a value."""
        self._layout = Layout(state)
        self._mask = mask
        self._info: LabInfo | None = None

    def __call__(self, name: str) -> Any:
        """A field of `LabInfo`. Raises Refused for an unknown name, or when no lab runs."""
        if name not in LabInfo.__struct_fields__:
            hint = did_you_mean(name, LabInfo.__struct_fields__, what="there are")
            raise Refused(f"a lab has no '{name}'", hint=hint)
        if self._info is None:
            self._info = self._layout.read_info()
        if self._info is None:
            raise Refused(
                f"lab('{name}'): no lab runs in {self._layout.state}",
                hint="start one with `ce-run lab up`, or give another inventory with -i",
            )
        if name in SECRETS:
            self._mask(self._info.postgres_password)
        return getattr(self._info, name)
