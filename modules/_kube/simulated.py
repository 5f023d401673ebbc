"""The cluster of a simulated world: the same client, with nothing between it and the API.

Requests and answers are those of a server, refusals included, so that everything above, down to
what a wait watches for, is the code that works in production.
"""

from __future__ import annotations

import json
from collections.abc import Mapping

from engine.module_api import Context
from modules._kube import errors as kube_errors
from modules._kube.api import Answer, Cluster
from modules._kube.config import Access
from modules._kube.kinds import Kind
from modules._kube.transport import JSON
from modules._kube.watch import Selection, View

_LATENCY = 0.02
"""Seconds that one answer takes."""


class SimulatedCluster(Cluster):
    """The simulated world's cluster; one for a run."""

    def __init__(self, ctx: Context) -> None:
        self.access = Access(
            server="https://kubernetes.simulated",
            namespace=str(ctx.connection("kubectl").get("namespace") or "default"),
            authorization=lambda ctx: "",
            tls=None,
            server_name=None,
            proxy=None,
            timeout=30.0,
            source="the simulated world",
        )
        self.namespace = self.access.namespace
        self.answered = True
        self._discovered: dict[tuple[str, str | None], Kind] = {}

    def close(self) -> None:
        """There is nothing to close."""

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
        """One request and its answer; an answer that is no success is raised as an error."""
        status, data = self._ask_world(ctx, method, path, query or {}, body, content)
        return Answer(status, json.loads(data) if data else None)

    def text(self, ctx: Context, path: str, query: Mapping[str, str]) -> str:
        """GET something that is not JSON, such as a log."""
        return self._ask_world(ctx, "GET", path, query, None, JSON)[1].decode()

    def _ask_world(
        self,
        ctx: Context,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: object,
        content: str,
    ) -> tuple[int, bytes]:
        data = b"" if body is None else json.dumps(body, ensure_ascii=False).encode()
        ctx.sleep(_LATENCY)
        with ctx.fence():
            status, answer = ctx.world.kubernetes.answer(method, path, query, data, content)
        if not kube_errors.succeeded(status):
            raise kube_errors.refusal(status, answer, f"{method} {path}", self.access, body=body)
        return status, answer


class SimulatedView(View):
    """Objects of the simulated cluster, as they are whenever somebody looks."""

    def __init__(self, ctx: Context, cluster: Cluster, selections: Mapping[str, Selection]) -> None:
        super().__init__(ctx, cluster, selections)
        self._seen = -1

    def __enter__(self) -> View:
        self._look()
        return self

    def add(self, source: str, selection: Selection) -> None:
        """Follow one more selection."""
        self._selections[source] = selection
        self._look()

    def wait(self, at_most: float | None = None) -> bool:
        """Wait for a change in the cluster; whether there was any."""
        kubernetes = self._ctx.world.kubernetes
        changed = self._ctx.world.until(
            self._ctx, lambda: kubernetes.version != self._seen, at_most
        )
        self._look()
        return changed

    def _look(self) -> None:
        self._seen = self._ctx.world.kubernetes.version
        for source in self._selections:
            self._list(source)
