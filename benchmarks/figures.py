"""One figure of a benchmark: what was measured, the floor beside it, the ratio, the goal."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Figure:
    """`measured` and `floor` in the same unit; `goal` is the largest ratio that is wanted."""

    what: str
    measured: float
    floor: float
    goal: float
    floor_is: str
    unit: str = "s"

    @property
    def ratio(self) -> float:
        """How many times the floor it is."""
        return self.measured / self.floor

    def __str__(self) -> str:
        verdict = "ok" if self.ratio <= self.goal else "OVER"
        return (
            f"{self.what:<46} {_number(self.measured, self.unit):>11}"
            f"   ÷ {_number(self.floor, self.unit):>10}  {self.floor_is:<30}"
            f" = {self.ratio:6.2f}   goal ≤ {self.goal:g}   {verdict}"
        )


def _number(value: float, unit: str) -> str:
    if unit != "s":
        return f"{value:.0f} {unit}"
    if value < 0.001:
        return f"{value * 1e6:.1f} µs"
    return f"{value * 1e3:.1f} ms" if value < 1 else f"{value:.2f} s"
