"""Run commands and put files on other machines over SSH.

The machine is the step's host (``hosts:`` in the step), or the action's `host`. Inventory section
``ssh``, all optional::

    ssh:
      user: deploy
      port: 22
      key: ~/.ssh/id_ed25519            # default: the agent's keys and those in ~/.ssh
      passphrase: "{{ secret('ssh_passphrase') }}"
      password: "{{ secret('ssh_password') }}"
      known_hosts: files/known_hosts    # default: the user's and the machine's
      agent: true
      jump: ops@bastion.example.com     # or several, hop by hop, with the same key or agent
      proxy_command: ssh -W %h:%p bastion   # or a command that leads to the host
      keepalive: 15s                    # three times without an answer: it is gone; 0: never ask
      host_key_checking: true           # false: every run warns

Variables of a host are Ansible's, and say more: ``ansible_host``, ``ansible_port``,
``ansible_user``, ``ansible_password``, ``ansible_ssh_private_key_file``, ``ansible_timeout``, their
older names (``ansible_ssh_host``, …), and options of OpenSSH's client in
``ansible_ssh_common_args`` (``-J``, ``-o ProxyCommand=…``, ``StrictHostKeyChecking``,
``UserKnownHostsFile``, ``ServerAliveInterval``, …). What is not understood of them is refused by
its name, as are ``ansible_become`` and connections that are not SSH.

A host whose key is not known, or is another, is refused, a jump host's too. One connection a host
serves the run. ``~/.ssh/config`` is not read.
"""

from __future__ import annotations

import posixpath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from engine.module_api import Arguments, Context, Failed, File, Probe, Refused, Result, action
from modules._process import command as process_command
from modules._ssh import address as ssh_address
from modules._ssh import command as ssh_command
from modules._ssh import connection as ssh_connection

if TYPE_CHECKING:
    import paramiko

_DIFF = 65536


@action(effect="once")
def run(
    ctx: Context,
    command: str | list[str],
    *,
    host: str = "",
    stdin: str = "",
    expect: int | list[int] = 0,
    creates: str = "",
    unless: str = "",
    effect: Literal["read", "idempotent", "once"] = "once",
    limit: int = 65536,
) -> Result:
    """Run a command with ``/bin/sh`` on another machine.

    Result data: as of `shell`: ``code``, ``stdout``, ``stderr``, ``truncated``, ``skipped``.
    Effect once, in the same way: `creates`, `unless` or `effect` tell what a repetition means, and
    what still runs of it after a crash is ended before it is repeated. At
    a deadline or a cancellation the command is ended on that machine, with what it started.
    Secrets belong into `stdin`: a command line can be read by every user there. A text with a
    secret in it is handed to the shell unseen, but what the shell starts with it is not; a list
    with a secret in it is refused.

    Args:
        command: text for the shell, or a list of words.
        host: ``[user@]host[:port]`` instead of the step's host.
        stdin: text for its standard input.
        expect: the exit status, or several, that mean success.
        creates: a file there that the command makes; if it is there, skip.
        unless: a command without effects; if it succeeds, there is nothing to do: skip.
        effect: what a repetition does: ``read`` (runs under --check, too), ``idempotent`` or
            ``once``.
        limit: characters of stdout and of stderr to keep in the result.
    """
    process_command.refuse_shown(ctx, command)
    where = ssh_address.address(ctx, host)
    ssh_command.end_left(ctx, where)
    if _satisfied(ctx, where, creates, unless):
        return process_command.skipped(creates, unless)
    text = process_command.text_of(command)
    done = ssh_command.run(ctx, where, text, stdin=stdin, limit=limit)
    return process_command.outcome(command, done, expect=expect, changed=effect != "read")


@run.check
def run_check(ctx: Context, args: Arguments) -> Result:
    """Log in and say what would run; a command with ``effect: read`` is run."""
    if args.effect == "read":
        return run(ctx, **vars(args))
    where = ssh_address.address(ctx, args.host)
    ssh_connection.transport(ctx, where)
    if _satisfied(ctx, where, args.creates, args.unless):
        return process_command.skipped(args.creates, args.unless)
    return process_command.preview(args.command, args.expect, f" on {where}")


@run.probe
def run_probe(ctx: Context, args: Arguments) -> Probe:
    """Only `creates`, `unless` or `effect` can tell whether a command has run."""
    satisfied = None
    if args.effect == "once" and (args.creates or args.unless):
        where = ssh_address.address(ctx, args.host)
        if still := ssh_command.left(ctx, where):
            pids = ", ".join(map(str, still))
            return Probe("unknown", message=f"it still runs there (process {pids})")
        satisfied = _satisfied(ctx, where, args.creates, args.unless)
    return process_command.probed(args.effect, args.creates, args.unless, satisfied)


@run.simulate
def run_simulated(ctx: Context, args: Arguments) -> Result:
    """What a scenario says of the command; else it is assumed to succeed."""
    return process_command.simulated(ctx, args.host or (ctx.host.name if ctx.host else ""), args)


def _satisfied(ctx: Context, where: ssh_address.Address, creates: str, unless: str) -> bool:
    """Whether `creates` or `unless` say that there is nothing to do; False without either."""
    if creates:
        test = process_command.text_of(["test", "-e", creates])
        if ssh_command.run(ctx, where, test, log=False).code == 0:
            return True
    return bool(unless) and ssh_command.run(ctx, where, unless, limit=2, log=False).code == 0


@action(effect="idempotent")
def copy(
    ctx: Context,
    dest: str,
    *,
    src: File | None = None,
    content: str | None = None,
    mode: str = "",
    host: str = "",
) -> Result:
    """Put a file onto another machine, whole or not at all, if it differs from what is there.

    It is written beside its place, compared, and renamed over the old one.

    Result data: ``dest``, ``bytes``, ``sha256``, ``mode`` (as ``0644``). ``changed`` if contents
    or mode differed. Effect idempotent.

    Args:
        dest: the absolute path there; its folder must exist.
        src: a file below the runbook's folder.
        content: or the text itself.
        mode: permissions as ``0644``; default: as they are, 0644 for a new file.
        host: ``[user@]host[:port]`` instead of the step's host.
    """
    data = _contents(ctx, src, content)
    where = ssh_address.address(ctx, host)
    with ssh_connection.lost(where), ssh_connection.sftp(ctx, where) as sftp:
        there, old = _look(sftp, dest)
        permissions = _mode(mode, there)
        same = old == data
        if not same:
            _replace(ctx, sftp, dest, data, permissions)
        elif there != permissions:
            with ctx.fence():
                sftp.chmod(dest, permissions)
    return Result(
        changed=not same or there != permissions,
        data=_copied(dest, data, permissions),
        diff=_difference(dest, old, data),
    )


@copy.simulate
def copy_simulated(ctx: Context, args: Arguments) -> Result:
    """The file is kept by the simulated machine."""
    data = _contents(ctx, args.src, args.content)
    where = args.host or (ctx.host.name if ctx.host else "")
    ctx.sleep(0.2)
    files = ctx.world.commands.files
    old = files.get((where, args.dest))
    text = data.decode(errors="replace")
    with ctx.fence():
        files[where, args.dest] = text
    mode = int(args.mode, 8) if args.mode else 0o644
    return Result(
        changed=old != text,
        data=_copied(args.dest, data, mode),
        diff=_difference(args.dest, None if old is None else old.encode(), data),
    )


@copy.check
def copy_check(ctx: Context, args: Arguments) -> Result:
    """Compare with what is there."""
    data = _contents(ctx, args.src, args.content)
    where = ssh_address.address(ctx, args.host)
    with ssh_connection.lost(where), ssh_connection.sftp(ctx, where) as sftp:
        there, old = _look(sftp, args.dest)
    mode = _mode(args.mode, there)
    return Result(
        changed=old != data or there != mode,
        data=_copied(args.dest, data, mode),
        diff=_difference(args.dest, old, data),
    )


def _contents(ctx: Context, src: Path | None, content: str | None) -> bytes:
    if (src is None) == (content is None):
        raise Refused("give the file either as `src` or as `content`")
    if src is None:
        return (content or "").encode()
    try:
        return ctx.file(src).read_bytes()
    except OSError as error:
        raise Refused(f"{src} cannot be read: {error}") from None


def _look(sftp: paramiko.SFTPClient, dest: str) -> tuple[int | None, bytes | None]:
    """Mode and contents of a remote file; None if it is not there."""
    try:
        mode = sftp.stat(dest).st_mode
        with sftp.open(dest, "rb") as stream:
            stream.prefetch()
            return (mode or 0) & 0o7777, stream.read()
    except FileNotFoundError:
        return None, None
    except PermissionError as error:
        raise Refused(f"{dest} may not be read: {error}") from None


def _mode(text: str, there: int | None) -> int:
    if not text:
        return 0o644 if there is None else there
    try:
        return int(text, 8)
    except ValueError:
        raise Refused(f"{text!r} is no mode", hint="write it like 0644") from None


def _replace(ctx: Context, sftp: paramiko.SFTPClient, dest: str, data: bytes, mode: int) -> None:
    """Write beside the place, verify, rename."""
    import hashlib

    short = hashlib.sha256(ctx.key.encode()).hexdigest()[:8]
    partial = posixpath.join(posixpath.dirname(dest), f".{posixpath.basename(dest)}.{short}")
    try:
        with ctx.fence(), sftp.open(partial, "wb") as stream:
            stream.chmod(0o600)  # before the first byte: it may be a secret
            stream.set_pipelined(True)
            stream.write(data)
        sftp.chmod(partial, mode)
        with sftp.open(partial, "rb") as stream:
            stream.prefetch()
            if stream.read() != data:
                raise Failed(f"{dest} did not arrive as it was sent")
        with ctx.fence():
            sftp.posix_rename(partial, dest)
    except FileNotFoundError:
        raise Failed(f"{dest}: its folder is not there") from None
    except PermissionError as error:
        raise Refused(f"{dest} may not be written: {error}") from None


def _copied(dest: str, data: bytes, mode: int) -> dict[str, Any]:
    import hashlib

    return {
        "dest": dest,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "mode": f"{mode:04o}",
    }


def _difference(dest: str, old: bytes | None, new: bytes) -> str:
    """A unified diff of short texts; of anything else one line."""
    import difflib

    if old == new:
        return ""
    before = old or b""
    if max(len(before), len(new)) > _DIFF or b"\0" in before + new:
        return f"~ {dest}: {len(before)} → {len(new)} bytes\n"
    lines = difflib.unified_diff(
        before.decode(errors="replace").splitlines(),
        new.decode(errors="replace").splitlines(),
        dest if old is not None else "/dev/null",
        dest,
        lineterm="",
    )
    return "".join(f"{line}\n" for line in lines)
