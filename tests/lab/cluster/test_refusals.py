"""Wrong requests are refused in a real server's words, with the field that is wrong."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.lab.cluster.objects import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    NAMESPACE,
    PODS,
    SERVICES,
    config_map,
    deployment,
    service,
)
from tests.lab.cluster.running_server import RunningServer

APPLY = {"Content-Type": "application/apply-patch+yaml"}
MERGE = {"Content-Type": "application/merge-patch+json"}


def _changed(path: str, value: Any) -> dict[str, Any]:
    """A Deployment with one place set, or removed when `value` is None."""
    obj: Any = deployment()
    place = obj
    *way, last = path.split(".")
    for name in way:
        place = place[int(name)] if isinstance(place, list) else place[name]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return dict(obj)


@pytest.mark.parametrize(
    ("path", "value", "field", "message"),
    [
        (
            "spec.replicas",
            -1,
            "spec.replicas",
            "Invalid value: -1: must be greater than or equal to 0",
        ),
        ("spec.selector", None, "spec.selector", "Required value"),
        (
            "spec.template.spec.containers.0.image",
            None,
            "spec.template.spec.containers[0].image",
            "Required value",
        ),
        (
            "spec.template.spec.containers.0.ports.0.containerPort",
            70000,
            "spec.template.spec.containers[0].ports[0].containerPort",
            "Invalid value: 70000: must be between 1 and 65535, inclusive",
        ),
        (
            "spec.template.spec.restartPolicy",
            "Never",
            "spec.template.spec.restartPolicy",
            'Unsupported value: "Never": supported values: "Always"',
        ),
        (
            "spec.progressDeadlineSeconds",
            0,
            "spec.progressDeadlineSeconds",
            "Invalid value: 0: must be greater than minReadySeconds",
        ),
        (
            "spec.strategy",
            {"rollingUpdate": {"maxSurge": 0, "maxUnavailable": 0}},
            "spec.strategy.rollingUpdate.maxUnavailable",
            "Invalid value: 0: may not be 0 when `maxSurge` is 0",
        ),
        (
            "spec.strategy",
            {"rollingUpdate": {"maxSurge": "some"}},
            "spec.strategy.rollingUpdate.maxSurge",
            (
                'Invalid value: "some": a valid percent string must be a numeric string followed '
                "by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')"
            ),
        ),
        (
            "spec.strategy",
            {"rollingUpdate": {"maxUnavailable": "200%"}},
            "spec.strategy.rollingUpdate.maxUnavailable",
            'Invalid value: "200%": must not be greater than 100%',
        ),
        (
            "spec.revisionHistoryLimit",
            -1,
            "spec.revisionHistoryLimit",
            "Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "metadata.ownerReferences",
            [{"apiVersion": "v1", "kind": "ConfigMap", "name": "owner"}],
            "metadata.ownerReferences[0].uid",
            'Invalid value: "": must not be empty',
        ),
        (
            "metadata.finalizers",
            ["mine"],
            "metadata.finalizers[0]",
            (
                'Invalid value: "mine": name is neither a standard finalizer name nor is it fully '
                "qualified"
            ),
        ),
        (
            "spec.template.spec.containers.0.volumeMounts",
            [{"name": "gone", "mountPath": "/x"}],
            "spec.template.spec.containers[0].volumeMounts[0].name",
            'Not found: "gone"',
        ),
        (
            "spec.template.spec.containers.0.resources",
            {"requests": {"cpu": "2"}, "limits": {"cpu": "1000m"}},
            "spec.template.spec.containers[0].resources.requests",
            'Invalid value: "2": must be less than or equal to cpu limit of 1',
        ),
    ],
)
def test_an_invalid_deployment_is_refused_with_its_field(
    http: httpx.Client, path: str, value: Any, field: str, message: str
) -> None:
    answer = http.post(DEPLOYMENTS, json=_changed(path, value))
    assert answer.status_code == 422
    body = answer.json()
    causes = {cause["field"]: cause["message"] for cause in body["details"]["causes"]}
    assert causes[field] == message
    assert f"{field}: {message}" in body["message"]
    assert body["message"].startswith('Deployment.apps "web" is invalid: ')


@pytest.mark.parametrize(
    ("method", "query", "message"),
    [
        (
            "POST",
            "dryRun=Some",
            (
                'CreateOptions.meta.k8s.io "" is invalid: dryRun: Unsupported value: ["Some"]: '
                'supported values: "All"'
            ),
        ),
        (
            "PUT",
            "fieldValidation=Some",
            (
                'UpdateOptions.meta.k8s.io "" is invalid: fieldValidation: Unsupported value: '
                '"Some": supported values: "", "Ignore", "Strict", "Warn"'
            ),
        ),
        (
            "DELETE",
            "propagationPolicy=Some",
            (
                'DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: '
                '"Some": supported values: "Foreground", "Background", "Orphan", "nil"'
            ),
        ),
        (
            "DELETE",
            "propagationPolicy=Orphan&orphanDependents=false",
            (
                'DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Invalid value: '
                '"Orphan": orphanDependents and deletionPropagation cannot be both set'
            ),
        ),
    ],
)
def test_a_request_that_is_meant_in_no_known_way_does_nothing(
    http: httpx.Client, method: str, query: str, message: str
) -> None:
    http.post(CONFIG_MAPS, json=config_map(a="1"))
    path = CONFIG_MAPS if method == "POST" else f"{CONFIG_MAPS}/settings"
    body = None if method == "DELETE" else config_map(a="2")
    answer = http.request(method, f"{path}?{query}", json=body)
    assert (answer.status_code, answer.json()["message"]) == (422, message)
    assert "name" not in answer.json()["details"]
    assert http.get(f"{CONFIG_MAPS}/settings").json()["data"] == {"a": "1"}


def test_an_object_has_one_controller(http: httpx.Client) -> None:
    owner = {"apiVersion": "v1", "kind": "ConfigMap", "uid": "1", "controller": True}
    obj = config_map()
    obj["metadata"]["ownerReferences"] = [{**owner, "name": name} for name in ("a", "b")]
    answer = http.post(CONFIG_MAPS, json=obj)
    assert answer.status_code == 422
    assert "Only one reference can have Controller set to true" in answer.json()["message"]


def test_what_is_created_has_no_version_yet(http: httpx.Client) -> None:
    obj = config_map(a="1")
    obj["metadata"]["resourceVersion"] = "5"
    answer = http.post(CONFIG_MAPS, json=obj)
    expected = "resourceVersion should not be set on objects to be created"
    assert (answer.status_code, answer.json()["message"]) == (500, expected)
    assert http.get(f"{CONFIG_MAPS}/settings").status_code == 404


def test_an_applied_object_belongs_to_the_namespace_of_the_path(http: httpx.Client) -> None:
    obj = {**config_map(a="1"), "metadata": {"name": "settings", "namespace": "elsewhere"}}
    path = f"{CONFIG_MAPS}/settings?fieldManager=me"
    answer = http.patch(path, json=obj, headers=APPLY)
    assert answer.status_code == 400
    assert "does not match the namespace sent on the request" in answer.json()["message"]


def test_the_selector_of_a_deployment_is_fixed(http: httpx.Client) -> None:
    http.post(DEPLOYMENTS, json=deployment())
    labels = {"app": "web", "more": "x"}
    template = {"metadata": {"labels": labels}}
    change = {"spec": {"selector": {"matchLabels": labels}, "template": template}}
    answer = http.patch(f"{DEPLOYMENTS}/web", json=change, headers=MERGE)
    assert answer.status_code == 422
    (cause,) = answer.json()["details"]["causes"]
    selector = '{"matchLabels":{"app":"web","more":"x"}}'
    assert cause == {
        "reason": "FieldValueInvalid",
        "message": f"Invalid value: {selector}: field is immutable",
        "field": "spec.selector",
    }


@pytest.mark.parametrize(
    ("obj", "field"),
    [
        (service("Web"), "metadata.name"),
        (service(ports=[]), "spec.ports"),
        (service(ports=[{"port": 0}]), "spec.ports[0].port"),
        (service(ports=[{"port": 80}, {"port": 81, "name": "b"}]), "spec.ports[0].name"),
        (service(type="Cluster"), "spec.type"),
    ],
)
def test_an_invalid_service_is_refused(http: httpx.Client, obj: dict[str, Any], field: str) -> None:
    answer = http.post(SERVICES, json=obj)
    assert answer.status_code == 422
    assert field in [cause["field"] for cause in answer.json()["details"]["causes"]]


def test_a_service_keeps_its_address(http: httpx.Client) -> None:
    first = http.post(SERVICES, json=service()).json()
    kept = http.put(f"{SERVICES}/web", json=service()).json()
    assert kept["spec"]["clusterIP"] == first["spec"]["clusterIP"]
    moved = http.put(
        f"{SERVICES}/web", json=service(clusterIP="10.0.0.99", clusterIPs=["10.0.0.99"])
    )
    assert moved.status_code == 422
    assert "may not change once set" in moved.json()["message"]


def test_a_config_map_key_must_be_one(http: httpx.Client) -> None:
    answer = http.post(CONFIG_MAPS, json=config_map(**{"a b": "1"}))
    assert answer.status_code == 422
    assert answer.json()["details"]["causes"][0]["field"] == "data[a b]"


def test_a_wrong_type_is_refused_where_it_is(http: httpx.Client) -> None:
    answer = http.post(DEPLOYMENTS, json=_changed("spec.replicas", "three"))
    assert answer.status_code == 400
    assert answer.json()["message"] == (
        'Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal '
        "string into Go struct field DeploymentSpec.spec.replicas of type int32"
    )


def test_unknown_fields_are_refused_warned_about_or_ignored(http: httpx.Client) -> None:
    wrong = _changed("spec.replica", 3)
    strict = http.post(DEPLOYMENTS, json=wrong, params={"fieldValidation": "Strict"})
    assert strict.status_code == 400
    assert strict.json()["message"].endswith('strict decoding error: unknown field "spec.replica"')
    warned = http.post(DEPLOYMENTS, json=wrong, params={"dryRun": "All"})
    assert warned.headers["Warning"] == '299 - "unknown field \\"spec.replica\\""'
    assert "replica" not in warned.json()["spec"]
    ignored = http.post(DEPLOYMENTS, json=wrong, params={"fieldValidation": "Ignore"})
    assert "Warning" not in ignored.headers


def test_an_applied_configuration_must_fit_its_type(http: httpx.Client) -> None:
    def apply(obj: dict[str, Any]) -> dict[str, Any]:
        answer = http.patch(
            f"{DEPLOYMENTS}/web", params={"fieldManager": "me"}, json=obj, headers=APPLY
        )
        assert answer.status_code == 500
        body: dict[str, Any] = answer.json()
        return body

    where = f"failed to create typed patch object ({NAMESPACE}/web; apps/v1, Kind=Deployment): "
    unknown = apply(_changed("spec.replica", 3))
    assert unknown["message"] == where + ".spec.replica: field not declared in schema"
    assert "reason" not in unknown
    wrong = apply(_changed("spec.replicas", "3"))
    assert wrong["message"] == where + ".spec.replicas: expected numeric (int or float), got string"
    twice = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    doubled = apply(_changed("spec.template.spec.containers.0.env", twice))
    place = '.spec.template.spec.containers[name="app"].env'
    assert doubled["message"] == where + f'{place}: duplicate entries for key [name="A"]'


def test_an_apply_must_name_its_manager(http: httpx.Client) -> None:
    answer = http.patch(f"{DEPLOYMENTS}/web", json=deployment(), headers=APPLY)
    assert answer.status_code == 422
    assert answer.json()["message"] == (
        'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for '
        "apply patch"
    )


def test_the_namespace_must_exist(http: httpx.Client) -> None:
    answer = http.post("/api/v1/namespaces/nowhere/configmaps", json={"metadata": {"name": "x"}})
    assert (answer.status_code, answer.json()["message"]) == (404, 'namespaces "nowhere" not found')


def test_names_in_path_and_body_must_agree(http: httpx.Client) -> None:
    http.post(CONFIG_MAPS, json=config_map("one"))
    answer = http.put(f"{CONFIG_MAPS}/one", json=config_map("two"))
    assert answer.status_code == 400
    assert answer.json()["message"] == (
        "the name of the object (two) does not match the name on the URL (one)"
    )
    elsewhere = {"metadata": {"name": "x", "namespace": "default"}}
    assert http.post(CONFIG_MAPS, json=elsewhere).status_code == 400


@pytest.mark.parametrize(
    ("body", "complaint"),
    [
        (b"{not json", "invalid character 'n' looking for beginning of object key string"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a": 1', "unexpected end of JSON input"),
        (b'{"a": }', "invalid character '}' looking for beginning of value"),
        (b"", "unexpected end of JSON input"),
    ],
)
def test_a_malformed_body_is_explained(http: httpx.Client, body: bytes, complaint: str) -> None:
    answer = http.post(DEPLOYMENTS, content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400
    assert complaint in answer.json()["message"]


def test_a_json_patch_that_does_not_fit_is_unprocessable(http: httpx.Client) -> None:
    http.post(CONFIG_MAPS, json=config_map(a="1"))
    kind = {"Content-Type": "application/json-patch+json"}
    for operation in (
        {"op": "test", "path": "/data/a", "value": "2"},
        {"op": "remove", "path": "/data/b"},
        {"op": "dance", "path": "/data/a"},
    ):
        answer = http.patch(f"{CONFIG_MAPS}/settings", json=[operation], headers=kind)
        assert (answer.status_code, answer.json()["reason"]) == (422, "Invalid")


def test_methods_and_paths_that_are_not_served(http: httpx.Client) -> None:
    assert http.put(CONFIG_MAPS, json={}).status_code == 405
    assert http.get("/apis/nothing.io/v1/things").text == "404 page not found\n"
    assert http.get("/apis/apps/v7/deployments").json()["reason"] == "NotFound"
    assert http.get(f"{PODS}/x/nothing").status_code == 404
    assert http.get(f"{PODS}?fieldSelector=spec.color%3Dred").status_code == 400
    assert http.get(f"{PODS}?labelSelector=a%3D%3D%3Db").status_code == 400
    assert http.get(f"{PODS}?limit=many").status_code == 400


def test_logs_of_a_pod_that_never_ran_are_refused(
    cluster: RunningServer, http: httpx.Client
) -> None:
    cluster.do(cluster.server.apply, deployment(image="web:bad", replicas=1))
    cluster.settle()
    name = cluster.server.list("Pod", NAMESPACE)[0]["metadata"]["name"]
    answer = http.get(f"{PODS}/{name}/log")
    assert answer.status_code == 400
    assert answer.json()["message"] == (
        f'container "app" in pod "{name}" is waiting to start: trying and failing to pull image'
    )


def test_a_slip_in_a_patch_is_answered_with_the_whole_object(http: httpx.Client) -> None:
    """So does a real server: whoever passes the message on shows what the object holds."""
    http.post(DEPLOYMENTS, json=deployment())
    headers = {"Content-Type": "application/merge-patch+json"}
    path = f"{DEPLOYMENTS}/web?fieldValidation=Strict"
    answer = http.patch(path, json={"spec": {"replica": 3}}, headers=headers)
    message = answer.json()["message"]
    assert answer.status_code == 422
    assert message.startswith(' "" is invalid: patch: Invalid value: "{')
    assert message.endswith('strict decoding error: unknown field "spec.replica"')
    assert '\\"image\\":\\"web:1\\"' in message
    answer = http.patch(f"{DEPLOYMENTS}/web", json={"spec": {"replicas": "3"}}, headers=headers)
    assert answer.status_code == 422
    assert "cannot unmarshal string into Go struct field" in answer.json()["message"]


def test_force_is_for_apply_alone(http: httpx.Client) -> None:
    http.post(DEPLOYMENTS, json=deployment())
    headers = {"Content-Type": "application/merge-patch+json"}
    answer = http.patch(f"{DEPLOYMENTS}/web?force=true", json={}, headers=headers)
    assert (answer.status_code, answer.json()["message"]) == (
        422,
        (
            'PatchOptions.meta.k8s.io "" is invalid: force: Forbidden: may not be specified for '
            "non-apply patch"
        ),
    )


def test_the_name_of_a_manager_has_an_end(http: httpx.Client) -> None:
    answer = http.post(f"{DEPLOYMENTS}?fieldManager={'m' * 129}", json=deployment())
    assert answer.status_code == 422
    assert answer.json()["details"]["causes"][0]["reason"] == "FieldValueTooLong"


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        ({"httpGet": {"port": 0}}, "must be between 1 and 65535, inclusive"),
        (
            {"exec": {"command": ["true"]}, "httpGet": {"port": 80}},
            "readinessProbe.httpGet: Forbidden: may not specify more than 1 handler type",
        ),
    ],
)
def test_probes_that_cannot_be_sent_are_refused(
    http: httpx.Client, probe: dict[str, Any], message: str
) -> None:
    obj = deployment()
    obj["spec"]["template"]["spec"]["containers"][0]["readinessProbe"] = probe
    answer = http.post(DEPLOYMENTS, json=obj)
    assert answer.status_code == 422
    assert message in answer.json()["message"]


def test_two_volumes_of_one_name_are_refused(http: httpx.Client) -> None:
    obj = deployment()
    obj["spec"]["template"]["spec"]["volumes"] = [{"name": "v", "emptyDir": {}}] * 2
    answer = http.post(DEPLOYMENTS, json=obj)
    assert answer.json()["message"] == (
        'Deployment.apps "web" is invalid: spec.template.spec.volumes[1].name: Duplicate value: "v"'
    )
