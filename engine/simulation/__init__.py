"""A simulated world: the production as a model, in virtual time, for rehearsals.

A run in mode *simulate* is the same loop with the same loader, scheduler, fold, guards, gates and
journal. What differs is told here:

::

    clock     virtual time that tells tasks when something has happened
    executor  carries jobs out on one thread, each as a light coroutine
    timeline  the same time, as the production's models know it
    load      what the users do and meet: requests, failures, latencies, by version
    world     the production that all of them share, made of the inventory's names and numbers

Actions run their own code as far as they can: their clients (cluster, load balancer, HTTP, …) ask
the world instead of the network. An action that has no such client says in a companion
(`@….simulate`) what happens. Nothing here opens a socket, starts a process or makes a thread.
"""

from engine.simulation.clock import SimulatedClock
from engine.simulation.executor import SimulatedExecutor
from engine.simulation.setting import world_of
from engine.simulation.world import WARM_UP, Scale, World

__all__ = ["WARM_UP", "Scale", "SimulatedClock", "SimulatedExecutor", "World", "world_of"]
