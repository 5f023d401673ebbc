"""The names of the production: what its objects, versions and labels are called."""

from __future__ import annotations

NAMESPACE = "claude-enhancer"
SERVICE = "claude-enhancer-service"
VIRTUAL_SERVICE = "claude-enhancer-traffic"
DESTINATION_RULE = "claude-enhancer"
AGENTS_CONFIGMAP = "claude-enhancer-agents"
MAINTENANCE_CONFIGMAP = "claude-enhancer-maintenance"
"""Its key `writes` holds `paused` while no orders are taken."""

STABLE_VERSION = "5.0"
CANARY_VERSION = "5.1"
IMAGE = "claude-enhancer"
HOST = "claude-enhancer.example.com"
BLUE, GREEN = "claude-enhancer-blue", "claude-enhancer-green"

APP_LABEL = ("app", "claude-enhancer")
CANARY_HEADER = "x-canary-user"

PHASES = ("discovery", "planning", "skeleton", "implementation", "testing", "review", "release",
          "monitoring")  # fmt: skip
"""The eight phases of a workflow, P0 to P7."""
