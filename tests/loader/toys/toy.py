"""Actions that do nothing, with arguments of every kind."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from engine.module_api import Context, Duration, Expression, File, Result, action


class Expect(msgspec.Struct):
    """What is expected of something."""

    status: int | list[int] = 200
    json: list[Expression] = []
    header: dict[str, str] = {}


@action(effect="read")
def look(
    ctx: Context,
    name: str,
    *,
    count: int = 1,
    ratio: float = 1.0,
    deep: bool = False,
    for_: Duration = 5.0,
    file: File | list[File] | None = None,
    mode: Literal["quick", "thorough"] = "quick",
    labels: dict[str, str] | None = None,
    names: list[str] | None = None,
    expect: Expect | None = None,
    until: Expression | None = None,
    anything: Any = None,
) -> Result:
    """Look at something.

    Args:
        name: what to look at
        count: how often, with words
            that go on in a second line
    """
    return Result(data={"name": name})


@action(effect="once")
def poke(ctx: Context, name: str, *, hard: bool = False) -> Result:
    """Poke something."""
    return Result(changed=True)


@action(effect="idempotent")
def rollout_status(ctx: Context, *, name: str = "") -> Result:
    """Has a name of two words and no argument that must be given."""
    return Result()
