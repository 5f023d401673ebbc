"""A pod is a real process with the endpoints, files and logs of the application."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from engine.production.names import AGENTS_CONFIGMAP
from tests.lab.production import NAMESPACE, Production, eventually


@pytest.fixture
def pod(lab: Production) -> Any:
    """The first pod of 5.0."""
    return lab.ready_pods("blue")[0]


def at(lab: Production, pod: Any, port: int, path: str) -> httpx.Response:
    return httpx.get(f"http://{pod.status.pod_ip}:{lab.info.pod_ports[port]}{path}")


@pytest.mark.parametrize("path", ["/health", "/health/live"])
def test_liveness_tells_who_it_is(lab: Production, pod: Any, path: str) -> None:
    body = at(lab, pod, 8080, path).json()
    assert (body["status"], body["version"]) == ("healthy", "5.0")
    assert body["uptime"] > 0
    assert body["timestamp"].endswith("Z")


@pytest.mark.parametrize("path", ["/ready", "/health/ready"])
def test_readiness_tells_every_check(lab: Production, pod: Any, path: str) -> None:
    body = at(lab, pod, 8080, path).json()
    assert body["ready_for_traffic"] is True
    assert body["checks"] == {
        "agents_loaded": True,
        "workflow_initialized": True,
        "database": True,
        "redis": True,
        "external_services": True,
    }


def test_startup_tells_its_parts(lab: Production, pod: Any) -> None:
    body = at(lab, pod, 8080, "/health/startup").json()
    assert all(body[part] for part in ("config", "agents", "workflow_engine", "hooks"))


def test_all_agents_are_listed(lab: Production, pod: Any) -> None:
    body = at(lab, pod, 8080, "/api/v1/agents").json()
    assert (body["total"], body["active"], len(body["agents"])) == (61, 61, 61)


@pytest.mark.parametrize(
    ("port", "path", "metric"),
    [
        (9090, "/metrics", "ce_requests_total"),
        (9091, "/metrics/agents", "ce_agents_active"),
        (9092, "/metrics/workflow", "ce_workflow_transitions_total"),
    ],
)
def test_metrics_are_on_their_ports(
    lab: Production, pod: Any, port: int, path: str, metric: str
) -> None:
    assert f'{metric}{{version="5.0"' in at(lab, pod, port, path).text


def test_commands_run_in_the_pod_s_folder(lab: Production, pod: Any) -> None:
    name = pod.metadata.name
    assert lab.exec(name, "cat", "/app/.phase/current").strip() in {f"P{n}" for n in range(8)}
    count = lab.exec(name, "sh", "-c", "ls /app/config/agents | wc -l")
    assert count.strip() == "61"
    assert lab.exec(name, "pwd").strip() == "/app"
    assert lab.exec(name, "sh", "-c", "echo $AGENT_COUNT $HOSTNAME").split() == ["61", name]


def test_a_pod_s_localhost_is_the_pod(lab: Production, pod: Any) -> None:
    script = "import urllib.request as u; print(u.urlopen('http://localhost:8080/health').read())"
    assert '"version":"5.0"' in lab.exec(pod.metadata.name, "python3", "-c", script)


def test_the_data_layer_answers_from_its_pods(lab: Production) -> None:
    assert lab.exec("postgres-0", "psql", "-tAc", "SELECT 40 + 2").strip() == "42"
    assert lab.exec("redis-0", "redis-cli", "PING").strip() == "PONG"
    assert lab.exec("redis-0", "redis-cli", "set", "a", "b").strip() == "OK"
    assert lab.exec("redis-0", "redis-cli", "get", "a").strip() == "b"


def test_logs_tell_of_the_start(lab: Production, pod: Any) -> None:
    log = lab.core.read_namespaced_pod_log(pod.metadata.name, NAMESPACE)
    assert "version 5.0 serves, 61 agents registered" in log


def test_usage_is_measured(lab: Production, pod: Any) -> None:
    place = ("metrics.k8s.io", "v1beta1", NAMESPACE, "pods", pod.metadata.name)
    usage = lab.custom.get_namespaced_custom_object(*place)["containers"][0]["usage"]
    assert int(usage["memory"].removesuffix("Ki")) > 10_000


def test_a_changed_configmap_reaches_running_pods(lab: Production, pod: Any) -> None:
    before = lab.core.read_namespaced_config_map(AGENTS_CONFIGMAP, NAMESPACE).data
    broken = {**before, "orchestrator.json": "{not an agent"}
    lab.core.patch_namespaced_config_map(AGENTS_CONFIGMAP, NAMESPACE, {"data": broken})
    eventually(lambda: at(lab, pod, 8080, "/api/v1/agents").json()["active"] == 60)
    assert (
        lab.exec(pod.metadata.name, "cat", "/app/config/agents/orchestrator.json")
        == "{not an agent"
    )
    lab.core.patch_namespaced_config_map(AGENTS_CONFIGMAP, NAMESPACE, {"data": before})
    eventually(lambda: at(lab, pod, 8080, "/api/v1/agents").json()["active"] == 61)


def test_tls_is_offered_with_a_certificate_that_can_be_verified(lab: Production) -> None:
    import ssl

    context = ssl.create_default_context(cafile=lab.info.ca_file)
    answer = httpx.get(f"{lab.info.app_tls_url}/health", verify=context)
    assert answer.json()["version"] == "5.0"
