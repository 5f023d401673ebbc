"""Send an HTTP request that changes something.

Inventory section ``http``, as that of http-check: ``verify``, ``ca``, ``headers``. To ask without
changing anything there is `http-check`.
"""

from __future__ import annotations

from typing import Any, Literal

from engine.module_api import (
    ActionError,
    Arguments,
    Context,
    Duration,
    Failed,
    Probe,
    Result,
    Unreachable,
    action,
)
from modules._http import client as http_client
from modules._http import section as http_section
from modules._http.response import Response, StatusText, fits

_TEXT = 16384


class InDoubt(Unreachable):
    """Nobody knows whether the request arrived, so it must not simply be sent again."""

    retryable = False


Method = Literal["POST", "PUT", "PATCH", "DELETE"]
StatusCode = StatusText | list[StatusText]


@action(effect="once", simulates=True)
def request(
    ctx: Context,
    url: str,
    *,
    method: Method = "POST",
    headers: dict[str, Any] | None = None,
    body: Any = None,
    status: StatusCode = "2xx",
    done_if: str = "",
    repeatable: bool = False,
    timeout: Duration = http_client.TIMEOUT,
) -> Result:
    """Send a request with the task's key in the header ``Idempotency-Key``.

    Result data: ``status``, ``headers`` (names in lower case), ``json`` (the parsed body, null if
    it is none), ``text`` (at most 16 Ki characters), ``already_done`` (`done_if` said so, nothing
    was sent). Effect once: after a crash, or a connection that broke off, `done_if` tells whether
    it happened; `repeatable` says that the receiver recognises the key or that repeating is
    safe. Without either the run asks a person after a crash, and `retry` sends again only what
    cannot have arrived.

    Args:
        url: where to.
        method: POST, PUT, PATCH or DELETE.
        headers: sent with the request.
        body: sent with it; text as it is, anything else as JSON.
        status: the status, a class such as ``2xx``, or several, that mean success.
        done_if: a URL that answers 2xx to a GET if the effect is there, 404 if it is not.
        repeatable: whether sending it again is safe.
        timeout: how long to wait for the answer.
    """
    if done_if and _is_done(ctx, done_if, timeout):
        return _already()
    safe = repeatable or bool(done_if)
    answer = _send(ctx, method, url, headers, body, timeout, safe)
    statuses = status if isinstance(status, list) else [status]
    if any(fits(answer.status, one) for one in statuses):
        done = f"{answer.status} to {method} {url}"
        return Result(changed=True, data=_data(answer), message=done)
    expected = " or ".join(str(one) for one in statuses)
    raise _failure(answer, f"{method} {url}: expected status {expected}, got {answer.status}", safe)


def _send(
    ctx: Context,
    method: str,
    url: str,
    headers: dict[str, Any] | None,
    body: Any,
    timeout: float,
    safe: bool,
) -> Response:
    """The answer; without one, whether to ask again is open unless that is `safe`."""
    section = http_section.read(ctx, "http")
    try:
        with ctx.fence():
            return http_client.request(
                ctx,
                method,
                url,
                headers={"Idempotency-Key": ctx.key, **section.with_headers(headers)},
                tls=section.tls("http"),
                timeout=timeout,
                **http_client.content(body),
            )
    except http_client.NotSent:
        raise
    except Unreachable as error:
        raise error if safe else _in_doubt(error.message, error.evidence) from None


def _failure(answer: Response, message: str, safe: bool) -> ActionError:
    """What an answer of another status means; whether sending again is `safe` decides with it."""
    if answer.status in (502, 504) and not safe:
        return _in_doubt(message, answer.lines())
    if answer.status in (429, 502, 503, 504):
        return Unreachable(message, hint="try again later (`retry`)", evidence=answer.lines())
    hint = "ask where it leads to, or log in first" if answer.is_redirect else ""
    return Failed(message, hint=hint, evidence=answer.lines(), data=_data(answer))


@request.check
def request_check(ctx: Context, args: Arguments) -> Result:
    """Show the request; only `done_if` is asked."""
    http_section.read(ctx, "http")
    if args.done_if and _is_done(ctx, args.done_if, args.timeout):
        return _already()
    body = args.body
    shown = "" if body is None else body if isinstance(body, str) else http_client.as_json(body)
    line = f"{args.method} {args.url} {shown}".rstrip()
    return Result(
        changed=True,
        data={"status": None, "headers": {}, "json": None, "text": "", "already_done": False},
        diff=f"+ {line}\n",
        message=f"would send {args.method} {args.url}",
    )


@request.probe
def request_probe(ctx: Context, args: Arguments) -> Probe:
    """Ask `done_if`."""
    if args.done_if:
        if _is_done(ctx, args.done_if, args.timeout):
            return Probe("done", _already())
        return Probe("not_done", message=f"{args.done_if} does not have it")
    if args.repeatable:
        return Probe("not_done", message="sending it again is safe")
    return Probe("unknown", message="nobody can be asked whether the request arrived")


def _in_doubt(message: str, evidence: list[str]) -> InDoubt:
    return InDoubt(
        f"{message}; whether it arrived is not known",
        hint="ask the receiver, then resume with --done or --redo; `done_if` or `repeatable: true` "
        "let a retry decide",
        evidence=evidence,
    )


def _is_done(ctx: Context, url: str, timeout: float) -> bool:
    section = http_section.read(ctx, "http")
    answer = http_client.request(
        ctx,
        "GET",
        url,
        headers=section.with_headers(None),
        tls=section.tls("http"),
        timeout=timeout,
    )
    if 200 <= answer.status < 300:
        return True
    if answer.status == 404:
        return False
    raise Failed(
        f"{url} answered with status {answer.status}: neither 2xx (it is done) nor 404 (it is not)",
        evidence=answer.lines(),
    )


def _data(answer: Response) -> dict[str, Any]:
    try:
        document = answer.json()
    except Failed:
        document = None
    return {
        "status": answer.status,
        "headers": answer.headers,
        "json": document,
        "text": answer.text[:_TEXT],
        "already_done": False,
    }


def _already() -> Result:
    return Result(
        data={"status": None, "headers": {}, "json": None, "text": "", "already_done": True},
        message="done already",
    )
