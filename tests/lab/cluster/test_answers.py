"""What a real kube-apiserver 1.36 answered to the same request, the lab's answers in its words.

Each row was sent to both; what is expected here is the real one's answer.
"""

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
    pod,
    service,
)
from tests.lab.cluster.running_server import RunningServer

MERGE = "application/merge-patch+json"
JSON = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
WEB = f"{DEPLOYMENTS}/web"
ENDPOINTS_WARNING = (
    '299 - "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"'
)


def _web(http: httpx.Client) -> None:
    assert http.post(DEPLOYMENTS, json=deployment(replicas=0)).status_code == 201


def _refused(answer: httpx.Response) -> tuple[int, str, str]:
    status = answer.json()
    return answer.status_code, status.get("reason", ""), status["message"]


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        (
            "resourceVersionMatch=Exact",
            (
                "422 resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless "
                "resourceVersion is provided"
            ),
        ),
        (
            "watch=true&sendInitialEvents=true",
            (
                "422 resourceVersionMatch: Forbidden: sendInitialEvents requires setting "
                "resourceVersionMatch to NotOlderThan"
            ),
        ),
        (
            "watch=true&resourceVersion=abc",
            (
                '500 resourceVersion: Invalid value: "abc": strconv.ParseUint: parsing "abc": '
                "invalid syntax"
            ),
        ),
        (
            "resourceVersion=abc",
            (
                '400 invalid resource version: resourceVersion: Invalid value: "abc": '
                'strconv.ParseUint: parsing "abc": invalid syntax'
            ),
        ),
        (
            "labelSelector=a%20b%20c",
            "400 unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt",
        ),
        (
            "labelSelector=a%3Db%2Fc",
            '400 unable to parse requirement: values[0][a]: Invalid value: "b/c": a valid label',
        ),
        (
            "fieldSelector=data.k%3Dv",
            (
                '400 "data.k" is not a known field selector: only "metadata.name", '
                '"metadata.namespace"'
            ),
        ),
        (
            "limit=3&continue=nonsense",
            (
                "400 invalid continue token: continue key is not valid: invalid character '\\x9e' "
                "looking for beginning of value"
            ),
        ),
    ],
)
def test_a_list_that_makes_no_sense(http: httpx.Client, query: str, answer: str) -> None:
    status, _, words = answer.partition(" ")
    code, _, message = _refused(http.get(f"{CONFIG_MAPS}?{query}"))
    assert code == int(status)
    assert words in message


def test_a_continued_list_has_its_version_already(http: httpx.Client) -> None:
    for number in range(4):
        http.post(CONFIG_MAPS, json=config_map(f"c-{number}"))
    token = http.get(f"{CONFIG_MAPS}?limit=2").json()["metadata"]["continue"]
    answer = http.get(f"{CONFIG_MAPS}?limit=2&continue={token}&resourceVersion=5")
    words = "specifying resource version is not allowed when using continue"
    assert _refused(answer) == (400, "BadRequest", words)
    assert len(http.get(f"{CONFIG_MAPS}?limit=-1").json()["items"]) == 4


def test_an_answer_comes_in_a_format_that_the_client_takes(http: httpx.Client) -> None:
    http.post(CONFIG_MAPS, json=config_map(a="1"))
    place = f"{CONFIG_MAPS}/settings"
    refused = http.get(place, headers={"Accept": "text/plain"})
    assert _refused(refused)[:2] == (406, "NotAcceptable")
    as_yaml = http.get(place, headers={"Accept": "application/yaml, application/json;q=0.5"})
    assert as_yaml.headers["Content-Type"] == "application/yaml"
    assert as_yaml.text.startswith("apiVersion: v1\ndata:\n  a: '1'\nkind: ConfigMap\n")
    for takes in ("*/*", "", "application/vnd.kubernetes.protobuf, application/json"):
        assert http.get(place, headers={"Accept": takes}).json()["data"] == {"a": "1"}


TWICE = b'{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":{"a":"1","a":"2"}}'
TWICE_YAML = b"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  a: one\n  a: two\n"


@pytest.mark.parametrize(
    ("body", "media", "complaint"),
    [
        (TWICE, "application/json", 'duplicate field "data.a"'),
        (
            TWICE_YAML,
            "application/yaml",
            'yaml: unmarshal errors:\n  line 6: key "a" already set in map',
        ),
    ],
)
def test_a_key_that_stands_twice(
    http: httpx.Client, body: bytes, media: str, complaint: str
) -> None:
    def post(validation: str) -> httpx.Response:
        query = f"?fieldValidation={validation}&dryRun=All"
        return http.post(CONFIG_MAPS + query, content=body, headers={"Content-Type": media})

    code, reason, message = _refused(post("Strict"))
    assert (code, reason) == (400, "BadRequest")
    assert message.endswith(f"strict decoding error: {complaint}")
    warned = post("Warn")
    assert warned.status_code == 201
    assert (
        "already set in map" in warned.headers["Warning"] or "data.a" in warned.headers["Warning"]
    )
    assert "Warning" not in post("Ignore").headers


@pytest.mark.parametrize(
    ("media", "patch", "answer"),
    [
        (MERGE, {"metadata": {"uid": "x"}}, (422, "Invalid", "field is immutable")),
        (MERGE, [], (400, "BadRequest", "unmarshal array into Go value of type map[string]")),
        (JSON, {"a": 1}, (400, "BadRequest", "unmarshal object into Go value of type []handlers")),
        (
            STRATEGIC,
            {"spec": {"template": {"spec": {"containers": [{"image": "x:2"}]}}}},
            (500, "", "map: map[image:x:2] does not contain declared merge key: name"),
        ),
        (
            STRATEGIC,
            {"spec": {"$patch": "melt"}},
            (500, "", "unknown patch type: melt in map: map[$patch:melt]"),
        ),
        ("application/foo", {}, (415, "UnsupportedMediaType", "415: Unsupported Media Type")),
        (APPLY, {"metadata": {"name": "web"}}, (400, "BadRequest", "invalid object type: /, Kind")),
    ],
)
def test_a_patch_that_does_not_fit(
    http: httpx.Client, media: str, patch: Any, answer: tuple[int, str, str]
) -> None:
    _web(http)
    place = f"{WEB}?fieldManager=me"
    code, reason, message = _refused(
        http.request("PATCH", place, json=patch, headers={"Content-Type": media})
    )
    assert (code, reason) == answer[:2]
    assert answer[2] in message


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (
            {"ports": [{"port": 80, "targetPort": "this-name-is-too-long-for-a-port"}]},
            (
                'spec.ports[0].targetPort: Invalid value: "this-name-is-too-long-for-a-port": '
                "must be no more than 15 characters"
            ),
        ),
        (
            {"clusterIP": "1.2.3.4"},
            (
                'spec.clusterIPs: Invalid value: ["1.2.3.4"]: failed to allocate IP 1.2.3.4: the '
                "provided network does not match the current range"
            ),
        ),
        ({"clusterIP": "10.0.0.1"}, "provided IP is already allocated"),
        (
            {"type": "NodePort", "ports": [{"port": 80, "nodePort": 80}]},
            "provided port is not in the valid range. The range of valid ports is 30000-32767",
        ),
    ],
)
def test_a_service_that_cannot_be_had(
    http: httpx.Client, changes: dict[str, Any], complaint: str
) -> None:
    code, _, message = _refused(http.post(SERVICES, json=service(**changes)))
    assert code == 422
    assert complaint in message


def test_a_name_that_fails_by_its_dots_is_told_so(http: httpx.Client) -> None:
    message = http.post(SERVICES, json=service("s.x")).json()["message"]
    assert message.endswith('metadata.name: Invalid value: "s.x": must not contain dots')


@pytest.mark.parametrize("kind", ["ConfigMap", "Secret"])
def test_a_megabyte_is_the_end(http: httpx.Client, kind: str) -> None:
    path = CONFIG_MAPS if kind == "ConfigMap" else CONFIG_MAPS.replace("configmaps", "secrets")
    field = "data" if kind == "ConfigMap" else "stringData"
    body = {"apiVersion": "v1", "kind": kind, "metadata": {"name": "big"}}
    answer = http.post(path, json={**body, field: {"a": "x" * (1024 * 1024 + 1)}})
    code, _, message = _refused(answer)
    assert code == 422
    assert message.endswith("Too long: may not be more than 1048576 bytes")
    assert http.post(path, json={**body, field: {"a": "x" * 1024 * 1024}}).status_code == 201


def test_endpoints_are_deprecated_whatever_is_asked_of_them(
    cluster: RunningServer, http: httpx.Client
) -> None:
    http.post(SERVICES, json=service())
    cluster.settle()
    endpoints = f"/api/v1/namespaces/{NAMESPACE}/endpoints"
    for place in (endpoints, f"{endpoints}/web", f"{endpoints}?watch=1&timeoutSeconds=0"):
        assert http.get(place).headers["Warning"] == ENDPOINTS_WARNING
    assert "Warning" not in http.get(SERVICES).headers


def test_a_variable_that_hides_another_is_told(http: httpx.Client) -> None:
    body = deployment()
    container = body["spec"]["template"]["spec"]["containers"][0]
    container["env"] = [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]
    answer = http.post(f"{DEPLOYMENTS}?dryRun=All", json=body)
    assert answer.status_code == 201
    assert "env[1]: hides previous definition of" in answer.headers["Warning"]


@pytest.mark.parametrize(
    ("query", "complaint"),
    [
        ("tailLines=-1", "tailLines: Invalid value: -1: must be greater than or equal to 0"),
        ("limitBytes=0", "limitBytes: Invalid value: 0: must be greater than 0"),
        ("sinceSeconds=0", "sinceSeconds: Invalid value: 0: must be greater than 0"),
    ],
)
def test_a_log_is_cut_by_sensible_numbers(
    cluster: RunningServer, http: httpx.Client, query: str, complaint: str
) -> None:
    http.post(PODS, json=pod())
    cluster.settle()
    answer = http.get(f"{PODS}/postgres-0/log?{query}")
    words = f'PodLogOptions "postgres-0" is invalid: {complaint}'
    assert _refused(answer) == (422, "Invalid", words)


def test_a_null_in_a_map_of_texts_is_an_empty_text(http: httpx.Client) -> None:
    body = {**config_map(), "data": {"d": None}}
    assert http.post(CONFIG_MAPS, json=body).json()["data"] == {"d": ""}


def test_a_key_with_a_line_break_spoils_no_header(http: httpx.Client) -> None:
    body = {**config_map(), "a\r\nX-Injected: b": 1}
    answer = http.post(f"{CONFIG_MAPS}?dryRun=All", json=body)
    assert answer.status_code == 201
    assert "X-Injected" not in answer.headers
    assert answer.headers["Warning"] == '299 - "unknown field \\"a X-Injected: b\\""'


def test_a_body_of_another_kind_is_refused(http: httpx.Client) -> None:
    answer = http.post(DEPLOYMENTS, json=config_map())
    assert answer.status_code == 400
    assert answer.json()["message"].endswith(
        "converting (v1.ConfigMap) to (apps.Deployment): unknown conversion"
    )
