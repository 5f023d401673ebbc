"""Actions whose outcome is written in the runbook; time passes, nothing else happens."""

from __future__ import annotations

from typing import Any, Literal

from engine.module_api import (
    ActionError,
    Arguments,
    Context,
    Duration,
    Failed,
    Refused,
    Result,
    TimedOut,
    Unreachable,
    action,
)

_ERRORS: dict[str, type[ActionError]] = {
    "failed": Failed,
    "unreachable": Unreachable,
    "refused": Refused,
    "timed_out": TimedOut,
}


@action(effect="idempotent")
def act(
    ctx: Context,
    seconds: Duration = 0.0,
    *,
    changed: bool = True,
    message: str = "",
    data: dict[str, Any] | None = None,
    diff: str = "",
    fail: Literal["failed", "unreachable", "refused", "timed_out"] | None = None,
    times: int = 1_000_000,
    hint: str = "",
    evidence: list[str] | None = None,
    shares: dict[str, float] | None = None,
    figures: dict[str, Any] | None = None,
) -> Result:
    """Do as written. It fails `times` times, then it succeeds.

    Args:
        seconds: how long it takes; the test's executor lets that much time pass first.
    """
    ctx.checkpoint()
    if fail is not None and ctx.attempt <= times:
        raise _ERRORS[fail](message or "it went wrong", hint=hint, evidence=evidence or [])
    return Result(changed, data or {}, diff, message, shares or {}, figures or {})


@act.check
def act_check(ctx: Context, args: Arguments) -> Result:
    """Say that it would be done."""
    return Result(changed=True, diff=args.diff, message="would act")


@action(effect="once")
def press(ctx: Context, seconds: Duration = 0.0, *, message: str = "") -> Result:
    """Do what must not be done twice; nobody can find out whether it was.

    Args:
        seconds: how long it takes; the test's executor lets that much time pass first.
    """
    ctx.checkpoint()
    return Result(True, {}, "", message)


@action(effect="read")
def look(ctx: Context, values: list[float | None]) -> Result:
    """Give one value after the other, the last for ever."""
    value = values[min(ctx.attempt, len(values)) - 1]
    return Result(data={"value": value})
