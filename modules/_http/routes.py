"""The way to HTTP servers: directly or through the environment's proxy, each as it is set.

A safe request that meets a kept connection which the server has just closed is sent once more: that
is how HTTP wants it (RFC 9112, 9.3.1), and no fault of the server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from modules._shared import proxy as shared_proxy

if TYPE_CHECKING:
    import ssl

    import httpx

_SAFE = frozenset(("GET", "HEAD", "OPTIONS"))


class Routes:
    """Sends each request the way that its server is reached by: a transport for httpx."""

    def __init__(self, security: ssl.SSLContext, limits: httpx.Limits) -> None:
        """`security` is TLS for all of them."""
        self._security = security
        self._limits = limits
        self._ways: dict[shared_proxy.Proxy | None, httpx.AsyncHTTPTransport] = {}
        self._tries = (limits.max_keepalive_connections or 0) + 1

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """The answer, as soon as it begins."""
        import httpx

        way = self._way(shared_proxy.of_environment(str(request.url), as_curl=True))
        for _ in range(self._tries if request.method in _SAFE else 0):
            connection = _Connection()
            request.extensions = {**request.extensions, "trace": connection.trace}
            try:
                return await way.handle_async_request(request)
            except (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError):
                if connection.is_new:
                    raise
        return await way.handle_async_request(request)

    def _way(self, proxy: shared_proxy.Proxy | None) -> httpx.AsyncHTTPTransport:
        if proxy not in self._ways:
            import httpx

            through = None
            if proxy is not None:
                login = (proxy.user, proxy.password) if proxy.user else None
                through = httpx.Proxy(proxy.url, auth=login)
            self._ways[proxy] = httpx.AsyncHTTPTransport(
                verify=self._security, limits=self._limits, proxy=through
            )
        return self._ways[proxy]

    async def __aenter__(self) -> Routes:
        """What a client calls when it is opened."""
        return self

    async def __aexit__(self, *error: object) -> None:
        """What a client calls when it is closed."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        for way in self._ways.values():
            await way.aclose()


class _Connection:
    """Whether a request got a connection of its own, or one that was kept."""

    def __init__(self) -> None:
        self.is_new = False

    async def trace(self, event: str, details: Any) -> None:
        """Called by httpx with every step of a request."""
        if event.startswith("connection.connect_") or event.endswith("connect_tcp.started"):
            self.is_new = True
