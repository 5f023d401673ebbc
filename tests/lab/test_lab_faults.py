"""Each fault does what its name says, to the version it was put on, and ends when it is cleared."""

from __future__ import annotations

from typing import Any

import pytest

from engine.errors import LabError
from engine.lab import control
from tests.lab.production import NAMESPACE, Production, eventually, new_reasons


@pytest.fixture
def canary(lab: Production) -> Production:
    """A lab with half of the traffic on 5.1."""
    lab.scale("green", 1)
    lab.set_edge(50)
    lab.set_mesh(50)
    return lab


def fault(lab: Production, **changes: Any) -> None:
    control.fault(lab.state, version="5.1", **changes)


def test_errors_hit_the_version_they_were_put_on(canary: Production) -> None:
    before = canary.figures()
    fault(canary, error_rate=0.5)
    eventually(lambda: 30 < (canary.metric("error_rate", "5.1") or 0) < 70)
    assert canary.metric("error_rate", "5.0") == 0
    eventually(lambda: (canary.metric("agent_failures", "5.1") or 0) > 5)
    assert canary.metric("agent_failures", "5.0") == 0
    assert set(new_reasons(before, canary.figures())) == {"500 agent_coordination_failed"}
    control.clear_faults(canary.state)
    eventually(lambda: canary.metric("error_rate", "5.1") == 0)


def test_latency_slows_requests_and_nothing_else(canary: Production) -> None:
    fault(canary, latency=2.0)
    eventually(lambda: (canary.metric("p50_ms", "5.1") or 0) >= 1950)
    assert (canary.metric("p50_ms", "5.0") or 9000) < 1500
    assert canary.metric("error_rate", "5.1") == 0
    assert (canary.metric("user_satisfaction", "5.1") or 0) <= 50
    control.clear_faults(canary.state, version="5.1")
    eventually(lambda: (canary.metric("p50_ms", "5.1") or 9000) < 1500)


def test_a_crash_ends_the_process_until_it_backs_off(lab: Production) -> None:
    lab.scale("green", 1)
    before = lab.container("green").restart_count
    fault(lab, crash=True)
    eventually(lambda: lab.waiting_reason("green") == "CrashLoopBackOff")
    assert lab.container("green").restart_count >= before
    assert lab.ready_pods("green") == []
    name = lab.pods("green")[0].metadata.name
    log = lab.core.read_namespaced_pod_log(name, NAMESPACE, previous=True)
    assert "FATAL agent coordination failed" in log
    control.clear_faults(lab.state)
    eventually(lambda: len(lab.ready_pods("green")) == 1)
    assert lab.container("green").restart_count > before


def test_never_ready_takes_running_pods_out_and_keeps_new_ones_out(lab: Production) -> None:
    lab.scale("green", 1)
    fault(lab, never_ready=True)
    eventually(lambda: lab.ready_pods("green") == [])
    eventually(lambda: lab.serving("claude_canary") == [])
    lab.scale("green", 2, wait=False)
    eventually(lambda: len(lab.pods("green")) == 2)
    lab.let_pass(60)
    assert lab.ready_pods("green") == []
    assert len(lab.ready_pods("blue")) == 3
    control.clear_faults(lab.state)
    eventually(lambda: len(lab.ready_pods("green")) == 2)


def test_a_bad_image_stops_new_pods_and_leaves_running_ones(lab: Production) -> None:
    lab.scale("green", 1)
    running = lab.pods("green")[0].metadata.name
    fault(lab, bad_image=True)
    lab.scale("green", 2, wait=False)
    new = eventually(lambda: [p for p in lab.pods("green") if p.metadata.name != running])[0]
    eventually(lambda: _waiting(lab, new.metadata.name) in ("ErrImagePull", "ImagePullBackOff"))
    assert [p.metadata.name for p in lab.ready_pods("green")] == [running]
    control.clear_faults(lab.state)
    eventually(lambda: len(lab.ready_pods("green")) == 2)


def test_an_image_that_nobody_built_cannot_be_pulled(lab: Production) -> None:
    pod = {
        "metadata": {"name": "stranger"},
        "spec": {"containers": [{"name": "app", "image": "claude-enhancer:9.9"}]},
    }
    lab.core.create_namespaced_pod(NAMESPACE, pod)
    eventually(lambda: _waiting(lab, "stranger") in ("ErrImagePull", "ImagePullBackOff"))
    lab.core.delete_namespaced_pod("stranger", NAMESPACE)


def test_memory_grows_until_the_pod_is_killed(lab: Production) -> None:
    lab.scale("green", 1)
    eventually(lambda: lab.metric("memory", "5.1"))
    before = lab.metric("memory", "5.1") or 0
    fault(lab, memory_growth=60)
    eventually(lambda: (lab.metric("memory", "5.1") or 0) > before + 15)
    fault(lab, memory_growth=600)
    eventually(lambda: lab.container("green").restart_count >= 1)
    last = lab.container("green").last_state.terminated
    assert (last.reason, last.exit_code) == ("OOMKilled", 137)


def test_agents_that_are_down_show_in_the_metrics(lab: Production) -> None:
    lab.scale("green", 1)
    fault(lab, agents_down=7)
    eventually(lambda: lab.metric("agents_active", "5.1") == 54)
    assert lab.metric("agents_total", "5.1") == 61
    assert lab.metric("agents_active", "5.0") == 61
    availability = lab.metric("agent_availability", "5.1") or 0
    assert round(availability, 2) == round(100 * 54 / 61, 2)
    control.clear_faults(lab.state)
    eventually(lambda: lab.metric("agents_active", "5.1") == 61)


def test_workflow_errors_count_as_such(canary: Production) -> None:
    fault(canary, workflow_error_rate=1.0)
    eventually(lambda: canary.metric("workflow_success", "5.1") == 0)
    assert canary.metric("workflow_success", "5.0") == 100
    assert (canary.metric("workflow_errors", "5.1") or 0) > 0
    control.clear_faults(canary.state)
    eventually(lambda: canary.metric("workflow_success", "5.1") == 100)


def test_faults_add_up_and_are_shown(lab: Production) -> None:
    fault(lab, error_rate=0.1)
    table = control.fault(lab.state, version="5.1", latency=0.3)
    assert (table["5.1"].error_rate, table["5.1"].latency) == (0.1, 0.3)
    assert control.status(lab.state).faults == table
    assert control.fault(lab.state, version="5.1", error_rate=0.0, latency=0.0) == {}


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"error_rate": 2}, "error_rate must lie between 0 and 1"),
        ({"latency": -1}, "latency must not be negative"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(
    lab: Production, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(LabError, match=words):
        fault(lab, **changes)
    assert control.status(lab.state).faults == {}


def _waiting(lab: Production, name: str) -> str:
    statuses = lab.core.read_namespaced_pod(name, NAMESPACE).status.container_statuses
    waiting = statuses[0].state.waiting if statuses else None
    return str(waiting.reason) if waiting else ""
