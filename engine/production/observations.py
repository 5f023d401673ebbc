"""What was observed of the production, over time: the users' counts, and the pods' own metrics.

`Observations` collects and adds up; what a metric makes of it is in metrics.py. Time is passed in.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import msgspec

from engine.production.counts import Slice, total
from engine.production.metrics import ALL, METRICS, Measurement, PodSample, View

_KEEP_SECONDS = 900.0


class Observations:
    """Everything observed so far, added up on demand.

    Args:
        now: the time in seconds, from any fixed moment on.
        sample_age: seconds after which a pod that was not sampled again counts as gone.
        disk: the percentage of the database's volume in use; None where nobody knows.
    """

    def __init__(
        self, now: Callable[[], float], sample_age: float, disk: Callable[[], float | None]
    ) -> None:
        self._now = now
        self._sample_age = sample_age
        self._disk = disk
        self._slices: deque[tuple[float, list[Slice]]] = deque()
        self._ever: dict[tuple[str, str], Slice] = {}
        self._pods: dict[str, PodSample] = {}
        self._began = self._now()

    def restart(self) -> None:
        """Forget what the load counted."""
        self._slices.clear()
        self._ever.clear()
        self._began = self._now()

    def add_slices(self, raw: list[Any]) -> None:
        """Take in what the load reports."""
        now = self._now()
        slices = msgspec.convert(raw, list[Slice], str_keys=True)
        self._slices.append((now, slices))
        while self._slices and self._slices[0][0] < now - _KEEP_SECONDS:
            self._slices.popleft()
        for each in slices:
            key = (each.entrance, each.version)
            self._ever.setdefault(key, Slice(*key)).add(each)

    def add_pod(self, sample: PodSample) -> None:
        """Take in what a pod's metrics port said."""
        self._pods[sample.pod] = sample

    def keep_pods(self, pods: Iterable[str]) -> None:
        """Forget what was sampled from all others: they are gone."""
        for pod in self._pods.keys() - set(pods):
            del self._pods[pod]

    def versions(self) -> list[str]:
        """Every version that has been seen, and `all`."""
        seen = {version for _, version in self._ever} | {p.version for p in self._fresh_pods()}
        return [*sorted(seen), ALL]

    def ever(self) -> list[Slice]:
        """Counts since the start of the load, by entrance and version."""
        return list(self._ever.values())

    def view(self, version: str, window: float) -> View:
        """What was seen of a version during the last `window` seconds."""
        now = self._now()
        recent: list[Slice] = []
        for at, slices in reversed(self._slices):
            if at < now - window:
                break
            recent += slices
        return View(
            counts=total(_of(version, recent), version),
            ever=total(_of(version, self._ever.values()), version),
            seconds=min(window, now - self._began),
            pods=[p for p in self._fresh_pods() if version in (ALL, p.version)],
            disk=self._disk() if version == ALL else None,
        )

    def _fresh_pods(self) -> list[PodSample]:
        oldest = self._now() - self._sample_age
        self._pods = {name: pod for name, pod in self._pods.items() if pod.at >= oldest}
        return list(self._pods.values())


def _of(version: str, slices: Iterable[Slice]) -> Iterable[Slice]:
    return (each for each in slices if version in (ALL, each.version))


def measure(
    observations: Observations, name: str, version: str, window: float
) -> Measurement | None:
    """A metric of a version (or `all`) over the last `window` seconds, or None without data.

    Raises KeyError for a name that is no metric.
    """
    return METRICS[name](observations.view(version, window))
