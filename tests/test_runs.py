"""FileStore of a state folder: which one is the last."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.errors import UsageError
from engine.journal import FILE_NAME
from engine.store import RunInfo
from engine.store.files import FileStore


def test_of_runs_of_the_same_second_the_last_is_the_one_that_began_last(tmp_path: Path) -> None:
    runs = FileStore(tmp_path)
    for number in range(8):
        info = RunInfo(run="", runbook="a.yml", inventory=None, cwd="/")
        folder = runs.create(
            "zebra" if number % 2 else "ant", 1_769_868_309.0 + number // 7, info, {}
        )
        (folder.path / FILE_NAME).touch()
        os.utime(folder.path / "run.json", ns=(0, 1_000_000 * number))
        assert runs.find("last").run_id == folder.run_id
        folder.disown()


def test_where_nothing_has_run_yet_it_is_said_so(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there are no runs in"):
        FileStore(tmp_path).find("last")
