"""The whole way in the lab: 5.1 is deployed, data is restored, 5.1 is taken back.

Each test goes on where the one before it ended, as the work of a day does.
"""

from __future__ import annotations

import json

import pytest

from tests.runbooks.books import variables
from tests.runbooks.desk import Desk, Run

PHASES = "execute/phases"


@pytest.fixture(scope="module")
def deployed(desk: Desk) -> Run:
    """5.1 has been deployed."""
    return desk.run("deploy-5.1", "--yes")


@pytest.fixture(scope="module")
def restored(desk: Desk, deployed: Run) -> Run:
    """The data is that of the backup that the deployment took."""
    assert deployed.status == 0, deployed.output
    return desk.run("data-restore", "--yes", "-e", f"backup={backup_of(deployed)}")


@pytest.fixture(scope="module")
def rolled_back(desk: Desk, restored: Run) -> Run:
    """5.1 has been taken back."""
    assert restored.status == 0, restored.output
    return desk.run("emergency-rollback", "--force", "--reason", "error_rate_high")


def backup_of(deployed: Run) -> str:
    return str(deployed.finished("prepare/backup/database")["data"]["name"])


# -- deployment -----------------------------------------------------------------------------------
def test_a_deployment_succeeds_and_no_user_notices(desk: Desk, deployed: Run) -> None:
    assert deployed.status == 0, deployed.output
    figures = desk.figures(verify_writes=True)
    assert figures.reasons == {}
    assert figures.failures == 0
    assert figures.sessions_lost == 0
    assert figures.workflow_jumps == 0
    assert figures.writes_lost == 0


def test_a_deployment_ends_by_saying_so(deployed: Run) -> None:
    said = deployed.finished("finish/figures")["message"]
    assert said.endswith("requests during the deployment: 0 failed, 0 sessions lost")
    assert int(said.split()[0]) > 1000
    assert said in deployed.output


def test_all_traffic_is_on_5_1_and_the_canary_is_gone(desk: Desk, deployed: Run) -> None:
    assert desk.selected() == "5.1"
    assert desk.share_of_5_1() == {100}
    assert desk.pods("5.1") == variables("lab")["replicas"]["green"]
    assert desk.pods("5.0") == 3  # blue stands by
    assert desk.objects("Deployment", "claude-enhancer-canary") is None
    assert desk.objects("ConfigMap", "claude-enhancer-5.1-config") is not None


def test_what_serves_is_the_image_that_was_verified(desk: Desk, deployed: Run) -> None:
    green = desk.objects("Deployment", "claude-enhancer-green")
    assert green is not None
    image = green["spec"]["template"]["spec"]["containers"][0]["image"]
    verified = deployed.finished("prepare/image/verify")["data"]
    assert image == f"{verified['image']}@{verified['digest']}"
    config = desk.objects("ConfigMap", "claude-enhancer-5.1-config")
    assert config is not None
    assert config["data"]["CE_IMAGE_DIGEST"] == verified["digest"]


@pytest.mark.parametrize(
    ("phase", "share"), [("canary", 5), ("expand", 20), ("blue-green", 50), ("switch", 100)]
)
def test_each_phase_gave_its_share(deployed: Run, phase: str, share: int) -> None:
    shifted = deployed.finished(f"{PHASES}/{phase}/route")["data"]
    assert shifted["shares"]["5.1"] == share
    assert shifted["agree"]
    assert not shifted["overloaded"]


def test_everyone_was_told(desk: Desk, deployed: Run) -> None:
    told = "\n".join(desk.notices())
    for words in (
        "has started",
        *(f"Phase {number} done" for number in (1, 2, 3, 4)),
        "% of the traffic",
        "is in production",
        "complete",
    ):
        assert words in told, words
    for channel in ("slack", "email", "webhook", "statuspage"):
        assert f"{channel}: " in told
    assert "pagerduty" not in told
    ignored = [each for each in deployed.events if each.get("status") == "failed"]
    assert [each["step"] for each in ignored if "notify" in json.dumps(each)] == []


# -- restore ---------------------------------------------------------------------------------------
def test_a_restore_counts_what_users_were_promised_since(desk: Desk, restored: Run) -> None:
    assert restored.status == 0, restored.output
    data = restored.finished("restore/database")["data"]
    newer = data["set_aside"]["public.orders"]["added"]
    assert newer > 0
    assert f"{newer} acknowledged writes are newer than the backup" in restored.output
    lost = desk.figures(verify_writes=True).writes_lost
    assert lost == newer  # nothing is gone that was not counted


def test_a_restore_pauses_writes_and_lets_them_go_on(desk: Desk, restored: Run) -> None:
    steps = [f"restore/{id}" for id in ("pause", "paused", "database", "agents", "resume")]
    assert restored.order(*steps) == steps
    assert desk.objects("ConfigMap", "claude-enhancer-maintenance") is None
    assert desk.figures().failures == 0
    before = desk.figures().writes_acknowledged
    desk.wait_for("writes go on", lambda: desk.figures().writes_acknowledged > before)


def test_a_backup_that_is_not_whole_leaves_production_alone(desk: Desk, restored: Run) -> None:
    refused = desk.run("data-restore", "--yes", "-e", "backup=claude_enhancer_no_such_backup")
    assert refused.status == 1
    assert desk.objects("ConfigMap", "claude-enhancer-maintenance") is None


# -- rollback --------------------------------------------------------------------------------------
def test_a_rollback_brings_everything_back_to_5_0(desk: Desk, rolled_back: Run) -> None:
    assert rolled_back.status == 0, rolled_back.output
    assert desk.selected() == "5.0"
    assert desk.share_of_5_1() == {0}
    assert desk.objects("Deployment", "claude-enhancer-canary") is None
    assert desk.objects("ConfigMap", "claude-enhancer-5.1-config") is None
    desk.wait_for("green is gone", lambda: desk.pods("5.1") == 0)
    assert desk.pods("5.0") == 3
    figures = desk.figures()
    assert figures.failures == 0
    assert figures.sessions_lost == 0


def test_a_rollback_moves_traffic_before_pods(rolled_back: Run) -> None:
    steps = ["back/traffic", "back/front-door", "green", "config", "report"]
    assert rolled_back.order(*steps) == steps


def test_a_rollback_records_the_reason_and_asks_nobody(desk: Desk, rolled_back: Run) -> None:
    assert rolled_back.events[0]["reason"] == "error_rate_high"
    assert not any(each["type"] == "gate_opened" for each in rolled_back.events)
    assert "error_rate_high" in rolled_back.finished("report")["data"]["notices"]["en"]["text"]
    assert any(each.startswith("pagerduty: ") for each in desk.notices())


def test_a_rollback_of_what_is_rolled_back_changes_nothing(desk: Desk, rolled_back: Run) -> None:
    again = desk.run("emergency-rollback", "--force")
    assert again.status == 0
    done = [e for e in again.events if e["type"] == "task_finished"]
    changed = {e["step"] for e in done if e.get("changed")}
    assert changed == {"notify", "report"}
    assert "not given" in again.finished("report")["data"]["notices"]["en"]["text"]


def test_a_planned_rollback_asks_twice(desk: Desk, rolled_back: Run) -> None:
    options = ("--yes", "-e", "severity=P2", "-e", "reason=performance_degradation")
    planned = desk.run("emergency-rollback", *options)
    assert planned.status == 0, planned.output
    asked = [e["step"] for e in planned.events if e["type"] == "gate_opened"]
    assert asked == ["ask", "stages/go-on"]
    steps = ["stages/now", "stages/validate", "back/traffic"]
    assert planned.order(*steps) == steps
