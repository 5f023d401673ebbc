"""What is taken, with a word of caution: the warnings that travel with an answer."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from engine.production.cluster.objects.common import Obj

_DEPRECATED = {
    ("endpoints", "v1"): "v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 "
    "EndpointSlice",
    ("componentstatuses", "v1"): "v1 ComponentStatus is deprecated in v1.19+",
}


def of_version(resource: str, version: str) -> list[str]:
    """What every request hears that names an outdated kind; `resource` is a store key."""
    text = _DEPRECATED.get((resource, version))
    return [text] if text else []


def of_object(obj: Obj) -> list[str]:
    """What the writer of an object should know of the pods that it describes."""
    spec = obj.get("spec")
    if not isinstance(spec, dict):
        return []
    if obj["kind"] == "Pod":
        return list(_of_pod("spec", spec))
    template = spec.get("template")
    pod = template.get("spec") if isinstance(template, dict) else None
    return list(_of_pod("spec.template.spec", pod)) if isinstance(pod, dict) else []


def _of_pod(path: str, spec: dict[str, Any]) -> Iterator[str]:
    for group in ("initContainers", "containers"):
        for index, container in enumerate(_objects(spec.get(group))):
            seen: set[str] = set()
            for number, variable in enumerate(_objects(container.get("env"))):
                name = str(variable.get("name", ""))
                if name in seen:
                    yield (
                        f"{path}.{group}[{index}].env[{number}]: hides previous definition of "
                        f'"{name}", which may be dropped when using apply'
                    )
                seen.add(name)


def _objects(items: Any) -> list[dict[str, Any]]:
    """The objects in a list; custom resources may hold anything in their place."""
    return [item for item in items if isinstance(item, dict)] if isinstance(items, list) else []
