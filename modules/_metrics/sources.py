"""Where metrics come from and what they are held against; `metrics` has the actions.

A `Reading` is a value with the number of observations behind it. Prometheus' peculiarities end
here: series that are many, NaN (no data), infinities, errors in the body of an answer.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import quote

import msgspec

from engine.module_api import (
    Context,
    Failed,
    Refused,
    Unreachable,
    count,
    figure,
    parse_duration,
)
from modules._http import client as http_client
from modules._http.response import Response
from modules._http.tls import Tls
from modules._shared import settings

_SIMULATED_LATENCY = 0.02
"""Seconds that the simulated world's monitoring takes for an answer."""

_SIMULATED_WINDOW = 60.0
"""Seconds that it looks back where a metric names no window."""

Word = Literal["pass", "fail", "inconclusive"]


class Definition(msgspec.Struct, kw_only=True):
    """An entry of the inventory's `metrics`; see there."""

    prometheus: str = ""
    url: str = ""
    value: str = "json"
    samples: str = ""
    unit: str = ""
    vars: dict[str, Any] = {}
    headers: dict[str, Any] = {}
    min_samples: int = 0
    better: Literal["lower", "higher"] = "lower"
    verify: bool = True
    ca: str = ""


class Reading(msgspec.Struct, frozen=True):
    """A metric's value; None when there is no data."""

    name: str
    value: float | None
    samples: int | None
    """Observations behind the value; None where the metric does not tell."""
    unit: str
    min_samples: int
    better: str


class Judgement(msgspec.Struct, frozen=True):
    """What a threshold says of a reading, and why it is not a pass."""

    word: Word
    reason: str = ""


# -- thresholds ---------------------------------------------------------------------------------
_COMPARISON = re.compile(r"(<=|>=|==|!=|<|>)?\s*([+-]?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*(\S*)")
_OPPOSITE = {"<": ">=", "<=": ">", ">": "<=", ">=": "<", "==": "!=", "!=": "=="}


class Threshold(msgspec.Struct, frozen=True):
    """Comparisons, all of which a value must satisfy, and the samples it needs."""

    comparisons: list[tuple[str, float]]
    min_samples: int | None = None

    def judge(self, reading: Reading) -> Judgement:
        """Pass, fail or inconclusive."""
        if doubt := lacking(reading, self.min_samples):
            return Judgement("inconclusive", doubt)
        assert reading.value is not None
        for operator, bound in self.comparisons:
            if not _holds(reading.value, operator, bound):
                unit = f" {reading.unit}" if reading.unit else ""
                return Judgement(
                    "fail",
                    f"{figure(reading.value)}{unit} is {_OPPOSITE[operator]} {figure(bound)}{unit}",
                )
        return Judgement("pass")


def lacking(reading: Reading, min_samples: int | None) -> str:
    """Why nothing can be concluded from a reading; empty if something can."""
    if reading.value is None:
        return "no data"
    needed = reading.min_samples if min_samples is None else min_samples
    if reading.samples is None and needed > 1:
        return f"{needed} samples are needed, but the inventory's metric has no `samples`"
    if reading.samples is not None and reading.samples < needed:
        return f"{count(reading.samples, 'sample')}, {needed} are needed"
    return ""


def _holds(value: float, operator: str, bound: float) -> bool:
    match operator:
        case "<":
            return value < bound
        case "<=":
            return value <= bound
        case ">":
            return value > bound
        case ">=":
            return value >= bound
        case "==":
            return math.isclose(value, bound, rel_tol=1e-9, abs_tol=1e-12)
        case _:
            return not math.isclose(value, bound, rel_tol=1e-9, abs_tol=1e-12)


def threshold(most: float | None, least: float | None, min_samples: int | None) -> Threshold:
    """The threshold of a `max` and a `min`."""
    comparisons = [("<=", most)] if most is not None else []
    comparisons += [(">=", least)] if least is not None else []
    return Threshold(comparisons, min_samples)


def parse_threshold(name: str, text: str | float, unit: str, min_samples: int | None) -> Threshold:
    """``< 500 ms`` as a threshold; Refused if it is none or in another unit than the metric."""
    found = _COMPARISON.fullmatch(str(text).strip())
    if found is None:
        raise Refused(f"{name}: {text!r} is not a threshold", hint="write '< 500' or '>= 99'")
    operator, number, given = found.groups()
    if given and given != unit:
        raise Refused(
            f"{name}: the threshold {text!r} is in {given}, the metric in {unit or 'no unit'}",
            hint="convert the threshold, or correct the metric's `unit` in the inventory",
        )
    return Threshold([(operator or "==", float(number))], min_samples)


def relation(
    value: Reading, base: Reading, tolerance: float, slack: float, min_samples: int | None
) -> Judgement:
    """Whether a value is no worse than its baseline by more than is tolerated."""
    for which, reading in (("", value), ("baseline: ", base)):
        if doubt := lacking(reading, min_samples):
            return Judgement("inconclusive", which + doubt)
    assert value.value is not None
    assert base.value is not None
    allowed = max(abs(base.value) * tolerance, slack)
    worse = value.value - base.value if value.better == "lower" else base.value - value.value
    if worse <= allowed:
        return Judgement("pass")
    return Judgement(
        "fail",
        f"{figure(value.value)} against {figure(base.value)}: worse by {figure(worse)}, "
        f"{figure(allowed)} allowed",
    )


# -- variables ----------------------------------------------------------------------------------
_VARIABLE = re.compile(
    r"\$(?P<own>\$)?(?:(?P<bare>\w*[A-Za-z_]\w*)|\{(?P<braced>\w*[A-Za-z_]\w*)\})"
)
"""What is made of digits (``$1``, ``${1}``) is Prometheus' own, a group of label_replace; what has
two ``$`` is meant for it, too, with one of them."""


def variables(version: str, window: float | None, more: Mapping[str, Any] | None) -> dict[str, str]:
    """What ``$name`` stands for in this step."""
    given = {"version": version} if version else {}
    if window is not None:
        given["window"] = f"{round(window * 1000)}ms"
    return {**given, **{name: str(value) for name, value in (more or {}).items()}}


def _fill(name: str, text: str, values: Mapping[str, str], in_url: bool) -> str:
    def value(match: re.Match[str]) -> str:
        if match["own"]:
            return match[0][1:]
        variable = match["bare"] or match["braced"]
        if variable not in values:
            raise Refused(
                f"the metric {name} needs ${variable}",
                hint=f"give the step `vars: {{{variable}: …}}`, or the metric a default in `vars`; "
                f"a $ that is the query's own is written $${variable}",
            )
        raw = values[variable]
        return quote(raw, safe="") if in_url else raw.replace("\\", "\\\\").replace('"', '\\"')

    return _VARIABLE.sub(value, text)


# -- reading ------------------------------------------------------------------------------------
_MOST = 2**53
"""More samples than anybody counts; an infinity of them has to become a number."""


def definition(ctx: Context, name: str) -> Definition:
    """What the inventory says of a metric; Refused if it says nothing, or nothing sound."""
    known = ctx.metrics
    if name not in known:
        import difflib

        near = difflib.get_close_matches(name, list(known), 1)
        hint = f"did you mean {near[0]!r}?" if near else "add it to `metrics:` of the inventory"
        raise Refused(f"the inventory has no metric {name!r}", hint=hint)
    raw = known[name]
    raw = {"prometheus": raw} if isinstance(raw, str) else raw
    meaning = settings.read(raw, Definition, f"metrics.{name}")
    if meaning.prometheus and not (meaning.url or ctx.endpoints.get("prometheus")):
        raise Refused(
            f"metrics.{name}: where is Prometheus?",
            hint="set `endpoints: {prometheus: URL}` in the inventory, or the metric's `url`",
        )
    if not meaning.prometheus and not meaning.url:
        raise Refused(f"metrics.{name} of the inventory has neither `prometheus` nor `url`")
    return meaning


def read(ctx: Context, name: str, given: Mapping[str, str]) -> Reading:
    """Ask for a metric's value and samples."""
    what = definition(ctx, name)
    values = {**{key: str(value) for key, value in what.vars.items()}, **given}
    if ctx.mode == "simulate":
        return _simulated(ctx, name, what, values)
    if what.prometheus:
        value = _prometheus(ctx, name, what, what.prometheus, values)
        counted = _prometheus(ctx, name, what, what.samples, values) if what.samples else None
    else:
        value, counted = _document(ctx, name, what, values)
    samples = round(min(max(counted or 0, 0), _MOST)) if what.samples else None
    return Reading(name, value, samples, what.unit, what.min_samples, what.better)


def _simulated(ctx: Context, name: str, what: Definition, values: Mapping[str, str]) -> Reading:
    """What the simulated world's monitoring says; its queries are not evaluated."""
    ctx.sleep(_SIMULATED_LATENCY)
    window = parse_duration(values.get("window", "")) or _SIMULATED_WINDOW
    try:
        measured = ctx.world.measure(name, values.get("version", ""), window)
    except KeyError:
        raise Failed(
            f"the simulated world does not know what metric {name} means",
            hint=f"it knows {', '.join(ctx.world.known_metrics())}",
        ) from None
    lasting = ctx.world.lasting(name, values.get("version", ""), window)
    if lasting is not None:
        ctx.holds_while(lasting)
    value, samples = (None, 0) if measured is None else (measured.value, measured.samples)
    return Reading(
        name, value, samples if what.samples else None, what.unit, what.min_samples, what.better
    )


def unread(ctx: Context, name: str) -> Reading:
    """What is known of a metric that could not be read."""
    what = definition(ctx, name)
    return Reading(name, None, None, what.unit, what.min_samples, what.better)


def _prometheus(
    ctx: Context, name: str, what: Definition, query: str, values: Mapping[str, str]
) -> float | None:
    base = (what.url or str(ctx.endpoints["prometheus"])).rstrip("/")
    filled = _fill(name, query, values, in_url=False)
    answer = http_client.request(
        ctx,
        "GET",
        f"{base}/api/v1/query",
        params={"query": filled},
        headers=_headers(what),
        tls=_tls(name, what),
    )
    _must_serve(name, base, answer)
    try:
        body = msgspec.json.decode(answer.body, type=_PrometheusAnswer)
    except (msgspec.DecodeError, RecursionError):
        body = _PrometheusAnswer()
    if body.status == "error":
        raise Failed(
            f"Prometheus rejected the query of metric {name}: {body.errorType or '?'}",
            hint="correct the query in the inventory",
            evidence=[body.error, f"query: {filled}"],
        )
    if answer.status in (401, 403):
        raise Refused(
            f"metric {name}: {base} refused to answer: status {answer.status}",
            hint="check the metric's `headers` (Authorization) in the inventory",
            evidence=answer.lines(),
        )
    if answer.status != 200 or body.status != "success" or body.data is None:
        raise Failed(
            f"metric {name}: {base} is no Prometheus: it answered with status {answer.status}",
            hint="check `endpoints: {prometheus: …}` of the inventory, or the metric's `url`",
            evidence=answer.lines(),
        )
    for warning in body.warnings or ():
        ctx.warn(f"Prometheus warns about metric {name}: {warning}")
    for info in body.infos or ():
        ctx.log(f"Prometheus says of metric {name}: {info}")
    return _number(name, filled, body.data)


class _Data(msgspec.Struct):
    """What Prometheus found."""

    resultType: str  # noqa: N815 (its own names)
    result: list[Any] | None = None
    """None, too, is what some write for an empty list."""


class _PrometheusAnswer(msgspec.Struct):
    """The envelope of its answers."""

    status: str = ""
    data: _Data | None = None
    errorType: str = ""  # noqa: N815
    error: str = ""
    warnings: list[str] | None = None
    infos: list[str] | None = None


def _must_serve(name: str, url: str, answer: Response) -> None:
    """Unreachable where a server, or a proxy before it, says that it cannot answer now."""
    if answer.status in (429, 500, 502, 503, 504):
        raise Unreachable(
            f"metric {name}: {url} answered with status {answer.status}",
            hint="is it starting, or overloaded? Try again later (`retry`)",
            evidence=answer.lines(),
        )


def _number(name: str, query: str, data: _Data) -> float | None:
    """The one number in an answer: a scalar, or a vector of one series."""
    if data.resultType == "scalar":
        return _sample(name, query, data.result or [])
    if data.resultType != "vector":
        raise Failed(
            f"metric {name}: its query gives a {data.resultType}, not one value",
            hint="sum up a range of time in the query: max_over_time(...), rate(...)"
            if data.resultType == "matrix"
            else "",
            evidence=[f"query: {query}"],
        )
    series = [one if isinstance(one, dict) else {} for one in data.result or ()]
    if not series:
        return None
    if len(series) > 1:
        raise Failed(
            f"metric {name}: its query gives {len(series)} series, not one",
            hint="aggregate them in the query: sum(...), max(...)",
            evidence=[str(one.get("metric", one)) for one in series[:5]],
        )
    return _sample(name, query, series[0].get("value"))


def _sample(name: str, query: str, value: Any) -> float | None:
    """The number in ``[time, "number"]``."""
    try:
        return _finite(float(value[1]))
    except (TypeError, ValueError, IndexError):
        raise Failed(
            f"metric {name}: its query gives no number (a histogram?)",
            hint="turn it into one in the query: histogram_quantile(...)",
            evidence=[f"query: {query}", repr(value)[:300]],
        ) from None


def _finite(value: float) -> float | None:
    """NaN is no data (0/0); an infinity is beyond every threshold, but JSON has no word for it."""
    most = sys.float_info.max
    if isinstance(value, float) and math.isnan(value):
        return None
    return float(max(-most, min(most, value)))


def _tls(name: str, what: Definition) -> Tls:
    return Tls(what.verify, what.ca, f"metrics.{name}")


def _headers(what: Definition) -> dict[str, str]:
    return {key: str(value) for key, value in what.headers.items()}


def _document(
    ctx: Context, name: str, what: Definition, values: Mapping[str, str]
) -> tuple[float | None, float | None]:
    """Value and samples out of a JSON endpoint."""
    url = _fill(name, what.url, values, in_url=True)
    answer = http_client.request(ctx, "GET", url, headers=_headers(what), tls=_tls(name, what))
    _must_serve(name, url, answer)
    if answer.status == 204:
        return None, 0.0
    if answer.status in (401, 403):
        raise Refused(
            f"metric {name}: {url} refused to answer: status {answer.status}",
            hint="check the metric's `headers` in the inventory",
            evidence=answer.lines(),
        )
    if answer.status != 200:
        raise Failed(
            f"metric {name}: {url} answered with status {answer.status}", evidence=answer.lines()
        )
    document = answer.json()
    value = _extract(ctx, name, what.value, document, values)
    counted = _extract(ctx, name, what.samples, document, values) if what.samples else None
    return value, counted


def _extract(
    ctx: Context, name: str, expression: str, document: Any, values: Mapping[str, str]
) -> float | None:
    try:
        found = ctx.evaluate(expression, json=document, **values)
    except Exception as error:
        raise Failed(
            f"metric {name}: {expression} has no value: {error}",
            hint="correct `value` or `samples` of the metric in the inventory",
            evidence=[repr(document)[:300]],
        ) from None
    if found is None:
        return None
    if isinstance(found, int | float):
        return _finite(found)
    raise Failed(f"metric {name}: {expression} is {found!r}, not a number")
