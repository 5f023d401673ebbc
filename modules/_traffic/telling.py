"""What `traffic` tells: what a shift did or would do, and the state of all layers."""

from __future__ import annotations

from engine.module_api import ActionError, Cancelled, Context, Result, TimedOut, Unreachable
from modules._kube import diff as kube_diff
from modules._traffic import state as traffic_state
from modules._traffic.layers import Layer
from modules._traffic.setup import Shares
from modules._traffic.setup import text as spell
from modules._traffic.state import Capacity, Traffic


def check(ctx: Context, traffic: Traffic, shares: Shares) -> Result:
    """What a shift would change, and whether it would be refused as things are now."""
    before, capacity = traffic.standing(ctx, shares), traffic.capacity(ctx)
    after: dict[str, Shares | None] = {**traffic.settled(shares, before)}
    outcome = result(traffic, shares, before, after, capacity, "would shift to")
    short = traffic_state.overload(traffic, shares, traffic_state.rising(shares, before), capacity)
    if traffic.istio and before["istio"] is not None:
        counted(outcome, traffic.istio.pending(ctx, shares))
    if short:
        outcome.message += f"; refused as things are now: {'; '.join(short)}"
    return outcome


def report(ctx: Context, traffic: Traffic, partial: bool) -> Result:
    """The layers as they are, whether they agree, and what the versions can carry.

    Where something cannot be reached, that is an error, or with `partial` part of what is told.
    """
    layers: dict[str, Shares | None] = {}
    lines: list[str] = []
    differences: list[str] = []
    for layer in traffic.layers:
        now, problems = _look(ctx, layer, partial)
        layers[layer.name] = now
        differences += problems
        lines.append(standing(layer, now, problems[0] if problems else ""))
    shares = next((layers[one.name] for one in traffic.weighted if layers[one.name]), None)
    shares = shares or layers.get("service")
    if shares is not None:
        differences += _differences(traffic, shares, layers)
    capacity = _capacity(ctx, traffic, partial, differences)
    short = (
        traffic_state.overload(traffic, shares, list(shares), capacity)
        if shares and capacity
        else []
    )
    words = spell(shares) if shares else "unknown"
    agree = not differences
    return Result(
        data={
            "shares": shares,
            "layers": layers,
            "agree": agree,
            "differences": differences,
            "capacity": {version: one.data for version, one in capacity.items()},
            "within_capacity": not short,
            **({"lines": lines} if partial else {}),
        },
        message=f"traffic: {words}" + ("" if agree else "; the layers do not agree"),
        shares=dict(shares or {}),
    )


def _look(ctx: Context, layer: Layer, partial: bool) -> tuple[Shares | None, list[str]]:
    """The shares of a layer, and what is not as it should be."""
    try:
        shares = layer.read(ctx)
        if shares is None:
            return None, [f"{layer.title} is not there"]
        serving = [version for version, share in shares.items() if share]
        return shares, layer.refusals(ctx, shares, serving)
    except ActionError as error:
        if isinstance(error, Cancelled) or (
            isinstance(error, Unreachable | TimedOut) and not partial
        ):
            raise
        ctx.checkpoint()
        return None, [f"{layer.title}: {error.message}", *error.evidence]


def standing(layer: Layer, shares: Shares | None, problem: str) -> str:
    """What a layer says now, in words; `problem` is why that is not known."""
    if shares is not None:
        return f"{layer.title}: {spell(shares)}"
    return f"{layer.title}: not known ({problem.removeprefix(layer.title).lstrip(': ')})"


def _capacity(
    ctx: Context, traffic: Traffic, partial: bool, differences: list[str]
) -> dict[str, Capacity]:
    """What the versions can carry; with `partial` nothing, and why, where nobody can tell."""
    try:
        return traffic.capacity(ctx)
    except ActionError as error:
        if isinstance(error, Cancelled) or not partial:
            raise
        ctx.checkpoint()
        differences.append(f"the pods cannot be counted: {error.message}")
        return {}


def _differences(traffic: Traffic, shares: Shares, layers: dict[str, Shares | None]) -> list[str]:
    lines = []
    for layer in traffic.weighted:
        now = layers[layer.name]
        if now is not None and now != shares:
            lines.append(f"{layer.title}: {spell(now)}, not {spell(shares)}")
    chosen = traffic_state.selected(layers.get("service"))
    if traffic.service and layers.get("service") is not None:
        if chosen is None:
            lines.append(f"{traffic.service.title} selects none of the versions")
        elif not shares[chosen]:
            lines.append(f"{traffic.service.title} selects {chosen}, which has no share")
    return lines


def counted(outcome: Result, changed: bool) -> Result:
    """`outcome`, changed also where no share did: those who opted in were led elsewhere."""
    if changed and not outcome.changed:
        outcome.changed = True
        outcome.message += "; the routes of those who opted in follow"
    return outcome


def result(
    traffic: Traffic,
    shares: Shares,
    before: dict[str, Shares | None],
    after: dict[str, Shares | None],
    capacity: dict[str, Capacity],
    verb: str,
) -> Result:
    """The result of a step, with what it changed as a diff."""
    diff = "".join(
        kube_diff.values(f"traffic/{name}", before.get(name) or {}, now or {})
        for name, now in after.items()
    )
    overloaded = (
        traffic_state.overload(traffic, shares, [one for one in shares if shares[one]], capacity)
        if capacity
        else []
    )
    changed = any(before.get(name) != now for name, now in after.items())
    text = spell(shares)
    message = f"traffic {verb} {text}" if changed else f"traffic is at {text} already"
    if overloaded and verb != "would shift to":
        message += f"; above capacity: {'; '.join(overloaded)}"
    return Result(
        changed=changed,
        data={
            "shares": shares,
            "before": {name: before.get(name) for name in after},
            "layers": after,
            "agree": True,
            "capacity": {version: one.data for version, one in capacity.items()},
            "overloaded": bool(overloaded),
        },
        diff=diff,
        message=message,
        shares=dict(shares),
    )
