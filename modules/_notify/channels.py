"""Channels of the inventory: which receivers a name stands for.

What is wrong with one of them (a secret that is missing, a setting that is not known) is kept with
it, so that it silences no other.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from engine.module_api import ActionError, Context, Refused
from modules._notify import transports
from modules._notify.text import Words
from modules._notify.transports import Transport
from modules._shared import settings

Severity = Literal["critical", "error", "warning", "info"]


class Section(msgspec.Struct, kw_only=True):
    """The inventory's section ``notify``, but for its channels."""

    languages: list[str] = msgspec.field(default_factory=lambda: ["en"])
    templates: str = "files/notices"
    channels: Any = None


class Channel(msgspec.Struct, kw_only=True):
    """What a channel holds beside its transports."""

    languages: list[str] | None = None
    channels: list[str] = []


class Target(msgspec.Struct, frozen=True):
    """One receiver: its channel's name (with the transport, if the channel has several)."""

    name: str
    transport: str
    settings: Transport
    languages: tuple[str, ...]
    broken: Any = None
    """The ActionError that its settings cannot be had by, for example for a missing secret."""

    def __str__(self) -> str:
        return f"{self.name} ({self.transport})"


class Notice(msgspec.Struct, frozen=True):
    """What is sent to one receiver."""

    words: dict[str, Words]
    severity: str
    incident: str
    status: str
    component_status: str
    alert: str = ""

    @property
    def subject(self) -> str:
        """The subject in all languages."""
        return " / ".join(dict.fromkeys(one.subject for one in self.words.values()))

    @property
    def text(self) -> str:
        """The text in all languages."""
        return "\n\n---\n\n".join(dict.fromkeys(one.text for one in self.words.values()))


def section(ctx: Context) -> Section:
    """The section without its channels, which are read one by one; Refused if it is not right."""
    raw = ctx.connection("notify")
    return settings.read({key: raw[key] for key in raw if key != "channels"}, Section, "notify")


def targets(ctx: Context, names: list[str], languages: list[str] | None) -> list[Target]:
    """The receivers behind channels, each once; Refused if the inventory has no such channel."""
    channels = ctx.connection("notify").get("channels") or {}
    unknown = [name for name in names if name not in channels]
    if unknown:
        raise _unknown(unknown[0], channels)
    finder = _Finder(channels, tuple(languages or ()), tuple(section(ctx).languages))
    receivers: dict[str, Target] = {}
    for name in names:
        for target in finder.find(name, (), ()):
            receivers.setdefault(target.name, target)
    for target in receivers.values():
        for key in transports.SECRET:
            if value := getattr(target.settings, key, ""):
                ctx.mask(value)
    return list(receivers.values())


def _unknown(name: str, channels: Mapping[str, Any]) -> Refused:
    return Refused(
        f"the inventory has no channel {name!r}",
        hint=f"it has: {', '.join(channels) or 'none; add `notify: {channels: …}`'}",
    )


class _Finder:
    """Follows channels to their receivers."""

    def __init__(
        self, channels: Mapping[str, Any], asked: tuple[str, ...], usual: tuple[str, ...]
    ) -> None:
        """`asked` are languages of the step, `usual` those of the inventory."""
        self._channels = channels
        self._asked = asked
        self._usual = usual

    def find(self, name: str, path: tuple[str, ...], inherited: tuple[str, ...]) -> list[Target]:
        """The receivers of a channel that is reached through those of `path`."""
        languages = inherited
        try:
            if name not in self._channels:
                raise _unknown(name, self._channels)
            if name in path:
                raise Refused(
                    f"the channel {name!r} fans out to itself: {' → '.join([*path, name])}"
                )
            entry = self._entry(name)
            own = {key: entry.pop(key) for key in ("languages", "channels") if key in entry}
            channel = settings.read(own, Channel, f"notify.channels.{name}")
            languages = tuple(channel.languages or ()) or inherited
        except ActionError as error:
            return [self._broken(name, "unknown", languages, error)]
        receivers = []
        for other in channel.channels:
            receivers += self.find(other, (*path, name), languages)
        for transport, raw in entry.items():
            label = name if len(entry) == 1 else f"{name}/{transport}"
            receivers.append(self._target(label, name, transport, raw, languages))
        if not receivers:
            nowhere = Refused(f"the channel {name!r} leads nowhere")
            return [self._broken(name, "unknown", languages, nowhere)]
        return receivers

    def _entry(self, name: str) -> dict[str, Any]:
        entry = self._channels[name]
        if entry is not None and not isinstance(entry, Mapping):
            raise Refused(f"the channel {name!r} must be a mapping, such as {{console: {{}}}}")
        return dict(entry or {})

    def _target(
        self, label: str, name: str, transport: str, raw: Any, languages: tuple[str, ...]
    ) -> Target:
        try:
            read = transports.read(name, transport, {} if raw is None else raw)
        except ActionError as error:
            return self._broken(label, transport, languages, error)
        return Target(label, transport, read, self._spoken(languages))

    def _broken(
        self, name: str, transport: str, languages: tuple[str, ...], error: ActionError
    ) -> Target:
        return Target(name, transport, Transport(), self._spoken(languages), error)

    def _spoken(self, languages: tuple[str, ...]) -> tuple[str, ...]:
        return self._asked or languages or self._usual
