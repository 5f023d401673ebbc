"""A shift forward: the order of things, and what happens when one fails.

The rule: no version is given a share above its ready capacity, none is taken out before its
successor serves, and all layers agree in the end. A shift therefore looks first, moves the
weights, looks again, and switches the Service last; if a layer fails, the others go back to where
they were. Going back to the stable version for good is another matter: see `rollback`.
"""

from __future__ import annotations

from typing import Any

from engine.module_api import (
    ActionError,
    Cancelled,
    Context,
    Failed,
    Refused,
    Result,
)
from modules._traffic import state as traffic_state
from modules._traffic import telling as traffic_telling
from modules._traffic.endpoints import await_endpoints
from modules._traffic.layers import Layer
from modules._traffic.setup import Shares
from modules._traffic.setup import text as spell
from modules._traffic.state import Capacity, Traffic


def shift(ctx: Context, traffic: Traffic, shares: Shares, force: bool) -> Result:
    """Move traffic with every precaution; see the module's docstring."""
    before, capacity = traffic.standing(ctx, shares), traffic.capacity(ctx)
    _all_there(traffic, before)
    goal = traffic.settled(shares, before)
    rising = traffic_state.rising(shares, before)
    if not force:
        _refuse_overload(traffic, shares, rising, capacity)
        _refuse_unable(ctx, traffic, shares, rising)
    tried: list[Layer] = []
    changed = False
    try:
        for layer in traffic.weighted:
            tried.append(layer)  # a write that failed may have happened all the same
            changed |= _write(ctx, layer, goal[layer.name])
        capacity = traffic.capacity(ctx)
        if not force:
            _refuse_overload(traffic, shares, rising, capacity)
        if traffic.service and before["service"] != goal["service"]:
            tried.append(traffic.service)
            changed |= _write(ctx, traffic.service, goal["service"])
            if not force:
                chosen = traffic_state.selected(goal["service"])
                await_endpoints(ctx, traffic, chosen or "")
    except ActionError as error:
        raise _brought_back(ctx, traffic, tried, before, error) from error
    after = traffic.read(ctx)
    _must_agree(traffic, goal, after)
    outcome = traffic_telling.result(traffic, shares, before, after, capacity, "shifted to")
    return traffic_telling.counted(outcome, changed)


# -- the rule -----------------------------------------------------------------------------------
def _refuse_overload(
    traffic: Traffic, shares: Shares, rising: list[str], capacity: dict[str, Capacity]
) -> None:
    if short := traffic_state.overload(traffic, shares, rising, capacity):
        raise Refused(
            f"traffic is not shifted: {'; '.join(short)}",
            hint=f"scale it first ({traffic.setup.full_load} ready pods carry all traffic), then "
            "shift again",
            data={"capacity": {version: one.data for version, one in capacity.items()}},
        )


def _refuse_unable(ctx: Context, traffic: Traffic, shares: Shares, rising: list[str]) -> None:
    lines = [line for layer in traffic.layers for line in layer.refusals(ctx, shares, rising)]
    if lines:
        raise Refused(
            f"traffic is not shifted: {'; '.join(lines)}",
            hint="put the servers back with `haproxy.ready`, or find out why they are down",
        )


def _all_there(traffic: Traffic, before: dict[str, Shares | None]) -> None:
    if absent := [layer.title for layer in traffic.layers if before[layer.name] is None]:
        raise Failed(
            f"{', '.join(absent)} is not there: traffic cannot be shifted",
            hint="apply its manifest first, or correct `traffic` in the inventory",
        )


# -- carrying out -------------------------------------------------------------------------------
def _write(ctx: Context, layer: Layer, goal: Shares) -> bool:
    changed = layer.write(ctx, goal)
    if changed:
        ctx.progress(f"{layer.title}: {spell(goal)}")
    return changed


def _brought_back(
    ctx: Context,
    traffic: Traffic,
    tried: list[Layer],
    before: dict[str, Shares | None],
    error: ActionError,
) -> ActionError:
    """`error`, told with where each layer stands after putting those that were tried back."""
    if isinstance(error, Cancelled):
        return error  # whoever cancelled decides what comes next; nothing more is sent
    stuck: list[str] = []
    for layer in reversed(tried):
        shares = before[layer.name]
        assert shares is not None
        try:
            layer.write(ctx, shares)
            ctx.progress(f"{layer.title}: back to {spell(shares)}")
        except ActionError as worse:
            stuck.append(f"{layer.title} could not be put back: {worse.message}")
    if stuck:
        ending = "; ".join(stuck)
        error.hint = "look with `traffic.read`, then shift again or roll back"
    elif tried:
        ending = "everything was put back as it was"
    else:
        ending = "nothing was changed"
    error.message = f"{error.message}; {ending}"
    error.args = (error.message,)
    error.data.update({"before": before, "layers": _where(ctx, traffic), "brought_back": not stuck})
    return error


def _where(ctx: Context, traffic: Traffic) -> dict[str, Any]:
    """Where each layer stands, or why that cannot be told."""
    standing: dict[str, Any] = {}
    for layer in traffic.layers:
        try:
            standing[layer.name] = layer.read(ctx)
        except ActionError as error:
            standing[layer.name] = error.message
    return standing


def _must_agree(traffic: Traffic, goal: dict[str, Shares], after: dict[str, Shares | None]) -> None:
    wrong = [
        f"{layer.title}: {spell(now) if now else 'not there'}, not {spell(goal[layer.name])}"
        for layer in traffic.layers
        if (now := after[layer.name]) != goal[layer.name]
    ]
    if wrong:
        raise Failed(
            f"the shift did not hold: {'; '.join(wrong)}",
            hint="somebody else sets the same weights; look with `traffic.read`",
            data={"layers": after},
        )
