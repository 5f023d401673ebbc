"""Have a person look and say yes.

No inventory section. The engine asks before the action starts, so that a crash or a resume
finds a question, never a half-done step: ``ce-run approve`` and ``reject`` answer it from
another shell, ``--yes`` and ``--force`` beforehand. When the action itself runs, the answer was
yes; it is in the step's scope as ``approval``.
"""

from __future__ import annotations

from typing import Any

from engine.module_api import Arguments, Context, Duration, Result, action


@action(effect="read", inline=True)
def ask(
    ctx: Context,
    message: str,
    *,
    checklist: list[str] | None = None,
    timeout: Duration | None = None,
) -> Result:
    """Ask a person to confirm before the run goes on; a refusal fails the step.

    Result data: ``approved`` (true), ``by`` (who), ``at`` (UTC), ``comment`` (their words, may
    be empty), ``checklist`` (the items that were confirmed). Effect read: an answer given
    before a crash still holds after it.

    Args:
        message: what to decide, in one sentence.
        checklist: points that the person confirms to have looked at.
        timeout: how long to wait for an answer; then the gate has timed out, which is a
            failure. Default: without limit.
    """
    answer = _answer(ctx)
    by = str(answer.get("by") or "")
    data = {
        "approved": True,
        "by": by,
        "at": str(answer.get("at") or ""),
        "comment": str(answer.get("comment") or ""),
        "checklist": list(checklist or []),
    }
    return Result(data=data, message=f"confirmed by {by}" if by else "confirmed")


@ask.check
def ask_check(ctx: Context, args: Arguments) -> Result:
    """Say what would be asked."""
    data = {"approved": True, "by": "", "at": "", "comment": "", "checklist": args.checklist or []}
    return Result(data=data, message=f"would ask: {args.message}")


def _answer(ctx: Context) -> dict[str, Any]:
    answer = ctx.evaluate("approval | default({})")
    return answer if isinstance(answer, dict) else {}
