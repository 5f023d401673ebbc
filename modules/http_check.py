"""Ask an HTTP server and compare its answer with what is expected.

Inventory section ``http-check`` (all optional)::

    http-check:
      verify: true            # false: do not verify TLS certificates; every run warns
      ca: /etc/ssl/own.pem    # the authority of the servers' certificates
      headers: {X-Health-Check: ce-run}   # sent with every request

It only reads: GET, HEAD and OPTIONS. A request that changes something is `http.request`.
"""

from __future__ import annotations

from typing import Any, Literal

from engine.module_api import (
    Context,
    Duration,
    Failed,
    Refused,
    Result,
    action,
    count,
    format_milliseconds,
    read_milliseconds,
    read_percent,
)
from modules._http import client as http_client
from modules._http import expect as http_expect
from modules._http import section as http_section
from modules._http.expect import Expect as Expect
from modules._http.latency import latencies
from modules._http.response import Response
from modules._http.sampling import Samples, Sampling, SamplingPlan, SamplingProgress, Target

TEXT = 16384
"""Characters of the body that are kept in the result."""

_JSON = 262144
"""Bytes of a JSON body that are kept, parsed, in the result."""


@action(effect="read", simulates=True)
def get(
    ctx: Context,
    url: str,
    *,
    method: Literal["GET", "HEAD", "OPTIONS"] = "GET",
    headers: dict[str, Any] | None = None,
    body: Any = None,
    expect: Expect | None = None,
    samples: int = 1,
    duration: Duration | None = None,
    interval: Duration | None = None,
    concurrency: int = 1,
    timeout: Duration = http_client.TIMEOUT,
    follow: bool = False,
) -> Result:
    """Send a request, or many, and fail unless the answers are as expected.

    Result data: of the last answer ``status``, ``headers`` (names in lower case), ``json`` (null if
    it is none), ``text`` (at most 16 Ki characters), ``tls_days`` (days until the first certificate
    that the server depends on ends, null without TLS); of all ``samples``, ``failures``,
    ``error_rate`` (percent), ``statuses`` (how often each came), ``latency`` (``p50``, ``p95``,
    ``p99``, ``max`` in milliseconds, until the whole answer was read). Effect read. A server that
    cannot be reached is an unreachable failure. Of several samples the first that fails ends the
    check, unless `expect` has an ``error_rate``.

    Args:
        url: where to.
        method: GET, HEAD or OPTIONS.
        headers: sent with the request.
        body: sent with it, too; text as it is, anything else as JSON.
        expect: status (default 2xx), headers, json, text, regex, latency, error_rate, tls_days.
        samples: how many requests to send.
        duration: send requests for so long, instead of a number.
        interval: pause of each sender between its requests; default: none, or 1 s with duration.
        concurrency: how many senders at the same time.
        timeout: how long to wait for one answer.
        follow: whether to follow redirects.
    """
    options = {"follow_redirects": follow, "timeout": timeout, **http_client.content(body)}
    plan = SamplingPlan(samples, duration, interval, concurrency)
    return _sample(ctx, Target(method, url, headers, options), expect, plan)


def _sample(ctx: Context, target: Target, expect: Expect | None, plan: SamplingPlan) -> Result:
    """Take the samples and judge them."""
    expected = http_expect.expectations(expect)
    if plan.samples < 1 or plan.concurrency < 1:
        raise Refused("`samples` and `concurrency` must be at least 1")
    section = http_section.read(ctx, "http-check")
    options = {**target.options, "headers": section.with_headers(target.headers)}
    progress = SamplingProgress(ctx, plan, stop_at_failure=expected.error_rate is None)
    target = target._replace(options=options)
    sampling = Sampling(ctx, expected, progress, target, plan.pause, Samples())
    if ctx.mode == "simulate":
        sampling.simulate()
    else:
        sampling.run(section.tls("http-check"), plan.senders)
    return _verdict(ctx, target.url, expected, sampling.seen)


def _verdict(ctx: Context, url: str, expected: Expect, seen: Samples) -> Result:
    if seen.error is not None and seen.failures == seen.taken and not seen.seconds:
        seen.error.data = _data(ctx, seen)  # nobody ever answered: that failure says it all
        raise seen.error
    data = _data(ctx, seen)
    allowed = 0.0 if expected.error_rate is None else read_percent(expected.error_rate)
    reasons = []
    if seen.error_rate > allowed:
        reasons += [_times(reason, count, seen.taken) for reason, count in seen.unmet.items()]
        if expected.error_rate is not None:
            reasons.insert(
                0, f"expected at most {allowed:g} % of requests to fail, {seen.error_rate:g} % did"
            )
    for name, bound in expected.latency.given().items():
        measured = data["latency"].get(name)
        if measured is not None and measured > read_milliseconds(bound):
            reasons.append(f"expected {name} within {bound}, got {format_milliseconds(measured)}")
    if expected.tls_days is not None:
        whose = seen.last.tls_subject if seen.last is not None else ""
        reasons += _certificate(expected.tls_days, data["tls_days"], whose)
    if not reasons:
        return Result(data=data, message=_summary(seen, data))
    last = seen.last
    raise Failed(
        f"{url}: {reasons[0]}",
        hint="" if len(reasons) == 1 else f"{len(reasons) - 1} more: {'; '.join(reasons[1:])}",
        evidence=last.lines() if last is not None else [],
        data={**data, "unmet": reasons},
    )


def _times(reason: str, number: int, taken: int) -> str:
    return reason if taken == 1 else f"{reason} ({number} of {taken} times)"


def _certificate(expected: float, left: float | None, whose: str) -> list[str]:
    if left is None:
        return ["expected a TLS certificate, but the connection is not TLS"]
    if left < expected:
        which = f"that of {whose}, which it depends on," if whose else "it"
        return [f"expected a certificate good for {expected:g} days, {which} ends in {left:g}"]
    return []


def _data(ctx: Context, seen: Samples) -> dict[str, Any]:
    last = seen.last
    expiry = last.tls_expiry if last is not None else None
    return {
        "status": last.status if last is not None else None,
        "headers": last.headers if last is not None else {},
        "json": _document(last),
        "text": last.text[:TEXT] if last is not None else "",
        "tls_days": None if expiry is None else round((expiry - ctx.now().timestamp()) / 86400, 2),
        "samples": seen.taken,
        "failures": seen.failures,
        "error_rate": round(seen.error_rate, 4),
        "statuses": seen.statuses,
        "latency": latencies(seen.seconds),
    }


def _document(last: Response | None) -> Any:
    if last is None or len(last.body) > _JSON:
        return None
    try:
        return last.json()
    except Failed:
        return None


def _summary(seen: Samples, data: dict[str, Any]) -> str:
    if seen.taken == 1:
        return f"{data['status']} in {format_milliseconds(data['latency']['p50'])}"
    latency = data["latency"].items()
    figures = ", ".join(f"{name} {format_milliseconds(value)}" for name, value in latency)
    return f"{count(seen.taken, 'request')}, {seen.failures} failed, {figures}"
