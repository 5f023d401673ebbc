"""Which objects are meant: label selectors, as text and as objects, and field selectors."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from engine.production.cluster.objects.common import Obj, labels_of
from engine.production.cluster.objects.naming import LABEL_VALUE, LABEL_VALUE_RULE
from engine.production.cluster.objects.refusals import ApiError, bad_request, quoted

Labels = Mapping[str, str]
Predicate = Callable[[Labels], bool]

_KEY = r"[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?"
_REQUIREMENT = re.compile(
    rf"""\s*(?:
        (?P<absent>!)\s*(?P<absent_key>{_KEY})
      | (?P<key>{_KEY})\s*(?:
            (?P<op>==|=|!=)\s*(?P<value>[^\s,()=!<>]*)
          | (?P<set>in|notin)\s*\((?P<values>[^)]*)\)
        )?
    )\s*(?:,|$)""",
    re.VERBOSE,
)

_FIELDS: dict[str, tuple[str, ...]] = {
    "pods": (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    ),
    "events": (
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "source",
        "type",
    ),
    "namespaces": ("status.phase",),
    "nodes": ("spec.unschedulable",),
    "secrets": ("type",),
    "replicasets.apps": ("status.replicas",),
}


def _parse_requirement(match: re.Match[str]) -> Predicate:
    if match["absent"]:
        key = match["absent_key"]
        return lambda labels: key not in labels
    key = match["key"]
    if match["set"]:
        listed = [value.strip() for value in match["values"].split(",")]
        _check_values(key, listed)
        values = set(listed)
        if match["set"] == "in":
            return lambda labels: labels.get(key) in values
        return lambda labels: labels.get(key) not in values
    if match["op"] is None:
        return lambda labels: key in labels
    value = match["value"]
    _check_values(key, [value])
    if match["op"] == "!=":
        return lambda labels: labels.get(key) != value
    return lambda labels: labels.get(key) == value


def parse_labels(text: str) -> Predicate:
    """The predicate of a labelSelector parameter. Raises ApiError (400) when it cannot be read."""
    predicates: list[Predicate] = []
    position = 0
    while position < len(text):
        match = _REQUIREMENT.match(text, position)
        if match is None:
            raise _unreadable(text[position:])
        predicates.append(_parse_requirement(match))
        position = match.end()
    return lambda labels: all(predicate(labels) for predicate in predicates)


def _check_values(key: str, values: list[str]) -> None:
    """Raise ApiError (400) for a value that no label can have."""
    for index, value in enumerate(values):
        if not re.fullmatch(LABEL_VALUE, value) or len(value) > 63:
            raise bad_request(
                f"unable to parse requirement: values[{index}][{key}]: Invalid value: "
                f"{quoted(value)}: {LABEL_VALUE_RULE}"
            )


def _unreadable(text: str) -> ApiError:
    """What cannot be understood of a selector, from the first wrong word on."""
    match = re.match(rf"\s*{_KEY}\s+(?P<word>[^\s,()]+)", text)
    if match is not None and match["word"] not in ("in", "notin"):
        expected = "in, notin, =, ==, !=, gt, lt"
        return bad_request(
            f"unable to parse requirement: found '{match['word']}', expected: {expected}"
        )
    return bad_request(f"unable to parse requirement: found '{text}'")


def _matches_expression(expression: Obj, labels: Labels) -> bool:
    key, operator = expression["key"], expression["operator"]
    if operator == "Exists":
        return key in labels
    if operator == "DoesNotExist":
        return key not in labels
    among = labels.get(key) in (expression.get("values") or ())
    return among if operator == "In" else not among


def matches(selector: Obj | None, labels: Labels) -> bool:
    """Whether a LabelSelector object (matchLabels, matchExpressions) selects these labels.

    An absent or empty one selects nothing here: controllers never mean "everything".
    """
    if not selector:
        return False
    exact = selector.get("matchLabels") or {}
    if any(labels.get(key) != value for key, value in exact.items()):
        return False
    return all(_matches_expression(e, labels) for e in selector.get("matchExpressions") or ())


def to_text(selector: Obj | None) -> str:
    """A LabelSelector object in the words of a labelSelector parameter."""
    selector = selector or {}
    parts = [f"{key}={value}" for key, value in sorted((selector.get("matchLabels") or {}).items())]
    for expression in selector.get("matchExpressions") or ():
        key, operator = expression["key"], expression["operator"]
        values = ",".join(sorted(expression.get("values") or ()))
        parts.append(
            {"Exists": key, "DoesNotExist": f"!{key}", "In": f"{key} in ({values})"}.get(
                operator, f"{key} notin ({values})"
            )
        )
    return ",".join(parts)


def field_value(obj: Obj, path: str) -> str:
    """The value at a dotted path as field selectors compare it; "" when there is none."""
    if path == "source":
        path = "source.component"
    value: Any = obj
    for name in path.split("."):
        value = value.get(name) if isinstance(value, dict) else None
    if value is None:
        return "false" if path == "spec.unschedulable" else ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def parse_fields(text: str, resource: str) -> Callable[[Obj], bool]:
    """The predicate of a fieldSelector parameter for objects of `resource` (a store key).

    Raises ApiError (400) for a field by which this resource cannot be selected.
    """
    allowed = ("metadata.name", "metadata.namespace", *_FIELDS.get(resource, ()))
    tests: list[tuple[str, bool, str]] = []
    for part in filter(None, text.split(",")):
        match = re.fullmatch(r"([^=!]+)(==|=|!=)(.*)", part)
        if match is None:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{part}'")
        if match[1] not in allowed:
            raise _unknown_field(match[1], resource)
        tests.append((match[1], match[2] == "!=", match[3]))
    return lambda obj: all((field_value(obj, path) == value) != no for path, no, value in tests)


def _unknown_field(name: str, resource: str) -> ApiError:
    """Kinds with fields of their own say it in other words than those that have none."""
    group = resource.partition(".")[2]
    custom = "." in group and not group.endswith(".k8s.io")
    if resource in _FIELDS or custom:
        return bad_request(f"field label not supported: {name}")
    return bad_request(
        f'"{name}" is not a known field selector: only "metadata.name", "metadata.namespace"'
    )


def selects(labels: str, fields: str, resource: str) -> Callable[[Obj], bool]:
    """Both kinds of selector of a request as one predicate."""
    by_labels = parse_labels(labels)
    by_fields = parse_fields(fields, resource)
    if not labels and not fields:
        return lambda _obj: True
    return lambda obj: by_labels(labels_of(obj)) and by_fields(obj)
