"""What the scheduler can ask of the runner.

An action is a request, not a fact: the scheduler asks again as long as the state does not show
that it was carried out, and the runner ignores a request for what is already under way.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from engine.events import AnyEvent


class Append(msgspec.Struct, frozen=True):
    """Write a decision into the journal; nothing else is to be done."""

    event: AnyEvent


class Prepare(msgspec.Struct, frozen=True):
    """Evaluate the step's conditions, loop, hosts and times; open, ask, skip or fail it."""

    node: int


class Start(msgspec.Struct, frozen=True):
    """Announce an attempt in the journal, then carry it out."""

    node: int
    task: int
    attempt: int


class Cancel(msgspec.Struct, frozen=True):
    """Make a running task end (its CancelRequested has been appended before)."""

    node: int
    task: int


class Abandon(msgspec.Struct, frozen=True):
    """A cancelled task did not end in time: stop waiting for it and say so."""

    node: int
    task: int


class AskProbe(msgspec.Struct, frozen=True):
    """Find out whether a once-only effect happened before the process went away."""

    node: int
    task: int


class Observe(msgspec.Struct, frozen=True):
    """Take one observation of a guard."""

    node: int
    guard: int


Action: TypeAlias = Append | Prepare | Start | Cancel | Abandon | AskProbe | Observe
