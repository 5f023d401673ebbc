"""HAProxy's answers as data: tables of servers and figures, and what is a complaint.

The runtime API answers in text without a status; what each text means is known only here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

_OPERATIONAL = {0: "down", 1: "starting", 2: "up", 3: "stopping"}
_ANY_MAINT = 0x01 | 0x02 | 0x04 | 0x20 | 0x40
_ANY_DRAIN = 0x08 | 0x10
"""Bits of ``srv_admin_state``: forced, inherited, or by configuration, name or address."""


class Server(NamedTuple):
    """A server of a backend as ``show servers state`` tells it."""

    backend: str
    name: str
    address: str
    port: int
    weight: int
    """The weight it has now, 0 to 256."""
    initial_weight: int
    """The weight that the configuration file gives it; a reload puts it back."""
    operational: str
    """``up``, ``down``, ``starting`` or ``stopping``."""
    admin: str
    """``ready``, ``drain`` or ``maint``."""


Backend = dict[str, Server]
"""The servers of one backend by name."""


def disagreements(found: Mapping[str, Backend], weights: bool = True) -> list[str]:
    """What differs between load balancers that should be alike, one line each; `weights` too?"""
    if len(found) < 2:
        return []
    first, *others = found
    lines = []
    for other in others:
        for name in sorted({*found[first], *found[other]}):
            ours, theirs = (brief(found[one].get(name), weights) for one in (first, other))
            if ours != theirs:
                lines.append(f"{name}: {ours} at {first}, {theirs} at {other}")
    return lines


def parse_servers(text: str) -> Backend:
    """Read ``show servers state`` of one backend."""
    return {one.name: one for one in parse_all_servers(text)}


def parse_all_servers(text: str) -> list[Server]:
    """Read ``show servers state``, in HAProxy's order; the columns are found by their names."""
    lines = [line for line in text.splitlines() if line.strip()]
    columns = next((line[2:].split() for line in lines if line.startswith("# ")), [])
    rows = (dict(zip(columns, line.split(), strict=False)) for line in lines)
    return [_server(row) for row in rows if row.get("srv_id", "").isdigit()]


def parse_stats(text: str) -> list[dict[str, Any]]:
    """Read ``show stat``: a mapping a row; numbers are numbers, what is not known is None."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines or not lines[0].startswith("# "):
        return []
    columns = [column for column in lines[0][2:].split(",") if column]
    return [_typed(columns, line) for line in lines[1:]]


def _typed(columns: list[str], line: str) -> dict[str, Any]:
    import csv

    values = next(csv.reader([line]))
    named = zip(columns, values, strict=False)
    return {name: _number(value) for name, value in named if name != "-"}


def _number(text: str) -> int | str | None:
    if not text:
        return None
    digits = text[1:] if text.startswith("-") else text
    return int(text) if digits.isdigit() else text


def _server(row: Mapping[str, str]) -> Server:
    flags = int(row["srv_admin_state"])
    admin = "maint" if flags & _ANY_MAINT else "drain" if flags & _ANY_DRAIN else "ready"
    return Server(
        backend=row["be_name"],
        name=row["srv_name"],
        address=row["srv_addr"],
        port=int(row.get("srv_port") or 0),
        weight=int(row["srv_uweight"]),
        initial_weight=int(row["srv_iweight"]),
        operational=_OPERATIONAL.get(int(row["srv_op_state"]), "unknown"),
        admin=admin,
    )


def brief(server: Server | None, weight: bool = True) -> str:
    """What has to be alike on all load balancers, in few words."""
    if server is None:
        return "absent"
    return f"weight {server.weight} {server.admin}" if weight else server.admin


def complaint(answer: str) -> str:
    """The text of an answer that is no data: no table of CSV or of states begins in it."""
    text = answer.strip()
    return "" if "# " in text[:4] or not text else text


def backend_of(command: str) -> str:
    """The backend that a command is about, for an error about it."""
    match = re.search(r"(?:servers state|set server) ([^\s/;]+)", command)
    return match.group(1) if match else "?"
