"""Where to log in, and how: what a step, the inventory's `ssh` and a host's variables say.

Variables of hosts are Ansible's. Each one that says something about connections is obeyed, means
nothing here, or is refused by its name: a privilege or a way round that was asked for and not taken
would be a command in the wrong place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from engine.module_api import Context, Refused, parse_duration
from modules._ssh import options as ssh_options

CONNECT_TIMEOUT = 10.0
KEEPALIVE = 15.0
"""Seconds between two questions whether the other side is still there."""
UNANSWERED = 3
"""So many of them without an answer, and it is not."""

_SECTION = frozenset((
    "user", "port", "key", "passphrase", "password", "known_hosts", "agent", "jump",
    "host_key_checking", "keepalive", "proxy_command",
))  # fmt: skip
_NAMES = {
    "host": ("ansible_host", "ansible_ssh_host"),
    "port": ("ansible_port", "ansible_ssh_port"),
    "user": ("ansible_user", "ansible_ssh_user"),
    "key": ("ansible_private_key_file", "ansible_ssh_private_key_file"),
    "password": ("ansible_password", "ansible_ssh_password", "ansible_ssh_pass"),
    "passphrase": ("ansible_private_key_passphrase", "ansible_ssh_private_key_passphrase"),
    "checked": ("ansible_host_key_checking", "ansible_ssh_host_key_checking"),
    "timeout": ("ansible_timeout", "ansible_ssh_timeout"),
}
"""What is obeyed; of several names the first that has a value counts."""
_ARGUMENTS = ("ansible_ssh_args", "ansible_ssh_common_args", "ansible_ssh_extra_args")
_WITHOUT_MEANING = frozenset((
    "ansible_pipelining", "ansible_ssh_pipelining", "ansible_control_path",
    "ansible_ssh_control_path", "ansible_control_path_dir", "ansible_ssh_control_path_dir",
    "ansible_ssh_transfer_method", "ansible_scp_if_ssh", "ansible_ssh_scp_if_ssh",
    "ansible_sftp_batch_mode", "ansible_ssh_use_tty",
))  # fmt: skip
_BECOME = ("ansible_become", "ansible_sudo", "ansible_su")
_SHELLS = ("sh", "dash", "bash", "ash", "ksh", "zsh", "csh", "tcsh", "fish")
_OURS = re.compile(
    r"ansible_(?:ssh|paramiko|libssh|connection|become|sudo|su|scp|sftp|shell|winrm|psrp|docker"
    r"|podman|kubectl|network)(?:_|$)|ansible_(?:pipelining|control_path)"
)
"""Names of variables that say something about connections."""
_FACT = re.compile(r"ansible_ssh_host_key_\w+_public(?:_keytype)?")


class Address(msgspec.Struct, frozen=True, kw_only=True):
    """Where to log in, and how."""

    host: str
    port: int
    user: str
    key: str = ""
    password: str = ""
    passphrase: str = ""
    known_hosts: tuple[str, ...] = ()
    checked: bool = True
    agent: bool = True
    compression: bool = False
    timeout: float = CONNECT_TIMEOUT
    """Seconds until a connection must have come about."""
    keepalive: float = KEEPALIVE
    """Seconds between two questions whether the other side is there; 0 asks none."""
    unanswered: int = UNANSWERED
    proxy_command: str = ""
    """A command whose standard input and output lead to the host."""
    jump: Address | None = None
    """The host through which this one is reached."""

    def __str__(self) -> str:
        return f"{self.user}@{self.host}{f':{self.port}' if self.port != 22 else ''}"


def address(ctx: Context, host: str) -> Address:
    """The address of ``[user@]host[:port]``, or of the step's host, completed by the inventory."""
    section = ctx.connection("ssh")
    if unknown := sorted(set(section) - _SECTION):
        raise Refused(
            f"`ssh` of the inventory has no key {unknown[0]!r}",
            hint=f"it knows: {', '.join(sorted(_SECTION))}",
        )
    variables: Mapping[str, Any] = {}
    if not host:
        if ctx.host is None:
            raise Refused("on which host?", hint="give the step `hosts:`, or the action `host:`")
        variables = ctx.host.vars
        _refuse_what_is_not_obeyed(ctx.host.name, variables)
        host = _value(variables, "host") or ctx.host.name
    options = _options(variables)
    target = _completed(host, section, variables, options)
    target = msgspec.structs.replace(
        target, jump=_jump(section, options, target.proxy_command), **_manner(section, options)
    )
    for secret in (target.password, target.passphrase):
        if secret:
            ctx.mask(secret)
    return target


def _value(variables: Mapping[str, Any], what: str) -> str:
    values = (variables.get(name) for name in _NAMES[what])
    text = next((str(value) for value in values if value not in (None, "")), "")
    if "{{" in text or "{%" in text:
        raise Refused(f"{_NAMES[what][0]} is still a template: {text}")
    return text


def _first(*values: Any) -> str:
    return next((str(value) for value in values if value), "")


def _options(variables: Mapping[str, Any]) -> dict[str, str]:
    options: dict[str, str] = {}
    for name in _ARGUMENTS:
        if variables.get(name):
            options = {**ssh_options.parse(str(variables[name]), name), **options}
    return options


def _completed(
    host: str, section: Mapping[str, Any], variables: Mapping[str, Any], options: Mapping[str, str]
) -> Address:
    """``[user@]host[:port]`` with what a host's variables, options and the section say of it."""
    user, _, rest = host.rpartition("@")
    name, colon, port = rest.rpartition(":")
    if not colon or (":" in name.strip("[]") and "]" not in name) or not port.isdigit():
        name, port = rest, ""  # no port, or an IPv6 address
    number = _first(
        port, _value(variables, "port"), options.get("port"), section.get("port"), 22
    ).strip()
    if not (number.isascii() and number.isdigit() and 0 < int(number) < 65536):
        raise Refused(f"the SSH port of {host} must be a number up to 65535, not {number!r}")
    identities = options.get("identityfile"), section.get("key")
    agent = section.get("agent", True) is not False
    return Address(
        host=name.strip("[]"),
        port=int(number),
        user=_first(
            user, _value(variables, "user"), options.get("user"), section.get("user") or _me()
        ),
        key=_first(_value(variables, "key"), *identities),
        password=_first(_value(variables, "password"), section.get("password")),
        passphrase=_first(_value(variables, "passphrase"), section.get("passphrase")),
        known_hosts=_known_hosts(section, options),
        checked=_checked(section, variables, options),
        agent=agent and not _is_on(options.get("identitiesonly", "no")),
        timeout=_seconds(
            _first(_value(variables, "timeout"), options.get("connecttimeout")) or CONNECT_TIMEOUT,
            "the time-out of connecting",
        ),
        proxy_command=_proxy_command(section, options),
        **_manner(section, {}),
    )


def _manner(section: Mapping[str, Any], options: Mapping[str, str]) -> dict[str, Any]:
    """How to notice that the other side is gone, and whether to compress."""
    interval = options.get("serveraliveinterval", section.get("keepalive", KEEPALIVE))
    count = options.get("serveralivecountmax", str(UNANSWERED))
    if not count.isdigit():
        raise Refused(f"ServerAliveCountMax must be a number, not {count!r}")
    return {
        "keepalive": _seconds(interval, "`keepalive` of the inventory's `ssh`"),
        "unanswered": max(1, int(count)),
        "compression": _is_on(options.get("compression", "no")),
    }


def _seconds(value: Any, what: str) -> float:
    seconds = 0.0 if value in (None, False) else parse_duration(value)
    if seconds is None:
        raise Refused(f"{what} must be a duration, not {value!r}", hint="write it like 15s")
    return seconds


def _jump(
    section: Mapping[str, Any], options: Mapping[str, str], proxy_command: str
) -> Address | None:
    """The last of the hops on the way; they are reached with the section's key or the agent."""
    hops = options.get("proxyjump", "" if proxy_command else section.get("jump") or [])
    if hops == "none":
        return None
    jump: Address | None = None
    for hop in hops if isinstance(hops, list) else [one for one in str(hops).split(",") if one]:
        jump = msgspec.structs.replace(
            _completed(str(hop).strip(), section, {}, {}), jump=jump, proxy_command=""
        )
    return jump


def _proxy_command(section: Mapping[str, Any], options: Mapping[str, str]) -> str:
    if "proxyjump" in options:
        return ""
    command = _first(options.get("proxycommand"), section.get("proxy_command"))
    return "" if command == "none" else command


def _known_hosts(section: Mapping[str, Any], options: Mapping[str, str]) -> tuple[str, ...]:
    if files := options.get("userknownhostsfile"):
        return tuple(files.split())
    known = section.get("known_hosts") or []
    return tuple(map(str, known)) if isinstance(known, list) else (str(known),)


def _checked(
    section: Mapping[str, Any], variables: Mapping[str, Any], options: Mapping[str, str]
) -> bool:
    if text := _value(variables, "checked"):
        return _is_on(text)
    strict = options.get("stricthostkeychecking", "").lower()
    if strict == "accept-new":
        raise Refused(
            "StrictHostKeyChecking=accept-new is not understood: a host whose key nobody verified "
            "is refused, or none is checked",
            hint="add the host's key to known_hosts",
        )
    if strict:
        return strict not in ("no", "off")
    return section.get("host_key_checking", True) is not False


def _is_on(text: Any) -> bool:
    return str(text).strip().lower() in ("yes", "true", "on", "1", "y", "t", "ask")


def _me() -> str:
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        raise Refused(
            "as whom to log in? this machine has no name for its own user",
            hint="set `user` in the inventory's `ssh`",
        ) from None


# -- what is asked for and not done here ----------------------------------------------------------
def _refuse_what_is_not_obeyed(host: str, variables: Mapping[str, Any]) -> None:
    connection = str(variables.get("ansible_connection") or "ssh").rpartition(".")[2]
    if connection == "local":
        raise Refused(
            f"{host} is this machine (ansible_connection: local), there is no SSH to it",
            hint="run the command with `shell` and `on: controller`",
        )
    if connection not in ("ssh", "smart", "paramiko", "paramiko_ssh", "libssh"):
        raise Refused(f"{host} is not reached by SSH: ansible_connection is {connection}")
    become = [name for name in _BECOME if name in variables]
    for name in become:
        if _is_on(variables[name]):
            user = variables.get(f"{name}_user") or "root"
            raise Refused(
                f"{host} wants commands to run as {user} ({name}), which is not done here",
                hint=f"log in as {user}, or put `sudo -n -u {user}` into the command; then set "
                f"`{name}: false` for this host",
            )
    _refuse_unknown(host, variables, become)


def _refuse_unknown(host: str, variables: Mapping[str, Any], become: Iterable[str]) -> None:
    known = {name for names in _NAMES.values() for name in names} | set(_ARGUMENTS)
    known |= {"ansible_connection", *_WITHOUT_MEANING, *become}
    for name, value in variables.items():
        if name in known or value in (None, "") or not _OURS.match(name) or _FACT.fullmatch(name):
            continue
        if re.match(r"ansible_(?:become|sudo|su)_", name):
            continue  # how to become somebody, which nobody wants here
        shell = str(value).rpartition("/")[2]
        if name == "ansible_shell_type" and shell in _SHELLS:
            continue
        if name == "ansible_shell_executable" and shell in ("sh", "dash"):
            continue
        raise Refused(
            f"{host}: the variable {name} is not understood, and would change how it is reached",
            hint="leave it out for this host, or say the same in the inventory's `ssh`",
        )
