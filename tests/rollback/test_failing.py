"""A rollback that cannot reach a layer: every word that it leaves is true, and leads on."""

from __future__ import annotations

import json
from pathlib import Path

from engine.lab import control
from engine.lab.layout import Layout
from engine.lab.people.inbox_file import read_inbox
from tests.rollback.duty import Duty

OVERLAY = "name: lab\nhaproxy: {{edge: {{address: 'unix:{folder}/gone'}}}}\n"
BUDGETS = {"rollback": "4s", "recovery": "60s", "planned_rollback": "2m"}


def test_what_is_left_is_told_as_it_is(duty: Duty, tmp_path: Path) -> None:
    overlay = tmp_path / "overlay.yml"
    overlay.write_text(OVERLAY.format(folder=tmp_path))
    with duty.deploying("expand"):
        rollback = duty.roll_back(
            "-i",
            str(overlay),
            "--force",
            "--reason",
            "tried",
            "-e",
            json.dumps({"budgets": BUDGETS}),
        )
    assert rollback.status == 3, rollback.output
    weights = control.status(duty.state).weights
    assert (duty.selected(), weights["mesh"]["canary"]) == ("5.0", 0)
    assert weights["edge"]["canary"] == 20
    said = rollback.output
    assert f"HAProxy at unix:{tmp_path}/gone could not be moved" in said
    assert "VirtualService claude-enhancer-traffic: 5.0 100 %, 5.1 0 %" in said
    assert f"HAProxy at unix:{tmp_path}/gone: not known (does not answer" in said
    assert "is back" not in said
    assert f"socat stdio UNIX-CONNECT:{tmp_path}/gone" in said
    *_, following = said.partition("\nNext\n")
    assert "--redo" not in following
    assert "emergency-rollback.yml" in following
    assert "--force --reason tried" in following
    urgent = [each for each in read_inbox(Layout(duty.state).inbox) if "5.0 100 %" in str(each)]
    assert urgent
