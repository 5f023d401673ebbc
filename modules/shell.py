"""Run a command on this machine.

No inventory section. The command sees the run in its environment (``CE_RUN_ID``, and
``CE_RUN_TOKEN``, the fencing token), so that a script can pass them on to what it calls.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal

from engine.module_api import Context, Probe, Refused, Result, action
from modules._process import child as child_process
from modules._process import command as process_command
from modules._process import orphans as process_orphans


@action(effect="once")
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
    """Run a command with ``/bin/sh -c``, or, given as a list, without a shell.

    Result data: ``code`` (exit status), ``stdout``, ``stderr`` (text without the last newline),
    ``truncated`` (whether output was longer than `limit`; then its middle is left out, the
    step's log has it all), ``skipped`` (true when `creates` or `unless` said there is nothing
    to do). ``changed`` unless it was skipped or its effect is ``read``.

    Effect once: after a crash in the middle the run asks whether to repeat it, unless `creates`
    or `unless` can tell, or `effect` says that repeating is safe; what still runs of it is ended
    before it is repeated. At a deadline or a cancellation the command and everything that it
    started get SIGTERM, two seconds later SIGKILL. Put secrets into `env` or `stdin`: a command
    line can be read by every user. A text with a secret in it is handed to the shell unseen, but
    what the shell starts with it is not; a list with a secret in it is refused.

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
    if (creates or unless) and _satisfied(ctx, cwd, env, creates, unless):
        return process_command.skipped(creates, unless)
    finished = child_process.run(
        ctx,
        command,
        cwd=_folder(ctx, cwd),
        env=_environment(ctx, env),
        stdin=stdin,
        limit=limit,
    )
    return process_command.outcome(
        command,
        finished.code,
        finished.stdout,
        finished.stderr,
        finished.truncated,
        expect=expect,
        changed=effect != "read",
    )


@run.check
def run_check(
    ctx: Context,
    command: str | list[str],
    *,
    effect: str = "once",
    expect: int | list[int] = 0,
    cwd: str = "",
    env: dict[str, Any] | None = None,
    creates: str = "",
    unless: str = "",
    **others: Any,
) -> Result:
    """Say what would run; a command with ``effect: read`` is run."""
    if effect == "read":
        return run(ctx, command, cwd=cwd, env=env, expect=expect, effect="read", **others)
    if (creates or unless) and _satisfied(ctx, cwd, env, creates, unless):
        return process_command.skipped(creates, unless)
    return process_command.preview(command, expect)


@run.probe
def run_probe(
    ctx: Context,
    command: str | list[str],
    *,
    effect: str = "once",
    cwd: str = "",
    env: dict[str, Any] | None = None,
    creates: str = "",
    unless: str = "",
    **others: Any,
) -> Probe:
    """Only `creates`, `unless` or `effect` can tell whether a command has run."""
    told = None
    if effect == "once" and (left := process_orphans.find(ctx)):
        pids = ", ".join(map(str, sorted(left)))
        return Probe("unknown", message=f"it still runs (process {pids}); --redo ends it first")
    if effect == "once" and (creates or unless):
        told = _satisfied(ctx, cwd, env, creates, unless)
    return process_command.probed(effect, creates, unless, told)


def _satisfied(
    ctx: Context, cwd: str, env: dict[str, Any] | None, creates: str, unless: str
) -> bool:
    folder = _folder(ctx, cwd)
    if creates and (Path(folder) / creates).exists():
        return True
    if not unless:
        return False
    return child_process.run(ctx, unless, cwd=folder, env=_environment(ctx, env), limit=2).code == 0


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
