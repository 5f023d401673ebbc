"""Where a step of many hosts works: on the hosts, or here, once for each of them.

Who comes from Ansible expects a command below `hosts` to run on the hosts. One that runs here is
refused there until the runbook says which of the two it means: ``on: controller`` or ``on: hosts``,
on the step or on a group around it.
"""

from __future__ import annotations

from collections.abc import Iterator

from engine.loader.book import Book
from engine.loader.fields import Fields
from engine.loader.source import Map
from engine.loader.tree import StepNode
from engine.registry import ActionInfo
from engine.text import did_you_mean

PLACES = ("controller", "hosts")
"""What `on` may say."""


def read_on(fields: Fields, node: StepNode) -> None:
    """``on``, noted in the node before what stands inside the step is read."""
    if "on" not in fields.map:
        return
    value = fields.text("on")
    if value is not None and value not in PLACES:
        hint = did_you_mean(value, PLACES, what="it can be")
        fields.problem(fields.map.value_at("on"), f"`on` cannot be '{value}'", hint)
    elif value is not None:
        node.on = value


def placed(book: Book, map: Map, key: str, info: ActionInfo, node: StepNode) -> ActionInfo:
    """The action that a step means: the one that was written, or the one that does the same on the
    step's host."""
    on = next(_said(node), "")
    fans = any(each.hosts for each in node.around())
    if on == "hosts" and info.remote:
        found = book.session.registry.action(info.remote)
        if not fans:
            book.needs_host.append((info.name, map.key_at(key)))
        return found or info
    if "on" in map and on == "hosts":
        said = f"{info.name} cannot work on the hosts"
        hint = "on a host itself work `ssh.run`, `ssh.copy` and `shell` with `on: hosts`"
        book.problem(map.value_at("on"), said, hint)
    elif info.local and not on:
        if fans:
            said = f"{info.name} runs on this machine, once for each host, and not on the hosts"
            book.problem(map.key_at(key), said, _ways(info))
        else:
            book.local.append(info)
    return info


def _said(node: StepNode) -> Iterator[str]:
    """What `on` says for a step: its own word, then those of the groups around it."""
    return (each.on for each in node.around() if each.on)


def _ways(info: ActionInfo) -> str:
    here = "say `on: controller` if that is meant"
    return "say `on: hosts` for the hosts, or `on: controller` for here" if info.remote else here


def check_included(book: Book, inner: Book, fields: Fields, node: StepNode) -> None:
    """The same for the steps of an included runbook, which stand inside the including step."""
    on = next(_said(node), "")
    at = fields.map.key_at("runbook")
    if not any(each.hosts for each in node.around()):
        book.needs_host += [(name, at) for name, _ in inner.needs_host]
        book.local += [] if on else inner.local
    elif inner.local and not on:
        names = ", ".join(dict.fromkeys(info.name for info in inner.local))
        said = f"{names} in this runbook runs on this machine, once for each host"
        hint = "say `on: controller` here if that is meant, or `on: hosts` on those steps"
        book.problem(at, said, hint)


def check_hosts(book: Book) -> None:
    """Problems of the whole: what is to run on hosts, where there are none."""
    for name, at in book.needs_host:
        said = f"{name} is to run on the hosts, but the step has no `hosts`"
        book.problem(at, said, "give it `hosts:`")
