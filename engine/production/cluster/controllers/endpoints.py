"""The endpoints controller: which pods stand behind a Service now.

Writes both Endpoints and one EndpointSlice a Service. A pod that is being deleted leaves at once,
before anybody tells it to stop: this controller comes before the kubelet (dispatcher.py).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from engine.production.cluster.api import CONTROLLER, Api
from engine.production.cluster.intake import WriteOptions
from engine.production.cluster.objects.common import (
    Key,
    Obj,
    annotations_of,
    copy_json,
    is_deleting,
    is_pod_ready,
    key_of,
    labels_of,
)
from engine.production.cluster.objects.store import Change

_TRIGGER_TIME = "endpoints.kubernetes.io/last-change-trigger-time"
_SERVICE_NAME = "kubernetes.io/service-name"


class EndpointsController:
    """Keeps Endpoints and EndpointSlices in step with Services and pods."""

    name = "endpoints"

    def __init__(self, api: Api) -> None:
        self._api = api
        self._store = api.store

    def concerns(self, change: Change) -> Iterable[Key]:
        if change.resource == "services":
            yield key_of(change.object)
        elif change.resource == "pods":
            before = change.previous
            for service in self._store.items("services", change.object["metadata"]["namespace"]):
                if _selects(service, change.object) or (before and _selects(service, before)):
                    yield key_of(service)

    def reconcile(self, key: Key) -> bool:
        service = self._store.get("services", *key)
        if service is None:
            self._remove(key)
        elif service["spec"].get("selector"):
            pods = [pod for pod in self._store.items("pods", key[0]) if _selects(service, pod)]
            placed = [pod for pod in pods if pod["status"].get("podIP") and not is_deleting(pod)]
            placed.sort(key=lambda pod: (pod["status"]["podIP"], pod["metadata"]["uid"]))
            self._write_endpoints(service, _subsets(service, placed))
            self._write_slice(service, placed)
        return False

    def _remove(self, key: Key) -> None:
        if self._store.get("endpoints", *key) is not None:
            self._store.remove("endpoints", *key)
        for each in self._slices(key):
            self._store.remove("endpointslices.discovery.k8s.io", *key_of(each))

    def _slices(self, key: Key) -> list[Obj]:
        slices = self._store.items("endpointslices.discovery.k8s.io", key[0])
        return [each for each in slices if labels_of(each).get(_SERVICE_NAME) == key[1]]

    def _write_endpoints(self, service: Obj, subsets: list[Obj]) -> None:
        namespace, name = key_of(service)
        known = self._store.get("endpoints", namespace, name)
        labels = {**labels_of(service), "endpoints.kubernetes.io/managed-by": "endpoint-controller"}
        if known is None:
            obj: Obj = {
                "metadata": {
                    "name": name,
                    "labels": labels,
                    "annotations": {_TRIGGER_TIME: self._api.timestamp()},
                },
                **({"subsets": subsets} if subsets else {}),
            }
            resource = self._api.catalog["endpoints"]
            self._api.create(resource, "v1", namespace, obj, WriteOptions(CONTROLLER))
        elif known.get("subsets", []) != subsets or labels_of(known) != labels:
            changed = copy_json(known)
            changed["metadata"]["labels"] = labels
            changed["metadata"]["annotations"] = {
                **annotations_of(known),
                _TRIGGER_TIME: self._api.timestamp(),
            }
            changed.pop("subsets", None)
            if subsets:
                changed["subsets"] = subsets
            self._api.save(changed)

    def _write_slice(self, service: Obj, pods: list[Obj]) -> None:
        namespace, name = key_of(service)
        resource = self._api.catalog["endpointslices.discovery.k8s.io"]
        content: Obj = {
            "addressType": "IPv4",
            "endpoints": [_slice_entry(service, pod) for pod in pods],
            "ports": _slice_ports(service, pods),
        }
        known = next(iter(self._slices((namespace, name))), None)
        if known is None:
            owner = {
                "apiVersion": "v1",
                "kind": "Service",
                "name": name,
                "uid": service["metadata"]["uid"],
                "controller": True,
                "blockOwnerDeletion": True,
            }
            metadata = {
                "name": f"{name}-{self._api.identities.suffix()}",
                "generateName": f"{name}-",
                "labels": {
                    _SERVICE_NAME: name,
                    "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                },
                "ownerReferences": [owner],
            }
            obj = {"metadata": metadata, **content}
            self._api.create(resource, "v1", namespace, obj, WriteOptions(CONTROLLER))
        elif any(known.get(part) != value for part, value in content.items()):
            changed = {**known, "metadata": copy_json(known["metadata"]), **content}
            self._api.save(changed)


def _selects(service: Obj, pod: Obj) -> bool:
    selector = service["spec"].get("selector") or {}
    return bool(selector) and selector.items() <= labels_of(pod).items()


def _is_shown(service: Obj, pod: Obj) -> bool:
    return is_pod_ready(pod) or bool(service["spec"].get("publishNotReadyAddresses"))


def _target(service_port: Obj, pod: Obj) -> int | None:
    """The number of the pod's port behind a service port; named ones are looked up."""
    target: Any = service_port.get("targetPort", service_port["port"])
    if isinstance(target, int):
        return target
    for container in pod["spec"]["containers"]:
        for port in container.get("ports") or ():
            if port.get("name") == target:
                number: int = port["containerPort"]
                return number
    return None


def _ports(service: Obj, pod: Obj) -> list[Obj]:
    ports: list[Obj] = []
    for port in service["spec"].get("ports") or ():
        number = _target(port, pod)
        if number is not None:
            name = {"name": port["name"]} if port.get("name") else {}
            ports.append({**name, "port": number, "protocol": port["protocol"]})
    return ports


def _reference(pod: Obj) -> Obj:
    metadata = pod["metadata"]
    return {
        "kind": "Pod",
        "namespace": metadata["namespace"],
        "name": metadata["name"],
        "uid": metadata["uid"],
    }


def _address(pod: Obj) -> Obj:
    return {
        "ip": pod["status"]["podIP"],
        "nodeName": pod["spec"]["nodeName"],
        "targetRef": _reference(pod),
    }


def _subsets(service: Obj, pods: list[Obj]) -> list[Obj]:
    """One subset for each set of ports, since pods may resolve a named port differently."""
    grouped: list[tuple[list[Obj], Obj]] = []
    for pod in pods:
        ports = _ports(service, pod)
        subset = next((subset for known, subset in grouped if known == ports), None)
        if subset is None:
            subset = {"addresses": [], "notReadyAddresses": []}
            grouped.append((ports, subset))
        place = "addresses" if _is_shown(service, pod) else "notReadyAddresses"
        subset[place].append(_address(pod))
    return [
        {**{name: value for name, value in subset.items() if value}, "ports": ports}
        for ports, subset in grouped
    ]


def _slice_entry(service: Obj, pod: Obj) -> Obj:
    ready = _is_shown(service, pod)
    return {
        "addresses": [pod["status"]["podIP"]],
        "conditions": {"ready": ready, "serving": is_pod_ready(pod), "terminating": False},
        "nodeName": pod["spec"]["nodeName"],
        "targetRef": _reference(pod),
    }


def _slice_ports(service: Obj, pods: list[Obj]) -> list[Obj]:
    if not pods:
        return []
    return [{"name": "", **port} for port in _ports(service, pods[0])]
