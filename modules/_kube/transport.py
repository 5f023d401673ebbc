"""The way to the API server: kept connections, time-outs, cancellation, and what broke.

It stands on urllib3, the transport of the `kubernetes` library, and not on that library's typed
models: importing those costs a quarter of a second, and an emergency rollback has to reach the
cluster in less.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from engine.module_api import Context, Unreachable
from modules._kube import config as kube_config
from modules._kube import errors as kube_errors

if TYPE_CHECKING:
    import urllib3
    from urllib3 import HTTPHeaderDict

JSON = "application/json"

_CONNECT = 3.0
"""Seconds to wait for a connection; a cluster that is up accepts in milliseconds."""

_LAST = 0.05
"""Seconds before a deadline that count as after it."""


class Request(NamedTuple):
    """A request."""

    method: str
    path: str
    query: Mapping[str, str]
    body: object = None
    content: str = JSON
    """Media type of the body."""


class Transport:
    """Connections to one API server; used by all tasks of a run, from any thread."""

    def __init__(self, access: kube_config.Access) -> None:
        import urllib3

        self._access = access
        options: dict[str, Any] = {
            "maxsize": 8,
            "ssl_context": access.tls,
            "server_hostname": access.server_name,
            "assert_hostname": access.server_name,
        }
        if access.tls is None:
            options = {"maxsize": 8}
        elif not access.tls.check_hostname:
            # Said once, by the run; not by urllib3 with every request.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
            options["cert_reqs"] = "CERT_NONE"
        self._manager: urllib3.PoolManager = urllib3.PoolManager(**options)
        if access.proxy:
            basic = access.proxy.basic
            headers = urllib3.make_headers(proxy_basic_auth=basic) if basic else None
            self._manager = urllib3.ProxyManager(access.proxy.url, proxy_headers=headers, **options)
        pool = self._manager.connection_from_url(access.server)
        self._inflight = threading.local()
        pool.ConnectionCls = _remembering(pool.ConnectionCls, self._inflight)
        self._pool = pool
        _, _, rest = access.server.partition("://")
        _, slash, path = rest.partition("/")
        self._prefix = f"{slash}{path}"

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()
        self._manager.clear()

    @contextlib.contextmanager
    def open(
        self, ctx: Context, request: Request, headers: HTTPHeaderDict
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Send a request; cancelling the task cuts it off; what breaks becomes an error of ours."""
        self._inflight.connection = None
        try:
            with self._translated(ctx), ctx.on_cancel(self._inflight_abort()):
                response = self._send(ctx, request, headers)
                try:
                    yield response
                except BaseException:
                    response.close()  # half-read: of no use to the next request
                    raise
                response.release_conn()
        finally:
            self._inflight.connection = None  # from here on it may be another thread's

    def stream(
        self, ctx: Context, request: Request, headers: HTTPHeaderDict
    ) -> urllib3.BaseHTTPResponse:
        """Send a request whose answer goes on; the caller reads and closes it."""
        self._inflight.connection = None
        with ctx.on_cancel(self._inflight_abort()):
            response = self._send(ctx, request, headers)
        self._inflight.connection = None
        return response

    def _send(
        self, ctx: Context, request: Request, headers: HTTPHeaderDict
    ) -> urllib3.BaseHTTPResponse:
        import urllib3

        method, data = request.method, None
        if request.body is not None:
            data = json.dumps(request.body, ensure_ascii=False).encode()
            headers["Content-Type"] = request.content
        query = {key: value for key, value in request.query.items() if value}
        url = f"{self._prefix}{request.path}{f'?{urlencode(query)}' if query else ''}"
        timeout = urllib3.Timeout(
            connect=ctx.remaining(at_most=_CONNECT),
            read=ctx.remaining(at_most=self._access.timeout),
        )

        def attempt() -> urllib3.BaseHTTPResponse:
            return self._pool.urlopen(
                method,
                url,
                body=data,
                headers=headers,
                timeout=timeout,
                retries=False,
                redirect=False,
                preload_content=False,
            )

        with self._translated(ctx):
            try:
                return attempt()
            except urllib3.exceptions.ProtocolError:
                # A kept connection may be closed by the server just as we use it again. That
                # tells nothing about the server, so it is tried once more on a new one.
                if method not in ("GET", "PATCH", "PUT") or not self._reused():
                    raise
                ctx.checkpoint()
                return attempt()

    @contextlib.contextmanager
    def _translated(self, ctx: Context) -> Iterator[None]:
        import urllib3

        try:
            yield
        except urllib3.exceptions.HTTPError as error:
            if isinstance(error, urllib3.exceptions.ReadTimeoutError):
                _wait_out(ctx)
            ctx.checkpoint()
            raise kube_errors.lost(error, self._access) from error
        except (OSError, ValueError) as error:
            # A connection that was cut off by a cancellation fails in any of these ways.
            ctx.checkpoint()
            raise Unreachable(
                f"the cluster at {self._access.server} was lost in the middle of an answer",
                evidence=[f"{type(error).__name__}: {error}"],
            ) from error

    def _reused(self) -> bool:
        return getattr(self._inflight, "requests", 0) > 1

    def _inflight_abort(self) -> Any:
        """A callback that shuts the socket which this thread is waiting for."""
        mine = self._inflight.__dict__

        def abort() -> None:
            cut(getattr(mine.get("connection"), "wire", None))

        return abort


def _wait_out(ctx: Context) -> None:
    """A read that took all the time there was may end just before the deadline: that decides."""
    left = ctx.remaining()
    if left is not None and left < _LAST:
        ctx.sleep(left + _LAST)


def cut(sock: socket.socket | None) -> None:
    """End a connection for whoever is blocked on it, in whatever thread."""
    if sock is not None:
        with contextlib.suppress(OSError):
            # Not SSLSocket.shutdown: that takes the TLS object away from the reading thread.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _remembering(base: Any, inflight: threading.local) -> Any:
    """A connection class that notes, for each thread, the connection it is using."""

    class Remembering(base):  # type: ignore[misc]
        served = 0
        wire: socket.socket | None = None

        def connect(self) -> None:
            super().connect()
            self.wire = self.sock  # http.client forgets it while an answer is being read

        def request(self, *args: Any, **kwargs: Any) -> None:
            self.served += 1
            inflight.connection = self
            inflight.requests = self.served
            super().request(*args, **kwargs)

    return Remembering
