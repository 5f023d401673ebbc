"""HAProxy's answers as data: tables of servers and figures, and what is a complaint.

The runtime API answers in text without a status; what each text means is known only here.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

_OPERATIONAL = {0: "down", 1: "starting", 2: "up", 3: "stopping"}
"""``srv_op_state``. A server that is `starting` is up, with a weight that grows (`slowstart`); one
that is `stopping` serves only those whom a cookie leads to it."""

# Bits of ``srv_admin_state``, as HAProxy's include/haproxy/server-t.h has them. Two more say
# nothing of the present: 0x04, that the configuration file says `disabled`, stays when the server
# is enabled at run time; 0x40, that its name was set at run time, is never taken away.
_MAINT_FORCED, _MAINT_INHERITED, _MAINT_NO_ADDRESS = 0x01, 0x02, 0x20
_DRAIN_FORCED, _DRAIN_INHERITED = 0x08, 0x10
_MAINT = _MAINT_FORCED | _MAINT_INHERITED | _MAINT_NO_ADDRESS
_DRAIN = _DRAIN_FORCED | _DRAIN_INHERITED

_SEVERITY = re.compile(r"^\[\w+\]: ?", re.MULTILINE)
"""What a socket with ``severity-output`` puts before a text."""

_COLUMNS_OF_NUMBERS = """
qcur qmax scur smax slim stot bin bout dreq dresp ereq econ eresp wretr wredis weight act bck
chkfail chkdown lastchg downtime qlimit pid iid sid throttle lbtot type rate rate_lim rate_max
check_code check_duration hrsp_1xx hrsp_2xx hrsp_3xx hrsp_4xx hrsp_5xx hrsp_other hanafail
req_rate req_rate_max req_tot cli_abrt srv_abrt comp_in comp_out comp_byp comp_rsp lastsess
qtime ctime rtime ttime agent_code agent_duration check_rise check_fall check_health
agent_rise agent_fall agent_health conn_rate conn_rate_max conn_tot intercepted dcon dses wrew
connect reuse cache_lookups cache_hits srv_icur src_ilim qtime_max ctime_max rtime_max
ttime_max eint idle_conn_cur safe_conn_cur used_conn_cur need_conn_est uweight srid sess_other
h1sess h2sess h3sess req_other h1req h2req h3req ssl_sess ssl_reused_sess ssl_failed_handshake
"""
_NUMBERS = frozenset(_COLUMNS_OF_NUMBERS.split())
"""Columns of ``show stat`` that hold numbers (`show stat typed` says which). All others are text,
also where digits stand in them: a server may be called ``02``."""


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
    flags: int
    """Its administrative state in HAProxy's own bits."""

    @property
    def admin(self) -> str:
        """``ready``, ``drain`` or ``maint``: what is in force, whoever wants it so."""
        if self.flags & _MAINT:
            return "maint"
        return "drain" if self.flags & _DRAIN else "ready"

    @property
    def forced(self) -> str:
        """The state that was asked of the server itself; what else keeps it out may go away."""
        if self.flags & _MAINT_FORCED:
            return "maint"
        return "drain" if self.flags & _DRAIN_FORCED else "ready"

    @property
    def kept_out_by(self) -> str:
        """What keeps it out beside what was asked of it; empty if nothing does."""
        if self.flags & _MAINT_NO_ADDRESS:
            return "its name has no address"
        if self.flags & (_MAINT_INHERITED | _DRAIN_INHERITED):
            return "the server that it tracks is out"
        return ""

    @property
    def serves(self) -> bool:
        """Whether it takes new sessions, if its weight is not 0."""
        return self.admin == "ready" and self.operational in ("up", "starting")

    @property
    def data(self) -> dict[str, Any]:
        """For a result."""
        fields = {name: value for name, value in self._asdict().items() if name != "flags"}
        return {**fields, "admin": self.admin}


Backend = dict[str, Server]
"""The servers of one backend by name."""


def disagreements(backends: Mapping[str, Backend], weights: bool = True) -> list[str]:
    """What differs between load balancers that should be alike, one line each; `weights` too?"""
    if len(backends) < 2:
        return []
    first, *others = backends
    lines = []
    for other in others:
        for name in sorted({*backends[first], *backends[other]}):
            ours, theirs = (brief(backends[one].get(name), weights) for one in (first, other))
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
    """Read ``show stat``: a mapping a row; numbers where a column has them, None if not known."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines or not lines[0].startswith("# "):
        return []
    columns = [column for column in lines[0][2:].split(",") if column]
    return [_typed(columns, line) for line in lines[1:]]


def _typed(columns: list[str], line: str) -> dict[str, Any]:
    import csv

    values = next(csv.reader([line]))
    named = zip(columns, values, strict=False)
    return {name: _cell(name, value) for name, value in named if name != "-"}


def _cell(column: str, text: str) -> int | str | None:
    if not text:
        return None
    digits = text[1:] if text.startswith("-") else text
    return int(text) if column in _NUMBERS and digits.isdecimal() else text


def _server(row: Mapping[str, str]) -> Server:
    return Server(
        backend=row["be_name"],
        name=row["srv_name"],
        address=row["srv_addr"],
        port=int(row.get("srv_port") or 0),
        weight=int(row["srv_uweight"]),
        initial_weight=int(row["srv_iweight"]),
        operational=_OPERATIONAL.get(int(row["srv_op_state"]), "unknown"),
        flags=int(row["srv_admin_state"]),
    )


def brief(server: Server | None, weight: bool = True) -> str:
    """What has to be alike on all load balancers, in few words."""
    if server is None:
        return "absent"
    return f"weight {server.weight} {server.admin}" if weight else server.admin


def complaint(answer: str) -> str:
    """The text of an answer that is no data: no table of CSV or of states begins in it."""
    text = plain(answer)
    return "" if "# " in text[:4] or not text else text


def plain(answer: str) -> str:
    """An answer without the severities that a socket may show before its lines."""
    return _SEVERITY.sub("", answer).strip()


def backend_of(command: str) -> str:
    """The backend that a command is about, for an error about it."""
    match = re.search(r"(?:servers state|set server) ([^\s/;]+)", command)
    return match.group(1) if match else "?"
