"""Real SSH servers for tests: asyncssh in this process, and OpenSSH's sshd where there is one."""

from __future__ import annotations

import asyncio
import contextlib
import getpass
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import asyncssh

from tests.services import missing, program

USER = getpass.getuser()
PASSWORD = "open-sesame"


class Keys:
    """Key pairs of the server and of the client, and a file of known hosts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = asyncssh.generate_private_key("ssh-ed25519")
        client = asyncssh.generate_private_key("ssh-ed25519")
        self.client_file = folder / "id"
        client.write_private_key(self.client_file)
        self.client_file.chmod(0o600)
        self.authorized = folder / "authorized_keys"
        client.write_public_key(self.authorized)
        self.authorized.chmod(0o600)

    def known_hosts(self, *ports: int) -> str:
        """A file that knows the servers of these ports."""
        path = self.folder / "-".join(["known_hosts", *map(str, ports)])
        public = self.server.export_public_key().decode().strip()
        path.write_text("".join(f"[127.0.0.1]:{port} {public}\n" for port in ports))
        return str(path)


class InProcess:
    """An asyncssh server on its own thread; commands are real processes."""

    def __init__(self, keys: Keys, shell: str = "/bin/sh", others: tuple[Any, ...] = ()) -> None:
        """`shell` is the users' login shell; `others` are more host keys."""
        self.keys = keys
        self.connections = 0
        self.runs_nothing = False
        """Whether commands that come now end at once, without having run."""
        self._shell = shell
        self._host_keys = [keys.server, *others]
        self._open: list[Any] = []
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._call(self._listen())
        self.port: int = self._server.get_port()

    def _call(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(10)

    async def _listen(self) -> Any:
        outer = self

        class Login(asyncssh.SSHServer):
            def connection_made(self, conn: Any) -> None:
                outer.connections += 1
                outer._open.append(conn)

            def password_auth_supported(self) -> bool:
                return True

            def connection_requested(self, *places: Any) -> bool:
                return True

            def validate_password(self, username: str, password: str) -> bool:
                return (username, password) == (USER, PASSWORD)

        return await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=Login,
            server_host_keys=self._host_keys,
            authorized_client_keys=str(self.keys.authorized),
            process_factory=self._run,
            sftp_factory=True,
            encoding=None,
        )

    async def _run(self, process: Any) -> None:
        if self.runs_nothing:
            process.exit(1)
            return
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(  # as sshd starts it
            self._shell, "-c", process.command,
            stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True,
        )  # fmt: skip
        feeding = asyncio.ensure_future(self._feed(process.stdin, child.stdin))
        reading = [
            asyncio.ensure_future(self._copy(child.stdout, process.stdout)),
            asyncio.ensure_future(self._copy(child.stderr, process.stderr)),
        ]
        try:
            code = await child.wait()
            await asyncio.wait(reading, timeout=0.2)  # children in the background may hold them
        finally:
            for task in (feeding, *reading):
                task.cancel()
            if child.returncode is None:  # the server is stopping: what it started ends with it
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                await child.wait()
        if code < 0:
            process.exit_with_signal(signal.Signals(-code).name.removeprefix("SIG"))
        else:
            process.exit(code)

    async def _feed(self, source: Any, sink: Any) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()
        sink.close()

    async def _copy(self, source: Any, sink: Any) -> None:
        with contextlib.suppress(OSError):
            while data := await source.read(65536):
                sink.write(data)
                await sink.drain()

    def drop(self) -> None:
        """Break off every connection."""

        async def abort() -> None:
            for connection in self._open:
                connection.abort()
            self._open.clear()

        self._call(abort())

    def stop(self) -> None:
        """Stop listening and end."""

        async def close() -> None:
            self._server.close()
            for connection in self._open:
                connection.abort()
            # A command that writes into a connection that is gone may not notice.
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._server.wait_closed(), 2)
            at_work = asyncio.all_tasks() - {asyncio.current_task()}
            for task in at_work:
                task.cancel()
            if at_work:
                await asyncio.wait(at_work, timeout=2)

        self._call(close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()


class Sshd:
    """OpenSSH's server, logging in the same user."""

    def __init__(self, keys: Keys, binary: str) -> None:
        self.keys = keys
        host_key = keys.folder / "host_key"
        keys.server.write_private_key(host_key)
        host_key.chmod(0o600)
        if os.geteuid() == 0:
            Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        sftp = next(
            (
                path
                for path in (
                    Path(binary).parent.parent / "lib" / "openssh" / "sftp-server",
                    Path("/usr/lib/openssh/sftp-server"),
                )
                if path.exists()
            ),
            "internal-sftp",
        )
        config = keys.folder / "sshd_config"
        config.write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {host_key}\n"
            f"AuthorizedKeysFile {keys.authorized}\nPidFile {keys.folder / 'sshd.pid'}\n"
            "UsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\n"
            f"Subsystem sftp {sftp}\n"
        )
        with (keys.folder / "sshd.log").open("w") as log:
            self._process = subprocess.Popen([binary, "-D", "-e", "-f", str(config)], stderr=log)
        self._ready()

    def _ready(self) -> None:
        pause = threading.Event()
        for _ in range(500):
            assert self._process.poll() is None, (self.keys.folder / "sshd.log").read_text()
            try:
                with socket.create_connection(("127.0.0.1", self.port)) as client:
                    if client.recv(4) == b"SSH-":
                        return
            except OSError:
                pause.wait(0.02)
        raise AssertionError("sshd did not get ready")

    def stop(self) -> None:
        """Stop it."""
        self._process.terminate()
        self._process.wait()


def find_sshd() -> str:
    """The binary of OpenSSH's server: TEST_SSHD, PATH or where packages put it."""
    binary = program("sshd", "apt-get install openssh-server", variable="TEST_SSHD")
    if os.geteuid() == 0 and "\nsshd:" not in Path("/etc/passwd").read_text():
        # As root it wants a user of its own to drop its rights to.
        missing("the user sshd", "apt-get install openssh-server")
    return binary
