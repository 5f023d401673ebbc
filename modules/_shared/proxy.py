"""Which proxy of the environment the way to a server leads through, as Go's ``httpproxy`` has it.

``HTTPS_PROXY`` holds for servers with TLS, ``HTTP_PROXY`` for the others, each in capitals or not,
unless ``NO_PROXY`` names the server: by name, domain, address or network (``10.0.0.0/8``), with a
port or without. For kubectl this machine is never behind a proxy; for curl it is like others.
"""

from __future__ import annotations

import ipaddress
import os
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from engine.module_api import Refused

_SCHEMES = ("http", "https")


class Proxy(NamedTuple):
    """A proxy, and who to be for it."""

    url: str
    """Without user and password."""
    user: str = ""
    password: str = ""

    @property
    def basic(self) -> str:
        """``user:password``; empty if it wants none."""
        return f"{self.user}:{self.password}" if self.user else ""


def of_environment(server: str, *, as_curl: bool = False) -> Proxy | None:
    """The proxy for a server's URL, or None, as kubectl has it, or curl: for that ``ALL_PROXY``
    counts where the others are not set. Refused for a proxy that cannot be used."""
    also = ("ALL_PROXY", "all_proxy") if as_curl else ()
    scheme = "HTTPS" if server.startswith("https:") else "HTTP"
    names = (f"{scheme}_PROXY", f"{scheme.lower()}_proxy", *also)
    name = next((name for name in names if os.environ.get(name)), "")
    if not name or is_direct(server, as_curl=as_curl):
        return None
    return read(os.environ[name], name)


def is_direct(server: str, *, as_curl: bool = False) -> bool:
    """Whether a server is reached without the environment's proxy."""
    parts = urlsplit(server)
    host = (parts.hostname or "").lower().rstrip(".")
    port = str(parts.port or (443 if parts.scheme == "https" else 80))
    address = _address(host)
    if not as_curl and (host == "localhost" or (address and address.is_loopback)):
        return True
    rules = os.environ.get("NO_PROXY") or os.environ.get("no_proxy") or ""
    return any(_matches(rule.strip().lower(), host, port) for rule in rules.split(","))


def _matches(rule: str, host: str, port: str) -> bool:
    if not rule:
        return False
    if rule == "*":
        return True
    address = _address(host)
    if "/" in rule:
        try:
            return bool(address) and address in ipaddress.ip_network(rule, strict=False)
        except ValueError:
            return False
    name, its_port = _split(rule)
    if its_port and its_port != port:
        return False
    if address or _address(name):
        return bool(address) and address == _address(name)
    name = name.removeprefix("*")
    return (
        host.endswith(name)
        if name.startswith(".")
        else host in (name,) or host.endswith(f".{name}")
    )


def _split(rule: str) -> tuple[str, str]:
    """``host:port`` → both; an IPv6 address has its port after brackets."""
    if rule.startswith("["):
        name, _, rest = rule[1:].partition("]")
        return name, rest.removeprefix(":")
    name, colon, port = rule.rpartition(":")
    return (name, port) if colon and ":" not in name else (rule, "")


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def read(text: str, said_by: str) -> Proxy:
    """A proxy as it is written (`said_by` says where); without a scheme it is an HTTP proxy.

    Refused for what is no address, and for a scheme that cannot be used, such as ``socks5``.
    """
    url = text if "://" in text else f"http://{text}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, urlsplit("")
    if not host:
        raise Refused(f"{said_by} is no address of a proxy", hint="write http://host:port")
    if parts.scheme not in _SCHEMES:
        raise Refused(
            f"{said_by} names a proxy by {parts.scheme}, which cannot be used here",
            hint="name an http:// or https:// proxy, or reach the server directly (NO_PROXY)",
        )
    place = f"[{host}]" if ":" in host else host
    return Proxy(
        f"{parts.scheme}://{place}{f':{port}' if port else ''}",
        unquote(parts.username or ""),
        unquote(parts.password or ""),
    )
