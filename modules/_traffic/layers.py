"""What the three places have in common that decide who gets traffic.

They are Istio's weights (`istio`), HAProxy's (`balancers`) and a Service's selector (`service`).
Each layer reads and writes *shares*: a mapping from version to percent, which sums up to 100.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from typing import Protocol

from engine.module_api import Context
from modules._kube.api import Cluster
from modules._kube.kinds import Kind, known
from modules._traffic.setup import Shares

Reach = Callable[[], Cluster]
"""The way to the cluster; raises Unreachable or Refused while there is none (an expired login)."""


class Layer(Protocol):
    """A place where traffic is split."""

    name: str
    title: str

    def read(self, ctx: Context) -> Shares | None:
        """The shares in force; None where they cannot be told (the object is not there)."""
        ...

    def standing(self, ctx: Context, goal: Shares) -> Shares | None:
        """`read`, before a shift to `goal`, also where a shift was cut off half-way."""
        ...

    def write(self, ctx: Context, shares: Shares) -> bool:
        """Put the shares in force; False where they were so already and nothing was sent."""
        ...

    def refusals(self, ctx: Context, shares: Shares, rising: list[str]) -> list[str]:
        """Why this layer cannot give `rising` versions more, as far as it knows itself."""
        ...

    def by_hand(self, shares: Shares) -> str:
        """The command with which a person puts the shares in force."""
        ...


class Weighted(Layer, Protocol):
    """A layer that knows shares between nothing and all."""

    def replaced(self, ctx: Context, shares: Shares) -> tuple[Shares | None, bool]:
        """`write` with as few requests as can be: the shares before, and what `write` returns.

        What is understood is moved in any case; Refused afterwards says what is not.
        """
        ...


def kind(word: str) -> Kind:
    """A kind that is always known."""
    row = known(word)
    assert row is not None
    return row


def kubectl(namespace: str, *words: str) -> str:
    """A command of kubectl, spelled for a shell."""
    return f"kubectl -n {shlex.quote(namespace)} {shlex.join(words)}"
