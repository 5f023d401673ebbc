"""The emergency rollback beside the shell script that it replaces, in the lab under its load.

Both do the same calls (`rollback.sh` with kubectl and curl) from the same beginning: 5.1 serves
everybody. They take turns. What counts is what an observer of the lab sees: the Service's
selector in the Kubernetes API's own record of requests, the weights of edge and mesh at HAProxy.
Left out where there is no kubectl. Run it alone: ``python -m benchmarks.rollback``.
"""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.figures import Figure
from engine.lab import control
from engine.lab.layout import LabInfo, Layout
from engine.production.names import SERVICE

ROOT = Path(__file__).resolve().parent.parent
CE_RUN = Path(sys.executable).with_name("ce-run")
PATH = os.pathsep.join((str(CE_RUN.parent), os.environ.get("PATH", "")))
"""Where the script's kubectl is: the `test` extra installs one beside ce-run."""
PAIRS = 3
LOOK_EVERY = 0.02
INVENTORY = "inventories/lab.yml"
LAB = ("-i", INVENTORY)


class Taken(NamedTuple):
    """Seconds from the command to all traffic on 5.0, and to its end."""

    traffic: float
    total: float


def rollback() -> list[Figure]:
    """Both rollbacks in turns, medians; nothing where no kubectl is installed."""
    if not all(shutil.which(program, path=PATH) for program in ("kubectl", "curl")):
        return []
    with tempfile.TemporaryDirectory() as name:
        state = Path(name, "state")
        info = control.up(state)
        try:
            taken = [(_ce_run(state), _script(state, info)) for _ in range(PAIRS)]
        finally:
            control.down(state)
    return [
        Figure(
            f"emergency rollback, {what}",
            statistics.median(getattr(ours, field) for ours, _ in taken),
            statistics.median(getattr(theirs, field) for _, theirs in taken),
            1.0,
            "rollback.sh: kubectl, curl",
        )
        for what, field in (("all traffic on 5.0", "traffic"), ("in all", "total"))
    ]


def _same_calls() -> dict[str, Any]:
    """Variables for a rollback that does what the script does: it reads the metrics once, where
    the runbook watches 5.0 for a while, and a busy machine's latency is not what is measured."""
    import yaml

    given = yaml.safe_load((ROOT / INVENTORY).read_text(encoding="utf-8"))["vars"]
    return {
        "times": {**given["times"], "recovered": "0s"},
        "after_rollback": {"error_rate": "< 1 %", "p95": "< 90000 ms"},
    }


def _ce_run(state: Path) -> Taken:
    same = ("-e", json.dumps(_same_calls()))
    command = [str(CE_RUN), "runbooks/emergency-rollback.yml", *LAB, *same, "--force"]
    return _measure(state, [*command, "--reason", "benchmark"], {"CE_RUN_STATE": str(state)})


def _script(state: Path, info: LabInfo) -> Taken:
    with tempfile.TemporaryDirectory() as work:
        where = {
            "PATH": PATH,
            "KUBECONFIG": info.kubeconfig,
            "NAMESPACE": info.namespace,
            "APP_URL": info.app_url,
            "HAPROXY": info.haproxy_address,
            "METRICS_URL": info.metrics_url,
            "SLACK_URL": info.slack_url,
            "PAGERDUTY_URL": info.pagerduty_url,
            "STATUSPAGE_URL": info.statuspage_url,
            "WEBHOOK_URL": info.webhook_url,
            "SMTP": f"{info.smtp_host}:{info.smtp_port}",
            "WORK": work,
        }
        return _measure(state, ["sh", "benchmarks/rollback.sh"], where)


def _measure(state: Path, command: list[str], environment: dict[str, str]) -> Taken:
    """Roll back from 5.1 with a command, watched from outside."""
    _forward(state)
    known = len(Layout(state).requests.read_bytes().splitlines())
    with _Weights(state) as weights:
        begun = time.time()
        _call(command, environment)
        total = time.time() - begun
    selected = _selected(state, known)
    return Taken(max(selected, weights.since()) - begun, total)


def _forward(state: Path) -> None:
    command = [str(CE_RUN), "benchmarks/forward.yml", *LAB, "--yes"]
    _call(command, {"CE_RUN_STATE": str(state)})


def _call(command: list[str], environment: dict[str, str]) -> None:
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, **environment},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}")


def _selected(state: Path, known: int) -> float:
    """When the Service was changed, by the API's own record."""
    import msgspec

    for line in Layout(state).requests.read_bytes().splitlines()[known:]:
        request = msgspec.json.decode(line)
        if request["method"] == "PATCH" and f"/services/{SERVICE}" in request["path"]:
            return datetime.fromisoformat(request["time"]).timestamp()
    raise SystemExit("the Service was not changed")


class _Weights:
    """Looks at the weights of edge and mesh all the time, as a context."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._with_5_1: list[float] = []
        self._without: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._look, name="weights")

    def _look(self) -> None:
        while not self._over.wait(LOOK_EVERY):
            self.look()

    def look(self) -> None:
        weights = control.status(self._state).weights.values()
        now = time.time()  # afterwards: what was seen was so by then
        (self._with_5_1 if any(each["canary"] for each in weights) else self._without).append(now)

    def since(self) -> float:
        """When it was first seen that they gave 5.1 nothing any more."""
        last = max(self._with_5_1, default=0.0)
        after = [moment for moment in self._without if moment > last]
        if not after:
            raise SystemExit("edge or mesh still lead to 5.1")
        return after[0]

    def __enter__(self) -> _Weights:
        self.look()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()
        self.look()


ALL: tuple[Callable[[], list[Figure]], ...] = (rollback,)

if __name__ == "__main__":
    for figure in rollback():
        print(figure)
