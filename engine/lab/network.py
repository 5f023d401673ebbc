"""The addresses of one lab: a 127.x.y.0/24 of its own, so that several labs run side by side.

Every service and every pod has its own address, as in a cluster, and therefore the port that
it has in production. A port that something else on this machine holds on all addresses is
replaced by the next free one, for all pods alike.
"""

from __future__ import annotations

import contextlib
import hashlib
import random
import socket
from collections.abc import Iterable, Iterator
from pathlib import Path

from engine.errors import LabError

SERVICES = {
    "claim": ("1", 8079),
    "edge": ("1", 8080),
    "edge_tls": ("1", 8443),
    "haproxy": ("1", 9999),
    "mesh": ("2", 8080),
    "postgres": ("3", 5432),
    "redis": ("4", 6379),
    "kubernetes": ("5", 6443),
    "metrics": ("6", 9090),
    "inbox": ("7", 8025),
    "smtp": ("7", 2525),
    "registry": ("8", 5000),
}
"""Service → last byte of its address and the port that it gets if it is free."""

POD_PORTS = (8080, 9090, 9091, 9092)
"""What a pod listens on: the application, and its three metrics ports."""

_FIRST_POD, _LAST_POD = 16, 254
_PORT_TRIES = 50
_NETWORK_TRIES = 200


class Network:
    """A claimed 127.x.y.0/24. The claim is a listening socket: it ends with this process."""

    def __init__(self, prefix: str, claim: socket.socket) -> None:
        self.prefix = prefix
        self._claim = claim
        self._ports = {
            name: _free_port(f"{prefix}.{last}", port)
            for name, (last, port) in SERVICES.items()
            if name != "claim"
        }
        self.pod_ports = {port: _free_port(f"{prefix}.{_FIRST_POD}", port) for port in POD_PORTS}
        self._pod_addresses = [f"{prefix}.{n}" for n in range(_LAST_POD, _FIRST_POD - 1, -1)]

    def host(self, service: str) -> str:
        """The IP address of a service of this lab."""
        return f"{self.prefix}.{SERVICES[service][0]}"

    def port(self, service: str) -> int:
        """The TCP port of a service of this lab."""
        return self._ports[service]

    def address(self, service: str) -> str:
        """host:port of a service of this lab."""
        return f"{self.host(service)}:{self.port(service)}"

    def take_pod_address(self) -> str:
        """An address for a new pod. Raises LabError when 239 pods have one."""
        if not self._pod_addresses:
            raise LabError(
                "the lab has no address left for another pod", hint="scale something down first"
            )
        return self._pod_addresses.pop()

    def return_pod_address(self, address: str) -> None:
        """Give an address back; it is the last to be used again."""
        self._pod_addresses.insert(0, address)

    def close(self) -> None:
        """End the claim."""
        self._claim.close()


def claim_network(folder: Path) -> Network:
    """A network that no other lab has, preferably the one this folder had before.

    Raises LabError if none can be had.
    """
    for prefix in _candidates(folder):
        claim = _bound(f"{prefix}.{SERVICES['claim'][0]}", SERVICES["claim"][1])
        if claim is None:
            continue
        claim.listen(1)
        return Network(prefix, claim)
    raise LabError(
        "no free loopback network 127.x.y.0/24 was found",
        hint=f"stop other labs, or free port {SERVICES['claim'][1]} on this machine",
    )


def _candidates(folder: Path) -> Iterator[str]:
    digest = hashlib.sha256(str(folder).encode()).digest()
    yield _prefix(digest[0], digest[1])
    for _ in range(_NETWORK_TRIES):
        yield _prefix(random.randrange(256), random.randrange(256))


def _prefix(first: int, second: int) -> str:
    # 127.0.x.y is where people's own servers listen, so labs start above it.
    return f"127.{16 + first % 224}.{second}"


def _free_port(host: str, port_number: int) -> int:
    for port in _nearby(port_number):
        probe = _bound(host, port)
        if probe is not None:
            probe.close()
            return port
    raise LabError(
        f"no free port near {port_number} on {host}", hint="see what listens there with: ss -ltnp"
    )


def _nearby(port: int) -> Iterable[int]:
    return range(port, port + _PORT_TRIES * 10, 10)


def _bound(host: str, port: int) -> socket.socket | None:
    """A socket bound there, or None if somebody listens on it."""
    candidate = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # A restarted lab must not wait for the connections of its predecessor to be forgotten.
    candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with contextlib.suppress(OSError):
        candidate.bind((host, port))
        return candidate
    candidate.close()
    return None
