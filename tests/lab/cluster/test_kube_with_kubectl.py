"""The real kubectl works with the server as with any cluster.

One server and one kubectl home are shared by all tests of this file, so that kubectl discovers
the API once; after each test its objects are deleted.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from tests.lab.cluster.find_kubectl import find_kubectl
from tests.lab.cluster.objects import (
    NAMESPACE,
    config_map,
    deployment,
    service,
    virtual_service,
)
from tests.lab.cluster.running_server import RunningServer

Done = subprocess.CompletedProcess[str]
Kubectl = Callable[..., Done]

_CORE = f"/api/v1/namespaces/{NAMESPACE}"
_LEFT = (
    f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments",
    f"/apis/networking.istio.io/v1/namespaces/{NAMESPACE}/virtualservices",
    *(f"{_CORE}/{kind}" for kind in ("services", "configmaps", "secrets", "pods", "events")),
)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with RunningServer(tmp_path_factory.mktemp("kube"), namespace=NAMESPACE) as running:
        namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
        running.do(running.server.apply, namespace)
        running.settle()
        yield running


@pytest.fixture
def cluster(server: RunningServer) -> Iterator[RunningServer]:
    """The shared server; what the test leaves in the namespace is deleted."""
    yield server
    with server.client() as client:
        for path in _LEFT:
            for item in client.get(path).json()["items"]:
                client.delete(f"{path}/{item['metadata']['name']}").raise_for_status()
            server.settle()


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where kubectl keeps what it has discovered."""
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def kubectl(cluster: RunningServer, home: Path) -> Kubectl:
    """Run kubectl against the lab alone: its kubeconfig, a home of its own."""
    program = find_kubectl()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "KUBECONFIG": str(cluster.server.kubeconfig_path),
    }

    def run(*arguments: str, input: str | None = None, check: bool = True) -> Done:
        done = subprocess.run(
            [program, *arguments],
            input=input,
            capture_output=True,
            text=True,
            env=environment,
            timeout=30,
            check=False,
        )
        assert not check or done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture
def web(cluster: RunningServer) -> RunningServer:
    """A Deployment with two ready pods and a Service."""
    cluster.do(cluster.server.apply, deployment(), "kubectl")
    cluster.do(cluster.server.apply, service())
    cluster.settle()
    return cluster


def _pod(kubectl: Kubectl) -> str:
    return kubectl("get", "pods", "-l", "app=web", "-o", "name").stdout.split()[0]


def test_get_prints_tables(kubectl: Kubectl, web: RunningServer) -> None:
    lines = kubectl("get", "deploy,rs,pods,svc,nodes,cm", "-o", "wide").stdout.splitlines()
    heads = [line.split() for line in lines if line.startswith("NAME")]
    assert heads[0][:5] == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "AGE"]
    assert heads[1][:5] == ["NAME", "DESIRED", "CURRENT", "READY", "AGE"]
    assert heads[2][:7] == ["NAME", "READY", "STATUS", "RESTARTS", "AGE", "IP", "NODE"]
    assert heads[3][:5] == ["NAME", "TYPE", "CLUSTER-IP", "EXTERNAL-IP", "PORT(S)"]
    assert heads[4][:5] == ["NAME", "STATUS", "ROLES", "AGE", "VERSION"]
    row = next(line.split() for line in lines if line.startswith("deployment.apps/web"))
    assert row[1:4] == ["2/2", "2", "2"]
    assert row[5:] == ["app", "web:1", "app=web"]


def test_get_prints_objects_in_every_form(kubectl: Kubectl, web: RunningServer) -> None:
    whole = json.loads(kubectl("get", "deploy", "web", "-o", "json").stdout)
    assert whole["status"]["readyReplicas"] == 2
    assert "managedFields" not in whole["metadata"]
    assert yaml.safe_load(kubectl("get", "deploy", "web", "-o", "yaml").stdout) == whole
    shown = kubectl("get", "deploy", "web", "-o", "yaml", "--show-managed-fields").stdout
    managers = [entry["manager"] for entry in yaml.safe_load(shown)["metadata"]["managedFields"]]
    assert managers == ["kubectl", "kube-controller-manager"]
    path = "jsonpath={.items[*].spec.containers[0].image}"
    assert kubectl("get", "pods", "-o", path).stdout == "web:1 web:1"
    columns = "custom-columns=NAME:.metadata.name,READY:.status.readyReplicas"
    rows = kubectl("get", "deploy", "-o", columns).stdout.splitlines()
    assert [row.split() for row in rows] == [["NAME", "READY"], ["web", "2"]]


def test_get_follows_pages_of_all_namespaces(kubectl: Kubectl, web: RunningServer) -> None:
    """Each page is a request of its own with the token of the one before."""
    names = kubectl("get", "pods", "-A", "--chunk-size=1", "-o", "name").stdout.split()
    assert len(set(names)) == 2


def test_get_selects_by_label(kubectl: Kubectl, web: RunningServer) -> None:
    assert len(kubectl("get", "pods", "-l", "app=web", "-o", "name").stdout.split()) == 2
    assert "No resources found" in kubectl("get", "pods", "-l", "app!=web").stderr
    assert (
        kubectl("get", "pods", "-l", "app in (web, x),!y", "-o", "name").stdout.count("pod/") == 2
    )
    running = kubectl("get", "pods", "--field-selector=status.phase=Running", "-o", "name").stdout
    assert running.count("pod/") == 2


def test_get_knows_short_names_and_custom_resources(
    kubectl: Kubectl, cluster: RunningServer
) -> None:
    cluster.do(cluster.server.apply, virtual_service(stable=100))
    line = kubectl("get", "vs").stdout.splitlines()[1]
    assert line.startswith("traffic")
    assert '["web"]' in line


def test_server_side_apply_creates_changes_and_conflicts(
    kubectl: Kubectl, cluster: RunningServer
) -> None:
    def apply(image: str, *options: str, check: bool = True) -> Done:
        manifest = json.dumps(deployment(image=image))
        return kubectl("apply", "--server-side", "-f", "-", *options, input=manifest, check=check)

    assert "serverside-applied" in apply("web:1").stdout
    assert "serverside-applied" in apply("web:2").stdout
    refused = apply("web:3", "--field-manager=other", check=False)
    assert refused.returncode == 1
    assert 'conflict with "kubectl": .spec.template.spec.containers[name="app"].image' in (
        refused.stderr
    )
    apply("web:3", "--field-manager=other", "--force-conflicts")
    cluster.settle()
    image = "jsonpath={.spec.template.spec.containers[0].image}"
    assert kubectl("get", "deploy", "web", "-o", image).stdout == "web:3"


def test_server_side_validation_refuses_an_unknown_field(kubectl: Kubectl) -> None:
    wrong = deployment()
    wrong["spec"]["replica"] = 3
    refused = kubectl("apply", "-f", "-", input=json.dumps(wrong), check=False)
    assert 'unknown field "spec.replica"' in refused.stderr


def test_client_side_apply_makes_a_three_way_merge(
    kubectl: Kubectl, cluster: RunningServer
) -> None:
    def apply(obj: object) -> str:
        return kubectl("apply", "-f", "-", input=json.dumps(obj)).stdout

    assert "created" in apply(config_map(a="1", b="1"))
    assert "unchanged" in apply(config_map(a="1", b="1"))
    cluster.do(cluster.server.apply, config_map(c="1"), "somebody")
    assert "configured" in apply(config_map(a="2"))
    found = cluster.server.get("ConfigMap", "settings")
    assert found is not None
    assert found["data"] == {"a": "2", "c": "1"}


def test_a_rehearsed_apply_changes_nothing(kubectl: Kubectl, cluster: RunningServer) -> None:
    manifest = json.dumps(config_map(a="1"))
    for mode in ((), ("--server-side",)):
        told = kubectl("apply", *mode, "--dry-run=server", "-f", "-", input=manifest).stdout
        assert "(server dry run)" in told
    assert cluster.server.get("ConfigMap", "settings") is None


@pytest.mark.parametrize("mode", [(), ("--server-side",)])
def test_diff_shows_what_an_apply_would_change(
    kubectl: Kubectl, cluster: RunningServer, mode: tuple[str, ...]
) -> None:
    kubectl("apply", *mode, "-f", "-", input=json.dumps(config_map(a="1", b="1")))

    def diff(**data: str) -> Done:
        return kubectl("diff", *mode, "-f", "-", input=json.dumps(config_map(**data)), check=False)

    assert (diff(a="1", b="1").returncode, diff(a="1", b="1").stdout) == (0, "")
    changed = diff(a="2")
    lines = [line for line in changed.stdout.splitlines() if line.startswith(("-  ", "+  "))]
    assert (changed.returncode, lines) == (1, ['-  a: "1"', '-  b: "1"', '+  a: "2"'])
    assert cluster.server.get("ConfigMap", "settings")["data"] == {"a": "1", "b": "1"}  # type: ignore[index]


def test_replace_needs_the_version_that_is_there(kubectl: Kubectl, cluster: RunningServer) -> None:
    kubectl("create", "-f", "-", input=json.dumps(config_map(a="1")))
    again = kubectl("create", "-f", "-", input=json.dumps(config_map(a="1")), check=False)
    assert 'configmaps "settings" already exists' in again.stderr
    old = kubectl("get", "cm", "settings", "-o", "json").stdout
    kubectl("replace", "-f", "-", input=json.dumps(config_map(a="2")))
    stale = kubectl("replace", "-f", "-", input=old, check=False)
    assert "the object has been modified" in stale.stderr
    kubectl("replace", "--force", "-f", "-", input=json.dumps(config_map(a="3")))
    assert cluster.server.get("ConfigMap", "settings")["data"] == {"a": "3"}  # type: ignore[index]


def test_a_kind_that_is_not_there_is_named(kubectl: Kubectl) -> None:
    unknown = {"apiVersion": "v2", "kind": "ConfigMap", "metadata": {"name": "x"}}
    refused = kubectl("apply", "-f", "-", input=json.dumps(unknown), check=False)
    assert 'no matches for kind "ConfigMap" in version "v2"' in refused.stderr
    missing = kubectl("get", "nosuch", check=False)
    assert 'the server doesn\'t have a resource type "nosuch"' in missing.stderr


def test_yaml_with_several_documents_is_applied(kubectl: Kubectl, cluster: RunningServer) -> None:
    manifest = (
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one}\n---\n"
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: two}\n"
    )
    kubectl("apply", "--server-side", "-f", "-", input=manifest)
    assert kubectl("get", "cm", "-o", "name").stdout.split() == ["configmap/one", "configmap/two"]


def test_objects_are_created_by_commands(kubectl: Kubectl, cluster: RunningServer) -> None:
    """These commands send protobuf."""
    kubectl("create", "configmap", "one", "--from-literal=a=1", "--from-literal=b=zwei")
    kubectl("create", "secret", "generic", "two", "--from-literal=password=s3cret")
    kubectl("create", "namespace", "three")
    kubectl("create", "serviceaccount", "four")
    kubectl("run", "six", "--image=six:1", "--env=A=1", "--labels=app=six")
    kubectl("create", "deployment", "five", "--image=five:1", "--replicas=0", "--port=8080")
    kubectl("expose", "deployment", "five", "--port=80", "--target-port=8080")
    get = cluster.server.get
    assert get("ConfigMap", "one")["data"] == {"a": "1", "b": "zwei"}  # type: ignore[index]
    assert get("Secret", "two")["data"] == {"password": "czNjcmV0"}  # type: ignore[index]
    assert get("Namespace", "three") is not None
    assert get("ServiceAccount", "four") is not None
    (single,) = get("Pod", "six")["spec"]["containers"]  # type: ignore[index]
    assert (single["image"], single["env"]) == ("six:1", [{"name": "A", "value": "1"}])
    spec = get("Deployment", "five")["spec"]  # type: ignore[index]
    assert spec["replicas"] == 0
    assert spec["selector"] == {"matchLabels": {"app": "five"}}
    container = spec["template"]["spec"]["containers"][0]
    assert (container["image"], container["ports"]) == (
        "five:1",
        [{"containerPort": 8080, "protocol": "TCP"}],
    )
    service_spec = get("Service", "five")["spec"]  # type: ignore[index]
    assert service_spec["selector"] == {"app": "five"}
    assert service_spec["ports"] == [{"port": 80, "protocol": "TCP", "targetPort": 8080}]


def test_what_cannot_be_read_from_protobuf_is_refused_whole(kubectl: Kubectl) -> None:
    refused = kubectl("create", "priorityclass", "high", "--value=1", check=False)
    assert "PriorityClass in protobuf" in refused.stderr


def test_everything_is_allowed(kubectl: Kubectl) -> None:
    assert kubectl("auth", "can-i", "delete", "nodes").stdout.strip() == "yes"


def test_a_user_may_do_what_roles_grant(kubectl: Kubectl) -> None:
    kubectl("create", "role", "reader", "--verb=get,list", "--resource=pods")
    kubectl("create", "rolebinding", "readers", "--role=reader", "--user=jane")
    jane = ("--as=jane", "-n", NAMESPACE)
    assert kubectl("auth", "can-i", "list", "pods", *jane).stdout.strip() == "yes"
    assert kubectl("auth", "can-i", "delete", "pods", *jane, check=False).stdout.strip() == "no"
    kubectl("get", "pods", *jane)
    refused = kubectl("delete", "pod", "x", *jane, check=False).stderr
    assert (
        'User "jane" cannot delete resource "pods" in API group "" in the namespace '
        f'"{NAMESPACE}"' in refused
    )


def test_scale_and_patch(kubectl: Kubectl, web: RunningServer) -> None:
    kubectl("scale", "deploy/web", "--replicas=4")
    patch = {"spec": {"template": {"spec": {"containers": [{"name": "app", "image": "web:2"}]}}}}
    kubectl("patch", "deploy", "web", "-p", json.dumps(patch))
    kubectl(
        "patch",
        "svc",
        "web",
        "--type=json",
        "-p",
        '[{"op":"add","path":"/spec/selector/v","value":"2"}]',
    )
    kubectl("patch", "svc", "web", "--type=merge", "-p", '{"spec":{"selector":{"w":"3"}}}')
    web.settle()
    found = web.server.get("Deployment", "web")
    assert found is not None
    assert found["status"]["readyReplicas"] == 4
    assert found["spec"]["template"]["spec"]["containers"][0]["ports"]
    assert web.server.get("Service", "web")["spec"]["selector"] == {  # type: ignore[index]
        "app": "web",
        "v": "2",
        "w": "3",
    }


def test_rollout_status_restart_history_undo(kubectl: Kubectl, web: RunningServer) -> None:
    assert "successfully rolled out" in kubectl("rollout", "status", "deploy/web").stdout
    kubectl("set", "image", "deploy/web", "app=web:2")
    kubectl("rollout", "status", "deploy/web")
    kubectl("rollout", "restart", "deploy/web")
    kubectl("rollout", "status", "deploy/web")
    history = kubectl("rollout", "history", "deploy/web").stdout.splitlines()
    assert [line.split()[0] for line in history[2:] if line] == ["1", "2", "3"]
    kubectl("rollout", "undo", "deploy/web", "--to-revision=1")
    kubectl("rollout", "status", "deploy/web")
    history = kubectl("rollout", "history", "deploy/web").stdout.splitlines()
    assert [line.split()[0] for line in history[2:] if line] == ["2", "3", "4"]
    found = web.server.get("Deployment", "web")
    assert found is not None
    assert found["spec"]["template"]["spec"]["containers"][0]["image"] == "web:1"


def test_rollout_status_follows_a_slow_rollout(kubectl: Kubectl, web: RunningServer) -> None:
    web.do(web.server.apply, deployment(image="web:slow"), "kubectl")
    web.settle()
    waiting = kubectl("rollout", "status", "deploy/web", "--timeout=1s", check=False)
    assert waiting.returncode == 1
    assert "out of 2 new replicas have been updated" in waiting.stdout


@pytest.mark.parametrize(
    "goal", ["condition=Available", "jsonpath={.status.readyReplicas}=2", "create"]
)
def test_wait_sees_what_holds(kubectl: Kubectl, web: RunningServer, goal: str) -> None:
    assert "condition met" in kubectl("wait", f"--for={goal}", "deploy/web").stdout


def test_wait_sees_a_deletion(kubectl: Kubectl, web: RunningServer) -> None:
    kubectl("delete", "deploy", "web", "--cascade=foreground", "--wait=false")
    kubectl("wait", "--for=delete", "deploy/web", "--timeout=10s")
    assert web.server.get("Deployment", "web") is None


def test_wait_gives_up_in_time(kubectl: Kubectl, web: RunningServer) -> None:
    waited = kubectl("wait", "--for=condition=No", "deploy/web", "--timeout=200ms", check=False)
    assert "timed out waiting for the condition on deployments/web" in waited.stderr


def test_a_paused_rollout_waits_to_be_resumed(kubectl: Kubectl, web: RunningServer) -> None:
    kubectl("rollout", "pause", "deploy/web")
    kubectl("set", "image", "deploy/web", "app=web:2")
    web.settle()
    assert "web:2" not in kubectl("get", "pods", "-o", "yaml").stdout
    kubectl("rollout", "resume", "deploy/web")
    kubectl("rollout", "status", "deploy/web")
    assert kubectl("get", "pods", "-o", "yaml").stdout.count("image: web:2") >= 2


def test_delete_waits_until_it_is_gone(kubectl: Kubectl, web: RunningServer) -> None:
    assert 'deployment.apps "web" deleted' in kubectl("delete", "deploy", "web").stdout
    kubectl("delete", "deploy", "web", "--cascade=foreground", "--ignore-not-found")
    web.settle()
    assert web.server.list("Pod", NAMESPACE) == []
    missing = kubectl("delete", "deploy", "web", check=False)
    assert 'deployments.apps "web" not found' in missing.stderr


def test_logs(kubectl: Kubectl, web: RunningServer) -> None:
    assert kubectl("logs", _pod(kubectl), "--tail=2").stdout == "two\nthree\n"
    assert kubectl("logs", "-l", "app=web", "--tail=1").stdout == "three\nthree\n"
    assert "three" in kubectl("logs", "deploy/web").stdout
    previous = kubectl("logs", _pod(kubectl), "--previous", check=False)
    assert "previous terminated container" in previous.stderr


def test_exec(kubectl: Kubectl, web: RunningServer) -> None:
    pod = _pod(kubectl)
    assert kubectl("exec", pod, "--", "echo", "hello").stdout == "hello\n"
    failed = kubectl("exec", pod, "--", "fail", "3", check=False)
    assert (failed.returncode, "it failed" in failed.stderr) == (3, True)
    assert kubectl("exec", "-i", pod, "--", "cat", input="in and out\n").stdout == "in and out\n"


def test_describe(kubectl: Kubectl, web: RunningServer) -> None:
    told = kubectl("describe", "deploy", "web").stdout
    assert "2 desired | 2 updated | 2 total | 2 available | 0 unavailable" in told
    assert "ScalingReplicaSet" in told
    told = kubectl("describe", _pod(kubectl)).stdout
    assert "Successfully assigned" in told
    assert "Started" in told
    assert "Endpoints:" in kubectl("describe", "svc", "web").stdout


def test_events_are_told_of_an_object(kubectl: Kubectl, web: RunningServer) -> None:
    rows = kubectl("events", "--for=deploy/web", "--no-headers").stdout.splitlines()
    assert [row.split()[1:4] for row in rows] == [["Normal", "ScalingReplicaSet", "Deployment/web"]]
    chosen = "involvedObject.kind=Deployment,involvedObject.name=web"
    assert "ScalingReplicaSet" in kubectl("get", "events", f"--field-selector={chosen}").stdout


def test_top(kubectl: Kubectl, web: RunningServer) -> None:
    rows = kubectl("top", "pods", "--no-headers").stdout.splitlines()
    assert [row.split()[1:] for row in rows] == [["250m", "64Mi"]] * 2
    assert kubectl("top", "nodes", "--no-headers").stdout.split()[1] == "500m"
