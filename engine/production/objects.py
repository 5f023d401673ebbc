"""The production that a lab starts with: version 5.0 serves, 5.1 is known and has no pods.

Objects as they would be in the cluster's repository, with the names and numbers of the real one.
"""

from __future__ import annotations

from typing import Any

from engine.production.agents import agent_configs
from engine.production.names import (
    AGENTS_CONFIGMAP,
    BLUE,
    CANARY_HEADER,
    CANARY_VERSION,
    DESTINATION_RULE,
    GREEN,
    HOST,
    IMAGE,
    NAMESPACE,
    SERVICE,
    STABLE_VERSION,
    VIRTUAL_SERVICE,
)


def production(blue_replicas: int) -> list[dict[str, Any]]:
    """The objects, in the order in which they are to be created."""
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        _object("v1", "ConfigMap", AGENTS_CONFIGMAP, data=agent_configs()),
        _data_pod("postgres", "postgres:17"),
        _data_pod("redis", "redis:7"),
        _deployment(BLUE, STABLE_VERSION, blue_replicas),
        _deployment(GREEN, CANARY_VERSION, 0),
        _service(),
        _destination_rule(),
        _virtual_service(),
    ]


def _object(api: str, kind: str, name: str, **rest: Any) -> dict[str, Any]:
    return {
        "apiVersion": api,
        "kind": kind,
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"app": "claude-enhancer"}},
        **rest,
    }


def _deployment(name: str, version: str, replicas: int) -> dict[str, Any]:
    labels = {"app": "claude-enhancer", "version": version}
    colour = {"slot": name.rpartition("-")[2]}
    return _object(
        "apps/v1",
        "Deployment",
        name,
        spec={
            "replicas": replicas,
            "selector": {"matchLabels": labels | colour},
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0},
            },
            "template": {
                "metadata": {"labels": labels | colour},
                "spec": {"containers": [_container(version)], "terminationGracePeriodSeconds": 30},
            },
        },
    )


def _container(version: str) -> dict[str, Any]:
    def probe(path: str, delay: int, period: int) -> dict[str, Any]:
        get = {"path": path, "port": 8080}
        return {"httpGet": get, "initialDelaySeconds": delay, "periodSeconds": period}

    return {
        "name": "claude-enhancer",
        "image": f"{IMAGE}:{version}",
        "ports": [
            {"name": "http", "containerPort": 8080},
            {"name": "metrics", "containerPort": 9090},
            {"name": "agents", "containerPort": 9091},
            {"name": "workflow", "containerPort": 9092},
        ],
        "env": [
            {"name": "CLAUDE_MODE", "value": "production"},
            {"name": "AGENT_COUNT", "value": "61"},
            {"name": "PHASE_COUNT", "value": "8"},
        ],
        "resources": {
            "requests": {"cpu": "1000m", "memory": "2Gi"},
            "limits": {"cpu": "2000m", "memory": "4Gi"},
        },
        "livenessProbe": probe("/health", 30, 10),
        "readinessProbe": probe("/ready", 5, 5),
    }


def _data_pod(name: str, image: str) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"{name}-0", "namespace": NAMESPACE, "labels": {"app": name}},
        "spec": {"containers": [{"name": name, "image": image}]},
    }


def _service() -> dict[str, Any]:
    return _object(
        "v1",
        "Service",
        SERVICE,
        spec={
            "selector": {"app": "claude-enhancer", "version": STABLE_VERSION},
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
        },
    )


def _destination_rule() -> dict[str, Any]:
    subsets = [
        {"name": "stable", "labels": {"version": STABLE_VERSION}},
        {"name": "canary", "labels": {"version": CANARY_VERSION}},
    ]
    spec = {"host": SERVICE, "subsets": subsets}
    return _object("networking.istio.io/v1beta1", "DestinationRule", DESTINATION_RULE, spec=spec)


def _virtual_service() -> dict[str, Any]:
    def to(subset: str, weight: int) -> dict[str, Any]:
        return {"destination": {"host": SERVICE, "subset": subset}, "weight": weight}

    spec = {
        "hosts": [HOST],
        "http": [
            {
                "match": [{"headers": {CANARY_HEADER: {"exact": "true"}}}],
                "route": [{"destination": {"host": SERVICE, "subset": "canary"}}],
            },
            {"route": [to("stable", 100), to("canary", 0)]},
        ],
    }
    return _object("networking.istio.io/v1beta1", "VirtualService", VIRTUAL_SERVICE, spec=spec)
