"""Which proxy the way to a cluster leads through, as kubectl has it.

A kubeconfig's ``proxy-url`` holds for its cluster, whatever else is set. Else the environment's
does (`modules._shared.proxy`).
"""

from __future__ import annotations

from engine.module_api import Refused
from modules._shared import proxy as shared_proxy
from modules._shared.proxy import Proxy


def choose(server: str, configured: object, where: str) -> Proxy | None:
    """The proxy for a server, or None; `configured` is what its kubeconfig `where` says."""
    if configured:
        said_by = f"`proxy-url` of {where}"
        proxy: Proxy | None = shared_proxy.read(str(configured), said_by)
    else:
        said_by = "the environment"
        proxy = shared_proxy.of_environment(server)
    if proxy is not None and not server.startswith("https:"):
        raise Refused(
            f"{said_by} names a proxy for a cluster without TLS: that is not supported",
            hint="reach it by https, or directly (NO_PROXY)",
        )
    return proxy
