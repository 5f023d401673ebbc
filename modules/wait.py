"""Let time pass.

No inventory section.
"""

from __future__ import annotations

from datetime import timedelta

from engine.module_api import Arguments, Context, Duration, Refused, Result, action, format_duration


@action(effect="read", simulates=True)
def wait(ctx: Context, for_: Duration, *, reason: str = "") -> Result:
    """Wait for a while; a guard beside it watches meanwhile.

    Result data: ``seconds``, how long the wait was as a whole. Effect read: a resumed run goes
    on with what was left, counted from the first start of the step.

    Args:
        for: how long, such as ``90s`` or ``5m``.
        reason: what it is waited for; shown in the live view.
    """
    if for_ < 0:
        raise Refused(f"`for` must not be negative, but is {for_:g} s")
    left = for_ - ctx.elapsed_since_first_start()
    if left > 0:
        end = ctx.now() + timedelta(seconds=left)
        why = f": {reason}" if reason else ""
        ctx.progress(f"waiting {format_duration(for_)}, until {end:%H:%M:%S} UTC{why}")
        while left > 0:
            ctx.sleep(left)
            left = for_ - ctx.elapsed_since_first_start()
    return Result(data={"seconds": for_}, message=f"waited {format_duration(for_)}")


@wait.check
def wait_check(ctx: Context, args: Arguments) -> Result:
    """Say how long it would wait."""
    return Result(data={"seconds": args.for_}, message=f"would wait {format_duration(args.for_)}")
