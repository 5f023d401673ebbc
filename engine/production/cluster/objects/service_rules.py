"""What is refused of Services."""

from __future__ import annotations

from typing import Any

from engine.production.cluster.objects.common import Obj
from engine.production.cluster.objects.custom_schema import Errors
from engine.production.cluster.objects.naming import port_number, validate_labels
from engine.production.cluster.objects.refusals import (
    duplicate,
    invalid_value,
    not_supported,
    required,
)


def validate_service(obj: Obj) -> Errors:
    """What is wrong with a Service, its addresses aside (see allotment.py)."""
    spec = obj["spec"]
    kinds = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
    if spec["type"] not in kinds:
        yield not_supported("spec.type", spec["type"], kinds)
    ports = spec.get("ports") or []
    if not ports and spec.get("clusterIP") != "None" and spec["type"] != "ExternalName":
        yield required("spec.ports")
    seen: list[tuple[Any, Any]] = []
    for index, port in enumerate(ports):
        path = f"spec.ports[{index}]"
        if len(ports) > 1 and not port.get("name"):
            yield required(f"{path}.name")
        yield from port_number(f"{path}.port", port.get("port"))
        yield from port_number(f"{path}.targetPort", port.get("targetPort"))
        number = (port.get("port"), port.get("protocol"))
        if number in seen:
            yield duplicate(path, {"port": number[0], "protocol": number[1]})
        seen.append(number)
    yield from validate_labels("spec.selector", spec.get("selector"))


def changed_address(old: Obj, new: Obj) -> Errors:
    """A Service keeps the address that it has."""
    before, after = old.get("clusterIPs"), new.get("clusterIPs")
    if before and "ExternalName" not in (old["type"], new["type"]) and before != after:
        yield invalid_value("spec.clusterIPs[0]", after, "may not change once set")
