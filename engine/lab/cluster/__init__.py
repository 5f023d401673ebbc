"""A Kubernetes API server for the lab: real enough for kubectl, in one process, without a cluster.

It answers as the recorded answers of a real server do (tests/lab/cluster/transcripts): objects with
resourceVersions, server-side apply, the patch types, watches, custom resources, Deployments that
roll out, pods that start, crash and back off. What runs inside the pods is somebody else's: see
`runtime.PodRuntime`.
"""

from engine.lab.cluster.api.requestlog import RequestRecord
from engine.lab.cluster.api.server import KubeServer
from engine.lab.cluster.node.runtime import ExecResult, PodReport, PodRuntime, Usage
from engine.lab.cluster.objects.common import Obj
from engine.lab.cluster.objects.refusals import ApiError
from engine.lab.cluster.objects.store import Change

__all__ = [
    "ApiError",
    "Change",
    "ExecResult",
    "KubeServer",
    "Obj",
    "PodReport",
    "PodRuntime",
    "RequestRecord",
    "Usage",
]
