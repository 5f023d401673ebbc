"""The inventory's ``traffic`` section: versions, where they are, and what decides about them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from engine.module_api import Context, Refused

_KEYS = (
    "namespace, service, virtual_service, subsets, haproxy, selector, version_label, "
    "versions, pods_for_full_load"
)

Shares = dict[str, int]
"""Version → percent; they sum up to 100."""


class Setup(NamedTuple):
    """The inventory's ``traffic`` section."""

    stable: str
    canary: str
    selector: dict[str, str]
    label: str
    """The label of pods that holds the version."""
    full_load: int
    """Ready pods of a version that can carry all traffic."""
    namespace: str
    service: str
    virtual_service: str
    subsets: dict[str, str]
    connection: str
    backend: str
    servers: dict[str, list[str]]

    @property
    def versions(self) -> tuple[str, str]:
        """Stable and canary."""
        return self.stable, self.canary

    def other(self, version: str) -> str:
        """The version that gets what is left."""
        return self.canary if version == self.stable else self.stable


def text(shares: Shares) -> str:
    """Shares as people read them: ``5.0 95 %, 5.1 5 %``."""
    return ", ".join(f"{version} {share} %" for version, share in sorted(shares.items()))


def setup(ctx: Context, namespace: str) -> Setup:
    """Read the inventory's ``traffic`` section; Refused says what is wrong with it."""
    section = _section(ctx)
    stable, canary = _versions(section)
    connection, backend, servers = _haproxy_part(section, (stable, canary))
    subsets = _mapping(section, "subsets") if section.get("virtual_service") else {}
    if subsets and set(subsets) != {stable, canary}:
        raise Refused(f"`traffic.subsets` must name a subset for {stable} and for {canary}")
    return Setup(
        stable=stable,
        canary=canary,
        selector=_mapping(section, "selector"),
        label=str(section.get("version_label", "version")),
        full_load=_full_load(section),
        namespace=str(section.get("namespace") or namespace),
        service=str(section.get("service") or ""),
        virtual_service=str(section.get("virtual_service") or ""),
        subsets=subsets,
        connection=connection,
        backend=backend,
        servers=servers,
    )


def _section(ctx: Context) -> Mapping[str, Any]:
    section = ctx.connection("traffic")
    if not section:
        raise Refused(
            "the inventory has no section `traffic`",
            hint="it names the service, virtual_service, haproxy backend and versions: see "
            "`ce-run modules traffic`",
        )
    if unknown := sorted(set(section) - set(_KEYS.split(", "))):
        raise Refused(
            f"unknown keys in the inventory's traffic section: {', '.join(unknown)}",
            hint=f"known are {_KEYS}",
        )
    return section


def _versions(section: Mapping[str, Any]) -> tuple[str, str]:
    """The stable version and the canary."""
    versions = _mapping(section, "versions")
    if set(versions) != {"stable", "canary"}:
        raise Refused(
            "`traffic.versions` in the inventory must name stable and canary",
            hint="write `versions: {stable: '5.0', canary: '5.1'}`",
        )
    return versions["stable"], versions["canary"]


def _full_load(section: Mapping[str, Any]) -> int:
    pods = section.get("pods_for_full_load")
    if not isinstance(pods, int) or isinstance(pods, bool) or pods < 1:
        raise Refused(
            f"`traffic.pods_for_full_load` must be a number of pods, not {pods!r}",
            hint="how many ready pods of a version can carry all traffic?",
        )
    return pods


def _haproxy_part(
    section: Mapping[str, Any], versions: tuple[str, str]
) -> tuple[str, str, dict[str, list[str]]]:
    part = section.get("haproxy")
    if not part:
        return "", "", {}
    if not isinstance(part, Mapping) or not part.get("backend"):
        raise Refused("`traffic.haproxy` needs a `backend` and its `servers` by version")
    named = part.get("servers") or {}
    servers = {
        str(version): [str(one) for one in (names if isinstance(names, list) else [names])]
        for version, names in named.items()
    }
    if set(servers) != set(versions):
        raise Refused(
            f"`traffic.haproxy.servers` must name the servers of {versions[0]} and {versions[1]}"
        )
    return str(part.get("connection") or ""), str(part["backend"]), servers


def _mapping(section: Mapping[str, Any], key: str) -> dict[str, str]:
    mapping = section.get(key)
    if not isinstance(mapping, Mapping) or not mapping:
        raise Refused(f"`traffic.{key}` in the inventory must be a mapping")
    return {str(name): str(value) for name, value in mapping.items()}
