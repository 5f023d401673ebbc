"""The other end of an SSH connection: its login shell, its silence, its signals, its chatter."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.executor import TaskContext
from engine.module_api import Cancelled, Failed, Host, Unreachable
from modules import ssh
from tests.modules.conftest import MakeContext, Told
from tests.modules.ssh_server import USER, InProcess, Keys
from tests.modules.test_shell import alive
from tests.services import program

Make = Callable[..., TaskContext]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Keys for all tests."""
    return Keys(tmp_path_factory.mktemp("ssh"))


@pytest.fixture
def make(make_context: MakeContext, keys: Keys) -> Make:
    """Contexts whose host is a server at a port."""

    def build(port: int, section: dict[str, Any] | None = None, **options: Any) -> TaskContext:
        variables = {
            "ansible_host": "127.0.0.1",
            "ansible_port": port,
            "ansible_user": USER,
            "ansible_ssh_private_key_file": str(keys.client_file),
        }
        known = {"known_hosts": keys.known_hosts(port), "agent": False}
        host = options.pop("host", Host("db-1", variables))
        return make_context({"ssh": {**known, **(section or {})}}, host=host, **options)

    return build


@pytest.fixture
def server(keys: Keys) -> Iterator[InProcess]:
    """A server of one's own."""
    running = InProcess(keys)
    yield running
    running.stop()


# -- login shells -------------------------------------------------------------------------------
@pytest.fixture(scope="module", params=["sh", "csh", "tcsh", "fish", "bash"])
def shell_server(keys: Keys, request: pytest.FixtureRequest) -> Iterator[InProcess]:
    """A server whose users have that login shell."""
    running = InProcess(keys, program(request.param, "apt-get install tcsh fish"))
    yield running
    running.stop()


def test_a_command_arrives_whole_whatever_the_login_shell(
    make: Make, shell_server: InProcess, told: Told
) -> None:
    ctx = make(shell_server.port, step="it's {one}!")
    awkward = r"""echo it\'s "a!b" 'x y' `echo $((1+1))` "${0##*/}:$#:${it-}"; printf '%s' 'a\b' """
    loop = 'for n in 1 2; do\n  echo "line $n"\ndone # !'
    done = ssh.run(ctx, f"{awkward}\n{loop}\ncat", stdin="in\n")
    assert done.data["stdout"] == "it's a!b x y 2 sh:0:\na\\bline 1\nline 2\nin"
    told.masked.append("open-sesame")
    assert ssh.run(ctx, "printf %s open-sesame | wc -c").data["stdout"].strip() == "11"
    with pytest.raises(Failed, match="ended with exit status 3"):
        ssh.run(ctx, "exit 3")
    marks = ssh.run(ctx, "tr '\\0' '\\n' </proc/$$/environ | grep -E '^CE_RUN_(TASK|ENGINE)='")
    assert len(marks.data["stdout"].splitlines()) == 2


def test_a_stopped_command_is_ended_whatever_the_login_shell(
    make: Make, shell_server: InProcess, root: Path, cancel_when: Any
) -> None:
    ctx = make(shell_server.port)
    cancel_when(ctx, lambda: (root / "pid").exists() and (root / "pid").read_text().endswith("\n"))
    with pytest.raises(Cancelled, match=r"^stopped before it was done$"):
        ssh.run(ctx, f"sleep 60 & echo $! >'{root}/pid'; wait")
    assert not alive(int((root / "pid").read_text()))


def test_a_command_that_nobody_saw_end_is_not_said_to_be_stopped(
    make: Make, server: InProcess, root: Path
) -> None:
    ctx, pause = make(server.port), threading.Event()

    def cancel() -> None:
        while not (root / "pid").exists() or not (root / "pid").read_text().endswith("\n"):
            pause.wait(0.01)
        server.runs_nothing = True
        ctx.cancel()

    thread = threading.Thread(target=cancel)
    thread.start()
    with pytest.raises(Cancelled, match="could not be ended and may still run there") as caught:
        ssh.run(ctx, f"echo $$ >'{root}/pid'; exec sleep 60")
    thread.join()
    assert "look there" in caught.value.hint
    os.kill(int((root / "pid").read_text()), 9)


# -- signals and exit statuses ------------------------------------------------------------------
@pytest.mark.parametrize("name", ["TERM", "KILL", "SEGV"])
def test_a_signal_that_ended_a_remote_command_is_told_by_its_name(
    make: Make, server: InProcess, name: str
) -> None:
    with pytest.raises(Failed, match=rf"was ended by signal \d+ \({name}\)"):
        ssh.run(make(server.port), f"kill -{name} $$")


# -- chatter ------------------------------------------------------------------------------------
@pytest.fixture
def chatty(keys: Keys, tmp_path: Path) -> Iterator[Callable[[str], InProcess]]:
    """Servers whose login shell says something first."""
    with contextlib.ExitStack() as stack:

        def start(words: str) -> InProcess:
            shell = tmp_path / "shell"
            shell.write_text(f'#!/bin/sh\n{words}\nexec /bin/sh "$@"\n')
            shell.chmod(0o755)
            running = InProcess(keys, str(shell))
            stack.callback(running.stop)
            return running

        yield start


def test_what_a_login_script_says_is_no_output_and_no_order(
    make: Make, chatty: Callable[[str], InProcess]
) -> None:
    """Also not where it says a process id: that one would be ended at a cancellation."""
    server = chatty("echo welcome; echo ce-run-pid:1; printf 'ce-run-%s:1\\n' \"$4\"")
    assert ssh.run(make(server.port), "echo $(($$ > 1))").data["stdout"] == "1"


def test_a_login_script_that_writes_far_too_much_is_told_and_left(
    make: Make, chatty: Callable[[str], InProcess]
) -> None:
    server = chatty("head -c 300000 /dev/zero | tr '\\0' x; echo")
    with pytest.raises(Failed, match="says more than 64 KiB before the command begins"):
        ssh.run(make(server.port), "echo in")


# -- silence ------------------------------------------------------------------------------------
class Pipe:
    """A way to a server that swallows everything once it is told to: no FIN, no RST."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.silent = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._over, self._wake = os.pipe()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        pairs: dict[Any, socket.socket] = {}
        while True:
            ready, _, _ = select.select([self._listener, self._over, *pairs], [], [])
            if self._over in ready:
                break
            for one in ready:
                if one is self._listener:
                    near, far = (
                        one.accept()[0],
                        socket.create_connection(("127.0.0.1", self._target)),
                    )
                    pairs |= {near: far, far: near}
                elif one in pairs:
                    self._hand_on(one, pairs)
        for one in pairs:
            one.close()

    def _hand_on(self, one: socket.socket, pairs: dict[Any, socket.socket]) -> None:
        if data := one.recv(65536):
            if not self.silent.is_set():
                pairs[one].sendall(data)
            return
        other = pairs.pop(one)
        pairs.pop(other)
        one.close()
        other.close()

    def stop(self) -> None:
        """Close it."""
        os.write(self._wake, b"x")
        self._thread.join()
        self._listener.close()
        os.close(self._over)
        os.close(self._wake)


@pytest.fixture
def pipe(server: InProcess) -> Iterator[Pipe]:
    """The way to the server."""
    way = Pipe(server.port)
    yield way
    way.stop()


QUICK = {"keepalive": "50ms"}


def test_a_peer_that_is_gone_without_a_word_is_noticed(
    make: Make, pipe: Pipe, keys: Keys, root: Path
) -> None:
    def vanish() -> None:
        pause = threading.Event()
        while not (root / "begun").exists():
            pause.wait(0.01)
        pipe.silent.set()

    watch = threading.Thread(target=vanish)
    watch.start()
    with pytest.raises(Unreachable, match="broke off while the command ran"):
        ssh.run(make(pipe.port, QUICK), f"touch '{root}/begun'; exec sleep 60")
    watch.join()


def test_a_peer_that_says_nothing_but_is_there_is_waited_for(make: Make, pipe: Pipe) -> None:
    assert ssh.run(make(pipe.port, QUICK), "sleep 1; echo done").data["stdout"] == "done"


def test_a_kept_connection_that_the_server_has_closed_is_made_again(
    make: Make, server: InProcess, tmp_path: Path
) -> None:
    ctx = make(server.port)
    for number in range(5):
        assert ssh.run(ctx, f"echo {number}").data["stdout"] == str(number)
        server.drop()
        assert ssh.copy(ctx, str(tmp_path / "there"), content=f"{number}").changed
        server.drop()
    assert server.connections == 10


def test_what_the_driver_says_stays_in_the_log(
    make_context: MakeContext, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A server that is no SSH server: paramiko logs a traceback from a thread of its own."""
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        connection, _ = listener.accept()
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        connection.close()

    thread = threading.Thread(target=answer)
    thread.start()
    port = listener.getsockname()[1]
    ctx = make_context({"ssh": {"host_key_checking": False, "password": "x", "agent": False}})
    with pytest.raises(Unreachable, match="cannot be reached by SSH"):
        ssh.run(ctx, "true", host=f"me@127.0.0.1:{port}")
    thread.join()
    listener.close()
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert "ssh: " in (tmp_path / "logs" / "step.0.1.log").read_text()
