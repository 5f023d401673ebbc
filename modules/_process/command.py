"""What `shell` and `ssh` have in common: whether a command has to run, and what its end means."""

from __future__ import annotations

import signal
from typing import Any

from engine.module_api import Arguments, Context, Failed, Probe, Refused, Result
from modules._process.finished import Finished

CommandText = str | list[str]


def outcome(
    command: CommandText, finished: Finished, *, expect: int | list[int], changed: bool
) -> Result:
    """The result of a command that has ended; Failed if its exit status is not expected."""
    code = finished.code
    data: dict[str, Any] = {
        "code": code,
        "stdout": finished.stdout.removesuffix("\n"),
        "stderr": finished.stderr.removesuffix("\n"),
        "truncated": finished.truncated,
        "skipped": False,
    }
    accepted = [expect] if isinstance(expect, int) else expect
    if code in accepted:
        return Result(changed=changed, data=data)
    how = f"was ended by {_signal(-code)}" if code < 0 else f"ended with exit status {code}"
    unlike = "" if accepted == [0] else f", not {' or '.join(map(str, accepted))}"
    output = finished.stderr.strip() or finished.stdout.strip()
    raise Failed(
        f"`{short(text_of(command))}` {how}{unlike}",
        hint=_hint(code),
        evidence=output.splitlines()[-10:],
        data=data,
    )


def _signal(number: int) -> str:
    """``signal 9 (KILL)``."""
    try:
        return f"signal {number} ({signal.Signals(number).name.removeprefix('SIG')})"
    except ValueError:
        return f"signal {number}"


def _hint(code: int) -> str:
    if code == 127:
        return "the shell did not find the command: is it installed and in PATH?"
    if code == 126:
        return "the command was found but may not be executed: see its permissions"
    return "its output is in the step's log"


def simulated(ctx: Context, where: str, args: Arguments) -> Result:
    """A command in a simulated world, on the machine `where`."""
    refuse_shown(ctx, args.command)
    commands = ctx.world.commands
    if (
        args.unless
        and not (answer := commands.run(where, args.unless)[0]).assumed
        and not answer.code
    ):
        return skipped("", args.unless)
    with ctx.fence():
        spoken, seconds = commands.run(where, args.command)
    if spoken.assumed:
        ctx.log("assumed: the simulated world does not know this command; it succeeds, silently")
    ctx.sleep(seconds)
    finished = Finished(spoken.code, spoken.stdout, spoken.stderr)
    return outcome(args.command, finished, expect=args.expect, changed=args.effect != "read")


def skipped(creates: str, unless: str) -> Result:
    """The result of a command that has nothing to do."""
    reason = f"{creates} is there" if creates else f"`{short(unless)}` succeeds"
    return Result(
        data={"code": 0, "stdout": "", "stderr": "", "truncated": False, "skipped": True},
        message=f"nothing to do: {reason}",
    )


def refuse_shown(ctx: Context, command: CommandText) -> None:
    """Refuse a list of words with a secret among them: nothing can hide what a program is given
    as its arguments."""
    if not isinstance(command, str) and any(map(ctx.holds_secret, command)):
        raise Refused(
            f"a secret would be an argument of `{command[0]}`, which every list of processes shows",
            hint="give it by `env` or `stdin`",
        )


def preview(command: CommandText, expect: int | list[int], where: str = "") -> Result:
    """What --check shows of a command that would run."""
    code = expect if isinstance(expect, int) else next(iter(expect), 0)
    text = text_of(command)
    return Result(
        changed=True,
        data={"code": code, "stdout": "", "stderr": "", "truncated": False, "skipped": False},
        diff="".join(f"+ {line}\n" for line in text.splitlines()),
        message=f"would run{where}: {short(text)}",
    )


def probed(effect: str, creates: str, unless: str, satisfied: bool | None) -> Probe:
    """Whether a command has run; `satisfied` is what `creates` and `unless` say, if given."""
    if effect != "once":
        return Probe("not_done", message=f"its effect is {effect}: repeating it is safe")
    if satisfied is None:
        return Probe("unknown", message="a command leaves no trace that could be asked for")
    if satisfied:
        return Probe("done", skipped(creates, unless))
    # What it should leave may be missing because it was cut off half-way: nobody knows.
    return Probe("unknown", message="it was started, and what it should leave is not there")


def text_of(command: CommandText) -> str:
    """A command as one would type it."""
    if isinstance(command, str):
        return command
    import shlex

    return shlex.join(command)


def short(text: str) -> str:
    """Its first line, for people."""
    first, newline, _ = text.strip().partition("\n")
    return first if len(first) <= 80 and not newline else f"{first[:77]}…"
