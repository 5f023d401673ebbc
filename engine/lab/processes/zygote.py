"""The mother of all pods: a process that has everything imported and forks one process a pod.

A pod starts in milliseconds and shares the memory of its code with all others. The zygote has
no event loop and no threads, so forking is safe; it only forks, signals, passes messages on, and
tells of deaths.

Commands, one JSON value a line: `["start", spec]`, `["tell", uid, update]`, `["signal", uid, n]`.
Events: `["started", uid, pid]`, `["exited", uid, status]`, where a status above 128 is a signal's
number plus 128, as a container runtime reports it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import selectors
import signal
import socket
from typing import Any

import msgspec

from engine.lab.application import app
from engine.lab.application.pod import PodSpec
from engine.lab.processes import channel, children
from engine.lab.processes.channel import Splitter, encode


class Zygote:
    """The loop of the zygote's process."""

    def __init__(self, end: socket.socket) -> None:
        self._channel = end
        self._splitter = Splitter()
        self._pids: dict[str, int] = {}
        self._uids: dict[int, str] = {}
        self._pipes: dict[str, int] = {}

    def run(self) -> int:
        """Serve until the supervisor is gone; the exit status."""
        gc.freeze()  # what is imported is never garbage, and not touching it keeps it shared
        wakeup, wakeup_end = os.pipe()
        for end in (wakeup, wakeup_end):
            os.set_blocking(end, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(wakeup_end)
        with selectors.DefaultSelector() as selector:
            selector.register(self._channel, selectors.EVENT_READ, "command")
            selector.register(wakeup, selectors.EVENT_READ, "death")
            while True:
                for key, _ in selector.select():
                    if key.data == "death":
                        os.read(wakeup, 4096)
                        self._reap()
                    elif not self._listen():
                        return 0

    def _listen(self) -> bool:
        """Carry out the commands that have arrived; False at the end of the channel."""
        data = self._channel.recv(1 << 20)
        if not data:
            return False
        for message in self._splitter.feed(data):
            self._obey(message)
        return True

    def _obey(self, message: list[Any]) -> None:
        match message:
            case ["start", spec]:
                self._start(msgspec.convert(spec, PodSpec, str_keys=True))
            case ["tell", uid, update] if uid in self._pipes:
                with contextlib.suppress(OSError):
                    os.write(self._pipes[uid], encode(update))
            case ["signal", uid, number] if uid in self._pids:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._pids[uid], number)
            case _:
                pass  # of a pod that died in between

    def _start(self, spec: PodSpec) -> None:
        reader, writer = os.pipe()
        pid = children.fork_child(lambda: _become(spec, reader), reader)
        os.close(reader)
        os.set_blocking(writer, False)
        self._pids[spec.uid], self._uids[pid] = pid, spec.uid
        self._pipes[spec.uid] = writer
        self._report("started", spec.uid, pid)

    def _reap(self) -> None:
        while self._uids:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                return
            uid = self._uids.pop(pid)
            del self._pids[uid]
            os.close(self._pipes.pop(uid))
            code = os.waitstatus_to_exitcode(status)
            self._report("exited", uid, code if code >= 0 else 128 - code)

    def _report(self, *event: Any) -> None:
        self._channel.sendall(encode(event))


def _become(spec: PodSpec, updates: int) -> int:
    signal.set_wakeup_fd(-1, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    return app.main(spec, updates)


class ZygoteProcess:
    """The supervisor's side of the zygote. Make it before there is an event loop: it forks."""

    def __init__(self) -> None:
        ours, theirs = channel.pair()
        self.channel = ours
        self._pid = children.fork_child(lambda: Zygote(theirs).run(), theirs.fileno())
        theirs.close()

    def end(self) -> None:
        """Kill it, and with it all pods; returns when it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)
