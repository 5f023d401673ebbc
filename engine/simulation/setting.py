"""The world that an inventory describes: its load balancers, its size, its versions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from engine.simulation.clock import SimulatedClock
from engine.simulation.world import Edge, Scale, World

Section = Callable[[str], Mapping[str, Any]]
"""A section of the inventory by its name; empty if there is none."""


def world_of(clock: SimulatedClock, section: Section, scale: Scale | None = None) -> World:
    """The production of an inventory, running; it begins at the clock's time.

    `scale` says how large it is; without it, as large as the inventory's `traffic` section needs.
    """
    traffic = section("traffic")
    full = traffic.get("pods_for_full_load")
    if scale is None:
        scale = Scale()
        if isinstance(full, int) and full > 0:
            scale = Scale(pods_for_full_load=full, stable_replicas=2 * full)
    world = World(clock, scale)
    endpoints = section("endpoints")
    world.fronts = [str(endpoints[name]) for name in ("app", "tls") if endpoints.get(name)]
    part = traffic.get("haproxy")
    if isinstance(part, Mapping):
        _add_edge(world, part, traffic.get("versions") or {})
    return world


def _add_edge(world: World, part: Mapping[str, Any], versions: Mapping[str, Any]) -> None:
    """The backend that splits the traffic; all weight is on the servers of the stable version."""
    stable = str(versions.get("stable", ""))
    parts: dict[str, str] = {}
    for version, names in (part.get("servers") or {}).items():
        for name in names if isinstance(names, list) else [names]:
            parts[str(name)] = "stable" if str(version) == stable else "canary"
    backend, connection = str(part.get("backend")), str(part.get("connection") or "edge")
    weights = {name: 100 if side == "stable" else 0 for name, side in parts.items()}
    world.add_balancer(connection, {backend: weights})
    world.edge = Edge(connection, backend, parts)


def address(name: str) -> str | int:
    """What `lab(name)` of an inventory gives in a simulation: an address that leads nowhere."""
    if name.endswith("_port"):
        return 9999
    place = f"{name.removesuffix('_url').replace('_', '-')}.simulated"
    if name.endswith("_address"):
        return f"{place}:9999"
    if name.endswith("_url"):
        return f"https://{place}" if name.endswith("_tls_url") else f"http://{place}"
    return place


def secret(name: str) -> str:
    """What a secret is in a simulation: nothing is looked up."""
    return f"simulated-{name}"
