"""One cluster: its objects, what may be done to them, and its controllers, put together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from engine.production.cluster.api import Api
from engine.production.cluster.bootstrap import bootstrap
from engine.production.cluster.controllers.daemonsets import DaemonSetController
from engine.production.cluster.controllers.definitions import DefinitionController
from engine.production.cluster.controllers.deployments import DeploymentController
from engine.production.cluster.controllers.dispatcher import Dispatcher
from engine.production.cluster.controllers.endpoints import EndpointsController
from engine.production.cluster.controllers.garbage import GarbageController
from engine.production.cluster.controllers.jobs import JobController
from engine.production.cluster.controllers.namespaces import NamespaceController
from engine.production.cluster.controllers.pods import PodController
from engine.production.cluster.controllers.quotas import QuotaController
from engine.production.cluster.controllers.replicasets import ReplicaSetController
from engine.production.cluster.controllers.scheduler import Scheduler
from engine.production.cluster.controllers.statefulsets import StatefulSetController
from engine.production.cluster.identities import Identities
from engine.production.cluster.intake import WriteOptions
from engine.production.cluster.objects import refusals
from engine.production.cluster.objects.common import Obj, copy_json
from engine.production.cluster.objects.resources import METRICS, Catalog, Resource
from engine.production.cluster.objects.store import Change, ObjectStore
from engine.production.cluster.runtime import PodRuntime
from engine.production.cluster.timeline import Timeline


class Cluster:
    """A cluster that follows its timeline; `begin` fills it and sets its controllers to work.

    Args:
        runtime: runs the pods.
        timeline: its time.
        identities: makes uids and the endings of names.
        namespace: where objects go whose namespace is not named.
        history: how many changes per resource a watch can go back.
        clean_up: seconds that a node takes to clear away a pod whose processes have ended.
    """

    def __init__(
        self,
        runtime: PodRuntime,
        timeline: Timeline,
        identities: Identities,
        *,
        namespace: str = "default",
        history: int = 1000,
        clean_up: float = 0.0,
    ) -> None:
        self.catalog = Catalog()
        self.store = ObjectStore(history)
        self.api = Api(self.store, self.catalog, timeline, identities)
        self.controllers = Dispatcher(self.store, timeline)
        self._pods = PodController(self.api, runtime, clean_up)
        self._namespace = namespace

    def begin(self, nodes: Sequence[str], *, istio: bool) -> None:
        """Create what every cluster has, with these nodes; `istio`: its kinds as well."""
        api, controllers = self.api, self.controllers
        controllers.start(
            [
                DefinitionController(api),
                DeploymentController(api, controllers),
                ReplicaSetController(api, controllers),
                StatefulSetController(api, controllers),
                DaemonSetController(api, controllers),
                JobController(api, controllers),
                EndpointsController(api),
                GarbageController(api),
                NamespaceController(api, controllers),
                QuotaController(api),
                Scheduler(api),
                self._pods,
            ]
        )
        bootstrap(api, nodes, istio=istio)

    def end(self) -> list[str]:
        """Let the controllers do nothing more; the uids of the pods that ran."""
        self.controllers.stop()
        return self._pods.stop()

    def serve_metrics(self, enabled: bool) -> None:
        """Serve metrics.k8s.io, or know nothing of it, as without a metrics server."""
        if enabled:
            self.catalog.add(*METRICS)
        else:
            self.catalog.drop(*(resource.key for resource in METRICS))

    # -- reading and changing, without HTTP ------------------------------------------------

    def resource(self, kind: str) -> Resource:
        """A resource by store key ("deployments.apps") or by kind ("Deployment").

        Raises KeyError.
        """
        for resource in self.catalog:
            if kind in (resource.key, resource.kind) and not resource.view:
                return resource
        raise KeyError(kind)

    def apply(self, obj: Obj, manager: str = "lab") -> Obj:
        """Server-side apply, forced. Raises ApiError."""
        resource = self.catalog.for_kind(obj["apiVersion"], obj["kind"])
        if resource is None:
            raise refusals.unknown_resource()
        metadata = obj["metadata"]
        version = obj["apiVersion"].rpartition("/")[2]
        namespace = metadata.get("namespace", self._namespace) if resource.namespaced else ""
        options = WriteOptions(manager, force=True)
        applied, _ = self.api.apply(resource, version, namespace, metadata["name"], obj, options)
        return copy_json(applied)  # type: ignore[no-any-return]

    def get(self, kind: str, name: str, namespace: str | None = None) -> Obj | None:
        """A copy of an object, or None. `kind` is "Deployment" or "deployments.apps"."""
        resource = self.resource(kind)
        obj = self.store.get(resource.storage, self._home(resource, namespace), name)
        return None if obj is None else copy_json(obj)

    def list(self, kind: str, namespace: str | None = None) -> list[Obj]:
        """Copies of all objects of a kind, in one namespace or in all."""
        return [copy_json(obj) for obj in self.store.items(self.resource(kind).storage, namespace)]

    def delete(self, kind: str, name: str, namespace: str | None = None) -> None:
        """Delete an object as a client would. Raises ApiError when it is not there."""
        resource = self.resource(kind)
        self.api.delete(resource, self._home(resource, namespace), name)

    def _home(self, resource: Resource, namespace: str | None) -> str:
        if not resource.namespaced:
            return ""
        return self._namespace if namespace is None else namespace

    def subscribe(self, callback: Callable[[Change], None]) -> Callable[[], None]:
        """Call back at once with every change; returns what ends that.

        `Change.resource` is a store key: "pods", "endpoints", "services",
        "virtualservices.networking.istio.io". The objects are the store's own: do not change them.
        """
        return self.store.subscribe(callback)
