"""Bodies in the Kubernetes protobuf encoding, which `kubectl create` and `expose` send.

kubectl's own commands that create an object insist on it. Only what those commands fill in can
be read here; a body with anything else is refused as a whole rather than read in part.

A message is described by the names of its fields in the order of their numbers; what each field
holds is in schema.json. Go writes fields that are not pointers even when they are empty, so an
empty value is the same as none, but for the numbers in `_ZERO_COUNTS`.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import Any

from engine.production.cluster.objects.common import Obj, timestamp
from engine.production.cluster.objects.refusals import ApiError
from engine.production.cluster.objects.schema import Type, type_of

_MAGIC = b"k8s\0"
# What reading bytes by a plan that they do not follow can end in.
_GARBLED = (LookupError, AttributeError, TypeError, ValueError, OverflowError, OSError)
_ZERO_COUNTS = frozenset({"replicas", "terminationGracePeriodSeconds", "minReadySeconds"})
_IGNORED = frozenset({"status"})

# Fields by number, from 1; "-" stands for a number that is not read here.
_FIELDS = {
    "ObjectMeta": "name generateName namespace selfLink uid resourceVersion generation "
    "creationTimestamp deletionTimestamp deletionGracePeriodSeconds labels annotations",
    "Namespace": "metadata spec status",
    "NamespaceSpec": "finalizers",
    "ConfigMap": "metadata data binaryData immutable",
    "Secret": "metadata data type stringData immutable",
    "ServiceAccount": "metadata secrets imagePullSecrets automountServiceAccountToken",
    "Deployment": "metadata spec status",
    "DeploymentSpec": "replicas selector template strategy minReadySeconds revisionHistoryLimit "
    "paused - progressDeadlineSeconds",
    "DeploymentStrategy": "type rollingUpdate",
    "RollingUpdateDeployment": "maxUnavailable maxSurge",
    "LabelSelector": "matchLabels matchExpressions",
    "LabelSelectorRequirement": "key operator values",
    "PodTemplateSpec": "metadata spec",
    "PodSpec": "- containers restartPolicy terminationGracePeriodSeconds activeDeadlineSeconds "
    "dnsPolicy nodeSelector serviceAccountName serviceAccount nodeName hostNetwork hostPID hostIPC "
    "- - hostname subdomain - schedulerName",
    "Container": "name image command args workingDir ports env resources - - - - "
    "terminationMessagePath imagePullPolicy - stdin stdinOnce tty - terminationMessagePolicy",
    "ResourceRequirements": "limits requests",
    "ContainerPort": "name hostPort containerPort protocol hostIP",
    "EnvVar": "name value",
    "Service": "metadata spec status",
    "ServiceSpec": "ports selector clusterIP type externalIPs - sessionAffinity loadBalancerIP "
    "loadBalancerSourceRanges externalName externalTrafficPolicy healthCheckNodePort "
    "publishNotReadyAddresses",
    "ServicePort": "name protocol port targetPort nodePort",
    "Job": "metadata spec status",
    "JobSpec": "parallelism completions activeDeadlineSeconds selector manualSelector template "
    "backoffLimit ttlSecondsAfterFinished completionMode suspend",
    "ResourceQuota": "metadata spec status",
    "ResourceQuotaSpec": "hard scopes",
    "Role": "metadata rules",
    "ClusterRole": "metadata rules",
    "PolicyRule": "verbs apiGroups resources resourceNames nonResourceURLs",
    "RoleBinding": "metadata subjects roleRef",
    "ClusterRoleBinding": "metadata subjects roleRef",
    "RoleSubject": "kind apiGroup name namespace",
    "RoleRef": "apiGroup kind name",
    "SelfSubjectReview": "metadata status",
    "SelfSubjectAccessReview": "metadata spec status",
    "SelfSubjectAccessReviewSpec": "resourceAttributes nonResourceAttributes",
    "SubjectAccessReview": "metadata spec status",
    "LocalSubjectAccessReview": "metadata spec status",
    "SubjectAccessReviewSpec": "resourceAttributes nonResourceAttributes user groups",
    "ResourceAttributes": "namespace verb group version resource subresource name",
    "NonResourceAttributes": "path verb",
    "SelfSubjectRulesReview": "metadata spec status",
    "SelfSubjectRulesReviewSpec": "namespace",
    "TokenRequest": "metadata spec status",
    "TokenRequestSpec": "audiences - boundObjectRef expirationSeconds",
}


class _Unreadable(Exception):
    pass


def decode(body: bytes) -> Obj:
    """The object in a protobuf body. Raises ApiError (415) when it cannot be read whole."""
    try:
        if not body.startswith(_MAGIC):
            raise _Unreadable("no Kubernetes protobuf")
        envelope = dict(_fields(body[len(_MAGIC) :]))
        kind = {number: value.decode() for number, value in _fields(envelope[1])}
        if kind[2] not in _FIELDS:
            raise _Unreadable(f"{kind[2]} in protobuf")
        return {"apiVersion": kind[1], "kind": kind[2], **_message(envelope[2], type_of(kind[2]))}
    except (_Unreadable, *_GARBLED) as error:
        message = (
            f"the body of the request was in an unknown format ({error}) - accepted media types "
            "include: application/json, application/yaml"
        )
        raise ApiError(415, "UnsupportedMediaType", message) from None


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(number, value) of each field; a value is an int or bytes."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        if tag & 7 == 0:
            value, position = _varint(data, position)
            yield tag >> 3, value - (1 << 64) if value >> 63 else value
        elif tag & 7 == 2:
            length, position = _varint(data, position)
            if position + length > len(data):
                raise _Unreadable("truncated")
            yield tag >> 3, data[position : position + length]
            position += length
        else:
            raise _Unreadable(f"wire type {tag & 7}")


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, position


def _message(data: bytes, kind: Type) -> Obj:
    names = _FIELDS[kind.name].split()
    result: Obj = {}
    for number, raw in _fields(data):
        name = names[number - 1] if 0 < number <= len(names) else "-"
        if name in _IGNORED:
            continue
        if name == "-":
            if raw in (0, b""):
                continue
            raise _Unreadable(f"field {number} of {kind.name} in protobuf")
        _add(result, name, raw, kind.fields[name])
    return result


def _add(result: Obj, name: str, raw: Any, kind: Type) -> None:
    if kind.form in ("list", "keyed", "set") and kind.element is not None:
        result.setdefault(name, []).append(_value(raw, kind.element))
    elif kind.form == "map" and kind.element is not None:
        entry = dict(_fields(raw))
        key = entry.get(1, b"").decode()
        result.setdefault(name, {})[key] = _value(entry.get(2, b""), kind.element)
    else:
        value = _value(raw, kind)
        if value not in (0, "", None, {}) or (value == 0 and name in _ZERO_COUNTS):
            result[name] = value


def _value(raw: Any, kind: Type) -> Any:
    if kind.form == "struct":
        return _message(raw, kind)
    if kind.name == "int":
        return raw
    if kind.name == "bool":
        return bool(raw)
    if kind.name == "bytes":
        return b64encode(raw).decode()
    if kind.name == "time":
        seconds = dict(_fields(raw)).get(1, 0)
        return timestamp(seconds) if seconds else None
    if kind.name == "quantity":
        return dict(_fields(raw))[1].decode()
    if kind.name == "intstr":
        parts = dict(_fields(raw))
        return parts.get(3, b"").decode() if parts.get(1) else parts.get(2, 0)
    return raw.decode()
