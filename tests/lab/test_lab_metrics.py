"""Monitoring tells a value with its samples, and nothing where there is nothing to tell."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from engine.production.metrics import METRICS
from engine.production.observations import Observations, measure
from tests.lab.production import Production, eventually


def query(lab: Production, text: str) -> httpx.Response:
    return httpx.get(f"{lab.info.metrics_url}/api/v1/query", params={"query": text})


def as_json(lab: Production, **params: Any) -> list[dict[str, Any]]:
    answer = httpx.get(f"{lab.info.metrics_url}/metrics.json", params=params)
    assert answer.status_code == 200
    rows: list[dict[str, Any]] = answer.json()["metrics"]
    return rows


def test_every_metric_of_the_running_version_has_a_value(lab: Production) -> None:
    eventually(lambda: lab.metric("cpu", "5.0"))
    lab.let_pass(100)
    rows = {row["name"]: row for row in as_json(lab, version="all")}
    assert set(rows) == set(METRICS)
    assert all(row["samples"] > 0 for row in rows.values())
    assert rows["error_rate"]["value"] == 0
    assert rows["availability"]["value"] == 100
    assert 0 < rows["user_satisfaction"]["value"] <= 100  # users judge by how long they wait
    assert rows["workflow_success"]["value"] == 100
    assert rows["agents_total"]["value"] == rows["agents_active"]["value"] == 61
    assert rows["agent_availability"]["value"] == 100
    assert 0 < rows["p50_ms"]["value"] <= rows["p95_ms"]["value"] <= rows["p99_ms"]["value"]
    assert rows["requests_per_second"]["value"] > 10
    assert 0 < rows["memory"]["value"] < 80
    assert rows["cpu"]["value"] > 0
    assert 0 < rows["disk"]["value"] < 75
    assert 0 < rows["network"]["value"] < 70


def test_samples_are_the_requests_in_the_window(lab: Production) -> None:
    lab.let_pass(150)
    [short] = as_json(lab, name="error_rate", version="all", window="0.5s")
    [long] = as_json(lab, name="error_rate", version="all", window="2s")
    assert 0 < short["samples"] < long["samples"]
    assert long["window"] == 2


def test_a_version_without_pods_has_no_values(lab: Production) -> None:
    for name in METRICS:
        assert query(lab, f'{name}{{version="9.9"}}').json()["data"]["result"] == []
    eventually(lambda: lab.metric("cpu", "5.1", "1s") is None)
    eventually(lambda: lab.metric("error_rate", "5.1", "0.2s") is None)
    assert as_json(lab, version="9.9") == []


def test_nothing_is_known_before_anything_happened() -> None:
    empty = Observations(lambda: 100.0, 3.0, lambda: None)
    for name in METRICS:
        assert measure(empty, name, "all", 5.0) is None
        assert measure(empty, name, "5.1", 5.0) is None


def test_prometheus_answers_in_its_own_format(lab: Production) -> None:
    lab.let_pass(50)
    body = query(lab, 'error_rate{version="5.0"}').json()
    assert body["status"] == "success"
    assert body["data"]["resultType"] == "vector"
    [series] = body["data"]["result"]
    assert series["metric"] == {
        "__name__": "error_rate",
        "job": "claude-enhancer",
        "version": "5.0",
    }
    moment, value = series["value"]
    assert isinstance(moment, float)
    assert value == "0"
    assert int(lab.metric("error_rate_samples", "5.0") or 0) > 10


def test_a_query_without_labels_gives_every_version(lab: Production) -> None:
    lab.let_pass(50)
    result = query(lab, "requests_per_second").json()["data"]["result"]
    assert {"5.0", "all"} <= {series["metric"]["version"] for series in result}
    some = query(lab, 'requests_per_second{version=~"5.*",job!="other"}').json()["data"]["result"]
    assert "all" not in {series["metric"]["version"] for series in some}


def test_a_post_asks_as_well(lab: Production) -> None:
    url = f"{lab.info.metrics_url}/api/v1/query"
    assert httpx.post(url, data={"query": "agents_total"}).json()["status"] == "success"


def test_an_unknown_name_is_an_empty_answer_as_in_prometheus(lab: Production) -> None:
    body = query(lab, "no_such_metric").json()
    assert body == {"status": "success", "data": {"resultType": "vector", "result": []}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "error_rate{",
        'error_rate{version="5.1"',
        "sum(error_rate)",
        "a b",
        'a{b~"c"}',
        'a{b=~"("}',
        'error_rate{window="soon"}',
        "5 +",
    ],
)
def test_a_query_that_cannot_be_parsed_is_refused(lab: Production, text: str) -> None:
    answer = query(lab, text)
    assert answer.status_code == 400
    assert answer.json()["status"] == "error"
    assert answer.json()["errorType"] == "bad_data"
    assert 'invalid parameter "query"' in answer.json()["error"]


def test_an_unknown_name_is_refused_in_json_with_those_that_exist(lab: Production) -> None:
    answer = httpx.get(f"{lab.info.metrics_url}/metrics.json?name=eror_rate")
    assert answer.status_code == 400
    assert "error_rate" in answer.json()["error"]
    answer = httpx.get(f"{lab.info.metrics_url}/metrics.json?window=soon")
    assert answer.status_code == 400


def test_the_text_format_lists_the_same(lab: Production) -> None:
    lab.let_pass(20)
    text = httpx.get(f"{lab.info.metrics_url}/metrics").text
    assert 'error_rate{version="5.0"} 0\n' in text
