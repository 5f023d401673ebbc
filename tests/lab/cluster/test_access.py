"""Users with fewer rights are refused in a real server's words, and can ask what they may do."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.lab.cluster.objects import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    NAMESPACE,
    PODS,
    config_map,
    deployment,
    pod,
)
from tests.lab.cluster.running_server import RunningServer

RBAC = "/apis/rbac.authorization.k8s.io/v1"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"
JANE = {"Impersonate-User": "jane"}


def grant(
    http: httpx.Client, *rules: dict[str, Any], subject: dict[str, Any] | None = None
) -> None:
    """A role in the namespace with these rules, bound to jane or to `subject`."""
    role = {"metadata": {"name": "r"}, "rules": list(rules)}
    assert http.post(f"{RBAC}/namespaces/{NAMESPACE}/roles", json=role).status_code == 201
    binding = {
        "metadata": {"name": "b"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"},
        "subjects": [subject or {"kind": "User", "name": "jane"}],
    }
    answer = http.post(f"{RBAC}/namespaces/{NAMESPACE}/rolebindings", json=binding)
    assert answer.status_code == 201, answer.text


def allowed(http: httpx.Client, headers: dict[str, str], **attributes: str) -> dict[str, Any]:
    review = {"spec": {"resourceAttributes": {"namespace": NAMESPACE, **attributes}}}
    answer = http.post(REVIEWS, json=review, headers=headers)
    assert answer.status_code == 201, answer.text
    status: dict[str, Any] = answer.json()["status"]
    return status


def test_what_is_not_granted_is_refused(http: httpx.Client) -> None:
    answer = http.get(PODS, headers=JANE)
    assert (answer.status_code, answer.json()["reason"]) == (403, "Forbidden")
    assert answer.json()["message"] == (
        'pods is forbidden: User "jane" cannot list resource "pods" in API group "" in the '
        f'namespace "{NAMESPACE}"'
    )
    answer = http.get("/api/v1/nodes/node-1", headers=JANE)
    assert answer.json()["message"] == (
        'nodes "node-1" is forbidden: User "jane" cannot get resource "nodes" in API group "" at '
        "the cluster scope"
    )


def test_a_role_grants_its_verbs_on_its_resources(http: httpx.Client) -> None:
    grant(http, {"apiGroups": ["apps"], "resources": ["deployments/scale"], "verbs": ["patch"]})
    http.post(DEPLOYMENTS, json=deployment())
    headers = {**JANE, "Content-Type": "application/merge-patch+json"}
    patch = {"spec": {"replicas": 1}}
    assert http.patch(f"{DEPLOYMENTS}/web/scale", json=patch, headers=headers).status_code == 200
    answer = http.patch(f"{DEPLOYMENTS}/web", json=patch, headers=headers)
    assert answer.status_code == 403
    assert 'cannot patch resource "deployments" in API group "apps"' in answer.json()["message"]


def test_apply_of_what_is_not_there_needs_the_right_to_create(http: httpx.Client) -> None:
    grant(http, {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["patch"]})
    headers = {**JANE, "Content-Type": "application/apply-patch+yaml"}
    path = f"{CONFIG_MAPS}/settings?fieldManager=jane"
    answer = http.patch(path, json=config_map(a="1"), headers=headers)
    assert answer.status_code == 403
    assert 'cannot create resource "configmaps"' in answer.json()["message"]
    http.post(CONFIG_MAPS, json=config_map())
    assert http.patch(path, json=config_map(a="1"), headers=headers).status_code == 200


def test_names_in_a_rule_hold(http: httpx.Client) -> None:
    rule = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}
    grant(http, {**rule, "resourceNames": ["settings"]})
    http.post(CONFIG_MAPS, json=config_map())
    assert http.get(f"{CONFIG_MAPS}/settings", headers=JANE).status_code == 200
    assert http.get(f"{CONFIG_MAPS}/other", headers=JANE).status_code == 403


def test_a_review_says_what_a_request_would_meet(http: httpx.Client) -> None:
    grant(http, {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]})
    yes = allowed(http, JANE, verb="get", resource="pods")
    assert yes == {
        "allowed": True,
        "reason": f'RBAC: allowed by RoleBinding "b/{NAMESPACE}" of Role "r" to User "jane"',
    }
    assert allowed(http, JANE, verb="delete", resource="pods") == {"allowed": False}
    assert allowed(http, {}, verb="delete", resource="pods") == {"allowed": True}


def test_a_service_account_has_a_token_and_its_rights(
    http: httpx.Client, cluster: RunningServer
) -> None:
    accounts = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"
    http.post(accounts, json={"metadata": {"name": "deployer"}})
    subject = {"kind": "ServiceAccount", "name": "deployer", "namespace": NAMESPACE}
    grant(http, {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}, subject=subject)
    issued = http.post(f"{accounts}/deployer/token", json={"spec": {"expirationSeconds": 600}})
    assert issued.status_code == 201
    own = {"Authorization": f"Bearer {issued.json()['status']['token']}"}
    assert http.get(PODS, headers=own).status_code == 200
    assert http.get(CONFIG_MAPS, headers=own).status_code == 403
    review = http.post(
        "/apis/authentication.k8s.io/v1/selfsubjectreviews", json={}, headers=own
    ).json()
    name = f"system:serviceaccount:{NAMESPACE}:deployer"
    assert review["status"]["userInfo"]["username"] == name


def test_who_may_not_impersonate_is_refused(http: httpx.Client, cluster: RunningServer) -> None:
    accounts = f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts"
    http.post(accounts, json={"metadata": {"name": "deployer"}})
    token = http.post(f"{accounts}/deployer/token", json={}).json()["status"]["token"]
    headers = {"Authorization": f"Bearer {token}", **JANE}
    answer = http.get(PODS, headers=headers)
    assert answer.status_code == 403
    assert 'cannot impersonate resource "users"' in answer.json()["message"]


@pytest.mark.parametrize("role", ["view", "edit", "admin"])
def test_the_usual_cluster_roles_are_there(http: httpx.Client, role: str) -> None:
    binding = {
        "metadata": {"name": "b"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
        "subjects": [{"kind": "Group", "name": "sre"}],
    }
    http.post(f"{RBAC}/namespaces/{NAMESPACE}/rolebindings", json=binding)
    headers = {**JANE, "Impersonate-Group": "sre"}
    assert allowed(http, headers, verb="list", resource="pods")["allowed"]
    may_delete = allowed(http, headers, verb="delete", resource="pods")["allowed"]
    assert may_delete == (role != "view")


def quota(http: httpx.Client, **hard: str) -> None:
    path = f"/api/v1/namespaces/{NAMESPACE}/resourcequotas"
    names = {name.replace("__", "/").replace("_", "."): value for name, value in hard.items()}
    answer = http.post(path, json={"metadata": {"name": "q"}, "spec": {"hard": names}})
    assert answer.status_code == 201, answer.text


def test_a_pod_beyond_the_quota_is_refused(http: httpx.Client, cluster: RunningServer) -> None:
    quota(http, pods="1")
    assert http.post(PODS, json=pod("one")).status_code == 201
    answer = http.post(PODS, json=pod("two"))
    assert answer.status_code == 403
    assert answer.json()["message"] == (
        'pods "two" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: '
        "pods=1"
    )
    cluster.settle()
    status = cluster.server.get("ResourceQuota", "q", NAMESPACE)
    assert status is not None
    assert status["status"] == {"hard": {"pods": "1"}, "used": {"pods": "1"}}


def test_a_deployment_tells_the_quota_that_stops_it(
    http: httpx.Client, cluster: RunningServer
) -> None:
    quota(http, pods="1")
    http.post(DEPLOYMENTS, json=deployment(replicas=3))
    cluster.settle()
    web = cluster.server.get("Deployment", "web", NAMESPACE)
    assert web is not None
    assert web["status"]["replicas"] == 1
    conditions = {each["type"]: each for each in web["status"]["conditions"]}
    assert conditions["ReplicaFailure"]["reason"] == "FailedCreate"
    assert "exceeded quota: q" in conditions["ReplicaFailure"]["message"]
    events = cluster.server.list("Event", NAMESPACE)
    assert any(event["reason"] == "FailedCreate" for event in events)


def test_under_a_quota_of_memory_pods_must_say_what_they_need(http: httpx.Client) -> None:
    quota(http, requests_memory="1Gi")
    answer = http.post(PODS, json=pod("one"))
    assert answer.status_code == 403
    assert "failed quota: q: must specify requests.memory for: app" in answer.json()["message"]
    needy = pod("one")
    resources = {"requests": {"memory": "768Mi"}}
    needy["spec"]["containers"][0]["resources"] = resources
    assert http.post(PODS, json=needy).status_code == 201
    needy["metadata"]["name"] = "two"
    answer = http.post(PODS, json=needy)
    assert (
        "requested: requests.memory=768Mi, used: requests.memory=768Mi, limited: "
        in (answer.json()["message"])
    )
