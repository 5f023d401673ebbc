"""A running lab as tests use it: through its Kubernetes API, its HAProxy, its front doors."""

from __future__ import annotations

import asyncio
import contextlib
import re
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import kubernetes.client
import kubernetes.config
import kubernetes.stream
import psycopg

from engine.lab import control
from engine.lab.layout import LabInfo
from engine.lab.wire import Connection
from engine.production.figures import Figures

NAMESPACE = "claude-enhancer"
SERVICE = "claude-enhancer-service"
PATIENCE = 60.0


def eventually(condition: Callable[[], Any], *, patience: float = PATIENCE) -> Any:
    """Wait until a condition holds, and return what it gave; fail if it never does."""
    deadline = time.monotonic() + patience
    while True:
        result = condition()
        if result:
            return result
        assert time.monotonic() < deadline, f"never came true: {condition}"
        time.sleep(0.025)


@dataclass
class Production:
    """One running lab."""

    state: Path
    info: LabInfo

    def __post_init__(self) -> None:
        config = kubernetes.client.Configuration()
        load: Any = kubernetes.config.load_kube_config
        load(self.info.kubeconfig, client_configuration=config)
        self._client: Any = kubernetes.client.ApiClient(config)
        # Any: the library's types know neither plain objects as bodies nor what is always there.
        self.core: Any = kubernetes.client.CoreV1Api(self._client)
        self.apps: Any = kubernetes.client.AppsV1Api(self._client)
        self.custom: Any = kubernetes.client.CustomObjectsApi(self._client)

    def close(self) -> None:
        self._client.close()

    # -- the cluster -----------------------------------------------------------------------

    def scale(self, colour: str, replicas: int, *, wait: bool = True) -> None:
        """Scale a Deployment; wait until it has that many ready pods and no other."""
        name = f"claude-enhancer-{colour}"
        self.apps.patch_namespaced_deployment_scale(
            name, NAMESPACE, {"spec": {"replicas": replicas}}
        )
        if wait:
            eventually(lambda: len(self.pods(colour)) == len(self.ready_pods(colour)) == replicas)

    def pods(self, colour: str) -> list[Any]:
        return [
            pod
            for pod in self.core.list_namespaced_pod(NAMESPACE).items
            if pod.metadata.name.startswith(f"claude-enhancer-{colour}-")
        ]

    def ready_pods(self, colour: str) -> list[Any]:
        return [
            pod
            for pod in self.pods(colour)
            if pod.metadata.deletion_timestamp is None
            and any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or [])
        ]

    def container(self, colour: str) -> Any:
        """The status of the first container of a Deployment's first pod."""
        pods = self.pods(colour)
        statuses = pods[0].status.container_statuses if pods else None
        return statuses[0] if statuses else None

    def waiting_reason(self, colour: str) -> str:
        status = self.container(colour)
        waiting = status.state.waiting if status and status.state else None
        return str(waiting.reason) if waiting else ""

    def select(self, version: str) -> None:
        """Point the Service at a version; wait until the balancer follows."""
        self.core.patch_namespaced_service(
            SERVICE, NAMESPACE, {"spec": {"selector": {"version": version}}}
        )
        colour = {"5.0": "blue", "5.1": "green"}[version]
        eventually(lambda: all(f"-{colour}-" in name for name in self.serving("claude_stable")))

    def serving(self, backend: str) -> list[str]:
        return control.status(self.state).serving[backend]

    def exec(self, pod: str, *command: str) -> str:
        """Run a command in a pod; what it wrote to both outputs."""
        session = kubernetes.stream.stream(
            self.core.connect_get_namespaced_pod_exec,
            pod,
            NAMESPACE,
            command=list(command),
            stdout=True,
            stderr=True,
            stdin=False,
            tty=False,
            _preload_content=False,
        )
        session.run_forever(timeout=PATIENCE)
        output = str(session.read_all())
        session.sock.shutdown()  # `close` leaves the socket open once the server has said goodbye
        return output

    def set_configmap(self, name: str, data: dict[str, str] | None) -> None:
        """Create, replace or (None) delete a ConfigMap."""
        with contextlib.suppress(kubernetes.client.ApiException):
            self.core.delete_namespaced_config_map(name, NAMESPACE)
        if data is not None:
            body = {"metadata": {"name": name}, "data": data}
            self.core.create_namespaced_config_map(NAMESPACE, body)

    # -- traffic ---------------------------------------------------------------------------

    def set_edge(self, canary: int) -> None:
        self.haproxy(f"set weight claude_split/stable {100 - canary}")
        self.haproxy(f"set weight claude_split/canary {canary}")

    def set_mesh(self, canary: int) -> None:
        """Set the VirtualService's weights; wait until the mesh follows."""
        place = ("networking.istio.io", "v1beta1", NAMESPACE, "virtualservices")
        name = "claude-enhancer-traffic"
        found = self.custom.get_namespaced_custom_object(*place, name)
        stable, other = found["spec"]["http"][-1]["route"]
        stable["weight"], other["weight"] = 100 - canary, canary
        self.custom.patch_namespaced_custom_object(*place, name, {"spec": found["spec"]})
        wanted = {"stable": 100 - canary, "canary": canary}
        eventually(lambda: control.status(self.state).weights["mesh"] == wanted)

    def haproxy(self, command: str) -> str:
        """One command of the runtime API, over TCP."""
        host, _, port = self.info.haproxy_address.partition(":")
        with socket.create_connection((host, int(port))) as connection:
            connection.sendall(command.encode() + b"\n")
            with connection.makefile() as answer:
                return answer.read()

    def versions_seen(
        self, url: str, count: int, *, headers: str = "", path: str = "/health"
    ) -> Counter[str]:
        """Send many requests over several kept connections; version → answers of status 200."""
        return asyncio.run(_versions_seen(url, count, headers, path))

    # -- figures ---------------------------------------------------------------------------

    def figures(self, *, verify_writes: bool = False) -> Figures:
        return control.figures(self.state, verify_writes=verify_writes)

    @contextlib.contextmanager
    def no_failure(self) -> Iterator[None]:
        """Fail if any request fails or any session is lost meanwhile."""
        before = self.figures()
        yield
        self.let_pass(100)
        after = self.figures(verify_writes=True)
        assert new_reasons(before, after) == {}
        assert after.sessions_lost == before.sessions_lost
        assert after.workflow_jumps == before.workflow_jumps
        assert after.writes_lost == 0
        assert after.writes_acknowledged > before.writes_acknowledged

    def let_pass(self, requests: int) -> None:
        """Wait until the load has made this many more requests."""
        goal = self.figures().requests + requests
        eventually(lambda: self.figures().requests >= goal)

    def quieten(self) -> None:
        """Stop the load, and wait until every request is answered."""
        control.set_rate(self.state, 0)
        counts = [-1]

        def unchanged() -> bool:
            time.sleep(0.1)
            counts.append(self.figures().requests)
            return counts[-1] == counts[-2]

        eventually(unchanged)

    def metric(self, name: str, version: str = "all", window: str = "1s") -> float | None:
        """A metric's value by way of the Prometheus API; None where there is no data."""
        query = f'{name}{{version="{version}",window="{window}"}}'
        answer = httpx.get(f"{self.info.metrics_url}/api/v1/query", params={"query": query})
        result = answer.json()["data"]["result"]
        return float(result[0]["value"][1]) if result else None

    def sql(self, statement: str, database: str = "claude_enhancer") -> list[tuple[Any, ...]]:
        with psycopg.connect(self.info.dsn, dbname=database, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    # -- afterwards ------------------------------------------------------------------------

    def restore(self) -> None:
        """Back to 5.0 alone, whatever a test has done."""
        control.clear_faults(self.state)
        control.trouble_inbox(self.state, clear=True, down=False)
        control.set_rate(self.state, self.info.request_rate)
        self.set_configmap("claude-enhancer-maintenance", None)
        self.set_edge(0)
        self.set_mesh(0)
        self.scale("blue", 3)
        self.select("5.0")
        self.scale("green", 0)


async def _versions_seen(url: str, count: int, headers: str, path: str) -> Counter[str]:
    place = httpx.URL(url)
    assert place.port is not None
    seen: Counter[str] = Counter()
    left = count

    async def ask_some() -> None:
        nonlocal left
        connection = Connection(place.host, place.port or 80)
        while left > 0:
            left -= 1
            answer = await connection.request("GET", path, headers=headers)
            seen[answer.header(b"x-ce-version") if answer.status == 200 else "failed"] += 1
        connection.close()

    await asyncio.gather(*(ask_some() for _ in range(8)))
    return seen


def new_reasons(before: Figures, after: Figures) -> dict[str, int]:
    """Why requests failed between two moments, and how many."""
    return {
        reason: number - before.reasons.get(reason, 0)
        for reason, number in after.reasons.items()
        if number > before.reasons.get(reason, 0)
    }


def descendants(root: int) -> set[int]:
    """The pids of all children of a process, and theirs."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parents[int(entry.name)] = _stat(int(entry.name))[1]
    found = {root}
    while more := {pid for pid, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {root}


def lives(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not yet fetched does not."""
    try:
        return _stat(pid)[0] not in "ZX"
    except OSError:
        return False


def _stat(pid: int) -> tuple[str, int]:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    return fields[0], int(fields[1])


def traces(folder: Path, family: set[int]) -> set[str]:
    """What a running lab has on this machine outside its folder: shared memory, named sockets."""
    found = set()
    for pid in family:
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
                if "/dev/shm/" in line:
                    found.add(line.split()[5])
    found.update(re.findall(r"abns@(\S+)", (folder / "run" / "haproxy.cfg").read_text()))
    return found


def remaining(names: set[str]) -> set[str]:
    """Which of a lab's traces are still there."""
    sockets = Path("/proc/net/unix").read_text()
    return {name for name in names if Path(name).exists() or f"@{name}" in sockets}
