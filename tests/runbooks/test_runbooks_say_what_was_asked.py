"""The numbers and the order that the users of the production gave, held against the files.

The tables are theirs. A change of a number in an inventory has to be made here, too, by somebody
who knows that it was agreed on.
"""

from __future__ import annotations

from typing import Any

import pytest

from engine.model import Step
from engine.templating import Scope, Templates
from tests.runbooks.books import inner_ids, loaded, paths, step, variables, walk

PHASES = "execute/phases"

PRODUCTION: dict[str, Any] = {
    "names.blue": "claude-enhancer-blue",
    "names.green": "claude-enhancer-green",
    "names.canary": "claude-enhancer-canary",
    "names.service": "claude-enhancer-service",
    "names.virtual_service": "claude-enhancer-traffic",
    "names.agents_config": "claude-enhancer-agents",
    "names.release_config": "claude-enhancer-5.1-config",
    "backup.prefix": "claude_enhancer_5_0_backup",
    "backup.keep": "7d",
    "counts": {"agents": 61, "phases": 8},
    "replicas": {"canary": 1, "green": 10},
    "shares": {"canary": 5, "expand": 20, "blue_green": 50, "switch": 100},
    "sample_rate": 0.2,
    "times.health_watch": "300s",
    "times.validate_every": "30s",
    "times.verify_switch": "300s",
    "times.status_every": "30m",
    "schedule": {
        "canary": "T+0",
        "expand": "T+30 min",
        "blue_green": "T+75 min",
        "switch": "T+105 min",
    },
    "guard.every": "10s",
    "guard.hold.canary": "60s",
    "guard.hold.blue_green": "120s",
    "guard.hold.switch": "300s",
    "budgets.environment": "30m",
    "budgets.image": "45m",
    "budgets.configuration": "30m",
    "budgets.people": "15m",
    "budgets.canary": "30m",
    "budgets.expand": "45m",
    "budgets.blue_green": "30m",
    "budgets.switch": "15m",
    "budgets.execution": "2h",
    "budgets.deployment": "4h",
    "budgets.rollback": "30s",
    "budgets.recovery": "5m",
    "before": {"cpu": "< 70 %", "memory": "< 80 %"},
    "stage": {
        "error_rate": "< 0.1 %",
        "p95": "< 500 ms",
        "agent_availability": "> 99 %",
        "workflow_success": "> 98 %",
    },
    "canary_stage": {"p95": "< 200 ms", "agents_loaded": "== 61"},
    "expand_stage": {"satisfaction": "> 95 %"},
    "triggers": {
        "error_rate": 0.5,
        "p95": 1000,
        "agent_failures": 5,
        "workflow_errors": 10,
        "memory": 90,
        "cpu": 85,
    },
    "emergency_triggers": {
        "error_rate": 20,
        "p95": 5000,
        "availability": 95,
        "agent_failures": 50,
    },
    "after_rollback": {"error_rate": "< 1 %", "p95": "< 1000 ms"},
    "success": {
        "error_rate": "< 0.1 %",
        "p50": "< 200 ms",
        "p95": "< 500 ms",
        "p99": "< 1000 ms",
        "requests_per_second": ">= 1000",
        "availability": ">= 99.9 %",
        "agent_availability": ">= 99 %",
        "workflow_success": ">= 98 %",
        "cpu": "< 80 %",
        "memory": "< 85 %",
        "disk": "< 75 %",
        "network": "< 70 %",
        "satisfaction": ">= 95 %",
        "task_completion": ">= 98 %",
        "workflow_interruption": "< 1 %",
        "agent_coordination": "== 100 %",
        "phase_transition": ">= 99 %",
    },
    "data_consistency": 100,
}
"""Path in the variables of production.yml → the value that was asked for."""

THE_SAME_IN_THE_LAB = (
    "names",
    "counts",
    "replicas",
    "shares",
    "before",
    "stage.error_rate",
    "stage.agent_availability",
    "stage.workflow_success",
    "triggers.error_rate",
    "triggers.agent_failures",
    "triggers.workflow_errors",
    "budgets.rollback",
    "data_consistency",
)
"""What the lab must not make easier for itself."""


def at(inventory: str, path: str) -> Any:
    value: Any = variables(inventory)
    for key in path.split("."):
        value = value[key]
    return value


@pytest.mark.parametrize("path", PRODUCTION)
def test_production_has_the_number_that_was_asked_for(path: str) -> None:
    assert at("production", path) == PRODUCTION[path]


@pytest.mark.parametrize("path", THE_SAME_IN_THE_LAB)
def test_the_lab_has_the_same(path: str) -> None:
    assert at("lab", path) == at("production", path)


# -- deployment -----------------------------------------------------------------------------------
def test_the_phases_come_in_their_order() -> None:
    top = [each.id for each in loaded("deploy-5.1")[0].block.steps]
    assert top == ["prepare", "execute", "finish"]
    assert inner_ids("deploy-5.1", PHASES) == ["canary", "expand", "blue-green", "switch"]
    prepared = [id for id in inner_ids("deploy-5.1", "prepare") if not id.endswith("checklist")]
    assert prepared == ["environment", "image", "configuration", "people", "backup"]


@pytest.mark.parametrize(
    ("phase", "share"),
    [
        ("canary", "shares.canary"),
        ("expand", "shares.expand"),
        ("blue-green", "shares.blue_green"),
        ("switch", "shares.switch"),
    ],
)
def test_each_phase_gives_5_1_its_share(phase: str, share: str) -> None:
    route = step("deploy-5.1", f"{PHASES}/{phase}/route")
    assert route.call is not None
    assert route.call.action == "traffic.shift"
    assert route.call.arguments == {
        "to": "{{ inputs.version }}",
        "percent": "{{ " + share + " }}",
    }
    assert route.undo is not None


@pytest.mark.parametrize(
    ("phase", "hold", "budget"),
    [
        ("canary", "canary", "canary"),
        ("expand", "expand", "expand"),
        ("blue-green", "blue_green", "blue_green"),
        ("switch", "switch", "switch"),
    ],
)
def test_each_phase_is_guarded_by_every_trigger(phase: str, hold: str, budget: str) -> None:
    group = step("deploy-5.1", f"{PHASES}/{phase}")
    assert group.vars == {"hold": "{{ guard.hold." + hold + " }}"}
    assert group.budget == "{{ budgets." + budget + " }}"
    tripped_by = {guard.trip for guard in group.guards}
    assert tripped_by == {
        f"result.value > triggers.{name}" for name in variables("production")["triggers"]
    }
    for guard in group.guards:
        assert guard.every == "{{ guard.every }}"
        assert guard.hold == "{{ hold }}"


def test_every_emergency_trigger_guards_the_execution() -> None:
    guards = step("deploy-5.1", "execute").guards
    names = [guard.trip.split("emergency_triggers.")[1] for guard in guards]
    assert names == list(variables("production")["emergency_triggers"])
    assert [guard.trip.split()[1] for guard in guards] == [">", ">", "<", ">"]


def test_the_execution_is_rescued_by_the_emergency_rollback() -> None:
    rescue = step("deploy-5.1", "execute").rescue
    assert rescue is not None
    (rollback,) = rescue.steps
    assert rollback.included is not None
    assert rollback.included.file.endswith("emergency-rollback.yml")
    assert rollback.included.arguments["reason"] == "{{ failure.summary }}"
    assert rollback.included.arguments["automatic"] is True


@pytest.mark.parametrize(
    ("phase", "in_order"),
    [
        ("canary", ["begin", "apply", "warm", "route", "monitoring", "watch", "done"]),
        ("expand", ["begin", "route", "watch", "done"]),
        (
            "blue-green",
            ["begin", "scale", "sync", "preload", "rehearse", "checks", "route", "watch", "done"],
        ),
        (
            "switch",
            ["begin", "health", "sync", "route", "verify", "delete-canary", "watch", "done"],
        ),
    ],
)
def test_the_steps_of_a_phase_come_in_their_order(phase: str, in_order: list[str]) -> None:
    assert inner_ids("deploy-5.1", f"{PHASES}/{phase}") == in_order
    for id, before in zip(in_order[1:], in_order, strict=False):
        assert step("deploy-5.1", f"{PHASES}/{phase}/{id}").needs == (before,)


def test_what_is_watched_in_phase_2() -> None:
    assert set(inner_ids("deploy-5.1", f"{PHASES}/expand/watch")) == {
        "soak",
        "agents",
        "workflow",
        "phase-file",
        "benchmark",
        "users",
    }


def test_what_green_has_to_pass() -> None:
    assert set(inner_ids("deploy-5.1", f"{PHASES}/blue-green/checks")) == {
        "pods",
        "agents",
        "phases",
        "database",
        "migration",
        "performance",
        "configuration",
    }


def test_a_stage_that_soaks_is_validated_all_the_time() -> None:
    soaks = [
        each
        for path, each in walk(loaded("deploy-5.1")[0].block)
        if path.startswith(PHASES) and each.call and each.call.action == "metrics.soak"
    ]
    assert len(soaks) >= 4
    for each in soaks:
        assert each.call is not None
        assert each.call.arguments["every"] == "{{ times.validate_every }}"


def test_the_team_is_told_after_each_phase_and_status_goes_out() -> None:
    told = [p for p in paths("deploy-5.1") if p.startswith(PHASES) and p.endswith("done/tell")]
    assert len(told) == 4
    waits = [
        each
        for path, each in walk(loaded("deploy-5.1")[0].block)
        if path.startswith("execute/status/wait")
    ]
    assert [each.call.arguments["for"] for each in waits if each.call] == [
        "{{ times.status_every }}"
    ] * 3


def asks(path_and_step: tuple[str, Step]) -> bool:
    return path_and_step[1].gate is not None


def test_people_tick_checklists_before_in_each_phase_and_after() -> None:
    gates = dict(filter(asks, walk(loaded("deploy-5.1")[0].block)))
    before = [path for path in gates if path.startswith("prepare/")]
    during = [path for path in gates if path.startswith(PHASES)]
    after = [path for path in gates if path.startswith("finish/")]
    assert (len(before), len(during), len(after)) == (4, 4, 1)
    for gate in (each.gate for each in gates.values()):
        assert gate is not None
        assert gate.checklist
    everything = " ".join(
        str(line).lower() for each in gates.values() if each.gate for line in each.gate.checklist
    )
    for word in (
        *("resources", "network", "dns", "certificates", "load balancers", "reviewed", "tests"),
        *("scanned", "pushed", "agent configurations", "migration", "encryption keys"),
        *("prometheus", "grafana", "alert rules", "logs", "on call", "channel", "rollback"),
        *("contacts", "walk-through", "memory leak", "function", "operations", "users"),
    ):
        assert word in everything, word


def test_the_backup_is_named_and_holds_all_three() -> None:
    runbook, _ = loaded("deploy-5.1")
    assert runbook.vars["backup_name"] == "{{ backup.prefix }}_{{ run.started }}"
    assert inner_ids("deploy-5.1", "prepare/backup")[0] == "database"
    saved = step("deploy-5.1", "prepare/backup/objects").call
    assert saved is not None
    assert set(saved.arguments["objects"][0]["data"]) == {
        "agents.json",
        "phases.json",
        "database.json",
    }


# -- rollback ------------------------------------------------------------------------------------
def test_a_rollback_does_traffic_first_and_pods_second() -> None:
    runbook, _ = loaded("emergency-rollback")
    assert [each.id for each in runbook.block.steps] == [
        *("ask", "stages", "back", "green", "canary", "config", "verify"),
        *("figures", "notify", "report"),
    ]
    assert inner_ids("emergency-rollback", "back")[0] == "traffic"
    for id, needs in {
        "green": ("back",),
        "canary": ("back",),
        "config": ("green", "canary"),
        "verify": ("config",),
        "notify": ("figures",),
        "report": ("notify",),
    }.items():
        assert step("emergency-rollback", id).needs == needs


@pytest.mark.parametrize("group", ["back", "verify"])
def test_people_are_called_when_a_rollback_fails_or_cannot_be_verified(group: str) -> None:
    rescue = step("emergency-rollback", group).rescue
    assert rescue is not None
    *_, call, stop = rescue.steps
    assert call.call is not None
    assert stop.call is not None
    assert call.call.arguments["channel"] == "alarm"
    assert call.ignore_errors
    assert stop.call.arguments["that"] is False
    assert "erson must" in stop.call.arguments["fail_msg"]


def test_who_is_called_hears_what_serves_now() -> None:
    """Read again, whatever failed; a read that cannot reach everything still tells the rest."""
    rescue = step("emergency-rollback", "back").rescue
    assert rescue is not None
    now, call, stop = rescue.steps
    assert now.call is not None
    assert call.call is not None
    assert stop.call is not None
    assert (now.call.action, now.call.arguments) == ("traffic.read", {"partial": True})
    assert now.ignore_errors
    assert "serving_now" in stop.call.arguments["fail_msg"]
    assert "serving_now" in call.call.arguments["vars"]["current_status"]["en"]


def test_a_rollback_that_cannot_count_is_told_all_the_same() -> None:
    for id in ("error-rate", "p95", "agents", "agents-total"):
        assert step("emergency-rollback", f"figures/{id}").ignore_errors


def test_acknowledged_orders_that_vanish_are_seen() -> None:
    """Rows and promises are counted at one moment: orders of the time before hide none that go."""
    ids = inner_ids("deploy-5.1", "prepare/backup")
    rows = ids.index("rows-promised")
    assert ids[rows + 1 : rows + 3] == ["counted", "promised-before"], "monitoring lags behind"
    kept = step("deploy-5.1", "finish/criteria/data/kept").call
    assert kept is not None
    scope = {
        "inputs": {
            "before": {"orders": 1000},
            "promised_rows": {"orders": 1400},
            "promised_before": 1400,
        },
        "promised": {"value": 1600},
        "data_consistency": 100,
    }
    for orders, holds in ((1600, True), (1601, True), (1550, False)):
        names = Scope({**scope, "now_there": {"rows": [{"orders": orders}]}})
        assert bool(Templates().evaluate(kept.arguments["that"], names)) is holds


def test_traffic_is_back_within_its_budget() -> None:
    assert step("emergency-rollback", "back").budget == "{{ budgets.rollback }}"
    budget = "{{ budgets.recovery if at_once else budgets.planned_rollback }}"
    assert loaded("emergency-rollback")[0].budget == budget


def test_a_rollback_preempts_and_force_asks_nobody() -> None:
    runbook, _ = loaded("emergency-rollback")
    assert runbook.preempts
    assert runbook.locks == ("production",)
    assert runbook.inputs["reason"].default == ""
    assert runbook.vars["at_once"] == "{{ run.force or inputs.automatic }}"
    gates = dict(filter(asks, walk(runbook.block)))
    assert list(gates) == ["ask", "stages/go-on"]
    assert gates["ask"].when == ("not at_once",)
    assert step("emergency-rollback", "stages").when == ("planned",)


def test_a_rollback_never_undoes_itself() -> None:
    for _, each in walk(loaded("emergency-rollback")[0].block):
        assert each.undo is None


# -- restore ---------------------------------------------------------------------------------------
def test_writes_are_paused_first_and_go_on_last() -> None:
    inside = inner_ids("data-restore", "restore")
    assert inside == [
        *("pause", "paused", "database", "agents", "pods", "workflow", "verify", "resume")
    ]
    for id, before in zip(inside[1:], inside, strict=False):
        assert step("data-restore", f"restore/{id}").needs == (before,)
    rescue = step("data-restore", "restore").rescue
    assert rescue is not None
    last = rescue.steps[-1].call
    assert last is not None
    assert (last.action, last.arguments["that"]) == ("assert", False)
