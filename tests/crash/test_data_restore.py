"""data-restore.yml whole, against the lab, under load: pause, restore, verify, go on.

Nothing that a user was promised disappears silently, also when the engine is killed meanwhile;
and what cannot be verified leaves writes paused.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from engine.events import TaskFinished
from engine.lab import control
from tests.crash.killed import Spot
from tests.crash.operator import Ended, in_turn
from tests.crash.stage import Stage
from tests.lab.production import NAMESPACE, eventually

AGENTS = "claude-enhancer-agents"
PHASE = "/app/.phase/current"
MAINTENANCE = "claude-enhancer-maintenance"
FAILED = 1
A_PERSON_MUST_ACT = 3

CRASHES = (
    Spot("before", type="task_finished", step="restore/pause"),
    Spot("synced", type="task_started", step="restore/database"),
    Spot("before", type="task_finished", step="restore/database"),
    Spot("before", type="task_finished", step="restore/agents"),
    Spot("before", type="task_finished", step="restore/workflow"),
    Spot("before", type="task_finished", step="restore/resume"),
    Spot("before", type="task_finished", step="report"),
)


@pytest.fixture
def backup(stage: Stage) -> str:
    """The name of a backup as deploy-5.1.yml takes it, older than many acknowledged writes."""
    control.set_rate(stage.state, 60)
    stage.lab.let_pass(100)
    ended = stage.operator.carry(*stage.arguments(_backup_alone(stage.runbooks)))
    assert ended.outcome == "succeeded", ended.output
    stage.lab.let_pass(100)
    return str(_result(ended, "backup/database")["name"])


def _backup_alone(runbooks: Path) -> str:
    """A runbook with nothing but the backup of the shipped deployment; its name."""
    deployment = yaml.safe_load((runbooks / "deploy-5.1.yml").read_text())
    prepare = {each["id"]: each for each in deployment["steps"][0]["steps"]}
    agents = next(each for each in prepare["configuration"]["steps"] if each["id"] == "agents")
    alone = {
        **{key: deployment[key] for key in ("name", "inputs", "locks")},
        "vars": {"backup_name": deployment["vars"]["backup_name"]},
        "steps": [agents, prepare["backup"]],
    }
    (runbooks / "backup-alone.yml").write_text(yaml.safe_dump(alone, sort_keys=False))
    return "backup-alone.yml"


def _result(ended: Ended, step: str) -> dict[str, Any]:
    """What a step's last success has returned."""
    results = [
        each.event.data
        for each in ended.records
        if isinstance(each.event, TaskFinished) and each.event.step == step
    ]
    return results[-1]


def _writes(stage: Stage) -> str:
    """What the application says of writes: ``open`` or ``paused``."""
    answer = httpx.get(f"{stage.lab.info.app_url}/health/ready").json()
    return str(answer["writes"])


def _paused_by(stage: Stage) -> bool:
    maps = stage.lab.core.list_namespaced_config_map(NAMESPACE).items
    return any(each.metadata.name == MAINTENANCE for each in maps)


def _agents(stage: Stage) -> dict[str, str]:
    found: dict[str, str] = stage.lab.core.read_namespaced_config_map(AGENTS, NAMESPACE).data
    return found


def test_a_restore_that_dies_again_and_again_loses_nothing_silently(
    stage: Stage, backup: str
) -> None:
    lab = stage.lab
    agents = _agents(stage)
    lab.set_configmap(AGENTS, {**agents, next(iter(agents)): "{}"})

    arguments = stage.arguments("data-restore.yml", backup=backup)
    ended = stage.operator.carry(*arguments, where=in_turn(*CRASHES))

    assert ended.outcome == "succeeded", ended.output
    assert len(ended.deaths) == len(CRASHES)
    assert _agents(stage) == agents
    assert ended.decided == []
    assert not _paused_by(stage)
    eventually(lambda: _writes(stage) == "open")
    _nothing_lost_silently(stage, ended)


def _nothing_lost_silently(stage: Stage, ended: Ended) -> None:
    """Each acknowledged write that is not there is in the old database, counted and told."""
    restored = _result(ended, "restore/database")
    stage.lab.quieten()
    figures = stage.lab.figures(verify_writes=True)
    now = set(stage.lab.sql("SELECT source, seq FROM orders"))
    then = set(stage.lab.sql("SELECT source, seq FROM orders", database=restored["old"]))
    aside = then - now
    assert restored["set_aside"]["public.orders"]["added"] == len(aside) > 0
    assert figures.writes_lost is not None
    assert 0 < figures.writes_lost <= len(aside)
    rows = restored["set_aside_rows"]
    assert f"{rows} rows" in ended.output
    told = [each for each in control.inbox(stage.state) if "estored" in each.summary]
    assert {each.channel for each in told} >= {"slack", "email"}
    assert all(str(rows) in json.dumps(each.body) for each in told if each.channel == "slack")
    print(
        f"{len(ended.deaths)} points; {figures.writes_acknowledged} writes acknowledged, "
        f"{figures.writes_lost} of them newer than the backup: all are in {restored['old']}; "
        f"{rows} rows set aside and told; {figures.failures} requests failed: {figures.reasons}"
    )


def test_what_cannot_be_verified_leaves_writes_paused_until_it_is_put_right(
    stage: Stage, backup: str
) -> None:
    manifest = Path(stage.lab.info.folder) / "backups" / f"{backup}.json"
    good = manifest.read_text()
    before = stage.lab.sql("SELECT count(*) FROM orders")[0][0]
    tampered = json.loads(good)
    tampered["tables"]["public.orders"]["rows"] += 1
    manifest.write_text(json.dumps(tampered))

    arguments = stage.arguments("data-restore.yml", backup=backup)
    assert stage.operator.command("run", *arguments, "--yes") == A_PERSON_MUST_ACT

    assert _paused_by(stage)
    assert _writes(stage) == "paused"
    assert stage.lab.sql("SELECT count(*) FROM orders")[0][0] >= before  # the old data, untouched
    called = [each for each in control.inbox(stage.state) if each.channel == "pagerduty"]
    assert called
    assert "writes stay paused" in json.dumps(called[-1].body)

    manifest.write_text(good)
    stage.lab.quieten()  # or else users move their workflows on as soon as they can
    phases = _disturb_phases(stage, backup)
    ended = stage.operator.carry(*arguments)
    assert ended.outcome == "succeeded", ended.output
    assert "3 of 3 pods of the backup have their workflow phase back" in ended.output
    for pod, phase in phases.items():
        assert stage.lab.exec(pod, "cat", PHASE).strip() == phase
    eventually(lambda: _writes(stage) == "open")


def _disturb_phases(stage: Stage, backup: str) -> dict[str, str]:
    """Give every pod another workflow phase; those of the backup, by pod."""
    name = backup.replace("_", "-").lower()
    saved = stage.lab.core.read_namespaced_config_map(name, NAMESPACE).data["phases.json"]
    phases: dict[str, str] = json.loads(saved)
    assert len(phases) == 3
    for pod, phase in phases.items():
        stage.lab.exec(pod, "sh", "-c", f"echo P{(int(phase[1]) + 3) % 8} > {PHASE}")
    return phases


@pytest.mark.parametrize("harm", ["cut", "replaced with its manifest"])
def test_a_dump_that_is_not_whole_is_told_before_writes_are_paused(
    stage: Stage, backup: str, harm: str
) -> None:
    """Users can go on: nothing was touched, and there is nothing for a person to put right."""
    dump = Path(stage.lab.info.folder) / "backups" / f"{backup}.dump"
    if harm == "cut":
        dump.write_bytes(dump.read_bytes()[:-1])
    else:
        dump.write_bytes(dump.read_bytes() + b"\0")
        manifest = json.loads(dump.with_suffix(".json").read_text())
        manifest["sha256"] = hashlib.sha256(dump.read_bytes()).hexdigest()
        dump.with_suffix(".json").write_text(json.dumps(manifest))

    arguments = stage.arguments("data-restore.yml", backup=backup)
    assert stage.operator.command("run", *arguments, "--yes") == FAILED

    assert not _paused_by(stage)
    assert _writes(stage) == "open"
    told = stage.operator.told()
    assert "checksum" in told
    assert "restore/pause" not in told
    databases = stage.lab.sql("SELECT datname FROM pg_database WHERE datname LIKE '%restore%'")
    assert databases == []


def test_a_difference_found_after_the_swap_leaves_writes_paused(stage: Stage, backup: str) -> None:
    """The last word has what the backup's ConfigMap says, as long as writes are paused."""
    name = backup.replace("_", "-").lower()
    saved = stage.lab.core.read_namespaced_config_map(name, NAMESPACE)
    database = json.loads(saved.data["database.json"])
    database["tables"]["public.users"] += 1
    saved.data["database.json"] = json.dumps(database)
    stage.lab.core.replace_namespaced_config_map(name, NAMESPACE, saved)

    arguments = stage.arguments("data-restore.yml", backup=backup)
    assert stage.operator.command("run", *arguments, "--yes") == A_PERSON_MUST_ACT

    assert _paused_by(stage)
    assert _writes(stage) == "paused"
    assert "the restored database does not hold what the backup says" in stage.operator.told()

    set_aside = stage.lab.sql("SELECT datname FROM pg_database WHERE datname ~ '_before_'")[0][0]
    orders = "SELECT count(*) FROM orders"
    lost = stage.lab.sql(orders, database=set_aside)[0][0] - stage.lab.sql(orders)[0][0]
    assert lost > 0
    database["tables"]["public.users"] -= 1
    saved = stage.lab.core.read_namespaced_config_map(name, NAMESPACE)
    saved.data["database.json"] = json.dumps(database)
    stage.lab.core.replace_namespaced_config_map(name, NAMESPACE, saved)
    again = stage.operator.carry(*arguments)
    assert again.outcome == "succeeded", again.output
    told = f"{lost} acknowledged writes that a restore before this one set aside are in {set_aside}"
    assert told in again.output
    eventually(lambda: _writes(stage) == "open")
