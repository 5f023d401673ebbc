"""Which objects are refused with 422, and in which words."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from engine.production.cluster.objects import custom_schema, quantity
from engine.production.cluster.objects.common import Obj
from engine.production.cluster.objects.custom_schema import Errors
from engine.production.cluster.objects.refusals import (
    FieldError,
    duplicate,
    field_forbidden,
    invalid_value,
    not_supported,
    quoted,
    required,
)
from engine.production.cluster.objects.resources import Resource
from engine.production.cluster.objects.selectors import matches

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_SERVICE_NAME = "[a-z]([-a-z0-9]*[a-z0-9])?"
_QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_LABEL_VALUE = f"({_QUALIFIED})?"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"
_ENV_NAME = "[-._a-zA-Z][-._a-zA-Z0-9]*"

_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    f"for validation is '{_SUBDOMAIN}')"
)
_LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used "
    f"for validation is '{_LABEL}')"
)
_SERVICE_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
    "alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', "
    f"regex used for validation is '{_SERVICE_NAME}')"
)
_LABEL_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  "
    f"or '12345', regex used for validation is '({_LABEL_VALUE})')"
)
_LABEL_KEY_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
    f"validation is '{_QUALIFIED}')"
)
_CONFIG_KEY_RULE = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. "
    "'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is "
    f"'{_CONFIG_KEY}')"
)

_PERCENT_RULE = (
    "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or "
    "'93%', regex used for validation is '[0-9]+%')"
)
_FINALIZERS = frozenset({"kubernetes", "foregroundDeletion", "orphan"})
_FINALIZER_RULE = "name is neither a standard finalizer name nor is it fully qualified"

# resource -> (pattern, longest, rule) of its names; everything else has subdomain names
_NAMES = {
    "namespaces": (_LABEL, 63, _LABEL_RULE),
    "services": (_SERVICE_NAME, 63, _SERVICE_RULE),
}
_FREE_NAMES = frozenset({"rbac.authorization.k8s.io"})


def validate_metadata(resource: Resource, obj: Obj) -> Errors:
    """What is wrong with an object's metadata."""
    metadata = obj["metadata"]
    name = metadata.get("name", "")
    if not name:
        yield required("metadata.name", "name or generateName is required")
    elif resource.group not in _FREE_NAMES:
        pattern, longest, rule = _NAMES.get(resource.key, (_SUBDOMAIN, 253, _SUBDOMAIN_RULE))
        if len(name) > longest:
            yield invalid_value("metadata.name", name, f"must be no more than {longest} characters")
        if not re.fullmatch(pattern, name):
            yield invalid_value("metadata.name", name, rule)
    yield from _validate_labels("metadata.labels", metadata.get("labels"))
    for key in metadata.get("annotations") or ():
        if not re.fullmatch(_QUALIFIED, key.rpartition("/")[2]):
            yield invalid_value("metadata.annotations", key, _LABEL_KEY_RULE)
    for index, finalizer in enumerate(metadata.get("finalizers") or ()):
        if not resource.custom and "/" not in finalizer and finalizer not in _FINALIZERS:
            yield invalid_value(f"metadata.finalizers[{index}]", finalizer, _FINALIZER_RULE)
    yield from _validate_owners(metadata.get("ownerReferences") or ())


def _validate_owners(references: Sequence[Obj]) -> Errors:
    for index, reference in enumerate(references):
        path = f"metadata.ownerReferences[{index}]"
        if not reference.get("apiVersion"):
            yield invalid_value(f"{path}.apiVersion", "", "version must not be empty")
        for name in ("kind", "name", "uid"):
            if not reference.get(name):
                yield invalid_value(f"{path}.{name}", "", "must not be empty")
    controllers = [each.get("name", "") for each in references if each.get("controller")]
    if len(controllers) > 1:
        yield invalid_value(
            "metadata.ownerReferences",
            references,
            'Only one reference can have Controller set to true. Found "true" in references for '
            f"{controllers[0]} and {controllers[1]}",
        )


def _validate_labels(path: str, labels: dict[str, str] | None) -> Errors:
    for key, value in (labels or {}).items():
        if not re.fullmatch(_QUALIFIED, key.rpartition("/")[2]):
            yield invalid_value(path, key, _LABEL_KEY_RULE)
        if len(value) > 63:
            yield invalid_value(path, value, "must be no more than 63 bytes")
        if not re.fullmatch(_LABEL_VALUE, value):
            yield invalid_value(path, value, _LABEL_VALUE_RULE)


def _port_number(path: str, port: Any) -> Errors:
    if port is None:
        yield required(path)
    elif isinstance(port, int) and not 1 <= port <= 65535:
        yield invalid_value(path, port, "must be between 1 and 65535, inclusive")


def _not_negative(path: str, value: int) -> Errors:
    if value < 0:
        yield invalid_value(path, value, "must be greater than or equal to 0")


def _validate_resources(path: str, resources: Obj) -> Errors:
    limits = resources.get("limits") or {}
    for name, amount in (resources.get("requests") or {}).items():
        limit = limits.get(name)
        if limit is not None and quantity.parse(amount) > quantity.parse(limit):
            detail = f"must be less than or equal to {name} limit of {limit}"
            yield invalid_value(f"{path}.requests", amount, detail)


def _validate_probe(path: str, probe: Obj) -> Errors:
    """One handler, at a port that there can be."""
    handlers = [name for name in ("exec", "httpGet", "tcpSocket", "grpc") if name in probe]
    if probe and not handlers:
        yield required(path, "must specify a handler type")
    for name in handlers[1:]:
        yield field_forbidden(f"{path}.{name}", "may not specify more than 1 handler type")
    for name in handlers[:1]:
        if name != "exec":
            yield from _port_number(f"{path}.{name}.port", (probe[name] or {}).get("port"))


def _validate_container(path: str, container: Obj, volumes: set[str]) -> Errors:
    name = container.get("name", "")
    if not name:
        yield required(f"{path}.name")
    elif not re.fullmatch(_LABEL, name):
        yield invalid_value(f"{path}.name", name, _LABEL_RULE)
    if not container.get("image"):
        yield required(f"{path}.image")
    for index, port in enumerate(container.get("ports") or ()):
        yield from _port_number(f"{path}.ports[{index}].containerPort", port.get("containerPort"))
    for index, variable in enumerate(container.get("env") or ()):
        place = f"{path}.env[{index}]"
        if not variable.get("name"):
            yield required(f"{place}.name")
        if variable.get("value") and variable.get("valueFrom"):
            detail = "may not be specified when `value` is not empty"
            yield invalid_value(f"{place}.valueFrom", "", detail)
    for index, mount in enumerate(container.get("volumeMounts") or ()):
        place = f"{path}.volumeMounts[{index}]"
        if not mount.get("mountPath"):
            yield required(f"{place}.mountPath")
        if mount.get("name") not in volumes:
            yield FieldError(
                "FieldValueInvalid", f"{place}.name", f"Not found: {quoted(mount.get('name', ''))}"
            )
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        yield from _validate_probe(f"{path}.{probe}", container.get(probe) or {})
    policies = ("Always", "IfNotPresent", "Never")
    if container.get("imagePullPolicy") not in policies:
        yield not_supported(f"{path}.imagePullPolicy", container["imagePullPolicy"], policies)
    yield from _validate_resources(f"{path}.resources", container.get("resources") or {})


def _validate_pod_spec(path: str, spec: Obj, restarts: tuple[str, ...]) -> Errors:
    volumes = {volume.get("name", "") for volume in spec.get("volumes") or ()}
    names = [volume.get("name", "") for volume in spec.get("volumes") or ()]
    for index, name in enumerate(names):
        if name in names[:index]:
            yield duplicate(f"{path}.volumes[{index}].name", name)
    if not spec.get("containers"):
        yield required(f"{path}.containers")
    seen: set[str] = set()
    for group in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(group) or ()):
            place = f"{path}.{group}[{index}]"
            yield from _validate_container(place, container, volumes)
            if container.get("name") in seen:
                yield duplicate(f"{place}.name", container["name"])
            seen.add(container.get("name", ""))
    if spec.get("restartPolicy") not in restarts:
        yield not_supported(f"{path}.restartPolicy", spec.get("restartPolicy"), restarts)


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
    yield from _validate_labels("spec.template.metadata.labels", labels)
    yield from _validate_pod_spec("spec.template.spec", spec["template"]["spec"], ("Always",))


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
    yield from _validate_pod_spec("spec.template.spec", template, policies)


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


def _validate_service(obj: Obj) -> Errors:
    spec = obj["spec"]
    kinds = ("ClusterIP", "ExternalName", "LoadBalancer", "NodePort")
    if spec["type"] not in kinds:
        yield not_supported("spec.type", spec["type"], kinds)
    ports = spec.get("ports") or []
    if not ports and spec.get("clusterIP") != "None" and spec["type"] != "ExternalName":
        yield required("spec.ports")
    seen: list[tuple[Any, Any]] = []
    for index, port in enumerate(ports):
        path = f"spec.ports[{index}]"
        if len(ports) > 1 and not port.get("name"):
            yield required(f"{path}.name")
        yield from _port_number(f"{path}.port", port.get("port"))
        yield from _port_number(f"{path}.targetPort", port.get("targetPort"))
        number = (port.get("port"), port.get("protocol"))
        if number in seen:
            yield duplicate(path, {"port": number[0], "protocol": number[1]})
        seen.append(number)
    yield from _validate_labels("spec.selector", spec.get("selector"))


def _validate_keys(obj: Obj) -> Errors:
    for part in ("data", "binaryData"):
        for key in obj.get(part) or {}:
            if not re.fullmatch(_CONFIG_KEY, key):
                yield invalid_value(f"{part}[{key}]", key, _CONFIG_KEY_RULE)


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
    "pods": lambda obj: _validate_pod_spec("spec", obj["spec"], ("Always", "Never", "OnFailure")),
    "services": _validate_service,
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
        errors += _changed_address(old["spec"], new["spec"])
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


def _changed_address(old: Obj, new: Obj) -> Errors:
    before, after = old.get("clusterIPs"), new.get("clusterIPs")
    if before and "ExternalName" not in (old["type"], new["type"]) and before != after:
        yield invalid_value("spec.clusterIPs[0]", after, "may not change once set")
