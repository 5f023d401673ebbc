"""What a world file says: how large a production is, and what no model knows of its systems.

A scenario of a drill holds the same under `world:`. Whatever is left out is as the inventory and
the model have it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from engine.clock import time_text
from engine.errors import InvalidRunbook
from engine.loader.problems import Problems
from engine.loader.reader import read
from engine.loader.source import Map
from engine.loader.structures import StructReader
from engine.production.faults import NO_FAULT, Fault
from engine.production.names import AGENTS_CONFIGMAP, NAMESPACE, STABLE_VERSION
from engine.registry import describe
from engine.simulation.clock import SimulatedClock
from engine.simulation.commands import Saying
from engine.simulation.databases import Database, Telling
from engine.simulation.setting import Section, world_of
from engine.simulation.web import Site
from engine.simulation.world import Scale, World


class BackupDescription(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A backup that exists when the rehearsal begins, whole and with all that belongs to it."""

    name: str
    database: str = ""


class WorldDescription(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A world, as a file describes it."""

    name: str = ""
    scale: Scale | None = None
    """How large it is, and how fast; without it as the inventory needs."""
    tables: dict[str, int] = {}
    """Table with its schema → rows, of the first database."""
    backups: list[BackupDescription] = []
    metrics: dict[str, float] = {}
    """Metrics that the model does not know, and what they are."""
    commands: list[Saying] = []
    """What commands say; the last one that fits counts."""
    queries: list[Telling] = []
    """What queries return; the last one that fits counts."""
    sites: list[Site] = []
    """How web servers answer."""
    objects: list[dict[str, Any]] = []
    """Further Kubernetes objects."""
    images: dict[str, str] = {}
    """Image with tag → digest, of those that the registry has."""
    faults: dict[str, Fault] = {}
    """Version (or `all`) → what is wrong with it from the beginning."""


def read_description(path: Path) -> WorldDescription:
    """A world file. Raises InvalidRunbook with everything that is wrong."""
    problems = Problems()
    source = read(path, problems)
    found: WorldDescription | None = None
    if source is not None and isinstance(source.root, Map):
        found = StructReader(source, problems).read(WorldDescription, source.root, "a world")
    elif source is not None:
        said = "a world is a mapping with `scale`, `commands` and so on, not "
        problems.add(source.name, (1, 1), said + describe(source.root))
    if found is None or len(problems):
        raise InvalidRunbook(problems.sorted())
    return found


def world_as_told(clock: SimulatedClock, section: Section, told: WorldDescription) -> World:
    """The world of an inventory as a description says, after its warm-up."""
    world = world_of(clock, section, told.scale)
    first_database = next(iter(section("sql")), "primary")
    furnish(world, told, first_database)
    world.warm_up()
    for each in told.backups:
        back_up(world, each, first_database)
    return world


def furnish(world: World, told: WorldDescription, first_database: str) -> None:
    """Have the world be as it was described. Backups are made by `back_up`, once it runs."""
    for version, fault in told.faults.items():
        world.fault(version, **changes(fault))
    world.monitoring.constants.update(told.metrics)
    world.commands.sayings.extend(told.commands)
    world.web.sites.extend(told.sites)
    world.images.update(told.images)
    database = world.database(first_database)
    database.tellings.extend(told.queries)
    database.hold(told.tables)
    for obj in told.objects:
        world.cluster.apply(obj)


def changes(fault: Fault) -> dict[str, Any]:
    """What a fault changes: all that is not as in a healthy version."""
    names = Fault.__struct_fields__
    return {
        name: getattr(fault, name)
        for name in names
        if getattr(fault, name) != getattr(NO_FAULT, name)
    }


def back_up(world: World, backup: BackupDescription, first_database: str) -> None:
    """Take a backup now, with the agents' configurations and the phases of the pods beside it, as
    a deployment leaves it."""
    database: Database = world.database(backup.database or first_database)
    at = time_text(world.clock.now())
    made = database.back_up(backup.name, at, "before the rehearsal")
    agents = world.cluster.get("ConfigMap", AGENTS_CONFIGMAP) or {}
    phases = {
        pod["metadata"]["name"]: "P3"
        for pod in world.cluster.list("Pod")
        if (pod["metadata"].get("labels") or {}).get("version") == STABLE_VERSION
    }
    world.cluster.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": backup.name.replace("_", "-").lower(),
                "namespace": NAMESPACE,
                "labels": {"app": "claude-enhancer", "backup": backup.name},
            },
            "data": {
                "agents.json": _text(agents.get("data") or {}),
                "phases.json": _text(phases),
                "database.json": _text({"tables": made.tables, "at": at, "sha256": made.sha256}),
            },
        }
    )


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True)
