"""The API server: HTTP over TLS, authentication, discovery, and the parts put together.

::

    client ──▶ server.py ──▶ handlers.py ──▶ api.py ──▶ store.py ──▶ watchers, subscribers
                                                           │
                                  dispatcher.py ◀──────────┘  (deployments, replicasets, ...)
                                        │
                                     pods.py ──▶ the lab's PodRuntime

All of it runs in one event loop and holds no locks.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Callable, Sequence
from hmac import compare_digest
from pathlib import Path

from aiohttp import web

from engine.lab.cluster.api import openapi
from engine.lab.cluster.api.api import Api
from engine.lab.cluster.api.bootstrap import found
from engine.lab.cluster.api.certs import kubeconfig, make_certificates, write_private
from engine.lab.cluster.api.definitions import DefinitionController
from engine.lab.cluster.api.exchange import Exchange
from engine.lab.cluster.api.handlers import Handlers, Target
from engine.lab.cluster.api.intake import Options
from engine.lab.cluster.api.requestlog import RequestLog
from engine.lab.cluster.api.resources import METRICS, Registry, Resource
from engine.lab.cluster.api.streams import Streams
from engine.lab.cluster.api.usage import Metrics
from engine.lab.cluster.api.watch import Watches
from engine.lab.cluster.controllers.deployments import DeploymentController
from engine.lab.cluster.controllers.dispatcher import Dispatcher
from engine.lab.cluster.controllers.endpoints import EndpointsController
from engine.lab.cluster.controllers.garbage import GarbageController, NamespaceController
from engine.lab.cluster.controllers.pods import Kubelet
from engine.lab.cluster.controllers.replicasets import ReplicaSetController
from engine.lab.cluster.controllers.scheduler import Scheduler
from engine.lab.cluster.node.runtime import PodRuntime
from engine.lab.cluster.objects import refusals
from engine.lab.cluster.objects.common import Obj, copy_json
from engine.lab.cluster.objects.refusals import ApiError, NoSuchPath
from engine.lab.cluster.objects.store import Change, Store

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
_HEALTH = frozenset({"healthz", "livez", "readyz"})


class KubeServer:
    """A Kubernetes API server with its controllers, for one event loop.

    Args:
        runtime: runs the pods.
        directory: where certificate, key and kubeconfig are written (mode 0600).
        host, port: where to listen; port 0 takes a free one.
        pace: divides the cluster's delays (back-off, progress deadlines, minReadySeconds, preStop
            sleeps). Grace periods are left alone: processes need real time to end.
        nodes: their names.
        istio: whether VirtualService and DestinationRule are there from the start.
        metrics: whether metrics.k8s.io is served; can be switched later by `serve_metrics`.
        namespace: the kubeconfig's default one.
        request_log: a JSONL file to which every request is appended.
        git_version: the build that /version names; kubectl wants it to be a semantic version.
        history: how many changes per resource a watch can go back.
    """

    def __init__(
        self,
        runtime: PodRuntime,
        directory: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        pace: float = 1.0,
        nodes: Sequence[str] = ("node-1",),
        istio: bool = True,
        metrics: bool = True,
        namespace: str = "default",
        context: str = "lab",
        token: str = "",
        request_log: Path | None = None,
        git_version: str = "v1.36.0",
        history: int = 1000,
    ) -> None:
        self.token = token or secrets.token_urlsafe(24)
        self.requests = RequestLog(request_log)
        self.registry = Registry()
        self.store = Store(history)
        self.api = Api(self.store, self.registry)
        self.controllers = Dispatcher(self.store, pace)
        self._runtime = runtime
        self._directory = directory
        self._host = host
        self._port = port
        self._nodes = tuple(nodes)
        self._istio = istio
        self._namespace = namespace
        self._context = context
        self._version = {**_VERSION, "gitVersion": git_version}
        self._kubelet = Kubelet(self.api, self.controllers, runtime)
        self._watches = Watches(self.store)
        self._streams = Streams(self.api, runtime)
        self._handlers = Handlers(
            self.api, self._watches, self._streams, Metrics(self.store, runtime)
        )
        self._runner: web.ServerRunner | None = None
        self.serve_metrics(metrics)

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
        self.controllers.start(
            [
                DefinitionController(self.api),
                DeploymentController(self.api, self.controllers),
                ReplicaSetController(self.api, self.controllers),
                EndpointsController(self.api),
                GarbageController(self.api),
                NamespaceController(self.api),
                Scheduler(self.api),
                self._kubelet,
            ]
        )
        found(self.api, self._nodes, istio=self._istio)
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
        self.controllers.stop()
        self._watches.close()
        self._streams.close()
        if self._runner is not None:
            await _close(self._runner)
            self._runner = None
        await self._kubelet.stop()
        self.requests.close()

    def serve_metrics(self, enabled: bool) -> None:
        """Serve metrics.k8s.io, or answer 404 as a cluster without a metrics server does."""
        if enabled:
            self.registry.add(*METRICS)
        else:
            self.registry.drop(*(resource.key for resource in METRICS))

    # -- the lab's own way in ------------------------------------------------------------

    def _resource(self, kind: str) -> Resource:
        """A resource by store key ("deployments.apps") or by kind ("Deployment")."""
        for resource in self.registry:
            if kind in (resource.key, resource.kind) and not resource.view:
                return resource
        raise KeyError(kind)

    def apply(self, obj: Obj, manager: str = "lab") -> Obj:
        """Server-side apply, forced, without HTTP. Raises ApiError."""
        resource = self.registry.for_kind(obj["apiVersion"], obj["kind"])
        if resource is None:
            raise refusals.unknown_resource()
        metadata = obj["metadata"]
        version = obj["apiVersion"].rpartition("/")[2]
        namespace = metadata.get("namespace", self._namespace) if resource.namespaced else ""
        options = Options(manager, force=True)
        applied, _ = self.api.apply(resource, version, namespace, metadata["name"], obj, options)
        return copy_json(applied)  # type: ignore[no-any-return]

    def get(self, kind: str, name: str, namespace: str | None = None) -> Obj | None:
        """A copy of an object, or None. `kind` is "Deployment" or "deployments.apps"."""
        resource = self._resource(kind)
        home = (self._namespace if namespace is None else namespace) if resource.namespaced else ""
        found_obj = self.store.get(resource.storage, home, name)
        return None if found_obj is None else copy_json(found_obj)

    def list(self, kind: str, namespace: str | None = None) -> list[Obj]:
        """Copies of all objects of a kind, in one namespace or in all."""
        return [copy_json(obj) for obj in self.store.items(self._resource(kind).storage, namespace)]

    def delete(self, kind: str, name: str, namespace: str | None = None) -> None:
        """Delete an object as a client would. Raises ApiError when it is not there."""
        resource = self._resource(kind)
        home = (self._namespace if namespace is None else namespace) if resource.namespaced else ""
        self.api.delete(resource, home, name)

    def subscribe(self, callback: Callable[[Change], None]) -> Callable[[], None]:
        """Call back at once with every change; returns what ends that.

        `Change.resource` is a store key: "pods", "endpoints", "services",
        "virtualservices.networking.istio.io". The objects are the store's own: do not change them.
        """
        return self.store.subscribe(callback)

    async def settled(self) -> None:
        """Wait until no controller has anything to do at once."""
        await self.controllers.settled()

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
        self._authenticate(exchange.request)
        if parts[:1] == ["api"] and len(parts) > 2 and parts[1] == "v1":
            return await self._resource_request(exchange, "", "v1", parts[2:])
        if parts[:1] == ["apis"] and len(parts) > 3:
            return await self._resource_request(exchange, parts[1], parts[2], parts[3:])
        if exchange.request.method not in ("GET", "HEAD"):
            raise NoSuchPath
        if parts == ["openapi", "v2"] and "protobuf" in exchange.request.headers.get("Accept", ""):
            return web.Response(
                body=openapi.swagger_protobuf(), content_type=openapi.SWAGGER_PROTOBUF
            )
        return exchange.json(self._document(parts))

    def _authenticate(self, request: web.BaseRequest) -> None:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not compare_digest(token.strip(), self.token):
            raise refusals.unauthorized()

    def _document(self, parts: Sequence[str]) -> Obj:
        """Discovery and other documents about the server itself."""
        registry = self.registry
        match list(parts):
            case ["version"]:
                return dict(self._version)
            case ["api"]:
                return self._api_versions()
            case ["api", "v1"]:
                return registry.resources("", "v1")
            case ["apis"]:
                return registry.groups()
            case ["apis", group] if (found_group := registry.group(group)) is not None:
                return found_group
            case ["apis", group, version] if group and registry.serves(group, version):
                return registry.resources(group, version)
            case ["openapi", "v2"]:
                return openapi.swagger()
            case ["openapi", "v3"]:
                return openapi.index(registry)
            case ["openapi", "v3", *rest]:
                document = openapi.document(registry, "/".join(rest))
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
        if not self.registry.serves(group, version):
            raise NoSuchPath
        return await self._handlers.handle(exchange, self._target(group, version, parts))

    def _target(self, group: str, version: str, parts: Sequence[str]) -> Target:
        namespace: str | None = None
        of_namespace = len(parts) >= 3 and parts[2] not in ("status", "finalize")
        if parts[0] == "namespaces" and of_namespace:
            namespace, parts = parts[1], parts[2:]
        resource = self.registry.at(group, version, parts[0])
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
