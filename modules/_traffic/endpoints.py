"""Whom a Service leads to: its endpoints follow its selector, a moment later."""

from __future__ import annotations

from collections.abc import Iterable

from engine.module_api import Context, Failed
from modules._kube import api as kube_api
from modules._kube.watch import Selection, View
from modules._traffic.layers import kind
from modules._traffic.state import Traffic

SERVES_WITHIN = 10.0
"""Seconds in which a Service's endpoints follow its selector; it takes a fraction of one. Half
of a step's remaining time at most, so that the other half is left for putting things back."""


def await_endpoints(ctx: Context, traffic: Traffic, version: str) -> None:
    """Wait until the Service leads to ready pods of `version` alone."""
    labels = {**traffic.setup.selector, traffic.setup.label: version}
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    sources = {
        "endpoints": Selection(kind("Endpoints"), traffic.setup.namespace, traffic.setup.service),
        "pods": Selection(kind("Pod"), traffic.setup.namespace, labels=selector),
    }
    whole = ctx.remaining()
    patience = SERVES_WITHIN if whole is None else min(SERVES_WITHIN, whole / 2)
    give_up = ctx.monotonic() + patience
    with View.of(ctx, traffic.reach(), sources) as view:
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
