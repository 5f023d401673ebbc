"""What is due when in a run."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Literal, TypeAlias

TimerKind = Literal["deadline", "grace", "retry", "budget", "gate", "guard", "stop"]
TimerKey: TypeAlias = tuple[TimerKind, int, int]
"""What a timer is for, node index, and task or guard index (0 where there is none)."""


class Timers:
    """What is due when. Kept by the fold, read by the scheduler.

    The earliest are found without looking at the others: two heaps, whose tops are always valid;
    what was cleared or moved further down is dropped when it comes up. Retries have a heap of
    their own, since they wait for a free slot as well as for their time.
    """

    __slots__ = ("_at", "_others", "_retries")

    def __init__(self) -> None:
        self._at: dict[TimerKey, float] = {}
        self._others: list[tuple[float, TimerKey]] = []
        self._retries: list[tuple[float, TimerKey]] = []

    def __bool__(self) -> bool:
        return bool(self._at)

    def at(self, key: TimerKey) -> float | None:
        """When the timer is due, None when it is not set."""
        return self._at.get(key)

    def all(self) -> dict[TimerKey, float]:
        """Every timer with its time."""
        return dict(self._at)

    def set(self, key: TimerKey, at: float) -> None:
        """Have the key come up at time `at`, and no more at its former time."""
        self._at[key] = at
        heap = self._heap_of(key)
        heapq.heappush(heap, (at, key))
        self._trim(heap)

    def clear(self, key: TimerKey) -> None:
        """Forget a timer; unknown ones are fine."""
        if self._at.pop(key, None) is not None:
            self._trim(self._heap_of(key))

    def shift(self, kind: TimerKind, seconds: float) -> None:
        """Move all timers of a kind by some seconds."""
        for key, at in list(self._at.items()):
            if key[0] == kind:
                self.set(key, at + seconds)

    def drop(self, *kinds: TimerKind) -> None:
        """Forget all timers of these kinds."""
        for key in [key for key in self._at if key[0] in kinds]:
            self.clear(key)

    def due(self, now: float) -> Iterator[TimerKey]:
        """What has come up, earliest first, except retries."""
        return _walk(self._others, self._at, now)

    @property
    def retries(self) -> bool:
        """Whether any task will be tried again by itself."""
        return bool(self._retries)

    def due_retries(self, now: float) -> Iterator[TimerKey]:
        """The retries that have come up, earliest first."""
        return _walk(self._retries, self._at, now)

    def next(self, after: float) -> float | None:
        """When the first timer later than `after` comes up.

        A retry that is due already waits for a free slot; so do the ones behind it.
        """
        times = []
        if self._retries and self._retries[0][0] > after:
            times.append(self._retries[0][0])
        if self._others and self._others[0][0] > after:
            times.append(self._others[0][0])
        elif self._others:
            times += [at for key, at in self._at.items() if at > after and key[0] != "retry"]
        return min(times, default=None)

    def _heap_of(self, key: TimerKey) -> list[tuple[float, TimerKey]]:
        return self._retries if key[0] == "retry" else self._others

    def _trim(self, heap: list[tuple[float, TimerKey]]) -> None:
        """Drop what is stale from the top; all of it once it is the larger part."""
        at = self._at
        while heap and at.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        if len(heap) > 2 * len(at) + 64:
            heap[:] = {entry for entry in heap if at.get(entry[1]) == entry[0]}
            heapq.heapify(heap)


def _walk(
    heap: list[tuple[float, TimerKey]], valid: dict[TimerKey, float], now: float
) -> Iterator[TimerKey]:
    """The valid entries of a heap up to `now`, in order, leaving the heap as it is."""
    if not heap or heap[0][0] > now:
        return
    candidates = [(heap[0], 0)]
    last: tuple[float, TimerKey] | None = None
    while candidates:
        entry, place = heapq.heappop(candidates)
        if valid.get(entry[1]) == entry[0] and entry != last:
            last = entry
            yield entry[1]
        for child in (2 * place + 1, 2 * place + 2):
            if child < len(heap) and heap[child][0] <= now:
                heapq.heappush(candidates, (heap[child], child))
