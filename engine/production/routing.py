"""Who should serve what, derived from the cluster's objects: pure functions, no effects.

`claude_stable` serves the Endpoints of Service `claude-enhancer-service`, so patching its selector
switches; `claude_canary` serves the ready pods of the DestinationRule's subset `canary` (5.1). The
mesh's weights and header rule are those of VirtualService `claude-enhancer-traffic`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.production.names import APP_LABEL, CANARY_HEADER, CANARY_VERSION

_COLOUR = re.compile(r"^claude-enhancer-([a-z]+)-")
Object = Mapping[str, Any]


@dataclass(frozen=True)
class Server:
    """A pod as a balancer's server."""

    uid: str
    address: str
    port: int
    colour: str
    """First part of its name there: `blue`, `green`, `canary` …"""


@dataclass(frozen=True)
class Routes:
    """What the balancers should do."""

    stable: Mapping[str, Server] = field(default_factory=dict)
    canary: Mapping[str, Server] = field(default_factory=dict)
    mesh_weights: tuple[int, int] = (100, 0)
    """Shares of subset stable and subset canary behind the mesh's entrance."""
    mesh_headers: Mapping[str, str] = field(default_factory=dict)
    """Value of the header `x-canary-user` → the subset that it selects."""


def routes(
    pods: Iterable[Object],
    endpoints: Object | None,
    virtual_service: Object | None,
    destination_rule: Object | None,
) -> Routes:
    """The routes that these objects ask for."""
    live = {pod["metadata"]["uid"]: pod for pod in pods if _serves(pod)}
    by_address = {pod["status"]["podIP"]: uid for uid, pod in live.items()}
    stable = {
        by_address[address]: port
        for address, port in _ready_addresses(endpoints)
        if address in by_address
    }
    canary = _subset_labels(destination_rule, "canary")
    return Routes(
        stable={uid: _server(live[uid], port) for uid, port in stable.items()},
        canary={uid: _server(pod, 8080) for uid, pod in live.items() if _matches(pod, canary)},
        mesh_weights=_weights(virtual_service),
        mesh_headers=_header_rules(virtual_service),
    )


def as_ready(pod: Object, address: str) -> dict[str, Any]:
    """The pod as it will be when it is ready at this address."""
    ready = {"type": "Ready", "status": "True"}
    return {**pod, "status": {"podIP": address, "conditions": [ready]}}


def endpoints_of(service: Object | None, pod: Object) -> dict[str, Any] | None:
    """The Endpoints that a Service will have of this pod alone; None if it does not select it."""
    spec = (service or {}).get("spec") or {}
    selector = spec.get("selector") or {}
    labels = pod["metadata"].get("labels") or {}
    if not selector or not selector.items() <= labels.items():
        return None
    ports = [{"port": port.get("targetPort", port["port"])} for port in spec.get("ports") or []]
    return {"subsets": [{"addresses": [{"ip": pod["status"]["podIP"]}], "ports": ports}]}


def _serves(pod: Object) -> bool:
    """Whether a pod may get requests: ready, with an address, and not about to end."""
    if pod["metadata"].get("deletionTimestamp"):
        return False
    status = pod.get("status") or {}
    conditions = status.get("conditions") or []
    ready = any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
    return bool(ready and status.get("podIP"))


def _ready_addresses(endpoints: Object | None) -> list[tuple[str, int]]:
    subsets = (endpoints or {}).get("subsets") or []
    return [
        (address["ip"], ports[0]["port"])
        for subset in subsets
        if (ports := subset.get("ports") or [])
        for address in subset.get("addresses") or []
    ]


def _server(pod: Object, port: int) -> Server:
    metadata = pod["metadata"]
    labels = metadata.get("labels") or {}
    named = _COLOUR.match(metadata["name"])
    colour = labels.get("deployment-type") or (named[1] if named else labels.get("version", "pod"))
    return Server(metadata["uid"], pod["status"]["podIP"], port, str(colour))


def _subset_labels(destination_rule: Object | None, subset: str) -> Mapping[str, str]:
    subsets = ((destination_rule or {}).get("spec") or {}).get("subsets") or []
    for candidate in subsets:
        if candidate.get("name") == subset and candidate.get("labels"):
            labels: Mapping[str, str] = candidate["labels"]
            return labels
    return {"version": CANARY_VERSION}


def _matches(pod: Object, labels: Mapping[str, str]) -> bool:
    required = {APP_LABEL[0]: APP_LABEL[1], **labels}
    return required.items() <= (pod["metadata"].get("labels") or {}).items()


def _weights(virtual_service: Object | None) -> tuple[int, int]:
    """The shares of the first route without conditions; all to stable where none is given."""
    for route in _http_routes(virtual_service):
        if not route.get("match"):
            shares = {"stable": 0, "canary": 0}
            destinations = route.get("route") or []
            for each in destinations:
                subset = (each.get("destination") or {}).get("subset")
                if subset in shares:
                    # Istio gives everything to an only destination that names no weight.
                    shares[subset] += int(each.get("weight", 100 if len(destinations) == 1 else 0))
            return shares["stable"], shares["canary"]
    return 100, 0


def _header_rules(virtual_service: Object | None) -> dict[str, str]:
    rules = {}
    for route in _http_routes(virtual_service):
        for match in route.get("match") or []:
            value = ((match.get("headers") or {}).get(CANARY_HEADER) or {}).get("exact")
            destination = (route.get("route") or [{}])[0].get("destination") or {}
            if value and destination.get("subset"):
                rules[str(value)] = str(destination["subset"])
    return rules


def _http_routes(virtual_service: Object | None) -> list[Any]:
    return list(((virtual_service or {}).get("spec") or {}).get("http") or [])
