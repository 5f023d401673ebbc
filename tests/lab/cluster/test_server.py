"""The server around the objects: who may ask, what is told about it, and what the lab sees."""

from __future__ import annotations

import json
import ssl
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from engine.lab.cluster import Change
from tests.lab.cluster.objects import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    NAMESPACE,
    PODS,
    config_map,
    deployment,
    pod,
    service,
    virtual_service,
)
from tests.lab.cluster.running_server import RunningServer

Start = Callable[..., RunningServer]
MERGE = {"Content-Type": "application/merge-patch+json"}
TABLE = {"Accept": "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"}


def test_a_stranger_learns_only_that_the_server_lives(cluster: RunningServer) -> None:
    with cluster.client() as http:
        del http.headers["Authorization"]
        assert http.get("/readyz").text == "ok"
        for path in ("/version", "/api", CONFIG_MAPS, "/no/such/path"):
            assert http.get(path).status_code == 401


def test_a_client_without_the_authority_does_not_trust_the_server(cluster: RunningServer) -> None:
    with (
        httpx.Client(verify=ssl.create_default_context()) as http,
        pytest.raises(httpx.ConnectError, match="certificate verify failed"),
    ):
        http.get(f"{cluster.server.url}/readyz")


def test_the_credentials_are_readable_by_their_owner_only(cluster: RunningServer) -> None:
    for path in (
        cluster.server.kubeconfig_path,
        cluster.server.kubeconfig_path.parent / "apiserver.key",
    ):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_every_request_is_recorded_with_its_run_and_token(
    start_cluster: Start, tmp_path: Path
) -> None:
    log = tmp_path / "requests.jsonl"
    cluster = start_cluster(request_log=log)
    with cluster.client("ce-run/1.0") as http:
        http.headers.update({"X-CE-Run": "run-7", "X-CE-Token": "12"})
        http.post(CONFIG_MAPS, json=config_map(a="1"))
        http.get(f"{CONFIG_MAPS}/none")
        http.get(CONFIG_MAPS, params={"watch": "1", "timeoutSeconds": "0"})
        del http.headers["X-CE-Run"]
        http.get("/api", headers={"Authorization": "Bearer wrong"})
    records = list(cluster.server.requests)
    assert [(r.method, r.status, r.run, r.token) for r in records] == [
        ("POST", 201, "run-7", "12"),
        ("GET", 404, "run-7", "12"),
        ("GET", 200, "run-7", "12"),
        ("GET", 401, "", "12"),
    ]
    assert [record.seq for record in records] == [1, 2, 3, 4]
    assert records[0].user_agent == "ce-run/1.0"
    assert records[2].path == f"{CONFIG_MAPS}?watch=1&timeoutSeconds=0"
    assert len(cluster.server.requests.of_run("run-7")) == 3
    written = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["seq"] for line in written] == [1, 2, 3, 4]
    assert written[0]["run"] == "run-7"


def test_the_lab_follows_services_endpoints_and_weights_at_once(cluster: RunningServer) -> None:
    seen: list[tuple[str, str]] = []

    def note(change: Change) -> None:
        seen.append((change.type, change.resource))

    end = cluster.do(cluster.server.subscribe, note)
    cluster.do(cluster.server.apply, virtual_service(stable=95, canary=5))
    assert seen[-1] == ("ADDED", "virtualservices.networking.istio.io")
    cluster.do(cluster.server.apply, service())
    cluster.do(cluster.server.apply, deployment(replicas=1))
    cluster.settle()
    assert ("MODIFIED", "endpoints") in seen
    cluster.do(end)
    seen.clear()
    cluster.do(cluster.server.apply, virtual_service(stable=100))
    assert seen == []


def test_endpoints_follow_readiness_and_the_selector(cluster: RunningServer) -> None:
    def addresses() -> tuple[int, int]:
        found = cluster.server.get("Endpoints", "web")
        subsets = (found or {}).get("subsets", [])
        ready = sum(len(subset.get("addresses", ())) for subset in subsets)
        return ready, sum(len(subset.get("notReadyAddresses", ())) for subset in subsets)

    cluster.do(cluster.server.apply, service())
    cluster.do(cluster.server.apply, deployment(image="web:slow"))
    cluster.settle()
    assert addresses() == (0, 2)
    for each in cluster.server.list("Pod", NAMESPACE):
        cluster.do(cluster.runtime.make_ready, each["metadata"]["name"])
    cluster.settle()
    assert addresses() == (2, 0)
    cluster.do(cluster.server.apply, service(selector={"app": "other"}))
    cluster.settle()
    assert addresses() == (0, 0)
    slices = cluster.server.list("EndpointSlice", NAMESPACE)
    assert [each["endpoints"] for each in slices] == [[]]


def test_a_named_port_is_looked_up_in_the_pod(cluster: RunningServer) -> None:
    obj = deployment(replicas=1)
    obj["spec"]["template"]["spec"]["containers"][0]["ports"][0]["name"] = "http"
    cluster.do(cluster.server.apply, obj)
    ports = [{"name": "web", "port": 80, "targetPort": "http"}]
    cluster.do(cluster.server.apply, service(ports=ports))
    cluster.settle()
    (subset,) = cluster.server.get("Endpoints", "web")["subsets"]  # type: ignore[index]
    assert subset["ports"] == [{"name": "web", "port": 8080, "protocol": "TCP"}]


def test_what_the_lab_gets_is_its_own_copy(cluster: RunningServer) -> None:
    cluster.do(cluster.server.apply, config_map(a="1"))
    copy = cluster.server.get("configmaps", "settings")
    assert copy is not None
    copy["data"]["a"] = "2"
    assert cluster.server.get("ConfigMap", "settings")["data"] == {"a": "1"}  # type: ignore[index]


def test_metrics_can_be_switched_on_and_off(cluster: RunningServer, http: httpx.Client) -> None:
    path = f"/apis/metrics.k8s.io/v1beta1/namespaces/{NAMESPACE}/pods"
    cluster.do(cluster.server.apply, pod())
    cluster.settle()
    (found,) = http.get(path).json()["items"]
    assert found["containers"] == [{"name": "app", "usage": {"cpu": "250m", "memory": "65536Ki"}}]
    groups = [group["name"] for group in http.get("/apis").json()["groups"]]
    assert "metrics.k8s.io" in groups
    cluster.do(cluster.server.serve_metrics, False)
    assert (http.get(path).status_code, http.get(path).text) == (404, "404 page not found\n")


def test_a_bare_pod_runs_to_its_end(cluster: RunningServer, http: httpx.Client) -> None:
    cluster.do(cluster.server.apply, pod("once", restartPolicy="Never"))
    cluster.settle()
    cluster.do(cluster.runtime.crash, "once", 3)
    cluster.settle()
    status = http.get(f"{PODS}/once").json()["status"]
    assert status["phase"] == "Failed"
    assert status["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 3


def test_logs_are_followed_until_the_pod_is_gone(
    cluster: RunningServer, http: httpx.Client
) -> None:
    cluster.do(cluster.server.apply, pod())
    cluster.settle()
    uid = cluster.server.get("Pod", "postgres-0")["metadata"]["uid"]  # type: ignore[index]
    lines: list[str] = []
    with http.stream(
        "GET", f"{PODS}/postgres-0/log", params={"follow": "1", "tailLines": "1"}
    ) as log:
        for line in log.iter_lines():
            lines.append(line)
            if line == "three":
                cluster.runtime.written[uid] = b"one\ntwo\nthree\nfour\n"
            elif line == "four":
                cluster.do(cluster.server.delete, "Pod", "postgres-0")
    assert lines == ["three", "four"]


def test_times_in_logs_are_kept_or_stripped_and_select(
    cluster: RunningServer, http: httpx.Client
) -> None:
    cluster.do(cluster.server.apply, pod())
    cluster.settle()
    uid = cluster.server.get("Pod", "postgres-0")["metadata"]["uid"]  # type: ignore[index]
    old, new = "2001-02-03T04:05:06.789Z old", "2999-02-03T04:05:06Z new"
    cluster.runtime.written[uid] = f"{old}\n{new}\n".encode()

    def logs(**parameters: str) -> list[str]:
        return http.get(f"{PODS}/postgres-0/log", params=parameters).text.splitlines()

    assert logs() == ["old", "new"]
    assert logs(timestamps="true") == [old, new]
    assert logs(sinceSeconds="60") == ["new"]
    assert logs(sinceSeconds="99999999999999999") == ["old", "new"]
    assert "sinceSeconds: Invalid value: 0: must be greater than 0" in logs(sinceSeconds="0")[0]
    assert logs(sinceTime="2001-02-03T04:05:06Z", limitBytes="2") == ["ol"]
    assert "previous terminated container" in logs(previous="true")[0]


def test_a_pod_without_a_node_waits_for_one(start_cluster: Start) -> None:
    cluster = start_cluster(nodes=())
    cluster.do(cluster.server.apply, pod())
    cluster.settle()
    status = cluster.server.get("Pod", "postgres-0")["status"]  # type: ignore[index]
    assert status["phase"] == "Pending"
    assert status["conditions"][0]["reason"] == "Unschedulable"
    node = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": "late"}, "spec": {}}
    cluster.do(cluster.server.apply, node)
    cluster.settle()
    assert cluster.server.get("Pod", "postgres-0")["spec"]["nodeName"] == "late"  # type: ignore[index]


def test_custom_resources_come_and_go_with_their_definition(
    cluster: RunningServer, http: httpx.Client
) -> None:
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    names = {"plural": "widgets", "kind": "Widget"}
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {},
        "subresources": {"status": {}},
    }
    spec = {"group": "example.com", "scope": "Cluster", "names": names, "versions": [version]}
    definition = {"metadata": {"name": "widgets.example.com"}, "spec": spec}
    assert http.post(definitions, json=definition).status_code == 201
    cluster.settle()
    conditions = http.get(f"{definitions}/widgets.example.com").json()["status"]["conditions"]
    assert [c["type"] for c in conditions] == ["NamesAccepted", "Established"]
    path = "/apis/example.com/v1/widgets"
    body = {"metadata": {"name": "one"}, "spec": {"size": 1}, "status": {"is": "ignored"}}
    created = http.post(path, json=body).json()
    assert (created["kind"], "status" in created) == ("Widget", False)
    shown = http.patch(f"{path}/one/status", json={"status": {"ready": True}}, headers=MERGE).json()
    assert (shown["status"], shown["metadata"]["generation"]) == ({"ready": True}, 1)
    assert http.delete(f"{definitions}/widgets.example.com").status_code == 200
    cluster.settle()
    assert http.get(path).status_code == 404
    assert cluster.server.store.items("widgets.example.com") == []


def test_long_lists_come_in_pages(http: httpx.Client) -> None:
    for number in range(7):
        http.post(CONFIG_MAPS, json=config_map(f"c{number}"))
    names: list[str] = []
    parameters = {"limit": "3"}
    for _ in range(3):
        page = http.get(CONFIG_MAPS, params=parameters).json()
        names += [item["metadata"]["name"] for item in page["items"]]
        parameters["continue"] = page["metadata"].get("continue", "")
    assert names == [f"c{number}" for number in range(7)]
    assert parameters["continue"] == ""
    assert http.get(CONFIG_MAPS, params={"continue": "nonsense"}).status_code == 400


def test_the_rest_of_a_list_that_is_forgotten_is_refused(
    start_cluster: Start,
) -> None:
    cluster = start_cluster(history=3)
    with cluster.client("test/1.0") as http:
        for number in range(3):
            http.post(CONFIG_MAPS, json=config_map(f"c{number}"))
        token = http.get(CONFIG_MAPS, params={"limit": "1"}).json()["metadata"]["continue"]
        for number in range(3, 8):
            http.post(CONFIG_MAPS, json=config_map(f"c{number}"))
        late = http.get(CONFIG_MAPS, params={"limit": "1", "continue": token})
        assert (late.status_code, late.json()["reason"]) == (410, "Expired")
        again = {"continue": late.json()["metadata"]["continue"]}
        names = [
            each["metadata"]["name"] for each in http.get(CONFIG_MAPS, params=again).json()["items"]
        ]
    assert names == [f"c{number}" for number in range(1, 8)]


def test_only_the_present_can_be_read(http: httpx.Client) -> None:
    version = http.post(CONFIG_MAPS, json=config_map()).json()["metadata"]["resourceVersion"]
    for path in (CONFIG_MAPS, f"{CONFIG_MAPS}/settings"):
        assert http.get(path, params={"resourceVersion": version}).status_code == 200
        early = http.get(path, params={"resourceVersion": "99999"})
        assert (early.status_code, early.headers["Retry-After"]) == (504, "1")
        assert early.json()["details"]["causes"][0]["reason"] == "ResourceVersionTooLarge"
    exact = {"resourceVersion": version, "resourceVersionMatch": "Exact"}
    assert http.get(CONFIG_MAPS, params=exact).status_code == 200
    http.post(CONFIG_MAPS, json=config_map("more"))
    assert http.get(CONFIG_MAPS, params=exact).json()["reason"] == "Expired"


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        ("tier=front", {"a", "b"}),
        ("tier==front,color!=red", {"b"}),
        ("color in (red, blue)", {"a", "c"}),
        ("color notin (red)", {"b", "c"}),
        ("color", {"a", "c"}),
        ("!color", {"b"}),
    ],
)
def test_labels_select(http: httpx.Client, selector: str, expected: set[str]) -> None:
    labels = {
        "a": {"tier": "front", "color": "red"},
        "b": {"tier": "front"},
        "c": {"tier": "back", "color": "blue"},
    }
    for name, its in labels.items():
        obj = config_map(name)
        obj["metadata"]["labels"] = its
        http.post(CONFIG_MAPS, json=obj)
    found = http.get(CONFIG_MAPS, params={"labelSelector": selector}).json()["items"]
    assert {item["metadata"]["name"] for item in found} == expected


def test_fields_select(cluster: RunningServer, http: httpx.Client) -> None:
    cluster.do(cluster.server.apply, pod("up"))
    cluster.do(cluster.server.apply, pod("down", image="x:bad"))
    cluster.settle()

    def names(selector: str) -> list[str]:
        found = http.get(PODS, params={"fieldSelector": selector}).json()["items"]
        return [item["metadata"]["name"] for item in found]

    assert names("status.phase=Running") == ["up"]
    assert names("status.phase!=Running,spec.nodeName=node-1") == ["down"]
    events = http.get(
        f"/api/v1/namespaces/{NAMESPACE}/events",
        params={"fieldSelector": "involvedObject.name=down,type=Warning"},
    ).json()["items"]
    assert {event["reason"] for event in events} == {"Failed"}


def test_a_table_has_the_columns_of_its_kind(cluster: RunningServer, http: httpx.Client) -> None:
    cluster.do(cluster.server.apply, deployment(image="web:crash", replicas=1))
    cluster.settle()
    table: dict[str, Any] = http.get(PODS, headers=TABLE).json()
    assert table["kind"] == "Table"
    names = [column["name"] for column in table["columnDefinitions"]]
    row = dict(zip(names, table["rows"][0]["cells"], strict=True))
    assert (row["Ready"], row["Status"]) == ("0/1", "CrashLoopBackOff")
    assert row["Restarts"].startswith("1 (")
    assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"
    one = http.get(f"{DEPLOYMENTS}/web", headers=TABLE).json()
    assert one["rows"][0]["cells"][:2] == ["web", "0/1"]


def test_the_new_events_api_shows_the_same_events(
    cluster: RunningServer, http: httpx.Client
) -> None:
    cluster.do(cluster.server.apply, deployment())
    cluster.settle()
    old = http.get(f"/api/v1/namespaces/{NAMESPACE}/events").json()["items"]
    new = http.get(f"/apis/events.k8s.io/v1/namespaces/{NAMESPACE}/events").json()["items"]
    assert [event["note"] for event in new] == [event["message"] for event in old]


def test_every_listed_resource_can_be_listed(http: httpx.Client) -> None:
    """Discovery promises nothing that is not served."""
    for group in ["", *(g["name"] for g in http.get("/apis").json()["groups"])]:
        versions = (
            ["v1"]
            if not group
            else [v["version"] for v in http.get(f"/apis/{group}").json()["versions"]]
        )
        for version in versions:
            base = f"/apis/{group}/{version}" if group else "/api/v1"
            for resource in http.get(base).json()["resources"]:
                if "list" in resource["verbs"]:
                    answer = http.get(f"{base}/{resource['name']}")
                    assert answer.status_code == 200, resource["name"]
                    assert answer.json()["kind"] == f"{resource['kind']}List"


def test_nothing_heavy_is_imported(tmp_path: Path) -> None:
    """What takes long to import is left to those who need it."""
    code = (
        "import sys, engine.lab.cluster\n"
        "heavy = {'kubernetes', 'yaml', 'jinja2', 'networkx', 'psycopg', 'paramiko', 'httpx'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
