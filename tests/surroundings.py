"""What the processes that tests start find in their environment: nothing of where the tests run.

A test that passes at a desk has to pass in CI, inside another run, and on a narrow terminal.
"""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

_FOREIGN = ("CE_RUN", "_CE_RUN", "GITHUB", "CI", "NO_COLOR", "TERM", "COLUMNS", "LINES")


def surroundings(**more: str) -> dict[str, str]:
    """The environment without what `ce-run` would take for its own; `more` is added to it."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(_FOREIGN) or name == "CE_RUN_CACHE"
    }
    return kept | {"PYTHONPATH": str(ROOT)} | more
