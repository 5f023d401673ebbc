"""Stop unless something holds.

No inventory section. As in Ansible: every entry of `that` is an expression without braces.
"""

from __future__ import annotations

import re
from typing import Any

from engine.module_api import Condition, Context, Failed, Refused, Result, action

_NAME = re.compile(r"(?<![\w.'\"])[A-Za-z_]\w*(?:\.\w+|\[\d+\])*(?!\w|\s*\()")
_TEXT = re.compile(r"'[^']*'|\"[^\"]*\"")
_WORDS = frozenset(
    ["and", "or", "not", "in", "is", "if", "else", "true", "false", "none", "True", "False", "None"]
)
_SHOWN = 200


@action(effect="read", inline=True)
def that(
    ctx: Context,
    that: list[Condition | bool] | Condition | bool,
    *,
    fail_msg: str = "",
    msg: str = "",
    success_msg: str = "",
) -> Result:
    """Check that expressions are true, all of them; the failure names each that is not.

    Result data: ``assertions``, how many hold. On failure ``failed`` lists the expressions that
    are false, and the evidence has the values of the names in them. Effect read.

    Args:
        that: an expression without braces, or several, such as ``steps.read.result.rows == 1``.
        fail_msg: what to say when one is false; default: the expressions themselves.
        msg: the same as `fail_msg`.
        success_msg: what to say when all hold.
    """
    conditions = that if isinstance(that, list) else [that]
    if not conditions:
        raise Refused("`that` holds no expression", hint="name at least one")
    false = [one for one in conditions if not _holds(ctx, one)]
    if not false:
        return Result(data={"assertions": len(conditions)}, message=success_msg)
    texts = [str(one).lower() if isinstance(one, bool) else one for one in false]
    own_words = fail_msg or msg
    error = Failed(
        own_words or f"not true: {'; '.join(texts)}",
        evidence=[
            line for one in false if not isinstance(one, bool) for line in _explain(ctx, one)
        ],
        data={"assertions": len(conditions), "failed": texts},
    )
    error.final = any(_is_never_true(one) for one in false)
    raise error


def _is_never_true(condition: str | bool) -> bool:
    """Whether it is ``false`` itself, and so no condition but a way to stop."""
    return condition is False or str(condition).strip().lower() == "false"


def _holds(ctx: Context, expression: str | bool) -> bool:
    if isinstance(expression, bool):
        return expression
    return bool(ctx.evaluate(expression))


def _explain(ctx: Context, expression: str) -> list[str]:
    """The expression, and below it what each name in it stands for."""
    names = dict.fromkeys(_NAME.findall(_TEXT.sub("''", expression)))
    lines = [f"false: {expression}"]
    for name in names:
        if name not in _WORDS:
            known, value = _value(ctx, name)
            lines += [f"  {name} = {value!r}"[:_SHOWN]] if known else []
    return lines


def _value(ctx: Context, name: str) -> tuple[bool, Any]:
    try:
        return True, ctx.evaluate(name)
    except Exception:  # a test or filter name, or undefined: it explains nothing, so leave it out
        return False, None
