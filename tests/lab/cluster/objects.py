"""Objects that tests put into the cluster."""

from __future__ import annotations

from typing import Any

NAMESPACE = "claude-enhancer"
DEPLOYMENTS = f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments"
REPLICA_SETS = f"/apis/apps/v1/namespaces/{NAMESPACE}/replicasets"
PODS = f"/api/v1/namespaces/{NAMESPACE}/pods"
SERVICES = f"/api/v1/namespaces/{NAMESPACE}/services"
CONFIG_MAPS = f"/api/v1/namespaces/{NAMESPACE}/configmaps"
EVENTS = f"/api/v1/namespaces/{NAMESPACE}/events"

Obj = dict[str, Any]


def deployment(name: str = "web", *, image: str = "web:1", replicas: int = 2, **spec: Any) -> Obj:
    """A Deployment whose pods carry the label app=NAME."""
    labels = {"app": name}
    pod = {"containers": [{"name": "app", "image": image, "ports": [{"containerPort": 8080}]}]}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
            **spec,
        },
    }


def service(name: str = "web", **spec: Any) -> Obj:
    """A Service in front of the pods with app=NAME."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"selector": {"app": name}, "ports": [{"port": 80, "targetPort": 8080}], **spec},
    }


def config_map(name: str = "settings", **data: str) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "data": data,
    }


def pod(name: str = "postgres-0", *, image: str = "postgres:17", **spec: Any) -> Obj:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": name}},
        "spec": {"containers": [{"name": "app", "image": image}], **spec},
    }


def virtual_service(**weights: int) -> Obj:
    """A VirtualService with one route and these weights by subset."""
    routes = [
        {"destination": {"host": "web", "subset": subset}, "weight": weight}
        for subset, weight in weights.items()
    ]
    return {
        "apiVersion": "networking.istio.io/v1beta1",
        "kind": "VirtualService",
        "metadata": {"name": "traffic", "namespace": NAMESPACE},
        "spec": {"hosts": ["web"], "http": [{"route": routes}]},
    }
