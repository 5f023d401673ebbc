"""Who may do what: roles and bindings, as RBAC reads them.

Only what is granted is allowed; `system:masters` may do all. A ClusterRole with an aggregation rule
has the rules of all that its labels select. That nobody grants more than they have is not checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from engine.production.cluster.objects.common import Obj, labels_of
from engine.production.cluster.objects.selectors import matches
from engine.production.cluster.objects.store import ObjectStore

_GROUP = "rbac.authorization.k8s.io"
MASTERS = "system:masters"
AUTHENTICATED = "system:authenticated"


@dataclass(frozen=True)
class User:
    """Who asks."""

    name: str
    groups: tuple[str, ...] = ()


def service_account(namespace: str, name: str) -> User:
    """The user that a service account's token stands for."""
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", AUTHENTICATED)
    return User(f"system:serviceaccount:{namespace}:{name}", groups)


@dataclass(frozen=True)
class AccessRequest:
    """What is asked for: a verb on a resource, or on a path of the server itself."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    """Empty for what is cluster-wide, and for all namespaces at once."""
    name: str = ""
    path: str = ""

    @property
    def full_resource(self) -> str:
        """As rules name it: `pods`, `pods/log`."""
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


def why_allowed(store: ObjectStore, user: User, request: AccessRequest) -> str | None:
    """Why the user may do it; None if nothing allows it."""
    if MASTERS in user.groups:
        return ""
    for reason, rule in _rules(store, user, request.namespace):
        if _permits(rule, request):
            return reason
    return None


def rules_of(store: ObjectStore, user: User, namespace: str) -> list[Obj]:
    """All rules that apply to a user in a namespace."""
    if MASTERS in user.groups:
        everything: Obj = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}
        return [everything, {"verbs": ["*"], "nonResourceURLs": ["*"]}]
    return [rule for _, rule in _rules(store, user, namespace)]


def refusal(user: User, request: AccessRequest) -> str:
    """Why it is refused, in the words of a real server."""
    if request.path:
        return f'User "{user.name}" cannot {request.verb} path "{request.path}"'
    place = (
        f'in the namespace "{request.namespace}"' if request.namespace else ("at the cluster scope")
    )
    return (
        f'User "{user.name}" cannot {request.verb} resource "{request.full_resource}" in API group '
        f'"{request.group}" {place}'
    )


def _rules(store: ObjectStore, user: User, namespace: str) -> Iterator[tuple[str, Obj]]:
    """(why, rule) of every rule that is bound to the user."""
    for binding in store.items(f"clusterrolebindings.{_GROUP}"):
        yield from _bound(store, user, binding, "")
    if namespace:
        for binding in store.items(f"rolebindings.{_GROUP}", namespace):
            yield from _bound(store, user, binding, namespace)


def _bound(
    store: ObjectStore, user: User, binding: Obj, namespace: str
) -> Iterator[tuple[str, Obj]]:
    subject = next(
        (s for s in binding.get("subjects") or () if _is_meant(s, user, namespace)), None
    )
    reference = binding.get("roleRef") or {}
    if subject is None:
        return
    kind, name = reference.get("kind"), reference.get("name", "")
    home = namespace if kind == "Role" else ""
    plural = f"{'roles' if kind == 'Role' else 'clusterroles'}.{_GROUP}"
    role = store.get(plural, home, name)
    if role is None:
        return
    title = binding["metadata"]["name"]
    where = f"{title}/{namespace}" if namespace else title
    reason = (
        f'RBAC: allowed by {binding["kind"]} "{where}" of {kind} "{name}" to '
        f'{subject["kind"]} "{_subject_name(subject)}"'
    )
    for rule in _role_rules(store, role):
        yield reason, rule


def _role_rules(store: ObjectStore, role: Obj) -> Iterator[Obj]:
    yield from role.get("rules") or ()
    for selector in (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or ():
        for other in store.items(f"clusterroles.{_GROUP}"):
            if other is not role and matches(selector, labels_of(other)):
                yield from other.get("rules") or ()


def _subject_name(subject: Obj) -> str:
    name = str(subject.get("name", ""))
    if subject.get("kind") == "ServiceAccount":
        return f"{name}/{subject.get('namespace', '')}"
    return name


def _is_meant(subject: Obj, user: User, namespace: str) -> bool:
    kind, name = subject.get("kind"), subject.get("name", "")
    if kind == "Group":
        return name in user.groups
    if kind == "ServiceAccount":
        home = subject.get("namespace") or namespace
        return user.name == service_account(home, name).name
    return kind == "User" and name == user.name


def _permits(rule: Obj, request: AccessRequest) -> bool:
    if not _among(request.verb, rule.get("verbs")):
        return False
    if request.path:
        urls = rule.get("nonResourceURLs") or ()
        return any(_covers(url, request.path) for url in urls)
    names = rule.get("resourceNames") or ()
    return (
        _among(request.group, rule.get("apiGroups"))
        and _has_resource(rule, request)
        and (not names or request.name in names)
    )


def _among(value: str, allowed: list[str] | None) -> bool:
    return "*" in (allowed or ()) or value in (allowed or ())


def _has_resource(rule: Obj, request: AccessRequest) -> bool:
    resources = rule.get("resources") or ()
    every = f"*/{request.subresource}"
    return (
        "*" in resources
        or request.full_resource in resources
        or bool(request.subresource and every in resources)
    )


def _covers(url: str, path: str) -> bool:
    return path.startswith(url[:-1]) if url.endswith("*") else url == path
