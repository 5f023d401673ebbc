"""The fields that `validate` knows are those that a run gives to templates."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.templating.fields import FIELDS
from tests.report.recorded import Recorded

RUNBOOK = """
    name: Look
    steps:
      - id: a
        toy.act: {}
      - id: seen
        toy.act: {message: "%s"}
      - toy.act: {fail: failed}
    rescue:
      - id: rescued
        toy.act: {message: "{{ failure.keys() | sort | join(' ') }}"}
"""


@pytest.mark.parametrize(
    ("root", "text", "step"),
    [
        ("steps", "{{ steps.a.keys() | sort | join(' ') }}", "seen"),
        ("run", "{{ run.keys() | sort | join(' ') }}", "seen"),
        ("failure", "", ".rescue/rescued"),
    ],
)
def test_the_table_of_fields_is_true(tmp_path: Path, root: str, text: str, step: str) -> None:
    run = Recorded(tmp_path, RUNBOOK % (text or "x"))
    run.run()
    (task,) = run.state.step(run.plan.by_path[step]).tasks
    assert task.message.split() == sorted(FIELDS[root])
