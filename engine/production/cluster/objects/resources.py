"""Which resources the server has, and the discovery documents that tell clients so.

The built-in ones are a table; custom ones join it when a CustomResourceDefinition is stored and
leave with it. Resources without a controller here (Jobs, Ingresses, ...) are kept and served like
any other; nothing acts on them.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from engine.production.cluster.objects.common import Obj, copy_json
from engine.production.cluster.objects.custom_schema import schema_of
from engine.production.cluster.objects.schema import has_type

READ_WRITE = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
_CUSTOM_VERBS = ("delete", "deletecollection", "get", "list", "patch", "create", "update", "watch")
_PART = ("get", "patch", "update")
_CONNECT = ("create", "get")
_PROXY = ("create", "delete", "get", "patch", "update")

# subresource -> (kind, or "" for the parent's own), verbs, (group, version) where it differs
_SUBRESOURCES: dict[str, tuple[str, tuple[str, ...], tuple[str, str] | None]] = {
    "status": ("", _PART, None),
    "scale": ("Scale", _PART, ("autoscaling", "v1")),
    "finalize": ("", ("update",), None),
    "approval": ("", _PART, None),
    "ephemeralcontainers": ("", _PART, None),
    "resize": ("", _PART, None),
    "log": ("", ("get",), None),
    "attach": ("PodAttachOptions", _CONNECT, None),
    "exec": ("PodExecOptions", _CONNECT, None),
    "portforward": ("PodPortForwardOptions", _CONNECT, None),
    "binding": ("Binding", ("create",), None),
    "eviction": ("Eviction", ("create",), ("policy", "v1")),
    "token": ("TokenRequest", ("create",), ("authentication.k8s.io", "v1")),
    "nodes/proxy": ("NodeProxyOptions", _PROXY, None),
    "pods/proxy": ("PodProxyOptions", _PROXY, None),
    "services/proxy": ("ServiceProxyOptions", _PROXY, None),
}

# [group version...] then: plural Kind (N)amespaced|(C)luster, and where they apply short names,
# category, subresources, verbs. Groups stand in the order a real server lists them.
_TABLE = """
[ v1]
bindings Binding N verbs=create
componentstatuses ComponentStatus C short=cs verbs=get,list
configmaps ConfigMap N short=cm
endpoints Endpoints N short=ep
events Event N short=ev
limitranges LimitRange N short=limits
namespaces Namespace C short=ns sub=finalize,status verbs=create,delete,get,list,patch,update,watch
nodes Node C short=no sub=proxy,status
persistentvolumeclaims PersistentVolumeClaim N short=pvc sub=status
persistentvolumes PersistentVolume C short=pv sub=status
pods Pod N short=po category=all sub=attach,binding,ephemeralcontainers,eviction,exec,log,portforward,proxy,resize,status
podtemplates PodTemplate N
replicationcontrollers ReplicationController N short=rc category=all sub=scale,status
resourcequotas ResourceQuota N short=quota sub=status
secrets Secret N
serviceaccounts ServiceAccount N short=sa sub=token
services Service N short=svc category=all sub=proxy,status
[apiregistration.k8s.io v1]
apiservices APIService C category=api-extensions sub=status
[apps v1]
controllerrevisions ControllerRevision N
daemonsets DaemonSet N short=ds category=all sub=status
deployments Deployment N short=deploy category=all sub=scale,status
replicasets ReplicaSet N short=rs category=all sub=scale,status
statefulsets StatefulSet N short=sts category=all sub=scale,status
[events.k8s.io v1]
events Event N short=ev verbs=get,list,watch
[authentication.k8s.io v1]
selfsubjectreviews SelfSubjectReview C verbs=create
tokenreviews TokenReview C verbs=create
[authorization.k8s.io v1]
localsubjectaccessreviews LocalSubjectAccessReview N verbs=create
selfsubjectaccessreviews SelfSubjectAccessReview C verbs=create
selfsubjectrulesreviews SelfSubjectRulesReview C verbs=create
subjectaccessreviews SubjectAccessReview C verbs=create
[autoscaling v2 v1]
horizontalpodautoscalers HorizontalPodAutoscaler N short=hpa category=all sub=status
[batch v1]
cronjobs CronJob N short=cj category=all sub=status
jobs Job N category=all sub=status
[certificates.k8s.io v1]
certificatesigningrequests CertificateSigningRequest C short=csr sub=approval,status
[networking.k8s.io v1]
ingressclasses IngressClass C
ingresses Ingress N short=ing sub=status
networkpolicies NetworkPolicy N short=netpol
[policy v1]
poddisruptionbudgets PodDisruptionBudget N short=pdb sub=status
[rbac.authorization.k8s.io v1]
clusterrolebindings ClusterRoleBinding C
clusterroles ClusterRole C
rolebindings RoleBinding N
roles Role N
[storage.k8s.io v1]
csidrivers CSIDriver C
csinodes CSINode C
csistoragecapacities CSIStorageCapacity N
storageclasses StorageClass C short=sc
volumeattachments VolumeAttachment C sub=status
[admissionregistration.k8s.io v1]
mutatingwebhookconfigurations MutatingWebhookConfiguration C category=api-extensions
validatingadmissionpolicies ValidatingAdmissionPolicy C category=api-extensions sub=status
validatingadmissionpolicybindings ValidatingAdmissionPolicyBinding C category=api-extensions
validatingwebhookconfigurations ValidatingWebhookConfiguration C category=api-extensions
[apiextensions.k8s.io v1]
customresourcedefinitions CustomResourceDefinition C short=crd,crds category=api-extensions sub=status
[scheduling.k8s.io v1]
priorityclasses PriorityClass C short=pc
[coordination.k8s.io v1]
leases Lease N
[node.k8s.io v1]
runtimeclasses RuntimeClass C
[discovery.k8s.io v1]
endpointslices EndpointSlice N
[resource.k8s.io v1]
deviceclasses DeviceClass C
resourceclaims ResourceClaim N sub=status
resourceclaimtemplates ResourceClaimTemplate N
resourceslices ResourceSlice C
[flowcontrol.apiserver.k8s.io v1]
flowschemas FlowSchema C sub=status
prioritylevelconfigurations PriorityLevelConfiguration C sub=status
"""  # noqa: E501

_COUNTS_GENERATIONS = frozenset(
    [
        "deployments.apps",
        "replicasets.apps",
        "statefulsets.apps",
        "daemonsets.apps",
        "pods",
        "jobs.batch",
        "cronjobs.batch",
        "ingresses.networking.k8s.io",
        "networkpolicies.networking.k8s.io",
        "poddisruptionbudgets.policy",
        "customresourcedefinitions.apiextensions.k8s.io",
        "endpointslices.discovery.k8s.io",
    ]
)


@dataclass(frozen=True)
class Resource:
    """One kind of object and how it is served. `versions` holds the storage version first."""

    group: str
    versions: tuple[str, ...]
    plural: str
    kind: str
    namespaced: bool
    singular: str = ""
    list_kind: str = ""
    short_names: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = READ_WRITE
    custom: bool = False
    columns: tuple[Obj, ...] = field(default=(), compare=False)
    view: Callable[[Obj], Obj] | None = field(default=None, compare=False)
    schemas: Mapping[str, Obj] = field(default_factory=dict, compare=False)
    """Of a custom resource: version → its schema."""
    scale: Mapping[str, str] = field(default_factory=dict, compare=False)
    """Of a custom resource with a scale: where its numbers are, as the definition says."""

    @property
    def key(self) -> str:
        """How the store and messages call it: "deployments.apps", "pods"."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def storage(self) -> str:
        """Where its objects are kept; events.k8s.io is another view of the core events."""
        return "events" if self.view else self.key

    @property
    def schema(self) -> str | None:
        """The name of its type in schema.json; None where objects are free in form."""
        return self.kind if not self.custom and has_type(self.kind) else None

    @property
    def has_status(self) -> bool:
        return "status" in self.subresources

    @property
    def counts_generations(self) -> bool:
        return self.custom or self.key in _COUNTS_GENERATIONS

    def api_version(self, version: str) -> str:
        return f"{self.group}/{version}" if self.group else version

    def present(self, obj: Obj, version: str) -> Obj:
        """`obj` as it is shown in `version`: the stored one itself where nothing differs."""
        if self.view is not None:
            return self.view(obj)
        api_version = self.api_version(version)
        return obj if obj.get("apiVersion") == api_version else {**obj, "apiVersion": api_version}

    def _storage_hash(self) -> str:
        name = f"{self.group}/{self.versions[0]}/{self.kind}"
        return b64encode(hashlib.sha256(name.encode()).digest()[:8]).decode()

    def discovery(self, version: str) -> Iterator[Obj]:
        """Its entries in an APIResourceList: itself and its subresources."""
        entry: Obj = {
            "name": self.plural,
            "singularName": self.singular,
            "namespaced": self.namespaced,
            "kind": self.kind,
            "verbs": list(_CUSTOM_VERBS if self.custom else self.verbs),
        }
        if self.short_names:
            entry["shortNames"] = list(self.short_names)
        if self.categories:
            entry["categories"] = list(self.categories)
        if "watch" in self.verbs and self.group != "metrics.k8s.io":
            entry["storageVersionHash"] = self._storage_hash()
        yield entry
        for name in self.subresources:
            kind, verbs, home = _SUBRESOURCES.get(f"{self.plural}/{name}") or _SUBRESOURCES[name]
            part: Obj = {
                "name": f"{self.plural}/{name}",
                "singularName": "",
                "namespaced": self.namespaced,
                "kind": kind or self.kind,
                "verbs": list(verbs),
            }
            if home is not None and (not self.custom or name == "scale"):
                part |= {"group": home[0], "version": home[1]}
            yield part


def allows(subresource: str, verb: str, plural: str = "") -> bool:
    """Whether `verb` (get, create, update, patch, delete) can be done to a subresource."""
    row = _SUBRESOURCES.get(f"{plural}/{subresource}") or _SUBRESOURCES[subresource]
    return verb in row[1]


def _parse(table: str) -> Iterator[Resource]:
    group = ""
    versions: tuple[str, ...] = ("v1",)
    for line in table.strip().splitlines():
        if line.startswith("["):
            group, *rest = line[1:-1].split(" ")
            versions = tuple(rest)
            continue
        plural, kind, scope, *options = line.split()
        named = {key: tuple(values.split(",")) for key, values in (o.split("=") for o in options)}
        yield Resource(
            group,
            versions,
            plural,
            kind,
            namespaced=scope == "N",
            singular=kind.lower(),
            list_kind=f"{kind}List",
            short_names=named.get("short", ()),
            categories=named.get("category", ()),
            subresources=named.get("sub", ()),
            verbs=named.get("verbs", READ_WRITE),
            view=_as_new_event if (group, plural) == ("events.k8s.io", "events") else None,
        )


def _as_new_event(event: Obj) -> Obj:
    """A core event in the words of events.k8s.io/v1."""
    renamed = {
        "involvedObject": "regarding",
        "message": "note",
        "source": "deprecatedSource",
        "firstTimestamp": "deprecatedFirstTimestamp",
        "lastTimestamp": "deprecatedLastTimestamp",
        "count": "deprecatedCount",
        "reportingComponent": "reportingController",
    }
    shown = {renamed.get(name, name): value for name, value in event.items()}
    return {**shown, "apiVersion": "events.k8s.io/v1"}


METRICS = (
    Resource(
        "metrics.k8s.io", ("v1beta1",), "nodes", "NodeMetrics", False, list_kind="NodeMetricsList",
        verbs=("get", "list"),
    ),
    Resource(
        "metrics.k8s.io", ("v1beta1",), "pods", "PodMetrics", True, list_kind="PodMetricsList",
        verbs=("get", "list"),
    ),
)  # fmt: skip


def from_definition(definition: Obj) -> Resource:
    """The resource that a CustomResourceDefinition (with its names completed) describes."""
    spec = definition["spec"]
    names = spec["names"]
    versions = sorted(
        (version for version in spec["versions"] if version.get("served", True)),
        key=lambda version: not version.get("storage"),
    )
    parts = versions[0].get("subresources") or {} if versions else {}
    return Resource(
        spec["group"],
        tuple(version["name"] for version in versions),
        names["plural"],
        names["kind"],
        namespaced=spec["scope"] == "Namespaced",
        singular=names["singular"],
        list_kind=names["listKind"],
        short_names=tuple(names.get("shortNames", ())),
        categories=tuple(names.get("categories", ())),
        subresources=tuple(name for name in ("scale", "status") if name in parts),
        custom=True,
        columns=tuple(copy_json(versions[0].get("additionalPrinterColumns", []))),
        schemas={version["name"]: schema_of(version) for version in versions},
        scale=dict(parts.get("scale") or {}),
    )


class Catalog:
    """The resources served now."""

    def __init__(self) -> None:
        self._by_key = {resource.key: resource for resource in _parse(_TABLE)}
        self._index()

    def _index(self) -> None:
        self._by_path = {
            (resource.group, version, resource.plural): resource
            for resource in self._by_key.values()
            for version in resource.versions
        }
        self._by_kind = {
            (resource.group, resource.kind): resource
            for resource in self._by_key.values()
            if resource.verbs[0] != "get"
        }
        self._groups: dict[str, list[str]] = {}
        for group, version, _plural in self._by_path:
            versions = self._groups.setdefault(group, [])
            if version not in versions:
                versions.append(version)

    def add(self, *resources: Resource) -> None:
        """Serve these as well, or in place of what had the same name."""
        self._by_key.update((resource.key, resource) for resource in resources)
        self._index()

    def drop(self, *keys: str) -> None:
        for key in keys:
            self._by_key.pop(key, None)
        self._index()

    def at(self, group: str, version: str, plural: str) -> Resource | None:
        return self._by_path.get((group, version, plural))

    def for_kind(self, api_version: str, kind: str) -> Resource | None:
        """The resource whose objects carry this apiVersion (its group counts) and kind."""
        group = api_version.rpartition("/")[0]
        return self._by_kind.get((group, kind))

    def __getitem__(self, key: str) -> Resource:
        return self._by_key[key]

    def __contains__(self, key: str) -> bool:
        return key in self._by_key

    def __iter__(self) -> Iterator[Resource]:
        return iter(self._by_key.values())

    def serves(self, group: str, version: str) -> bool:
        return version in self._groups.get(group, ())

    def group(self, name: str) -> Obj | None:
        """The APIGroup document of `name`, or None."""
        if not name or name not in self._groups:
            return None
        return {"kind": "APIGroup", "apiVersion": "v1", **self._group(name)}

    def _group(self, name: str) -> Obj:
        versions = [
            {"groupVersion": f"{name}/{version}", "version": version}
            for version in self._groups[name]
        ]
        return {"name": name, "versions": versions, "preferredVersion": versions[0]}

    def groups(self) -> Obj:
        """What /apis answers."""
        entries = [self._group(name) for name in self._groups if name]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": entries}

    def resources(self, group: str, version: str) -> Obj:
        """What /api/v1 and /apis/GROUP/VERSION answer."""
        served: Iterable[Resource] = (
            resource
            for (of_group, of_version, _), resource in self._by_path.items()
            if (of_group, of_version) == (group, version)
        )
        entries = [entry for resource in served for entry in resource.discovery(version)]
        entries.sort(key=lambda entry: str(entry["name"]))
        head: Obj = {"kind": "APIResourceList"}
        if group:
            head["apiVersion"] = "v1"
        name = f"{group}/{version}" if group else version
        return {**head, "groupVersion": name, "resources": entries}
