"""Whom a Service leads to: its endpoints follow its selector, a moment later.

They are read from EndpointSlices; v1 Endpoints are deprecated since Kubernetes 1.33.
"""

from __future__ import annotations

from collections.abc import Iterable

from engine.module_api import Context, Failed
from modules._kube import api as kube_api
from modules._kube.watch import Selection, View
from modules._traffic.layers import kind
from modules._traffic.state import Traffic

_SERVICE_NAME = "kubernetes.io/service-name"
SERVES_WITHIN = 10.0
"""Seconds in which a Service's endpoints follow its selector; it takes a fraction of one. Half
of a step's remaining time at most, so that the other half is left for putting things back."""


def await_endpoints(ctx: Context, traffic: Traffic, version: str) -> None:
    """Wait until the Service leads to ready pods of `version` alone."""
    labels = {**traffic.setup.selector, traffic.setup.label: version}
    selector = ",".join(f"{key}={value}" for key, value in labels.items())
    sources = {
        "slices": Selection(
            kind("EndpointSlice"),
            traffic.setup.namespace,
            labels=f"{_SERVICE_NAME}={traffic.setup.service}",
        ),
        "pods": Selection(kind("Pod"), traffic.setup.namespace, labels=selector),
    }
    whole = ctx.remaining()
    patience = SERVES_WITHIN if whole is None else min(SERVES_WITHIN, whole / 2)
    give_up = ctx.monotonic() + patience
    with View.of(ctx, traffic.reach(), sources) as view:
        while True:
            ours = {pod["metadata"]["name"] for pod in view.items("pods")}
            serving = list(_serving(view.items("slices")))
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


def _serving(slices: Iterable[kube_api.Object]) -> Iterable[str]:
    """Names of the pods that a Service leads to; an endpoint with no word of itself is ready."""
    for each in slices:
        for endpoint in each.get("endpoints") or []:
            if (endpoint.get("conditions") or {}).get("ready") is not False:
                addresses = endpoint.get("addresses") or ["?"]
                yield (endpoint.get("targetRef") or {}).get("name") or addresses[0]
