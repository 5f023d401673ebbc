"""Ask an HTTP server and compare its answer with what is expected.

Inventory section ``http-check`` (all optional)::

    http-check:
      verify: true            # false: do not verify TLS certificates; every run warns
      ca: /etc/ssl/own.pem    # the authority of the servers' certificates
      headers: {X-Health-Check: ce-run}   # sent with every request

It only reads: GET, HEAD and OPTIONS. A request that changes something is `http.request`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NamedTuple

import msgspec

from engine.module_api import (
    ActionError,
    Check,
    Context,
    Duration,
    Expression,
    Failed,
    Refused,
    Result,
    action,
    count,
    format_milliseconds,
    read_milliseconds,
    read_percent,
    regex,
)
from modules._http import client as http_client
from modules._http.latency import latencies

TEXT = 16384
"""Characters of the body that are kept in the result."""

_JSON = 262144
"""Bytes of a JSON body that are kept, parsed, in the result."""


def _valid_pattern(text: str) -> None:
    try:
        re.compile(text)
    except (re.error, RecursionError, OverflowError) as error:
        raise Refused(f"/{text}/ is not a pattern: {error}") from None


def _found(pattern: str, text: str) -> bool:
    """Whether a pattern is found; Refused if it takes too long."""
    try:
        return regex.search(pattern, text) is not None
    except ValueError as error:
        raise Refused(str(error), hint="make it simpler, such as without (a+)+") from None


Pattern = Annotated[str, Check(_valid_pattern)]
"""A regular expression."""

Milliseconds = Annotated[Any, Check(read_milliseconds)]
"""A time with its unit: ``500ms``."""


class Bounds(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Upper bounds of the time until an answer was read, each with its unit: ``500ms``."""

    p50: Milliseconds | None = None
    p95: Milliseconds | None = None
    p99: Milliseconds | None = None
    max: Milliseconds | None = None

    def given(self) -> dict[str, Any]:
        """The bounds that are set."""
        fields = msgspec.structs.asdict(self)
        return {name: bound for name, bound in fields.items() if bound is not None}


class Expect(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What an answer, or a number of them, must be like."""

    status: http_client.StatusText | list[http_client.StatusText] = "2xx"
    """A status, a class such as ``2xx``, or several of them."""
    headers: dict[str, Any] = {}
    """A header's name and its value, or ``/…/``, a pattern to be found in it."""
    json: dict[Expression, Any] | list[Expression] | Expression = {}
    """Expressions over the document, each with its value; or expressions that must be true.
    In scope: ``json``, and its top-level keys by their names."""
    text: str | list[str] = []
    """What the body must contain."""
    regex: Pattern = ""
    """A pattern that must be found in the body."""
    latency: Bounds = msgspec.field(default_factory=Bounds)
    """Upper bounds of percentiles, such as ``p95: 500ms``."""
    error_rate: Annotated[float | str, Check(read_percent)] | None = None
    """Share of samples in percent that may fail; default: none may."""
    tls_days: float | None = None
    """Days that the server's certificate must still be good for."""


class _Samples:
    """What has been seen so far."""

    def __init__(self) -> None:
        self.taken = 0
        self.failures = 0
        self.seconds: list[float] = []
        self.statuses: dict[str, int] = {}
        self.unmet: dict[str, int] = {}
        self.last: http_client.Response | None = None
        self.error: ActionError | None = None

    def answer(self, response: http_client.Response, unmet: list[str]) -> None:
        self.taken += 1
        self.last = response
        self.seconds.append(response.seconds)
        self._count(self.statuses, str(response.status))
        self.failures += bool(unmet)
        for reason in unmet:
            self._count(self.unmet, reason)

    def no_answer(self, error: ActionError) -> None:
        self.taken += 1
        self.failures += 1
        self.error = error
        self._count(self.unmet, " ".join([error.message, *error.evidence[:1]]))

    def _count(self, counts: dict[str, int], key: str) -> None:
        if key in counts or len(counts) < 20:
            counts[key] = counts.get(key, 0) + 1

    @property
    def error_rate(self) -> float:
        return 100.0 * self.failures / self.taken if self.taken else 0.0


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

    Result data: of the last answer ``status``, ``headers`` (names in lower case), ``json`` (the
    parsed body, null if it is none), ``text`` (at most 16 Ki characters), ``tls_days`` (days
    until the certificate ends, null without TLS); of all ``samples``, ``failures``,
    ``error_rate`` (percent), ``statuses`` (how often each came), ``latency`` (``p50``, ``p95``,
    ``p99``, ``max`` in milliseconds, until the whole answer was read). Effect read.

    A server that cannot be reached is an unreachable failure; an answer that is not as expected
    a failure with what was expected and what came. Of several samples the first that fails ends
    the check, unless `expect` has an ``error_rate``.

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
    wanted = _expectations(expect)
    if samples < 1 or concurrency < 1:
        raise Refused("`samples` and `concurrency` must be at least 1")
    section = ctx.connection("http-check")
    options: dict[str, Any] = {
        "headers": _texts({**section.get("headers", {}), **(headers or {})}),
        "follow_redirects": follow,
        **({} if body is None else {"content" if isinstance(body, str) else "json": body}),
    }
    pause = interval if interval is not None else (1.0 if duration else 0.0)
    plan = _Plan(ctx, samples, duration, wanted.error_rate is None)
    options["timeout"] = timeout
    sampling = _Sampling(ctx, wanted, plan, method, url, pause, options, _Samples())
    if ctx.mode == "simulate":
        sampling.simulate()
    else:
        tls = http_client.Tls.of(section, "http-check")
        sampling.run(tls, 1 if samples == 1 and duration is None else concurrency)
    return _verdict(ctx, url, wanted, sampling.seen)


class _Sampling(NamedTuple):
    """Requests to be sent until the plan is over, and what was seen of them."""

    ctx: Context
    wanted: Expect
    plan: _Plan
    method: str
    url: str
    pause: float
    options: dict[str, Any]
    seen: _Samples

    async def one(self, session: Any) -> None:
        """Send a request and note what came."""
        try:
            answer = await http_client.send(
                self.ctx, session, self.method, self.url, **self.options
            )
        except ActionError as error:
            self.seen.no_answer(error)
        else:
            self.seen.answer(answer, _unmet(self.ctx, self.wanted, answer))

    async def sender(self, session: Any) -> None:
        """One after the other, until there are enough."""
        import asyncio

        while self.plan.more(self.seen):
            await self.one(session)
            self.plan.tell(self.seen)
            if self.pause:
                await asyncio.sleep(self.pause)

    def run(self, tls: http_client.Tls, senders: int) -> None:
        """So many senders at a time."""
        import asyncio

        async def work() -> None:
            async with http_client.client(self.ctx, tls, connections=senders) as session:
                await asyncio.gather(*(self.sender(session) for _ in range(senders)))

        http_client.run(self.ctx, work)

    def simulate(self) -> None:
        """In virtual time one sender is as good as many."""
        while self.plan.more(self.seen):
            try:
                answer = http_client.simulated(self.ctx, self.method, self.url, **self.options)
            except ActionError as error:
                self.seen.no_answer(error)
            else:
                self.seen.answer(answer, _unmet(self.ctx, self.wanted, answer))
            self.plan.tell(self.seen)
            if self.pause:
                self.ctx.sleep(self.pause)


class _Plan:
    """How many samples are still to be taken, and when to tell about them."""

    def __init__(
        self, ctx: Context, samples: int, duration: float | None, stop_at_failure: bool
    ) -> None:
        self._ctx = ctx
        self._left = samples
        self._end = None if duration is None else ctx.monotonic() + duration
        self._stop_at_failure = stop_at_failure
        self._told = ctx.monotonic()

    def more(self, seen: _Samples) -> bool:
        """Whether to take another one; it then counts as begun."""
        if seen.failures and self._stop_at_failure:
            return False
        if self._end is not None:
            return self._ctx.monotonic() < self._end
        self._left -= 1
        return self._left >= 0

    def tell(self, seen: _Samples) -> None:
        """Every two seconds, how it looks."""
        if self._ctx.monotonic() - self._told > 2:
            self._told = self._ctx.monotonic()
            self._ctx.progress(f"{seen.taken} requests, {seen.failures} failed")


def _expectations(expect: Expect | Mapping[str, Any] | None) -> Expect:
    """The expectations, checked as far as they can be before anything is sent."""
    try:
        wanted = expect if isinstance(expect, Expect) else msgspec.convert(expect or {}, Expect)
    except msgspec.ValidationError as error:
        raise Refused(f"`expect` is not right: {error}") from None
    for status in _listed(wanted.status):
        http_client.valid_status(status)
    for bound in wanted.latency.given().values():
        read_milliseconds(bound)
    for pattern in (wanted.regex, *filter(None, map(_pattern, wanted.headers.values()))):
        _valid_pattern(pattern)
    if wanted.error_rate is not None:
        read_percent(wanted.error_rate)
    return wanted


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def _texts(headers: Mapping[str, Any]) -> dict[str, str]:
    return {name: str(value) for name, value in headers.items()}


# -- one answer ---------------------------------------------------------------------------------
def _unmet(ctx: Context, wanted: Expect, answer: http_client.Response) -> list[str]:
    """What is expected of every answer and does not hold for this one."""
    reasons = []
    if not any(http_client.fits(answer.status, status) for status in _listed(wanted.status)):
        expected = " or ".join(str(status) for status in _listed(wanted.status))
        reasons.append(f"expected status {expected}, got {answer.status}")
    for name, value in wanted.headers.items():
        reasons += _header(name, str(value), answer.headers.get(name.lower()))
    for part in _listed(wanted.text):
        if part not in answer.text:
            reasons.append(f"expected the body to contain {part!r}")
    if wanted.regex and not _found(wanted.regex, answer.text):
        reasons.append(f"expected the body to match /{wanted.regex}/")
    if wanted.json:
        reasons += _json(ctx, wanted.json, answer)
    return reasons


def _header(name: str, wanted: str, value: str | None) -> list[str]:
    if value is None:
        return [f"expected header {name}, got none"]
    pattern = _pattern(wanted)
    found = value == wanted if pattern is None else _found(pattern, value)
    return [] if found else [f"expected header {name} to be {wanted}, got {value}"]


def _pattern(wanted: Any) -> str | None:
    """What stands between the slashes of ``/…/``; None for a plain value."""
    text = str(wanted)
    return text[1:-1] if len(text) > 1 and text.startswith("/") and text.endswith("/") else None


def _json(
    ctx: Context, wanted: dict[str, Any] | list[str] | str, answer: http_client.Response
) -> list[str]:
    try:
        document = answer.json()
    except Failed:
        return [f"expected a JSON document, got {answer.headers.get('content-type', 'no type')}"]
    names = {**document} if isinstance(document, dict) else {}
    names = {name: value for name, value in names.items() if str(name).isidentifier()}
    names["json"] = document
    pairs = wanted.items() if isinstance(wanted, dict) else ((one, True) for one in _listed(wanted))
    reasons = []
    for expression, value in pairs:
        try:
            found = ctx.evaluate(expression, **names)
        except Exception as error:  # undefined: the document has no such place
            reasons.append(f"expected {expression}, but {error}")
            continue
        if not isinstance(wanted, dict):
            reasons += [] if found else [f"expected {expression}, which is {_short(found)}"]
        elif found != value or isinstance(found, bool) != isinstance(value, bool):
            reasons.append(f"expected {expression} to be {value!r}, got {_short(found)}")
    return reasons


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:200]}…"


# -- all answers --------------------------------------------------------------------------------
def _verdict(ctx: Context, url: str, wanted: Expect, seen: _Samples) -> Result:
    if seen.error is not None and seen.failures == seen.taken and not seen.seconds:
        seen.error.data = _data(ctx, seen)  # nobody ever answered: that failure says it all
        raise seen.error
    data = _data(ctx, seen)
    allowed = 0.0 if wanted.error_rate is None else read_percent(wanted.error_rate)
    reasons = []
    if seen.error_rate > allowed:
        reasons += [_times(reason, count, seen.taken) for reason, count in seen.unmet.items()]
        if wanted.error_rate is not None:
            reasons.insert(
                0, f"expected at most {allowed:g} % of requests to fail, {seen.error_rate:g} % did"
            )
    for name, bound in wanted.latency.given().items():
        measured = data["latency"].get(name)
        if measured is not None and measured > read_milliseconds(bound):
            reasons.append(f"expected {name} within {bound}, got {format_milliseconds(measured)}")
    if wanted.tls_days is not None:
        reasons += _certificate(wanted.tls_days, data["tls_days"])
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


def _certificate(wanted: float, left: float | None) -> list[str]:
    if left is None:
        return ["expected a TLS certificate, but the connection is not TLS"]
    if left < wanted:
        return [f"expected a certificate good for {wanted:g} days, it ends in {left:g}"]
    return []


def _data(ctx: Context, seen: _Samples) -> dict[str, Any]:
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


def _document(last: http_client.Response | None) -> Any:
    if last is None or len(last.body) > _JSON:
        return None
    try:
        return last.json()
    except Failed:
        return None


def _summary(seen: _Samples, data: dict[str, Any]) -> str:
    if seen.taken == 1:
        return f"{data['status']} in {format_milliseconds(data['latency']['p50'])}"
    latency = data["latency"].items()
    figures = ", ".join(f"{name} {format_milliseconds(value)}" for name, value in latency)
    return f"{count(seen.taken, 'request')}, {seen.failures} failed, {figures}"
