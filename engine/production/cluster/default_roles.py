"""The roles and bindings that every cluster has, as far as people use them."""

from __future__ import annotations

from engine.production.cluster.authorization import AUTHENTICATED, MASTERS
from engine.production.cluster.objects.common import Obj

_RBAC = "rbac.authorization.k8s.io"
_READ = ["get", "list", "watch"]
_WRITE = ["create", "delete", "deletecollection", "patch", "update"]
_CORE = [
    "configmaps",
    "endpoints",
    "events",
    "persistentvolumeclaims",
    "pods",
    "pods/log",
    "pods/status",
    "replicationcontrollers",
    "resourcequotas",
    "serviceaccounts",
    "services",
]
_APPS = [
    "daemonsets",
    "deployments",
    "deployments/scale",
    "replicasets",
    "replicasets/scale",
    "statefulsets",
    "statefulsets/scale",
]
_OTHERS = [
    ("apps", _APPS),
    ("autoscaling", ["horizontalpodautoscalers"]),
    ("batch", ["cronjobs", "jobs"]),
    ("networking.k8s.io", ["ingresses", "networkpolicies"]),
    ("policy", ["poddisruptionbudgets"]),
    ("discovery.k8s.io", ["endpointslices"]),
]


def _rule(group: str, resources: list[str], verbs: list[str]) -> Obj:
    return {"apiGroups": [group], "resources": resources, "verbs": verbs}


def _view() -> list[Obj]:
    rules = [_rule("", [*_CORE, "namespaces"], _READ)]
    return rules + [_rule(group, resources, _READ) for group, resources in _OTHERS]


def _edit() -> list[Obj]:
    entering = ["pods/attach", "pods/exec", "pods/portforward", "pods/proxy", "secrets"]
    own = [name for name in _CORE if name not in ("events", "resourcequotas")]
    rules = [
        _rule("", entering, _READ + _WRITE),
        _rule("", own, _WRITE),
        _rule("", ["pods/eviction", "serviceaccounts/token"], ["create"]),
    ]
    return _view() + rules + [_rule(group, resources, _WRITE) for group, resources in _OTHERS]


def _admin() -> list[Obj]:
    return [*_edit(), _rule(_RBAC, ["rolebindings", "roles"], _READ + _WRITE)]


def default_roles() -> list[tuple[str, Obj]]:
    """(resource, object) of the ClusterRoles and their bindings, in the order of creation."""
    everything = _rule("*", ["*"], ["*"])
    roles: dict[str, list[Obj]] = {
        "cluster-admin": [everything, {"nonResourceURLs": ["*"], "verbs": ["*"]}],
        "admin": _admin(),
        "edit": _edit(),
        "view": _view(),
        "system:basic-user": [
            _rule("authorization.k8s.io", ["selfsubjectaccessreviews"], ["create"]),
            _rule("authorization.k8s.io", ["selfsubjectrulesreviews"], ["create"]),
            _rule("authentication.k8s.io", ["selfsubjectreviews"], ["create"]),
        ],
        "system:discovery": [
            {"nonResourceURLs": ["/api", "/api/*", "/apis", "/apis/*"], "verbs": ["get"]},
            {"nonResourceURLs": ["/openapi", "/openapi/*", "/version"], "verbs": ["get"]},
        ],
    }
    bindings = [
        ("cluster-admin", MASTERS),
        ("system:basic-user", AUTHENTICATED),
        ("system:discovery", AUTHENTICATED),
    ]
    return [
        *(
            (f"clusterroles.{_RBAC}", {"metadata": {"name": name}, "rules": rules})
            for name, rules in roles.items()
        ),
        *((f"clusterrolebindings.{_RBAC}", _binding(role, group)) for role, group in bindings),
    ]


def _binding(role: str, group: str) -> Obj:
    return {
        "metadata": {"name": role},
        "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
        "subjects": [{"apiGroup": _RBAC, "kind": "Group", "name": group}],
    }
