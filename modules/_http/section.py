"""The inventory's sections ``http`` and ``http-check``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from engine.module_api import Context
from modules._http.tls import Tls
from modules._shared import settings


class Section(msgspec.Struct, kw_only=True):
    """What either may hold."""

    verify: bool = True
    ca: str = ""
    headers: dict[str, Any] = {}

    def tls(self, name: str) -> Tls:
        """How certificates are checked; `name` is the section's."""
        return Tls(self.verify, self.ca, name)

    def with_headers(self, more: Mapping[str, Any] | None) -> dict[str, str]:
        """The headers of a request, those of the step before those of the section."""
        return {name: str(value) for name, value in {**self.headers, **(more or {})}.items()}


def read(ctx: Context, name: str) -> Section:
    """The section of that name; Refused for a setting that is not known."""
    return settings.read(ctx.connection(name), Section, name)
