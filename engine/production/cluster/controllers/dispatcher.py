"""The loop of all controllers: what changed is looked at again, until nothing is left to do.

A controller says which of its objects a change concerns (`concerns`) and brings one of them a
step closer to what it should be (`reconcile`); a step makes at most one decision, and the
dispatcher calls again while it returns True. Nobody polls: work comes from store changes and
from timers.

Controllers come in an order, and the first one with work goes first. So a Deployment decides
all it can before its ReplicaSets act, and a Service loses an endpoint before the pod behind it is
told to stop.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

from engine.production.cluster.objects.common import Key
from engine.production.cluster.objects.store import Change, ObjectStore
from engine.production.cluster.timeline import Callback, Timeline, Timer

_log = logging.getLogger(__name__)

_RETRY_AFTER = 5.0
_BATCH = 100
_TURN = 0.02
"""Steps, and seconds, between two turns of others, so that requests are answered meanwhile."""


class Controller(Protocol):
    """One reconciler. `name` is how others and tests call it."""

    name: str

    def concerns(self, change: Change) -> Iterable[Key]:
        """The objects of this controller to look at after `change`."""

    def reconcile(self, key: Key) -> bool:
        """Do the next thing; True when there may be more to do at once."""


class Dispatcher:
    """Runs controllers whenever they have work, one step after the other."""

    def __init__(self, store: ObjectStore, timeline: Timeline) -> None:
        self._store = store
        self._timeline = timeline
        self._controllers: dict[str, Controller] = {}
        self._work: dict[str, dict[Key, None]] = {}
        self._timers: dict[tuple[str, Key, str], Timer] = {}
        self._wakeup: Timer | None = None
        self._unsubscribe: Callable[[], None] | None = None
        self._running = False
        self._paused = False
        self._idle = True
        self._when_idle: list[Callback] = []

    def start(self, controllers: Sequence[Controller]) -> None:
        """Begin to serve `controllers`; earlier ones have precedence."""
        self._controllers = {controller.name: controller for controller in controllers}
        self._work = {name: {} for name in self._controllers}
        self._unsubscribe = self._store.subscribe(self._observe)
        self._running = True

    def stop(self) -> None:
        self._running = False
        if self._unsubscribe is not None:
            self._unsubscribe()
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        if self._wakeup is not None:
            self._wakeup.cancel()

    def add(self, controller: str, key: Key) -> None:
        """Have `controller` look at `key` soon."""
        if controller in self._work and self._running:
            # To the end of the row, even if it waits already: changes are followed in the order
            # in which they were last made, so that pods go before others come in their place.
            self._work[controller].pop(key, None)
            self._work[controller][key] = None
            self._idle = False
            self._wake()

    def later(self, controller: str, key: Key, seconds: float, why: str = "") -> None:
        """Have `controller` look at `key` after `seconds` of cluster time.

        A timer set before for the same controller, key and reason is replaced.
        """
        name = (controller, key, why)
        self.forget(controller, key, why)
        if not self._running:
            return

        def due() -> None:
            self._timers.pop(name, None)
            self.add(controller, key)

        self._timers[name] = self._timeline.later(seconds, due)

    def forget(self, controller: str, key: Key, why: str = "") -> None:
        """Cancel what `later` planned."""
        timer = self._timers.pop((controller, key, why), None)
        if timer is not None:
            timer.cancel()

    def pause(self) -> None:
        """Let work pile up: what a cluster looks like whose controllers lag behind."""
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        self._wake()

    def step(self, controller: str, key: Key | None = None) -> bool:
        """One step of a paused controller; False when it had nothing to do."""
        work = self._work[controller]
        chosen = key if key is not None else next(iter(work), None)
        if chosen is None or chosen not in work:
            return False
        self._reconcile(controller, chosen)
        return True

    def when_idle(self, step: Callback) -> None:
        """Call `step` once no controller has anything to do at once (timers may be pending)."""
        if self._idle:
            step()
        else:
            self._when_idle.append(step)

    def _observe(self, change: Change) -> None:
        for name, controller in self._controllers.items():
            for key in controller.concerns(change):
                self.add(name, key)

    def _wake(self) -> None:
        if self._wakeup is None and self._running and not self._paused:
            self._wakeup = self._timeline.soon(self._drain)

    def _drain(self) -> None:
        self._wakeup = None
        began = self._timeline.elapsed()
        for _ in range(_BATCH):
            if self._timeline.elapsed() - began > _TURN:
                break
            if self._paused or not self._running:
                return
            name = next((name for name, work in self._work.items() if work), None)
            if name is None:
                self._rest()
                return
            self._reconcile(name, next(iter(self._work[name])))
        self._wake()

    def _rest(self) -> None:
        self._idle = True
        waiting, self._when_idle = self._when_idle, []
        for step in waiting:
            step()

    def _reconcile(self, name: str, key: Key) -> None:
        del self._work[name][key]
        try:
            again = self._controllers[name].reconcile(key)
        except Exception:
            # One broken object must not stop the cluster.
            _log.exception("controller %s failed on %s/%s", name, *key)
            self.later(name, key, _RETRY_AFTER, "failed")
            return
        if again:
            self.add(name, key)
