"""Work on a running HAProxy through its runtime API: weights, draining, maintenance, figures.

Inventory section: connections by name, each with the address of a `stats socket` of level
admin, or a list of addresses of load balancers that must agree::

    haproxy:
      edge: {address: "unix:/run/haproxy/admin.sock"}
      mesh: {address: ["10.0.0.5:9999", "10.0.0.6:9999"], timeout: 5}

What is set here lasts until HAProxy is reloaded or restarted: then its configuration file (or
its server-state file) counts again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from engine.module_api import (
    Arguments,
    Context,
    Duration,
    Failed,
    Refused,
    Result,
    TimedOut,
    action,
    count,
)
from modules._haproxy import runtime as haproxy_runtime
from modules._haproxy import text as haproxy_text

_HEAVIEST = 256


@action(effect="idempotent", simulates=True)
def weight(
    ctx: Context,
    backend: str,
    weights: dict[str, int],
    *,
    connection: haproxy_runtime.ConnectionName = "",
) -> Result:
    """Set the weights of servers in a backend.

    Result data: ``backend``, ``weights`` and ``before`` (server → weight), ``shares`` (server →
    percent of the traffic that its weight gives it among all servers that take traffic). All
    weights of one call take effect together, and are read back. Effect idempotent: after a crash
    the same weights are set again.

    Args:
        backend: name of the backend.
        weights: server → weight, 0 to 256; servers that are not named keep theirs.
        connection: which HAProxy of the inventory; may be left out if there is one.
    """
    edge, goal = _prepare_weights(ctx, backend, weights, connection)
    before, after = haproxy_runtime.set_weights(ctx, edge, backend, goal)
    return _weights_result(ctx, edge, backend, before, after, "set")


@weight.check
def weight_check(ctx: Context, args: Arguments) -> Result:
    """Compare the weights with those that are in force."""
    backend: str = args.backend
    edge, after = _prepare_weights(ctx, backend, args.weights, args.connection)
    before = haproxy_runtime.weights_before(edge.servers(ctx, backend), backend, after)
    return _weights_result(ctx, edge, backend, before, after, "would set")


@action(effect="idempotent", simulates=True)
def drain(
    ctx: Context,
    backend: str,
    server: str | list[str],
    *,
    connection: haproxy_runtime.ConnectionName = "",
) -> Result:
    """Let servers finish what they have and give them no new sessions.

    Result data: ``backend``, ``state`` (``drain``), ``servers`` (names), ``before`` (server →
    state). Effect idempotent. Use `haproxy.wait-drained` to wait until they are empty.

    Args:
        backend: name of the backend.
        server: one server, or a list of them.
        connection: which HAProxy of the inventory; may be left out if there is one.
    """
    return _set_state(ctx, backend, server, connection, "drain")


@action(effect="idempotent", simulates=True)
def ready(
    ctx: Context,
    backend: str,
    server: str | list[str],
    *,
    connection: haproxy_runtime.ConnectionName = "",
) -> Result:
    """Give servers traffic again after `drain` or `maint`.

    Result data: ``backend``, ``state`` (``ready``), ``servers`` (names), ``before`` (server →
    state). Effect idempotent.

    Args:
        backend: name of the backend.
        server: one server, or a list of them.
        connection: which HAProxy of the inventory; may be left out if there is one.
    """
    return _set_state(ctx, backend, server, connection, "ready")


@action(effect="idempotent", simulates=True)
def maint(
    ctx: Context,
    backend: str,
    server: str | list[str],
    *,
    connection: haproxy_runtime.ConnectionName = "",
) -> Result:
    """Take servers out at once: no traffic, no health checks; open sessions are let finish.

    Result data: ``backend``, ``state`` (``maint``), ``servers`` (names), ``before`` (server →
    state). Effect idempotent.

    Args:
        backend: name of the backend.
        server: one server, or a list of them.
        connection: which HAProxy of the inventory; may be left out if there is one.
    """
    return _set_state(ctx, backend, server, connection, "maint")


@drain.check
def drain_check(ctx: Context, args: Arguments) -> Result:
    """Compare with the states that are in force."""
    return _check_state(ctx, args, "drain")


@ready.check
def ready_check(ctx: Context, args: Arguments) -> Result:
    """Compare with the states that are in force."""
    return _check_state(ctx, args, "ready")


@maint.check
def maint_check(ctx: Context, args: Arguments) -> Result:
    """Compare with the states that are in force."""
    return _check_state(ctx, args, "maint")


@action(effect="read", simulates=True)
def wait_drained(
    ctx: Context,
    backend: str,
    server: str | list[str],
    *,
    every: Duration = 0.5,
    connection: haproxy_runtime.ConnectionName = "",
) -> Result:
    """Wait until servers have no session left; the step's `timeout` bounds it.

    Result data: ``backend``, ``sessions`` (server → open sessions; all 0). Effect read.

    Args:
        backend: name of the backend.
        server: one server, or a list of them.
        every: how often to look; HAProxy tells only when asked.
        connection: which HAProxy of the inventory; may be left out if there is one.
    """
    edge, names = haproxy_runtime.connect(ctx, connection), _names(backend, server)
    for servers in edge.servers(ctx, backend).values():
        for name in names:
            haproxy_runtime.find(servers, backend, name)
    while True:
        sessions = _sessions(ctx, edge, backend, names)
        left = sum(sessions.values())
        if not left:
            return Result(
                data={"backend": backend, "sessions": sessions},
                message=f"{backend}: {', '.join(names)} drained",
            )
        ctx.progress(f"{backend}: {left} sessions left on {', '.join(names)}")
        try:
            ctx.sleep(every)
        except TimedOut as error:
            raise TimedOut(
                f"{backend}: {count(left, 'session')} left on {', '.join(names)}",
                hint="they may take longer (`timeout`), or be ended: `shutdown sessions server`",
                data={"backend": backend, "sessions": sessions},
            ) from error


@action(effect="read", simulates=True)
def state(
    ctx: Context, backend: str = "", *, connection: haproxy_runtime.ConnectionName = ""
) -> Result:
    """Tell the servers with weight, health and administrative state.

    Result data: ``servers``, a list of mappings with ``backend``, ``name``, ``address``,
    ``port``, ``weight`` and ``initial_weight`` (0 to 256), ``operational`` (``up``, ``down``,
    ``starting``, ``stopping``), ``admin`` (``ready``, ``drain``, ``maint``); ``agree``, whether
    all load balancers of the connection say the same; ``differences``, lines about what not.

    Args:
        backend: only this backend; default: all.
        connection: which HAProxy of the inventory; may be left out if there is one.
    """
    edge = haproxy_runtime.connect(ctx, connection)
    command = (
        f"show servers state {haproxy_runtime.valid_name(backend)}" if backend else _ALL_STATES
    )
    tables = {
        address: haproxy_text.parse_all_servers(edge.ask(ctx, address, command))
        for address in edge.addresses
    }
    named = {
        address: {f"{one.backend}/{one.name}": one for one in servers}
        for address, servers in tables.items()
    }
    differences = haproxy_text.disagreements(named)
    servers = [one.data for one in next(iter(tables.values()))]
    up = sum(one["operational"] in ("up", "starting") for one in servers)
    return Result(
        data={"servers": servers, "agree": not differences, "differences": differences},
        message=f"{up} of {len(servers)} servers up"
        + ("" if not differences else f", {len(differences)} differ between load balancers"),
    )


@action(effect="read", simulates=True)
def stats(
    ctx: Context,
    backend: str = "",
    server: str = "",
    *,
    connection: haproxy_runtime.ConnectionName = "",
) -> Result:
    """Read HAProxy's statistics.

    Result data: ``rows``, a list of mappings with HAProxy's own column names (``pxname``,
    ``svname``, ``scur``, ``stot``, ``status``, ``hrsp_5xx``, ``rtime`` …): columns of numbers are
    numbers, names are text, what HAProxy does not tell is null. With several load balancers, each
    row has the ``address`` that it comes from.

    Args:
        backend: only this frontend or backend; default: all.
        server: only this server, or ``FRONTEND`` or ``BACKEND`` for the totals; default: all.
        connection: which HAProxy of the inventory; may be left out if there is one.
    """
    edge = haproxy_runtime.connect(ctx, connection)
    rows = []
    for address in edge.addresses:
        table = haproxy_text.parse_stats(edge.ask(ctx, address, "show stat"))
        rows += [
            {"address": address, **row} if len(edge.addresses) > 1 else row
            for row in table
            if backend in ("", row["pxname"]) and server in ("", row["svname"])
        ]
    if not rows and (backend or server):
        raise Refused(f"HAProxy has no statistics of {'/'.join(filter(None, (backend, server)))}")
    return Result(data={"rows": rows}, message=f"{len(rows)} rows of statistics")


_ALL_STATES = "show servers state"


def _prepare_weights(
    ctx: Context, backend: str, weights: dict[str, int], connection: str
) -> tuple[haproxy_runtime.Edge, dict[str, int]]:
    haproxy_runtime.valid_name(backend)
    if not weights:
        raise Refused("`weights` names no server", hint="write `weights: {server: 50, …}`")
    for name, value in weights.items():
        haproxy_runtime.valid_name(name)
        if not 0 <= value <= _HEAVIEST:
            raise Refused(f"the weight of {name} must be 0 to {_HEAVIEST}, not {value}")
    return haproxy_runtime.connect(ctx, connection), dict(weights)


def _weights_result(
    ctx: Context,
    edge: haproxy_runtime.Edge,
    backend: str,
    before: dict[str, int],
    after: dict[str, int],
    verb: str,
) -> Result:
    servers = edge.servers(ctx, backend)[edge.addresses[0]]
    weights = {name: one.weight for name, one in servers.items() if one.admin == "ready"}
    weights |= {name: value for name, value in after.items() if name in weights}
    total = sum(weights.values())
    changed = before != after
    text = ", ".join(f"{name} {value}" for name, value in after.items())
    return Result(
        changed=changed,
        data={
            "backend": backend,
            "weights": after,
            "before": before,
            "shares": {
                name: round(100 * value / total, 2) if total else 0.0
                for name, value in weights.items()
            },
        },
        diff=_diff(backend, before, after, lambda name, value: f"{name}: weight {value}"),
        message=f"{backend}: {verb} {text}" if changed else f"{backend}: already {text}",
    )


def _set_state(
    ctx: Context, backend: str, server: str | list[str], connection: str, state: str
) -> Result:
    edge, names = haproxy_runtime.connect(ctx, connection), _names(backend, server)
    before = haproxy_runtime.set_admin(ctx, edge, backend, names, state)
    return _state_result(backend, names, before, state, "now in")


def _check_state(ctx: Context, args: Arguments, state: str) -> Result:
    edge, names = haproxy_runtime.connect(ctx, args.connection), _names(args.backend, args.server)
    servers = edge.servers(ctx, args.backend)
    before = haproxy_runtime.admin_before(servers, args.backend, names, state)
    return _state_result(args.backend, names, before, state, "would be in")


def _state_result(
    backend: str, names: list[str], before: dict[str, str], state: str, verb: str
) -> Result:
    after = dict.fromkeys(names, state)
    changed = before != after
    return Result(
        changed=changed,
        data={"backend": backend, "state": state, "servers": names, "before": before},
        diff=_diff(backend, before, after, lambda name, value: f"{name}: {value}"),
        message=f"{backend}: {', '.join(names)} {verb if changed else 'already in'} {state}",
    )


def _names(backend: str, server: str | list[str]) -> list[str]:
    haproxy_runtime.valid_name(backend)
    names = [server] if isinstance(server, str) else list(server)
    if not names:
        raise Refused("no server is named")
    return [haproxy_runtime.valid_name(name) for name in names]


def _sessions(
    ctx: Context, edge: haproxy_runtime.Edge, backend: str, names: list[str]
) -> dict[str, int]:
    """Open and queued sessions by server, over all load balancers.

    Raises Failed for a server that the statistics do not have: nobody knows what it still does.
    """
    sessions = dict.fromkeys(names, 0)
    for address in edge.addresses:
        rows = {
            row["svname"]: row
            for row in haproxy_text.parse_stats(edge.ask(ctx, address, "show stat"))
            if row["pxname"] == backend
        }
        for name in names:
            if name not in rows or not isinstance(rows[name].get("scur"), int):
                raise Failed(
                    f"the statistics of HAProxy at {address} have no sessions of {backend}/{name}",
                    hint="was the server removed, or HAProxy reloaded meanwhile? look at "
                    "`haproxy.state`",
                )
            sessions[name] += rows[name]["scur"] + int(rows[name].get("qcur") or 0)
    return sessions


def _diff(
    backend: str,
    before: dict[str, Any],
    after: dict[str, Any],
    line: Callable[[str, Any], str],
) -> str:
    import difflib

    old = [line(name, value) for name, value in before.items()]
    new = [line(name, value) for name, value in after.items()]
    name = f"haproxy/{backend}"
    return "".join(f"{text}\n" for text in difflib.unified_diff(old, new, name, name, lineterm=""))
