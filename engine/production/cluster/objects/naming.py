"""How things may be called: patterns of names and labels, and what is said of misfits."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from engine.production.cluster.objects.common import Obj
from engine.production.cluster.objects.custom_schema import Errors
from engine.production.cluster.objects.refusals import invalid_value, required
from engine.production.cluster.objects.resources import Resource

LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = rf"{LABEL}(\.{LABEL})*"
SERVICE_NAME = "[a-z]([-a-z0-9]*[a-z0-9])?"
QUALIFIED = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
LABEL_VALUE = f"({QUALIFIED})?"
CONFIG_KEY = "[-._a-zA-Z0-9]+"

SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    f"for validation is '{SUBDOMAIN}')"
)
LABEL_RULE = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used "
    f"for validation is '{LABEL}')"
)
SERVICE_RULE = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
    "alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', "
    f"regex used for validation is '{SERVICE_NAME}')"
)
LABEL_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  "
    f"or '12345', regex used for validation is '({LABEL_VALUE})')"
)
LABEL_KEY_RULE = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end "
    "with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
    f"validation is '{QUALIFIED}')"
)
CONFIG_KEY_RULE = (
    "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. "
    "'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is "
    f"'{CONFIG_KEY}')"
)

_FINALIZERS = frozenset({"kubernetes", "foregroundDeletion", "orphan"})
_FINALIZER_RULE = "name is neither a standard finalizer name nor is it fully qualified"

# resource -> (pattern, longest, rule) of its names; everything else has subdomain names
_NAMES = {
    "namespaces": (LABEL, 63, LABEL_RULE),
    "services": (SERVICE_NAME, 63, SERVICE_RULE),
}
_FREE_NAMES = frozenset({"rbac.authorization.k8s.io"})


def validate_metadata(resource: Resource, obj: Obj) -> Errors:
    """What is wrong with an object's metadata."""
    metadata = obj["metadata"]
    name = metadata.get("name", "")
    if not name:
        yield required("metadata.name", "name or generateName is required")
    elif resource.group not in _FREE_NAMES:
        pattern, longest, rule = _NAMES.get(resource.key, (SUBDOMAIN, 253, SUBDOMAIN_RULE))
        if len(name) > longest:
            yield invalid_value("metadata.name", name, f"must be no more than {longest} characters")
        if not re.fullmatch(pattern, name):
            yield invalid_value("metadata.name", name, name_complaint(name, rule))
    yield from validate_labels("metadata.labels", metadata.get("labels"))
    for key in metadata.get("annotations") or ():
        if not re.fullmatch(QUALIFIED, key.rpartition("/")[2]):
            yield invalid_value("metadata.annotations", key, LABEL_KEY_RULE)
    for index, finalizer in enumerate(metadata.get("finalizers") or ()):
        if not resource.custom and "/" not in finalizer and finalizer not in _FINALIZERS:
            yield invalid_value(f"metadata.finalizers[{index}]", finalizer, _FINALIZER_RULE)
    yield from _validate_owners(metadata.get("ownerReferences") or ())


def name_complaint(name: str, rule: str) -> str:
    """What is wrong with a name that must be a label: often nothing but its dots."""
    dotted = "." in name and rule != SUBDOMAIN_RULE and re.fullmatch(SUBDOMAIN, name)
    return "must not contain dots" if dotted else rule


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


def validate_labels(path: str, labels: dict[str, str] | None) -> Errors:
    """What is wrong with the keys and values of labels."""
    for key, value in (labels or {}).items():
        if not re.fullmatch(QUALIFIED, key.rpartition("/")[2]):
            yield invalid_value(path, key, LABEL_KEY_RULE)
        if len(value) > 63:
            yield invalid_value(path, value, "must be no more than 63 bytes")
        if not re.fullmatch(LABEL_VALUE, value):
            yield invalid_value(path, value, LABEL_VALUE_RULE)


_PORT_NAME_CHARACTERS = 15


def port_number(path: str, port: Any) -> Errors:
    """What is wrong with a port: a number there cannot be, or a name that is none."""
    if port is None:
        yield required(path)
    elif isinstance(port, int) and not 1 <= port <= 65535:
        yield invalid_value(path, port, "must be between 1 and 65535, inclusive")
    elif isinstance(port, str):
        for rule in _port_name_complaints(port):
            yield invalid_value(path, port, rule)


def _port_name_complaints(name: str) -> Iterator[str]:
    """The rules of RFC 6335 that a name of a port breaks."""
    if len(name) > _PORT_NAME_CHARACTERS:
        yield f"must be no more than {_PORT_NAME_CHARACTERS} characters"
    if not re.fullmatch("[-a-z0-9]+", name):
        yield "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)"
    if not re.search("[a-z]", name):
        yield "must contain at least one letter (a-z)"
    if "--" in name:
        yield "must not contain consecutive hyphens"
    if name.startswith("-") or name.endswith("-"):
        yield "must not begin or end with a hyphen"
