"""Files of known hosts, read as OpenSSH does: a line that cannot be used spoils no other.

Names may be hashed, patterns, or denied with ``!``. A key marked ``@revoked`` is never taken,
whoever shows it; an authority (``@cert-authority``) vouches by certificates, which paramiko does
not know, so such a line makes no host known.
"""

from __future__ import annotations

import base64
import fnmatch
import hashlib
import hmac
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from engine.module_api import Context, Refused
from modules._ssh.address import Address

if TYPE_CHECKING:
    import paramiko

_USUAL = ("~/.ssh/known_hosts", "~/.ssh/known_hosts2", "/etc/ssh/ssh_known_hosts")


class Known:
    """What is known of one host: its keys, those revoked, and whether an authority would know."""

    def __init__(self) -> None:
        self.keys: list[paramiko.PKey] = []
        self.revoked: set[bytes] = set()
        self.by_authority = False


def look_up(ctx: Context, where: Address) -> Known:
    """What the files of known hosts say of a host; Refused where a file that is named is not there.

    Lines that cannot be used are told in the log.
    """
    known = Known()
    name = host_name(where)
    for path, text in _files(ctx, where):
        for number, line in enumerate(text.splitlines(), 1):
            if trouble := _take(known, name, line.strip()):
                ctx.log(f"{path}, line {number}, is left out: {trouble}")
    known.keys = [key for key in known.keys if key.asbytes() not in known.revoked]
    return known


def host_name(where: Address) -> str:
    """The name under which the files know a host: ``[host]:port`` unless the port is 22."""
    return where.host if where.port == 22 else f"[{where.host}]:{where.port}"


def _files(ctx: Context, where: Address) -> Iterator[tuple[Path, str]]:
    for name in where.known_hosts or _USUAL:
        path = Path(name).expanduser()
        path = path if path.is_absolute() else ctx.file(path)
        try:
            data = path.read_bytes()
        except OSError as error:
            if where.known_hosts:
                raise Refused(f"the known hosts {path} cannot be read: {error}") from None
            continue
        yield path, data.decode("utf-8-sig", errors="replace")  # a comment may be in any encoding


def _take(known: Known, name: str, line: str) -> str:
    """Take what a line says of the host; why it cannot be used, empty if it can."""
    if not line or line.startswith("#"):
        return ""
    marker, fields = "", line.split()
    if fields[0].startswith("@"):
        marker = fields.pop(0)
    if len(fields) < 3:
        return "it lacks a name, a kind or a key"
    if marker not in ("", "@revoked", "@cert-authority"):
        return f"the mark {marker} is not known"
    if not _matches(fields[0], name):
        return ""
    if marker == "@cert-authority":
        known.by_authority = True
        return "certificates of hosts are not understood"
    try:
        data = base64.b64decode(fields[2], validate=True)
    except ValueError as error:
        return f"its key is damaged ({error})"
    if marker == "@revoked":
        known.revoked.add(data)
        return ""
    return _take_key(known, fields[1], data)


def _take_key(known: Known, kind: str, data: bytes) -> str:
    import paramiko

    try:
        known.keys.append(paramiko.PKey.from_type_string(kind, data))
    except Exception as error:  # paramiko and cryptography have many for a key that is none
        return f"its key is damaged or of a kind that is not known, {kind} ({error})"
    return ""


def _matches(names: str, name: str) -> bool:
    """Whether the first field of a line, with hashes, patterns and denials, means this host."""
    if names.startswith("|"):
        return _is_hashed(names, name)
    match, lower = False, name.lower()
    for pattern in names.lower().split(","):
        denied, literal = pattern.startswith("!"), pattern.removeprefix("!")
        # Only * and ? are signs to OpenSSH; [ belongs to the name of a host with a port.
        if fnmatch.fnmatchcase(lower, literal.replace("[", "[[]")):
            if denied:
                return False
            match = True
    return match


def _is_hashed(field: str, name: str) -> bool:
    """``|1|salt|hash``: the name's HMAC-SHA1."""
    parts = field.split("|")
    if len(parts) != 4 or parts[1] != "1":
        return False
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in parts[2:])
    except ValueError:
        return False
    return hmac.compare_digest(hmac.digest(salt, name.encode(), hashlib.sha1), digest)
