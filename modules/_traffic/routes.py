"""The routes of a VirtualService: who gets what by them, and how they are written anew.

A VirtualService has routes for HTTP (``spec.http``), for TLS that is not terminated (``spec.tls``)
and for TCP (``spec.tcp``); all that lead to the versions' subsets carry traffic and move alike.

- *Shared*: a route between the subsets. Its weights are the shares.
- *By choice*: a route with conditions that leads to one subset alone, for those who opted in (or
  out) by a header, a path, a name. While its version has no share nothing need serve it, so such a
  route leads to the other version then, and a note remembers which routes are to go back.
- *Unclear*: what else leads to the versions' pods, by no weight of ours: a mirror, a third subset,
  the host without a subset. It is not guessed at, but named.

Routes that lead elsewhere (redirects, other hosts) are left as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from engine.module_api import Failed
from modules._kube.api import Object
from modules._traffic.setup import Setup, Shares

SECTIONS = ("http", "tls", "tcp")
NOTE = "ce-run/canary-routes"
"""The annotation with the routes that lead aside now; a list of names, as JSON."""

_CHOSEN_BY = ("headers", "withoutHeaders", "queryParams")
"""Conditions that a user's client decides about."""


class Routes:
    """The routes of one VirtualService, as far as they lead to the two versions."""

    def __init__(self, setup: Setup, title: str, item: Object) -> None:
        self._setup = setup
        self._title = title
        self._item = item
        self._versions = {subset: version for version, subset in setup.subsets.items()}
        self._hosts = {
            _host(one)
            for _, route in self._all()
            for one in _destinations(route)
            if _subset(one) in self._versions
        }

    # -- as they are --------------------------------------------------------------------------
    def shares(self) -> list[tuple[str, Shares]]:
        """The shares of each shared route, with its name; Failed where there is none."""
        rows = [
            (_place(section, route), self._shares(_destinations(route)))
            for section, route in self._all()
            if self._is_shared(route)
        ]
        if not rows:
            subsets = " and ".join(self._setup.subsets.values())
            raise Failed(
                f"{self._title} has no route between the subsets {subsets}",
                hint="give it an http, tls or tcp route whose destinations are these subsets",
            )
        return rows

    def unclear(self) -> list[str]:
        """What leads to the versions by no weight of ours, one line each."""
        lines: list[str] = []
        for section, route in self._all():
            where = f"{_place(section, route)} of {self._title}"
            lines += [f"{where} {words}" for words in self._strangers(route)]
            for mirror in _mirrors(route):
                if self._is_ours(mirror):
                    lines.append(
                        f"{where} mirrors requests to {_subset(mirror) or _host(mirror)}: each is "
                        "served, and has its effects, a second time"
                    )
        return lines

    def delegates(self) -> Iterator[tuple[str, str, str]]:
        """Routes that another VirtualService decides about: place, its namespace and name."""
        for section, route in self._all():
            if isinstance(other := route.get("delegate"), dict):
                namespace = str(other.get("namespace") or self._setup.namespace)
                yield _place(section, route), namespace, str(other.get("name") or "")

    def concern(self) -> bool:
        """Whether any route leads to the versions."""
        return bool(self._hosts)

    # -- as they should be ----------------------------------------------------------------------
    def moved(self, shares: Shares) -> tuple[dict[str, list[Object]], list[str]]:
        """The sections that change for these shares, and the routes that lead aside then."""
        aside = self._aside()
        sections: dict[str, list[Object]] = {}
        for section in SECTIONS:
            before = self._section(section)
            after = [self._moved(route, shares, aside) for route in before]
            if after != before:
                sections[section] = after
        return sections, aside

    def _moved(self, route: Object, shares: Shares, aside: list[str]) -> Object:
        if self._is_shared(route):
            return {**route, "route": self._weighted(route["route"], shares)}
        return self._by_choice(route, shares, aside)

    def _by_choice(self, route: Object, shares: Shares, aside: list[str]) -> Object:
        """A route to one version; `aside` is brought up to date with it."""
        destinations = _destinations(route)
        version = self._versions.get(_subset(destinations[0])) if len(destinations) == 1 else None
        if version is None or not route.get("match"):
            return route
        name, other = _name_of(route), self._setup.other(version)
        if name in aside and shares[other]:
            aside.remove(name)
        elif not shares[version]:
            aside += [name] if name not in aside else []
        else:
            return route
        destination = {**destinations[0]["destination"], "subset": self._setup.subsets[other]}
        return {**route, "route": [{**destinations[0], "destination": destination}]}

    def _weighted(self, destinations: list[Object], shares: Shares) -> list[Object]:
        """Destinations with these shares. Strangers keep theirs; several of one version, too, in
        proportion."""
        strangers = sum(_weight(one) for one in destinations if not self._is_version(one))
        room = max(0, 100 - strangers)
        goal = {version: room * share // 100 for version, share in shares.items()}
        most = max(shares, key=lambda version: shares[version])
        goal[most] += room - sum(goal.values())
        parts = {
            version: _parts([one for one in destinations if self._version(one) == version], share)
            for version, share in goal.items()
        }
        result = []
        for one in destinations:
            version = self._version(one)
            result.append(one if version is None else {**one, "weight": parts[version].pop(0)})
        model = next(one for one in destinations if self._is_version(one))["destination"]
        there = {self._version(one) for one in destinations}
        for version, subset in self._setup.subsets.items():
            if version not in there:
                destination = {**model, "subset": subset}
                result.append({"destination": destination, "weight": goal[version]})
        return result

    # -- what a route is ------------------------------------------------------------------------
    def _is_shared(self, route: Object) -> bool:
        destinations = _destinations(route)
        alone = len(destinations) == 1 and bool(route.get("match"))
        return not alone and any(self._is_version(one) for one in destinations)

    def _strangers(self, route: Object) -> list[str]:
        """Destinations beside the versions that take traffic which should be theirs."""
        destinations = _destinations(route)
        shared = self._is_shared(route)
        if not shared and _is_chosen(route):
            return []
        strangers = [
            one
            for one in destinations
            if not self._is_version(one)
            and (_weight(one) or len(destinations) == 1)
            and (shared or _host(one) in self._hosts)
        ]
        names = [_subset(one) or f"{_host(one)} without a subset" for one in strangers]
        if not names:
            return []
        return [f"{'also ' if shared else ''}leads to subset {', '.join(names)}"]

    def _shares(self, destinations: list[Object]) -> Shares:
        shares = dict.fromkeys(self._setup.versions, 0)
        alone = len(destinations) == 1
        total = 100 if alone else sum(map(_weight, destinations))
        for one in destinations:
            if (version := self._version(one)) is not None:
                shares[version] += 100 if alone else _weight(one)
        if total not in (0, 100):  # weights are proportions
            shares = {version: round(100 * one / total) for version, one in shares.items()}
        return shares

    def _is_ours(self, destination: Object) -> bool:
        return self._is_version(destination) or _host(destination) in self._hosts

    def _is_version(self, destination: Object) -> bool:
        return self._version(destination) is not None

    def _version(self, destination: Object) -> str | None:
        return self._versions.get(_subset(destination))

    # -- its parts ------------------------------------------------------------------------------
    def _section(self, section: str) -> list[Object]:
        return list((self._item.get("spec") or {}).get(section) or [])

    def _all(self) -> Iterator[tuple[str, Object]]:
        for section in SECTIONS:
            for route in self._section(section):
                yield section, route

    def _aside(self) -> list[str]:
        """Routes that lead to the other version now."""
        note = (self._item["metadata"].get("annotations") or {}).get(NOTE)
        try:
            names = json.loads(note) if note else []
        except ValueError:
            return []
        return [str(name) for name in names] if isinstance(names, list) else []


def _destinations(route: Object) -> list[Object]:
    return [one for one in route.get("route") or [] if isinstance(one, dict)]


def _mirrors(route: Object) -> list[Object]:
    """Where copies go, each as a destination of a route would be."""
    mirrors = [{"destination": route["mirror"]}] if route.get("mirror") else []
    return mirrors + [one for one in route.get("mirrors") or [] if isinstance(one, dict)]


def _subset(destination: Object) -> str:
    return str((destination.get("destination") or {}).get("subset") or "")


def _host(destination: Object) -> str:
    """A host, a Service's by its short name: ``app.shop.svc.cluster.local`` → ``app``."""
    host = str((destination.get("destination") or {}).get("host") or "")
    return host.partition(".")[0] if ".svc" in host else host


def _weight(destination: Object) -> int:
    return int(destination.get("weight") or 0)


def _is_chosen(route: Object) -> bool:
    """Whether only those come this way whose clients ask for it."""
    matches: list[Any] = route.get("match") or []
    return bool(matches) and all(any(one.get(key) for key in _CHOSEN_BY) for one in matches)


def _name_of(route: Object) -> str:
    """What a route can be known by again: its name, else its conditions."""
    return str(route.get("name") or json.dumps(route.get("match"), sort_keys=True))


def _place(section: str, route: Object) -> str:
    """What people call a route."""
    name = route.get("name") or (json.dumps(route["match"]) if route.get("match") else "")
    return f"the {section} route {name}" if name else f"one of the {section} routes"


def _parts(destinations: list[Object], share: int) -> list[int]:
    """A version's share for each of its destinations, in proportion to what they have."""
    weights = [_weight(one) for one in destinations]
    total = sum(weights)
    if not destinations:
        return []
    if not total:
        return [share, *[0] * (len(destinations) - 1)]
    parts = [share * weight // total for weight in weights]
    parts[weights.index(max(weights))] += share - sum(parts)
    return parts
