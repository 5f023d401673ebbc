"""Istio's layer: the weights of a VirtualService's routes."""

from __future__ import annotations

import json

from engine.module_api import Context, Failed, Refused
from modules._kube import errors as kube_errors
from modules._kube.api import Object
from modules._traffic.layers import Reach, kind, kubectl
from modules._traffic.routes import NOTE, Routes
from modules._traffic.setup import Setup, Shares, text

_AGAIN = 5
"""Times that a VirtualService is read anew when somebody else writes it between."""


class Istio:
    """A VirtualService whose routes lead to the versions; see `routes`."""

    name = "istio"

    def __init__(self, setup: Setup, reach: Reach) -> None:
        self.title = f"VirtualService {setup.virtual_service}"
        self._setup = setup
        self._reach = reach
        self._kind = kind("VirtualService")

    def read(self, ctx: Context) -> Shares | None:
        """The shares of the shared routes.

        Raises Failed when they differ among themselves, Refused when others lead to the versions.
        """
        item = self._reach().find(
            ctx, self._kind, self._setup.namespace, self._setup.virtual_service
        )
        if item is None:
            return None
        routes = self._routes(item)
        shares = routes.shares()
        self._refuse_unclear(ctx, routes)
        if any(row != shares[0][1] for _, row in shares):
            raise Failed(
                f"the routes of {self.title} have different weights",
                hint="set them alike by hand, or roll back: that sets all of them",
                evidence=[f"{place}: {text(row)}" for place, row in shares],
            )
        return shares[0][1]

    def standing(self, ctx: Context, goal: Shares) -> Shares | None:
        """The shares: all routes are written at once, so none is ever cut off."""
        return self.read(ctx)

    def write(self, ctx: Context, shares: Shares) -> bool:
        """Set the weights, on the newest version of the object."""
        return self.replaced(ctx, shares)[1]

    def replaced(self, ctx: Context, shares: Shares) -> tuple[Shares | None, bool]:
        """Set the weights with one read and one write; before is None where routes differed."""
        for _ in range(_AGAIN):
            item = self._get(ctx)
            routes = self._routes(item)
            rows = [row for _, row in routes.shares()]
            before = rows[0] if all(row == rows[0] for row in rows) else None
            try:
                changed = self._patch(ctx, item, shares)
            except kube_errors.Modified as error:
                ctx.log(f"{self.title} was changed meanwhile, once more: {error.message}")
                ctx.checkpoint()
                continue
            self._refuse_unclear(ctx, routes)
            return before, changed
        raise Failed(
            f"{self.title} is changed all the time by somebody else",
            hint="stop what else manages its weights (a rollout controller?)",
        )

    def pending(self, ctx: Context, shares: Shares) -> bool:
        """Whether the routes would change, those of people who opted in among them."""
        return bool(self._routes(self._get(ctx)).moved(shares)[0])

    def refusals(self, ctx: Context, shares: Shares, rising: list[str]) -> list[str]:
        """Istio itself does not tell whether a subset serves; pods do."""
        return []

    def by_hand(self, shares: Shares) -> str:
        """An editor: there is no command that sets weights and leaves the rest alone."""
        weights = {self._setup.subsets[version]: share for version, share in shares.items()}
        goal = ", ".join(f"{subset} {weight}" for subset, weight in weights.items())
        words = ("edit", "virtualservice", self._setup.virtual_service)
        return f"{kubectl(self._setup.namespace, *words)}  # weights: {goal}"

    def _routes(self, item: Object) -> Routes:
        return Routes(self._setup, self.title, item)

    def _get(self, ctx: Context) -> Object:
        return self._reach().get(
            ctx, self._kind, self._setup.namespace, self._setup.virtual_service
        )

    def _patch(self, ctx: Context, item: Object, shares: Shares) -> bool:
        sections, aside = self._routes(item).moved(shares)
        if not sections:
            return False
        patch = {
            "metadata": {
                "resourceVersion": item["metadata"]["resourceVersion"],
                "annotations": {NOTE: json.dumps(aside) if aside else None},
            },
            "spec": sections,
        }
        after = self._reach().patch(
            ctx, self._kind, self._setup.namespace, self._setup.virtual_service, patch
        )
        if self._routes(after).moved(shares)[0]:
            raise Failed(
                f"{self.title} took the change but did not keep it",
                hint="does an admission webhook or a controller write its routes?",
            )
        return True

    def _refuse_unclear(self, ctx: Context, routes: Routes) -> None:
        """Refused where traffic reaches the versions past the weights."""
        lines = routes.unclear()
        for place, namespace, name in routes.delegates():
            other = self._reach().find(ctx, self._kind, namespace, name)
            if other is not None and self._routes(other).concern():
                lines.append(
                    f"{place} of {self.title} delegates to VirtualService {name}, which leads to "
                    "the versions, too"
                )
        if lines:
            raise Refused(
                "; ".join(lines),
                hint="ce-run shifts what its weights decide about; take this out, or give it "
                "weights between the subsets of `traffic.subsets`",
            )
