"""Which path an object has: kinds that everybody uses, and discovery for the rest.

The table saves the requests that kubectl spends on discovery; a kind that is not in it is asked
for once a run.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple
from urllib.parse import quote

from engine.module_api import Failed, Refused, Unreachable

Ask = Callable[[str], Any]
"""GET a path and return its JSON, or None when there is nothing at it."""

_VERSION = re.compile(r"^v\d+(?:(?:alpha|beta)\d+)?$")
_BUILT_IN = frozenset(
    (
        "",
        "apps",
        "autoscaling",
        "batch",
        "events.k8s.io",
        "extensions",
        "policy",
        *(
            f"{name}.k8s.io"
            for name in (
                "admissionregistration",
                "apiextensions",
                "apiregistration",
                "authentication",
                "authorization",
                "certificates",
                "coordination",
                "discovery",
                "flowcontrol.apiserver",
                "internal.apiserver",
                "metrics",
                "networking",
                "node",
                "rbac.authorization",
                "resource",
                "scheduling",
                "storage",
                "storagemigration",
            )
        ),
    )
)
"""Groups of the API server's own kinds. Others are custom, those that end in ``.k8s.io`` too, such
as ``gateway.networking.k8s.io``."""


class Kind(NamedTuple):
    """A kind of object and where its objects are."""

    api_version: str
    kind: str
    plural: str
    namespaced: bool = True
    short: tuple[str, ...] = ()
    singular: str = ""
    is_custom: bool = False

    @property
    def custom(self) -> bool:
        """Defined by a CustomResourceDefinition: the server knows no strategic merge for it."""
        return self.is_custom or _group(self.api_version) not in _BUILT_IN

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
    return (kind.kind.lower(), kind.plural, *kind.short, *filter(None, (kind.singular,)))


_BY_WORD = {word: kind for kind in KINDS for word in _words(kind)}


def known(word: str, api_version: str | None = None) -> Kind | None:
    """A kind of the table by its kind, plural or short name, in any case.

    As in kubectl the word may name version and group: ``deployments.apps``, ``deploy.v1.apps``.
    """
    name, _, rest = word.lower().partition(".")
    kind = _BY_WORD.get(name)
    if kind is None:
        return None
    group = _group(kind.api_version)
    if rest:
        version, _, tail = rest.partition(".")
        if rest != group:
            if tail != group or not _VERSION.match(version):
                return None
            kind = kind._replace(api_version=f"{group}/{version}" if group else version)
    if api_version in (None, kind.api_version):
        return kind
    if api_version is not None and _group(api_version) == group:
        return kind._replace(api_version=api_version)
    return None


def discover(ask: Ask, word: str, api_version: str | None = None) -> Kind:
    """Ask the cluster for a kind that the table does not have.

    Groups that cannot be asked, such as those of a dead aggregated API, do not keep from looking
    into the others. Raises Failed with the nearest name when the cluster has no such kind.
    """
    name, _, rest = word.lower().partition(".")
    seen: list[str] = []
    silent: dict[str, str] = {}
    for version in [api_version] if api_version else _versions(ask, rest):
        root = "/api/v1" if version == "v1" else f"/apis/{version}"
        try:
            resources = (ask(root) or {}).get("resources") or []
        except Unreachable as error:
            silent[version] = error.message
            continue
        for resource in resources:
            kind = _kind(version, resource)
            if name in _words(kind) and "/" not in kind.plural:
                return kind
            seen += [] if "/" in kind.plural else [kind.kind]
    where = f" in {api_version}" if api_version else ""
    raise Failed(
        f"the cluster has no kind {word!r}{where}{_nearest(name, seen)}",
        hint="is its CustomResourceDefinition installed? give `api_version` if several have it",
        evidence=[f"{version} did not answer: {why}" for version, why in silent.items()],
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
        str(resource.get("singularName") or ""),
    )


def _versions(ask: Ask, within: str = "") -> list[str]:
    """The preferred version of each group; with `within` (``v1.cert-manager.io``, or a group
    alone) only what is named by it."""
    groups = (ask("/apis") or {}).get("groups") or []
    if not within:
        return ["v1", *(group["preferredVersion"]["groupVersion"] for group in groups)]
    version, _, tail = within.partition(".")
    versions = [
        str(group["preferredVersion"]["groupVersion"])
        for group in groups
        if group.get("name") == within
    ]
    return versions or ([f"{tail}/{version}"] if tail and _VERSION.match(version) else [])


def _group(api_version: str) -> str:
    return api_version.rpartition("/")[0]


def _nearest(word: str, names: list[str]) -> str:
    import difflib

    by_word = {name.lower(): name for name in [*names, *(kind.kind for kind in KINDS)]}
    near = difflib.get_close_matches(word.lower(), list(by_word), 1)
    return f" … did you mean {by_word[near[0]]!r}?" if near else ""
