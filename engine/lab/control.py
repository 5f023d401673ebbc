"""The way in to a lab for the command line and for tests: start it, ask it, change it, stop it.

Every function takes the state folder (`<state>`; the lab lives in `<state>/lab`), is synchronous,
and raises LabError with what to do next when the lab cannot do what is asked.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from engine.clock import look_until
from engine.errors import LabError
from engine.lab.layout import LabInfo, Layout, short_path, write_private
from engine.lab.people.inbox_file import Notice, read_inbox
from engine.lab.processes import children
from engine.lab.settings import Settings
from engine.lab.status import LabStatus
from engine.production.faults import ALL_VERSIONS, Fault
from engine.production.figures import Figures

_START_PATIENCE = 60.0
_STOP_PATIENCE = 15.0
_NOT_RUNNING_HINT = "start one: ce-run lab up"

_T = TypeVar("_T")

_supervisors: list[subprocess.Popen[bytes]] = []
"""Those that this process has started and that may still run."""


def up(state: Path, *, fresh: bool = True, settings: Settings | None = None) -> LabInfo:
    """Start a lab, and return when it serves and its load runs.

    A lab that runs already is replaced by a fresh one; with `fresh=False` it is kept and returned.
    """
    layout = Layout(state)
    if _is_held(layout):
        info = layout.read_info()
        if not fresh and info is not None:
            return info
        down(state)
    layout.create()
    write_private(layout.settings, msgspec.json.encode(settings or Settings()))
    reader, writer = os.pipe()
    try:
        _launch(layout, writer)
    finally:
        os.close(writer)
    with os.fdopen(reader, "rb") as news:
        return _await_news(layout, news)


def status(state: Path) -> LabStatus:
    """How the running lab is. Raises LabError if there is none."""
    return _ask(state, LabStatus, "status")


def is_running(state: Path) -> bool:
    """Whether a lab runs or is starting in this state folder."""
    return _is_held(Layout(state))


def down(state: Path) -> bool:
    """Stop the lab and return when nothing of it runs any more; False if there was none.

    Its logs and its inbox stay to be read until the next start.
    """
    layout = Layout(state)
    if not _is_held(layout):
        layout.info.unlink(missing_ok=True)
        return False
    try:
        _tell(state, "stop")
    except LabError:
        _signal_supervisor(layout, signal.SIGTERM)
    if not _await_end(layout, _STOP_PATIENCE):
        _signal_supervisor(layout, signal.SIGKILL)
        if not _await_end(layout, _STOP_PATIENCE):
            raise LabError("the lab does not end", hint=f"see {layout.log}")
    layout.info.unlink(missing_ok=True)
    return True


def reset(state: Path) -> LabInfo:
    """Back to 5.0 with an empty inbox, no faults and figures that begin anew: a quick restart."""
    layout = Layout(state)
    if not _is_held(layout):
        raise LabError("no lab runs here", hint=_NOT_RUNNING_HINT)
    settings = msgspec.json.decode(layout.settings.read_bytes(), type=Settings)
    return up(state, fresh=True, settings=settings)


def fault(state: Path, *, version: str = ALL_VERSIONS, **changes: Any) -> dict[str, Fault]:
    """Put a fault on the pods of a version; returns all faults that there are now.

    `changes` are properties of `Fault`; those not named stay as they are.
    """
    return _ask(state, dict[str, Fault], "fault", version=version, changes=changes)


def clear_faults(state: Path, *, version: str | None = None) -> dict[str, Fault]:
    """End the faults of a version, or all; returns what is left."""
    return _ask(state, dict[str, Fault], "clear_faults", version=version)


def figures(state: Path, *, verify_writes: bool = False) -> Figures:
    """What the load has counted since it began.

    With `verify_writes` every acknowledged order is looked for in the database.
    """
    return _ask(state, Figures, "figures", verify_writes=verify_writes)


def set_rate(state: Path, rate: float) -> None:
    """Let the load send this many requests a second."""
    _tell(state, "rate", rate=rate)


def inbox(state: Path) -> list[Notice]:
    """The notices that arrived, oldest first; also of a lab that has ended."""
    return read_inbox(Layout(state).inbox)


def trouble_inbox(
    state: Path, *, fail_next: int | None = None, down: bool | None = None, clear: bool = False
) -> None:
    """Let the inbox refuse the next messages, be down (or up again), or forget its messages."""
    _tell(state, "inbox", fail_next=fail_next, down=down, clear=clear)


# -- starting and stopping ---------------------------------------------------------------------


def _launch(layout: Layout, news: int) -> None:
    command = [
        sys.executable,
        "-m",
        "engine.lab.processes.supervisor",
        str(layout.state),
        str(news),
    ]
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join(filter(None, (str(root), os.environ.get("PYTHONPATH"))))
    with layout.log.open("wb") as log:
        supervisor = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=layout.root,
            env={**os.environ, "PYTHONPATH": path},
            pass_fds=(news,),
            start_new_session=True,
        )
    # It lives on after us; if we live longer, `_is_held` fetches it from the process table.
    _supervisors.append(supervisor)


def _await_news(layout: Layout, news: Any) -> LabInfo:
    """The started lab's description, or the reason why there is none."""
    if not select.select([news], [], [], _START_PATIENCE)[0]:
        _signal_supervisor(layout, signal.SIGKILL)
        raise LabError("the lab did not start in time", hint=f"see {layout.log}")
    line = news.readline()
    if not line:
        last = "; ".join(children.tail(layout.log, 3))
        raise LabError(f"the lab did not start: {last}", hint=f"see {layout.log}")
    word = msgspec.json.decode(line)
    if "error" in word:
        _await_end(layout, _STOP_PATIENCE)
        raise LabError(word["error"], hint=word["hint"])
    return msgspec.convert(word["result"], LabInfo, str_keys=True)


def _is_held(layout: Layout) -> bool:
    _supervisors[:] = [supervisor for supervisor in _supervisors if supervisor.poll() is None]
    return layout.is_held()


def _await_end(layout: Layout, patience: float) -> bool:
    return look_until(lambda: not _is_held(layout), patience, every=0.01)


def _signal_supervisor(layout: Layout, number: int) -> None:
    with contextlib.suppress(OSError, ValueError):
        os.kill(int(layout.lock.read_text()), number)


# -- asking ------------------------------------------------------------------------------------


def _ask(state: Path, kind: type[_T], op: str, **question: Any) -> _T:
    """Ask the running lab; its answer as `kind`. Raises LabError with its words if it refuses."""
    return msgspec.convert(_tell(state, op, **question), kind, str_keys=True)


def _tell(state: Path, op: str, **question: Any) -> Any:
    """Have the running lab do something; its answer. Raises LabError if it refuses."""
    layout = Layout(state)
    try:
        answer = msgspec.json.decode(
            _exchange(layout.control, msgspec.json.encode({"op": op, **question}))
        )
    except (OSError, msgspec.MsgspecError) as error:
        if _is_held(layout):
            raise LabError("the lab does not answer", hint=f"see {layout.log}") from error
        raise LabError("no lab runs here", hint=_NOT_RUNNING_HINT) from error
    if "error" in answer:
        raise LabError(answer["error"], hint=answer["hint"])
    return answer["result"]


def _exchange(path: Path, question: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection, short_path(path) as name:
        connection.settimeout(_STOP_PATIENCE)
        connection.connect(name)
        connection.sendall(question + b"\n")
        with connection.makefile("rb") as answer:
            return answer.readline()
