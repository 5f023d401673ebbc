"""What a pod of the application knows and counts: its agents, its phase, its figures.

No network here; `app.py` serves what this file knows.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import msgspec

from engine.lab.application.pod import PodSpec, PodUpdate
from engine.lab.clock import CLOCK
from engine.production.names import PHASES


class AppState:
    """One pod's state, between its start and its end."""

    def __init__(self, spec: PodSpec) -> None:
        self.spec = spec
        self.update = spec.update
        self.started = CLOCK.now()
        self.phase = 0
        self.draining = False
        self.agents: dict[str, bool] = {}
        self.agents_body = b""
        self.counts: Counter[str] = Counter()
        self._ballast: list[bytearray] = []
        self._phase_file = Path(spec.folder, ".phase", "current")
        self.load_agents(spec.update)

    def load_agents(self, update: PodUpdate) -> None:
        """Read the agents' configuration as it is mounted; one that cannot be read is inactive."""
        self.update = update
        folder = Path(update.agents) if update.agents else None
        files = sorted(folder.glob("[!.]*")) if folder and folder.is_dir() else []
        self.agents = {file.stem: _enabled(file) for file in files}
        for name in [name for name, active in self.agents.items() if active][
            : update.fault.agents_down
        ]:
            self.agents[name] = False
        self.agents_body = msgspec.json.encode(self._agents_report())

    @property
    def agents_active(self) -> int:
        """Agents that answer."""
        return sum(self.agents.values())

    def move_to(self, phase: int) -> None:
        """Be in this phase of the workflow, and leave it in `/app/.phase/current`."""
        self.phase = phase
        self.counts["workflow_transitions"] += 1
        draft = self._phase_file.with_name(".new")
        draft.write_text(f"P{phase}\n")
        draft.replace(self._phase_file)  # whoever reads it never sees half of it

    def grow(self, mebibytes: float) -> None:
        """Take memory for good, as a leak does."""
        block = bytearray(int(mebibytes * 1024 * 1024))
        block[::4096] = b"x" * len(block[::4096])  # touched, so that it is really ours
        self._ballast.append(block)

    def checks(self, *, database: bool, redis: bool) -> dict[str, bool]:
        """The readiness checks by name."""
        return {
            "agents_loaded": len(self.agents) >= self.spec.agent_count,
            "workflow_initialized": self.spec.phase_count == len(PHASES),
            "database": database,
            "redis": redis,
            "external_services": not self.update.fault.never_ready,
        }

    def _agents_report(self) -> dict[str, Any]:
        rows = [
            {"name": name, "status": "active" if active else "down"}
            for name, active in self.agents.items()
        ]
        return {"total": len(rows), "active": self.agents_active, "agents": rows}

    def metrics(self, group: str) -> str:
        """Prometheus text of a group: `agents`, `workflow`, or `all`."""
        groups: dict[str, dict[str, float]] = {
            "agents": {
                "ce_agents_total": len(self.agents),
                "ce_agents_active": self.agents_active,
                "ce_agent_failures_total": self.counts["agent_failures"],
            },
            "workflow": {
                "ce_workflow_phase": self.phase,
                "ce_workflow_transitions_total": self.counts["workflow_transitions"],
                "ce_workflow_errors_total": self.counts["workflow_errors"],
            },
            "app": {
                "ce_up": 1,
                "ce_requests_total": self.counts["requests"],
                "ce_request_errors_total": self.counts["errors"],
                "ce_start_time_seconds": round(self.started, 3),
            },
        }
        chosen = groups.values() if group == "all" else [groups[group]]
        labels = f'{{version="{self.spec.version}",pod="{self.spec.name}"}}'
        lines = [f"{name}{labels} {value}" for each in chosen for name, value in each.items()]
        return "\n".join(lines) + "\n"


def _enabled(file: Path) -> bool:
    """Whether an agent's configuration can be read and does not switch it off."""
    try:
        config = _parse(file.read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("enabled") is not False


def _parse(text: bytes) -> Any:
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        import yaml

        try:
            return yaml.safe_load(text)
        except yaml.YAMLError as error:
            raise ValueError(str(error)) from error
