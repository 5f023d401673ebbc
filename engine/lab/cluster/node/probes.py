"""Readiness probes, as a kubelet sends them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from engine.lab.wire import Connection, WireError

_TIMEOUT = 5.0  # as in production; a busy machine must not make pods look dead


async def probe(connection: Connection, path: str) -> bool | None:
    """Whether a pod says that it is ready; None if it says nothing."""
    try:
        async with asyncio.timeout(_TIMEOUT):
            headers = "X-Health-Check: kubernetes\r\n"
            return (await connection.request("GET", path, headers=headers)).status == 200
    except (WireError, TimeoutError):
        return None


def readiness(pod: dict[str, Any], ports: Mapping[int, int]) -> tuple[str, int]:
    """Path and real port of a pod's readiness probe; that of the facts if it declares none."""
    probe = pod["spec"]["containers"][0].get("readinessProbe") or {}
    get = probe.get("httpGet") or {}
    port = get.get("port", 8080)
    return get.get("path", "/health/ready"), ports.get(
        port if isinstance(port, int) else 8080, 8080
    )
