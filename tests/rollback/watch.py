"""Watches the lab's traffic from outside while runs come and go.

What a run says about itself is in its journal. What users and load balancers saw is looked at
here, again and again, on the same clock: the weights of edge and mesh, how many requests each
version has answered, how many failed. The Kubernetes API's own record tells who asked what when.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

import msgspec

from engine.lab import control
from engine.lab.cluster.api.requestlog import RequestRecord
from engine.lab.layout import Layout
from engine.production.figures import Figures
from engine.production.names import SERVICE

BETWEEN_LOOKS = 0.05


class Look(msgspec.Struct, frozen=True):
    """The lab at one moment; `time` in epoch seconds, taken before anything was asked."""

    time: float
    shares: dict[str, int]
    """Entrance → percent of 5.1."""
    answered: dict[str, int]
    """Version → requests so far."""
    failed: dict[str, int]
    """Version → failures so far."""


class Watch:
    """All looks since it began, oldest first."""

    def __init__(self, state: Path) -> None:
        self.state = state
        self.looks: list[Look] = []

    def look(self) -> Look:
        """Look now and remember it."""
        now = time.time()
        weights = control.status(self.state).weights
        found = control.figures(self.state)
        look = Look(
            now,
            {name: _percent(each) for name, each in weights.items()},
            {name: each.requests for name, each in found.versions.items()},
            {name: each.failures for name, each in found.versions.items()},
        )
        self.looks.append(look)
        return look

    def last_answer_of(self, version: str) -> float:
        """When the number of its answers grew for the last time; 0 if it never did."""
        grown = [
            after.time
            for before, after in zip(self.looks, self.looks[1:], strict=False)
            if after.answered.get(version, 0) > before.answered.get(version, 0)
        ]
        return max(grown, default=0.0)

    def weights_on_5_0(self) -> float:
        """When edge and mesh were first seen with nothing for 5.1 ever after."""
        with_5_1 = [look.time for look in self.looks if any(look.shares.values())]
        since = max(with_5_1, default=0.0)
        return min(look.time for look in self.looks if look.time > since)


@contextmanager
def watching(state: Path) -> Iterator[Watch]:
    """Look at the lab all the time while the block runs, and once more at its end."""
    watch, over = Watch(state), threading.Event()

    def look() -> None:
        while not over.wait(BETWEEN_LOOKS):
            watch.look()

    thread = threading.Thread(target=look, name="watch the lab")
    thread.start()
    try:
        yield watch
    finally:
        over.set()
        thread.join()
    watch.look()


def requests(state: Path) -> list[RequestRecord]:
    """Every request that reached the Kubernetes API, in order of arrival."""
    lines = Layout(state).requests.read_bytes().splitlines()
    found = [msgspec.json.decode(line, type=RequestRecord) for line in lines]
    return sorted(found, key=lambda each: each.seq)


def arrived(request: RequestRecord) -> float:
    """When a request arrived, epoch seconds."""
    return datetime.fromisoformat(request.time).timestamp()


def selector_changes(state: Path, run: str) -> list[float]:
    """When this run successfully changed the Service."""
    return [
        arrived(each)
        for each in requests(state)
        if each.run == run
        and each.method == "PATCH"
        and each.status == 200
        and f"/services/{SERVICE}" in each.path
    ]


def failures_of_5_0(figures: Figures) -> int:
    """Requests that failed although 5.0 could have served them: its own, and those of nobody."""
    return sum(each.failures for name, each in figures.versions.items() if name != "5.1")


def _percent(weights: dict[str, int]) -> int:
    return 100 * weights["canary"] // (weights["stable"] + weights["canary"])
