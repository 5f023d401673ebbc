"""Which objects are refused with 422, and in which words."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from engine.production.cluster.objects import custom_schema
from engine.production.cluster.objects.common import Obj
from engine.production.cluster.objects.custom_schema import Errors
from engine.production.cluster.objects.naming import (
    CONFIG_KEY,
    CONFIG_KEY_RULE,
    validate_labels,
    validate_metadata,
)
from engine.production.cluster.objects.pod_rules import validate_pod_spec
from engine.production.cluster.objects.refusals import (
    FieldError,
    field_forbidden,
    invalid_value,
    not_supported,
    quoted,
    required,
)
from engine.production.cluster.objects.resources import Resource
from engine.production.cluster.objects.selectors import matches
from engine.production.cluster.objects.service_rules import changed_address, validate_service

_PERCENT_RULE = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or "
    "'93%', regex used for validation is '[0-9]+%')"
)


def _not_negative(path: str, value: int) -> Errors:
    if value < 0:
        yield invalid_value(path, value, "must be greater than or equal to 0")


def _validate_workload(obj: Obj, kind: str) -> Errors:
    spec = obj["spec"]
    yield from _not_negative("spec.replicas", spec.get("replicas", 0))
    selector = spec.get("selector")
    if selector is None:
        yield required("spec.selector")
    elif not selector.get("matchLabels") and not selector.get("matchExpressions"):
        yield invalid_value("spec.selector", selector, f"empty selector is invalid for {kind}")
    labels = spec["template"]["metadata"].get("labels") or {}
    if not matches(selector, labels):
        detail = "`selector` does not match template `labels`"
        yield invalid_value("spec.template.metadata.labels", labels, detail)
    yield from validate_labels("spec.template.metadata.labels", labels)
    yield from validate_pod_spec("spec.template.spec", spec["template"]["spec"], ("Always",))


def _validate_job(obj: Obj) -> Errors:
    spec = obj["spec"]
    for name in ("parallelism", "completions", "backoffLimit", "activeDeadlineSeconds",
                 "ttlSecondsAfterFinished"):  # fmt: skip
        yield from _not_negative(f"spec.{name}", spec.get(name) or 0)
    template = spec["template"]["spec"]
    if template.get("restartPolicy") == "Always":
        detail = 'valid values: "OnFailure", "Never"'
        yield required("spec.template.spec.restartPolicy", detail)
    policies = ("Always", "Never", "OnFailure")
    yield from validate_pod_spec("spec.template.spec", template, policies)


def _validate_deployment(obj: Obj) -> Errors:
    yield from _validate_workload(obj, "deployment")
    spec = obj["spec"]
    strategy = spec["strategy"]
    kinds = ("Recreate", "RollingUpdate")
    rolling = strategy.get("rollingUpdate")
    if strategy["type"] not in kinds:
        yield not_supported("spec.strategy.type", strategy["type"], kinds)
    elif strategy["type"] == "Recreate" and rolling:
        detail = "may not be specified when strategy `type` is 'Recreate'"
        yield field_forbidden("spec.strategy.rollingUpdate", detail)
    elif rolling and (wrong := list(_validate_bounds(rolling))):
        yield from wrong
    elif rolling and all(_is_zero(rolling.get(name)) for name in ("maxSurge", "maxUnavailable")):
        detail = "may not be 0 when `maxSurge` is 0"
        path = "spec.strategy.rollingUpdate.maxUnavailable"
        yield invalid_value(path, rolling["maxUnavailable"], detail)
    yield from _not_negative("spec.minReadySeconds", spec.get("minReadySeconds", 0))
    yield from _not_negative("spec.revisionHistoryLimit", spec.get("revisionHistoryLimit", 0))
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None and deadline <= spec.get("minReadySeconds", 0):
        detail = "must be greater than minReadySeconds"
        yield invalid_value("spec.progressDeadlineSeconds", deadline, detail)


def _validate_bounds(rolling: Obj) -> Errors:
    """maxUnavailable and maxSurge are numbers of pods, or shares; the first at most all pods."""
    for name in ("maxUnavailable", "maxSurge"):
        path, value = f"spec.strategy.rollingUpdate.{name}", rolling.get(name, 0)
        if isinstance(value, int):
            yield from _not_negative(path, value)
        elif not re.fullmatch("[0-9]+%", value):
            yield invalid_value(path, value, _PERCENT_RULE)
        elif name == "maxUnavailable" and int(value[:-1]) > 100:
            yield invalid_value(path, value, "must not be greater than 100%")


def _is_zero(value: Any) -> bool:
    return value in (0, "0", "0%")


_OBJECT_BYTES = 1024 * 1024


def _validate_keys(obj: Obj) -> Errors:
    """Of ConfigMaps and Secrets: the names in them, and how large they may be together."""
    for part in ("data", "binaryData"):
        for key in obj.get(part) or {}:
            if not re.fullmatch(CONFIG_KEY, key):
                yield invalid_value(f"{part}[{key}]", key, CONFIG_KEY_RULE)
    secret = obj["kind"] == "Secret"
    plain, coded = obj.get("data") or {}, obj.get("binaryData") or {}
    if secret:
        plain, coded = {}, plain
    size = sum(len(value.encode()) for value in plain.values())
    # Base64: three bytes stand in four characters.
    size += sum(len(value) * 3 // 4 - value.count("=") for value in coded.values())
    if size > _OBJECT_BYTES:
        message = f"Too long: may not be more than {_OBJECT_BYTES} bytes"
        yield FieldError("FieldValueTooLong", "data" if secret else "[]", message)


def _validate_definition(obj: Obj) -> Errors:
    spec = obj["spec"]
    for path, value in (
        ("spec.group", spec.get("group")),
        ("spec.scope", spec.get("scope")),
        ("spec.names.plural", spec["names"].get("plural")),
        ("spec.names.kind", spec["names"].get("kind")),
        ("spec.versions", spec.get("versions")),
    ):
        if not value:
            yield required(path)
    yield from custom_schema.definition_complaints(spec.get("versions") or [])
    name = f"{spec['names'].get('plural', '')}.{spec.get('group', '')}"
    if obj["metadata"].get("name") != name:
        detail = 'must be spec.names.plural+"."+spec.group'
        yield invalid_value("metadata.name", obj["metadata"].get("name", ""), detail)


_RULES: dict[str, Callable[[Obj], Errors]] = {
    "deployments.apps": _validate_deployment,
    "replicasets.apps": lambda obj: _validate_workload(obj, "replicaset"),
    "statefulsets.apps": lambda obj: _validate_workload(obj, "statefulset"),
    "daemonsets.apps": lambda obj: _validate_workload(obj, "daemonset"),
    "jobs.batch": _validate_job,
    "pods": lambda obj: validate_pod_spec("spec", obj["spec"], ("Always", "Never", "OnFailure")),
    "services": validate_service,
    "configmaps": _validate_keys,
    "secrets": _validate_keys,
    "customresourcedefinitions.apiextensions.k8s.io": _validate_definition,
}


def validate(resource: Resource, obj: Obj) -> list[FieldError]:
    """All complaints about an object that is about to be stored."""
    errors = list(validate_metadata(resource, obj))
    if resource.custom:
        version = obj["apiVersion"].rpartition("/")[2]
        errors += custom_schema.complaints(resource.schemas.get(version, {}), obj)
    rules = _RULES.get(resource.key)
    if rules is not None:
        errors += rules(obj)
    return errors


_IMMUTABLE_SELECTORS = frozenset(
    {"deployments.apps", "replicasets.apps", "statefulsets.apps", "daemonsets.apps"}
)
_POD_RULE = (
    "pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only "
    "additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set "
    "to 1 if it was previously negative)"
)


_STATEFUL_SET_CHANGES = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)
_STATEFUL_SET_RULE = (
    "updates to statefulset spec for fields other than "
    f"{', '.join(repr(name) for name in _STATEFUL_SET_CHANGES[:-1])} and 'minReadySeconds' are "
    "forbidden"
)


def _own_part(spec: Obj) -> Obj:
    """A StatefulSet's specification without what may change; the selector has a rule of its own."""
    changeable = (*_STATEFUL_SET_CHANGES, "selector")
    return {name: value for name, value in spec.items() if name not in changeable}


def validate_update(resource: Resource, old: Obj, new: Obj) -> list[FieldError]:
    """All complaints about replacing `old` by `new`."""
    errors = validate(resource, new)
    errors += _new_finalizers(old["metadata"], new["metadata"])
    if resource.key in _IMMUTABLE_SELECTORS and old["spec"]["selector"] != new["spec"].get(
        "selector"
    ):
        selector = new["spec"].get("selector")
        errors.append(invalid_value("spec.selector", selector, "field is immutable"))
    if resource.key == "jobs.batch" and old["spec"]["template"] != new["spec"]["template"]:
        template = new["spec"]["template"]
        errors.append(invalid_value("spec.template", template, "field is immutable"))
    if resource.key == "statefulsets.apps" and _own_part(old["spec"]) != _own_part(new["spec"]):
        errors.append(field_forbidden("spec", _STATEFUL_SET_RULE))
    if resource.key == "pods" and _fixed_part(old["spec"]) != _fixed_part(new["spec"]):
        errors.append(field_forbidden("spec", _POD_RULE))
    if resource.key in ("configmaps", "secrets") and old.get("immutable"):
        errors += [
            field_forbidden(part, "field is immutable when `immutable` is set")
            for part in ("immutable", "data", "binaryData")
            if old.get(part) != new.get(part)
        ]
    if resource.key == "services":
        errors += changed_address(old["spec"], new["spec"])
    return errors


def _new_finalizers(old: Obj, new: Obj) -> Errors:
    """Finalizers can only be taken away from an object that is being deleted."""
    known = old.get("finalizers") or ()
    extra = [quoted(each) for each in new.get("finalizers") or () if each not in known]
    if extra and old.get("deletionTimestamp"):
        yield field_forbidden(
            "metadata.finalizers",
            "no new finalizers can be added if the object is being deleted, found new finalizers "
            f"[]string{{{', '.join(extra)}}}",
        )


def _fixed_part(spec: Obj) -> Obj:
    """A pod's specification without what may change."""
    changeable = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds")
    fixed = {name: value for name, value in spec.items() if name not in changeable}
    for group in ("containers", "initContainers"):
        if group in fixed:
            fixed[group] = [{**container, "image": ""} for container in fixed[group]]
    return fixed
