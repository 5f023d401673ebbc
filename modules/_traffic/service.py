"""A Service's layer: its selector names the one version that it leads to; all or nothing."""

from __future__ import annotations

import json

from engine.module_api import Context, Failed
from modules._kube.api import Object
from modules._traffic.layers import Reach, kind, kubectl
from modules._traffic.setup import Setup, Shares


class Service:
    """A Service whose selector names a version: the blue/green switch."""

    name = "service"

    def __init__(self, setup: Setup, reach: Reach) -> None:
        self.title = f"Service {setup.service}"
        self._setup = setup
        self._reach = reach
        self._kind = kind("Service")

    def read(self, ctx: Context) -> Shares | None:
        """All to the version that the selector names; None if it is not there."""
        item = self._reach().find(ctx, self._kind, self._setup.namespace, self._setup.service)
        if item is None:
            return None
        version = str((item["spec"].get("selector") or {}).get(self._setup.label, ""))
        return {one: 100 if one == version else 0 for one in self._setup.versions}

    def standing(self, ctx: Context, goal: Shares) -> Shares | None:
        """The shares: a selector is never half-written."""
        return self.read(ctx)

    def write(self, ctx: Context, shares: Shares) -> bool:
        """Switch the selector to the version that has all; sent in any case."""
        chosen = [version for version, share in shares.items() if share == 100]
        if not chosen:
            raise Failed(f"the selector of {self.title} named none of the versions before")
        self.switch(ctx, chosen[0])
        return True

    def switch(self, ctx: Context, version: str) -> Object:
        """Switch the selector without looking first; the Service as it is then."""
        selector = {**self._setup.selector, self._setup.label: version}
        return self._reach().patch(
            ctx,
            self._kind,
            self._setup.namespace,
            self._setup.service,
            {"spec": {"selector": selector}},
            form="strategic",
        )

    def refusals(self, ctx: Context, shares: Shares, rising: list[str]) -> list[str]:
        """A Service does not tell; pods do."""
        return []

    def by_hand(self, shares: Shares) -> str:
        """A patch of the selector."""
        chosen = max(shares, key=lambda version: shares[version])
        selector = {**self._setup.selector, self._setup.label: chosen}
        patch = json.dumps({"spec": {"selector": selector}})
        return kubectl(self._setup.namespace, "patch", "service", self._setup.service, "-p", patch)
