"""Addresses of mail, as people write them: with names, with commas in names, several in a text."""

from __future__ import annotations

import re
from typing import NamedTuple

from engine.module_api import Refused

_NAMED = re.compile(r"\s*(?P<name>[^<>]*?)\s*<\s*(?P<address>[^<>]+?)\s*>\s*")
_ADDRESS = re.compile(r"[^\s@<>(),;:\"\\\[\]]+@[^\s@<>(),;:\"\\\[\]]+")


class MailAddress(NamedTuple):
    """Somebody's address, and the name before it."""

    name: str
    address: str
    """With a domain in ASCII."""

    @property
    def domain(self) -> str:
        """What stands behind the @."""
        return self.address.rpartition("@")[2]


def read(value: str | list[str], setting: str) -> list[MailAddress]:
    """The addresses in a setting (``from``, ``to``), each once.

    In a list an entry is one address, whatever commas its name has; in a text commas separate.
    Refused for what is no address.
    """
    entries = value if isinstance(value, list) else [value]
    mailboxes: dict[str, MailAddress] = {}
    for entry in entries:
        for one in _of_entry(entry, setting, is_alone=isinstance(value, list)):
            mailboxes.setdefault(one.address, one)
    if not mailboxes:
        raise Refused(f"`{setting}` names no address")
    return list(mailboxes.values())


def _of_entry(entry: str, setting: str, *, is_alone: bool) -> list[MailAddress]:
    if any(ord(character) < 32 or ord(character) == 127 for character in entry):
        # By a line break one could add headers.
        raise Refused(f"`{setting}` must be addresses: {entry!r:.80} holds control characters")
    if is_alone and (named := _NAMED.fullmatch(entry)):
        return [_mailbox(_unquoted(named["name"]), named["address"], setting)]
    from email.utils import getaddresses

    pairs = [(name, address) for name, address in getaddresses([entry]) if name or address]
    return [_mailbox(name, address, setting) for name, address in pairs]


def _unquoted(name: str) -> str:
    quoted = len(name) > 1 and name[0] == name[-1] == '"'
    return re.sub(r"\\(.)", r"\1", name[1:-1]) if quoted else name


def _mailbox(name: str, address: str, setting: str) -> MailAddress:
    if not _ADDRESS.fullmatch(address):
        raise Refused(
            f"`{setting}` must be addresses: {(address or name)[:80]!r} is none",
            hint="a name with a comma is put in quotes, or its address is an entry of a list",
        )
    local, _, domain = address.rpartition("@")
    if domain.isascii():
        return MailAddress(name, address)
    import idna  # Python's own knows an older standard, in which ß is ss

    try:
        return MailAddress(name, f"{local}@{idna.encode(domain, uts46=True).decode()}")
    except idna.IDNAError:
        raise Refused(f"`{setting}` must be addresses: {domain[:80]!r} is no domain") from None
