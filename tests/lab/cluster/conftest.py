"""A fresh API server for each test, quick enough to be had by every one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.lab.cluster.objects import NAMESPACE
from tests.lab.cluster.running_server import RunningServer


@pytest.fixture
def start_cluster(tmp_path: Path) -> Iterator[Callable[..., RunningServer]]:
    """Start a server with these options; it has the test's namespace and stops with the test."""
    with ExitStack() as stack:

        def start(**options: Any) -> RunningServer:
            running = RunningServer(tmp_path / "kube", namespace=NAMESPACE, **options)
            stack.enter_context(running)
            namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
            running.do(running.server.apply, namespace)
            running.settle()
            return running

        yield start


@pytest.fixture
def cluster(start_cluster: Callable[..., RunningServer]) -> RunningServer:
    """A server with default settings."""
    return start_cluster()


@pytest.fixture
def http(cluster: RunningServer) -> Iterator[httpx.Client]:
    """An HTTP client of `cluster`, with its token."""
    with cluster.client("test/1.0") as client:
        yield client
