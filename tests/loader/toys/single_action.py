"""A module with one action."""

from __future__ import annotations

from engine.module_api import Context, Result, action


@action(effect="once")
def go(ctx: Context, command: str, **others: str) -> Result:
    """Go."""
    return Result()
