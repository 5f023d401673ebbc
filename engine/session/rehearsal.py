"""What a simulated run is carried with: virtual time, a world, and people who answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from engine.clock import Mailbox, SystemClock
from engine.events import GateOpened, Person, Record
from engine.executor import Executor
from engine.runner import Wake
from engine.session.composition import Surroundings
from engine.simulation import WARM_UP, SimulatedClock, SimulatedExecutor, World
from engine.simulation.description import WorldDescription, world_as_told
from engine.simulation.setting import address, secret
from engine.state import RunState
from engine.store import Command

ANSWERS_AFTER = 60.0
"""Seconds that a simulated person takes for a question."""

PEOPLE = Person("simulated people", via="the simulation")


class People:
    """Those who answer a simulated run's questions; an observer of it."""

    def __init__(self, clock: SimulatedClock, mailbox: Mailbox) -> None:
        self._clock = clock
        self._mailbox = mailbox

    def event(self, state: RunState, record: Record) -> None:
        """Answer a question in a while."""
        if isinstance(record.event, GateOpened):
            answer = Command("approve", PEOPLE, record.event.step)
            at = self._clock.now() + ANSWERS_AFTER
            self._clock.schedule(at, lambda: self._mailbox.put(answer))

    def progress(self, step: str, task: int, text: str) -> None:
        """Of no interest to them."""

    def tick(self, state: RunState, now: float) -> None:
        """Nor is this."""


class Rehearsal:
    """A simulated run's world with everything that is driven by its clock; one for a run."""

    def __init__(
        self,
        told: WorldDescription | None = None,
        speed: float | None = None,
        world: World | None = None,
    ) -> None:
        """`told` is what a world file says; `speed` is how many seconds of the world pass in a real
        one; None: as fast as can be.

        With a `world` the run takes place in that one, as other runs before have left it.
        """
        self.clock = SimulatedClock(SystemClock().now() - WARM_UP) if world is None else world.clock
        self._speed = speed
        self._told = told or WorldDescription()
        self._world = world
        self._warm_up = WARM_UP if world is None else 0.0
        self._people: People | None = None

    @property
    def world(self) -> World:
        """The world; there is one as soon as the run has been put together."""
        assert self._world is not None
        return self._world

    def surroundings(self, around: Surroundings) -> Surroundings:
        """What the process brings along, with the world in the place of the real one."""
        return msgspec.structs.replace(
            around,
            attended=True,
            lab=lambda folder, mask: address,
            clock=lambda not_before: self.clock,
            executor=self._executor,
            world=self._make_world,
            warm_up=self._warm_up,
            secret=secret,
            observers=[*around.observers, self],
            tick=None,
        )

    def _make_world(self, section: Callable[[str], Mapping[str, Any]]) -> World:
        if self._world is None:
            self._world = world_as_told(self.clock, section, self._told)
        self.clock.speed = self._speed
        return self._world

    def _executor(self, mailbox: Mailbox) -> Executor:
        self._people = People(self.clock, mailbox)
        self.world.subscribe(lambda: mailbox.put(Wake()))
        return SimulatedExecutor(self.clock, mailbox)

    # -- an observer of the run -----------------------------------------------------------------
    def event(self, state: RunState, record: Record) -> None:
        """Pass it on to the people."""
        if self._people is not None:
            self._people.event(state, record)

    def progress(self, step: str, task: int, text: str) -> None:
        """Nothing to pass on."""

    def tick(self, state: RunState, now: float) -> None:
        """Nothing to pass on."""
