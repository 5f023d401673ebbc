"""The cluster: a thin client for the Kubernetes API that `kubectl` and `traffic` share.

Objects are plain JSON mappings and kinds are rows of a table, so that there is one way to get,
list, apply, patch and delete, whatever the kind. How requests travel is in `transport`.

What every request carries: the run and its fencing token (`ctx.identity`), a time-out from the
step's deadline, and a way to be cut off when the step must end. What may go wrong in life comes
out as one of the engine's errors, with the server's own words as evidence. As in client-go, only
a status from 200 to 206 is a success, and only with the object that was asked for in the answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.module_api import Context, Failed, Refused
from modules._kube import config as kube_config
from modules._kube import errors as kube_errors
from modules._kube import kinds as kube_kinds
from modules._kube import words as kube_words
from modules._kube.errors import Expired, NotFound
from modules._kube.kinds import Kind
from modules._kube.transport import JSON, Request, Transport

if TYPE_CHECKING:
    import urllib3
    from urllib3 import HTTPHeaderDict

Object = dict[str, Any]
"""A Kubernetes object (or any JSON mapping that the API sent)."""

MANAGER = "ce-run"
"""Our field manager in server-side apply."""

STRICT = {"fieldValidation": "Strict"}
"""A field that the kind does not have is refused; otherwise it would be dropped without a word."""

PAGE = 500
"""Objects that one answer to a list may hold; the rest is fetched in further pages."""

APPLY = "application/apply-patch+yaml"
PATCHES = {
    "strategic": "application/strategic-merge-patch+json",
    "merge": "application/merge-patch+json",
    "json": "application/json-patch+json",
}

_ATTEMPTS = 10
"""How often a request is sent, at most, to a server that says to try again later."""


class Answer(NamedTuple):
    """What a request brought: the HTTP status and the decoded body."""

    status: int
    body: Any


class Cluster:
    """One cluster as one user; used by all tasks of a run, from any thread."""

    def __init__(self, access: kube_config.Access) -> None:
        self.access = access
        self.namespace = access.namespace
        self._transport = Transport(access)
        self.answered = False
        """Whether it has answered at all: then it is there, and was only lost."""
        self._discovered: dict[tuple[str, str | None], Kind] = {}

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()

    # -- kinds ----------------------------------------------------------------------------------
    def kind(self, ctx: Context, word: str, api_version: str | None = None) -> Kind:
        """The kind that `word` names; asks the cluster only for uncommon ones."""
        if builtin := kube_kinds.known(word, api_version):
            return builtin
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
    def get(self, ctx: Context, kind: Kind, namespace: str, name: str, *, sub: str = "") -> Object:
        """One object (or its subresource `sub`); NotFound if it is not there."""
        path = kind.path(namespace, name, sub)
        return _object(self.send(ctx, "GET", path).body, f"GET {path}")

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
        items: list[Object] = []
        whole = False
        while True:
            left = PAGE if limit is None else limit - len(items)
            query["limit"] = "" if whole else str(max(1, min(left, PAGE)))
            try:
                page = _list(self.send(ctx, "GET", path, query=query).body, f"GET {path}")
            except Expired:  # the rest of a list that changed too much meanwhile: all in one, anew
                if not query.pop("continue", None):
                    raise
                items.clear()
                whole = True
                continue
            items += [
                {"apiVersion": kind.api_version, "kind": kind.kind, **item}
                for item in page.get("items") or []
            ]
            metadata = page.get("metadata") or {}
            more = metadata.get("continue")
            if not more or (limit is not None and len(items) >= limit):
                return items[:limit], str(metadata.get("resourceVersion") or "")
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
        name = str(item["metadata"]["name"])
        path = kind.path(namespace, name)
        answer = self.write(
            ctx, "PATCH", path, query=query, body=item, content=APPLY, dry_run=dry_run
        )
        return Answer(answer.status, _object(answer.body, f"PATCH {path}"))

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
        path = kind.path(namespace, name, sub)
        try:
            answer = self.write(
                ctx,
                "PATCH",
                path,
                query={"fieldManager": MANAGER, **STRICT},
                body=patch,
                content=PATCHES[form],
                dry_run=dry_run,
            )
        except Refused as error:
            if form == "json" and error.message == kube_errors.UNPROCESSABLE:
                raise kube_errors.unfit(kind.label(name), error) from error
            raise
        return _object(answer.body, f"PATCH {path}")

    def delete(
        self, ctx: Context, kind: Kind, namespace: str, name: str, options: Object
    ) -> Object:
        """Delete an object; what the server answers: the object as it was, or a Status."""
        path = kind.path(namespace, name)
        return _object(self.write(ctx, "DELETE", path, body=options).body, f"DELETE {path}")

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
        request = Request(method, path, query or {}, body, content)
        status, data, content_type = self._answer(ctx, request)
        decoded = _decode(data, content_type, path)
        if isinstance(decoded, dict) and decoded.get("status") == "Failure":
            code = int(decoded.get("code") or 500)
            raise kube_errors.refusal(code, data, f"{method} {path}", self.access, body=body)
        return Answer(status, decoded)

    def text(self, ctx: Context, path: str, query: Mapping[str, str]) -> str:
        """GET something that is not JSON, such as a log."""
        _, data, _ = self._answer(ctx, Request("GET", path, query))
        return data.decode(errors="replace")

    def _answer(self, ctx: Context, request: Request) -> tuple[int, bytes, str]:
        """Status, body and media type of a success; anything else is raised as an error.

        Tried again is what the server says to try again, after the time it says; and once what it
        refuses to our credentials, where others can be had.
        """
        for attempt in range(1, _ATTEMPTS + 1):
            headers = self.headers(ctx)  # before the fence: a credential plug-in takes its time
            with ctx.fence(), self._transport.open(ctx, request, headers) as response:
                data, status = response.read(), int(response.status)
                fields = response.headers
            ctx.checkpoint()
            if kube_errors.succeeded(status):
                self.answered = True
                for warning in fields.getlist("Warning"):
                    ctx.warn(f"the cluster warns: {kube_words.warning(warning)}")
                return status, data, fields.get("Content-Type", "")
            if status == 401 and self.access.forget and attempt == 1:
                self.access.forget()
                continue
            pause = kube_errors.retry_after(status, fields.get("Retry-After", ""), ctx.now())
            left = ctx.remaining()
            if pause is None or (left is not None and pause >= left):
                break
            ctx.progress(f"the cluster is too busy ({status}), to be asked again in {pause} s")
            ctx.sleep(pause)
        raise kube_errors.refusal(
            status,
            data,
            f"{request.method} {request.path}",
            self.access,
            body=request.body,
            location=fields.get("Location", ""),
        )

    def stream(
        self, ctx: Context, path: str, query: Mapping[str, str], silence: float
    ) -> urllib3.BaseHTTPResponse:
        """Open a GET whose answer goes on; the caller reads and closes it.

        `silence` is how many seconds the server may say nothing before it counts as lost.
        """
        headers, request = self.headers(ctx), Request("GET", path, query)
        with ctx.fence():
            response = self._transport.stream(ctx, request, headers)
        if not kube_errors.succeeded(int(response.status)):
            data, location = response.read(), response.headers.get("Location", "")
            response.close()
            raise kube_errors.refusal(
                int(response.status), data, f"GET {path}", self.access, location=location
            )
        if wire := getattr(response.connection, "wire", None):
            wire.settimeout(silence)
        return response

    def headers(self, ctx: Context) -> HTTPHeaderDict:
        """What every request carries: who we are, and which run and token it comes from."""
        from urllib3 import HTTPHeaderDict

        headers = HTTPHeaderDict({"Accept": JSON, "User-Agent": MANAGER, **ctx.identity()})
        if authorization := self.access.authorization(ctx):
            if not (authorization.isprintable() and authorization.isascii()):
                raise Refused(
                    "the credentials hold characters that cannot stand in a header",
                    hint=f"they come from {self.access.source}; is there a line break in a token?",
                )
            headers["Authorization"] = authorization
        for name, value in self.access.impersonation:
            headers.add(name, value)
        return headers


class Subject(NamedTuple):
    """One object, or all of a kind in a namespace if it has no name."""

    cluster: Cluster
    kind: Kind
    namespace: str
    name: str

    @property
    def label(self) -> str:
        """``deployment/claude-enhancer-blue``."""
        return self.kind.label(self.name)


def subject(
    ctx: Context,
    kind: str,
    name: str,
    namespace: str | None,
    api_version: str | None = None,
) -> Subject:
    """What a step names; without a namespace it is in the inventory's."""
    client = cluster(ctx)
    return Subject(client, client.kind(ctx, kind, api_version), namespace or client.namespace, name)


def cluster(ctx: Context) -> Cluster:
    """The run's cluster: one client, made at first use."""
    if ctx.mode == "simulate":
        from modules._kube.simulated import SimulatedCluster

        return ctx.cached("kubernetes", lambda: SimulatedCluster(ctx))
    return ctx.cached("kubernetes", lambda: Cluster(kube_config.access(ctx)), Cluster.close)


def _list(body: Any, request: str) -> Object:
    """The list of an answer; Failed when it is something else."""
    items = _object(body, request)
    if isinstance(items.get("items", ()), list | None):
        return items
    raise _something_else(body, request)


def _object(body: Any, request: str) -> Object:
    """The object of an answer; Failed when it is something else.

    What stands between us and the API server may answer with a success of its own.
    """
    if isinstance(body, dict) and ("kind" in body or isinstance(body.get("metadata"), dict)):
        return body
    raise _something_else(body, request)


def _something_else(body: Any, request: str) -> Failed:
    return Failed(
        "the answer is not the object that was asked for: is there a proxy or a login page in "
        "between?",
        hint="`kubectl get --raw /version` with the same kubeconfig shows who answers",
        evidence=[f"{request} → {type(body).__name__ if body is not None else 'nothing'}"],
    )


def _decode(data: bytes, content_type: str, path: str) -> Any:
    if not data:
        return None
    try:
        return json.loads(data)
    except ValueError as error:
        shown = [] if kube_words.is_secret(path) else [data[:200].decode(errors="replace")]
        raise Failed(
            "the cluster's answer is not JSON: is there a proxy or a login page in between?",
            evidence=[f"Content-Type: {content_type}", *shown],
        ) from error
