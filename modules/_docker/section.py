"""The inventory's section ``docker``: which engine, its TLS, and credentials of registries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from engine.module_api import Context, Refused, is_local
from modules._docker import names
from modules._shared import settings


class Section(msgspec.Struct, kw_only=True):
    """What it may hold."""

    host: str = ""
    tls: dict[str, Any] | None = None
    registries: dict[str, Any] = {}


class TlsSettings(msgspec.Struct, kw_only=True):
    """How the engine is known, and how we are known to it."""

    ca: str = ""
    cert: str = ""
    key: str = ""
    verify: bool = True


class Login(msgspec.Struct, kw_only=True):
    """Who to be for a registry."""

    username: str
    password: str


def read(ctx: Context) -> Section:
    """The section; Refused for what is not known in it."""
    return settings.read(ctx.connection("docker"), Section, "docker")


def default_host() -> str:
    """Where the engine listens if the inventory does not say."""
    import os

    return os.environ.get("DOCKER_HOST") or "unix:///var/run/docker.sock"


def tls(ctx: Context, host: str, raw: dict[str, Any] | None) -> Any:
    """TLS for the docker library; False without."""
    if raw is None:
        from urllib.parse import urlsplit

        if host.startswith("tcp:") and not is_local(urlsplit(host).hostname or ""):
            ctx.warn(f"the Docker engine {host} is spoken to without TLS: `docker` has no `tls`")
        return False
    import docker

    section = settings.read(raw, TlsSettings, "docker.tls")
    if bool(section.cert) != bool(section.key):
        raise Refused("docker.tls of the inventory has one of `cert` and `key`: both are needed")
    if not section.verify:
        import urllib3

        # Said once, by the run; not by urllib3 with every request.
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        ctx.warn(
            "the Docker engine's TLS certificate is not verified: `docker` of the inventory says so"
        )
    cert, key, ca = (_path(ctx, one) for one in (section.cert, section.key, section.ca))
    try:
        return docker.tls.TLSConfig(
            client_cert=(cert, key) if cert and key else None, ca_cert=ca, verify=section.verify
        )
    except docker.errors.TLSParameterError as error:
        raise Refused(f"`tls` of the inventory's `docker` is not right: {error}") from None


def _path(ctx: Context, name: str) -> str | None:
    if not name:
        return None
    path = Path(name).expanduser()
    return str(path if path.is_absolute() else ctx.file(path))


def login(ctx: Context, name: str) -> dict[str, str] | None:
    """Credentials of the inventory for an image's registry; None leaves it to the user's own."""
    return credentials(ctx, names.registry(name)).get(names.registry(name))


def credentials(ctx: Context, only: str = "") -> dict[str, dict[str, str]]:
    """What the inventory has, by registry; with `only`, of that one."""
    logins = {}
    for place, entry in read(ctx).registries.items():
        if only and place != only:
            continue
        one = settings.read(entry, Login, f"docker.registries.{place}")
        ctx.mask(one.password)
        logins[place] = {"username": one.username, "password": one.password}
    return logins
