"""The `kubernetes` Python client works with the server, TLS verification on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import kubernetes.client
import kubernetes.config
import kubernetes.stream
import kubernetes.watch
import pytest

from tests.lab.cluster.objects import NAMESPACE, config_map, deployment, virtual_service
from tests.lab.cluster.running_server import RunningServer

# Half of the client is without types, the other half has every field optional.
client: Any = kubernetes.client
config: Any = kubernetes.config
stream: Any = kubernetes.stream.stream
watch: Any = kubernetes.watch


@pytest.fixture
def api(cluster: RunningServer) -> Iterator[Any]:
    api = config.new_client_from_config(str(cluster.server.kubeconfig_path))
    with api:
        yield api


@pytest.fixture
def apps(api: Any) -> Any:
    return client.AppsV1Api(api)


@pytest.fixture
def core(api: Any) -> Any:
    return client.CoreV1Api(api)


def test_creates_reads_and_scales_a_deployment(apps: Any, cluster: RunningServer) -> None:
    created = apps.create_namespaced_deployment(NAMESPACE, deployment(replicas=2))
    assert created.spec.strategy.type == "RollingUpdate"
    apps.patch_namespaced_deployment_scale("web", NAMESPACE, {"spec": {"replicas": 3}})
    cluster.settle()
    ready = apps.read_namespaced_deployment("web", NAMESPACE)
    assert (ready.status.ready_replicas, ready.status.observed_generation) == (3, 2)
    assert apps.read_namespaced_deployment_scale("web", NAMESPACE).spec.replicas == 3


def test_the_typed_client_understands_everything_the_server_shows(
    apps: Any, core: Any, cluster: RunningServer
) -> None:
    apps.create_namespaced_deployment(NAMESPACE, deployment())
    cluster.settle()
    assert len(apps.list_namespaced_replica_set(NAMESPACE).items) == 1
    pods = core.list_namespaced_pod(NAMESPACE, label_selector="app=web").items
    assert [pod.status.container_statuses[0].ready for pod in pods] == [True, True]
    assert core.list_namespaced_event(NAMESPACE).items
    assert core.list_node().items[0].status.capacity
    assert client.DiscoveryV1Api(core.api_client).list_namespaced_endpoint_slice(NAMESPACE)


def test_a_conflict_reaches_the_client_as_409(core: Any) -> None:
    created = core.create_namespaced_config_map(NAMESPACE, config_map(a="1"))
    core.patch_namespaced_config_map("settings", NAMESPACE, {"data": {"a": "2"}})
    created.data["a"] = "3"
    with pytest.raises(client.ApiException) as refusal:
        core.replace_namespaced_config_map("settings", NAMESPACE, created)
    assert refusal.value.status == 409
    assert "the object has been modified" in refusal.value.body


def test_applies_custom_resources_with_a_field_manager(api: Any) -> None:
    custom = client.CustomObjectsApi(api)

    def apply(**weights: int) -> Any:
        return custom.patch_namespaced_custom_object(
            "networking.istio.io",
            "v1beta1",
            NAMESPACE,
            "virtualservices",
            "traffic",
            virtual_service(**weights),
            field_manager="ce-run",
            force=True,
            _content_type="application/apply-patch+yaml",
        )

    apply(stable=95, canary=5)
    assert apply(stable=80, canary=20)["metadata"]["generation"] == 2
    found = custom.get_namespaced_custom_object(
        "networking.istio.io", "v1", NAMESPACE, "virtualservices", "traffic"
    )
    assert [route["weight"] for route in found["spec"]["http"][0]["route"]] == [80, 20]
    assert found["apiVersion"] == "networking.istio.io/v1"


def test_watches_a_rollout_to_its_end(apps: Any, cluster: RunningServer) -> None:
    watcher = watch.Watch()
    apps.create_namespaced_deployment(NAMESPACE, deployment(replicas=3))
    seen = []
    for event in watcher.stream(
        apps.list_namespaced_deployment,
        NAMESPACE,
        timeout_seconds=10,
        field_selector="metadata.name=web",
    ):
        seen.append(event["object"].status.ready_replicas or 0)
        if seen[-1] == 3:
            watcher.stop()
    assert seen == sorted(seen)
    assert seen[-1] == 3


def _a_pod(core: Any, cluster: RunningServer) -> str:
    client.AppsV1Api(core.api_client).create_namespaced_deployment(
        NAMESPACE, deployment(replicas=1)
    )
    cluster.settle()
    name: str = core.list_namespaced_pod(NAMESPACE).items[0].metadata.name
    return name


def test_reads_logs(core: Any, cluster: RunningServer) -> None:
    name = _a_pod(core, cluster)
    assert core.read_namespaced_pod_log(name, NAMESPACE) == "one\ntwo\nthree\n"
    assert core.read_namespaced_pod_log(name, NAMESPACE, tail_lines=1) == "three\n"


def _exec(core: Any, name: str, *command: str, stdin: bytes = b"") -> Any:
    """Run a command to its end; returns the closed stream with what was said and the status."""
    running = stream(
        core.connect_get_namespaced_pod_exec,
        name,
        NAMESPACE,
        command=list(command),
        stdin=bool(stdin),
        stdout=True,
        stderr=True,
        _preload_content=False,
    )
    if stdin:
        running.write_stdin(stdin.decode())
        running.close_channel(0)
    running.run_forever(timeout=10)
    running.sock.shutdown()  # WSClient.close() leaves a socket open that the server has ended
    return running


def test_carries_out_commands(core: Any, cluster: RunningServer) -> None:
    done = _exec(core, _a_pod(core, cluster), "echo", "hello", "there")
    assert (done.read_stdout(), done.returncode) == ("hello there\n", 0)


def test_the_exit_status_of_a_command_arrives(core: Any, cluster: RunningServer) -> None:
    done = _exec(core, _a_pod(core, cluster), "fail", "3")
    assert (done.read_stderr(), done.returncode) == ("it failed\n", 3)


def test_what_is_written_to_stdin_reaches_the_command(core: Any, cluster: RunningServer) -> None:
    done = _exec(core, _a_pod(core, cluster), "cat", stdin=b"from here\n")
    assert done.read_stdout() == "from here\n"
