"""What an entry of a timeline does to the world."""

from __future__ import annotations

from engine.drill.scenario import ScenarioEntry
from engine.simulation.description import changes
from engine.simulation.web import Site
from engine.simulation.world import World

ENVIRONMENT = ("note", "fault", "heal", "down", "up", "command", "query", "site", "lose")


def happen(world: World, entry: ScenarioEntry, first_database: str) -> None:
    """Have everything come true that the entry says of the world."""
    if entry.fault is not None:
        world.fault(entry.fault.version, **changes(entry.fault))
    if entry.heal:
        world.faults.clear(entry.heal if entry.heal != "all" else None)
    for what in entry.down:
        _answer(world, what, False, first_database)
    for what in entry.up:
        _answer(world, what, True, first_database)
    if entry.command is not None:
        world.commands.sayings.append(entry.command)
    if entry.query is not None:
        world.database(first_database).tellings.append(entry.query)
    if entry.site is not None:
        world.web.sites.append(entry.site)
    if entry.lose is not None:
        loss = entry.lose
        world.database(loss.database or first_database).lose(loss.table, loss.rows)
    world.changed()


def _answer(world: World, what: str, whether: bool, first_database: str) -> None:
    """Have a system answer, or not; the words are those that `check_outage` lets through."""
    if what.startswith(("http://", "https://")):
        world.web.sites = [each for each in world.web.sites if each.url != what or each.status]
        if not whether:
            world.web.sites.append(Site(url=what, status=0))
        return
    kind, _, name = what.rpartition(" ")
    match kind or name:
        case "cluster":
            world.kubernetes.reachable = whether
        case "monitoring":
            world.monitoring.reachable = whether
        case "metrics":
            world.monitoring.silent = not whether
        case "database":
            world.database(name).reachable = whether
        case "balancer":
            world.balancers[name].reachable = whether
        case "changes of balancer":
            world.balancers[name].takes_changes = whether
        case "channel":
            (world.inbox.dead.discard if whether else world.inbox.dead.add)(name)
