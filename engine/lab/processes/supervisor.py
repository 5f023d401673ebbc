"""The process that is a lab: starts what must come first, forks what forks, runs the rest.

::

    python -m engine.lab.processes.supervisor STATE NEWS

STATE is the state folder, NEWS a descriptor on which one line tells how the start went. PostgreSQL
starts while Python still imports; the zygote of the pods and the load are forked before there is an
event loop; then `lab.py` runs. The supervisor holds a lock on its folder from start to end, and
everything that it started dies with it, even if it is killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from engine.clock import look_until
from engine.errors import CeRunError, LabError
from engine.lab.clock import CLOCK
from engine.lab.databases.postgres import Postgres
from engine.lab.layout import Layout
from engine.lab.network import Network, claim_network
from engine.lab.settings import Settings

_LOCK_PATIENCE = 0.5

_log = logging.getLogger("engine.lab")

News = Callable[[dict[str, Any]], None]


def main(state: Path, news: int) -> int:
    """Run the lab of this state folder until it ends; the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("aiohttp.access").setLevel(logging.WARNING)
    layout = Layout(state)
    with os.fdopen(news, "wb") as teller:

        def tell(word: dict[str, Any]) -> None:
            with contextlib.suppress(BrokenPipeError, ValueError):
                teller.write(msgspec.json.encode(word) + b"\n")
                teller.close()

        try:
            _hold(layout)
            _run(layout, tell)
        except CeRunError as error:
            _log.error("%s", error.message)
            tell({"error": error.message, "hint": error.hint or f"see {layout.log}"})
            return error.exit_status
        except Exception as error:
            _log.exception("the lab ended with a defect")
            tell({"error": f"{type(error).__name__}: {error}", "hint": f"see {layout.log}"})
            return 1
    return 0


def _hold(layout: Layout) -> None:
    """Hold the folder until this process is gone: who gets the lock next knows that it is."""
    descriptor = os.open(layout.lock, os.O_RDWR | os.O_CREAT, 0o600)
    # Somebody who only asks whether the folder is held holds it for an instant.
    if not look_until(lambda: _locked(descriptor), _LOCK_PATIENCE):
        raise LabError(
            "another lab is running or starting in this folder", hint="ce-run lab status"
        )
    os.ftruncate(descriptor, 0)
    os.write(descriptor, str(os.getpid()).encode())


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _run(layout: Layout, tell: News) -> None:
    _remove_remains(layout)
    settings = msgspec.json.decode(layout.settings.read_bytes(), type=Settings)
    network = claim_network(layout.root)
    postgres = Postgres(
        layout, network.host("postgres"), network.port("postgres"), durable=settings.durable
    )
    try:
        postgres.launch()
        _run_lab(layout, settings, network, postgres, tell)
    finally:
        postgres.stop()
        _remove_remains(layout, keep_inbox=True)


def _run_lab(
    layout: Layout, settings: Settings, network: Network, postgres: Postgres, tell: News
) -> None:
    # Imported while PostgreSQL starts, and before the forks, so that they share it.
    from engine.lab.lab import Lab
    from engine.lab.people.load import LoadPlan
    from engine.lab.people.load_process import LoadProcess
    from engine.lab.processes.zygote import ZygoteProcess

    zygote = ZygoteProcess()
    load = None
    if settings.request_rate > 0:
        entrances = {name: (network.host(name), network.port(name)) for name in ("edge", "mesh")}
        load = LoadProcess(
            LoadPlan(
                entrances=entrances,
                mesh_share=settings.mesh_share,
                rate=settings.request_rate,
                users=settings.users,
                source=f"load-{int(CLOCK.now() * 1e9):x}",
            )
        )
    lab = Lab(layout, settings, network, postgres, zygote, load)
    try:
        asyncio.run(lab.run(tell))
    finally:
        zygote.end()
        if load is not None:
            load.reap()


def _remove_remains(layout: Layout, *, keep_inbox: bool = False) -> None:
    """Remove what only a running lab needs; logs and inbox can be read after its end."""
    layout.info.unlink(missing_ok=True)
    for folder in (
        layout.pods,
        layout.configmaps,
        layout.postgres,
        layout.kubernetes,
        layout.run,
    ):
        shutil.rmtree(folder, ignore_errors=True)
    if not keep_inbox and layout.root.exists():
        layout.inbox.unlink(missing_ok=True)
        layout.requests.unlink(missing_ok=True)
        shutil.rmtree(layout.logs, ignore_errors=True)
        layout.create()


if __name__ == "__main__":
    exit_status = main(Path(sys.argv[1]), int(sys.argv[2]))
    logging.shutdown()
    os._exit(exit_status)  # all is ended; taking the interpreter apart would only take time
