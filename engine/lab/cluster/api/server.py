"""The API server: HTTP over TLS, authentication, discovery, and the parts put together.

::

    client ──▶ server.py ──▶ handlers.py ──▶ api.py ──▶ store.py ──▶ watchers, subscribers
                                                           │
                                  dispatcher.py ◀──────────┘  (deployments, replicasets, ...)
                                        │
                                     pods.py ──▶ the lab's node

From api.py on it is `engine.production.cluster`. All of it runs in one event loop, without locks.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from aiohttp import web

from engine.lab.cluster.api import openapi
from engine.lab.cluster.api.access import Access, document_request, request_of
from engine.lab.cluster.api.certs import kubeconfig, make_certificates, write_private
from engine.lab.cluster.api.exchange import Exchange
from engine.lab.cluster.api.handlers import Handlers, Target
from engine.lab.cluster.api.requestlog import RequestLog
from engine.lab.cluster.api.streams import Streams
from engine.lab.cluster.api.usage import Metrics
from engine.lab.cluster.api.watch import Watches
from engine.lab.cluster.loop_time import LoopTimeline
from engine.lab.cluster.node.runtime import AsyncPods, NodeRuntime
from engine.production.cluster.cluster import Cluster
from engine.production.cluster.identities import Identities
from engine.production.cluster.objects import cautions, refusals
from engine.production.cluster.objects.common import Obj
from engine.production.cluster.objects.refusals import ApiError, NoSuchPath

_log = logging.getLogger(__name__)

_VERSION = {
    "major": "1",
    "minor": "36",
    "emulationMajor": "1",
    "emulationMinor": "36",
    "minCompatibilityMajor": "1",
    "minCompatibilityMinor": "35",
    "gitCommit": "$Format:%H$",
    "gitTreeState": "",
    "buildDate": "1970-01-01T00:00:00Z",
    "goVersion": "go1.27.3",
    "compiler": "gc",
    "platform": "linux/amd64",
}
_STREAMS = frozenset({"log", "exec"})
"""What answers in formats of its own."""
_HEALTH = frozenset({"healthz", "livez", "readyz"})


class ServerSettings(NamedTuple):
    """What an API server is like."""

    host: str = "127.0.0.1"
    port: int = 0
    """Where to listen; 0 takes a free one."""
    pace: float = 1.0
    """Divides the cluster's delays (back-off, progress deadlines, minReadySeconds, preStop
    sleeps). Grace periods are left alone: processes need real time to end."""
    nodes: Sequence[str] = ("node-1",)
    """Their names."""
    istio: bool = True
    """Whether VirtualService and DestinationRule are there from the start."""
    metrics: bool = True
    """Whether metrics.k8s.io is served; can be switched later by `serve_metrics`."""
    namespace: str = "default"
    """The kubeconfig's default one."""
    context: str = "lab"
    token: str = ""
    """What the kubeconfig's user shows; empty: a random one."""
    request_log: Path | None = None
    """A JSONL file to which every request is appended."""
    git_version: str = "v1.36.0"
    """The build that /version names; kubectl wants it to be a semantic version."""
    history: int = 1000
    """How many changes per resource a watch can go back."""
    clean_up: float = 0.0
    """Seconds that a node takes to clear away a pod whose processes have ended."""


class KubeServer(Cluster):
    """A Kubernetes API server with its controllers, for one event loop."""

    def __init__(self, runtime: NodeRuntime, directory: Path, settings: ServerSettings) -> None:
        """`runtime` runs the pods; into `directory` certificate, key and kubeconfig are written
        (mode 0600)."""
        self._pods_work = AsyncPods(runtime)
        super().__init__(
            self._pods_work,
            LoopTimeline(settings.pace),
            # Not a shared generator: whoever seeds that one would get the same names again.
            Identities(random.SystemRandom()),
            namespace=settings.namespace,
            history=settings.history,
            clean_up=settings.clean_up,
        )
        self.token = settings.token or secrets.token_urlsafe(24)
        self.access = Access(self.store, self.token)
        self.requests = RequestLog(settings.request_log)
        self._directory = directory
        self._host = settings.host
        self._port = settings.port
        self._nodes = tuple(settings.nodes)
        self._istio = settings.istio
        self._context = settings.context
        self._version = {**_VERSION, "gitVersion": settings.git_version}
        self._watches = Watches(self.store)
        self._streams = Streams(self.api, runtime)
        self._handlers = Handlers(
            self.api, self._watches, self._streams, Metrics(self.api, runtime), self.access
        )
        self._runner: web.ServerRunner | None = None
        self.serve_metrics(settings.metrics)

    # -- life ----------------------------------------------------------------------------

    @property
    def port(self) -> int:
        return self._port

    @property
    def url(self) -> str:
        return f"https://{self._host}:{self._port}"

    @property
    def kubeconfig_path(self) -> Path:
        return self._directory / "kubeconfig"

    async def start(self) -> None:
        """Begin to listen. When it returns, the kubeconfig is written and requests are served."""
        self._directory.mkdir(parents=True, exist_ok=True)
        certificates = make_certificates(self._directory, self._host)
        self.requests.open()
        self.begin(self._nodes, istio=self._istio)
        server = web.Server(self._serve, handler_cancellation=True)
        self._runner = web.ServerRunner(server, shutdown_timeout=1.0, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(
            self._runner, self._host, self._port, ssl_context=certificates.server_context()
        )
        await site.start()
        self._port = self._runner.addresses[0][1]
        config = kubeconfig(
            self.url, certificates.authority, self.token, self._context, self._namespace
        )
        write_private(self.kubeconfig_path, config)

    async def stop(self) -> None:
        """Stop listening, end all watches, and stop all pods."""
        running = self.end()
        self._watches.close()
        self._streams.close()
        if self._runner is not None:
            await _close(self._runner)
            self._runner = None
        await self._pods_work.end(running)
        self.requests.close()

    async def settled(self) -> None:
        """Wait until no controller has anything to do at once."""
        idle: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.controllers.when_idle(lambda: None if idle.done() else idle.set_result(None))
        await idle

    # -- HTTP ----------------------------------------------------------------------------

    async def _serve(self, request: web.BaseRequest) -> web.StreamResponse:
        exchange = Exchange(request, self.requests)
        try:
            response = await self._answer(exchange)
        except ApiError as error:
            seconds = error.body.get("details", {}).get("retryAfterSeconds")
            headers = {"Retry-After": str(seconds)} if seconds else None
            response = exchange.json(error.body, error.code, headers)
        except NoSuchPath:
            response = web.Response(
                text="404 page not found\n", status=404, content_type="text/plain", charset="utf-8"
            )
        except RecursionError:
            refusal = refusals.bad_request("the object provided is nested too deeply")
            response = exchange.json(refusal.body, refusal.code)
        except ConnectionError:
            raise
        except Exception:
            _log.exception("%s %s", request.method, request.path)
            message = "Internal error occurred: the server has a defect; see its log"
            body = refusals.failure(500, "InternalError", message)
            response = exchange.json(body, 500)
        exchange.record(response.status)
        return response

    async def _answer(self, exchange: Exchange) -> web.StreamResponse:
        path = exchange.request.path
        parts = [part for part in path.split("/") if part]
        if parts and parts[0] in _HEALTH:
            return web.Response(text="ok")
        exchange.user = self.access.who(exchange.request)
        if parts[:1] == ["api"] and len(parts) > 2 and parts[1] == "v1":
            return await self._resource_request(exchange, "", "v1", parts[2:])
        if parts[:1] == ["apis"] and len(parts) > 3:
            return await self._resource_request(exchange, parts[1], parts[2], parts[3:])
        if exchange.request.method not in ("GET", "HEAD"):
            raise NoSuchPath
        self.access.check(exchange.user, document_request(parts))
        if parts == ["openapi", "v2"] and "protobuf" in exchange.request.headers.get("Accept", ""):
            return web.Response(
                body=openapi.swagger_protobuf(), content_type=openapi.SWAGGER_PROTOBUF
            )
        return exchange.json(self._document(parts))

    def _document(self, parts: Sequence[str]) -> Obj:
        """Discovery and other documents about the server itself."""
        catalog = self.catalog
        match list(parts):
            case ["version"]:
                return dict(self._version)
            case ["api"]:
                return self._api_versions()
            case ["api", "v1"]:
                return catalog.resources("", "v1")
            case ["apis"]:
                return catalog.groups()
            case ["apis", group] if (found_group := catalog.group(group)) is not None:
                return found_group
            case ["apis", group, version] if group and catalog.serves(group, version):
                return catalog.resources(group, version)
            case ["openapi", "v2"]:
                return openapi.swagger()
            case ["openapi", "v3"]:
                return openapi.index(catalog)
            case ["openapi", "v3", *rest]:
                document = openapi.document(catalog, "/".join(rest))
                if document is not None:
                    return document
            case []:
                return {"paths": ["/api", "/api/v1", "/apis", "/healthz", "/version"]}
        raise NoSuchPath

    def _api_versions(self) -> Obj:
        address = {"clientCIDR": "0.0.0.0/0", "serverAddress": f"{self._host}:{self._port}"}
        return {
            "kind": "APIVersions",
            "versions": ["v1"],
            "serverAddressByClientCIDRs": [address],
        }

    async def _resource_request(
        self, exchange: Exchange, group: str, version: str, parts: Sequence[str]
    ) -> web.StreamResponse:
        if not self.catalog.serves(group, version):
            if self.catalog.group(group) is not None:
                raise refusals.unknown_resource()
            raise NoSuchPath
        target = self._target(group, version, parts)
        resource, part = target.resource, target.subresource
        request = request_of(
            exchange.request.method,
            resource,
            target.home,
            target.name,
            part,
            watch=exchange.flag("watch"),
        )
        self.access.check(exchange.user, request)
        if part == "exec":
            self.access.check(exchange.user, replace(request, verb="create"))
        if part not in _STREAMS:
            exchange.negotiate()
        exchange.warnings += cautions.of_version(resource.storage, version)
        return await self._handlers.handle(exchange, target)

    def _target(self, group: str, version: str, parts: Sequence[str]) -> Target:
        namespace: str | None = None
        of_namespace = len(parts) >= 3 and parts[2] not in ("status", "finalize")
        if parts[0] == "namespaces" and of_namespace:
            namespace, parts = parts[1], parts[2:]
        resource = self.catalog.at(group, version, parts[0])
        if resource is None or len(parts) > 3 or (namespace and not resource.namespaced):
            raise refusals.unknown_resource()
        name = parts[1] if len(parts) > 1 else ""
        if name and resource.namespaced and namespace is None:
            raise refusals.unknown_resource()
        return Target(resource, version, namespace, name, parts[2] if len(parts) > 2 else "")


async def _close(runner: web.ServerRunner) -> None:
    """End the server. Idle clients are cut off: a TLS farewell would wait for them."""
    server = runner.server
    assert server is not None
    transports = [connection.transport for connection in server.connections]
    await runner.cleanup()
    for transport in transports:
        if transport is not None:
            transport.abort()
    # The event loop closes the sockets behind aborted transports in its next turns.
    for _ in range(3):
        await asyncio.sleep(0)
