"""What it costs to start ce-run: whole processes against ``python -c "import click"``.

Every figure is the median over pairs: the command and its floor take turns, so that both see the
same machine. Run it alone: ``python -m benchmarks.processes``.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.figures import Figure

ROOT = Path(__file__).resolve().parent.parent
CE_RUN = Path(sys.executable).with_name("ce-run")
PAIRS = 15
SHELL_STEPS = 200
FIRST_REQUEST_SECONDS = 0.6
DEPLOY_AGAIN_SECONDS = 2.0


def seconds(command: list[str]) -> float:
    """How long a process takes from start to end; raises if it fails."""
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=ROOT)
    return time.perf_counter() - start


def paired(
    work: Callable[[], float], floor: Callable[[], float], pairs: int
) -> tuple[float, float]:
    """Medians of both after a warm-up, taken in turns."""
    work(), floor()
    taken = [(work(), floor()) for _ in range(pairs)]
    return statistics.median(a for a, _ in taken), statistics.median(b for _, b in taken)


def import_click() -> float:
    """The floor: an interpreter that imports click."""
    return seconds([sys.executable, "-c", "import click"])


def start_up() -> list[Figure]:
    """``--version`` and ``validate`` against the floor."""
    version, floor = paired(lambda: seconds([str(CE_RUN), "--version"]), import_click, PAIRS)
    command = [str(CE_RUN), "validate", "runbooks/deploy-5.1.yml"]
    validate, floor_too = paired(lambda: seconds(command), import_click, PAIRS)
    return [
        Figure("ce-run --version", version, floor, 1.5, "python -c 'import click'"),
        Figure("ce-run validate deploy-5.1.yml", validate, floor_too, 5.0, "the same"),
    ]


def shell_steps() -> list[Figure]:
    """200 steps ``shell: true`` against 200 bare ``subprocess.run``; per step, engine only.

    The time of the run is taken from its own journal: from its first event to its last, so the
    start of the process is not counted (it is a figure of its own).
    """
    with tempfile.TemporaryDirectory() as folder:
        book = Path(folder, "shells.yml")
        lines = [f"  - {{id: s{number}, shell: true}}" for number in range(SHELL_STEPS)]
        book.write_text("name: Shells\nsteps:\n" + "\n".join(lines) + "\n")

        def run() -> float:
            from engine.store.files import FileStore

            state = Path(folder, "state")
            seconds([str(CE_RUN), str(book), "--state", str(state)])
            records = FileStore(state).find("last").records()
            return records[-1].time - records[0].time

        def bare() -> float:
            start = time.perf_counter()
            for _ in range(SHELL_STEPS):
                subprocess.run("true", shell=True, check=True, capture_output=True)
            return time.perf_counter() - start

        work, floor = paired(run, bare, 5)
    return [Figure("200 × shell: true", work, floor, 1.5, "200 × subprocess.run")]


def shell_chain() -> list[Figure]:
    """The same 200 steps through the command line, whole process, against chaostoolkit, which keeps
    no journal; nothing where that is not installed (``pip install chaostoolkit``)."""
    chaos = Path(sys.executable).with_name("chaos")
    if not chaos.exists():
        return []
    with tempfile.TemporaryDirectory() as folder:
        book, experiment = Path(folder, "shells.yml"), Path(folder, "shells.json")
        lines = [f"  - {{id: s{number}, shell: true}}" for number in range(SHELL_STEPS)]
        book.write_text("name: Shells\nsteps:\n" + "\n".join(lines) + "\n")
        action = {"type": "process", "path": "true"}
        method = [
            {"type": "action", "name": f"s{number}", "provider": action}
            for number in range(SHELL_STEPS)
        ]
        document = {"title": "Shells", "description": "200 commands", "method": method}
        experiment.write_text(json.dumps(document))
        own = [str(CE_RUN), str(book), "--state", f"{folder}/state"]
        other = [str(chaos), "--no-version-check", "--log-file", f"{folder}/log", "run"]
        other += ["--journal-path", f"{folder}/journal.json", str(experiment)]
        other = ["sh", "-c", f"exec {shlex.join(other)} 2>/dev/null"]  # it logs each action there
        work, floor = paired(lambda: seconds(own), lambda: seconds(other), 5)
    return [Figure("200 × shell: true, whole process", work, floor, 0.9, "chaostoolkit")]


def first_request() -> list[Figure]:
    """From the start of ``emergency-rollback.yml --force`` to its first connection at the API."""
    taken = [_until_first_request() for _ in range(7)]
    return [
        Figure(
            "emergency-rollback --force, first request",
            statistics.median(taken),
            1.0,
            FIRST_REQUEST_SECONDS,
            "1 s",
        )
    ]


def deploy_again() -> list[Figure]:
    """From ``make deploy`` to the first line of the run, where one has been made before."""
    with tempfile.TemporaryDirectory() as state:
        words = ["make", "-s", "deploy", f"STATE={state}", f"VENV={CE_RUN.parent.parent}"]
        try:
            _until_the_run_begins(words)
            taken = [_until_the_run_begins(words) for _ in range(3)]
        finally:
            seconds([str(CE_RUN), "lab", "down", "--state", state])
    what = "make deploy again, until the run begins"
    return [Figure(what, statistics.median(taken), 1.0, DEPLOY_AGAIN_SECONDS, "1 s")]


def _until_the_run_begins(words: list[str]) -> float:
    start = time.perf_counter()
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if " · run " in line:
                return time.perf_counter() - start
        raise SystemExit("make deploy ended without a run")
    finally:
        os.killpg(process.pid, signal.SIGINT)
        process.stdout.read()
        process.wait()


def _until_first_request() -> float:
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as door:
        port = door.getsockname()[1]
        kubeconfig = Path(folder, "kubeconfig")
        kubeconfig.write_text(_KUBECONFIG.format(port=port))
        inventory = Path(folder, "inventory.yml")
        text = (ROOT / "inventories" / "production.yml").read_text()
        inventory.write_text(_point_at(text, kubeconfig))
        arrived: list[float] = []

        def listen() -> None:
            door.accept()[0].close()
            arrived.append(time.perf_counter())

        threading.Thread(target=listen, daemon=True).start()
        start = time.perf_counter()
        process = subprocess.Popen(
            [
                *(str(CE_RUN), "runbooks/emergency-rollback.yml", "--force"),
                *("-i", str(inventory), "--state", f"{folder}/state"),
            ],
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "KUBECONFIG": str(kubeconfig)},
        )
        try:
            while not arrived and process.poll() is None:
                time.sleep(0.002)
        finally:
            process.kill()
            process.wait()
    if not arrived:
        raise SystemExit("the rollback ended without a request at the cluster")
    return arrived[0] - start


def _point_at(inventory: str, kubeconfig: Path) -> str:
    """The production inventory with its cluster replaced by the one in `kubeconfig`."""
    import yaml

    parsed = yaml.safe_load(inventory)
    parsed["kubectl"] = {"kubeconfig": str(kubeconfig), "namespace": "claude-enhancer"}
    return yaml.safe_dump(parsed, sort_keys=False)


_KUBECONFIG = """
apiVersion: v1
kind: Config
current-context: here
contexts: [{{name: here, context: {{cluster: here, user: me}}}}]
clusters: [{{name: here, cluster: {{server: "http://127.0.0.1:{port}"}}}}]
users: [{{name: me, user: {{}}}}]
"""

ALL: tuple[Callable[[], list[Figure]], ...] = (
    start_up,
    shell_steps,
    shell_chain,
    first_request,
    deploy_again,
)

if __name__ == "__main__":
    for measure in ALL:
        for figure in measure():
            print(figure)
