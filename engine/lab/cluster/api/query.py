"""What a request says beside its path and its object: how to list, to watch, to delete, to log."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error as Base64Error
from collections.abc import Iterator
from typing import Any

import msgspec

from engine.lab.cluster.api.exchange import Exchange
from engine.production.cluster.decoding import clean_body, read_body
from engine.production.cluster.objects.common import Obj
from engine.production.cluster.objects.refusals import (
    FieldError,
    bad_request,
    field_forbidden,
    invalid,
    invalid_options,
    invalid_value,
    not_supported,
    quoted,
)

_MATCHES = ("Exact", "NotOlderThan")
_POLICIES = ("Foreground", "Background", "Orphan")


# -- lists and watches -----------------------------------------------------------------------


def check_list_options(exchange: Exchange) -> None:
    """Raise ApiError for options of a list or a watch that make no sense together."""
    errors = list(_list_complaints(exchange))
    if errors:
        raise invalid_options("ListOptions", *errors)
    if exchange.query.get("continue") and exchange.query.get("resourceVersion", "0") != "0":
        raise bad_request("specifying resource version is not allowed when using continue")


def _list_complaints(exchange: Exchange) -> Iterator[FieldError]:
    match, version = (
        exchange.query.get(name, "") for name in ("resourceVersionMatch", "resourceVersion")
    )
    initial, watches = "sendInitialEvents" in exchange.query, exchange.flag("watch")
    if match and match not in _MATCHES:
        yield not_supported("resourceVersionMatch", match, _MATCHES)
    elif initial and not watches:
        yield field_forbidden("sendInitialEvents", "sendInitialEvents is forbidden for list")
    elif initial and match != "NotOlderThan":
        rule = "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
        yield field_forbidden("resourceVersionMatch", rule)
    elif match and not initial:
        rule = _match_rule(exchange, match, version)
        if rule:
            yield field_forbidden("resourceVersionMatch", f"resourceVersionMatch {rule}")


def _match_rule(exchange: Exchange, match: str, version: str) -> str:
    """Which rule a resourceVersionMatch breaks; "" for none."""
    if exchange.flag("watch"):
        return "is forbidden for watch unless sendInitialEvents is provided"
    if not version:
        return "is forbidden unless resourceVersion is provided"
    if exchange.query.get("continue"):
        return "is forbidden when continue is provided"
    if match == "Exact" and version == "0":
        return '"exact" is forbidden for resourceVersion "0"'
    return ""


def wrong_version(text: str) -> str:
    """What is said of a resourceVersion that is no number."""
    return (
        f"resourceVersion: Invalid value: {quoted(text)}: strconv.ParseUint: parsing "
        f"{quoted(text)}: invalid syntax"
    )


def write_token(version: int, last: str) -> str:
    """A continue token: the rest of a list of this version, after `last`."""
    token = msgspec.json.encode({"v": "meta.k8s.io/v1", "rv": version, "start": f"{last}\0"})
    return urlsafe_b64encode(token).decode().rstrip("=")


def read_token(text: str) -> tuple[int, str]:
    """The inverse of `write_token`. Raises ApiError (400)."""
    why = ""
    try:
        data = urlsafe_b64decode(text + "=" * (-len(text) % 4))
        why = f": invalid character {data[:1]!r}".replace("b'", "'", 1)
        token = msgspec.json.decode(data)
        return int(token["rv"]), str(token["start"]).rstrip("\0")
    except (Base64Error, msgspec.DecodeError, KeyError, TypeError, ValueError):
        why = f"{why} looking for beginning of value" if why else ""
        raise bad_request(f"invalid continue token: continue key is not valid{why}") from None


# -- deletions -------------------------------------------------------------------------------


async def delete_options(exchange: Exchange) -> dict[str, Any]:
    """The DeleteOptions of a request, from its body or its query."""
    body = await exchange.body()
    options: Obj = {}
    if body:
        kind = exchange.content_type or "application/json"
        options = clean_body("DeleteOptions", "v1", read_body(body, kind, "DeleteOptions"))
    dry_run = options.get("dryRun") or []
    if dry_run not in ([], ["All"]):
        raise invalid_options("DeleteOptions", not_supported("dryRun", dry_run, ("All",)))
    grace = options.get("gracePeriodSeconds", exchange.integer("gracePeriodSeconds"))
    return {
        "grace_seconds": grace,
        "propagation": _propagation(exchange, options),
        "preconditions": options.get("preconditions"),
        "dry_run": bool(dry_run) or exchange.options().dry_run,
    }


def _propagation(exchange: Exchange, options: Obj) -> str:
    """What is to become of dependents. Raises ApiError (422) for what is no such policy."""
    policy = options.get("propagationPolicy") or exchange.query.get("propagationPolicy")
    orphan = options.get("orphanDependents", exchange.query.get("orphanDependents"))
    if policy and orphan is not None:
        rule = "orphanDependents and deletionPropagation cannot be both set"
        raise invalid_options("DeleteOptions", invalid_value("propagationPolicy", policy, rule))
    if policy and policy not in _POLICIES:
        names = ", ".join(quoted(name) for name in (*_POLICIES, "nil"))
        message = f"Unsupported value: {quoted(policy)}: supported values: {names}"
        error = FieldError("FieldValueNotSupported", "propagationPolicy", message)
        raise invalid_options("DeleteOptions", error)
    if str(orphan).lower() in ("true", "1"):
        return "Orphan"
    return policy or "Background"


# -- logs ------------------------------------------------------------------------------------


def check_log_options(exchange: Exchange, pod: str) -> None:
    """Raise ApiError (422) for numbers that a log cannot be cut by."""
    errors: list[FieldError] = []
    for name, least in (("tailLines", 0), ("limitBytes", 1), ("sinceSeconds", 1)):
        number = exchange.integer(name)
        if number is not None and number < least:
            rule = f"must be greater than {'or equal to ' if least == 0 else ''}0"
            errors.append(invalid_value(name, number, rule))
    if exchange.query.get("sinceSeconds") and exchange.query.get("sinceTime"):
        rule = "at most one of `sinceTime` or `sinceSeconds` may be specified"
        errors.append(field_forbidden("", rule))
    if errors:
        raise invalid("PodLogOptions", "", pod, errors)
