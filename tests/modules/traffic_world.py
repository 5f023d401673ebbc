"""The world of the tests of traffic: a cluster with a mesh, and a real HAProxy."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.lab.cluster.objects import NAMESPACE, SERVICES
from tests.modules.kube_cluster import TestCluster, app
from tests.modules.real_haproxy import RealHAProxy

VIRTUAL_SERVICE = (
    f"/apis/networking.istio.io/v1beta1/namespaces/{NAMESPACE}"
    "/virtualservices/claude-enhancer-traffic"
)
SECTION: dict[str, Any] = {
    "versions": {"stable": "5.0", "canary": "5.1"},
    "selector": {"app": "claude-enhancer"},
    "pods_for_full_load": 3,
    "service": "claude-enhancer-service",
    "virtual_service": "claude-enhancer-traffic",
    "subsets": {"5.0": "stable", "5.1": "canary"},
    "haproxy": {
        "connection": "edge",
        "backend": "claude_split",
        "servers": {"5.0": "stable", "5.1": "canary"},
    },
}


def destination(subset: str, weight: int | None = None) -> dict[str, Any]:
    found: dict[str, Any] = {
        "destination": {"host": "claude-enhancer-service", "subset": subset, "port": {"number": 80}}
    }
    return found if weight is None else {**found, "weight": weight}


def virtual_service(*routes: dict[str, Any]) -> dict[str, Any]:
    opted_in = {
        "name": "canary-users",
        "match": [{"headers": {"x-canary-user": {"exact": "true"}}}],
        "route": [destination("canary")],
    }
    shared = {"name": "primary", "route": [destination("stable", 100), destination("canary", 0)]}
    return {
        "apiVersion": "networking.istio.io/v1beta1",
        "kind": "VirtualService",
        "metadata": {"name": "claude-enhancer-traffic", "namespace": NAMESPACE},
        "spec": {
            "hosts": ["claude-enhancer.example.com"],
            "http": list(routes) or [opted_in, shared],
        },
    }


def the_service(**selector: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "claude-enhancer-service", "namespace": NAMESPACE},
        "spec": {
            "selector": {"app": "claude-enhancer", "version": "5.0", **selector},
            "ports": [{"port": 80, "targetPort": 8080}],
        },
    }


class World:
    """Cluster and HAProxy as a deployment begins: 5.0 has three pods and all traffic."""

    def __init__(self, cluster: TestCluster, haproxy: RealHAProxy) -> None:
        self.cluster = cluster
        self.haproxy = haproxy

    def inventory(self, **traffic: Any) -> dict[str, dict[str, Any]]:
        return {
            "kubectl": self.cluster.section,
            "haproxy": {"edge": {"address": self.haproxy.admin}},
            "traffic": {**SECTION, **traffic},
        }

    def weights(self) -> tuple[dict[str, int], dict[str, int], str]:
        """What Istio, HAProxy and the Service say, asked of them and not of ce-run."""
        routes = self.cluster.read(VIRTUAL_SERVICE)["spec"]["http"]
        istio = {one["destination"]["subset"]: one["weight"] for one in routes[-1]["route"]}
        selector = self.cluster.read(f"{SERVICES}/claude-enhancer-service")["spec"]["selector"]
        return istio, self.haproxy.weights(), selector["version"]

    def opted_in(self) -> str:
        """The subset that people with the header get."""
        routes = self.cluster.read(VIRTUAL_SERVICE)["spec"]["http"]
        return str(routes[0]["route"][0]["destination"]["subset"])

    def requests(self) -> list[str]:
        """What ce-run asked of the cluster, in order, without queries."""
        return [
            f"{one.method} {one.path.partition('?')[0].rpartition('/')[2]}"
            for one in self.cluster.server.requests
            if one.user_agent == "ce-run"
        ]


AT_START = ({"stable": 100, "canary": 0}, {"stable": 100, "canary": 0}, "5.0")


def green(world: World, replicas: int) -> None:
    world.cluster.put(app("claude-enhancer-green", "5.1", replicas))


@contextlib.contextmanager
def world_of(folder: Path, haproxy: RealHAProxy) -> Iterator[World]:
    """A cluster of its own, and a HAProxy that is put as a deployment finds it."""
    with TestCluster(folder / "kube", pace=10.0) as cluster:
        cluster.put(app("claude-enhancer-blue", "5.0", 3))
        cluster.put(the_service())
        cluster.put(virtual_service())
        haproxy.ask("set server claude_split/stable weight 100")
        haproxy.ask("set server claude_split/canary weight 0")
        for server in ("stable", "canary"):
            haproxy.ask(f"set server claude_split/{server} state ready")
        yield World(cluster, haproxy)
