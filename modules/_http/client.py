"""HTTP for modules: requests that end when the task must end, and errors in our words.

Requests run on an event loop of their own within the task's thread. That is what makes a
cancellation and a deadline immediate in every phase, name resolution, connecting, waiting and
reading alike, and lets `http-check` send many at a time. `httpx` is imported at first use.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from engine.module_api import ActionError, Context, Failed, Refused, Unreachable
from modules._http import decoding
from modules._http import tls as http_tls
from modules._http.response import Response
from modules._http.tls import Tls

if TYPE_CHECKING:
    import httpx

T = TypeVar("T")

TIMEOUT = 10.0
"""Seconds for one request where nothing else is said."""

BODY = 8 * 1024 * 1024
"""Bytes of an answer that are read at most."""


_UNFIT = (ValueError, TypeError)
"""What comes of a header or a body that cannot be written."""


class NotSent(Unreachable):
    """There was no connection, so the request cannot have arrived."""


def run(ctx: Context, work: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine until it ends, or Cancelled or TimedOut as soon as the task must end."""
    import asyncio

    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(_stoppable(ctx, work))
    except (asyncio.CancelledError, TimeoutError):
        ctx.checkpoint()
        raise
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        # A name resolution that hangs may keep its thread; nobody waits for it.
        loop.close()


async def _stoppable(ctx: Context, work: Callable[[], Awaitable[T]]) -> T:
    import asyncio

    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    assert task is not None

    def stop() -> None:
        with contextlib.suppress(RuntimeError):  # the loop may just have been closed
            loop.call_soon_threadsafe(task.cancel)

    with ctx.on_cancel(stop):
        left = ctx.remaining()
        # A hair late, so that the context agrees that its time is up.
        async with asyncio.timeout(None if left is None else left + 0.005):
            return await work()


@contextlib.asynccontextmanager
async def client(
    ctx: Context, tls: Tls, *, connections: int = 10
) -> AsyncIterator[httpx.AsyncClient]:
    """A client that keeps connections open while the block lasts."""
    import http.cookiejar

    import httpx

    from modules._http.routes import Routes

    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    # A cookie kept from one answer would tie all further requests to the server that gave it.
    none = http.cookiejar.DefaultCookiePolicy(allowed_domains=[])
    async with httpx.AsyncClient(
        transport=cast("httpx.AsyncBaseTransport", Routes(tls.context(ctx), limits)),
        trust_env=False,  # proxies are chosen by Routes
        timeout=None,
        cookies=http.cookiejar.CookieJar(none),
        headers={"Accept-Encoding": decoding.ACCEPTED},
    ) as session:
        yield session


def simulated(
    ctx: Context, method: str, url: str, *, timeout: float, what: str = "", **options: Any
) -> Response:
    """The answer of a simulated world's server; Unreachable when there is none in time."""
    with ctx.fence():
        answer = ctx.world.web.answer(method, url, options.get("headers") or {})
    named = what or url
    late = answer.seconds > timeout
    ctx.sleep(min(answer.seconds, timeout))
    if late:
        raise Unreachable(
            f"{named} did not answer within {timeout:g} s", hint="is it up, or only slow?"
        )
    if not answer.status:
        raise NotSent(f"{named} cannot be reached", hint="is it up, and is the address right?")
    expiry = ctx.now().timestamp() + answer.tls_days * 86400 if url.startswith("https:") else None
    return Response(named, answer.status, dict(answer.headers), answer.body, answer.seconds, expiry)


def content(body: Any) -> dict[str, Any]:
    """The option for `send` of a body: text as it is, anything else as JSON."""
    if body is None:
        return {}
    if isinstance(body, str):
        return {"content": body}
    as_json(body)
    return {"json": body}


def as_json(body: Any) -> str:
    """A body as JSON; Refused for what JSON has no word for."""
    import json

    try:
        return json.dumps(body, ensure_ascii=False, allow_nan=False)
    except TypeError as error:
        kind = str(error).removeprefix("Object of type ").partition(" ")[0]
        raise Refused(f"`body` holds a {kind}, which JSON has no word for") from None
    except ValueError:
        raise Refused("`body` holds a number that JSON has no word for (NaN, Infinity)") from None


def request(
    ctx: Context,
    method: str,
    url: str,
    *,
    tls: Tls | None = None,
    timeout: float = TIMEOUT,
    what: str = "",
    **options: Any,
) -> Response:
    """Send one request; see `send`."""
    if ctx.mode == "simulate":
        return simulated(ctx, method, url, timeout=timeout, what=what, **options)

    async def work() -> Response:
        async with client(ctx, tls or Tls(), connections=1) as session:
            return await send(ctx, session, method, url, timeout=timeout, what=what, **options)

    return run(ctx, work)


async def send(
    ctx: Context,
    session: httpx.AsyncClient,
    method: str,
    url: str,
    *,
    timeout: float,
    what: str = "",
    **options: Any,
) -> Response:
    """Send a request and read the whole answer, whatever its status.

    `options` are httpx's (headers, params, json, content, data, follow_redirects). `what` names
    the other side in messages where its URL must not be shown. Raises Unreachable when no answer
    came within `timeout` seconds, Refused when it cannot or must not be sent.
    """
    import asyncio
    import ssl

    import httpx

    with ctx.fence():
        pass  # a run that was taken over asks nothing, though reading alone harms nobody
    headers = {**ctx.identity(), **options.pop("headers", {})}
    named = what or url
    _hide_password(ctx, url)
    started = ctx.monotonic()
    try:
        async with (
            asyncio.timeout(timeout),
            session.stream(method, url, headers=headers, **options) as answer,
        ):
            response = await _read(named, answer)
    except TimeoutError:
        raise Unreachable(
            f"{named} did not answer within {timeout:g} s", hint="is it up, or only slow?"
        ) from None
    except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError, *_UNFIT) as error:
        raise _in_our_words(named, error) from None
    response.seconds = ctx.monotonic() - started
    response.at = ctx.now()
    return response


def _hide_password(ctx: Context, url: str) -> None:
    """That of ``https://user:password@host`` is shown nowhere, wherever it comes from."""
    if "@" not in url:
        return
    from urllib.parse import unquote, urlsplit

    with contextlib.suppress(ValueError):
        if password := urlsplit(url).password:
            ctx.mask(password)
            ctx.mask(unquote(password))


async def _read(named: str, answer: httpx.Response) -> Response:
    """The answer with its body, decoded, up to `BODY` bytes."""
    decoder = decoding.Decoder(named, answer.headers.get("content-encoding", ""))
    body = bytearray()
    async for data in answer.aiter_raw():
        for piece in decoder.feed(data):
            body += piece
            if len(body) > BODY:
                break
        if len(body) > BODY:
            break
    else:
        decoder.end()
    headers = dict(answer.headers.items())
    response = Response(named, answer.status_code, headers, bytes(body[:BODY]), 0.0, None)
    response.is_cut = len(body) > BODY
    stream = answer.extensions.get("network_stream")
    tls = stream.get_extra_info("ssl_object") if stream is not None else None
    if tls is not None and (expiry := http_tls.expiry(tls)):
        response.tls_expiry, response.tls_subject = expiry
    return response


def _in_our_words(named: str, error: Exception) -> ActionError:
    import httpx

    words = str(error) or type(error).__name__
    if "CERTIFICATE_VERIFY_FAILED" in words or "certificate" in words.lower():
        return Refused(
            f"{named}: the server's certificate is not to be trusted",
            hint="renew it, or name its authority with `ca:` in the inventory",
            evidence=[words],
        )
    if isinstance(error, httpx.UnsupportedProtocol | httpx.InvalidURL):
        return Refused(f"{named} is not a URL that can be asked: {words}")
    if isinstance(error, (httpx.LocalProtocolError, *_UNFIT)):
        return Refused(f"the request to {named} cannot be sent as it stands: {words}")
    if isinstance(error, httpx.TooManyRedirects):
        return Failed(f"{named} redirects without end")
    if (
        isinstance(error, httpx.RemoteProtocolError)
        and "onnect" not in words
        and "clos" not in words
    ):
        return Failed(f"{named} answered with what is no HTTP", evidence=[words])
    if isinstance(error, httpx.ConnectError):
        return NotSent(
            f"{named} cannot be reached",
            hint="is it up, and is the address right?",
            evidence=[words],
        )
    return Unreachable(f"{named} broke off the connection", evidence=[words])
