"""The lab: a small production on loopback that runbooks are rehearsed against for real.

Real PostgreSQL, real HAProxy, real processes that answer real HTTP; a Kubernetes API written
here (`engine.lab.cluster`). One *supervisor* process owns everything:

::

    load.py ──┬─▶ HAProxy edge ─┐                    ┌▶ claude_stable ─▶ pods the Service selects
    (users)   └─▶ HAProxy mesh ─┴▶ split by weights ─┴▶ claude_canary ─▶ ready pods of 5.1
    Kubernetes API ──▶ kubelet.py ──▶ zygote.py ──▶ app.py (a process a pod) ──▶ PostgreSQL
          └──────────▶ dataplane.py ──▶ HAProxy runtime API

`control.py` is the way in for the command line; `processes/supervisor.py` is the process that it
starts. The folders are what they stand for: `application`, `balancers`, `cluster`, `databases`,
`images`, `monitoring`, `people` (the users' load, the team's inbox) and `processes`.
Everything that a lab writes lies below `<state>/lab/`, everything that it runs dies with its
supervisor.
"""
