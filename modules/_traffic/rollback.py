"""Everything back to the stable version: at once, from every layer that can be reached.

Every second counts, and going back is what it is about. One question comes first: has the stable
version a ready pod? Then every layer is moved, each load balancer for itself, and one that cannot
be reached holds up no other. What is left is tried again until the time is nearly up: an API
server that restarts is back within seconds. While the cluster cannot tell, HAProxy's own checks
decide for HAProxy. The stable version may get more than its ready capacity: fewer pods of a good
version beat all pods of a bad one.

What is told at the end was read at the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

from engine.module_api import (
    ActionError,
    Cancelled,
    Context,
    Failed,
    Refused,
    Result,
    TimedOut,
    Unreachable,
)
from modules._traffic import telling as traffic_telling
from modules._traffic.endpoints import await_endpoints
from modules._traffic.layers import Layer, Weighted
from modules._traffic.service import Service
from modules._traffic.setup import Shares
from modules._traffic.state import Capacity, Traffic

_KEEPS_TRYING = 20.0
"""Seconds that it goes on where the step has no `timeout`."""
_NO_MEANS_NO = 3.0
"""Seconds after which a refusal is believed: a server that is starting also refuses."""
_PATIENCE = 2.0
"""Seconds that one layer may take in the first round, so that it does not hold up the others."""
_PAUSE = 0.25
_ENDPOINTS = "the Service's endpoints"
_LEFT_FOR_TELLING = 3.0
"""Seconds of the step's time that are kept for reading again; a quarter of it at most."""


def roll_back(ctx: Context, traffic: Traffic, force: bool) -> Result:
    """Move every layer to the stable version; see the module's docstring."""
    return _Rollback(ctx, traffic, force).carry_out()


class _Part(NamedTuple):
    """Something that has to happen, and how it is called."""

    title: str
    carry_out: Callable[[Context], None]


class _Rollback:
    """One rollback: what is left to do, and what came of what was tried."""

    def __init__(self, ctx: Context, traffic: Traffic, force: bool) -> None:
        self._ctx = ctx
        self._traffic = traffic
        self._force = force
        self._stable = traffic.setup.stable
        self._shares = traffic.shares(self._stable, 100)
        self._capacity: dict[str, Capacity] = {}
        self._uncounted: ActionError | None = None
        self._before: dict[str, Shares | None] = {}
        self._changed = False
        self._patience = _PATIENCE
        self._began = ctx.monotonic()
        whole = ctx.remaining(at_most=None)
        reserve = 0.0 if whole is None else min(_LEFT_FOR_TELLING, whole / 4)
        self._gives_up = self._began + (_KEEPS_TRYING if whole is None else whole - reserve)

    def carry_out(self) -> Result:
        """Round after round, until all is done or the time is up."""
        parts = self._parts()
        while True:
            errors = self._round(parts) or self._confirm()
            if not errors:
                return self._result()
            parts = [part for part in parts if part.title in errors]
            if not self._worth_another_round(errors):
                raise self._not_everywhere(errors)
            left = ", ".join(errors)
            self._ctx.progress(f"{left}: not yet, {next(iter(errors.values())).message}")
            self._ctx.sleep(min(_PAUSE, max(0.0, self._left())))
            self._patience = max(_PAUSE, min(2 * self._patience, self._left()))
            if self._traffic.lost:
                self._traffic = Traffic(self._ctx)
                parts = [part for part in self._parts() if part.title in errors]

    def _parts(self) -> list[_Part]:
        traffic, parts = self._traffic, []
        if service := traffic.service:
            parts.append(_Part(service.title, lambda ctx: self._switch(ctx, service)))
        weighted: list[Weighted] = []
        weighted += traffic.haproxy.parts(self._patience) if traffic.haproxy else []
        weighted += [traffic.istio] if traffic.istio else []
        for layer in weighted:
            parts.append(_Part(layer.title, self._mover(layer)))
        return parts

    def _round(self, parts: list[_Part]) -> dict[str, ActionError]:
        """Try every part once: those that failed, and why."""
        self._count()
        errors: dict[str, ActionError] = {}
        for part in parts:
            try:
                part.carry_out(_brief(self._ctx, self._patience))
            except Cancelled:
                raise
            except ActionError as error:
                if isinstance(error, TimedOut):
                    self._ctx.checkpoint()  # the step's own time is up: nobody can go on
                errors[part.title] = error
        return errors

    def _confirm(self) -> dict[str, ActionError]:
        """Wait until the Service leads to the stable version; why it does not."""
        if self._traffic.service and not self._force:
            try:
                await_endpoints(self._ctx, self._traffic, self._stable)
            except Cancelled:
                raise
            except ActionError as error:
                self._ctx.checkpoint()
                return {_ENDPOINTS: error}
        return {}

    def _worth_another_round(self, errors: dict[str, ActionError]) -> bool:
        if self._left() <= _PAUSE:
            return False
        hopeful = any(isinstance(error, Unreachable | TimedOut) for error in errors.values())
        return hopeful or self._ctx.monotonic() - self._began < _NO_MEANS_NO

    def _left(self) -> float:
        return self._gives_up - self._ctx.monotonic()

    # -- the rule -------------------------------------------------------------------------------
    def _count(self) -> None:
        """Ask for the pods; where that cannot be, what was counted last counts."""
        try:
            self._capacity = self._traffic.capacity(_brief(self._ctx, self._patience))
            self._uncounted = None
        except Cancelled:
            raise
        except ActionError as error:
            self._ctx.checkpoint()
            self._ctx.log(f"the pods of {self._stable} cannot be counted: {error.message}")
            self._uncounted = error

    def _refuse_nobody(self, counts: bool) -> None:
        """Stop where no pod of the stable version would serve; `counts`: they must be known."""
        if self._force:
            return
        if counts and self._uncounted is not None and not self._capacity:
            raise self._uncounted
        if self._capacity and not self._capacity[self._stable].ready:
            raise Refused(
                f"no pod of {self._stable} is ready: all traffic to it would fail",
                hint=f"scale {self._stable} up first; `force: true` shifts all the same",
                data={"capacity": {name: one.data for name, one in self._capacity.items()}},
            )

    # -- moving ---------------------------------------------------------------------------------
    def _switch(self, ctx: Context, service: Service) -> None:
        """Switch the Service without looking at it first; its shares before may stay unknown.

        A patch that changes nothing leaves the object's version as it was, so it is then not
        newer than the list of pods from a moment ago.
        """
        self._refuse_nobody(counts=True)
        seen = self._traffic.seen
        version = service.switch(ctx, self._stable)["metadata"].get("resourceVersion", "")
        comparable = version.isdigit() and seen.isdigit()
        unchanged = comparable and int(version) <= int(seen)
        self._before.setdefault("service", self._shares if unchanged else None)
        self._ctx.progress(f"{service.title}: selects {self._stable}")

    def _mover(self, layer: Weighted) -> Callable[[Context], None]:
        def move(ctx: Context) -> None:
            self._refuse_nobody(counts=layer.name == "istio")
            refusals = [] if self._force else layer.refusals(ctx, self._shares, [self._stable])
            if refusals:
                raise Refused("; ".join(refusals), hint="put the servers back with `haproxy.ready`")
            before, changed = layer.replaced(ctx, self._shares)
            self._before.setdefault(layer.name, before)
            self._changed |= changed
            self._ctx.progress(f"{layer.title}: all traffic to {self._stable}")

        return move

    # -- telling --------------------------------------------------------------------------------
    def _result(self) -> Result:
        traffic = self._traffic
        after: dict[str, Shares | None] = {layer.name: self._shares for layer in traffic.layers}
        outcome = traffic_telling.result(
            traffic, self._shares, self._before, after, self._capacity, "rolled back to"
        )
        return traffic_telling.counted(outcome, self._changed)

    def _not_everywhere(self, errors: dict[str, ActionError]) -> ActionError:
        """What could not be moved, who serves what now, and how a person moves the rest."""
        if len({error.message for error in errors.values()}) == 1 and all(
            isinstance(error, Refused) and "capacity" in error.data for error in errors.values()
        ):
            return next(iter(errors.values()))
        now, words, behind = self._now()
        by_hand = [layer.by_hand(self._shares) for layer in behind]
        kinds = {type(error) for error in errors.values()}
        kind = kinds.pop() if kinds in ({Unreachable}, {TimedOut}, {Refused}) else Failed
        evidence = [f"{title}: {error.message}" for title, error in errors.items()]
        evidence += [f"by hand: {command}" for command in by_hand[1:]]
        evidence += [line for error in errors.values() for line in error.evidence]
        left = f"{', '.join(errors)} could not be moved"
        if _ENDPOINTS in errors:
            left = errors[_ENDPOINTS].message
        return kind(
            f"not all traffic is known to be back on {self._stable}: {left}; "
            f"now {'; '.join(words)}",
            hint=_hint(by_hand, self._uncounted),
            evidence=evidence,
            data={
                "shares": self._shares,
                "layers": now,
                "moved": [title for title in now if title not in {one.title for one in behind}],
                "not_moved": list(errors),
                "by_hand": by_hand,
            },
        )

    def _each(self) -> list[Layer]:
        """Every layer, each load balancer for itself."""
        traffic = self._traffic
        layers: list[Layer] = [traffic.service] if traffic.service else []
        layers += traffic.haproxy.parts(_PATIENCE) if traffic.haproxy else []
        return [*layers, *([traffic.istio] if traffic.istio else [])]

    def _now(self) -> tuple[dict[str, Any], list[str], list[Layer]]:
        """Each layer as it is now: its shares or why nobody can tell, in words, and those that
        are not known to be back."""
        now: dict[str, Any] = {}
        words: list[str] = []
        behind: list[Layer] = []
        for layer in self._each():
            try:
                shares = layer.read(_brief(self._ctx, _LEFT_FOR_TELLING / 4))
                now[layer.title] = shares
                words.append(traffic_telling.standing(layer, shares, "it is not there"))
            except Cancelled:
                raise
            except ActionError as error:
                shares = None
                now[layer.title] = error.message
                words.append(traffic_telling.standing(layer, None, error.message))
            if shares != self._shares:
                behind.append(layer)
        return now, words, behind


def _hint(by_hand: list[str], uncounted: ActionError | None) -> str:
    hint = f"by hand: {by_hand[0]}" if by_hand else "look with `traffic.read`"
    if len(by_hand) > 1:
        hint += f"; {len(by_hand) - 1} more below"
    if uncounted is not None:
        hint += "; `force: true` moves the layers that can be reached, whatever their health"
    return hint


def _brief(ctx: Context, seconds: float) -> Context:
    """The context, with at most so many seconds for what is asked through it."""
    return cast(Context, _Brief(ctx, seconds))


class _Brief:
    """A context whose time is short; in all else it is the one that it stands for."""

    def __init__(self, ctx: Context, seconds: float) -> None:
        self._ctx = ctx
        self._end = ctx.monotonic() + seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._ctx, name)

    def remaining(self, at_most: float | None = None) -> float | None:
        """As in the context; TimedOut when the short time is over."""
        left = self._end - self._ctx.monotonic()
        if left <= 0:
            raise TimedOut("it took too long to answer")
        return self._ctx.remaining(at_most=left if at_most is None else min(at_most, left))

    def sleep(self, seconds: float) -> None:
        """As in the context; TimedOut when the short time ends first."""
        left = self._end - self._ctx.monotonic()
        self._ctx.sleep(max(0.0, min(seconds, left)))
        if seconds > left:
            raise TimedOut("it took too long to answer")
