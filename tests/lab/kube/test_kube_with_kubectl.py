"""A real kubectl, where there is one, works with the server as with any cluster."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.lab.kube.objects import NAMESPACE, config_map, deployment, service, virtual_service
from tests.lab.kube.running_server import RunningServer

KUBECTL = shutil.which("kubectl")
pytestmark = pytest.mark.skipif(KUBECTL is None, reason="no kubectl on PATH")

Kubectl = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def kubectl(cluster: RunningServer, tmp_path: Path) -> Kubectl:
    """Run kubectl against the lab alone: its kubeconfig, a home of its own."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "KUBECONFIG": str(cluster.server.kubeconfig_path),
    }

    def run(
        *arguments: str, input: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [str(KUBECTL), *arguments],
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


def test_get_selects_by_label(kubectl: Kubectl, web: RunningServer) -> None:
    assert len(kubectl("get", "pods", "-l", "app=web", "-o", "name").stdout.split()) == 2
    assert "No resources found" in kubectl("get", "pods", "-l", "app!=web").stderr


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
    def apply(image: str, *options: str, check: bool = True) -> subprocess.CompletedProcess[str]:
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
    kubectl("create", "deployment", "five", "--image=five:1", "--replicas=0", "--port=8080")
    kubectl("expose", "deployment", "five", "--port=80", "--target-port=8080")
    get = cluster.server.get
    assert get("ConfigMap", "one")["data"] == {"a": "1", "b": "zwei"}  # type: ignore[index]
    assert get("Secret", "two")["data"] == {"password": "czNjcmV0"}  # type: ignore[index]
    assert get("Namespace", "three") is not None
    assert get("ServiceAccount", "four") is not None
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
    refused = kubectl("create", "quota", "q", "--hard=pods=1", check=False)
    assert "ResourceQuota in protobuf" in refused.stderr


def test_everything_is_allowed(kubectl: Kubectl) -> None:
    assert kubectl("auth", "can-i", "delete", "nodes").stdout.strip() == "yes"


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


def test_wait_sees_a_condition(kubectl: Kubectl, web: RunningServer) -> None:
    assert "condition met" in kubectl("wait", "--for=condition=Available", "deploy/web").stdout


def test_delete_waits_until_it_is_gone(kubectl: Kubectl, web: RunningServer) -> None:
    assert 'deployment.apps "web" deleted' in kubectl("delete", "deploy", "web").stdout
    kubectl("delete", "deploy", "web", "--cascade=foreground", "--ignore-not-found")
    web.settle()
    assert web.server.list("Pod", NAMESPACE) == []
    missing = kubectl("delete", "deploy", "web", check=False)
    assert 'deployments.apps "web" not found' in missing.stderr


def test_logs(kubectl: Kubectl, web: RunningServer) -> None:
    assert kubectl("logs", _pod(kubectl), "--tail=2").stdout == "two\nthree\n"
    assert "three" in kubectl("logs", "-l", "app=web", "--tail=1").stdout


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


def test_top(kubectl: Kubectl, web: RunningServer) -> None:
    rows = kubectl("top", "pods", "--no-headers").stdout.splitlines()
    assert [row.split()[1:] for row in rows] == [["250m", "64Mi"]] * 2
    assert kubectl("top", "nodes", "--no-headers").stdout.split()[1] == "500m"
