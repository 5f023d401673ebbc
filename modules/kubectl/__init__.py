"""Work on a Kubernetes cluster, in the words of kubectl.

Inventory section (all keys optional; without any, kubectl's own defaults hold: ``KUBECONFIG``,
``~/.kube/config``, or the service account when running in a pod)::

    kubectl:
      context: production          # a context of the kubeconfig; default: its current one
      namespace: claude-enhancer   # where objects are that do not say it themselves
      kubeconfig: ~/.kube/config
      timeout: 30                  # seconds that one answer may take
      verify: true                 # false: TLS certificates are not checked

Instead of a kubeconfig, ``server`` (a URL) with ``token``, ``certificate_authority``,
``client_certificate`` and ``client_key`` (files). A kind is named as in kubectl: ``Deployment``,
``deployments`` or ``deploy``; kinds of custom resources are looked up in the cluster.

Rollouts are watched, not polled, and fail with the pod's own evidence when a new pod cannot get
ready: at once where nothing will mend it (an image that does not exist), after `patience` where it
may mend by itself (a busy registry, a Secret that is yet to come, a container that restarts until
its proxy is up), after `schedule_grace` where no node has room. A cluster that is lost meanwhile is
waited for until the step's time is up.
"""

from __future__ import annotations

from modules.kubectl.containers import exec_, exec_read, logs, top
from modules.kubectl.objects import apply, delete, get, patch, wait
from modules.kubectl.rollouts import rollout_restart, rollout_status, rollout_undo, scale

__all__ = [
    "apply",
    "delete",
    "exec_",
    "exec_read",
    "get",
    "logs",
    "patch",
    "rollout_restart",
    "rollout_status",
    "rollout_undo",
    "scale",
    "top",
    "wait",
]
