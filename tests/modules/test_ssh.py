"""Commands and files on other machines, against real SSH servers."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import pytest

from engine.executor import TaskContext
from engine.module_api import Cancelled, Failed, Host, Refused, TimedOut, Unreachable
from modules import ssh
from modules._ssh import address as ssh_address
from tests.modules.conftest import MakeContext, Told
from tests.modules.ssh_server import PASSWORD, USER, InProcess, Keys, Sshd, find_sshd
from tests.modules.test_shell import STUBBORN, alive
from tests.services import program

CancelWhen = Callable[[TaskContext, Callable[[], bool]], object]
Make = Callable[..., TaskContext]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Keys for all tests."""
    return Keys(tmp_path_factory.mktemp("ssh"))


@pytest.fixture(scope="module")
def in_process(keys: Keys) -> Iterator[InProcess]:
    """An asyncssh server."""
    server = InProcess(keys)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def sshd(keys: Keys) -> Iterator[Sshd]:
    """OpenSSH's server."""
    server = Sshd(keys, find_sshd())
    yield server
    server.stop()


@pytest.fixture(params=["in_process", "sshd"])
def server(request: pytest.FixtureRequest) -> Any:
    """Each kind of server in turn."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def make(make_context: MakeContext, server: Any, keys: Keys) -> Make:
    """Contexts whose host is the server, which is known."""

    def build(*, host_vars: dict[str, Any] | None = None, **options: Any) -> TaskContext:
        variables = {
            "ansible_host": "127.0.0.1",
            "ansible_port": server.port,
            "ansible_user": USER,
            "ansible_ssh_private_key_file": str(keys.client_file),
            **(host_vars or {}),
        }
        section = {
            "known_hosts": keys.known_hosts(server.port),
            "agent": False,
            **options.pop("section", {}),
        }
        return make_context({"ssh": section}, host=Host("db-1", variables), **options)

    return build


# -- run ----------------------------------------------------------------------------------------
def test_a_command_gives_exit_status_and_output(make: Make) -> None:
    result = ssh.run(make(), 'cat; echo "it\'s" >&2; echo $((20+3))', stdin="words\n")
    assert result.changed
    assert result.data == {
        "code": 0,
        "stdout": "words\n23",
        "stderr": "it's",
        "truncated": False,
        "skipped": False,
    }
    listed = ssh.run(make(), ["printf", "%s", "$HOME; ls"])
    assert listed.data["stdout"] == "$HOME; ls"


def test_an_unexpected_exit_status_fails(make: Make) -> None:
    with pytest.raises(Failed, match="ended with exit status 3") as caught:
        ssh.run(make(), "echo 'disk full' >&2; exit 3")
    assert caught.value.evidence == ["disk full"]
    assert ssh.run(make(), "exit 3", expect=[0, 3]).data["code"] == 3


def test_output_is_logged_and_a_megabyte_each_way_does_not_block(
    make: Make, tmp_path: Path
) -> None:
    text = "".join(f"{number:07d}\n" for number in range(131072))
    result = ssh.run(make(), "tee /dev/stderr", stdin=text, limit=1000)
    assert result.data["truncated"]
    assert result.data["stdout"].endswith("0131071")
    logged = (tmp_path / "logs" / "step.0.1.log").read_text()
    assert logged.count("\n") == 2 * 131072


def test_a_command_that_does_not_read_its_stdin_is_fine(make: Make) -> None:
    assert ssh.run(make(), "true", stdin="x" * 1_000_000).data["code"] == 0


def test_one_connection_serves_many_commands(make: Make, server: Any) -> None:
    if not isinstance(server, InProcess):
        pytest.skip("only asyncssh counts its connections")
    ctx, before = make(), server.connections
    for number in range(5):
        assert ssh.run(ctx, f"echo {number}").data["stdout"] == str(number)
    assert server.connections == before + 1


def test_a_lost_connection_is_made_again(make: Make, server: Any) -> None:
    if not isinstance(server, InProcess):
        pytest.skip("only asyncssh drops its connections on demand")
    ctx = make()
    ssh.run(ctx, "true")
    server.drop()
    for _ in range(100):  # until paramiko has noticed
        try:
            assert ssh.run(ctx, "echo again").data["stdout"] == "again"
            break
        except Unreachable:
            continue
    else:
        raise AssertionError("never connected again")


def test_a_connection_lost_while_a_command_runs_is_unreachable(
    make: Make, server: Any, root: Path
) -> None:
    if not isinstance(server, InProcess):
        pytest.skip("only asyncssh drops its connections on demand")
    ctx = make()

    def drop() -> None:
        pause = threading.Event()
        while not (root / "ready").exists():
            pause.wait(0.01)
        server.drop()

    thread = threading.Thread(target=drop)
    thread.start()
    with pytest.raises(Unreachable, match="broke off"):
        ssh.run(ctx, f"touch {root}/ready; exec sleep 30")
    thread.join()


@pytest.mark.parametrize("how", ["cancelled", "deadline"])
def test_a_stopped_command_is_ended_there_with_its_children(
    make: Make, root: Path, cancel_when: CancelWhen, how: str
) -> None:
    (root / "stubborn.py").write_text(STUBBORN.replace("signal.signal(", "(lambda *_: 0)("))
    ctx = make(seconds=None if how == "cancelled" else 2.0)
    if how == "cancelled":
        cancel_when(ctx, (root / "ready").exists)
    with pytest.raises((Cancelled, TimedOut)):
        ssh.run(ctx, f"cd {root} && {sys.executable} stubborn.py & wait")
    pids = [int(text) for text in (root / "ready").read_text().split()]
    pause = threading.Event()
    while any(alive(pid) for pid in pids):
        pause.wait(0.01)


def test_creates_unless_and_effect_are_as_in_shell(make: Make, root: Path) -> None:
    made = root / "made file"
    command = f"echo x >> '{made}'"
    assert ssh.run.checker is not None
    assert ssh.run.prober is not None
    shown = ssh.run.checker(make(mode="check"), command, creates=str(made))
    assert (shown.changed, shown.diff) == (True, f"+ {command}\n")
    assert f"{USER}@127.0.0.1" in shown.message
    assert not made.exists()
    assert ssh.run.prober(make(), command, creates=str(made)).verdict == "unknown"
    assert ssh.run(make(), command, creates=str(made)).changed
    assert not ssh.run(make(), command, creates=str(made)).changed
    assert not ssh.run(make(), command, unless=f"test -e '{made}'").changed
    assert ssh.run.prober(make(), command, creates=str(made)).verdict == "done"
    assert ssh.run.prober(make(), command).verdict == "unknown"
    assert ssh.run.prober(make(), command, effect="read").verdict == "not_done"
    read = ssh.run.checker(make(mode="check"), "echo 1", effect="read")
    assert read.data["stdout"] == "1"
    assert made.read_text() == "x\n"


def test_what_a_killed_engine_left_running_there_is_ended_before_it_is_repeated(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = f"run-of-{os.getpid()}"  # not that of the same test beside this one
    first = make(step="backup", run_id=run_id)
    ours = int(ssh.run(first, "setsid sleep 60 >/dev/null 2>&1 & echo $!").data["stdout"])
    monkeypatch.setattr("modules._ssh.command._engine", lambda: "another-machine:7")
    theirs = int(ssh.run(first, "setsid sleep 60 >/dev/null 2>&1 & echo $!").data["stdout"])
    monkeypatch.undo()
    assert ssh.run.prober is not None
    again = make(step="backup", attempt=2, run_id=run_id)
    probe = ssh.run.prober(make(step="backup", run_id=run_id), "backup", creates="/no/such/file")
    assert (probe.verdict, probe.message) == (
        "unknown",
        f"it still runs there (process {theirs})",
    )
    ssh.run(make(step="restore", attempt=2, run_id=run_id), "true")
    assert alive(theirs)
    ssh.run(again, "true")
    assert not alive(theirs)
    assert alive(ours)  # left in the background on purpose
    os.kill(ours, 9)


# -- logging in ---------------------------------------------------------------------------------
def test_an_unknown_host_key_is_refused(make: Make, root: Path) -> None:
    (root / "nobody").write_text("")
    with pytest.raises(Refused, match=r"host key of .* is not known"):
        ssh.run(make(section={"known_hosts": "nobody"}), "true")


def test_another_host_key_is_refused(make: Make, server: Any, root: Path) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    (root / "known").write_text(f"[127.0.0.1]:{server.port} {other}")
    with pytest.raises(Refused, match="has another host key"):
        ssh.run(make(section={"known_hosts": ["known"]}), "true")


def test_checking_host_keys_can_be_switched_off_and_the_run_warns(
    make: Make, root: Path, told: Told
) -> None:
    (root / "nobody").write_text("")
    section = {"known_hosts": "nobody", "host_key_checking": False}
    ssh.run(make(section=section), "true")
    [warned] = told.warnings
    assert "is not checked: `ssh` of the inventory says so" in warned


def test_a_command_with_a_secret_shows_in_no_list_of_processes(make: Make, told: Told) -> None:
    told.masked.append("open-sesame")
    command = "tr '\\0\\n' '  ' </proc/$$/cmdline; echo\nprintf '%s\\n' 'it is \\open-sesame'; cat"
    done = ssh.run(make(), command, stdin="what was\ngiven").data
    assert done["code"] == 0, done
    shown, *said = done["stdout"].splitlines()
    assert "sesame" not in shown
    assert "\n".join([shown, *said]).endswith("it is \\open-sesame\nwhat was\ngiven")


def test_a_list_with_a_secret_in_it_is_refused(make: Make, told: Told) -> None:
    told.masked.append("open-sesame")
    with pytest.raises(Refused, match="every list of processes shows"):
        ssh.run(make(), ["echo", "it is open-sesame"])


def test_a_key_that_is_not_authorized_is_refused(make: Make, root: Path) -> None:
    other = root / "other"
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(other)
    with pytest.raises(Refused, match="refused the login"):
        ssh.run(make(host_vars={"ansible_ssh_private_key_file": str(other)}), "true")
    with pytest.raises(Refused, match="is not there"):
        ssh.run(make(host_vars={"ansible_ssh_private_key_file": "/no/key"}), "true")


def test_a_password_logs_in_and_stays_hidden(make: Make, server: Any, told: Told) -> None:
    if not isinstance(server, InProcess):
        pytest.skip("sshd without PAM knows no passwords")
    variables = {"ansible_ssh_private_key_file": "", "ansible_password": PASSWORD}
    assert ssh.run(make(host_vars=variables), "echo in").data["stdout"] == "in"
    assert told.masked == [PASSWORD]
    with pytest.raises(Refused, match="refused the login"):
        ssh.run(make(host_vars={**variables, "ansible_password": "wrong"}), "true")


def test_a_host_can_be_named_in_the_step(
    make_context: MakeContext, in_process: InProcess, keys: Keys
) -> None:
    section = {"known_hosts": keys.known_hosts(in_process.port), "key": str(keys.client_file)}
    ctx = make_context({"ssh": section})
    assert ssh.run(ctx, "echo in", host=f"{USER}@127.0.0.1:{in_process.port}").data["code"] == 0
    with pytest.raises(Refused, match="on which host"):
        ssh.run(ctx, "true")
    with pytest.raises(Unreachable, match="cannot be reached by SSH"):
        ssh.run(ctx, "true", host="127.0.0.1:1")


@pytest.fixture(scope="module")
def bastion(keys: Keys) -> Iterator[InProcess]:
    """A host through which others are reached."""
    server = InProcess(keys)
    yield server
    server.stop()


def test_a_host_is_reached_through_others(
    make: Make, server: Any, bastion: InProcess, keys: Keys, tmp_path: Path
) -> None:
    via = f"{USER}@127.0.0.1:{bastion.port}"
    known = keys.known_hosts(server.port, bastion.port)
    before = bastion.connections
    ctx = make(section={"jump": via, "known_hosts": known, "key": str(keys.client_file)})
    assert ssh.run(ctx, "echo in").data["stdout"] == "in"
    ssh.copy(ctx, str(tmp_path / "there"), content="x")
    assert bastion.connections == before + 1
    variables = {"ansible_ssh_common_args": f"-o ProxyJump={via} -o Compression=yes"}
    section = {"known_hosts": known, "key": str(keys.client_file)}
    assert ssh.run(make(host_vars=variables, section=section), "true").data["code"] == 0
    assert bastion.connections == before + 2
    twice = {**section, "jump": [via, f"{USER}@127.0.0.1:{server.port}"]}
    assert ssh.run(make(section=twice), "echo far").data["stdout"] == "far"


def test_a_jump_host_is_verified_and_told_apart_from_who_is_behind_it(
    make: Make, server: Any, bastion: InProcess, keys: Keys
) -> None:
    via = f"{USER}@127.0.0.1:{bastion.port}"
    section = {"jump": via, "key": str(keys.client_file)}
    known = keys.known_hosts(server.port)
    with pytest.raises(Refused, match=rf"host key of .*:{bastion.port} is not known"):
        ssh.run(make(section={**section, "known_hosts": known}), "true")
    known = keys.known_hosts(bastion.port)
    with pytest.raises(Refused, match=rf"host key of .*:{server.port} is not known"):
        ssh.run(make(section={**section, "known_hosts": known}), "true")
    nobody = make(host_vars={"ansible_port": 1}, section={**section, "known_hosts": known})
    with pytest.raises(Unreachable, match=rf":1 cannot be reached through .*:{bastion.port}"):
        ssh.run(nobody, "true")


@pytest.fixture
def agent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """A running ssh-agent without keys; the program that gives it some."""
    binary = program("ssh-agent", "apt-get install openssh-client")
    add = program("ssh-add", "apt-get install openssh-client")
    monkeypatch.setenv("HOME", str(tmp_path))  # no keys of whoever runs this test
    with tempfile.TemporaryDirectory() as short:
        monkeypatch.setenv("SSH_AUTH_SOCK", f"{short}/agent")
        running = subprocess.Popen(
            [binary, "-D", "-a", f"{short}/agent"], stdout=subprocess.DEVNULL
        )
        while subprocess.run([add, "-l"], capture_output=True, check=False).returncode == 2:
            assert running.poll() is None
        yield add
        running.terminate()
        running.wait()


def test_the_agents_keys_log_in(make: Make, keys: Keys, agent: str) -> None:
    variables = {"ansible_ssh_private_key_file": ""}
    with pytest.raises(Refused, match="there is no key and no password to log in") as caught:
        ssh.run(make(host_vars=variables, section={"agent": True}), "true")
    assert "ssh-add" in caught.value.hint
    subprocess.run([agent, str(keys.client_file)], capture_output=True, check=True)
    ctx = make(host_vars=variables, section={"agent": True})
    assert ssh.run(ctx, "echo in").data["stdout"] == "in"


@pytest.mark.parametrize(
    ("written", "host", "port"),
    [
        ("db-1", "db-1", 22),
        ("db-1:2222", "db-1", 2222),
        ("root@[::1]:2222", "::1", 2222),
        ("::1", "::1", 22),
        ("[fe80::1]", "fe80::1", 22),
    ],
)
def test_hosts_are_written_as_ssh_writes_them(
    ctx: TaskContext, written: str, host: str, port: int
) -> None:
    found = ssh_address.address(ctx, written)
    assert (found.host, found.port) == (host, port)


# -- copy ---------------------------------------------------------------------------------------
def test_what_is_being_copied_is_nobody_elses_to_read(make: Make, tmp_path: Path) -> None:
    modes: list[int] = []

    class Looks:
        @contextlib.contextmanager
        def hold(self) -> Iterator[None]:
            yield
            modes.extend(path.stat().st_mode & 0o777 for path in tmp_path.glob(".there.*"))

        def identity(self) -> dict[str, str]:
            return {}

    ssh.copy(make(fence=Looks()), str(tmp_path / "there"), content="secret", mode="0640")
    assert modes == [0o600]
    assert (tmp_path / "there").stat().st_mode & 0o777 == 0o640


def test_a_file_arrives_whole_with_its_mode(make: Make, root: Path, tmp_path: Path) -> None:
    data = os.urandom(300_000)
    (root / "file.bin").write_bytes(data)
    dest = tmp_path / "there.bin"
    result = ssh.copy(make(), str(dest), src=Path("file.bin"), mode="0600")
    assert result.changed
    assert dest.read_bytes() == data
    assert dest.stat().st_mode & 0o777 == 0o600
    assert (result.data["bytes"], result.data["mode"]) == (300_000, "0600")
    assert not ssh.copy(make(), str(dest), src=Path("file.bin")).changed
    assert ssh.copy(make(), str(dest), src=Path("file.bin"), mode="0640").changed
    assert dest.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir() if "there" in path.name] == ["there.bin"]


def test_text_is_compared_line_by_line_and_check_writes_nothing(make: Make, tmp_path: Path) -> None:
    dest = tmp_path / "there.conf"
    dest.write_text("a\nb\n")
    assert ssh.copy.checker is not None
    shown = ssh.copy.checker(make(mode="check"), str(dest), content="a\nc\n")
    assert shown.diff == f"--- {dest}\n+++ {dest}\n@@ -1,2 +1,2 @@\n a\n-b\n+c\n"
    assert dest.read_text() == "a\nb\n"
    done = ssh.copy(make(), str(dest), content="a\nc\n")
    assert (done.data, done.diff) == (shown.data, shown.diff)
    assert dest.read_text() == "a\nc\n"
    assert not ssh.copy.checker(make(mode="check"), str(dest), content="a\nc\n").changed


def test_a_place_that_cannot_be_written_fails(make: Make, tmp_path: Path) -> None:
    with pytest.raises(Failed, match="its folder is not there"):
        ssh.copy(make(), str(tmp_path / "no" / "file"), content="x")
    with pytest.raises(Refused, match="either as `src` or as `content`"):
        ssh.copy(make(), "/x")
    with pytest.raises(Refused, match="is no mode"):
        ssh.copy(make(), str(tmp_path / "file"), content="x", mode="rw")
