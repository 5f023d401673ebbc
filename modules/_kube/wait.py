"""Waiting until objects are as they should be: conditions, JSON paths, existence, deletion.

The words are kubectl's: ``delete``, ``create``, ``condition=Ready``, ``condition=Ready=False``,
``jsonpath={.status.phase}=Running``.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from engine.module_api import ActionError, Context, Failed, Refused, Result, TimedOut
from modules._kube import pods as kube_pods
from modules._kube import trouble as kube_trouble
from modules._kube.api import Cluster, Object, Subject
from modules._kube.errors import NotFound
from modules._kube.kinds import known
from modules._kube.watch import Selection, View

_STEP = r"""\.(?P<name>(?:\\.|[^.\[\]\\{}])+)      # .name, with \. for a dot in it
      | \[(?P<index>-?\d+)\]                   # [0]
      | \[(?P<all>\*)\]                        # [*]
      | \[(?P<quote>['"])(?P<key>.*?)(?P=quote)\]
      | \[\?\(\s*@(?P<path>[^=!<>]+?)\s*==\s*(?P<mark>['"])(?P<value>.*?)(?P=mark)\s*\)\]
    """


class Goal(NamedTuple):
    """What is waited for."""

    text: str
    """As it was written."""
    holds: Callable[[Object], bool] | None
    """None for ``delete`` and ``create``, which are about being there."""
    condition: str = ""
    """The condition, in small letters, and the status that it is to have."""
    status: str = ""
    path: str = ""
    """The JSON path."""


def parse(text: str) -> Goal:
    """Read what a step waits `for`; Refused when it makes no sense."""
    word, equals, rest = text.strip().partition("=")
    if word in ("delete", "create") and not equals:
        return Goal(word, None)
    if word == "condition" and rest:
        name, _, status = rest.partition("=")
        status = (status or "True").lower()
        return Goal(text, lambda item: _condition(item, name) == status, name.lower(), status)
    if word == "jsonpath" and rest:
        path, value = _split(rest)
        steps = path_steps(path)
        return Goal(text, lambda item: _matches(list(walk(item, steps)), value), path=path)
    raise Refused(
        f"`for: {text}` cannot be waited for",
        hint="write `delete`, `create`, `condition=Ready`, `condition=Ready=False` or "
        "`jsonpath={.status.phase}=Running`",
    )


def wait(ctx: Context, it: Subject, selector: str, text: str, patience: float) -> Result:
    """Wait for what a step names; under --check only look, it may come of an earlier step."""
    place = it.namespace if it.kind.namespaced else ""
    selection, goal = Selection(it.kind, place, it.name, selector), parse(text)
    if ctx.mode == "check":
        items, _ = it.cluster.list(
            ctx, it.kind, place, labels=selector, fields=selection.field_selector
        )
    else:
        items = until(ctx, it.cluster, selection, goal, patience=patience)
    names = _names(items)
    return Result(
        data={"kind": it.kind.kind, "names": names, "for": text},
        message=f"{', '.join(names) or it.name or selector}: {text}",
    )


def until(
    ctx: Context,
    cluster: Cluster,
    selection: Selection,
    goal: Goal,
    uids: dict[str, str] | None = None,
    patience: float = 0.0,
) -> list[Object]:
    """Wait until every selected object is as wanted; the objects as they are then.

    Deletion is over when no object is left, or, with `uids` (name → uid), none of those: what
    was made anew under an old name does not count. Raises NotFound when there is nothing to wait
    for, Failed when it cannot come true (for a pod in trouble: after `patience` seconds, where that
    may mend by itself), TimedOut with what is missing.
    """
    kind = selection.kind
    last = ""
    vain = _InVain(ctx, cluster, kind.kind, goal, patience)
    with View.of(ctx, cluster, {"objects": selection}) as view:
        while True:
            items = view.items("objects")
            left = _left(items, goal, uids)
            if not left and (items or goal.text == "delete"):
                return items
            if not items and goal.text != "create":
                raise NotFound(
                    f"no {kind.kind} matches {_named(selection)}: there is nothing to wait for",
                    hint="`for: create` waits until it is there",
                )
            again = vain.look(left)
            done = len(items) - len(left)
            text = f"{done} of {len(items)} {kind.plural}: {goal.text}"
            if text != last:
                last = text
                ctx.progress(text)
            try:
                view.wait(at_most=again)
            except TimedOut as error:
                raise TimedOut(
                    f"{', '.join(_names(left)) or _named(selection)}: {_missed(goal, left)}",
                    hint=error.hint,
                    evidence=kube_pods.states(left) if kind.kind == "Pod" else [],
                    data={"left": _names(left)},
                ) from error


def _missed(goal: Goal, left: list[Object]) -> str:
    """What did not come true in time, and what may have held it back."""
    if goal.holds is not None:
        return f"not {goal.text} in time"
    holders = {name for item in left for name in item["metadata"].get("finalizers") or ()}
    held = f", held back by {', '.join(sorted(holders))}" if holders else ""
    return f"not {goal.text}d in time{held}"


def _left(items: list[Object], goal: Goal, uids: dict[str, str] | None) -> list[Object]:
    if goal.text == "create":
        return []
    if goal.holds is not None:
        return [item for item in items if not goal.holds(item)]
    if uids is None:
        return items
    return [
        one for one in items if one["metadata"].get("uid", "") == uids.get(one["metadata"]["name"])
    ]


class _InVain:
    """Knows when something that is waited for cannot come."""

    def __init__(
        self, ctx: Context, cluster: Cluster, kind: str, goal: Goal, patience: float
    ) -> None:
        self._ctx, self._cluster = ctx, cluster
        self._kind, self._goal = kind, goal
        self._patience = patience
        self._restarts: dict[str, dict[str, int]] = {}
        self._troubled: dict[str, float] = {}

    def look(self, left: list[Object]) -> float | None:
        """Fail if it cannot come; else the seconds after which to look again, if any."""
        if self._kind == "Job":
            for job in left:
                self._job(job)
        if self._kind == "Pod" and self._wants_a_living_pod():
            ends = [end for pod in left if (end := self._pod(pod)) is not None]
            return max(0.05, min(ends) - self._ctx.monotonic()) if ends else None
        return None

    def _wants_a_living_pod(self) -> bool:
        if self._goal.condition:
            return self._goal.condition in _OF_LIFE and self._goal.status == "true"
        return "status.phase" in self._goal.path and self._goal.text.endswith("Running")

    def _pod(self, pod: Object) -> float | None:
        """When the patience with this pod ends; None if it is in no trouble."""
        name = pod["metadata"]["name"]
        before = self._restarts.setdefault(name, kube_trouble.restarts_of(pod))
        trouble = kube_pods.over(pod) or kube_trouble.trouble(pod, before)
        if trouble is None or (trouble.patient and trouble.of_placing):
            return None  # a node may come: the step's time-out bounds that
        if trouble.backs_off and trouble.patient:
            trouble = trouble.explained(kube_pods.pull_error(self._ctx, self._cluster, pod))
        now = self._ctx.monotonic()
        end = self._troubled.setdefault(name, now) + self._patience
        if trouble.patient and now < end:
            return end
        raise Failed(
            f"waiting is in vain: {trouble.text}",
            hint=trouble.hint,
            evidence=kube_pods.evidence(self._ctx, self._cluster, pod),
            data={"pods": [kube_pods.summary(pod)]},
        )

    def _job(self, job: Object) -> None:
        """A Job that has ended does not end in another way."""
        ended = _condition_of(job, "failed") or _condition_of(job, "complete")
        if ended is None or str(ended.get("status")) != "True":
            return
        if not self._goal.condition and "status" not in self._goal.path:
            return
        words = [str(ended.get(key) or "") for key in ("type", "reason", "message")]
        name, namespace = job["metadata"]["name"], job["metadata"].get("namespace") or ""
        pods = self._pods_of(job)
        evidence = [
            line for pod in pods[-1:] for line in kube_pods.evidence(self._ctx, self._cluster, pod)
        ] or kube_pods.events(self._ctx, self._cluster, namespace, name)
        raise Failed(
            f"waiting is in vain: job {name} has ended: {': '.join(filter(None, words))}",
            hint="the log of its pods tells why; a Job is not started again: delete and apply it",
            evidence=evidence,
        )

    def _pods_of(self, job: Object) -> list[Object]:
        kind = known("Pod")
        assert kind is not None
        label = f"batch.kubernetes.io/job-name={job['metadata']['name']}"
        try:
            return self._cluster.list(
                self._ctx, kind, job["metadata"].get("namespace") or "", labels=label
            )[0]
        except ActionError:
            return []


_OF_LIFE = ("ready", "containersready", "podscheduled", "initialized")
"""Conditions that a pod which has ended, or cannot start, does not get."""


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
    for inner in _one_step(value, steps[0]):
        yield from walk(inner, steps[1:])


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


def _matches(values: list[Any], value: str | None) -> bool:
    if value is None:
        return bool(values)
    return any(_text(one) == value for one in values)


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
    """The status of a condition, in small letters; empty where it does not tell of the object as
    it is now: its controller has seen an earlier generation only (as in kubectl)."""
    condition = _condition_of(item, name)
    if condition is None:
        return ""
    generation = item["metadata"].get("generation")
    observed = condition.get("observedGeneration")
    if observed is None:
        observed = (item.get("status") or {}).get("observedGeneration")
    if isinstance(generation, int) and isinstance(observed, int) and observed < generation:
        return ""
    return str(condition.get("status", "")).lower()


def _condition_of(item: Object, name: str) -> Object | None:
    for condition in (item.get("status") or {}).get("conditions") or []:
        if str(condition.get("type", "")).lower() == name.lower():
            entry: Object = condition
            return entry
    return None


def _names(items: list[Object]) -> list[str]:
    return [item["metadata"]["name"] for item in items]


def _named(selection: Selection) -> str:
    name = selection.name or selection.labels or selection.fields
    return f"{name!r} in {selection.namespace}" if selection.namespace else repr(name)
