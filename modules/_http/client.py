"""HTTP for modules: requests that end when the task must end, and errors in our words.

Requests run on an event loop of their own within the task's thread. That is what makes a
cancellation and a deadline immediate in every phase, name resolution, connecting, waiting and
reading alike, and lets `http-check` send many at a time. `httpx` is imported at first use.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from engine.module_api import ActionError, Check, Context, Failed, Refused, Unreachable

if TYPE_CHECKING:
    import ssl

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


class Response:
    """An answer, read to its end (or to `BODY` bytes). `seconds` until then."""

    __slots__ = ("body", "headers", "seconds", "status", "tls_expiry", "url")

    def __init__(
        self,
        url: str,
        status: int,
        headers: dict[str, str],
        body: bytes,
        seconds: float,
        tls_expiry: float | None,
    ) -> None:
        """`tls_expiry` is the end of the server's certificate, epoch seconds; None without TLS."""
        self.url = url
        self.status = status
        self.headers = headers
        self.body = body
        self.seconds = seconds
        self.tls_expiry = tls_expiry

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """The body as JSON; raises Failed if it is none."""
        import json as json_module

        try:
            return json_module.loads(self.body, parse_constant=_not_json)
        except (ValueError, RecursionError) as error:
            raise Failed(
                f"{self.url} did not answer with JSON: {error}", evidence=self.lines()
            ) from None

    def lines(self, most: int = 5) -> list[str]:
        """The beginning of the body, for evidence."""
        return [line[:300] for line in self.text[:4000].splitlines() if line.strip()][:most]

    @property
    def retry_after(self) -> float | None:
        """Seconds that the server asks to be left alone for; None where it does not."""
        text = self.headers.get("retry-after", "").strip()
        return float(text) if text.isascii() and text.isdigit() else None


def _not_json(word: str) -> Any:
    raise ValueError(f"{word} is not a JSON value")


def valid_status(text: int | str) -> None:
    """Refused for what is neither a status nor a class of them, such as ``2xx``."""
    if not re.fullmatch(r"[1-5](\d\d|xx)", str(text)):
        raise Refused(f"{text!r} is not a status", hint="write 200, [200, 204] or 2xx")


StatusText = Annotated[int | str, Check(valid_status)]
"""A status or a class of them."""


def fits(status: int, wanted: int | str) -> bool:
    """Whether a status is the wanted one, or of the wanted class: ``2xx``."""
    text = str(wanted)
    return str(status)[0] == text[0] if text.endswith("xx") else str(status) == text


class Tls:
    """How a server's certificate is checked: by `verify`, against `ca` if there is one."""

    def __init__(self, verify: bool = True, ca: str = "", section: str = "") -> None:
        """`section` is the part of the inventory that says so."""
        self.verify = verify
        self.ca = ca
        self.section = section

    @classmethod
    def of(cls, settings: Mapping[str, Any], section: str) -> Tls:
        """From the keys ``verify`` and ``ca`` of a part of the inventory."""
        verify = settings.get("verify", True) is not False
        return cls(verify, str(settings.get("ca") or ""), section)

    def context(self, ctx: Context) -> ssl.SSLContext:
        """The TLS settings, made once a run (reading the authorities takes a while)."""
        if not self.verify:
            said = f"`{self.section}` of the inventory says so"
            ctx.warn(f"TLS certificates are not verified: {said}")
        return ctx.cached(f"http:tls:{self.verify}:{self.ca}", lambda: self._make(ctx))

    def _make(self, ctx: Context) -> ssl.SSLContext:
        import ssl

        import httpx

        if not self.verify:
            unchecked = ssl.create_default_context()
            unchecked.check_hostname = False
            unchecked.verify_mode = ssl.CERT_NONE
            return unchecked
        if not self.ca:
            return httpx.create_ssl_context()
        path = Path(self.ca) if Path(self.ca).is_absolute() else ctx.file(self.ca)
        try:
            return ssl.create_default_context(cafile=str(path))
        except OSError as error:
            raise Refused(f"the CA file {path} cannot be used: {error}") from None


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

    limits = httpx.Limits(max_connections=connections, max_keepalive_connections=connections)
    # A cookie kept from one answer would tie all further requests to the server that gave it.
    none = http.cookiejar.DefaultCookiePolicy(allowed_domains=[])
    try:
        made = httpx.AsyncClient(
            verify=tls.context(ctx),
            limits=limits,
            timeout=None,
            cookies=http.cookiejar.CookieJar(none),
        )
    except (ImportError, ValueError) as error:
        raise Refused(
            "the proxy of the environment (HTTP_PROXY, HTTPS_PROXY, ALL_PROXY) cannot be used",
            hint="name an http:// or https:// proxy, or set NO_PROXY for this server",
            evidence=[str(error)],
        ) from None
    async with made:
        yield made


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
            body = await _read(answer)
            expiry = _expiry(answer)
    except TimeoutError:
        raise Unreachable(
            f"{named} did not answer within {timeout:g} s", hint="is it up, or only slow?"
        ) from None
    except (httpx.HTTPError, httpx.InvalidURL, ssl.SSLError, OSError, *_UNFIT) as error:
        raise _in_our_words(named, error) from None
    seconds = ctx.monotonic() - started
    return Response(named, answer.status_code, dict(answer.headers.items()), body, seconds, expiry)


def _hide_password(ctx: Context, url: str) -> None:
    """That of ``https://user:password@host`` is shown nowhere, wherever it comes from."""
    if "@" not in url:
        return
    from urllib.parse import unquote, urlsplit

    with contextlib.suppress(ValueError):
        if password := urlsplit(url).password:
            ctx.mask(password)
            ctx.mask(unquote(password))


async def _read(answer: httpx.Response) -> bytes:
    body = bytearray()
    async for part in answer.aiter_bytes():
        body += part
        if len(body) >= BODY:
            break
    return bytes(body[:BODY])


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
    if isinstance(error, httpx.TooManyRedirects | httpx.DecodingError):
        return Failed(f"{named}: {words}")
    if isinstance(error, httpx.ConnectError):
        return NotSent(
            f"{named} cannot be reached",
            hint="is it up, and is the address right?",
            evidence=[words],
        )
    return Unreachable(f"{named} broke off the connection", evidence=[words])


def _expiry(answer: httpx.Response) -> float | None:
    """When the server's certificate ends, epoch seconds."""
    stream = answer.extensions.get("network_stream")
    tls = stream.get_extra_info("ssl_object") if stream is not None else None
    if tls is None:
        return None
    import ssl

    if verified := tls.getpeercert():
        return float(ssl.cert_time_to_seconds(verified["notAfter"]))
    encoded = tls.getpeercert(binary_form=True)  # all there is when nothing was verified
    if not encoded:
        return None
    from cryptography import x509

    return x509.load_der_x509_certificate(encoded).not_valid_after_utc.timestamp()
