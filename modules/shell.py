"""Run a command on this machine.

No inventory section. The command sees the run in its environment (``CE_RUN_ID``, and
``CE_RUN_TOKEN``, the fencing token), so that a script can pass them on to what it calls.

Below ``hosts:`` a step says where: ``on: hosts`` is `ssh.run` on each of them, and with
``on: controller`` it runs here, once for each host.

At a deadline or a cancellation the command and everything that it started get SIGTERM, two seconds
later SIGKILL; what still runs of it after a crash is ended before it is repeated. Put secrets into
`env` or `stdin`: a command line can be read by every user. A text with a secret in it is handed to
the shell unseen, but what the shell starts with it is not; a list with a secret in it is refused.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from engine.module_api import Arguments, Context, Probe, Refused, Result, action
from modules._process import child as child_process
from modules._process import command as process_command
from modules._process import orphans as process_orphans


@action(effect="once", remote="ssh.run")
def run(
    ctx: Context,
    command: str | list[str],
    *,
    cwd: str = "",
    env: dict[str, Any] | None = None,
    stdin: str | None = None,
    expect: int | list[int] = 0,
    creates: str = "",
    unless: str = "",
    effect: Literal["read", "idempotent", "once"] = "once",
    limit: int = 65536,
) -> Result:
    """Run a command with ``/bin/sh -c``, or, given as a list, without a shell, on this machine.

    Result data: ``code`` (exit status), ``stdout``, ``stderr`` (text without the last newline),
    ``truncated`` (output beyond `limit`: its middle is left out, the step's log has it all),
    ``skipped`` (`creates` or `unless` said that there is nothing to do). ``changed`` unless it
    was skipped or its effect is ``read``. Effect once: after a crash in the middle the run asks
    whether to repeat it, unless `creates`, `unless` or `effect` can tell.

    Args:
        command: text for the shell, or a list of words to run as they are.
        cwd: working folder below the runbook's folder; default: the runbook's folder.
        env: variables added to the environment.
        stdin: text for its standard input; default: empty.
        expect: the exit status, or several, that mean success.
        creates: a file (relative to `cwd`) that the command makes; if it is there, skip.
        unless: a command without effects; if it succeeds, there is nothing to do: skip.
        effect: what a repetition does: ``read`` (nothing; runs under --check, too),
            ``idempotent`` (the same again) or ``once``.
        limit: characters of stdout and of stderr to keep in the result.
    """
    process_command.refuse_shown(ctx, command)
    process_orphans.end(ctx)
    conditions = Arguments({"cwd": cwd, "env": env, "creates": creates, "unless": unless})
    if _satisfied(ctx, conditions):
        return process_command.skipped(creates, unless)
    finished = child_process.run(
        ctx, command, cwd=_folder(ctx, cwd), env=_environment(ctx, env), stdin=stdin, limit=limit
    )
    return process_command.outcome(command, finished, expect=expect, changed=effect != "read")


@run.check
def run_check(ctx: Context, args: Arguments) -> Result:
    """Say what would run; a command with ``effect: read`` is run."""
    if args.effect == "read":
        return run(ctx, **vars(args))
    if _satisfied(ctx, args):
        return process_command.skipped(args.creates, args.unless)
    return process_command.preview(args.command, args.expect)


@run.probe
def run_probe(ctx: Context, args: Arguments) -> Probe:
    """Only `creates`, `unless` or `effect` can tell whether a command has run."""
    satisfied = None
    if args.effect == "once" and (left := process_orphans.find(ctx)):
        pids = ", ".join(map(str, sorted(left)))
        return Probe("unknown", message=f"it still runs (process {pids}); --redo ends it first")
    if args.effect == "once" and (args.creates or args.unless):
        satisfied = _satisfied(ctx, args)
    return process_command.probed(args.effect, args.creates, args.unless, satisfied)


@run.simulate
def run_simulated(ctx: Context, args: Arguments) -> Result:
    """What a scenario says of the command; else it is assumed to succeed."""
    return process_command.simulated(ctx, "localhost", args)


def _satisfied(ctx: Context, args: Arguments) -> bool:
    """Whether `creates` or `unless` say that there is nothing to do; False without either."""
    if not args.creates and not args.unless:
        return False
    folder = _folder(ctx, args.cwd)
    if args.creates and (Path(folder) / args.creates).exists():
        return True
    if not args.unless:
        return False
    environment = _environment(ctx, args.env)
    return child_process.run(ctx, args.unless, cwd=folder, env=environment, limit=2).code == 0


def _folder(ctx: Context, cwd: str) -> str:
    # Resolving a path costs a tenth of starting a process: once a run is enough.
    return ctx.cached(f"shell:folder:{cwd}", lambda: str(ctx.file(cwd)))


def _environment(ctx: Context, env: dict[str, Any] | None) -> dict[bytes, bytes]:
    inherited = ctx.cached("shell:environment", lambda: dict(os.environb))
    own = {
        b"CE_RUN_ID": ctx.run_id.encode(),
        b"CE_RUN_TOKEN": ctx.identity().get("X-CE-Token", "").encode(),
        **process_orphans.mark(ctx),
    }
    for name, value in (env or {}).items():
        if not isinstance(value, str | int | float):
            raise Refused(f"env.{name} must be text or a number, not {type(value).__name__}")
        own[os.fsencode(name)] = os.fsencode(str(value))
    return {**inherited, **own}
