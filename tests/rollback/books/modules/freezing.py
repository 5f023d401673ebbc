"""An action whose process is stopped inside the fence, right before its request."""

from __future__ import annotations

import os
import signal

from engine.module_api import Context, Result, action


@action(effect="idempotent")
def request(ctx: Context) -> Result:
    """Stop this process; once it is woken, ask the cluster to delete a ConfigMap."""
    from modules._kube import api as kube_api

    cluster = kube_api.cluster(ctx)
    with ctx.fence():
        os.kill(os.getpid(), signal.SIGSTOP)
        cluster.send(ctx, "DELETE", "/api/v1/namespaces/claude-enhancer/configmaps/written")
    return Result(changed=True)
