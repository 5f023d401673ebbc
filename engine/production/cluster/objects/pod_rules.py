"""What is refused in the specification of a pod, wherever it stands."""

from __future__ import annotations

import re

from engine.production.cluster.objects import quantity
from engine.production.cluster.objects.common import Obj
from engine.production.cluster.objects.custom_schema import Errors
from engine.production.cluster.objects.naming import (
    LABEL,
    LABEL_RULE,
    name_complaint,
    port_number,
)
from engine.production.cluster.objects.refusals import (
    FieldError,
    duplicate,
    field_forbidden,
    invalid_value,
    not_supported,
    quoted,
    required,
)


def _validate_resources(path: str, resources: Obj) -> Errors:
    limits = resources.get("limits") or {}
    for name, amount in (resources.get("requests") or {}).items():
        limit = limits.get(name)
        if limit is not None and quantity.parse(amount) > quantity.parse(limit):
            detail = f"must be less than or equal to {name} limit of {limit}"
            yield invalid_value(f"{path}.requests", amount, detail)


def _validate_probe(path: str, probe: Obj) -> Errors:
    """One handler, at a port that there can be."""
    handlers = [name for name in ("exec", "httpGet", "tcpSocket", "grpc") if name in probe]
    if probe and not handlers:
        yield required(path, "must specify a handler type")
    for name in handlers[1:]:
        yield field_forbidden(f"{path}.{name}", "may not specify more than 1 handler type")
    for name in handlers[:1]:
        if name != "exec":
            yield from port_number(f"{path}.{name}.port", (probe[name] or {}).get("port"))


def _validate_container(path: str, container: Obj, volumes: set[str]) -> Errors:
    name = container.get("name", "")
    if not name:
        yield required(f"{path}.name")
    elif not re.fullmatch(LABEL, name):
        yield invalid_value(f"{path}.name", name, name_complaint(name, LABEL_RULE))
    if not container.get("image"):
        yield required(f"{path}.image")
    for index, port in enumerate(container.get("ports") or ()):
        yield from port_number(f"{path}.ports[{index}].containerPort", port.get("containerPort"))
    for index, variable in enumerate(container.get("env") or ()):
        place = f"{path}.env[{index}]"
        if not variable.get("name"):
            yield required(f"{place}.name")
        if variable.get("value") and variable.get("valueFrom"):
            detail = "may not be specified when `value` is not empty"
            yield invalid_value(f"{place}.valueFrom", "", detail)
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        place = f"{path}.volumeMounts[{index}]"
        if not mount.get("mountPath"):
            yield required(f"{place}.mountPath")
        if mount.get("name") not in volumes:
            yield FieldError(
                "FieldValueNotFound", f"{place}.name", f"Not found: {quoted(mount.get('name', ''))}"
            )
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        yield from _validate_probe(f"{path}.{probe}", container.get(probe) or {})
    policies = ("Always", "IfNotPresent", "Never")
    if container.get("imagePullPolicy") not in policies:
        yield not_supported(f"{path}.imagePullPolicy", container["imagePullPolicy"], policies)
    yield from _validate_resources(f"{path}.resources", container.get("resources") or {})


def validate_pod_spec(path: str, spec: Obj, restarts: tuple[str, ...]) -> Errors:
    """What is wrong with a pod's specification at `path`; `restarts` are its possible policies."""
    volumes = {volume.get("name", "") for volume in spec.get("volumes") or ()}
    names = [volume.get("name", "") for volume in spec.get("volumes") or ()]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield duplicate(f"{path}.volumes[{index}].name", name)
    if not spec.get("containers"):
        yield required(f"{path}.containers")
    seen: set[str] = set()
    for group in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(group) or ()):
            place = f"{path}.{group}[{index}]"
            yield from _validate_container(place, container, volumes)
            if container.get("name") in seen:
                yield duplicate(f"{place}.name", container["name"])
            seen.add(container.get("name", ""))
    if spec.get("restartPolicy") not in restarts:
        yield not_supported(f"{path}.restartPolicy", spec.get("restartPolicy"), restarts)
