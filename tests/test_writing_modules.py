"""The example of the guide for modules does what the guide says, as a module, a run and a test."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.session import Options, Surroundings, begin
from engine.store.files import FileStore

GUIDE = Path(__file__).parents[1] / "docs" / "writing-modules.md"
TEXT = GUIDE.read_text(encoding="utf-8")
MODULE, TEST = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
(RUNBOOK,) = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The module beside a runbook that uses it."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "flags.py").write_text(MODULE, encoding="utf-8")
    (tmp_path / "try.yml").write_text(RUNBOOK, encoding="utf-8")
    return tmp_path


@pytest.fixture
def importable(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`import flags` works, as the guide's test has it."""
    monkeypatch.syspath_prepend(str(folder / "modules"))
    importlib.invalidate_caches()
    yield
    sys.modules.pop("flags", None)


@pytest.mark.parametrize("check", [True, False])
def test_the_runbook_of_the_guide_runs(folder: Path, check: bool) -> None:
    session = begin(
        str(folder / "try.yml"),
        Options(check=check),
        Surroundings(store=FileStore(folder / "state")),
    )
    assert session.run() == 0
    written = (folder / "flags.json").exists()
    assert written is not check


def test_the_test_of_the_guide_passes(folder: Path, importable: None) -> None:
    scope: dict[str, object] = {}
    exec(compile(TEST, str(GUIDE), "exec"), scope)
    test = scope["test_a_flag_is_set"]
    assert callable(test)
    test(folder)
