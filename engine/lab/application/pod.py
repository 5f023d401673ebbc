"""What a pod's process is told: at its start, and while it runs.

Both sides import this and nothing else of each other: the kubelet that starts pods, and the
application that runs in them.
"""

from __future__ import annotations

import msgspec

from engine.production.faults import Fault


class PodSpec(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that the application needs to start."""

    uid: str
    name: str
    version: str
    mode: str
    """`stable` or what CLAUDE_MODE says, for example `canary`."""
    address: str
    ports: dict[int, int]
    """A port of the container → the port to listen on."""
    folder: str
    """The folder that is `/app` in the pod."""
    log: str
    dsn: str
    redis_host: str
    redis_port: int
    agent_count: int
    """Agents that must be loaded before the pod is ready."""
    phase_count: int
    update: PodUpdate


class PodUpdate(msgspec.Struct, frozen=True, kw_only=True):
    """What may change while a pod runs; always sent whole."""

    fault: Fault
    writes_paused: bool = False
    """From ConfigMap `claude-enhancer-maintenance`, key `writes`: `paused`."""
    agents: str = ""
    """The folder with the agents' configuration as it is mounted now; a new one is loaded."""
