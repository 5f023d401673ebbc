"""Send an HTTP request that changes something.

Inventory section ``http``, as that of http-check: ``verify``, ``ca``, ``headers``. To ask without
changing anything there is `http-check`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from engine.module_api import Context, Duration, Failed, Probe, Refused, Result, Unreachable, action
from modules._http import client as http_client

_TEXT = 16384


class InDoubt(Unreachable):
    """Nobody knows whether the request arrived, so it must not simply be sent again."""

    retryable = False


Method = Literal["POST", "PUT", "PATCH", "DELETE"]
Status = http_client.StatusText | list[http_client.StatusText]


@action(effect="once", simulates=True)
def request(
    ctx: Context,
    url: str,
    *,
    method: Method = "POST",
    headers: dict[str, Any] | None = None,
    body: Any = None,
    status: Status = "2xx",
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
    try:
        with ctx.fence():
            answer = http_client.request(
                ctx,
                method,
                url,
                headers={"Idempotency-Key": ctx.key, **_headers(ctx, headers)},
                tls=http_client.Tls.of(ctx.connection("http"), "http"),
                timeout=timeout,
                **_body(body),
            )
    except http_client.NotSent:
        raise
    except Unreachable as error:
        raise error if safe else _in_doubt(error.message, error.evidence) from None
    data = _data(answer)
    wanted = status if isinstance(status, list) else [status]
    if any(http_client.fits(answer.status, one) for one in wanted):
        return Result(changed=True, data=data, message=f"{answer.status} to {method} {url}")
    expected = " or ".join(str(one) for one in wanted)
    message = f"{method} {url}: expected status {expected}, got {answer.status}"
    if answer.status in (502, 504) and not safe:
        raise _in_doubt(message, answer.lines())
    if answer.status in (429, 502, 503, 504):
        raise Unreachable(message, hint="try again later (`retry`)", evidence=answer.lines())
    raise Failed(message, evidence=answer.lines(), data=data)


@request.check
def request_check(
    ctx: Context,
    url: str,
    *,
    method: str = "POST",
    body: Any = None,
    done_if: str = "",
    timeout: Duration = http_client.TIMEOUT,
    **others: Any,
) -> Result:
    """Show the request; only `done_if` is asked."""
    if done_if and _is_done(ctx, done_if, timeout):
        return _already()
    shown = "" if body is None else f" {body if isinstance(body, str) else _json(body)}"
    return Result(
        changed=True,
        data={"status": None, "headers": {}, "json": None, "text": "", "already_done": False},
        diff=f"+ {method} {url}{shown}\n",
        message=f"would send {method} {url}",
    )


@request.probe
def request_probe(
    ctx: Context,
    url: str,
    *,
    done_if: str = "",
    repeatable: bool = False,
    timeout: Duration = http_client.TIMEOUT,
    **others: Any,
) -> Probe:
    """Ask `done_if`."""
    if done_if:
        if _is_done(ctx, done_if, timeout):
            return Probe("done", _already())
        return Probe("not_done", message=f"{done_if} does not have it")
    if repeatable:
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
    answer = http_client.request(
        ctx,
        "GET",
        url,
        headers=_headers(ctx, None),
        tls=http_client.Tls.of(ctx.connection("http"), "http"),
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


def _headers(ctx: Context, more: Mapping[str, Any] | None) -> dict[str, str]:
    section = ctx.connection("http").get("headers") or {}
    return {name: str(value) for name, value in {**section, **(more or {})}.items()}


def _body(body: Any) -> dict[str, Any]:
    if body is None:
        return {}
    return {"content": body} if isinstance(body, str) else {"json": body}


def _json(body: Any) -> str:
    import json

    try:
        return json.dumps(body, ensure_ascii=False)
    except TypeError as error:
        raise Refused(f"`body` cannot be written as JSON: {error}") from None


def _data(answer: http_client.Response) -> dict[str, Any]:
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
