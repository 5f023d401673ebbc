"""The simulated cluster's front door: requests and answers as an API server has them, without HTTP.

Clients ask with method, path, query and body and get a status and a body, so that their own code,
down to how they read a refusal, is what is rehearsed. What is answered comes from the same API as
in the lab (`engine.production.cluster.api`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import msgspec

from engine.errors import Unreachable
from engine.production.cluster.api import APPLY_PATCH
from engine.production.cluster.cluster import Cluster
from engine.production.cluster.decoding import clean_body, read_body
from engine.production.cluster.intake import WriteOptions
from engine.production.cluster.objects import refusals
from engine.production.cluster.objects.common import Obj, labels_of
from engine.production.cluster.objects.refusals import ApiError, method_not_allowed
from engine.production.cluster.objects.resources import Resource
from engine.production.cluster.objects.selectors import selects
from engine.production.cluster.runtime import Usage
from engine.production.cluster.scale import scale_of, set_scale

_encode = msgspec.json.encode

Logs = Callable[[Obj], str]
"""What a pod has logged."""


class Request(NamedTuple):
    """A request to the API server."""

    method: str
    path: str
    query: Mapping[str, str]
    body: bytes = b""
    content: str = "application/json"


class Response(NamedTuple):
    """Its answer; `body` is JSON, or text for logs."""

    status: int
    body: bytes


class _Target(NamedTuple):
    """What a path names."""

    resource: Resource
    version: str
    namespace: str | None
    name: str
    part: str

    @property
    def home(self) -> str:
        return self.namespace or ""


class Kubernetes:
    """The API of one simulated cluster.

    Args:
        cluster: whose objects they are.
        usage: what a pod uses now, by its uid.
        logs: what a pod has logged.
    """

    def __init__(self, cluster: Cluster, usage: Callable[[str], Usage], logs: Logs) -> None:
        self.cluster = cluster
        self.reachable = True
        self._api = cluster.api
        self._usage = usage
        self._logs = logs

    @property
    def version(self) -> int:
        """Grows with every change of any object."""
        return int(self._api.store.version)

    def answer(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: bytes = b"",
        content: str = "application/json",
    ) -> Response:
        """Carry a request out; a refusal is an answer, too. Raises Unreachable without one."""
        if not self.reachable:
            raise Unreachable(
                f"{method} {path}: the API server does not answer",
                hint="is the cluster up, and the network to it?",
            )
        try:
            return self._answer(Request(method, path, query, body, content))
        except ApiError as error:
            return Response(error.code, _encode(error.body))

    # -- finding out what is meant ---------------------------------------------------------------
    def _answer(self, request: Request) -> Response:
        parts = [part for part in request.path.split("/") if part]
        if parts[:1] == ["api"] and len(parts) > 2:
            target = self._target("", parts[1], parts[2:])
        elif parts[:1] == ["apis"] and len(parts) > 3:
            target = self._target(parts[1], parts[2], parts[3:])
        else:
            return self._discovery(parts)
        if target.resource.group == "metrics.k8s.io":
            return self._metrics(request, target)
        if target.part:
            return self._part(request, target)
        verbs = _OF_OBJECT if target.name else _OF_COLLECTION
        handler = verbs.get(request.method)
        if handler is None:
            raise method_not_allowed()
        return handler(self, request, target)

    def _target(self, group: str, version: str, parts: Sequence[str]) -> _Target:
        namespace: str | None = None
        if parts[0] == "namespaces" and len(parts) >= 3 and parts[2] not in ("status", "finalize"):
            namespace, parts = parts[1], parts[2:]
        resource = self.cluster.catalog.at(group, version, parts[0])
        if resource is None:
            raise refusals.unknown_resource()
        name = parts[1] if len(parts) > 1 else ""
        return _Target(resource, version, namespace, name, parts[2] if len(parts) > 2 else "")

    def _discovery(self, parts: list[str]) -> Response:
        """Groups, and the kinds of a group's version."""
        catalog = self.cluster.catalog
        if parts == ["version"]:
            return Response(200, _encode({"major": "1", "minor": "36", "gitVersion": "v1.36.0"}))
        if parts == ["apis"]:
            groups: dict[str, list[str]] = {}
            for each in catalog:
                if each.group:
                    groups.setdefault(each.group, []).extend(each.versions)
            listed = [_group(name, list(dict.fromkeys(found))) for name, found in groups.items()]
            return Response(200, _encode({"kind": "APIGroupList", "groups": listed}))
        group, version = ("", parts[1]) if parts[0] == "api" else (parts[1], parts[-1])
        kinds = [
            entry
            for each in catalog
            if each.group == group and version in each.versions
            for entry in each.discovery(version)
        ]
        if not kinds:
            raise refusals.unknown_resource()
        head = f"{group}/{version}" if group else version
        listing = {"kind": "APIResourceList", "groupVersion": head, "resources": kinds}
        return Response(200, _encode(listing))

    # -- reading ---------------------------------------------------------------------------------
    def _get(self, request: Request, target: _Target) -> Response:
        found = self._api.get(target.resource, target.home, target.name)
        return Response(200, _encode(target.resource.present(found, target.version)))

    def _list(self, request: Request, target: _Target) -> Response:
        items = self._selected(request, target)
        metadata = {"resourceVersion": str(self.version)}
        shown = [target.resource.present(obj, target.version) for obj in items]
        return Response(200, _encode(_listed(target, shown, metadata)))

    def _selected(self, request: Request, target: _Target) -> list[Obj]:
        selected = selects(
            request.query.get("labelSelector", ""),
            request.query.get("fieldSelector", ""),
            target.resource.storage,
        )
        items = self._api.store.items(target.resource.storage, target.namespace)
        return [obj for obj in items if selected(obj)]

    # -- writing ---------------------------------------------------------------------------------
    def _create(self, request: Request, target: _Target) -> Response:
        body = read_body(request.body, request.content, target.resource.kind)
        created = self._api.create(
            target.resource, target.version, target.home, body, _options(request)
        )
        return Response(201, _encode(target.resource.present(created, target.version)))

    def _replace(self, request: Request, target: _Target) -> Response:
        body = read_body(request.body, request.content, target.resource.kind)
        saved = self._api.replace(
            target.resource, target.version, target.home, target.name, body,
            _options(request), target.part,
        )  # fmt: skip
        return Response(200, _encode(target.resource.present(saved, target.version)))

    def _patch(self, request: Request, target: _Target) -> Response:
        saved, created = self._api.patch(
            target.resource, target.version, target.home, target.name,
            request.content, request.body, _options(request), target.part,
        )  # fmt: skip
        shown = target.resource.present(saved, target.version)
        return Response(201 if created else 200, _encode(shown))

    def _delete(self, request: Request, target: _Target) -> Response:
        wishes: Obj = {}
        if request.body:
            body = read_body(request.body, request.content, "DeleteOptions")
            wishes = clean_body("DeleteOptions", "v1", body)
        dry_run = bool(wishes.get("dryRun")) or request.query.get("dryRun") == "All"
        answer = self._api.delete(
            target.resource,
            target.home,
            target.name,
            grace_seconds=wishes.get("gracePeriodSeconds"),
            propagation=wishes.get("propagationPolicy") or "Background",
            preconditions=wishes.get("preconditions"),
            dry_run=dry_run,
        )
        return Response(200, _encode(answer))

    # -- parts of objects ------------------------------------------------------------------------
    def _part(self, request: Request, target: _Target) -> Response:
        if target.part not in target.resource.subresources:
            raise refusals.unknown_resource()
        if target.part == "log":
            pod = self._api.get(target.resource, target.home, target.name)
            return Response(200, self._logs(pod).encode())
        if target.part == "scale":
            return self._scale(request, target)
        handler = {"GET": Kubernetes._get, "PATCH": Kubernetes._patch, "PUT": Kubernetes._replace}
        if request.method not in handler or target.part == "exec":
            raise method_not_allowed()
        return handler[request.method](self, request, target)

    def _scale(self, request: Request, target: _Target) -> Response:
        live = self._api.get(target.resource, target.home, target.name)
        if request.method != "GET":
            live = set_scale(
                self._api, target.resource, live, request.body, request.content,
                _options(request), patch=request.method == "PATCH",
            )  # fmt: skip
        return Response(200, _encode(scale_of(target.resource, live)))

    def _metrics(self, request: Request, target: _Target) -> Response:
        """What pods or nodes use."""
        now = self._api.timestamp()
        pods = [
            pod
            for pod in self._api.store.items("pods", target.namespace)
            if pod["status"].get("phase") == "Running"
        ]
        if target.resource.plural == "nodes":
            shown = [_node_usage(node, pods, self._usage, now) for node in self._nodes()]
        else:
            shown = [_pod_usage(pod, self._usage(pod["metadata"]["uid"]), now) for pod in pods]
        chosen = selects(request.query.get("labelSelector", ""), "", target.resource.storage)
        shown = [each for each in shown if chosen(each)]
        return Response(200, _encode(_listed(target, shown, {})))

    def _nodes(self) -> list[Obj]:
        return list(self._api.store.items("nodes"))


_Handler = Callable[[Kubernetes, Request, _Target], Response]
_OF_OBJECT: dict[str, _Handler] = {
    "GET": Kubernetes._get,
    "PUT": Kubernetes._replace,
    "PATCH": Kubernetes._patch,
    "DELETE": Kubernetes._delete,
}
_OF_COLLECTION: dict[str, _Handler] = {"GET": Kubernetes._list, "POST": Kubernetes._create}


def _options(request: Request) -> WriteOptions:
    manager = request.query.get("fieldManager", "")
    if not manager and request.content != APPLY_PATCH:
        manager = "ce-run"
    return WriteOptions(
        manager,
        dry_run=request.query.get("dryRun") == "All",
        force=request.query.get("force") == "true",
        validation="Strict" if request.query.get("fieldValidation") == "Strict" else "Warn",
    )


def _listed(target: _Target, items: list[Obj], metadata: Obj) -> Obj:
    return {
        "kind": target.resource.list_kind,
        "apiVersion": target.resource.api_version(target.version),
        "metadata": metadata,
        "items": items,
    }


def _group(name: str, versions: list[str]) -> Obj:
    listed = [{"groupVersion": f"{name}/{each}", "version": each} for each in versions]
    return {"name": name, "versions": listed, "preferredVersion": listed[0]}


def _usage_head(kind: str, obj: Obj, now: str) -> Obj:
    metadata = {"name": obj["metadata"]["name"], "labels": labels_of(obj)}
    if "namespace" in obj["metadata"]:
        metadata["namespace"] = obj["metadata"]["namespace"]
    head = {"kind": kind, "apiVersion": "metrics.k8s.io/v1beta1", "metadata": metadata}
    return {**head, "timestamp": now, "window": "15s"}


def _pod_usage(pod: Obj, use: Usage, now: str) -> Obj:
    containers = [
        {"name": container["name"], "usage": _quantities(use if number == 0 else Usage(0, 0))}
        for number, container in enumerate(pod["spec"]["containers"])
    ]
    return {**_usage_head("PodMetrics", pod, now), "containers": containers}


def _node_usage(node: Obj, pods: list[Obj], usage: Callable[[str], Usage], now: str) -> Obj:
    here = [
        usage(pod["metadata"]["uid"])
        for pod in pods
        if pod["spec"].get("nodeName") == node["metadata"]["name"]
    ]
    total = Usage(sum(use.cpu for use in here), sum(use.memory for use in here))
    return {**_usage_head("NodeMetrics", node, now), "usage": _quantities(total)}


def _quantities(use: Usage) -> Obj:
    return {"cpu": f"{use.cpu}m", "memory": f"{use.memory // 1024}Ki"}
