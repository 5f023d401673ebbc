"""What a server fills in: the defaults of the API, and what it sets itself on creation.

`apply_defaults` runs before ownership is reckoned, so a creator owns the defaults it accepted;
`prepare` runs after it, so nobody owns what the server allots (addresses, phases, finalizers).
All functions here change the object they are given; it is a fresh copy.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any

from engine.production.cluster.objects.common import Obj

Setter = Callable[[Obj], None]


def _merge_missing(target: Obj, **values: Any) -> None:
    for name, value in values.items():
        target.setdefault(name, value)


def _pull_policy(image: str) -> str:
    name = image.rpartition("/")[2]
    if "@" in name:
        return "IfNotPresent"
    _, colon, tag = name.partition(":")
    return "Always" if not colon or tag == "latest" else "IfNotPresent"


def _default_probe(probe: Obj | None) -> None:
    if probe is None:
        return
    _merge_missing(
        probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3
    )
    if "httpGet" in probe:
        _merge_missing(probe["httpGet"], path="/", scheme="HTTP")
    if "grpc" in probe:
        _merge_missing(probe["grpc"], service="")


def _default_container(container: Obj) -> None:
    for port in container.get("ports") or ():
        _merge_missing(port, protocol="TCP")
    for variable in container.get("env") or ():
        source = variable.get("valueFrom") or {}
        if "fieldRef" in source:
            _merge_missing(source["fieldRef"], apiVersion="v1")
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        _default_probe(container.get(probe))
    for hook in (container.get("lifecycle") or {}).values():
        if isinstance(hook, dict) and "httpGet" in hook:
            _merge_missing(hook["httpGet"], path="/", scheme="HTTP")
    _merge_missing(
        container,
        resources={},
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
        imagePullPolicy=_pull_policy(container.get("image", "")),
    )


def _default_volume(volume: Obj) -> None:
    if set(volume) <= {"name"}:
        volume["emptyDir"] = {}
    for source in ("configMap", "secret", "projected", "downwardAPI"):
        if source in volume:
            _merge_missing(volume[source], defaultMode=0o644)
    if "hostPath" in volume:
        _merge_missing(volume["hostPath"], type="")


def _default_pod_spec(spec: Obj) -> None:
    for container in [*(spec.get("initContainers") or ()), *(spec.get("containers") or ())]:
        _default_container(container)
    for volume in spec.get("volumes") or ():
        _default_volume(volume)
    _merge_missing(
        spec,
        restartPolicy="Always",
        terminationGracePeriodSeconds=30,
        dnsPolicy="ClusterFirst",
        securityContext={},
        schedulerName="default-scheduler",
    )
    if "serviceAccountName" in spec:
        _merge_missing(spec, serviceAccount=spec["serviceAccountName"])


def _default_template(obj: Obj) -> None:
    template = obj.setdefault("spec", {}).setdefault("template", {})
    template.setdefault("metadata", {})
    _default_pod_spec(template.setdefault("spec", {}))


def _default_deployment(obj: Obj) -> None:
    _default_template(obj)
    spec = obj["spec"]
    strategy = spec.setdefault("strategy", {})
    _merge_missing(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        rolling = strategy.setdefault("rollingUpdate", {})
        _merge_missing(rolling, maxUnavailable="25%", maxSurge="25%")
    _merge_missing(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600)


def _default_replica_set(obj: Obj) -> None:
    _default_template(obj)
    _merge_missing(obj["spec"], replicas=1)


def _default_stateful_set(obj: Obj) -> None:
    _default_template(obj)
    spec = obj["spec"]
    strategy = spec.setdefault("updateStrategy", {})
    _merge_missing(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _merge_missing(strategy.setdefault("rollingUpdate", {}), partition=0)
    _merge_missing(spec, replicas=1, revisionHistoryLimit=10, podManagementPolicy="OrderedReady")
    _merge_missing(
        spec, persistentVolumeClaimRetentionPolicy={"whenDeleted": "Retain", "whenScaled": "Retain"}
    )
    for claim in spec.get("volumeClaimTemplates") or ():
        claim.setdefault("status", {}).setdefault("phase", "Pending")
        _merge_missing(claim, apiVersion="v1", kind="PersistentVolumeClaim")
        claim.setdefault("spec", {}).setdefault("volumeMode", "Filesystem")


def _default_daemon_set(obj: Obj) -> None:
    _default_template(obj)
    strategy = obj["spec"].setdefault("updateStrategy", {})
    _merge_missing(strategy, type="RollingUpdate")
    if strategy["type"] == "RollingUpdate":
        _merge_missing(strategy.setdefault("rollingUpdate", {}), maxSurge=0, maxUnavailable=1)
    _merge_missing(obj["spec"], revisionHistoryLimit=10)


def _default_job(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    _default_template(obj)
    if "completions" not in spec and "parallelism" not in spec:
        spec |= {"completions": 1, "parallelism": 1}
    _merge_missing(
        spec,
        parallelism=1,
        backoffLimit=6,
        completionMode="NonIndexed",
        suspend=False,
        manualSelector=False,
        podReplacementPolicy="TerminatingOrFailed",
    )


def _default_pod(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    _default_pod_spec(spec)
    _merge_missing(spec, enableServiceLinks=True)
    for container in spec.get("containers") or ():
        limits = container["resources"].get("limits")
        if limits:
            requests = container["resources"].setdefault("requests", {})
            _merge_missing(requests, **limits)


def _default_service(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    _merge_missing(spec, type="ClusterIP", sessionAffinity="None")
    if spec["type"] != "ExternalName":
        _merge_missing(spec, internalTrafficPolicy="Cluster")
    if spec["type"] in ("NodePort", "LoadBalancer"):
        _merge_missing(spec, externalTrafficPolicy="Cluster")
    if spec["sessionAffinity"] == "ClientIP":
        config = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        _merge_missing(config, timeoutSeconds=10800)
    for port in spec.get("ports") or ():
        _merge_missing(port, protocol="TCP")
        if "port" in port:
            _merge_missing(port, targetPort=port["port"])


def _default_secret(obj: Obj) -> None:
    _merge_missing(obj, type="Opaque")
    plain = obj.pop("stringData", None)
    if plain:
        encoded = {name: b64encode(value.encode()).decode() for name, value in plain.items()}
        obj["data"] = {**(obj.get("data") or {}), **encoded}


def _default_namespace(obj: Obj) -> None:
    labels = obj["metadata"].setdefault("labels", {})
    if "name" in obj["metadata"]:
        labels["kubernetes.io/metadata.name"] = obj["metadata"]["name"]
    if not labels:
        del obj["metadata"]["labels"]


def _default_definition(obj: Obj) -> None:
    spec = obj.setdefault("spec", {})
    names = spec.setdefault("names", {})
    if "kind" in names:
        _merge_missing(names, singular=names["kind"].lower(), listKind=f"{names['kind']}List")
    spec.setdefault("conversion", {}).setdefault("strategy", "None")


_DEFAULTS: dict[str, Setter] = {
    "deployments.apps": _default_deployment,
    "replicasets.apps": _default_replica_set,
    "statefulsets.apps": _default_stateful_set,
    "daemonsets.apps": _default_daemon_set,
    "jobs.batch": _default_job,
    "pods": _default_pod,
    "services": _default_service,
    "secrets": _default_secret,
    "namespaces": _default_namespace,
    "customresourcedefinitions.apiextensions.k8s.io": _default_definition,
}


def apply_defaults(resource: str, obj: Obj) -> None:
    """Fill in the defaults of the API for an object of `resource` (a store key)."""
    setter = _DEFAULTS.get(resource)
    if setter is not None:
        setter(obj)


_INITIAL_STATUS: dict[str, Obj] = {
    "deployments.apps": {},
    "replicasets.apps": {"replicas": 0},
    "statefulsets.apps": {"replicas": 0, "availableReplicas": 0},
    "daemonsets.apps": {
        "currentNumberScheduled": 0,
        "numberMisscheduled": 0,
        "desiredNumberScheduled": 0,
        "numberReady": 0,
    },
    "jobs.batch": {},
    "resourcequotas": {},
    "services": {"loadBalancer": {}},
    "namespaces": {"phase": "Active"},
    "ingresses.networking.k8s.io": {"loadBalancer": {}},
}

_NOT_READY_TOLERATIONS = [
    {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}
    for key in ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
]


def _quality_of_service(spec: Obj) -> str:
    """Guaranteed, Burstable or BestEffort, from the containers' requests and limits."""
    resources = [c["resources"] for c in spec.get("containers") or ()]
    if not any(r.get("requests") or r.get("limits") for r in resources):
        return "BestEffort"
    fixed = all(
        set(r.get("limits") or ()) >= {"cpu", "memory"}
        and all(r["limits"].get(n) == v for n, v in (r.get("requests") or {}).items())
        for r in resources
    )
    return "Guaranteed" if fixed else "Burstable"


def _select_by_uid(job: Obj) -> None:
    """A Job's pods are known by its uid, so that they are nobody else's."""
    uid, name = job["metadata"]["uid"], job["metadata"].get("name", "")
    labels = {
        "batch.kubernetes.io/controller-uid": uid,
        "batch.kubernetes.io/job-name": name,
        "controller-uid": uid,
        "job-name": name,
    }
    for metadata in (job["metadata"], job["spec"]["template"]["metadata"]):
        metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
    key = "batch.kubernetes.io/controller-uid"
    job["spec"]["selector"] = {"matchLabels": {key: uid}}


def prepare(resource: str, obj: Obj) -> None:
    """What the server sets on an object that is about to be created, owned by nobody."""
    if resource in _INITIAL_STATUS:
        obj["status"] = dict(_INITIAL_STATUS[resource])
    if resource == "namespaces":
        obj.setdefault("spec", {})["finalizers"] = ["kubernetes"]
    elif resource == "pods":
        spec = obj["spec"]
        spec["tolerations"] = [*(spec.get("tolerations") or ()), *_NOT_READY_TOLERATIONS]
        _merge_missing(spec, priority=0, preemptionPolicy="PreemptLowerPriority")
        obj["status"] = {"phase": "Pending", "qosClass": _quality_of_service(spec)}
    elif resource == "jobs.batch" and not obj["spec"].get("manualSelector"):
        _select_by_uid(obj)
    elif resource == "daemonsets.apps":
        annotations = obj["metadata"].setdefault("annotations", {})
        annotations["deprecated.daemonset.template.generation"] = "1"
    elif resource == "events":
        _merge_missing(obj, eventTime=None, reportingComponent="", reportingInstance="")
    elif resource == "customresourcedefinitions.apiextensions.k8s.io":
        stored = [v["name"] for v in obj["spec"].get("versions") or () if v.get("storage")]
        obj["status"] = {
            "conditions": None,
            "acceptedNames": {"plural": "", "kind": ""},
            "storedVersions": stored,
        }


_TEMPLATE: Obj = {"metadata": {}, "spec": {"containers": None}}

_BLANKS: dict[str, Obj] = {
    "deployments.apps": {
        "metadata": {},
        "spec": {"selector": None, "template": _TEMPLATE, "strategy": {}},
        "status": {},
    },
    "replicasets.apps": {
        "metadata": {},
        "spec": {"selector": None, "template": _TEMPLATE},
        "status": {"replicas": 0},
    },
    "statefulsets.apps": {
        "metadata": {},
        "spec": {"selector": None, "template": _TEMPLATE, "serviceName": "", "updateStrategy": {}},
        "status": {"replicas": 0, "availableReplicas": 0},
    },
    "daemonsets.apps": {
        "metadata": {},
        "spec": {"selector": None, "template": _TEMPLATE, "updateStrategy": {}},
        "status": {},
    },
    "jobs.batch": {"metadata": {}, "spec": {"template": _TEMPLATE}, "status": {}},
    "pods": {"metadata": {}, "spec": {"containers": None}, "status": {}},
    "services": {"metadata": {}, "spec": {}, "status": {"loadBalancer": {}}},
    "namespaces": {"metadata": {}, "spec": {}, "status": {}},
    "nodes": {"metadata": {}, "spec": {}, "status": {}},
    "events": {
        "metadata": {},
        "involvedObject": {},
        "source": {},
        "firstTimestamp": None,
        "lastTimestamp": None,
        "eventTime": None,
        "reportingComponent": "",
        "reportingInstance": "",
    },
    "customresourcedefinitions.apiextensions.k8s.io": {
        "metadata": {},
        "spec": {
            "group": "",
            "names": {"plural": "", "kind": ""},
            "scope": "",
            "versions": None,
        },
        "status": {},
    },
    "horizontalpodautoscalers.autoscaling": {
        "metadata": {},
        "spec": {"scaleTargetRef": {}, "maxReplicas": 0},
        "status": {},
    },
    "endpointslices.discovery.k8s.io": {
        "metadata": {},
        "endpoints": None,
        "ports": None,
        "addressType": "",
    },
}

_ORDINARY: Obj = {"metadata": {}, "spec": {}, "status": {}}
_NOTHING: Obj = {"metadata": {}}


def blank(resource: str, *, custom: bool) -> Obj:
    """The object before its creation, against which its creator's fields are reckoned.

    Parts that a built-in type always has are there already and therefore nobody's.
    """
    return _BLANKS.get(resource) or (_NOTHING if custom else _ORDINARY)
