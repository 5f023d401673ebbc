"""The verbs of the API: list, watch, get, create, update, patch, delete, and the subresources."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from aiohttp import web

from engine.lab.cluster.api.access import Access
from engine.lab.cluster.api.exchange import Exchange
from engine.lab.cluster.api.query import (
    check_list_options,
    delete_options,
    read_token,
    write_token,
    wrong_version,
)
from engine.lab.cluster.api.streams import Streams
from engine.lab.cluster.api.table import partial, render
from engine.lab.cluster.api.usage import Metrics
from engine.lab.cluster.api.watch import Watches
from engine.production.cluster import doubled
from engine.production.cluster.api import APPLY_PATCH, Api
from engine.production.cluster.authorization import AccessRequest
from engine.production.cluster.decoding import clean_body, read_body
from engine.production.cluster.intake import WriteOptions
from engine.production.cluster.objects import refusals
from engine.production.cluster.objects.common import Obj, key_of
from engine.production.cluster.objects.refusals import (
    bad_request,
    method_not_allowed,
)
from engine.production.cluster.objects.resources import Resource, allows
from engine.production.cluster.objects.selectors import selects
from engine.production.cluster.objects.store import Expired
from engine.production.cluster.scale import scale_of, set_scale

_IMPLEMENTED = frozenset({"status", "scale", "log", "exec", "eviction", "finalize", "token"})


@dataclass(frozen=True)
class Target:
    """What a path names. `namespace` is None where all are meant; `name` "" for a collection."""

    resource: Resource
    version: str
    namespace: str | None
    name: str = ""
    subresource: str = ""

    @property
    def home(self) -> str:
        return self.namespace or ""


class Handlers:
    """Carries out requests that name a resource."""

    def __init__(
        self, api: Api, watches: Watches, streams: Streams, metrics: Metrics, access: Access
    ) -> None:
        self._api = api
        self._access = access
        self._watches = watches
        self._streams = streams
        self._metrics = metrics

    async def handle(self, exchange: Exchange, target: Target) -> web.StreamResponse:
        if target.resource.group == "metrics.k8s.io":
            return self._usage(exchange, target)
        if target.subresource:
            return await self._part(exchange, target)
        verb = exchange.request.method
        if target.name:
            handler = {
                "GET": self._get,
                "HEAD": self._get,
                "PUT": self._replace,
                "PATCH": self._patch,
                "DELETE": self._delete,
            }.get(verb)
        else:
            handler = {
                "GET": self._list,
                "HEAD": self._list,
                "POST": self._create,
                "DELETE": self._delete_collection,
            }.get(verb)
        if handler is None:
            raise method_not_allowed()
        return await handler(exchange, target)

    # -- reading -------------------------------------------------------------------------

    async def _get(self, exchange: Exchange, target: Target) -> web.StreamResponse:
        if exchange.flag("watch"):
            return await self._list(exchange, target)
        self._check_version(exchange, target)
        obj = self._api.get(target.resource, target.home, target.name)
        return exchange.object(target.resource, target.resource.present(obj, target.version))

    def _selected(self, exchange: Exchange, target: Target) -> Callable[[Obj], bool]:
        labels = exchange.query.get("labelSelector", "")
        fields = exchange.query.get("fieldSelector", "")
        if target.name:
            fields = ",".join(filter(None, (fields, f"metadata.name={target.name}")))
        return selects(labels, fields, target.resource.storage)

    async def _list(self, exchange: Exchange, target: Target) -> web.StreamResponse:
        if "list" not in target.resource.verbs:
            raise method_not_allowed()
        check_list_options(exchange)
        selected = self._selected(exchange, target)
        resource, version = target.resource, target.version
        if exchange.flag("watch"):
            return await self._watches.serve(
                exchange, resource, version, target.namespace, selected
            )
        self._check_version(exchange, target)
        items = [
            obj
            for obj in self._api.store.items(resource.storage, target.namespace)
            if selected(obj)
        ]
        items, metadata = self._page(exchange, target, items)
        return exchange.json(self._rendered(exchange, target, items, metadata))

    def _check_version(self, exchange: Exchange, target: Target) -> None:
        """Only the present can be read. Raises ApiError for another version of the cluster.

        504 for one that is yet to come, 410 for exactly one that is past.
        """
        asked, current = exchange.query.get("resourceVersion", ""), self._api.store.version
        if not asked:
            return
        if not asked.isdigit():
            raise bad_request(f"invalid resource version: {wrong_version(asked)}")
        if int(asked) > current:
            raise refusals.too_large_version(int(asked), current)
        if exchange.query.get("resourceVersionMatch") == "Exact":
            try:
                changed = self._api.store.since(target.resource.storage, int(asked))
            except Expired:
                changed = None
            if changed != []:
                raise refusals.expired("The resourceVersion for the provided list is too old.")

    def _rendered(self, exchange: Exchange, target: Target, items: list[Obj], metadata: Obj) -> Obj:
        resource = target.resource
        shown = [resource.present(obj, target.version) for obj in items]
        if exchange.wants_table:
            return render(resource, shown, metadata, exchange.include)
        if exchange.wants_metadata:
            return {
                "kind": "PartialObjectMetadataList",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
                "items": [partial(obj) for obj in shown],
            }
        if not resource.custom:
            head = ("kind", "apiVersion")
            shown = [{n: v for n, v in obj.items() if n not in head} for obj in shown]
        return {
            "kind": resource.list_kind,
            "apiVersion": resource.api_version(target.version),
            "metadata": metadata,
            "items": shown,
        }

    def _page(self, exchange: Exchange, target: Target, items: list[Obj]) -> tuple[list[Obj], Obj]:
        """The part of a list that `limit` and `continue` ask for, and the list's metadata."""
        metadata: Obj = {"resourceVersion": str(self._api.store.version)}
        token = exchange.query.get("continue", "")
        if token:
            version, start = read_token(token)
            metadata["resourceVersion"] = str(version)
            self._check_token(target, version, start)
            items = [obj for obj in items if _path(target, obj) > start]
        limit = exchange.integer("limit") or 0
        if not 0 < limit < len(items):
            return items, metadata
        last = _path(target, items[limit - 1])
        metadata["continue"] = write_token(int(metadata["resourceVersion"]), last)
        if not exchange.query.get("labelSelector") and not exchange.query.get("fieldSelector"):
            metadata["remainingItemCount"] = len(items) - limit
        return items[:limit], metadata

    def _check_token(self, target: Target, version: int, last: str) -> None:
        """Refuse the rest of a list that is no longer remembered (410), with a way to go on."""
        try:
            self._api.store.since(target.resource.storage, version)
        except Expired:
            refusal = refusals.expired(
                "The provided continue parameter is too old to display a consistent list result. "
                "You can start a new list without the continue parameter, or use the continue "
                "token in this response to retrieve the remainder of the results. Continuing with "
                "the provided token results in an inconsistent list - objects that were created, "
                "modified, or deleted between the time the first chunk was returned and now may "
                "show up in the list."
            )
            token = write_token(self._api.store.version, last)
            refusal.body["metadata"] = {"continue": token}
            raise refusal from None

    # -- writing -------------------------------------------------------------------------

    async def _write_options(self, exchange: Exchange, *, apply: bool = False) -> WriteOptions:
        """How a write is meant, and what stands twice in its body."""
        options = exchange.options(apply=apply)
        if options.validation == "Ignore" or "protobuf" in exchange.content_type:
            return options
        return replace(options, doubled=doubled.complaints(await exchange.body()))

    async def _body(self, exchange: Exchange, kind: str) -> Any:
        return read_body(await exchange.body(), exchange.content_type, kind)

    async def _create(self, exchange: Exchange, target: Target) -> web.StreamResponse:
        resource = target.resource
        if "create" not in resource.verbs:
            raise method_not_allowed()
        if resource.group in ("authorization.k8s.io", "authentication.k8s.io"):
            return await self._review(exchange, target)
        body = await self._body(exchange, resource.kind)
        options = await self._write_options(exchange)
        created = self._api.create(resource, target.version, target.home, body, options)
        shown = resource.present(created, target.version)
        return exchange.object(resource, shown, 201, options)

    async def _review(self, exchange: Exchange, target: Target) -> web.StreamResponse:
        resource = target.resource
        body = await self._body(exchange, resource.kind)
        review = self._access.review(exchange.user, resource, target.version, target.home, body)
        return exchange.json(review, 201)

    async def _token(self, exchange: Exchange, target: Target) -> web.StreamResponse:
        """A token of a service account, as `kubectl create token` asks for."""
        self._api.get(target.resource, target.home, target.name)
        asked = await self._body(exchange, "TokenRequest")
        now = self._api.timeline.now()
        return exchange.json(self._access.issue(target.home, target.name, asked, now), 201)

    async def _replace(self, exchange: Exchange, target: Target) -> web.StreamResponse:
        resource = target.resource
        body = await self._body(exchange, resource.kind)
        options = await self._write_options(exchange)
        saved = self._api.replace(
            resource,
            target.version,
            target.home,
            target.name,
            body,
            options,
            target.subresource,
        )
        return exchange.object(resource, resource.present(saved, target.version), options=options)

    async def _patch(self, exchange: Exchange, target: Target) -> web.StreamResponse:
        resource = target.resource
        body = await exchange.body()
        applied = exchange.content_type == APPLY_PATCH
        if applied and self._api.store.get(resource.storage, target.home, target.name) is None:
            create = AccessRequest(
                "create", resource.group, resource.plural, "", target.home, target.name
            )
            self._access.check(exchange.user, create)
        options = await self._write_options(exchange, apply=applied)
        saved, created = self._api.patch(
            resource,
            target.version,
            target.home,
            target.name,
            exchange.content_type,
            body,
            options,
            target.subresource,
        )
        shown = resource.present(saved, target.version)
        return exchange.object(resource, shown, 201 if created else 200, options)

    async def _delete(self, exchange: Exchange, target: Target) -> web.StreamResponse:
        wishes = await delete_options(exchange)
        answer = self._api.delete(target.resource, target.home, target.name, **wishes)
        if answer["kind"] == "Status":
            return exchange.json(answer)
        shown = target.resource.present(answer, target.version)
        return exchange.object(target.resource, shown)

    async def _delete_collection(self, exchange: Exchange, target: Target) -> web.StreamResponse:
        if "deletecollection" not in target.resource.verbs:
            raise method_not_allowed()
        wishes = await delete_options(exchange)
        selected = self._selected(exchange, target)
        items = self._api.store.items(target.resource.storage, target.namespace)
        doomed = [obj for obj in items if selected(obj)]
        for obj in doomed:
            self._api.delete(target.resource, *key_of(obj), **wishes)
        metadata = {"resourceVersion": str(self._api.store.version)}
        return exchange.json(self._rendered(exchange, target, doomed, metadata))

    # -- subresources --------------------------------------------------------------------

    async def _part(self, exchange: Exchange, target: Target) -> web.StreamResponse:
        resource, part = target.resource, target.subresource
        verb = {"GET": "get", "PUT": "update", "PATCH": "patch", "POST": "create"}.get(
            exchange.request.method, ""
        )
        if part not in resource.subresources:
            raise refusals.unknown_resource()
        if part not in _IMPLEMENTED or not allows(part, verb, resource.plural):
            raise method_not_allowed()
        if part == "log":
            return await self._streams.logs(exchange, target.home, target.name)
        if part == "exec":
            return await self._streams.exec(exchange, target.home, target.name)
        if part == "token":
            return await self._token(exchange, target)
        if part == "scale":
            return await self._scale(exchange, target)
        if part == "eviction":
            return await self._evict(exchange, target)
        handler = {"get": self._get, "patch": self._patch}.get(verb, self._replace)
        return await handler(exchange, target)

    async def _scale(self, exchange: Exchange, target: Target) -> web.StreamResponse:
        live = self._api.get(target.resource, target.home, target.name)
        if exchange.request.method == "GET":
            return exchange.json(scale_of(target.resource, live))
        body = await exchange.body()
        apply = exchange.content_type == APPLY_PATCH
        changed = set_scale(
            self._api,
            target.resource,
            live,
            body,
            exchange.content_type,
            exchange.options(apply=apply),
            patch=exchange.request.method == "PATCH",
        )
        return exchange.json(scale_of(target.resource, changed))

    async def _evict(self, exchange: Exchange, target: Target) -> web.StreamResponse:
        body = clean_body("Eviction", "v1", await self._body(exchange, "Eviction"))
        wishes = body.get("deleteOptions", {})
        grace = wishes.get("gracePeriodSeconds")
        self._api.delete(target.resource, target.home, target.name, grace_seconds=grace)
        success = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Success",
            "code": 201,
        }
        return exchange.json(success, 201)

    # -- metrics -------------------------------------------------------------------------

    def _usage(self, exchange: Exchange, target: Target) -> web.StreamResponse:
        resource = target.resource
        if exchange.request.method != "GET" or target.subresource:
            raise method_not_allowed()
        nodes = resource.plural == "nodes"
        figures = self._metrics.nodes() if nodes else self._metrics.pods(target.namespace)
        if target.name:
            for each in figures:
                if each["metadata"]["name"] == target.name:
                    return exchange.json(each)
            raise refusals.not_found(resource.plural, resource.group, target.name)
        selected = self._selected(exchange, target)
        items = [each for each in figures if selected(each)]
        return exchange.json(self._rendered(exchange, target, items, {}))


def _path(target: Target, obj: Obj) -> str:
    """Where an object stands in a list; continue tokens name such places."""
    namespace, name = key_of(obj)
    return f"{namespace}/{name}" if target.namespace is None and namespace else name
