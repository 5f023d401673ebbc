"""What `kubectl get` prints: the server renders rows, the client only aligns them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from engine.lab.clock import CLOCK
from engine.production.cluster.objects.common import Obj, find_condition, is_deleting, parse_time
from engine.production.cluster.objects.resources import Resource
from engine.production.cluster.objects.selectors import to_text

Cells = list[Any]


@dataclass(frozen=True)
class Printer:
    """The columns of a kind (a trailing `+` marks those of `-o wide`) and a row of it."""

    columns: tuple[str, ...]
    row: Callable[[Obj], Cells]


def human_duration(seconds: float) -> str:
    """An age as kubectl shows it: 45s, 3m20s, 15m, 4h5m, 30h, 3d4h, 12d, 2y30d."""
    total = int(seconds)
    if total < 120:
        return f"{max(0, total)}s"
    minutes, rest = divmod(total, 60)
    if minutes < 10:
        return f"{minutes}m{rest}s" if rest else f"{minutes}m"
    if minutes < 180:
        return f"{minutes}m"
    hours, minutes = divmod(minutes, 60)
    if hours < 8:
        return f"{hours}h{minutes}m" if minutes else f"{hours}h"
    if hours < 48:
        return f"{hours}h"
    days, hours = divmod(hours, 24)
    if days < 8:
        return f"{days}d{hours}h" if hours else f"{days}d"
    if days < 730:
        return f"{days}d"
    years, days = divmod(days, 365)
    return f"{years}y{days}d" if days and years < 8 else f"{years}y"


def _since(text: str | None) -> str:
    if not text:
        return "<unknown>"
    return human_duration(CLOCK.now() - parse_time(text).timestamp())


def _age(obj: Obj) -> str:
    return _since(obj["metadata"].get("creationTimestamp"))


def _name(obj: Obj) -> str:
    name: str = obj["metadata"]["name"]
    return name


def _containers(spec: Obj) -> Cells:
    containers = spec.get("containers") or ()
    return [",".join(c["name"] for c in containers), ",".join(c["image"] for c in containers)]


def _pod_status(pod: Obj) -> str:
    status = pod.get("status", {})
    shown: str = status.get("reason") or status.get("phase", "Unknown")
    for container in status.get("containerStatuses") or ():
        state = container["state"]
        if "waiting" in state and state["waiting"].get("reason"):
            shown = state["waiting"]["reason"]
        elif "terminated" in state:
            ended = state["terminated"]
            shown = ended.get("reason") or f"ExitCode:{ended['exitCode']}"
    return "Terminating" if is_deleting(pod) else shown


def _restarts(statuses: list[Obj]) -> str:
    count = sum(status["restartCount"] for status in statuses)
    ends = [s["lastState"]["terminated"]["finishedAt"] for s in statuses if s.get("lastState")]
    return f"{count} ({_since(max(ends))} ago)" if count and ends else str(count)


def _pod(pod: Obj) -> Cells:
    statuses = pod.get("status", {}).get("containerStatuses") or []
    ready = sum(status["ready"] for status in statuses)
    return [
        _name(pod),
        f"{ready}/{len(pod['spec']['containers'])}",
        _pod_status(pod),
        _restarts(statuses),
        _age(pod),
        pod.get("status", {}).get("podIP", "<none>"),
        pod["spec"].get("nodeName", "<none>"),
        "<none>",
        "<none>",
    ]


def _deployment(obj: Obj) -> Cells:
    status, spec = obj.get("status", {}), obj["spec"]
    return [
        _name(obj),
        f"{status.get('readyReplicas', 0)}/{spec.get('replicas', 0)}",
        status.get("updatedReplicas", 0),
        status.get("availableReplicas", 0),
        _age(obj),
        *_containers(spec["template"]["spec"]),
        to_text(spec["selector"]),
    ]


def _replica_set(obj: Obj) -> Cells:
    status, spec = obj.get("status", {}), obj["spec"]
    return [
        _name(obj),
        spec.get("replicas", 0),
        status.get("replicas", 0),
        status.get("readyReplicas", 0),
        _age(obj),
        *_containers(spec["template"]["spec"]),
        to_text(spec["selector"]),
    ]


def _stateful_set(obj: Obj) -> Cells:
    ready = f"{obj.get('status', {}).get('readyReplicas', 0)}/{obj['spec'].get('replicas', 0)}"
    return [_name(obj), ready, _age(obj), *_containers(obj["spec"]["template"]["spec"])]


def _service_ports(spec: Obj) -> str:
    shown = []
    for port in spec.get("ports") or ():
        node = f":{port['nodePort']}" if port.get("nodePort") else ""
        shown.append(f"{port['port']}{node}/{port['protocol']}")
    return ",".join(shown) or "<none>"


def _service(obj: Obj) -> Cells:
    spec = obj["spec"]
    external = ",".join(spec.get("externalIPs") or ()) or "<none>"
    if spec["type"] == "ExternalName":
        external = spec.get("externalName", "")
    elif spec["type"] == "LoadBalancer" and external == "<none>":
        external = "<pending>"
    selector = ",".join(f"{k}={v}" for k, v in sorted((spec.get("selector") or {}).items()))
    return [
        _name(obj),
        spec["type"],
        spec.get("clusterIP", "<none>"),
        external,
        _service_ports(spec),
        _age(obj),
        selector or "<none>",
    ]


def _node(obj: Obj) -> Cells:
    status = obj.get("status", {})
    ready = find_condition(status, "Ready")
    shown = "Ready" if ready and ready["status"] == "True" else "NotReady"
    if obj["spec"].get("unschedulable"):
        shown += ",SchedulingDisabled"
    prefix = "node-role.kubernetes.io/"
    labels = obj["metadata"].get("labels") or {}
    roles = ",".join(sorted(k.removeprefix(prefix) for k in labels if k.startswith(prefix)))
    address = {each["type"]: each["address"] for each in status.get("addresses") or ()}
    info = status.get("nodeInfo", {})
    return [
        _name(obj),
        shown,
        roles or "<none>",
        _age(obj),
        info.get("kubeletVersion", ""),
        address.get("InternalIP", "<none>"),
        address.get("ExternalIP", "<none>"),
        info.get("osImage", "<unknown>"),
        info.get("kernelVersion", "<unknown>"),
        info.get("containerRuntimeVersion", "<unknown>"),
    ]


def _event(obj: Obj) -> Cells:
    involved = obj["involvedObject"]
    return [
        _since(obj.get("lastTimestamp")),
        obj.get("type", ""),
        obj.get("reason", ""),
        f"{involved['kind'].lower()}/{involved.get('name', '')}",
        involved.get("fieldPath", ""),
        obj.get("source", {}).get("component", ""),
        obj.get("message", "").strip(),
        _since(obj.get("firstTimestamp")),
        obj.get("count", 1),
        _name(obj),
    ]


def _endpoints(obj: Obj) -> Cells:
    shown = [
        f"{address['ip']}:{port['port']}"
        for subset in obj.get("subsets") or ()
        for port in subset.get("ports") or ()
        for address in subset.get("addresses") or ()
    ]
    more = f" + {len(shown) - 3} more..." if len(shown) > 3 else ""
    return [_name(obj), (",".join(shown[:3]) + more) or "<none>", _age(obj)]


def _slice(obj: Obj) -> Cells:
    ports = ",".join(str(port.get("port")) for port in obj.get("ports") or ())
    addresses = ",".join(a for each in obj.get("endpoints") or () for a in each["addresses"])
    return [
        _name(obj),
        obj["addressType"],
        ports or "<unset>",
        addresses or "<unset>",
        _age(obj),
    ]


def _entries(obj: Obj) -> int:
    return len(obj.get("data") or ()) + len(obj.get("binaryData") or ())


_PRINTERS: dict[str, Printer] = {
    "pods": Printer(
        (
            *("Name", "Ready", "Status", "Restarts", "Age"),
            *("IP+", "Node+", "Nominated Node+", "Readiness Gates+"),
        ),
        _pod,
    ),
    "deployments.apps": Printer(
        (
            *("Name", "Ready", "Up-to-date", "Available", "Age"),
            *("Containers+", "Images+", "Selector+"),
        ),
        _deployment,
    ),
    "replicasets.apps": Printer(
        ("Name", "Desired", "Current", "Ready", "Age", "Containers+", "Images+", "Selector+"),
        _replica_set,
    ),
    "statefulsets.apps": Printer(("Name", "Ready", "Age", "Containers+", "Images+"), _stateful_set),
    "services": Printer(
        ("Name", "Type", "Cluster-IP", "External-IP", "Port(s)", "Age", "Selector+"), _service
    ),
    "nodes": Printer(
        (
            *("Name", "Status", "Roles", "Age", "Version", "Internal-IP+", "External-IP+"),
            *("OS-Image+", "Kernel-Version+", "Container-Runtime+"),
        ),
        _node,
    ),
    "events": Printer(
        (
            *("Last Seen", "Type", "Reason", "Object", "Subobject+", "Source+", "Message"),
            *("First Seen+", "Count+", "Name+"),
        ),
        _event,
    ),
    "endpoints": Printer(("Name", "Endpoints", "Age"), _endpoints),
    "endpointslices.discovery.k8s.io": Printer(
        ("Name", "AddressType", "Ports", "Endpoints", "Age"), _slice
    ),
    "configmaps": Printer(("Name", "Data", "Age"), lambda o: [_name(o), _entries(o), _age(o)]),
    "secrets": Printer(
        ("Name", "Type", "Data", "Age"),
        lambda o: [_name(o), o.get("type", ""), _entries(o), _age(o)],
    ),
    "namespaces": Printer(
        ("Name", "Status", "Age"), lambda o: [_name(o), o["status"]["phase"], _age(o)]
    ),
    "leases.coordination.k8s.io": Printer(
        ("Name", "Holder", "Age"),
        lambda o: [_name(o), o.get("spec", {}).get("holderIdentity", ""), _age(o)],
    ),
    "customresourcedefinitions.apiextensions.k8s.io": Printer(
        ("Name", "Created At"), lambda o: [_name(o), o["metadata"]["creationTimestamp"]]
    ),
}
_PLAIN = Printer(("Name", "Age"), lambda obj: [_name(obj), _age(obj)])


def _at(obj: Any, path: str) -> Any:
    """The value at a plain JSON path such as `.spec.hosts`."""
    for name in path.strip(".").split("."):
        obj = obj.get(name) if isinstance(obj, dict) else None
    return obj


def _custom_printer(columns: tuple[Obj, ...]) -> Printer:
    def row(obj: Obj) -> Cells:
        cells: Cells = [_name(obj)]
        for column in columns:
            value = _at(obj, column["jsonPath"])
            if column["type"] == "date":
                value = _since(value)
            elif isinstance(value, (list, dict)):
                value = str(value).replace("'", '"')
            cells.append(value)
        return cells

    return Printer(("Name", *(column["name"] for column in columns)), row)


def printer_of(resource: Resource) -> Printer:
    """How lists of a resource are printed."""
    if resource.custom and resource.columns:
        return _custom_printer(resource.columns)
    return _PRINTERS.get(resource.storage, _PLAIN)


def _definition(name: str) -> Obj:
    wide = name.endswith("+")
    label = name.rstrip("+")
    return {
        "name": label,
        "type": "string",
        "format": "name" if label == "Name" else "",
        "description": label,
        "priority": 1 if wide else 0,
    }


def render(
    resource: Resource, objects: Iterable[Obj], metadata: Obj, include: str, *, head: bool = True
) -> Obj:
    """A Table of these objects. `include` is None, Metadata or Object, as the client asked."""
    printer = printer_of(resource)
    rows = []
    for obj in objects:
        row: Obj = {"cells": printer.row(obj)}
        if include == "Object":
            row["object"] = obj
        elif include != "None":
            row["object"] = partial(obj)
        rows.append(row)
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": metadata,
        "columnDefinitions": [_definition(name) for name in printer.columns] if head else [],
        "rows": rows,
    }


def partial(obj: Obj) -> Obj:
    """An object's metadata alone."""
    return {
        "kind": "PartialObjectMetadata",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": obj["metadata"],
    }
