"""What a cluster has before anybody has put anything into it."""

from __future__ import annotations

from collections.abc import Sequence

from engine.production.cluster.api import Api
from engine.production.cluster.default_roles import default_roles
from engine.production.cluster.identities import Identities
from engine.production.cluster.intake import WriteOptions
from engine.production.cluster.objects.common import Obj

_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
_VERSION = "v1.36.0"
_CAPACITY = {"cpu": "16", "memory": "64Gi", "pods": "110", "ephemeral-storage": "100Gi"}
_SERVER = "kube-apiserver"


def bootstrap(api: Api, nodes: Sequence[str], *, istio: bool) -> None:
    """Create the system's namespaces, the nodes, the API's own Service, and Istio's kinds."""
    for name in _NAMESPACES:
        _create(api, "namespaces", "", {"metadata": {"name": name}})
    for number, name in enumerate(nodes):
        _create_node(api, name, f"10.0.0.{9 + number}")
    for resource, obj in default_roles():
        _create(api, resource, "", obj)
    _create(api, "services", "default", _api_service())
    if istio:
        for plural, kind, short, columns in _ISTIO:
            definition = _definition(plural, kind, short, columns)
            _create(api, "customresourcedefinitions.apiextensions.k8s.io", "", definition)


def _create(api: Api, resource: str, namespace: str, obj: Obj) -> Obj:
    entry = api.catalog[resource]
    return api.create(entry, entry.versions[0], namespace, obj, WriteOptions(_SERVER))


def _api_service() -> Obj:
    return {
        "metadata": {
            "name": "kubernetes",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "clusterIP": "10.0.0.1",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": 6443}],
        },
    }


def _create_node(api: Api, name: str, address: str) -> None:
    labels = {
        "kubernetes.io/hostname": name,
        "kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
    }
    created = _create(api, "nodes", "", {"metadata": {"name": name, "labels": labels}, "spec": {}})
    status: Obj = {
        "capacity": dict(_CAPACITY),
        "allocatable": dict(_CAPACITY),
        "conditions": [_ready_condition(api.timestamp())],
        "addresses": [
            {"type": "InternalIP", "address": address},
            {"type": "Hostname", "address": name},
        ],
        "nodeInfo": _node_info(api.identities),
    }
    node = {**created, "metadata": {**created["metadata"]}, "status": status}
    api.save(node, manager="kubelet", subresource="status")


def _node_info(identities: Identities) -> Obj:
    """All of these must be there: typed clients insist on them."""
    return {
        "machineID": identities.uid().replace("-", ""),
        "systemUUID": identities.uid(),
        "bootID": identities.uid(),
        "kernelVersion": "6.1.0",
        "osImage": "Linux",
        "containerRuntimeVersion": "containerd://2.1.0",
        "kubeletVersion": _VERSION,
        "kubeProxyVersion": "",
        "operatingSystem": "linux",
        "architecture": "amd64",
    }


def _ready_condition(now: str) -> Obj:
    return {
        "type": "Ready",
        "status": "True",
        "lastHeartbeatTime": now,
        "lastTransitionTime": now,
        "reason": "KubeletReady",
        "message": "kubelet is posting ready status",
    }


_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
_ISTIO: tuple[tuple[str, str, str, tuple[Obj, ...]], ...] = (
    (
        "virtualservices",
        "VirtualService",
        "vs",
        (
            {"name": "Gateways", "type": "string", "jsonPath": ".spec.gateways"},
            {"name": "Hosts", "type": "string", "jsonPath": ".spec.hosts"},
            _AGE,
        ),
    ),
    (
        "destinationrules",
        "DestinationRule",
        "dr",
        ({"name": "Host", "type": "string", "jsonPath": ".spec.host"}, _AGE),
    ),
)


def _definition(plural: str, kind: str, short: str, columns: tuple[Obj, ...]) -> Obj:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    versions = [
        {
            "name": version,
            "served": True,
            "storage": version == "v1",
            "schema": schema,
            "additionalPrinterColumns": list(columns),
        }
        for version in ("v1", "v1beta1")
    ]
    return {
        "metadata": {"name": f"{plural}.networking.istio.io"},
        "spec": {
            "group": "networking.istio.io",
            "scope": "Namespaced",
            "names": {
                "plural": plural,
                "singular": kind.lower(),
                "kind": kind,
                "shortNames": [short],
                "categories": ["istio-io", "networking-istio-io"],
            },
            "versions": versions,
        },
    }
