"""A Kubernetes API server for the lab: real enough for kubectl, in one process.

It answers as the recorded answers of a real server do (tests/lab/cluster/transcripts): objects with
resourceVersions, server-side apply, the patch types, watches, custom resources, Deployments that
roll out, pods that start, crash and back off. All that is `engine.production.cluster`; here it gets
HTTP, TLS and real time. What runs inside the pods is somebody else's: see
`node.runtime.NodeRuntime`.
"""

from engine.lab.cluster.api.requestlog import RequestRecord
from engine.lab.cluster.api.server import KubeServer, ServerSettings
from engine.lab.cluster.node.runtime import ExecResult, NodeRuntime
from engine.production.cluster.objects.common import Obj
from engine.production.cluster.objects.refusals import ApiError
from engine.production.cluster.objects.store import Change
from engine.production.cluster.runtime import PodReport, Usage

__all__ = [
    "ApiError",
    "Change",
    "ExecResult",
    "KubeServer",
    "NodeRuntime",
    "Obj",
    "PodReport",
    "RequestRecord",
    "ServerSettings",
    "Usage",
]
