"""Names that nobody chose: uids, the endings of pods' names, the names of events."""

from __future__ import annotations

import random
import uuid

SAFE_ALPHABET = "bcdfghjklmnpqrstvwxz2456789"
"""What generated names are made of: no vowels, so that no word comes about by accident."""


class Identities:
    """Makes names from a source of randomness: the same seed, the same names."""

    def __init__(self, source: random.Random) -> None:
        self._source = source
        self._last_event = 0

    def uid(self) -> str:
        """A new random UUID (version 4)."""
        return str(uuid.UUID(int=self._source.getrandbits(128), version=4))

    def suffix(self, length: int = 5) -> str:
        """Random letters for a generated name."""
        return "".join(self._source.choices(SAFE_ALPHABET, k=length))

    def event(self, about: str, now: float) -> str:
        """The name of an event about an object: its moment in nanoseconds, never used twice."""
        self._last_event = max(self._last_event + 1, int(now * 1e9))
        return f"{about}.{self._last_event:x}"
