"""The cluster: a thin client for the Kubernetes API that `kubectl` and `traffic` share.

Objects are plain JSON mappings and kinds are rows of a table, so that there is one way to get,
list, apply, patch and delete, whatever the kind. It stands on urllib3, the transport of the
`kubernetes` library, and not on that library's typed models: importing those costs a quarter of
a second, and an emergency rollback has to reach the cluster in less.

What every request carries: the run and its fencing token (`ctx.identity`), a time-out from the
step's deadline, and a way to be cut off when the step must end. What may go wrong in life comes
out as one of the engine's errors, with the server's own words as evidence.
"""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlencode

from engine.module_api import ActionError, Context, Failed, Refused, Unreachable
from modules._kube import config as kube_config
from modules._kube import errors as kube_errors
from modules._kube import kinds as kube_kinds
from modules._kube.errors import Expired, NotFound
from modules._kube.kinds import Kind

if TYPE_CHECKING:
    import urllib3

Object = dict[str, Any]
"""A Kubernetes object (or any JSON mapping that the API sent)."""

MANAGER = "ce-run"
"""Our field manager in server-side apply."""

STRICT = {"fieldValidation": "Strict"}
"""A field that the kind does not have is refused; otherwise it would be dropped without a word."""

PAGE = 500
"""Objects that one answer to a list may hold; the rest is fetched in further pages."""

JSON = "application/json"
APPLY = "application/apply-patch+yaml"
PATCHES = {
    "strategic": "application/strategic-merge-patch+json",
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
}

_ATTEMPTS = 10
"""How often a request is sent, at most, to a server that says to try again later."""

_CONNECT = 3.0
"""Seconds to wait for a connection; a cluster that is up accepts in milliseconds."""


class Answer(NamedTuple):
    """What a request brought: the HTTP status and the decoded body."""

    status: int
    body: Any


class _Wanted(NamedTuple):
    """A request."""

    method: str
    path: str
    query: Mapping[str, str]
    body: object
    content: str
    """Media type of the body."""


class Cluster:
    """One cluster as one user; used by all tasks of a run, from any thread."""

    def __init__(self, access: kube_config.Access) -> None:
        import urllib3

        self.access = access
        self.namespace = access.namespace
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
        self._manager: urllib3.PoolManager = (
            urllib3.ProxyManager(access.proxy, **options)
            if access.proxy
            else urllib3.PoolManager(**options)
        )
        pool = self._manager.connection_from_url(access.server)
        self._inflight = threading.local()
        pool.ConnectionCls = _remembering(pool.ConnectionCls, self._inflight)
        self._pool = pool
        _, _, rest = access.server.partition("://")
        _, slash, path = rest.partition("/")
        self._prefix = f"{slash}{path}"
        self._discovered: dict[tuple[str, str | None], Kind] = {}

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()
        self._manager.clear()

    # -- kinds ----------------------------------------------------------------------------------
    def kind(self, ctx: Context, word: str, api_version: str | None = None) -> Kind:
        """The kind that `word` names; asks the cluster only for uncommon ones."""
        if found := kube_kinds.known(word, api_version):
            return found
        key = (word.lower(), api_version)
        if key not in self._discovered:
            self._discovered[key] = kube_kinds.discover(
                lambda path: self._ask(ctx, path), word, api_version
            )
        return self._discovered[key]

    def kind_of(self, ctx: Context, item: Object) -> Kind:
        """The kind of an object as its own `apiVersion` and `kind` tell it."""
        return self.kind(ctx, str(item["kind"]), str(item["apiVersion"]))

    def _ask(self, ctx: Context, path: str) -> Any:
        try:
            return self.send(ctx, "GET", path).body
        except NotFound:
            return None

    # -- objects --------------------------------------------------------------------------------
    def get(self, ctx: Context, kind: Kind, namespace: str, name: str) -> Object:
        """One object; NotFound if it is not there."""
        found: Object = self.send(ctx, "GET", kind.path(namespace, name)).body
        return found

    def find(self, ctx: Context, kind: Kind, namespace: str, name: str) -> Object | None:
        """One object, or None if it is not there."""
        try:
            return self.get(ctx, kind, namespace, name)
        except NotFound:
            return None

    def list(
        self,
        ctx: Context,
        kind: Kind,
        namespace: str,
        *,
        labels: str = "",
        fields: str = "",
        limit: int | None = None,
    ) -> tuple[list[Object], str]:
        """Objects of a kind, with `kind` and `apiVersion` filled in, and the list's version.

        An empty `namespace` means all of them. `limit` bounds how many are fetched.
        """
        path = kind.path(namespace) if namespace else kind._replace(namespaced=False).path("")
        query = {"labelSelector": labels, "fieldSelector": fields}
        query["limit"] = str(min(limit or PAGE, PAGE))
        items: list[Object] = []
        while True:
            try:
                page = self.send(ctx, "GET", path, query=query).body
            except Expired:  # the rest of a list that changed too much meanwhile: all in one, anew
                if not query.pop("continue", None):
                    raise
                query.pop("limit")
                items.clear()
                continue
            items += [
                {"apiVersion": kind.api_version, "kind": kind.kind, **item}
                for item in page.get("items") or []
            ]
            more = page["metadata"].get("continue")
            if not more or (limit is not None and len(items) >= limit):
                return items, str(page["metadata"].get("resourceVersion") or "")
            query["continue"] = more

    def apply(
        self,
        ctx: Context,
        kind: Kind,
        namespace: str,
        item: Object,
        *,
        force: bool = False,
        dry_run: bool = False,
    ) -> Answer:
        """Server-side apply as `ce-run`; 201 if it was created. Refused on a conflict."""
        query = {"fieldManager": MANAGER, "force": "true" if force else "false", **STRICT}
        return self.write(
            ctx,
            "PATCH",
            kind.path(namespace, item["metadata"]["name"]),
            query=query,
            body=item,
            content=APPLY,
            dry_run=dry_run,
        )

    def patch(
        self,
        ctx: Context,
        kind: Kind,
        namespace: str,
        name: str,
        patch: object,
        *,
        form: str = "merge",
        sub: str = "",
        dry_run: bool = False,
    ) -> Object:
        """Patch an object (or its subresource `sub`) and return it as it is then."""
        try:
            answer = self.write(
                ctx,
                "PATCH",
                kind.path(namespace, name, sub),
                query={"fieldManager": MANAGER, **STRICT},
                body=patch,
                content=PATCHES[form],
                dry_run=dry_run,
            )
        except Refused as error:
            if form == "json" and error.message == kube_errors.UNPROCESSABLE:
                raise kube_errors.unfit(kind.label(name), error) from error
            raise
        found: Object = answer.body
        return found

    # -- requests -------------------------------------------------------------------------------
    def write(
        self,
        ctx: Context,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content: str = JSON,
        dry_run: bool = False,
    ) -> Answer:
        """A request that changes something, unless it is a dry run."""
        if dry_run:
            query = {**(query or {}), "dryRun": "All"}
        return self.send(ctx, method, path, query=query, body=body, content=content)

    def send(
        self,
        ctx: Context,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: object = None,
        content: str = JSON,
    ) -> Answer:
        """One request and its answer; an answer that is no success is raised as an error.

        It goes through the fence even if it only reads: a run that was taken over asks nothing.
        """
        wanted = _Wanted(method, path, query or {}, body, content)
        status, data, content_type = self._answer(ctx, wanted)
        return Answer(status, _decode(data, content_type))

    def text(self, ctx: Context, path: str, query: Mapping[str, str]) -> str:
        """GET something that is not JSON, such as a log."""
        _, data, _ = self._answer(ctx, _Wanted("GET", path, query, None, JSON))
        return data.decode(errors="replace")

    def _answer(self, ctx: Context, wanted: _Wanted) -> tuple[int, bytes, str]:
        """Status, body and media type of a success; anything else is raised as an error.

        Tried again is what the server says to try again, after the time it says; and once what it
        refuses to our credentials, where others can be had.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            headers = self.headers(ctx)  # before the fence: a credential plug-in takes its time
            with ctx.fence(), self._open(ctx, wanted, headers) as response:
                data, status = response.read(), int(response.status)
                told = response.headers
            ctx.checkpoint()
            if status < 400:
                for warning in told.getlist("Warning"):
                    ctx.log(f"the cluster warns: {warning}")
                return status, data, told.get("Content-Type", "")
            if status == 401 and self.access.forget and attempt == 1:
                self.access.forget()
                continue
            pause = kube_errors.retry_after(status, told.get("Retry-After", ""))
            left = ctx.remaining()
            if pause is None or (left is not None and pause >= left):
                break
            ctx.progress(f"the cluster is too busy ({status}), to be asked again in {pause} s")
            ctx.sleep(pause)
        request = f"{wanted.method} {wanted.path}"
        raise kube_errors.refusal(status, data, request, self.access)

    def stream(
        self, ctx: Context, path: str, query: Mapping[str, str], silence: float
    ) -> urllib3.BaseHTTPResponse:
        """Open a GET whose answer goes on; the caller reads and closes it.

        `silence` is how many seconds the server may say nothing before it counts as lost.
        """
        self._inflight.connection = None
        headers = self.headers(ctx)
        with ctx.fence(), ctx.on_cancel(self._inflight_abort()):
            response = self._request(ctx, _Wanted("GET", path, query, None, JSON), headers)
        self._inflight.connection = None
        if response.status >= 400:
            data = response.read()
            response.close()
            raise kube_errors.refusal(int(response.status), data, f"GET {path}", self.access)
        if wire := getattr(response.connection, "wire", None):
            wire.settimeout(silence)
        return response

    def headers(self, ctx: Context) -> dict[str, str]:
        """What every request carries: who we are, and which run and token it comes from."""
        headers = {"Accept": JSON, "User-Agent": MANAGER, **ctx.identity()}
        if authorization := self.access.authorization(ctx):
            headers["Authorization"] = authorization
        return headers

    @contextlib.contextmanager
    def _open(
        self, ctx: Context, wanted: _Wanted, headers: dict[str, str]
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        """Send a request; cancelling the task cuts it off; transport errors become ours."""
        self._inflight.connection = None
        try:
            with self._translated(ctx), ctx.on_cancel(self._inflight_abort()):
                response = self._request(ctx, wanted, headers)
                try:
                    yield response
                except BaseException:
                    response.close()  # half-read: of no use to the next request
                    raise
                response.release_conn()
        finally:
            self._inflight.connection = None  # from here on it may be another thread's

    def _request(
        self, ctx: Context, wanted: _Wanted, headers: dict[str, str]
    ) -> urllib3.BaseHTTPResponse:
        import urllib3

        method, data = wanted.method, None
        if wanted.body is not None:
            data = json.dumps(wanted.body, ensure_ascii=False).encode()
            headers["Content-Type"] = wanted.content
        query = {key: value for key, value in wanted.query.items() if value}
        url = f"{self._prefix}{wanted.path}{f'?{urlencode(query)}' if query else ''}"
        timeout = urllib3.Timeout(
            connect=ctx.remaining(at_most=_CONNECT),
            read=ctx.remaining(at_most=self.access.timeout),
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
            ctx.checkpoint()
            raise self.transport_error(error) from error
        except (OSError, ValueError) as error:
            # A connection that was cut off by a cancellation fails in any of these ways.
            ctx.checkpoint()
            raise Unreachable(
                f"the cluster at {self.access.server} was lost in the middle of an answer",
                evidence=[f"{type(error).__name__}: {error}"],
            ) from error

    def transport_error(self, error: Exception) -> ActionError:
        """What a driver's exception means: Unreachable, or Refused for a bad certificate."""
        return kube_errors.lost(error, self.access)

    def _reused(self) -> bool:
        return getattr(self._inflight, "requests", 0) > 1

    def _inflight_abort(self) -> Any:
        """A callback that shuts the socket which this thread is waiting for."""
        mine = self._inflight.__dict__

        def abort() -> None:
            cut(getattr(mine.get("connection"), "wire", None))

        return abort


def cluster(ctx: Context) -> Cluster:
    """The run's cluster: one client, made at first use."""
    return ctx.cached("kubernetes", lambda: Cluster(kube_config.access(ctx)), Cluster.close)


def cut(sock: socket.socket | None) -> None:
    """End a connection for whoever is blocked on it, in whatever thread."""
    if sock is not None:
        with contextlib.suppress(OSError):
            # Not SSLSocket.shutdown: that takes the TLS object away from the reading thread.
            socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _decode(data: bytes, content_type: str) -> Any:
    if not data:
        return None
    try:
        return json.loads(data)
    except ValueError as error:
        raise Failed(
            "the cluster's answer is not JSON: is there a proxy or a login page in between?",
            evidence=[f"Content-Type: {content_type}", data[:200].decode(errors="replace")],
        ) from error


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
