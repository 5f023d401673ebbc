"""Moving traffic between two versions: the order of things, and what happens when one fails.

The rule: no version is given a share above its ready capacity, none is taken out before its
successor serves, and all layers agree in the end. A shift forward therefore looks first, moves
the weights, looks again, and switches the Service last; if a layer fails, the others go back to
where they were. A rollback (everything to the stable version) is another matter: every second
counts and going back is what it is about. It asks one thing, whether the stable version has a
ready pod, then moves every layer that it can reach and reports the others. It may load the
stable version above its ready capacity: fewer pods of a good version beat all pods of a bad one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

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
from modules._kube import api as kube_api
from modules._kube.kinds import known
from modules._kube.watch import Selection, View
from modules._traffic import state as traffic_state
from modules._traffic import telling as traffic_telling
from modules._traffic.layers import Layer, Service, Weighted
from modules._traffic.setup import Shares
from modules._traffic.state import Capacity, Traffic

_SERVES_WITHIN = 10.0
"""Seconds in which a Service's endpoints follow its selector; it takes a fraction of one. Half
of a step's remaining time at most, so that the other half is left for putting things back."""


def shift(ctx: Context, traffic: Traffic, shares: Shares, force: bool) -> Result:
    """Move traffic with every precaution; see the module's docstring."""
    before, capacity = traffic.standing(ctx, shares), traffic.capacity(ctx)
    _all_there(traffic, before)
    wanted = traffic.settled(shares, before)
    rising = traffic_state.rising(shares, before)
    if not force:
        _refuse_overload(traffic, shares, rising, capacity)
        _refuse_unable(ctx, traffic, shares, rising)
    tried: list[Layer] = []
    changed = False
    try:
        for layer in traffic.weighted:
            tried.append(layer)  # a write that failed may have happened all the same
            changed |= _write(ctx, layer, wanted[layer.name])
        capacity = traffic.capacity(ctx)
        if not force:
            _refuse_overload(traffic, shares, rising, capacity)
        if traffic.service and before["service"] != wanted["service"]:
            tried.append(traffic.service)
            changed |= _write(ctx, traffic.service, wanted["service"])
            if not force:
                chosen = traffic_state.selected(wanted["service"])
                _await_endpoints(ctx, traffic, chosen or "")
    except ActionError as error:
        raise _brought_back(ctx, traffic, tried, before, error) from error
    after = traffic.read(ctx)
    _must_agree(traffic, wanted, after)
    told = traffic_telling.result(traffic, shares, before, after, capacity, "shifted to")
    return traffic_telling.counted(told, changed)


def roll_back(ctx: Context, traffic: Traffic, force: bool) -> Result:
    """Everything to the stable version, at once; see the module's docstring."""
    stable = traffic.setup.stable
    shares = traffic.shares(stable, 100)
    capacity = _stable_capacity(ctx, traffic, force)
    before: dict[str, Shares | None] = {}
    errors: list[tuple[str, ActionError]] = []
    if traffic.service:
        title = traffic.service.title
        with _noting(title, errors):
            before["service"] = _switched(ctx, traffic, traffic.service, shares)
            ctx.progress(f"{title}: selects {stable}")
    changed = False
    weighted: list[Weighted] = [*(traffic.haproxy.parts() if traffic.haproxy else [])]
    weighted += [traffic.istio] if traffic.istio else []
    for layer in weighted:
        with _noting(layer.title, errors):
            if not force and (lines := layer.refusals(ctx, shares, [stable])):
                raise Refused("; ".join(lines), hint="put the servers back with `haproxy.ready`")
            was, moved = layer.replaced(ctx, shares)
            before.setdefault(layer.name, was)
            changed |= moved
            ctx.progress(f"{layer.title}: all traffic to {stable}")
    if errors:
        raise _not_everywhere(traffic, shares, errors)
    if traffic.service and not force:
        _await_endpoints(ctx, traffic, stable)
    after: dict[str, Shares | None] = {layer.name: shares for layer in traffic.layers}
    told = traffic_telling.result(traffic, shares, before, after, capacity, "rolled back to")
    return traffic_telling.counted(told, changed)


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


def _stable_capacity(ctx: Context, traffic: Traffic, force: bool) -> dict[str, Capacity]:
    """The only question of a rollback: is anybody there to serve?"""
    stable = traffic.setup.stable
    try:
        capacity = traffic.capacity(ctx)
    except Unreachable as error:
        if force:
            ctx.log(f"the pods of {stable} cannot be counted: {error.message}")
            return {}
        error.hint = f"{error.hint}; `force: true` moves the layers that can be reached"
        raise
    if not capacity[stable].ready and not force:
        raise Refused(
            f"no pod of {stable} is ready: all traffic to it would fail",
            hint=f"scale {stable} up first; `force: true` shifts all the same",
            data={"capacity": {version: one.data for version, one in capacity.items()}},
        )
    return capacity


def _all_there(traffic: Traffic, before: dict[str, Shares | None]) -> None:
    if absent := [layer.title for layer in traffic.layers if before[layer.name] is None]:
        raise Failed(
            f"{', '.join(absent)} is not there: traffic cannot be shifted",
            hint="apply its manifest first, or correct `traffic` in the inventory",
        )


# -- carrying out -------------------------------------------------------------------------------
def _write(ctx: Context, layer: Layer, wanted: Shares) -> bool:
    changed = layer.write(ctx, wanted)
    if changed:
        ctx.progress(f"{layer.title}: {traffic_state.text(wanted)}")
    return changed


@contextlib.contextmanager
def _noting(title: str, errors: list[tuple[str, ActionError]]) -> Iterator[None]:
    """Note what goes wrong with one layer and go on with the next; only a stop is a stop."""
    try:
        yield
    except Cancelled:
        raise
    except ActionError as error:
        errors.append((title, error))


def _switched(ctx: Context, traffic: Traffic, service: Service, shares: Shares) -> Shares | None:
    """Switch the Service without looking at it first: its shares before, None for not known.

    A patch that changes nothing leaves the object's version as it was, so it is then not newer
    than the list of pods from a moment ago. Where versions cannot be compared, it is not known.
    """
    version = service.switch(ctx, traffic.setup.stable)["metadata"].get("resourceVersion", "")
    comparable = version.isdigit() and traffic.seen.isdigit()
    return shares if comparable and int(version) <= int(traffic.seen) else None


def _await_endpoints(ctx: Context, traffic: Traffic, version: str) -> None:
    """Wait until the Service leads to ready pods of `version` alone."""
    kind = known("Endpoints")
    pods = known("Pod")
    assert kind is not None
    assert pods is not None
    labels = {**traffic.setup.selector, traffic.setup.label: version}
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    sources = {
        "endpoints": Selection(kind, traffic.setup.namespace, traffic.setup.service),
        "pods": Selection(pods, traffic.setup.namespace, labels=selector),
    }
    whole = ctx.remaining()
    patience = _SERVES_WITHIN if whole is None else min(_SERVES_WITHIN, whole / 2)
    give_up = ctx.monotonic() + patience
    with View.of(ctx, traffic.cluster, sources) as view:
        while True:
            ours = {pod["metadata"]["name"] for pod in view.items("pods")}
            serving = list(_addresses(view.one("endpoints")))
            if serving and all(name in ours for name in serving):
                return
            left = give_up - ctx.monotonic()
            if left <= 0:
                raise Failed(
                    f"Service {traffic.setup.service} selects {version}, but leads to "
                    f"{', '.join(serving) or 'no ready pod'}",
                    hint="are the version's pods ready, and are they labelled as the selector "
                    "says? Is the endpoints controller at work?",
                )
            view.wait(at_most=left)


def _addresses(endpoints: kube_api.Object | None) -> Iterable[str]:
    """Names of the pods that a Service leads to."""
    for subset in (endpoints or {}).get("subsets") or []:
        for address in subset.get("addresses") or []:
            yield (address.get("targetRef") or {}).get("name") or address.get("ip", "?")


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
            ctx.progress(f"{layer.title}: back to {traffic_state.text(shares)}")
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


def _not_everywhere(
    traffic: Traffic, shares: Shares, errors: Sequence[tuple[str, ActionError]]
) -> ActionError:
    """A rollback that could not move every layer; those that it could stay rolled back."""
    titles = [title for title, _ in errors]
    moved = [layer.title for layer in traffic.layers if layer.title not in titles]
    lines = [f"{title}: {error.message}" for title, error in errors]
    lines += [line for _, error in errors for line in error.evidence]
    kinds = {type(error) for _, error in errors}
    kind = kinds.pop() if kinds in ({Unreachable}, {TimedOut}, {Refused}) else Failed
    return kind(
        f"not all traffic is back on {traffic.setup.stable}: {', '.join(titles)} could not be "
        f"moved" + (f"; {', '.join(moved)} is back" if moved else ""),
        hint="repair what is named below and shift again; what is back stays back",
        evidence=lines,
        data={"shares": shares, "moved": moved, "not_moved": titles},
    )


def _must_agree(
    traffic: Traffic, wanted: dict[str, Shares], after: dict[str, Shares | None]
) -> None:
    wrong = [
        f"{layer.title}: {traffic_state.text(now) if now else 'not there'}, "
        f"not {traffic_state.text(wanted[layer.name])}"
        for layer in traffic.layers
        if (now := after[layer.name]) != wanted[layer.name]
    ]
    if wrong:
        raise Failed(
            f"the shift did not hold: {'; '.join(wrong)}",
            hint="somebody else sets the same weights; look with `traffic.read`",
            data={"layers": after},
        )
