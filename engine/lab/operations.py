"""What a running lab can be asked and told over its control socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from engine.errors import LabError
from engine.lab.clock import CLOCK
from engine.lab.control_server import Operation
from engine.production.faults import ALL_VERSIONS
from engine.production.figures import make_figures

if TYPE_CHECKING:
    from engine.lab.lab import Lab


class Operations:
    """The operations of one lab, by name."""

    def __init__(self, lab: Lab) -> None:
        self._lab = lab

    def table(self) -> dict[str, Operation]:
        """Name → operation."""
        return {
            "status": self.status,
            "figures": self.figures,
            "metric": self.metric,
            "fault": self.fault,
            "clear_faults": self.clear_faults,
            "rate": self.rate,
            "inbox": self.inbox,
            "stop": self.stop,
        }

    async def status(self) -> Any:
        """How the lab is."""
        return msgspec.to_builtins(await self._lab.status())

    async def figures(self, verify_writes: bool = False) -> Any:
        """What the load counted; with `verify_writes` every acknowledged order is looked for."""
        load = self._lab.load
        if load is None:
            raise LabError("the lab runs without a load", hint="start it with a request rate")
        lost = None
        if verify_writes:
            written = await load.acknowledged()
            lost = len(written - await self._lab.orders(load.plan.source))
        await load.flush()
        figures = make_figures(
            self._lab.observations.ever(),
            CLOCK.monotonic() - load.began,
            load.plan.users,
            lost,
        )
        return msgspec.to_builtins(figures)

    async def metric(self, name: str, version: str, window: float) -> Any:
        """A metric's value and samples, or None without data."""
        value = self._lab.measure(name, version, window)
        return None if value is None else {"value": value.value, "samples": value.samples}

    async def fault(self, changes: dict[str, Any], version: str = ALL_VERSIONS) -> Any:
        """Put a fault on a version; the faults that there are now."""
        self._lab.faults.set(version, changes)
        return msgspec.to_builtins(self._lab.faults.table())

    async def clear_faults(self, version: str | None = None) -> Any:
        """End the faults of a version, or all."""
        self._lab.faults.clear(version)
        return msgspec.to_builtins(self._lab.faults.table())

    async def rate(self, rate: float) -> None:
        """Change the load's rate."""
        if self._lab.load is None:
            raise LabError("the lab runs without a load", hint="start it with a request rate")
        if rate < 0:
            raise LabError("a rate cannot be negative")
        self._lab.load.set_rate(rate)

    async def inbox(
        self, fail_next: int | None = None, down: bool | None = None, clear: bool = False
    ) -> None:
        """Let the inbox fail, be down or up again, or forget its messages."""
        if clear:
            self._lab.inbox.clear()
        if fail_next is not None:
            self._lab.inbox.fail_next(fail_next)
        if down is not None:
            self._lab.inbox.set_down(down)

    async def stop(self) -> None:
        """End the lab; the answer comes before the end."""
        self._lab.end("asked to stop")
