"""HAProxy's runtime API: what `haproxy` and `traffic` speak to a load balancer with.

The protocol is one line of text over a unix socket or TCP, answered until the connection is
closed. It has no status code: nothing means success, any text means trouble, and the texts are
HAProxy's own. So every change is read back before it counts, and the texts that people meet are
turned into errors that name the nearest backend or server.

An `Edge` is one entry of the inventory's ``haproxy`` section. It may stand for several processes
(a pair of load balancers): all of them are told the same and must end up agreeing.
"""

from __future__ import annotations

import contextlib
import re
import shlex
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated

from engine.module_api import ActionError, Context, Failed, Name, Refused, Unreachable
from modules._haproxy.text import (
    Backend,
    Server,
    backend_of,
    complaint,
    disagreements,
    parse_servers,
    parse_stats,
    plain,
)

ConnectionName = Annotated[str, Name("haproxy", "HAProxy connection", "")]
"""Which entry of the inventory's ``haproxy`` section; may be left out if there is one."""

_TIMEOUT = 5.0
"""Seconds a load balancer may take for one answer; it takes less than a millisecond."""

_SIMULATED_LATENCY = 0.002

_NAME = re.compile(r"[A-Za-z0-9_.:-]+")


class Edge:
    """One entry of the inventory's ``haproxy`` section, opened."""

    def __init__(self, name: str, addresses: tuple[str, ...], timeout: float) -> None:
        self.name = name
        self.addresses = addresses
        self.timeout = timeout

    def servers(self, ctx: Context, backend: str) -> dict[str, Backend]:
        """The servers of a backend, by address; Failed names the nearest backend."""
        return {
            address: parse_servers(self.ask(ctx, address, f"show servers state {backend}"))
            for address in self.addresses
        }

    def agreed(self, ctx: Context, backend: str) -> Backend:
        """The servers of a backend; Failed when the load balancers do not agree on them."""
        return self.alike(ctx, backend)[0]

    def alike(self, ctx: Context, backend: str, *, weights: bool = True) -> list[Backend]:
        """The servers of a backend on each load balancer; Failed when they do not agree.

        Without `weights` these may differ: somebody may have been cut off while setting them.
        """
        backends = self.servers(ctx, backend)
        differences = disagreements(backends, weights)
        if differences:
            raise Failed(
                f"the load balancers of {self.name} disagree about backend {backend}",
                hint="set it on all of them again, for example with haproxy.weight",
                evidence=differences,
            )
        return list(backends.values())

    def backups(self, ctx: Context, address: str, backend: str) -> set[str]:
        """Servers of a backend that take traffic only while no other can."""
        rows = parse_stats(self.ask(ctx, address, "show stat"))
        return {str(row["svname"]) for row in rows if row["pxname"] == backend and row.get("bck")}

    def ask(self, ctx: Context, address: str, command: str) -> str:
        """Send a command that answers with data and return the data.

        Raises Failed or Refused with HAProxy's own words if that is what it answered with.
        """
        answer = self.send(ctx, address, command)
        if error := complaint(answer):
            raise self._refusal(ctx, address, command, error)
        return answer

    def change(
        self,
        ctx: Context,
        backend: str,
        commands: Iterable[str],
        holds: Callable[[Backend], list[str]],
    ) -> dict[str, Backend]:
        """Carry out `commands` on every load balancer and read back what came of them.

        `holds(servers)` lists what is not as it should be. Raises Failed (or Refused, or
        Unreachable) naming the load balancers that were changed already, in `data["changed"]`.
        """
        line = "; ".join([*commands, f"show servers state {backend}"])
        after: dict[str, Backend] = {}
        for address in self.addresses:
            try:
                answer = self.send(ctx, address, line)
                after[address] = self._read_back(ctx, address, line, answer, holds)
            except ActionError as error:
                error.data.setdefault("changed", list(after))
                if after:
                    error.evidence.append(f"already changed: {', '.join(after)}")
                raise
        return after

    def _read_back(
        self,
        ctx: Context,
        address: str,
        line: str,
        answer: str,
        holds: Callable[[Backend], list[str]],
    ) -> Backend:
        words, _, state = answer.partition("1\n# be_id")
        words = plain(words)
        if not state:
            raise self._refusal(ctx, address, line, words or "no answer")
        servers = parse_servers("1\n# be_id" + state)
        wrong = holds(servers)
        if words:
            raise self._refusal(ctx, address, line, words)
        if wrong:
            raise Failed(
                f"HAProxy at {address} took the change but did not keep it: {'; '.join(wrong)}",
                hint="another tool may set the same servers; look at `haproxy.state`",
            )
        return servers

    def send(self, ctx: Context, address: str, command: str) -> str:
        """One exchange with one load balancer; Unreachable when there is no answer."""
        if ctx.mode == "simulate":
            ctx.sleep(_SIMULATED_LATENCY)
        try:
            with ctx.fence():
                if ctx.mode == "simulate":
                    answer: str = ctx.world.runtime(self.name, command)
                    return answer
                return _exchange(ctx, address, command, self.timeout)
        except PermissionError as error:
            raise Refused(
                f"HAProxy's socket {address} may not be used by this user",
                hint="add the user to the socket's group, or set `mode` on `stats socket`",
                evidence=[str(error)],
            ) from error
        except OSError as error:
            ctx.checkpoint()
            raise Unreachable(
                f"HAProxy at {address} does not answer: {_reason(error)}",
                hint="check `address` in the inventory's haproxy section, and that HAProxy runs "
                "with `stats socket ... level admin`",
                evidence=[f"{type(error).__name__}: {error}"],
            ) from error

    def _refusal(self, ctx: Context, address: str, command: str, words: str) -> ActionError:
        """HAProxy's complaint as one of our errors, with the nearest name where one is wrong."""
        evidence = [line for line in words.splitlines() if line.strip()][:5]
        first = evidence[0] if evidence else words
        where = f"HAProxy at {address}"
        if "Permission denied" in words:
            return Refused(
                f"{where} refuses: its socket allows reading only",
                hint="the `stats socket` needs `level admin`",
                evidence=evidence,
            )
        if "No such backend" in words or "Can't find backend" in words:
            known = self._names(ctx, address)
            name = backend_of(command)
            return Failed(
                f"{where} has no backend {name!r}{_nearest(name, known)}",
                hint=f"its backends are {', '.join(sorted(known)) or 'none'}",
                evidence=evidence,
            )
        if "static LB algorithm" in words:
            return Refused(
                f"{where}: the backend balances by a static algorithm, whose weights are fixed",
                hint="use `balance roundrobin`, `leastconn` or another dynamic algorithm",
                evidence=evidence,
            )
        if first.startswith("Unknown command"):
            return Refused(
                f"{where} does not know a command that ce-run needs",
                hint="HAProxy 2.4 or newer is needed",
                evidence=evidence,
            )
        return Failed(f"{where} refused: {first}", evidence=evidence)

    def _names(self, ctx: Context, address: str) -> list[str]:
        with contextlib.suppress(ActionError):
            listed = self.send(ctx, address, "show backend").splitlines()
            return [line for line in listed if line and not line.startswith("#")]
        return []


def connect(ctx: Context, name: str = "") -> Edge:
    """The entry `name` of the inventory's ``haproxy`` section, or its only one.

    Raises Refused when there is none, several and no name, or its address makes no sense.
    """
    section = ctx.connection("haproxy")
    if not section:
        raise Refused(
            "the inventory has no section `haproxy`",
            hint="add `haproxy: {edge: {address: 'unix:/run/haproxy/admin.sock'}}`",
        )
    if not name and len(section) > 1:
        raise Refused(
            f"the inventory has several HAProxy connections: {', '.join(section)}",
            hint="say which with `connection: …`",
        )
    name = name or next(iter(section))
    if name not in section:
        raise Refused(
            f"the inventory has no HAProxy connection {name!r}{_nearest(name, list(section))}",
            hint=f"its haproxy section has: {', '.join(section)}",
        )
    return Edge(name, *_settings(name, section[name]))


def valid_name(name: str) -> str:
    """`name` if it can be a backend or server; it becomes part of a command line."""
    if not _NAME.fullmatch(name):
        raise Refused(f"{name!r} cannot be the name of a HAProxy backend or server")
    return name


def find(servers: Backend, backend: str, name: str) -> Server:
    """The server `name`; Failed with the nearest name if the backend has none like it."""
    if name not in servers:
        raise Failed(
            f"backend {backend} has no server {name!r}{_nearest(name, list(servers))}",
            hint=f"its servers are {', '.join(servers) or 'none'}",
        )
    return servers[name]


def set_weights(
    ctx: Context, edge: Edge, backend: str, weights: Mapping[str, int]
) -> tuple[dict[str, int], dict[str, int]]:
    """Set the weights of servers on every load balancer: the weights before, and now.

    Where the load balancers disagreed before, "before" is what the first one that differed from
    `weights` had. Nothing is sent where nothing changes.
    """
    before = weights_before(edge.servers(ctx, backend), backend, weights)
    if before == dict(weights):
        return before, before
    commands = [f"set server {backend}/{name} weight {weight}" for name, weight in weights.items()]

    def wrong(servers: Backend) -> list[str]:
        return [
            f"{name} has weight {servers[name].weight}, not {weight}"
            for name, weight in weights.items()
            if name in servers and servers[name].weight != weight
        ]

    edge.change(ctx, backend, commands, wrong)
    return before, dict(weights)


def weights_before(
    backends: Mapping[str, Backend], backend: str, weights: Mapping[str, int]
) -> dict[str, int]:
    """The weights that differ from `weights`, on whichever load balancer they do."""
    before = dict(weights)
    for servers in backends.values():
        for name, weight in weights.items():
            now = find(servers, backend, name).weight
            if now != weight and before[name] == weight:
                before[name] = now
    return before


def set_admin(
    ctx: Context, edge: Edge, backend: str, names: Iterable[str], state: str
) -> dict[str, str]:
    """Put servers into ``ready``, ``drain`` or ``maint`` everywhere: their states before."""
    names = list(names)
    before = admin_before(edge.servers(ctx, backend), backend, names, state)
    if all(previous == state for previous in before.values()):
        return before

    def wrong(servers: Backend) -> list[str]:
        return [
            f"{name} is in {servers[name].admin}, not {state}{_because(servers[name], state)}"
            for name in names
            if name in servers and _standing(servers[name], state) != state
        ]

    commands = [f"set server {backend}/{name} state {state}" for name in names]
    edge.change(ctx, backend, commands, wrong)
    return before


def admin_before(
    backends: Mapping[str, Backend], backend: str, names: Iterable[str], state: str
) -> dict[str, str]:
    """The states that differ from `state`, on whichever load balancer they do."""
    before: dict[str, str] = {}
    for servers in backends.values():
        for name in names:
            now = _standing(find(servers, backend, name), state)
            if before.get(name, state) == state:
                before[name] = now
    return before


def _standing(server: Server, state: str) -> str:
    """A server's state against the one that is asked for.

    Ready is who takes traffic. To be taken out is more than to be out: a server that is out
    because it tracks another, or has no address, comes back when those do.
    """
    return server.admin if state == "ready" else server.forced


def _because(server: Server, state: str) -> str:
    return f", as {server.kept_out_by}" if state == "ready" and server.kept_out_by else ""


def _settings(name: str, entry: object) -> tuple[tuple[str, ...], float]:
    if isinstance(entry, str):
        entry = {"address": entry}
    if not isinstance(entry, Mapping) or not entry.get("address"):
        raise Refused(
            f"haproxy.{name} in the inventory has no `address`",
            hint="write `address: 'unix:/run/haproxy/admin.sock'` or `address: host:port`",
        )
    if unknown := sorted(set(entry) - {"address", "timeout"}):
        raise Refused(
            f"haproxy.{name} in the inventory has unknown keys: {', '.join(unknown)}",
            hint="known are `address` (one, or a list) and `timeout` (seconds)",
        )
    listed = entry["address"]
    addresses = tuple(str(one) for one in (listed if isinstance(listed, list) else [listed]))
    for address in addresses:
        _target(address)
    return addresses, _seconds(name, entry.get("timeout", _TIMEOUT))


def _seconds(name: str, value: object) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool) and value > 0:
        return float(value)
    raise Refused(f"haproxy.{name}.timeout must be a number of seconds, not {value!r}")


def _target(address: str) -> str | tuple[str, int]:
    """The path of a unix socket, or a host and a port."""
    if address.startswith(("unix:", "/")):
        return address.removeprefix("unix:")
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise Refused(
            f"{address!r} is not an address of a HAProxy socket",
            hint="write `unix:/path/to/socket` or `host:port`",
        )
    return host.strip("[]"), int(port)


def socat(address: str) -> str:
    """A command that sends its input to a load balancer."""
    target = _target(address)
    where = f"UNIX-CONNECT:{target}" if isinstance(target, str) else f"TCP:{address}"
    return f"socat stdio {shlex.quote(where)}"


def _exchange(ctx: Context, address: str, command: str, at_most: float) -> str:
    with _connection(_target(address), ctx.remaining(at_most=at_most)) as connection:

        def abort() -> None:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

        with ctx.on_cancel(abort):
            connection.sendall(command.encode() + b"\n")
            received = bytearray()
            while chunk := connection.recv(65536):
                received += chunk
    ctx.checkpoint()
    return received.decode(errors="replace")


@contextlib.contextmanager
def _connection(target: str | tuple[str, int], timeout: float | None) -> Iterator[socket.socket]:
    if isinstance(target, tuple):
        with socket.create_connection(target, timeout) as connection:
            yield connection
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        connection.connect(target)
        yield connection


def _nearest(name: str, known: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, known, 1)
    return f" … did you mean {near[0]!r}?" if near else ""


def _reason(error: OSError) -> str:
    if isinstance(error, TimeoutError):
        return "it took too long"
    if isinstance(error, FileNotFoundError):
        return "there is no such socket"
    return error.strerror or str(error)
