"""Options of OpenSSH's client as inventories hand them on: obeyed, meaningless here, or refused.

``ansible_ssh_common_args`` and its like hold a command line of ``ssh``. What of it changes who is
reached, how, or whom we trust is obeyed; what only makes OpenSSH's own connections cheaper or its
output quieter means nothing here; everything else is refused by its name.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator

from engine.module_api import Refused

OBEYED = frozenset((
    "proxyjump", "proxycommand", "port", "user", "identityfile", "identitiesonly",
    "stricthostkeychecking", "userknownhostsfile", "connecttimeout", "serveraliveinterval",
    "serveralivecountmax", "compression",
))  # fmt: skip
"""Names of options in lower case."""

_WITHOUT_MEANING = frozenset((
    "controlmaster", "controlpersist", "controlpath", "batchmode", "loglevel", "tcpkeepalive",
    "gssapiauthentication", "gssapidelegatecredentials", "hashknownhosts", "updatehostkeys",
    "visualhostkey", "exitonforwardfailure", "numberofpasswordprompts", "addkeystoagent",
    "escapechar", "ipqos", "clearallforwardings", "checkhostip",
))  # fmt: skip
_FLAGS = {"J": "proxyjump", "p": "port", "l": "user", "i": "identityfile"}
_SILENT = frozenset("qTvnx")


def parse(arguments: str, variable: str) -> dict[str, str]:
    """Options by their names in lower case; the first one of a name counts, as in OpenSSH.

    Refused, naming the variable, where one is neither obeyed nor without meaning.
    """
    options: dict[str, str] = {}
    for name, value in _pairs(arguments, variable):
        if name in OBEYED:
            options.setdefault(name, value)
        elif name not in _WITHOUT_MEANING:
            raise Refused(
                f"{variable}: the option {name} of ssh is not understood",
                hint=f"leave it out; what is obeyed: {', '.join(sorted(OBEYED))}",
            )
    return options


def _pairs(arguments: str, variable: str) -> Iterator[tuple[str, str]]:
    words = iter(_words(arguments, variable))
    for word in words:
        if not word.startswith("-") or len(word) < 2:
            raise Refused(f"{variable}: {word!r} is no option of ssh")
        flag, rest = word[1], word[2:]
        if flag == "o":
            option = rest or next(words, "")
            name, separator, value = _split(option)
            if not separator:
                raise Refused(f"{variable}: the option {option!r} lacks its value")
            yield name.lower(), value
        elif flag in _FLAGS:
            yield _FLAGS[flag], rest or next(words, "")
        elif set(word[1:]) <= _SILENT | {"C"}:
            if "C" in word:
                yield "compression", "yes"
        else:
            raise Refused(f"{variable}: the flag -{flag} of ssh is not understood")


def _words(arguments: str, variable: str) -> list[str]:
    try:
        return shlex.split(arguments)
    except ValueError as error:
        raise Refused(f"{variable} cannot be read as arguments of ssh: {error}") from None


def _split(option: str) -> tuple[str, str, str]:
    """``Name=value`` or ``Name value``; quotes around the value belong to OpenSSH's syntax."""
    for position, sign in enumerate(option):
        if sign in "= \t":
            value = option[position:].lstrip(" \t").removeprefix("=").strip()
            return option[:position], sign, value
    return option, "", ""
