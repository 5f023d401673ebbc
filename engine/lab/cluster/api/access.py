"""Who asks, and whether they may: tokens, impersonation, RBAC, and the reviews about it."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from hmac import compare_digest
from typing import Any

from aiohttp import web

from engine.production.cluster.authorization import (
    AUTHENTICATED,
    MASTERS,
    AccessRequest,
    User,
    refusal,
    rules_of,
    service_account,
    why_allowed,
)
from engine.production.cluster.decoding import clean_body
from engine.production.cluster.objects import refusals
from engine.production.cluster.objects.common import Obj, timestamp
from engine.production.cluster.objects.refusals import ApiError
from engine.production.cluster.objects.resources import Resource
from engine.production.cluster.objects.store import ObjectStore

ADMIN = User("lab", (MASTERS, AUTHENTICATED))
_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}


class Access:
    """The users of one server. `token` is the one of the lab's own user, who may do all."""

    def __init__(self, store: ObjectStore, token: str) -> None:
        self._store = store
        self._users: dict[str, User] = {token: ADMIN}

    def add(self, user: User) -> str:
        """A token for one more user."""
        token = secrets.token_urlsafe(24)
        self._users[token] = user
        return token

    def who(self, request: web.BaseRequest) -> User:
        """Whose request this is. Raises ApiError: 401, or 403 for an impersonation not granted."""
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        user = self._of_token(token.strip()) if scheme.lower() == "bearer" else None
        if user is None:
            raise refusals.unauthorized()
        name = request.headers.get("Impersonate-User")
        groups = tuple(request.headers.getall("Impersonate-Group", []))
        if name is None:
            if groups:
                raise ApiError(500, "InternalError", "requested impersonation without a user")
            return user
        self.check(user, AccessRequest("impersonate", resource="users", name=name))
        for group in groups:
            self.check(user, AccessRequest("impersonate", resource="groups", name=group))
        return _impersonated(name, groups)

    def _of_token(self, token: str) -> User | None:
        """Compared in constant time, as a token is to be compared."""
        known = [user for known, user in self._users.items() if compare_digest(known, token)]
        return known[0] if known else None

    def check(self, user: User, request: AccessRequest) -> None:
        """Raise ApiError (403) for what the user may not do."""
        if why_allowed(self._store, user, request) is not None:
            return
        why = refusal(user, request)
        if request.path:
            raise ApiError(403, "Forbidden", f"forbidden: {why}", {})
        raise refusals.forbidden(request.resource, request.group, request.name, why)

    def issue(self, namespace: str, name: str, asked: Any, now: float) -> Obj:
        """The answer to a TokenRequest: a token of a service account."""
        seconds = ((asked or {}).get("spec") or {}).get("expirationSeconds", 3600)
        return {
            "kind": "TokenRequest",
            "apiVersion": "authentication.k8s.io/v1",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"audiences": ["lab"], "expirationSeconds": seconds},
            "status": {
                "token": self.add(service_account(namespace, name)),
                "expirationTimestamp": timestamp(now + seconds),
            },
        }

    # -- reviews ---------------------------------------------------------------------------

    def review(
        self, user: User, resource: Resource, version: str, namespace: str, body: Any
    ) -> Obj:
        """The answer to a review: who somebody is, or what they may do. Raises ApiError (400)."""
        spec = clean_body(resource.kind, version, body).get("spec") or {}
        head = {"kind": resource.kind, "apiVersion": resource.api_version(version), "metadata": {}}
        shown = {} if resource.kind == "SelfSubjectReview" else {"spec": spec}
        return {**head, **shown, "status": self._status(user, resource.kind, namespace, spec)}

    def _status(self, user: User, kind: str, namespace: str, spec: Obj) -> Obj:
        if kind == "SelfSubjectReview":
            return {"userInfo": _shown(user)}
        if kind == "TokenReview":
            known = self._of_token(str(spec.get("token", "")))
            return {"authenticated": True, "user": _shown(known)} if known else {"user": {}}
        if kind == "SelfSubjectRulesReview":
            rules = rules_of(self._store, user, str(spec.get("namespace", "")))
            return {
                "resourceRules": [rule for rule in rules if "resources" in rule],
                "nonResourceRules": [rule for rule in rules if "nonResourceURLs" in rule],
                "incomplete": False,
            }
        if kind != "SelfSubjectAccessReview":
            user = User(str(spec.get("user", "")), tuple(spec.get("groups") or ()))
        why = why_allowed(self._store, user, _reviewed(spec, namespace))
        if why is None:
            return {"allowed": False}
        return {"allowed": True, "reason": why} if why else {"allowed": True}


def request_of(
    method: str, resource: Resource, namespace: str, name: str, part: str, *, watch: bool
) -> AccessRequest:
    """What a request at a path asks for, in the words of RBAC."""
    if method == "DELETE":
        verb = "delete" if name else "deletecollection"
    elif method in ("GET", "HEAD"):
        verb = "get" if name and not watch else "watch" if watch else "list"
    else:
        verb = _VERBS.get(method, method.lower())
    return AccessRequest(verb, resource.group, resource.plural, part, namespace, name)


def document_request(parts: Sequence[str]) -> AccessRequest:
    """Reading a document about the server itself."""
    return AccessRequest("get", path="/" + "/".join(parts))


def _reviewed(spec: Obj, namespace: str) -> AccessRequest:
    path = spec.get("nonResourceAttributes")
    if isinstance(path, dict):
        return AccessRequest(str(path.get("verb", "")), path=str(path.get("path", "")))
    asked = spec.get("resourceAttributes")
    asked = asked if isinstance(asked, dict) else {}
    names = ("verb", "group", "resource", "subresource", "namespace", "name")
    fields = {name: str(asked.get(name) or "") for name in names}
    fields["namespace"] = fields["namespace"] or namespace
    return AccessRequest(**fields)


def _impersonated(name: str, groups: tuple[str, ...]) -> User:
    if name.startswith("system:serviceaccount:") and name.count(":") == 3 and not groups:
        return service_account(*name.split(":")[2:])
    return User(name, (*groups, AUTHENTICATED) if AUTHENTICATED not in groups else groups)


def _shown(user: User) -> Obj:
    return {"username": user.name, "groups": list(user.groups)}
