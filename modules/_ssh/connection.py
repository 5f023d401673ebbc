"""SSH connections: one a host and run, host keys checked, commands that can be ended.

Closing a channel does not end what runs behind it. So a command is started by a small wrapper
that tells its process id, and ending it means a second session that signals that process and
everything below it. `paramiko` is imported at first use.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shlex
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from engine.module_api import (
    ActionError,
    Cancelled,
    Context,
    Failed,
    Refused,
    TimedOut,
    Unreachable,
)
from modules._process import child as child_process

if TYPE_CHECKING:
    import paramiko

CONNECT_TIMEOUT = 10.0
_MARK = "CE_RUN_TASK=$1 CE_RUN_ENGINE=$2; export CE_RUN_TASK CE_RUN_ENGINE"
_WRAPPER = 'echo "ce-run-pid:$$"; ' + _MARK + '; exec /bin/sh -c "$3"'
_HIDING = (
    'echo "ce-run-pid:$$"; ' + _MARK + '; IFS= read -r it; it=$(printf "%b_" "$it"); eval "${it%_}"'
)
"""The same for a command with a secret in it, which comes as the first line of its input: a command
line shows in every list of processes."""
_LEFT = """
for file in $(grep -slzxF "CE_RUN_TASK=$1" /proc/[0-9]*/environ); do
  grep -qszxF "CE_RUN_ENGINE=$2" "$file" && continue
  grep -qszxF "CE_RUN_TASK=$1" "$file" || continue  # it was the search itself, and is gone
  pid=${file#/proc/}
  echo "${pid%/environ}"
done
"""
"""Tells the processes of a task that another engine has started and that still run."""

_END = """
pids=$(ps -A -o pid= -o ppid= 2>/dev/null | awk -v root=%(pid)d '
  { parent[$1] = $2 }
  END {
    tree[root]
    do { n = 0; for (p in parent) if (!(p in tree) && (parent[p] in tree)) { tree[p]; n++ } }
    while (n)
    for (p in tree) print p
  }')
pids=${pids:-%(pid)d}
kill -TERM $pids 2>/dev/null
for _ in 1 2 3 4 5 6 7 8 9 10; do
  kill -0 $pids 2>/dev/null || exit 0
  sleep 0.2
done
kill -KILL $pids 2>/dev/null
"""


class Address(msgspec.Struct, frozen=True):
    """Where to log in, and how."""

    host: str
    port: int
    user: str
    key: str
    password: str
    passphrase: str
    known_hosts: tuple[str, ...]
    checked: bool
    agent: bool
    jump: Address | None = None
    """The host through which this one is reached."""

    def __str__(self) -> str:
        return f"{self.user}@{self.host}{f':{self.port}' if self.port != 22 else ''}"


def address(ctx: Context, host: str) -> Address:
    """The address of ``[user@]host[:port]``, or of the step's host, completed by the inventory.

    Variables of the step's host are Ansible's: ansible_host, ansible_port, ansible_user,
    ansible_ssh_private_key_file, ansible_password, and ansible_ssh_common_args for a ProxyJump.
    """
    section = ctx.connection("ssh")
    variables: Mapping[str, Any] = {}
    if not host:
        if ctx.host is None:
            raise Refused("on which host?", hint="give the step `hosts:`, or the action `host:`")
        variables = ctx.host.vars
        host = str(variables.get("ansible_host") or ctx.host.name)
    jump: Address | None = None
    given = _proxy_jump(str(variables.get("ansible_ssh_common_args") or ""))
    hops = section.get("jump") or [] if given is None else given
    for hop in hops if isinstance(hops, list) else [one for one in str(hops).split(",") if one]:
        jump = _completed(str(hop).strip(), section, {}, jump)
    found = _completed(host, section, variables, jump)
    for secret in (found.password, found.passphrase):
        if secret:
            ctx.mask(secret)
    return found


def _completed(
    host: str, section: Mapping[str, Any], variables: Mapping[str, Any], jump: Address | None
) -> Address:
    """``[user@]host[:port]`` with what a host's variables and the section say of it."""
    user, _, rest = host.rpartition("@")
    name, colon, port = rest.rpartition(":")
    if not colon or (":" in name.strip("[]") and "]" not in name) or not port.isdigit():
        name, port = rest, ""  # no port, or an IPv6 address

    def first(*values: Any) -> str:
        return next((str(value) for value in values if value), "")

    known = section.get("known_hosts") or []
    number = first(port, variables.get("ansible_port"), section.get("port"), 22)
    if not number.isdigit():
        raise Refused(f"the SSH port of {host} must be a number, not {number!r}")
    return Address(
        host=name.strip("[]"),
        port=int(number),
        user=first(user, variables.get("ansible_user"), section.get("user"), _me()),
        key=first(variables.get("ansible_ssh_private_key_file"), section.get("key")),
        password=first(
            variables.get("ansible_password"),
            variables.get("ansible_ssh_pass"),
            section.get("password"),
        ),
        passphrase=first(section.get("passphrase")),
        known_hosts=tuple(known if isinstance(known, list) else [str(known)]),
        checked=section.get("host_key_checking", True) is not False,
        agent=section.get("agent", True) is not False,
        jump=jump,
    )


def _proxy_jump(arguments: str) -> str | None:
    """The hops in arguments of OpenSSH's client: ``-J a,b`` or ``-o ProxyJump=a,b``."""
    found = re.search(r"(?:^|\s)(?:-J\s*|-o\s*ProxyJump[= ]\s*)(\S+)", arguments)
    if found is None:
        return None
    hops = found[1].strip("'\"")
    return "" if hops == "none" else hops


def _me() -> str:
    import getpass

    return getpass.getuser()


# -- connections --------------------------------------------------------------------------------
class _Connection:
    """The run's connection to one address, made again when it is lost."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._client: paramiko.SSHClient | None = None

    def transport(self, ctx: Context, where: Address) -> paramiko.Transport:
        with self._lock:
            if self._client is not None:
                transport = self._client.get_transport()
                if transport is not None and transport.is_active():
                    return transport
                self._client.close()
            self._client = _log_in(ctx, where)
            found = self._client.get_transport()
            assert found is not None
            return found

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


def transport(ctx: Context, where: Address) -> paramiko.Transport:
    """The connection to an address; made at first use. Raises Refused or Unreachable."""
    with ctx.fence():
        pass  # a run that was taken over asks nothing, though reading alone harms nobody
    key = f"ssh:{where}:{where.key}:{where.checked}:{where.jump}"
    return ctx.cached(key, _Connection, _Connection.close).transport(ctx, where)


def _log_in(ctx: Context, where: Address) -> paramiko.SSHClient:
    import paramiko

    client = paramiko.SSHClient()
    _host_keys(ctx, client, where)
    way = _through(ctx, where.jump, where) if where.jump is not None else None
    timeout = ctx.remaining(at_most=CONNECT_TIMEOUT)
    with ctx.on_cancel(client.close):
        try:
            client.connect(
                where.host,
                port=where.port,
                username=where.user,
                password=where.password or None,
                key_filename=_key_file(where.key),
                passphrase=where.passphrase or None,
                allow_agent=where.agent,
                look_for_keys=not where.key and not where.password,
                timeout=timeout,
                banner_timeout=timeout,
                auth_timeout=timeout,
                sock=way,
            )
        except (paramiko.SSHException, OSError, EOFError, ValueError) as error:
            client.close()
            ctx.checkpoint()
            raise _not_logged_in(where, error) from None
    return client


def _through(ctx: Context, jump: Address, where: Address) -> paramiko.Channel:
    """A way to `where` on the connection to its jump host, which other hosts use as well."""
    import paramiko

    try:
        return transport(ctx, jump).open_channel(
            "direct-tcpip",
            (where.host, where.port),
            ("127.0.0.1", 0),
            timeout=ctx.remaining(at_most=CONNECT_TIMEOUT),
        )
    except (paramiko.SSHException, OSError, EOFError) as error:
        ctx.checkpoint()
        raise Unreachable(
            f"{where} cannot be reached through {jump}",
            hint="is it up, and does the jump host allow TCP forwarding to it?",
            evidence=[str(error) or type(error).__name__],
        ) from None


def _key_file(key: str) -> str | None:
    if not key:
        return None
    path = Path(key).expanduser()
    if not path.is_file():
        raise Refused(f"the SSH key {key} is not there", hint="see `key` in the inventory's `ssh`")
    return str(path)


def _host_keys(ctx: Context, client: paramiko.SSHClient, where: Address) -> None:
    import paramiko

    if not where.checked:
        ctx.warn(f"the SSH host key of {where} is not checked: `ssh` of the inventory says so")
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        return
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    for name in where.known_hosts:
        path = Path(name).expanduser()
        path = path if path.is_absolute() else ctx.file(path)
        try:
            client.load_system_host_keys(str(path))
        except OSError as error:
            raise Refused(f"the known hosts {path} cannot be read: {error}") from None
    if not where.known_hosts:
        for path in (Path("~/.ssh/known_hosts").expanduser(), Path("/etc/ssh/ssh_known_hosts")):
            with contextlib.suppress(OSError):
                client.load_system_host_keys(str(path))


def _not_logged_in(where: Address, error: Exception) -> ActionError:
    import paramiko

    words = [str(error) or type(error).__name__]
    if isinstance(error, paramiko.BadHostKeyException):
        return Refused(
            f"{where} has another host key than it is known by",
            hint="somebody may be in between; if it was changed on purpose, update known_hosts",
            evidence=words,
        )
    if isinstance(error, paramiko.AuthenticationException):
        return Refused(
            f"{where} refused the login",
            hint="check user, key and password of the inventory's `ssh` or the host's variables",
            evidence=words,
        )
    if "No authentication methods" in words[0]:
        return Refused(
            f"there is no key and no password to log in to {where} with",
            hint="add a key to the agent (ssh-add), or name one as `key` in the inventory's `ssh`",
            evidence=words,
        )
    if "not found in known_hosts" in words[0]:
        return Refused(
            f"the host key of {where} is not known",
            hint="verify it and add it to known_hosts (ssh-keyscan)",
            evidence=words,
        )
    if isinstance(error, ValueError):
        return Refused(f"the key for {where} cannot be used", evidence=words)
    return Unreachable(
        f"{where} cannot be reached by SSH",
        hint="is it up, and are address and port right?",
        evidence=words,
    )


@contextlib.contextmanager
def lost(where: Address) -> Iterator[None]:
    """What paramiko raises in the block means that the connection broke off, or SFTP failed."""
    import paramiko

    try:
        yield
    except OSError as error:
        if error.errno is not None or not error.args:
            raise _broken(where, error) from None
        raise Failed(f"{where}: the file transfer failed: {error}") from None
    except (paramiko.SSHException, EOFError) as error:
        raise _broken(where, error) from None


def _broken(where: Address, error: Exception) -> Unreachable:
    words = str(error) or type(error).__name__
    return Unreachable(f"the connection to {where} broke off", evidence=[words])


# -- commands -----------------------------------------------------------------------------------
class Finished(msgspec.Struct, frozen=True):
    """How a remote command ended; `code` is negative for a signal."""

    code: int
    stdout: str
    stderr: str
    truncated: bool


def run(
    ctx: Context,
    where: Address,
    command: str,
    *,
    stdin: str = "",
    limit: int = 65536,
    log: bool = True,
) -> Finished:
    """Run a command with the remote ``/bin/sh`` to its end; ended there if the task must end."""
    with lost(where):
        connection = transport(ctx, where)
        line, feed = _wrapped(ctx, command)
        with ctx.fence():
            channel = connection.open_session(timeout=ctx.remaining(at_most=CONNECT_TIMEOUT))
            channel.exec_command(line)
        tell: Callable[[str], None] = ctx.log if log else lambda line: None
        remote = _Remote(connection, channel, limit, tell)
        with contextlib.closing(channel), ctx.on_cancel(remote.end):
            try:
                remote.pump(ctx, feed + stdin.encode())
            except (Cancelled, TimedOut):
                remote.end()
                raise
        ctx.checkpoint()  # ended by our own signal
        return remote.finished(where)


def _wrapped(ctx: Context, command: str) -> tuple[str, bytes]:
    """What is run there, and what its input begins with."""
    if not ctx.holds_secret(command):
        return _line(_WRAPPER, ctx.key, _engine(), command), b""
    in_one_line = command.replace("\\", r"\0134").replace("\n", r"\0012")
    return _line(_HIDING, ctx.key, _engine()), f"{in_one_line}\n".encode()


def _line(script: str, *arguments: str) -> str:
    """A command line that runs a script with ``/bin/sh``."""
    return shlex.join(["/bin/sh", "-c", script, "sh", *arguments])


def _engine() -> str:
    """This process among all engines."""
    return f"{socket.gethostname()}:{os.getpid()}"


def left(ctx: Context, where: Address) -> list[int]:
    """Process ids there of this task's commands that outlived the engine that started them.

    An engine that is killed cannot end them, and two at the same time is more than was asked for.
    Where there is no /proc, nothing is found.
    """
    found = run(ctx, where, _line(_LEFT, ctx.key, _engine()), log=False)
    return [int(word) for word in found.stdout.split() if word.isdigit()]


def end_left(ctx: Context, where: Address) -> None:
    """End them, with what they started. Before a first attempt there are none."""
    for pid in left(ctx, where) if ctx.attempt > 1 else ():
        ctx.progress(f"ending what a killed engine has left running on {where}: {pid}")
        run(ctx, where, _END % {"pid": pid}, log=False)


class _Remote:
    """A running remote command."""

    def __init__(
        self,
        connection: paramiko.Transport,
        channel: paramiko.Channel,
        limit: int,
        tell: Callable[[str], None],
    ) -> None:
        self._connection = connection
        self._channel = channel
        self._out = child_process.Captured(limit, tell)
        self._err = child_process.Captured(limit, tell)
        self._head = b""
        self._pid = 0
        self._ending = threading.Lock()

    def pump(self, ctx: Context, stdin: bytes) -> None:
        """Move bytes until the command has ended and everything it said was read."""
        channel = self._channel
        left = stdin
        if not left:
            channel.shutdown_write()
        poll = select.poll()
        poll.register(channel.fileno(), select.POLLIN)
        patience = 3
        while True:
            pause = ctx.remaining(at_most=0.02 if left else 0.1)
            poll.poll(pause * 1000 if pause is not None else None)
            if left and channel.send_ready():
                with contextlib.suppress(OSError):  # it does not read: its business
                    left = left[channel.send(left[:32768]) :]
                left = b"" if channel.closed else left
                if not left:
                    channel.shutdown_write()
            read = self._read()
            if channel.exit_status_ready() or channel.closed:
                # What it left in the background may hold the streams open: do not wait for that.
                patience -= not read
                if not read and (channel.eof_received or channel.closed or patience <= 0):
                    return

    def _read(self) -> bool:
        read = False
        while self._channel.recv_ready():
            self._stdout(self._channel.recv(65536))
            read = True
        while self._channel.recv_stderr_ready():
            self._err.add(self._channel.recv_stderr(65536))
            read = True
        return read

    def _stdout(self, data: bytes) -> None:
        """The wrapper's line comes first: the process id."""
        if self._pid:
            self._out.add(data)
            return
        self._head += data  # what a login script says before it is no output of the command
        found = re.search(rb"(?m)^ce-run-pid:(\d+)\n", self._head)
        if found:
            self._pid = int(found[1])
            self._out.add(self._head[found.end() :])

    def end(self) -> None:
        """Signal the command and everything below it, from a session beside it."""
        if not self._ending.acquire(blocking=False):
            return
        with contextlib.suppress(Exception):
            if self._pid:
                beside = self._connection.open_session(timeout=2)
                with contextlib.closing(beside):
                    beside.settimeout(4)
                    beside.exec_command(_line(_END % {"pid": self._pid}))
                    beside.recv(1)  # the end of the stream: it is done
        with contextlib.suppress(Exception):
            self._channel.close()

    def finished(self, where: Address) -> Finished:
        """How it ended; Unreachable if the connection did so before."""
        code = self._channel.recv_exit_status() if self._channel.exit_status_ready() else -1
        if code < 0 and not self._connection.is_active():
            raise Unreachable(
                f"the connection to {where} broke off while the command ran",
                hint="whether it has ended there is not known",
            )
        if not self._pid:
            raise Failed(
                f"{where} did not run the command with /bin/sh",
                evidence=[self._head.decode(errors="replace")[:500], self._err.finish()[:500]],
            )
        truncated = self._out.truncated or self._err.truncated
        return Finished(code, self._out.finish(), self._err.finish(), truncated)


@contextlib.contextmanager
def sftp(ctx: Context, where: Address) -> Iterator[paramiko.SFTPClient]:
    """A file transfer session whose blocked calls end with the task."""
    import paramiko

    with lost(where):
        client = paramiko.SFTPClient.from_transport(transport(ctx, where))
    if client is None:
        raise Unreachable(f"{where} offers no SFTP")
    with contextlib.closing(client), ctx.on_cancel(lambda: _shut(client)):
        channel = client.get_channel()
        if channel is not None:
            channel.settimeout(ctx.remaining(at_most=60))
        yield client


def _shut(client: paramiko.SFTPClient) -> None:
    with contextlib.suppress(Exception):
        client.close()
