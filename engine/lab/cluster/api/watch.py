"""Watches: a stream of what changes, from now or from a version on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec
from aiohttp import web

from engine.lab.clock import CLOCK
from engine.lab.cluster.api.exchange import Exchange
from engine.lab.cluster.api.query import wrong_version
from engine.production.cluster.objects.common import Obj
from engine.production.cluster.objects.refusals import ApiError, expired
from engine.production.cluster.objects.resources import Resource
from engine.production.cluster.objects.store import Change, Expired, ObjectStore

_DEFAULT_SECONDS = 1800
_BOOKMARK_EVERY = 60.0
_INITIAL_END = "k8s.io/initial-events-end"


class Watches:
    """All watches that are open, so that they end when the server does."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._open: set[asyncio.Queue[Change | None]] = set()

    def close(self) -> None:
        """End every watch, as a server does that shuts down."""
        for queue in self._open:
            queue.put_nowait(None)

    async def serve(
        self,
        exchange: Exchange,
        resource: Resource,
        version: str,
        namespace: str | None,
        selected: Callable[[Obj], bool],
    ) -> web.StreamResponse:
        """Stream until the client leaves, the time is up, or the server ends."""
        queue: asyncio.Queue[Change | None] = asyncio.Queue()

        def notice(change: Change) -> None:
            if change.resource == resource.storage:
                queue.put_nowait(change)

        stream = _Stream(exchange, resource, version, namespace, selected)
        seconds = exchange.integer("timeoutSeconds")
        initial, error = self._initial(exchange, resource, stream)
        unsubscribe = self._store.subscribe(notice)
        self._open.add(queue)
        try:
            await stream.begin()
            for event in initial:
                await stream.send(event)
            if error is None:
                await self._follow(exchange, queue, stream, seconds)
            await stream.response.write_eof()
        finally:
            unsubscribe()
            self._open.discard(queue)
        return stream.response

    def _initial(
        self, exchange: Exchange, resource: Resource, stream: _Stream
    ) -> tuple[list[Obj], Expired | None]:
        """The events that the client has missed, by the version that it names."""
        text = exchange.query.get("resourceVersion", "")
        everything = exchange.flag("sendInitialEvents")
        if text in ("", "0") or everything:
            current = self._store.items(resource.storage, stream.namespace)
            events = [stream.event("ADDED", obj) for obj in current if stream.selected(obj)]
            if everything:
                events.append(self._bookmark(stream, {_INITIAL_END: "true"}))
            return events, None
        if not text.isdigit():
            # Not a mistake of the client's, says a real server.
            raise ApiError(500, "", wrong_version(text))
        try:
            changes = self._store.since(resource.storage, int(text))
        except Expired as error:
            return [{"type": "ERROR", "object": expired(str(error)).body}], error
        return [event for change in changes if (event := stream.event_of(change))], None

    async def _follow(
        self,
        exchange: Exchange,
        queue: asyncio.Queue[Change | None],
        stream: _Stream,
        seconds: int | None,
    ) -> None:
        end = CLOCK.monotonic() + (_DEFAULT_SECONDS if seconds is None else seconds)
        while (left := end - CLOCK.monotonic()) > 0:
            try:
                change = await asyncio.wait_for(queue.get(), min(left, _BOOKMARK_EVERY))
            except TimeoutError:
                if exchange.flag("allowWatchBookmarks"):
                    await stream.send(self._bookmark(stream))
                continue
            if change is None:
                return
            event = stream.event_of(change)
            if event is not None:
                await stream.send(event)

    def _bookmark(self, stream: _Stream, annotations: dict[str, str] | None = None) -> Obj:
        resource = stream.resource
        metadata: Obj = {"resourceVersion": str(self._store.version), "creationTimestamp": None}
        if annotations:
            metadata["annotations"] = annotations
        return {
            "type": "BOOKMARK",
            "object": {
                "kind": resource.kind,
                "apiVersion": resource.api_version(stream.version),
                "metadata": metadata,
            },
        }


class _Stream:
    """One client's side of a watch."""

    def __init__(
        self,
        exchange: Exchange,
        resource: Resource,
        version: str,
        namespace: str | None,
        selected: Callable[[Obj], bool],
    ) -> None:
        self.resource = resource
        self.version = version
        self.namespace = namespace
        self.selected = selected
        self.response = web.StreamResponse(
            headers={"Content-Type": "application/json", **exchange.headers()}
        )
        self._exchange = exchange
        self._head = True

    async def begin(self) -> None:
        self.response.enable_chunked_encoding()
        await self.response.prepare(self._exchange.request)
        self._exchange.record(200)

    async def send(self, event: Obj) -> None:
        await self.response.write(msgspec.json.encode(event) + b"\n")

    def event(self, kind: str, obj: Obj) -> Obj:
        presented = self.resource.present(obj, self.version)
        shown = self._exchange.shown(self.resource, presented, head=self._head)
        self._head = False
        return {"type": kind, "object": shown}

    def event_of(self, change: Change) -> Obj | None:
        """A change as this client sees it: what leaves its selection is deleted to it."""
        metadata = change.object["metadata"]
        if self.namespace is not None and metadata.get("namespace", "") != self.namespace:
            return None
        before = change.previous is not None and self.selected(change.previous)
        after = change.type != "DELETED" and self.selected(change.object)
        if not before and not after:
            return None
        kind = "MODIFIED" if before and after else "ADDED" if after else "DELETED"
        return self.event(kind, change.object)
