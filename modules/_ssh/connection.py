"""SSH connections: one an address and run, host keys checked, and noticed when they are dead.

`paramiko` is imported at first use; what it says of itself goes to the log of the step that
logs in.
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from engine.module_api import ActionError, Context, Failed, Refused, Unreachable
from modules._ssh import known_hosts as ssh_known_hosts
from modules._ssh import proxy as ssh_proxy
from modules._ssh.address import Address

if TYPE_CHECKING:
    import paramiko

T = TypeVar("T")

_ALIVE = "keepalive@openssh.com"
"""A request that no server knows and each answers, if only by refusing it."""


class _Connection:
    """The run's connection to one address, made again when it is lost."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._client: paramiko.SSHClient | None = None

    def transport(self, ctx: Context, where: Address) -> tuple[paramiko.Transport, bool]:
        """The connection, and whether it has served before."""
        with self._lock:
            if self._client is not None:
                transport = self._client.get_transport()
                if transport is not None and transport.is_active():
                    return transport, True
                self._client.close()
            self._client = _log_in(ctx, where)
            current = self._client.get_transport()
            assert current is not None
            return current, False

    def close(self) -> None:
        if self._client is not None:
            self._client.close()


def transport(ctx: Context, where: Address) -> paramiko.Transport:
    """The connection to an address; made at first use. Raises Refused or Unreachable."""
    return _transport(ctx, where)[0]


def _transport(ctx: Context, where: Address) -> tuple[paramiko.Transport, bool]:
    with ctx.fence():
        pass  # a run that was taken over asks nothing, though reading alone harms nobody
    key = f"ssh:{where}:{hash(where)}"
    return ctx.cached(key, _Connection, _Connection.close).transport(ctx, where)


def opened(
    ctx: Context, where: Address, make: Callable[[paramiko.Transport], T]
) -> tuple[paramiko.Transport, T]:
    """The connection, and what `make` opens on it, before anything was asked of the other side.

    The server may have closed a connection that was kept, or a firewall between have forgotten it:
    then there is another one to try.
    """
    import paramiko

    connection, kept = _transport(ctx, where)
    try:
        return connection, make(connection)
    except (paramiko.SSHException, EOFError, OSError):
        ctx.checkpoint()
        if not kept:
            raise
    ctx.log(f"the connection to {where} that was kept serves no more; logging in again")
    connection.close()
    connection, _ = _transport(ctx, where)
    return connection, make(connection)


def _log_in(ctx: Context, where: Address) -> paramiko.SSHClient:
    import paramiko

    client = paramiko.SSHClient()
    keys = _host_keys(ctx, client, where)
    key_file = _key_file(where.key)
    timeout = ctx.remaining(at_most=where.timeout)
    with contextlib.ExitStack() as stack:
        channel = stack.enter_context(ssh_proxy.logged(ctx))
        way = _way(ctx, where)
        stack.enter_context(ctx.on_cancel(client.close))
        client.set_log_channel(channel)
        try:
            client.connect(
                where.host,
                port=where.port,
                username=where.user,
                password=where.password or None,
                key_filename=key_file,
                passphrase=where.passphrase or None,
                allow_agent=where.agent,
                look_for_keys=not where.key and not where.password,
                compress=where.compression,
                timeout=timeout,
                banner_timeout=timeout,
                auth_timeout=timeout,
                sock=way,
                transport_factory=_transport_class(),
            )
        except (paramiko.SSHException, OSError, EOFError, ValueError) as error:
            client.close()
            words = way.words() if isinstance(way, ssh_proxy.Way) else []
            if way is not None:
                way.close()
            ctx.checkpoint()
            failure = _not_logged_in(where, error, keys)
            failure.evidence += words
            raise failure from None
    _watch(client.get_transport(), where)
    return client


def _way(ctx: Context, where: Address) -> Any:
    """What leads to the host instead of a connection of our own, if anything does."""
    if where.proxy_command:
        return ssh_proxy.command(ctx, where)
    return _through(ctx, where.jump, where) if where.jump is not None else None


def _through(ctx: Context, jump: Address, where: Address) -> paramiko.Channel:
    """A way to `where` on the connection to its jump host, which other hosts use as well."""
    import paramiko

    def direct(connection: paramiko.Transport) -> paramiko.Channel:
        return connection.open_channel(
            "direct-tcpip",
            (where.host, where.port),
            ("127.0.0.1", 0),
            timeout=ctx.remaining(at_most=where.timeout),
        )

    try:
        return opened(ctx, jump, direct)[1]
    except (paramiko.SSHException, OSError, EOFError) as error:
        ctx.checkpoint()
        raise Unreachable(
            f"{where} cannot be reached through {jump}",
            hint="is it up, and does the jump host allow TCP forwarding to it?",
            evidence=[str(error) or type(error).__name__],
        ) from None


@functools.cache
def _transport_class() -> Any:
    """paramiko's Transport, which keeps what it drops: the signal that ended a remote command."""
    import paramiko
    from paramiko.common import MSG_CHANNEL_REQUEST

    ours: Any = paramiko.Transport
    handlers = ours._channel_handler_table

    def request(channel: Any, message: Any) -> None:
        if message.get_text() == "exit-signal":
            message.get_boolean()
            channel.exit_signal = message.get_text()
        message.rewind()
        message.get_int()  # the channel, which was read before
        handlers[MSG_CHANNEL_REQUEST](channel, message)

    class Transport(paramiko.Transport):
        """Its table of handlers is the class's own."""

        _channel_handler_table: ClassVar[Any] = {**handlers, MSG_CHANNEL_REQUEST: request}

    return Transport


# -- whether it is still there --------------------------------------------------------------------
def _watch(connection: paramiko.Transport | None, where: Address) -> None:
    """Close a connection whose other side gives no sign of life, so that nobody waits for it."""
    if connection is None or not where.keepalive:
        return
    patience = where.keepalive * where.unanswered

    def ask() -> None:
        pause = threading.Event()
        while connection.is_active():
            pause.wait(where.keepalive)
            answered = threading.Event()
            threading.Thread(target=_ask, args=(connection, answered), daemon=True).start()
            if not answered.wait(patience):
                connection.close()

    threading.Thread(target=ask, daemon=True, name="ce-run-ssh-alive").start()


def _ask(connection: paramiko.Transport, answered: threading.Event) -> None:
    with contextlib.suppress(Exception):  # whatever it is, the connection is not there any more
        connection.global_request(_ALIVE, wait=True)
    answered.set()


# -- who it is ------------------------------------------------------------------------------------
def _key_file(key: str) -> str | None:
    if not key:
        return None
    path = Path(key).expanduser()
    if not path.is_file():
        raise Refused(f"the SSH key {key} is not there", hint="see `key` in the inventory's `ssh`")
    if not os.access(path, os.R_OK):
        raise Refused(f"the SSH key {key} may not be read")
    return str(path)


def _host_keys(
    ctx: Context, client: paramiko.SSHClient, where: Address
) -> ssh_known_hosts.Known | None:
    """Tell the client the host's keys; None where nobody is to check them."""
    import paramiko

    if not where.checked:
        ctx.warn(f"the SSH host key of {where} is not checked: `ssh` of the inventory says so")
        client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
        return None
    client.set_missing_host_key_policy(paramiko.RejectPolicy())
    known = ssh_known_hosts.look_up(ctx, where)
    name = ssh_known_hosts.host_name(where)
    for key in known.keys:
        client.get_host_keys().add(name, key.get_name(), key)
    return known


def _not_logged_in(
    where: Address, error: Exception, keys: ssh_known_hosts.Known | None
) -> ActionError:
    import paramiko

    words = [str(error) or type(error).__name__]
    if isinstance(error, paramiko.BadHostKeyException):
        return Refused(
            f"{where} has another host key than it is known by",
            hint="somebody may be in between; if it was changed on purpose, update known_hosts",
            evidence=words,
        )
    if isinstance(error, paramiko.PasswordRequiredException):
        return Refused(
            f"the key for {where} has a passphrase",
            hint="give it as `passphrase` in the inventory's `ssh`, or add the key to the agent",
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
        return _unknown(where, words, keys)
    if isinstance(error, UnicodeError):
        return Refused(f"{where.host!r} cannot be the name of a host", evidence=words)
    if isinstance(error, ValueError):
        return Refused(f"the key for {where} cannot be used", evidence=words)
    return _unreachable(where, words)


def _unreachable(where: Address, words: list[str]) -> Unreachable:
    if where.proxy_command:
        return Unreachable(
            f"{where} cannot be reached by SSH through its ProxyCommand",
            hint=f"does this lead there? {where.proxy_command}",
            evidence=words,
        )
    return Unreachable(
        f"{where} cannot be reached by SSH",
        hint="is it up, and are address and port right?",
        evidence=words,
    )


def _unknown(where: Address, words: list[str], keys: ssh_known_hosts.Known | None) -> Refused:
    hint = "verify it and add it to known_hosts (ssh-keyscan)"
    if keys is not None and keys.by_authority:
        hint = "known_hosts trusts an authority for it (@cert-authority); certificates of hosts "
        hint += "are not understood here: add the host's own key, too"
    if keys is not None and keys.revoked:
        hint = "known_hosts has a key for it that is revoked (@revoked); if that is the one it "
        hint += "shows, the host needs another"
    return Refused(f"the host key of {where} is not known", hint=hint, evidence=words)


# -- when it breaks -------------------------------------------------------------------------------
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


@contextlib.contextmanager
def sftp(ctx: Context, where: Address) -> Iterator[paramiko.SFTPClient]:
    """A file transfer session whose blocked calls end with the task."""
    import paramiko

    with lost(where):
        _, client = opened(ctx, where, paramiko.SFTPClient.from_transport)
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
