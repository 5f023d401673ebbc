"""Which path an object has: kinds that everybody uses, and discovery for the rest.

The table saves the requests that kubectl spends on discovery; a kind that is not in it is asked
for once a run.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote

from engine.module_api import Failed, Refused

Ask = Callable[[str], Any]
"""GET a path and return its JSON, or None when there is nothing at it."""


class Kind(NamedTuple):
    """A kind of object and where its objects are."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True
    short: tuple[str, ...] = ()

    @property
    def custom(self) -> bool:
        """Defined by a CustomResourceDefinition: the server knows no strategic merge for it."""
        group = self.api_version.rpartition("/")[0]
        return "." in group and not group.endswith(".k8s.io")

    def path(self, namespace: str, name: str | None = None, sub: str = "") -> str:
        """The path of the collection, of an object in it, or of its subresource."""
        root = "/api/v1" if self.api_version == "v1" else f"/apis/{self.api_version}"
        within = f"/namespaces/{quote(namespace, safe='')}" if self.namespaced else ""
        tail = f"/{quote(name, safe='')}" if name else ""
        return f"{root}{within}/{self.plural}{tail}{f'/{sub}' if sub else ''}"

    def label(self, name: str) -> str:
        """``deployment/claude-enhancer-blue``: what people call an object."""
        return f"{self.kind.lower()}/{name}"


_APPS, _NET, _ISTIO = "apps/v1", "networking.k8s.io/v1", "networking.istio.io/v1beta1"
_RBAC, _CRD = "rbac.authorization.k8s.io/v1", "apiextensions.k8s.io/v1"

KINDS = (
    Kind("v1", "Pod", "pods", short=("po",)),
    Kind("v1", "Service", "services", short=("svc",)),
    Kind("v1", "ConfigMap", "configmaps", short=("cm",)),
    Kind("v1", "Secret", "secrets"),
    Kind("v1", "Endpoints", "endpoints", short=("ep",)),
    Kind("v1", "Event", "events", short=("ev",)),
    Kind("v1", "Namespace", "namespaces", False, ("ns",)),
    Kind("v1", "Node", "nodes", False, ("no",)),
    Kind("v1", "PersistentVolume", "persistentvolumes", False, ("pv",)),
    Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims", short=("pvc",)),
    Kind("v1", "ReplicationController", "replicationcontrollers", short=("rc",)),
    Kind("v1", "ResourceQuota", "resourcequotas", short=("quota",)),
    Kind("v1", "LimitRange", "limitranges", short=("limits",)),
    Kind("v1", "ServiceAccount", "serviceaccounts", short=("sa",)),
    Kind(_APPS, "Deployment", "deployments", short=("deploy",)),
    Kind(_APPS, "ReplicaSet", "replicasets", short=("rs",)),
    Kind(_APPS, "StatefulSet", "statefulsets", short=("sts",)),
    Kind(_APPS, "DaemonSet", "daemonsets", short=("ds",)),
    Kind(_APPS, "ControllerRevision", "controllerrevisions"),
    Kind("batch/v1", "Job", "jobs"),
    Kind("batch/v1", "CronJob", "cronjobs", short=("cj",)),
    Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", short=("hpa",)),
    Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets", short=("pdb",)),
    Kind("discovery.k8s.io/v1", "EndpointSlice", "endpointslices"),
    Kind(_NET, "Ingress", "ingresses", short=("ing",)),
    Kind(_NET, "NetworkPolicy", "networkpolicies", short=("netpol",)),
    Kind(_RBAC, "Role", "roles"),
    Kind(_RBAC, "RoleBinding", "rolebindings"),
    Kind(_RBAC, "ClusterRole", "clusterroles", False),
    Kind(_RBAC, "ClusterRoleBinding", "clusterrolebindings", False),
    Kind("storage.k8s.io/v1", "StorageClass", "storageclasses", False, ("sc",)),
    Kind(_CRD, "CustomResourceDefinition", "customresourcedefinitions", False, ("crd", "crds")),
    Kind(_ISTIO, "VirtualService", "virtualservices", short=("vs",)),
    Kind(_ISTIO, "DestinationRule", "destinationrules", short=("dr",)),
    Kind(_ISTIO, "Gateway", "gateways", short=("gw",)),
    Kind(_ISTIO, "ServiceEntry", "serviceentries", short=("se",)),
    Kind("metrics.k8s.io/v1beta1", "PodMetrics", "pods"),
    Kind("metrics.k8s.io/v1beta1", "NodeMetrics", "nodes", False),
)


def _words(kind: Kind) -> tuple[str, ...]:
    if kind.api_version.startswith("metrics."):
        return (kind.kind.lower(),)
    return (kind.kind.lower(), kind.plural, *kind.short)


_BY_WORD = {word: kind for kind in KINDS for word in _words(kind)}


def known(word: str, api_version: str | None = None) -> Kind | None:
    """A kind of the table by its kind, plural or short name, in any case."""
    found = _BY_WORD.get(word.lower())
    if found is None or api_version in (None, found.api_version):
        return found
    if api_version is not None and _group(api_version) == _group(found.api_version):
        return found._replace(api_version=api_version)
    return None


def discover(ask: Ask, word: str, api_version: str | None = None) -> Kind:
    """Ask the cluster for a kind that the table does not have.

    Raises Failed with the nearest name when the cluster has no such kind.
    """
    seen: list[str] = []
    for version in [api_version] if api_version else _versions(ask):
        root = "/api/v1" if version == "v1" else f"/apis/{version}"
        for resource in (ask(root) or {}).get("resources") or []:
            kind = _kind(version, resource)
            if word.lower() in _words(kind) and "/" not in kind.plural:
                return kind
            seen += [] if "/" in kind.plural else [kind.kind]
    where = f" in {api_version}" if api_version else ""
    raise Failed(
        f"the cluster has no kind {word!r}{where}{_nearest(word, seen)}",
        hint="is its CustomResourceDefinition installed? give `api_version` if several have it",
    )


def split(name: str) -> tuple[str, str]:
    """``Deployment/blue`` → kind and name; Refused when it is not of that form."""
    kind, slash, rest = name.partition("/")
    if not (kind and slash and rest):
        raise Refused(f"{name!r} must be written as kind/name, such as deployment/app")
    return kind, rest


def _kind(api_version: str, resource: dict[str, Any]) -> Kind:
    return Kind(
        api_version,
        str(resource.get("kind")),
        str(resource.get("name")),
        bool(resource.get("namespaced")),
        tuple(resource.get("shortNames") or ()),
    )


def _versions(ask: Ask) -> list[str]:
    groups = (ask("/apis") or {}).get("groups") or []
    return ["v1", *(group["preferredVersion"]["groupVersion"] for group in groups)]


def _group(api_version: str) -> str:
    return api_version.rpartition("/")[0]


def _nearest(word: str, names: list[str]) -> str:
    import difflib

    by_word = {name.lower(): name for name in [*names, *(kind.kind for kind in KINDS)]}
    near = difflib.get_close_matches(word.lower(), list(by_word), 1)
    return f" … did you mean {by_word[near[0]]!r}?" if near else ""
