"""Waiting until objects are as they should be: conditions, JSON paths, existence, deletion.

The words are kubectl's: ``delete``, ``create``, ``condition=Ready``, ``condition=Ready=False``,
``jsonpath={.status.phase}=Running``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from engine.module_api import Context, Failed, Refused, TimedOut
from modules._kube import pods as kube_pods
from modules._kube.api import Cluster, Object
from modules._kube.errors import NotFound
from modules._kube.watch import Selection, View

_STEP = r"""\.(?P<name>(?:\\.|[^.\[\]\\{}])+)      # .name, with \. for a dot in it
      | \[(?P<index>-?\d+)\]                   # [0]
      | \[(?P<all>\*)\]                        # [*]
      | \[(?P<quote>['"])(?P<key>.*?)(?P=quote)\]
      | \[\?\(\s*@(?P<path>[^=!<>]+?)\s*==\s*(?P<mark>['"])(?P<value>.*?)(?P=mark)\s*\)\]
    """


class Wanted(NamedTuple):
    """What is waited for."""

    text: str
    """As it was written."""
    holds: Callable[[Object], bool] | None
    """None for ``delete`` and ``create``, which are about being there."""


def parse(text: str) -> Wanted:
    """Read what a step waits `for`; Refused when it makes no sense."""
    word, equals, rest = text.strip().partition("=")
    if word in ("delete", "create") and not equals:
        return Wanted(word, None)
    if word == "condition" and rest:
        name, _, status = rest.partition("=")
        return Wanted(text, lambda item: _condition(item, name) == (status or "True").lower())
    if word == "jsonpath" and rest:
        path, value = _split(rest)
        steps = path_steps(path)
        return Wanted(text, lambda item: _matches(list(walk(item, steps)), value))
    raise Refused(
        f"`for: {text}` cannot be waited for",
        hint="write `delete`, `create`, `condition=Ready`, `condition=Ready=False` or "
        "`jsonpath={.status.phase}=Running`",
    )


def until(
    ctx: Context,
    cluster: Cluster,
    selection: Selection,
    wanted: Wanted,
    uids: dict[str, str] | None = None,
) -> list[Object]:
    """Wait until every selected object is as wanted; the objects as they are then.

    Deletion is over when no object is left, or, with `uids` (name → uid), none of those: what
    was made anew under an old name does not count. Raises NotFound when there is nothing to wait
    for, Failed when a pod cannot get ready, TimedOut with what is missing.
    """
    kind = selection.kind
    told = ""
    with View(ctx, cluster, {"objects": selection}) as view:
        while True:
            items = view.items("objects")
            left = _left(items, wanted, uids)
            if not left and (items or wanted.text == "delete"):
                return items
            if not items and wanted.text != "create":
                raise NotFound(
                    f"no {kind.kind} matches {_named(selection)}: there is nothing to wait for",
                    hint="`for: create` waits until it is there",
                )
            _not_in_vain(ctx, cluster, kind.kind, wanted, left)
            done = len(items) - len(left)
            text = f"{done} of {len(items)} {kind.plural}: {wanted.text}"
            if text != told:
                told = text
                ctx.progress(text)
            try:
                view.wait()
            except TimedOut as error:
                raise TimedOut(
                    f"{', '.join(_names(left)) or _named(selection)}: {_missed(wanted, left)}",
                    hint=error.hint,
                    evidence=kube_pods.states(left) if kind.kind == "Pod" else [],
                    data={"left": _names(left)},
                ) from error


def _missed(wanted: Wanted, left: list[Object]) -> str:
    """What did not come true in time, and what may have held it back."""
    if wanted.holds is not None:
        return f"not {wanted.text} in time"
    holders = {name for item in left for name in item["metadata"].get("finalizers") or ()}
    held = f", held back by {', '.join(sorted(holders))}" if holders else ""
    return f"not {wanted.text}d in time{held}"


def _left(items: list[Object], wanted: Wanted, uids: dict[str, str] | None) -> list[Object]:
    if wanted.text == "create":
        return []
    if wanted.holds is not None:
        return [item for item in items if not wanted.holds(item)]
    if uids is None:
        return items
    return [one for one in items if one["metadata"]["uid"] == uids.get(one["metadata"]["name"])]


def _not_in_vain(
    ctx: Context, cluster: Cluster, kind: str, wanted: Wanted, left: list[Object]
) -> None:
    """Pods that will not get ready fail the wait at once."""
    if kind != "Pod" or not wanted.text.startswith("condition=Ready") or "=False" in wanted.text:
        return
    for pod in left:
        found = kube_pods.trouble(pod) or kube_pods.over(pod)
        if found and not found.patient:
            raise Failed(
                f"waiting is in vain: {found.text}",
                hint=found.hint,
                evidence=kube_pods.evidence(ctx, cluster, pod),
                data={"pods": [kube_pods.summary(pod)]},
            )


def path_steps(path: str) -> list[re.Match[str]]:
    """The steps of a JSON path such as ``{.status.conditions[?(@.type=="Ready")].status}``."""
    text = path.strip()
    if text.startswith("{") and text.endswith("}"):
        text = text[1:-1].strip()
    text = text.removeprefix("$")
    if text and text[0] not in ".[":
        text = f".{text}"
    pattern = re.compile(_STEP, re.VERBOSE)  # cached by re
    steps, place = [], 0
    while place < len(text):
        step = pattern.match(text, place)
        if step is None:
            raise Refused(f"the JSON path {path!r} cannot be read at {text[place:]!r}")
        steps.append(step)
        place = step.end()
    return steps


def walk(value: Any, steps: list[re.Match[str]]) -> Iterator[Any]:
    """All values that a path leads to."""
    if not steps:
        yield value
        return
    for found in _one_step(value, steps[0]):
        yield from walk(found, steps[1:])


def _one_step(value: Any, step: re.Match[str]) -> Iterator[Any]:
    name = step["name"].replace("\\.", ".") if step["name"] else step["key"]
    if name is not None:
        if isinstance(value, dict) and name in value:
            yield value[name]
    elif step["all"]:
        yield from value.values() if isinstance(value, dict) else value or []
    elif step["index"] is not None:
        if isinstance(value, list) and -len(value) <= int(step["index"]) < len(value):
            yield value[int(step["index"])]
    elif isinstance(value, list):
        inner = path_steps(step["path"])
        yield from (one for one in value if _matches(list(walk(one, inner)), step["value"]))


def _matches(found: list[Any], value: str | None) -> bool:
    if value is None:
        return bool(found)
    return any(_text(one) == value for one in found)


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _split(text: str) -> tuple[str, str | None]:
    """``{.a}=b`` → ``{.a}`` and ``b``; without a value, being there is enough."""
    if text.startswith("{") and "}" in text:
        end = text.rindex("}") + 1
        rest = text[end:]
        return text[:end], rest[1:].strip("'\"") if rest.startswith("=") else None
    path, equals, value = text.partition("=")
    return path, value.strip("'\"") if equals else None


def _condition(item: Object, name: str) -> str:
    for condition in (item.get("status") or {}).get("conditions") or []:
        if str(condition.get("type", "")).lower() == name.lower():
            return str(condition.get("status", "")).lower()
    return ""


def _names(items: list[Object]) -> list[str]:
    return [item["metadata"]["name"] for item in items]


def _named(selection: Selection) -> str:
    said = selection.name or selection.labels or selection.fields
    return f"{said!r} in {selection.namespace}" if selection.namespace else repr(said)
