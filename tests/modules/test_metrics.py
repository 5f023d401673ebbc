"""Metrics are read from Prometheus and JSON endpoints and judged: pass, fail, inconclusive.

The answers of Prometheus are recorded from version 2.42; with a `prometheus` and `promtool` on
this machine (PATH or TEST_PROMETHEUS) the same questions go to a real one, too.
"""

from __future__ import annotations

import itertools
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from engine.clock import VirtualClock
from engine.executor import TaskContext
from engine.module_api import Cancelled, Failed, Refused, Result, Unreachable
from modules import metrics
from tests.modules.conftest import Answer, MakeContext, Request, Serve
from tests.services import program


def vector(*values: str) -> Answer:
    series = [{"metric": {"n": str(n)}, "value": [1.5, text]} for n, text in enumerate(values)]
    return 200, {"status": "success", "data": {"resultType": "vector", "result": series}}


RECORDED: dict[str, Answer] = {
    'sum(rate(requests_total{version="5.1"}[60000ms]))': vector("9.999999999999998"),
    'sum(requests_total{version="5.1"})': vector("6000"),
    "requests_total": vector("6000", "6000"),
    "nope": vector(),
    "0/0": (
        200,
        {"status": "success", "data": {"resultType": "scalar", "result": [1.5, "NaN"]}},
    ),
    "sum(requests_total)/0": vector("+Inf"),
    '"x"': (200, {"status": "success", "data": {"resultType": "string", "result": [1.5, "x"]}}),
    "sum((": (
        400,
        {
            "status": "error",
            "errorType": "bad_data",
            "error": 'invalid parameter "query": 1:6: parse error: unclosed left parenthesis',
        },
    ),
}


@pytest.fixture(scope="module")
def real_prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Prometheus whose store holds ten minutes of a counter: 10 requests/s each version."""
    binary = program("prometheus", "apt-get install prometheus", variable="TEST_PROMETHEUS")
    promtool = Path(binary).with_name("promtool")
    folder = tmp_path_factory.mktemp("prometheus")
    now = int(time.time())
    lines = [
        f'requests_total{{version="{version}"}} {second * 10} {now - 600 + second}'
        for version in ("5.0", "5.1")
        for second in range(0, 901, 15)
    ]
    text = "\n".join(["# TYPE requests counter", *lines, "# EOF"])
    (folder / "m.om").write_text(f"{text}\n")
    (folder / "p.yml").write_text("")
    subprocess.run(
        [promtool, "tsdb", "create-blocks-from", "openmetrics", folder / "m.om", folder / "data"],
        check=True,
        capture_output=True,
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                binary,
                f"--config.file={folder / 'p.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address={address}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        _ready(f"http://{address}/-/ready", process)
        yield f"http://{address}"
    finally:
        process.terminate()
        process.wait()


def _ready(url: str, process: subprocess.Popen[bytes]) -> None:
    pause = threading.Event()
    for _ in range(500):
        assert process.poll() is None
        try:
            with urllib.request.urlopen(url):
                return
        except OSError:
            pause.wait(0.02)
    raise AssertionError("Prometheus did not get ready")


@pytest.fixture(params=["recorded", "real"])
def prometheus(request: pytest.FixtureRequest, serve: Serve) -> str:
    """The URL of a Prometheus, or of a server with its recorded answers."""
    if request.param == "real":
        url: str = request.getfixturevalue("real_prometheus")
        return url

    def answer(request: Request) -> Answer:
        asked = urlsplit(request.path)
        assert asked.path == "/api/v1/query"
        return RECORDED[parse_qs(asked.query)["query"][0]]

    return serve(answer).url


def inventory(url: str, **more: Any) -> dict[str, Any]:
    return {
        "endpoints": {"prometheus": url},
        "metrics": {
            "rate": {
                "prometheus": 'sum(rate(requests_total{version="$version"}[${window}]))',
                "samples": 'sum(requests_total{version="$version"})',
                "unit": "/s",
                "vars": {"version": "5.1"},
            },
            "several": "requests_total",
            "nothing": "nope",
            "nan": "0/0",
            "infinite": "sum(requests_total)/0",
            "text": '"x"',
            "broken": "sum((",
            **more,
        },
    }


def read(ctx: TaskContext, name: str, **arguments: Any) -> Result:
    return metrics.read(ctx, name, **arguments)


def test_a_query_gives_value_and_samples(make_context: MakeContext, prometheus: str) -> None:
    data = read(make_context(inventory(prometheus)), "rate", window=60, min_samples=10).data
    assert data["value"] == pytest.approx(10, rel=0.05)
    assert data["samples"] >= 6000
    assert (data["unit"], data["verdict"], data["reason"]) == ("/s", "pass", "")


@pytest.mark.parametrize("name", ["nothing", "nan"])
def test_no_data_has_no_value_and_is_inconclusive(
    make_context: MakeContext, prometheus: str, name: str
) -> None:
    ctx = make_context(inventory(prometheus))
    data = read(ctx, name).data
    assert (data["value"], data["samples"], data["verdict"]) == (None, None, "inconclusive")
    with pytest.raises(Failed, match=f"{name}: no data") as caught:
        read(ctx, name, max=1)
    assert caught.value.kind == "inconclusive"
    assert caught.value.data["verdict"] == "inconclusive"
    assert "not a pass" in caught.value.hint


def test_an_infinity_is_above_every_threshold(make_context: MakeContext, prometheus: str) -> None:
    ctx = make_context(inventory(prometheus))
    assert read(ctx, "infinite").data["value"] == sys.float_info.max
    with pytest.raises(Failed) as caught:
        read(ctx, "infinite", max=1e9)
    assert caught.value.kind == "failed"


@pytest.mark.parametrize(
    ("name", "message", "evidence"),
    [
        ("several", "gives 2 series, not one", "{"),
        ("text", "gives a string, not one value", 'query: "x"'),
        ("broken", "rejected the query of metric broken: bad_data", "unclosed left parenthesis"),
    ],
)
def test_a_query_that_is_wrong_fails_in_the_words_of_prometheus(
    make_context: MakeContext, prometheus: str, name: str, message: str, evidence: str
) -> None:
    with pytest.raises(Failed, match=message) as caught:
        read(make_context(inventory(prometheus)), name)
    assert evidence in caught.value.evidence[0]


@pytest.mark.parametrize(
    "answer", [(404, "<html>Not here</html>"), (200, []), (200, None), (200, {"status": "success"})]
)
def test_a_server_that_is_no_prometheus_is_told_apart(
    make_context: MakeContext, serve: Serve, answer: Answer
) -> None:
    url = serve(lambda request: answer).url
    with pytest.raises(Failed, match="is no Prometheus: it answered with status"):
        read(make_context(inventory(url)), "nothing")


@pytest.mark.parametrize(
    "answer",
    [
        (502, "<html>Bad gateway</html>"),
        (503, {"status": "error", "errorType": "timeout", "error": "query timed out"}),
        (429, "slow down"),
    ],
)
def test_a_source_that_cannot_answer_now_may_be_tried_again(
    make_context: MakeContext, serve: Serve, answer: Answer
) -> None:
    url = serve(lambda request: answer).url
    with pytest.raises(Unreachable, match="answered with status"):
        read(make_context(inventory(url)), "nothing")
    with pytest.raises(Unreachable, match="answered with status"):
        read(make_context(json_inventory(url)), "error_rate")


@pytest.mark.parametrize(
    "found",
    [
        {"resultType": "vector", "result": [{"metric": {}, "histogram": [1.5, {}]}]},
        {"resultType": "vector", "result": [{"metric": {}, "value": [1.5, "much"]}]},
        {"resultType": "vector", "result": [7]},
        {"resultType": "scalar", "result": []},
    ],
)
def test_what_is_no_number_fails_as_such(
    make_context: MakeContext, serve: Serve, found: dict[str, Any]
) -> None:
    url = serve(lambda request: (200, {"status": "success", "data": found})).url
    with pytest.raises(Failed, match="its query gives no number"):
        read(make_context(inventory(url)), "nothing")


@pytest.mark.parametrize("figure", ["1e999", "9" * 400])
def test_a_figure_beyond_all_numbers_is_the_greatest_of_them(
    make_context: MakeContext, serve: Serve, figure: str
) -> None:
    body = b'{"value": %s}' % figure.encode()
    url = serve(lambda request: (200, body)).url
    metric = {"url": url, "value": "json.value", "samples": "json.value"}
    data = read(make_context({"metrics": {"big": metric}}), "big").data
    assert (data["value"], data["samples"]) == (sys.float_info.max, 2**53)


def test_an_unreachable_prometheus_is_unreachable(make_context: MakeContext) -> None:
    with pytest.raises(Unreachable):
        read(make_context(inventory("http://127.0.0.1:1")), "nothing")


# -- JSON endpoints -----------------------------------------------------------------------------
DOCUMENT = {
    "5.0": {"error_rate": 0.05, "p95": 180.0, "requests": 5000, "agents": 61},
    "5.1": {"error_rate": 0.04, "p95": 190.0, "requests": 2000, "agents": 61},
}


def json_inventory(url: str) -> dict[str, Any]:
    def entry(key: str, **more: Any) -> dict[str, Any]:
        return {
            "url": f"{url}/metrics?version=$version",
            "value": f"json.{key}",
            "samples": "json.requests",
            "vars": {"version": "5.1"},
            "min_samples": 100,
            **more,
        }

    return {
        "metrics": {
            "error_rate": entry("error_rate", unit="%"),
            "p95_ms": entry("p95", unit="ms"),
            "agents": entry("agents", better="higher"),
            "uncounted": {"url": f"{url}/metrics?version=5.1", "value": "json.p95"},
            "misspelt": entry("p59"),
        }
    }


@pytest.fixture
def world() -> dict[str, dict[str, Any]]:
    """The figures that the JSON endpoint tells; a test may change them."""
    return {version: dict(figures) for version, figures in DOCUMENT.items()}


@pytest.fixture
def json_ctx(
    make_context: MakeContext, serve: Serve, world: dict[str, dict[str, Any]]
) -> TaskContext:
    """A context whose metrics come from a JSON endpoint."""
    server = serve(
        lambda request: (200, world[parse_qs(urlsplit(request.path).query)["version"][0]])
    )
    return make_context(json_inventory(server.url))


def test_a_json_endpoint_gives_value_and_samples(json_ctx: TaskContext) -> None:
    data = read(json_ctx, "p95_ms", version="5.0").data
    assert (data["value"], data["samples"], data["verdict"]) == (180.0, 5000, "pass")
    assert read(json_ctx, "p95_ms").data["value"] == 190.0


def test_thresholds_of_one_metric(json_ctx: TaskContext) -> None:
    read(json_ctx, "p95_ms", max=190, min=10, pass_if="value < 200 and samples > 1000")
    cases: list[tuple[dict[str, Any], str]] = [
        ({"max": 189}, r"p95_ms: 190 ms is > 189 ms"),
        ({"min": 191}, r"p95_ms: 190 ms is < 191 ms"),
        ({"pass_if": "value < 100"}, r"p95_ms: not true: value < 100"),
    ]
    for arguments, reason in cases:
        with pytest.raises(Failed, match=reason) as caught:
            read(json_ctx, "p95_ms", **arguments)
        assert caught.value.kind == "failed"
        assert caught.value.data["value"] == 190.0


def test_too_few_samples_are_neither_pass_nor_fail(
    json_ctx: TaskContext, world: dict[str, dict[str, Any]]
) -> None:
    world["5.1"] = {**DOCUMENT["5.1"], "requests": 60, "error_rate": 30.0}
    with pytest.raises(Failed, match="60 samples, 100 are needed") as caught:
        read(json_ctx, "error_rate", max=0.1)
    assert caught.value.kind == "inconclusive"
    assert read(json_ctx, "error_rate").data["verdict"] == "inconclusive"
    with pytest.raises(Failed, match=r"30 % is > 0\.1 %"):
        read(json_ctx, "error_rate", max=0.1, min_samples=50)


def test_a_metric_without_samples_says_what_it_lacks(json_ctx: TaskContext) -> None:
    with pytest.raises(Failed, match="but the inventory's metric has no `samples`"):
        read(json_ctx, "uncounted", max=500, min_samples=2)
    assert read(json_ctx, "uncounted", max=500, min_samples=1).data["samples"] is None


def test_a_place_that_is_not_in_the_document_fails(json_ctx: TaskContext) -> None:
    with pytest.raises(Failed, match=r"metric misspelt: json\.p59 has no value"):
        read(json_ctx, "misspelt")


def test_several_thresholds_are_all_reported(json_ctx: TaskContext) -> None:
    passed = metrics.validate(
        json_ctx, {"error_rate": "< 0.1 %", "p95_ms": "<= 190ms", "agents": 61}
    )
    assert passed.data["verdict"] == "pass"
    assert {name: one["value"] for name, one in passed.data["metrics"].items()} == {
        "error_rate": 0.04,
        "p95_ms": 190.0,
        "agents": 61.0,
    }
    with pytest.raises(Failed) as caught:
        metrics.validate(
            json_ctx, {"error_rate": "< 0.01", "p95_ms": metrics.Limits(max=100), "agents": ">= 61"}
        )
    assert caught.value.message == "error_rate: 0.04 % is >= 0.01 %; p95_ms: 190 ms is > 100 ms"
    assert len(caught.value.evidence) == 3
    assert caught.value.data["verdict"] == "fail"


def test_a_threshold_in_another_unit_is_refused(json_ctx: TaskContext) -> None:
    with pytest.raises(Refused, match="is in s, the metric in ms"):
        metrics.validate(json_ctx, {"p95_ms": "< 0.5 s"})
    with pytest.raises(Refused, match="is not a threshold"):
        metrics.validate(json_ctx, {"p95_ms": "fast"})


def test_versions_are_compared_within_a_tolerance(json_ctx: TaskContext) -> None:
    data = metrics.compare(json_ctx, ["p95_ms", "agents"], "5.1", "5.0").data
    assert data["metrics"]["p95_ms"]["ratio"] == pytest.approx(190 / 180, abs=1e-4)
    assert data["metrics"]["p95_ms"]["baseline"] == 180.0
    with pytest.raises(Failed, match=r"190 against 180: worse by 10, 9 allowed"):
        metrics.compare(json_ctx, "p95_ms", "5.1", "5.0", tolerance=0.05)
    metrics.compare(json_ctx, "p95_ms", "5.1", "5.0", tolerance=0.05, slack=10)


def test_better_may_mean_higher(json_ctx: TaskContext, world: dict[str, dict[str, Any]]) -> None:
    world["5.1"]["agents"] = 50
    with pytest.raises(Failed, match="worse by 11"):
        metrics.compare(json_ctx, "agents", "5.1", "5.0")
    metrics.compare(json_ctx, "agents", "5.0", "5.1")


def test_a_comparison_needs_samples_on_both_sides(
    json_ctx: TaskContext, world: dict[str, dict[str, Any]]
) -> None:
    world["5.0"]["requests"] = 3
    with pytest.raises(Failed, match="baseline: 3 samples") as caught:
        metrics.compare(json_ctx, "p95_ms", "5.1", "5.0")
    assert caught.value.kind == "inconclusive"


# -- soak ---------------------------------------------------------------------------------------
DOWN = -1.0
"""In place of a value: the endpoint cannot answer."""


def soaking(
    make_context: MakeContext, serve: Serve, values: list[float | None], samples: int = 500
) -> TaskContext:
    turn = itertools.count()

    def answer(request: Request) -> Answer:
        value = values[min(next(turn), len(values) - 1)]
        return (503, "") if value == DOWN else (200, {"value": value, "requests": samples})

    metric = {"url": serve(answer).url, "value": "json.value", "samples": "json.requests"}
    return make_context({"metrics": {"p95_ms": metric}}, clock=VirtualClock())


def test_a_soak_watches_to_the_end(make_context: MakeContext, serve: Serve) -> None:
    ctx = soaking(make_context, serve, [100.0, None, 140.0, 120.0])
    data = metrics.soak(ctx, 110, {"p95_ms": "< 500"}).data
    assert data["verdict"] == "pass"
    assert data["checks"] == 5  # after 0, 30, 60, 90 and 110 seconds
    assert data["inconclusive"] == 1
    seen = data["metrics"]["p95_ms"]
    assert (seen["lowest"], seen["highest"], seen["value"]) == (100.0, 140.0, 120.0)


def test_a_soak_fails_at_the_first_violation(make_context: MakeContext, serve: Serve) -> None:
    ctx = soaking(make_context, serve, [100.0, 600.0, 100.0])
    with pytest.raises(Failed, match="600 is >= 500") as caught:
        metrics.soak(ctx, 3600, {"p95_ms": "< 500"})
    assert caught.value.data["checks"] == 2


def test_a_soak_that_ends_inconclusive_fails(make_context: MakeContext, serve: Serve) -> None:
    ctx = soaking(make_context, serve, [100.0, None])
    with pytest.raises(Failed, match="p95_ms: no data") as caught:
        metrics.soak(ctx, 60, {"p95_ms": "< 500"})
    assert caught.value.kind == "inconclusive"


def test_a_source_that_is_away_for_a_moment_does_not_end_a_soak(
    make_context: MakeContext, serve: Serve
) -> None:
    ctx = soaking(make_context, serve, [100.0, DOWN, DOWN, 120.0])
    data = metrics.soak(ctx, 110, {"p95_ms": "< 500"}).data
    assert (data["verdict"], data["checks"], data["inconclusive"]) == ("pass", 5, 2)
    ctx = soaking(make_context, serve, [100.0, DOWN])
    with pytest.raises(Failed, match="answered with status 503") as caught:
        metrics.soak(ctx, 60, {"p95_ms": "< 500"})
    assert caught.value.kind == "inconclusive"
    assert metrics.soak.checker is not None
    checked = metrics.soak.checker(soaking(make_context, serve, [DOWN]), 60, {"p95_ms": "< 500"})
    assert checked.data["verdict"] == "inconclusive"


def test_a_resumed_soak_goes_on_with_what_was_left(make_context: MakeContext, serve: Serve) -> None:
    answer: Answer = (200, {"value": 1, "requests": 9})
    metric = {"url": serve(lambda request: answer).url, "value": "json.value"}
    ctx = make_context({"metrics": {"p95_ms": metric}}, elapsed=3600)
    assert metrics.soak(ctx, 3600, {"p95_ms": "< 500"}).data["checks"] == 1


def test_a_soak_can_be_cancelled(
    make_context: MakeContext, serve: Serve, cancel_when: Callable[..., object], told: Any
) -> None:
    metric = {"url": serve(lambda request: (200, 1)).url}
    ctx = make_context({"metrics": {"p95_ms": metric}})
    cancel_when(ctx, lambda: bool(told.progress))
    with pytest.raises(Cancelled):
        metrics.soak(ctx, 3600, {"p95_ms": "< 500"}, every=600)


def test_check_reads_once_and_does_not_wait(make_context: MakeContext, serve: Serve) -> None:
    assert metrics.soak.checker is not None
    result = metrics.soak.checker(soaking(make_context, serve, [600.0]), 3600, {"p95_ms": "< 500"})
    assert result.data["verdict"] == "fail"
    assert result.data["checks"] == 1


# -- the inventory ------------------------------------------------------------------------------
def test_values_are_quoted_for_where_they_go(make_context: MakeContext, serve: Serve) -> None:
    server = serve(lambda request: vector("1") if "api" in request.path else (200, {"v": 1}))
    ctx = make_context(
        {
            "endpoints": {"prometheus": server.url},
            "metrics": {
                "query": 'label_replace(up{path="$path"}, "a", "$1", "b", "x$")',
                "document": {"url": f"{server.url}/m?path=$path", "value": "json.v"},
            },
        }
    )
    for name in ("query", "document"):
        assert read(ctx, name, vars={"path": 'a"b\\c&d'}).data["value"] == 1
    first, second = (parse_qs(urlsplit(one.path).query) for one in server.requests)
    assert first["query"] == [r'label_replace(up{path="a\"b\\c&d"}, "a", "$1", "b", "x$")']
    assert second["path"] == ['a"b\\c&d']


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"prometheus": "up"}, "where is Prometheus"),
        ({"value": "json"}, "neither `prometheus` nor `url`"),
        ({"url": "http://x", "vale": "json"}, "not right: .*vale"),
        ({"url": "http://127.0.0.1:1/$version"}, r"needs \$version"),
    ],
)
def test_an_inventory_entry_that_cannot_work_is_refused(
    make_context: MakeContext, entry: Any, message: str
) -> None:
    with pytest.raises(Refused, match=message):
        read(make_context({"metrics": {"it": entry}}), "it")


def test_an_unknown_metric_is_refused_with_the_nearest_name(make_context: MakeContext) -> None:
    with pytest.raises(Refused, match="no metric 'eror_rate'") as caught:
        read(make_context(json_inventory("http://x")), "eror_rate")
    assert caught.value.hint == "did you mean 'error_rate'?"
