"""ResourceQuotas: what a namespace uses, and what would be too much.

Counted are objects (`pods`, `services`, `count/deployments.apps`, …) and what pods and claims ask
for (`requests.cpu`, `limits.memory`, `requests.storage`, …). Scopes are not honoured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

from engine.production.cluster.objects import quantity
from engine.production.cluster.objects.common import Obj
from engine.production.cluster.objects.resources import Resource
from engine.production.cluster.objects.store import ObjectStore

QUOTAS = "resourcequotas"
_COUNTED = frozenset(
    [
        "configmaps",
        "persistentvolumeclaims",
        "pods",
        "replicationcontrollers",
        "resourcequotas",
        "secrets",
        "services",
    ]
)
_COMPUTE = {
    "cpu": ("requests", "cpu"),
    "memory": ("requests", "memory"),
    "requests.cpu": ("requests", "cpu"),
    "requests.memory": ("requests", "memory"),
    "limits.cpu": ("limits", "cpu"),
    "limits.memory": ("limits", "memory"),
}
_STORAGE = "requests.storage"


def used(store: ObjectStore, namespace: str, hard: Mapping[str, str]) -> dict[str, str]:
    """How much of each limited thing a namespace uses."""
    return {name: _text(_sum(store, namespace, name), name, hard[name]) for name in sorted(hard)}


def refusal(store: ObjectStore, resource: Resource, obj: Obj) -> str:
    """Why a new object is too much for a quota of its namespace, or nothing."""
    namespace = obj["metadata"].get("namespace", "")
    for each in store.items(QUOTAS, namespace):
        hard = (each.get("spec") or {}).get("hard") or {}
        why = _exceeded(store, resource, obj, hard)
        if why:
            return f"{why[0]}: {each['metadata']['name']}{why[1]}"
    return ""


def _exceeded(
    store: ObjectStore, resource: Resource, obj: Obj, hard: Mapping[str, str]
) -> tuple[str, str] | None:
    namespace = obj["metadata"].get("namespace", "")
    missing = list(_missing(obj, hard)) if resource.key == "pods" else []
    if missing:
        return "failed quota", f": must specify {'; '.join(missing)}"
    over = []
    for name in sorted(hard):
        asked = _of(resource.key, obj, name)
        current = _sum(store, namespace, name)
        if asked and current + asked > quantity.parse(hard[name]):
            over.append((name, asked, current))
    if not over:
        return None
    requested = ",".join(f"{name}={_text(asked, name, '')}" for name, asked, _ in over)
    using = ",".join(f"{name}={_text(current, name, '')}" for name, _, current in over)
    limited = ",".join(f"{name}={hard[name]}" for name, _, _ in over)
    return "exceeded quota", f", requested: {requested}, used: {using}, limited: {limited}"


def _missing(pod: Obj, hard: Mapping[str, str]) -> Iterator[str]:
    """What each container has to say under a quota of it: `cpu for: app`."""
    for name in sorted(_COMPUTE.keys() & hard.keys()):
        part, what = _COMPUTE[name]
        silent = [
            container["name"]
            for container in pod["spec"].get("containers") or ()
            if what not in ((container.get("resources") or {}).get(part) or {})
        ]
        if silent:
            yield f"{name} for: {','.join(silent)}"


def _sum(store: ObjectStore, namespace: str, name: str) -> Decimal:
    total = Decimal(0)
    for resource in _resources(name):
        for obj in store.items(resource, namespace):
            total += _of(resource, obj, name)
    return total


def _resources(name: str) -> list[str]:
    """Where what a limit counts is kept."""
    if name in _COMPUTE:
        return ["pods"]
    if name == _STORAGE:
        return ["persistentvolumeclaims"]
    if name.startswith("services."):
        return ["services"]
    plain = name.removeprefix("count/")
    return [plain] if name.startswith("count/") or plain in _COUNTED else []


def _of(resource: str, obj: Obj, name: str) -> Decimal:
    """How much of a limited thing one object is."""
    if resource not in _resources(name):
        return Decimal(0)
    if resource == "pods" and obj.get("status", {}).get("phase") in ("Succeeded", "Failed"):
        return Decimal(not name.startswith(("pods", *_COMPUTE)))
    if name in _COMPUTE:
        part, what = _COMPUTE[name]
        containers = obj["spec"].get("containers") or ()
        amounts = [((c.get("resources") or {}).get(part) or {}).get(what, "0") for c in containers]
        return sum((quantity.parse(amount) for amount in amounts), Decimal(0))
    if name == _STORAGE:
        requests = (obj["spec"].get("resources") or {}).get("requests") or {}
        return quantity.parse(requests.get("storage", "0"))
    if name == "services.nodeports":
        ports = obj["spec"].get("ports") or ()
        return Decimal(sum("nodePort" in port for port in ports))
    if name == "services.loadbalancers":
        return Decimal(obj["spec"].get("type") == "LoadBalancer")
    return Decimal(1)


def _text(amount: Decimal, name: str, like: str) -> str:
    """An amount as a quantity; memory and storage in binary units, as people write limits."""
    binary = "memory" in name or "storage" in name or like.endswith("i")
    if binary and amount and amount == amount.to_integral_value():
        return (
            quantity.canonical(f"{int(amount) / 1024:.0f}Ki")
            if amount % 1024 == 0
            else (str(int(amount)))
        )
    return (
        quantity.canonical(str(amount.normalize()))
        if "E" not in str(amount.normalize())
        else (quantity.canonical(format(amount, "f")))
    )
