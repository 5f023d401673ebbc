"""The lab's Kubernetes API with pods that are only reported, as a cluster for module tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.lab.cluster.memory_runtime import MemoryRuntime
from tests.lab.cluster.objects import NAMESPACE
from tests.lab.cluster.running_server import RunningServer


class TestCluster(RunningServer):
    """A running API server with the tests' namespace; `section` is for an inventory."""

    __test__ = False

    def __init__(self, directory: Path, runtime: MemoryRuntime | None = None, **options: Any):
        super().__init__(directory, runtime, namespace=NAMESPACE, **options)

    def __enter__(self) -> TestCluster:
        super().__enter__()
        self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
        return self

    @property
    def section(self) -> dict[str, Any]:
        """The inventory's ``kubectl`` section for this cluster."""
        return {"kubeconfig": str(self.server.kubeconfig_path), "namespace": NAMESPACE}

    def put(self, item: Mapping[str, Any]) -> None:
        """Apply an object as somebody else, and wait until nothing moves."""
        self.do(self.server.apply, dict(item))
        self.settle()

    def read(self, path: str) -> Any:
        """GET a path as somebody else; None if there is nothing."""
        with self.client() as client:
            answer = client.get(path)
        return answer.json() if answer.status_code == 200 else None


def app(name: str, version: str, replicas: int, *, image: str = "", **spec: Any) -> dict[str, Any]:
    """A Deployment of the application in one version."""
    labels = {"app": "claude-enhancer", "version": version}
    container = {"name": "app", "image": image or f"claude-enhancer:{version}"}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": {**labels, "track": name}},
            "template": {
                "metadata": {"labels": {**labels, "track": name}},
                "spec": {"containers": [container]},
            },
            **spec,
        },
    }
