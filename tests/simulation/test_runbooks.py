"""All actions and all shipped runbooks can be rehearsed, and touch nothing while they are."""

from __future__ import annotations

import socket
import subprocess
import threading
from pathlib import Path

import pytest

from engine.errors import UsageError
from engine.registry import Registry
from engine.simulation import World
from tests.runbooks.books import variables
from tests.simulation.rehearsing import Rehearsed, rehearse

INVENTORIES = ("production", "staging", "lab")


@pytest.fixture(autouse=True)
def nothing_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket is opened, no process started, no thread made."""

    def refuse(*words: object, **more: object) -> None:
        raise AssertionError(f"a rehearsal reached for the world: {words} {more}")

    monkeypatch.setattr(socket, "socket", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(subprocess, "Popen", refuse)
    monkeypatch.setattr(threading.Thread, "start", refuse)


def deployed(folder: Path, inventory: str) -> Rehearsed:
    """The whole deployment. The lab's budgets, in which a build takes no time and nobody is asked,
    are too short for a world like the real one."""
    budgets = dict.fromkeys(variables("lab")["budgets"], "4h")
    return rehearse(
        "runbooks/deploy-5.1.yml",
        folder,
        inventory=f"inventories/{inventory}.yml",
        extra={"budgets": budgets} if inventory == "lab" else None,
    )


def shifts(run: Rehearsed) -> list[dict[str, int]]:
    """The shares that steps reported, one after the other."""
    told = [getattr(record.event, "shares", None) for record in run.records]
    rounded = [{name: round(share) for name, share in shares.items()} for shares in told if shares]
    return [each for each, before in zip(rounded, [{}, *rounded], strict=False) if each != before]


def selected(world: World) -> str:
    service = world.cluster.get("Service", "claude-enhancer-service")
    assert service is not None
    return str(service["spec"]["selector"]["version"])


def replicas(world: World, name: str) -> int:
    deployment = world.cluster.get("Deployment", name)
    assert deployment is not None
    return int(deployment["status"].get("readyReplicas", 0))


def exists(world: World, kind: str, name: str) -> bool:
    return world.cluster.get(kind, name) is not None


def test_every_action_can_be_simulated() -> None:
    registry = Registry()
    modules = [module for name in registry.names() if (module := registry.module(name))]
    actions = [info for module in modules for info in module.actions.values()]
    assert len(actions) > 40
    assert [info.name for info in actions if not info.simulates] == []


def test_an_action_of_a_user_that_cannot_be_simulated_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "cache.py").write_text(
        "from engine.module_api import Context, Result, action\n\n"
        '@action(effect="idempotent")\n'
        "def flush(ctx: Context) -> Result:\n"
        '    """Empty the cache."""\n'
        "    return Result(True)\n"
    )
    book = tmp_path / "book.yml"
    book.write_text("name: Flush\nsteps:\n  - {id: flush, cache.flush: {}}\n")
    with pytest.raises(UsageError) as refusal:
        rehearse(book, tmp_path / "state")
    assert "cache (step flush)" in refusal.value.message
    assert "@….simulate" in str(refusal.value.hint)
    assert not list((tmp_path / "state").glob("runs/*/journal.jsonl")), "nothing is left of it"


@pytest.mark.parametrize("name", INVENTORIES)
def test_the_deployment(tmp_path: Path, name: str) -> None:
    run = deployed(tmp_path, name)
    assert (run.status, run.state.outcome) == (0, "succeeded")
    assert [each["5.1"] for each in shifts(run) if each["5.1"]] == [5, 20, 50, 100]
    assert run.world.shares() == {"5.1": pytest.approx(100)}
    assert selected(run.world) == "5.1"
    assert not exists(run.world, "Deployment", "claude-enhancer-canary")
    assert replicas(run.world, "claude-enhancer-blue") > 0, "blue stands by"
    assert run.world.load.longest_failing(run.records[0].time) == 0


def rolled_back(folder: Path, name: str, **options: object) -> Rehearsed:
    before = deployed(folder / "deployed", name)
    return rehearse(
        "runbooks/emergency-rollback.yml",
        folder / "back",
        inventory=f"inventories/{name}.yml",
        world=before.world,
        reason="error_rate_high",
        **options,  # type: ignore[arg-type]
    )


def is_back(run: Rehearsed) -> None:
    assert (run.status, run.state.outcome) == (0, "succeeded")
    assert run.world.shares() == {"5.0": pytest.approx(100)}
    assert selected(run.world) == "5.0"
    assert replicas(run.world, "claude-enhancer-green") == 0
    assert not exists(run.world, "ConfigMap", "claude-enhancer-5.1-config")


@pytest.mark.parametrize("name", INVENTORIES)
def test_the_forced_rollback_of_a_deployment(tmp_path: Path, name: str) -> None:
    is_back(rolled_back(tmp_path, name, force=True))


def test_the_planned_rollback_of_a_deployment(tmp_path: Path) -> None:
    is_back(rolled_back(tmp_path, "production", extra={"severity": "P2"}))


def test_the_restore_of_a_backup(tmp_path: Path) -> None:
    before = rehearse("runbooks/deploy-5.1.yml", tmp_path / "a")
    backups = [
        obj["metadata"]["labels"]["backup"]
        for obj in before.world.cluster.list("ConfigMap")
        if "backup" in (obj["metadata"].get("labels") or {})
    ]
    run = rehearse(
        "runbooks/data-restore.yml",
        tmp_path / "b",
        extra={"backup": backups[0]},
        world=before.world,
    )
    assert (run.status, run.state.outcome) == (0, "succeeded")
    assert not run.world.writes_paused
    assert run.world.agents == 61
