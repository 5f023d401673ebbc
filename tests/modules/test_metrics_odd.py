"""Odd but lawful answers of what speaks as Prometheus does, and dollars that are not ours."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from engine.module_api import ActionError, Failed, Refused, Result
from modules import metrics
from tests.modules.conftest import Answer, MakeContext, Request, Serve, Told


def success(result: Any, kind: str = "vector", **more: Any) -> Answer:
    return 200, {"status": "success", "data": {"resultType": kind, "result": result}, **more}


def one(text: str) -> list[Any]:
    return [{"metric": {}, "value": [1.5, text]}]


class Prometheus:
    """Answers all queries alike and keeps them."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.queries: list[str] = []

    def __call__(self, request: Request) -> Answer:
        self.queries += parse_qs(urlsplit(request.path).query)["query"]
        return self.answer


def read(
    make_context: MakeContext, serve: Serve, prometheus: Prometheus, entry: Any, **arguments: Any
) -> Result:
    url = serve(prometheus).url
    sections = {"endpoints": {"prometheus": url}, "metrics": {"it": entry}}
    return metrics.read(make_context(sections), "it", **arguments)


@pytest.mark.parametrize("kind", ["vector", "scalar"])
def test_no_result_may_be_said_with_null(
    make_context: MakeContext, serve: Serve, kind: str
) -> None:
    prometheus = Prometheus(success(None, kind, warnings=None))
    if kind == "scalar":
        with pytest.raises(Failed, match="gives no number"):
            read(make_context, serve, prometheus, "up")
        return
    data = read(make_context, serve, prometheus, "up").data
    assert (data["value"], data["verdict"]) == (None, "inconclusive")
    with pytest.raises(metrics.Inconclusive, match="no data"):
        read(make_context, serve, prometheus, "up", max=1)


@pytest.mark.parametrize(("text", "shown"), [("+Inf", "+Inf"), ("-Inf", "-Inf")])
def test_an_infinity_is_shown_as_one(
    make_context: MakeContext, serve: Serve, text: str, shown: str
) -> None:
    prometheus = Prometheus(success(one(text)))
    entry = {"prometheus": "up", "unit": "ms"}
    result = read(make_context, serve, prometheus, entry)
    assert result.message == f"it {shown} ms"
    bounds = {"max": 1} if text == "+Inf" else {"min": 1}
    with pytest.raises(Failed) as caught:
        read(make_context, serve, prometheus, entry, **bounds)
    assert len(caught.value.message) < 60


def test_people_see_what_prometheus_warns_of(
    make_context: MakeContext, serve: Serve, told: Told
) -> None:
    answer = success(one("3"), warnings=["partial response: store is down"], infos=["a hint"])
    assert read(make_context, serve, Prometheus(answer), "up").data["value"] == 3
    assert told.warnings == ["Prometheus warns about metric it: partial response: store is down"]


RELABEL = 'label_replace(up, "host", "{}", "instance", "(.*):.*")'


@pytest.mark.parametrize(
    ("query", "asked"),
    [
        (RELABEL.format("$1"), RELABEL.format("$1")),
        (RELABEL.format("${1}"), RELABEL.format("${1}")),
        (RELABEL.format("$$name"), RELABEL.format("$name")),
        (RELABEL.format("$${name}"), RELABEL.format("${name}")),
        ('up{pod=~"web-.*$"}', 'up{pod=~"web-.*$"}'),
        ('up{v="$version"}', 'up{v="5.1"}'),
        ('up{v="${version}"}', 'up{v="5.1"}'),
    ],
)
def test_dollars_of_the_query_stay(
    make_context: MakeContext, serve: Serve, query: str, asked: str
) -> None:
    prometheus = Prometheus(success(one("4")))
    read(make_context, serve, prometheus, query, version="5.1")
    assert prometheus.queries == [asked]


def test_a_variable_without_a_value_says_how_to_keep_it(
    make_context: MakeContext, serve: Serve
) -> None:
    prometheus = Prometheus(success(one("4")))
    with pytest.raises(Refused, match=r"needs \$name") as caught:
        read(make_context, serve, prometheus, RELABEL.format("$name"))
    assert "$$name" in caught.value.hint


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        ((401, "who are you"), Refused, "refused to answer: status 401"),
        ((302, "", {"Location": "https://login.example.com/"}), Failed, "with status 302"),
        ((200, "<html>"), Failed, "is no Prometheus"),
        ((200, ""), Failed, "is no Prometheus"),
        ((200, {"status": "success"}), Failed, "is no Prometheus"),
    ],
)
def test_what_is_no_answer_is_no_value(
    make_context: MakeContext,
    serve: Serve,
    answer: Answer,
    kind: type[ActionError],
    words: str,
) -> None:
    with pytest.raises(kind, match=words):
        read(make_context, serve, Prometheus(answer), "up")


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"prometheus": "up", "treshold": 5}, "metrics.it .* unknown setting 'treshold'"),
        ({"prometheus": "up", "min_samples": "many"}, "'min_samples' .* must be a whole number"),
        ({"prometheus": "up", "better": "faster"}, "'better' of metrics.it"),
        (["up"], "metrics.it of the inventory must be a mapping, not a list"),
        (None, "metrics.it of the inventory must be a mapping, not nothing"),
    ],
)
def test_a_metric_that_is_not_understood_is_refused_by_name(
    make_context: MakeContext, serve: Serve, entry: Any, words: str
) -> None:
    with pytest.raises(Refused, match=words):
        read(make_context, serve, Prometheus(success(one("1"))), entry)
