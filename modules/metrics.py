"""Measure, compare with thresholds, and say pass, fail or inconclusive.

Inventory section ``metrics``: what a name means, so that runbooks need not know::

    metrics:
      error_rate:
        prometheus: 100 * sum(rate(errors{version="$version"}[$window]))
          / sum(rate(requests{version="$version"}[$window]))
        samples: sum(increase(requests{version="$version"}[$window]))   # another query
        url: http://prometheus:9090     # default: endpoints.prometheus
        unit: "%"
        vars: {version: ".*", window: 1m}    # defaults of the $variables
        min_samples: 100                     # fewer are inconclusive
      p95_ms:
        url: http://app/metrics.json?version=$version
        value: json.latency.p95              # expressions over the answer
        samples: json.requests
        headers: {Authorization: "Bearer {{ secret('token') }}"}
        better: lower                        # or higher; for metrics.compare
        verify: true                         # with ca: FILE, as in http-check
      ready: sum(up{job="app"})              # just text is a Prometheus query

A ``$name`` or ``${name}`` stands for an argument of the step (`version`, `window`, `vars`) or
for a default of the metric; values are quoted for where they go. ``$1`` and ``${1}`` are the
query's own, and so is ``$name`` where it is written ``$$name``.

A verdict is *pass*, *fail*, or *inconclusive* when there is no data or there are too few
samples. Inconclusive is never a pass: a step with a threshold fails by it, as a failure of its
own kind. How many samples stand behind a value says the metric's `samples`; without it nobody knows
(null), and asking for more than one is inconclusive. A guard then counts its own observations.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

import msgspec

from engine.module_api import (
    Arguments,
    Context,
    Duration,
    Expression,
    Failed,
    Name,
    Refused,
    Result,
    Unreachable,
    Value,
    action,
    count,
    figure,
    format_duration,
)
from modules._metrics import sources as metric_sources
from modules._metrics.sources import Judgement, Reading, Threshold


class Inconclusive(Failed):
    """Nothing could be concluded: no data, or too few samples."""

    kind: ClassVar[Literal["inconclusive"]] = "inconclusive"


class Limits(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A threshold in its long form."""

    max: float | None = None
    min: float | None = None
    min_samples: int | None = None


Metric = Annotated[str, Name("metrics", "metric")]
"""A name of the inventory's `metrics`."""

Thresholds = dict[Metric, str | float | Limits]
"""Metric name → ``"< 500"``, ``">= 99 %"``, a number to equal, or `Limits`."""


@action(effect="read", simulates=True)
def read(
    ctx: Context,
    name: Metric,
    *,
    version: str = "",
    window: Duration | None = None,
    vars: dict[str, Value] | None = None,
    max: float | None = None,
    min: float | None = None,
    pass_if: Expression = "",
    min_samples: int | None = None,
) -> Result:
    """Read a metric of the inventory; with a threshold, fail unless it holds.

    Result data: ``name``, ``value`` (number, null without data), ``samples`` (how many
    observations stand behind it, null where the metric does not tell), ``unit``, ``verdict``
    (``pass``, ``fail`` or ``inconclusive``), ``reason`` (why it is not pass). Without a threshold
    whatever has a value passes, and no data is not a failure: a guard decides by
    ``result.value``. Effect read.

    Args:
        name: a name of the inventory's `metrics`.
        version: the ``$version`` to measure.
        window: the ``$window`` to look back.
        vars: further ``$variables``.
        max: the value must not be above it.
        min: the value must not be below it.
        pass_if: an expression over ``value`` and ``samples`` that must be true.
        min_samples: fewer samples are inconclusive; default: the metric's own.
    """
    variables = metric_sources.variables(version, window, vars)
    reading = metric_sources.read(ctx, name, variables)
    bounds = Limits(max=max, min=min, min_samples=min_samples)
    threshold = metric_sources.threshold(bounds.max, bounds.min, bounds.min_samples)
    verdict = threshold.judge(reading)
    if verdict.word == "pass" and pass_if:
        holds = ctx.evaluate(pass_if, value=reading.value, samples=reading.samples)
        verdict = verdict if holds else Judgement("fail", f"not true: {pass_if}")
    data = _data(reading, verdict)
    strict = bool(pass_if) or max is not None or min is not None
    if strict and verdict.word != "pass":
        raise _failure([(reading, verdict)], data)
    return Result(data=data, message=_line(reading, verdict))


@action(effect="read", simulates=True)
def validate(
    ctx: Context,
    expect: Thresholds,
    *,
    version: str = "",
    window: Duration | None = None,
    vars: dict[str, Value] | None = None,
    min_samples: int | None = None,
) -> Result:
    """Read several metrics and fail unless each keeps its threshold; all are reported.

    Result data: ``verdict`` of the whole (fail before inconclusive before pass) and ``metrics``,
    by name what `metrics.read` returns. Effect read.

    Args:
        expect: metric name → threshold: ``"< 500"``, ``">= 99"``, ``"== 61"``, a number that it
            must equal, or ``{max: …, min: …, min_samples: …}``. A unit behind the number must be
            the metric's.
        version: the ``$version`` to measure.
        window: the ``$window`` to look back.
        vars: further ``$variables``.
        min_samples: fewer samples are inconclusive; default: each metric's own.
    """
    variables = metric_sources.variables(version, window, vars)
    judged = _judge_all(ctx, _thresholds(ctx, expect, min_samples), variables)
    data = {
        "verdict": _worst(judged),
        "metrics": {reading.name: _data(reading, verdict) for reading, verdict in judged},
    }
    for reading, verdict in judged:
        ctx.log(_line(reading, verdict))
    if data["verdict"] != "pass":
        raise _failure(judged, data)
    return Result(data=data, message=_kept(len(judged)), figures=_figures(judged))


@action(effect="read", simulates=True)
def soak(
    ctx: Context,
    for_: Duration,
    expect: Thresholds,
    *,
    every: Duration = 30,
    version: str = "",
    window: Duration | None = None,
    vars: dict[str, Value] | None = None,
    min_samples: int | None = None,
) -> Result:
    """Validate metrics again and again for a while; the first violated threshold fails it.

    Inconclusive readings are reported and waited out, a source that cannot be reached among
    them; but whoever is inconclusive in the last validation fails the soak then. Result data:
    ``verdict``, ``checks`` (how many validations), ``inconclusive`` (how many of them were),
    ``metrics``: by name the last reading as from `metrics.read`, with ``lowest``, ``highest`` and
    ``mean`` over the soak (null without data).
    Effect read: a resumed run goes on with what was left.

    Args:
        for: how long.
        expect: as in `metrics.validate`.
        every: pause between validations.
        version: the ``$version`` to measure.
        window: the ``$window`` to look back.
        vars: further ``$variables``.
        min_samples: fewer samples are inconclusive; default: each metric's own.
    """
    if every <= 0:
        raise Refused("`every` must be more than nothing")
    variables = metric_sources.variables(version, window, vars)
    thresholds = _thresholds(ctx, expect, min_samples)
    return _soak(ctx, thresholds, variables, for_, every)


def _soak(
    ctx: Context,
    thresholds: list[tuple[str, Threshold]],
    variables: dict[str, str],
    for_: float,
    every: float,
) -> Result:
    """Validate every so many seconds, for so long since the task was first started."""
    history = _History()
    while True:
        judged = _judge_all(ctx, thresholds, variables, patient=True)
        history.add(judged)
        left = for_ - ctx.elapsed_since_first_start()
        over = left <= 0
        ctx.progress("; ".join(_line(reading, verdict) for reading, verdict in judged))
        if _worst(judged) == "fail" or (over and _worst(judged) == "inconclusive"):
            raise _failure(judged, history.data(judged))
        if over:
            message = f"{count(history.checks, 'validation')} passed"
            data = history.data(judged)
            return Result(data=data, message=message, figures=_figures(judged))
        ctx.sleep(every if every < left else left)


@soak.check
def soak_check(ctx: Context, args: Arguments) -> Result:
    """Validate once, without waiting; what does not hold yet is said, not failed."""
    variables = metric_sources.variables(args.version, args.window, args.vars)
    thresholds = _thresholds(ctx, args.expect, args.min_samples)
    judged = _judge_all(ctx, thresholds, variables, patient=True)
    history = _History()
    history.add(judged)
    now = "; ".join(_line(reading, verdict) for reading, verdict in judged)
    return Result(
        data=history.data(judged),
        message=f"would watch for {format_duration(args.for_)}; now: {now}",
    )


@action(effect="read", simulates=True)
def compare(
    ctx: Context,
    name: Metric | list[Metric],
    version: str,
    baseline: str,
    *,
    tolerance: float = 0.1,
    slack: float = 0.0,
    window: Duration | None = None,
    vars: dict[str, Value] | None = None,
    min_samples: int | None = None,
) -> Result:
    """Fail if one version does worse than another by more than a tolerance.

    Result data: ``verdict`` and ``metrics``: by name ``value`` (of `version`), ``baseline``,
    ``ratio`` (value / baseline; null if the baseline is 0), ``verdict``, ``reason``. Better is
    lower, or higher where the metric's inventory entry says ``better: higher``. Effect read.

    Args:
        name: a metric of the inventory, or several.
        version: the ``$version`` to judge.
        baseline: the ``$version`` to compare it with.
        tolerance: how much worse it may be, as a share: 0.1 is ten percent.
        slack: how much worse it may be in the metric's unit, where that is more.
        window: the ``$window`` to look back.
        vars: further ``$variables``.
        min_samples: fewer samples of either are inconclusive; default: the metric's own.
    """
    names = [name] if isinstance(name, str) else name
    judged = []
    measured: dict[str, Any] = {}
    for one in names:
        value, base = (
            metric_sources.read(ctx, one, metric_sources.variables(which, window, vars))
            for which in (version, baseline)
        )
        verdict = metric_sources.relation(value, base, tolerance, slack, min_samples)
        measured[one] = _compared(value, base, verdict)
        judged.append((value, verdict))
    data = {"verdict": _worst(judged), "metrics": measured}
    if data["verdict"] != "pass":
        raise _failure(judged, data)
    return Result(data=data, message=f"{version} does no worse than {baseline}")


def _compared(value: Reading, base: Reading, verdict: Judgement) -> dict[str, Any]:
    """What `compare` returns of a metric."""
    ratio = value.value / base.value if value.value is not None and base.value else None
    return {
        **_data(value, verdict),
        "baseline": base.value,
        "ratio": None if ratio is None else round(ratio, 4),
    }


# -- shared -------------------------------------------------------------------------------------
_Judged = list[tuple[Reading, Judgement]]


class _History:
    """Readings of a soak, summed up."""

    def __init__(self) -> None:
        self.checks = 0
        self.inconclusive = 0
        self._seen: dict[str, list[float]] = {}

    def add(self, judged: _Judged) -> None:
        self.checks += 1
        self.inconclusive += _worst(judged) == "inconclusive"
        for reading, _ in judged:
            values = self._seen.setdefault(reading.name, [])
            if reading.value is not None:
                values.append(reading.value)

    def data(self, judged: _Judged) -> dict[str, Any]:
        metrics = {}
        for reading, verdict in judged:
            values = self._seen[reading.name]
            metrics[reading.name] = {
                **_data(reading, verdict),
                "lowest": min(values, default=None),
                "highest": max(values, default=None),
                "mean": sum(values) / len(values) if values else None,
            }
        return {
            "verdict": _worst(judged),
            "checks": self.checks,
            "inconclusive": self.inconclusive,
            "metrics": metrics,
        }


def _thresholds(
    ctx: Context, expect: Thresholds, min_samples: int | None
) -> list[tuple[str, Threshold]]:
    """The thresholds, understood before anything is asked."""
    if not expect:
        raise Refused("`expect` names no metric")
    found = []
    for name, text in expect.items():
        unit = metric_sources.definition(ctx, name).unit
        if isinstance(text, Limits | dict):
            limits = text if isinstance(text, Limits) else msgspec.convert(text, Limits)
            fewest = min_samples if limits.min_samples is None else limits.min_samples
            found.append((name, metric_sources.threshold(limits.max, limits.min, fewest)))
        else:
            found.append((name, metric_sources.parse_threshold(name, text, unit, min_samples)))
    return found


def _judge_all(
    ctx: Context,
    thresholds: list[tuple[str, Threshold]],
    variables: dict[str, str],
    *,
    patient: bool = False,
) -> _Judged:
    """Read and judge every metric; if `patient`, one that is unreachable is inconclusive."""
    judged = []
    for name, threshold in thresholds:
        try:
            reading = metric_sources.read(ctx, name, variables)
        except Unreachable as error:
            if not patient:
                raise
            reading = metric_sources.unread(ctx, name)
            judged.append((reading, Judgement("inconclusive", error.message)))
        else:
            judged.append((reading, threshold.judge(reading)))
    return judged


def _worst(judged: _Judged) -> str:
    words = {verdict.word for _, verdict in judged}
    return next((word for word in ("fail", "inconclusive") if word in words), "pass")


def _data(reading: Reading, verdict: Judgement) -> dict[str, Any]:
    return {
        "name": reading.name,
        "value": reading.value,
        "samples": reading.samples,
        "unit": reading.unit,
        "verdict": verdict.word,
        "reason": verdict.reason,
    }


def _figures(judged: _Judged) -> dict[str, float | str]:
    """What a run's summary tells of it: each metric that has a value, with its unit."""
    return {reading.name: _value(reading) for reading, _ in judged if reading.value is not None}


def _value(reading: Reading) -> str:
    return "" if reading.value is None else f"{figure(reading.value)} {reading.unit}".strip()


def _line(reading: Reading, verdict: Judgement) -> str:
    if reading.value is None:
        return f"{reading.name}: {verdict.reason}"
    value = _value(reading)
    tail = "" if verdict.word == "pass" else f" ({verdict.word}: {verdict.reason})"
    return f"{reading.name} {value}{tail}"


def _kept(number: int) -> str:
    return (
        "1 metric within its threshold"
        if number == 1
        else f"{number} metrics within their thresholds"
    )


def _failure(judged: _Judged, data: dict[str, Any]) -> Failed:
    """The failure of what did not pass; every reading is in its evidence."""
    worst = _worst(judged)
    bad = [(reading, verdict) for reading, verdict in judged if verdict.word == worst]
    kind = Failed if worst == "fail" else Inconclusive
    return kind(
        "; ".join(f"{reading.name}: {verdict.reason}" for reading, verdict in bad),
        hint=""
        if worst == "fail"
        else "inconclusive is not a pass: is the metric scraped, and is there traffic?",
        evidence=[_line(reading, verdict) for reading, verdict in judged],
        data=data,
    )
