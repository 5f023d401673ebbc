"""How hosts are reached over SSH: what is known of them, and what an inventory says."""

from __future__ import annotations

import base64
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import asyncssh
import paramiko
import pytest

from engine.executor import TaskContext
from engine.module_api import Host, Refused, Unreachable
from modules import ssh
from modules._ssh import address as ssh_address
from tests.modules.conftest import MakeContext
from tests.modules.ssh_server import USER, InProcess, Keys
from tests.services import program

Make = Callable[..., TaskContext]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    """Keys for all tests."""
    return Keys(tmp_path_factory.mktemp("ssh"))


@pytest.fixture(scope="module")
def rsa() -> Any:
    """A second key of the server's."""
    return asyncssh.generate_private_key("ssh-rsa")


@pytest.fixture(scope="module")
def server(keys: Keys, rsa: Any) -> Iterator[InProcess]:
    """A server with two host keys."""
    running = InProcess(keys, others=(rsa,))
    yield running
    running.stop()


@pytest.fixture
def make(make_context: MakeContext, server: InProcess, keys: Keys) -> Make:
    """Contexts whose host has these variables."""

    def build(variables: dict[str, Any] | None = None, **section: Any) -> TaskContext:
        own = {
            "ansible_host": "127.0.0.1",
            "ansible_port": server.port,
            "ansible_user": USER,
            "ansible_ssh_private_key_file": str(keys.client_file),
        }
        base = {"known_hosts": keys.known_hosts(server.port), "agent": False}
        given = {k: v for k, v in {**own, **(variables or {})}.items() if v is not None}
        return make_context({"ssh": {**base, **section}}, host=Host("db-1", given))

    return build


# -- known hosts --------------------------------------------------------------------------------
@pytest.fixture
def known(root: Path, keys: Keys, server: InProcess) -> Callable[[str], str]:
    """Write a file of known hosts; NAME and KEY in a text stand for those of the server."""
    public = keys.server.export_public_key().decode().strip()

    def write(text: str) -> str:
        text = text.replace("NAME", f"[127.0.0.1]:{server.port}").replace("KEY", public)
        (root / "known").write_bytes(text.encode("latin-1"))
        return "known"

    return write


BROKEN = [
    "@cert-authority *.example.com KEY",
    "@cert-authority * KEY",
    "@revoked other.example.com KEY",
    "@unheard-of * KEY",
    "NAME ssh-ed25519 AAAA!!!!not-base64",
    "NAME ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAA",
    "NAME ssh-dss AAAAB3NzaC1kc3MAAACBAO",
    "NAME sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29t",
    "NAME 1024 35 1234567890",
    "|1|damaged|hash= KEY",
    "|2|AAAA|AAAA KEY",
    "other KEY gr\xfcn von J\xfcrgen",
    "NAME",
    "\x00\x01\x02",
    "   ",
]


@pytest.mark.parametrize("line", BROKEN)
def test_a_line_that_cannot_be_used_spoils_no_other(
    make: Make, known: Callable[[str], str], line: str
) -> None:
    for text in (f"{line}\nNAME KEY\n", f"NAME KEY\n{line}\n"):
        assert ssh.run(make(known_hosts=known(text)), "echo in").data["stdout"] == "in"


def test_a_line_that_is_left_out_is_in_the_log(
    make: Make, known: Callable[[str], str], tmp_path: Path
) -> None:
    ssh.run(make(known_hosts=known("# mine\nNAME ssh-ed25519 AAA!\nNAME KEY")), "true")
    assert "line 2, is left out: its key is damaged" in (
        (tmp_path / "logs" / "step.0.1.log").read_text()
    )


@pytest.mark.parametrize("pattern", ["*", "[127.0.0.*]:*", "a,NAME,b", "[127.0.?.1]:*,x"])
def test_names_are_patterns_as_in_openssh(
    make: Make, known: Callable[[str], str], pattern: str
) -> None:
    assert ssh.run(make(known_hosts=known(f"{pattern} KEY")), "echo in").data["code"] == 0
    with pytest.raises(Refused, match="is not known"):
        ssh.run(make(known_hosts=known(f"{pattern},!NAME KEY")), "true")


def test_names_may_be_hashed(make: Make, known: Callable[[str], str], server: InProcess) -> None:
    hashed = paramiko.HostKeys.hash_host(f"[127.0.0.1]:{server.port}")
    assert ssh.run(make(known_hosts=known(f"{hashed} KEY")), "echo in").data["code"] == 0
    other = paramiko.HostKeys.hash_host("[127.0.0.1]:1")
    with pytest.raises(Refused, match="is not known"):
        ssh.run(make(known_hosts=known(f"{other} KEY")), "true")


def test_a_revoked_key_is_never_taken(make: Make, known: Callable[[str], str]) -> None:
    for text in ("NAME KEY\n@revoked NAME KEY", "@revoked * KEY\nNAME KEY"):
        with pytest.raises(Refused, match=r"host key of .* is not known") as caught:
            ssh.run(make(known_hosts=known(text)), "true")
        assert "revoked" in caught.value.hint


def test_an_authority_makes_no_host_known_and_is_told(
    make: Make, known: Callable[[str], str]
) -> None:
    with pytest.raises(Refused, match=r"host key of .* is not known") as caught:
        ssh.run(make(known_hosts=known("@cert-authority * KEY")), "true")
    assert "add the host's own key" in caught.value.hint


def test_of_several_keys_the_one_that_is_known_is_asked_for(
    make: Make, rsa: Any, server: InProcess, root: Path
) -> None:
    public = rsa.export_public_key().decode().strip()
    (root / "known").write_text(f"[127.0.0.1]:{server.port} {public}\n")
    assert ssh.run(make(known_hosts="known"), "echo in").data["stdout"] == "in"
    other = base64.b64encode(asyncssh.generate_private_key("ssh-rsa").public_data).decode()
    (root / "known").write_text(f"[127.0.0.1]:{server.port} ssh-rsa {other}\n")
    with pytest.raises(Refused, match="has another host key"):
        ssh.run(make(known_hosts="known"), "true")


# -- variables ----------------------------------------------------------------------------------
def test_older_names_of_variables_count(make: Make, server: InProcess, keys: Keys) -> None:
    old = {
        "ansible_host": None,
        "ansible_port": None,
        "ansible_user": None,
        "ansible_ssh_private_key_file": None,
        "ansible_ssh_host": "127.0.0.1",
        "ansible_ssh_port": server.port,
        "ansible_ssh_user": USER,
        "ansible_private_key_file": str(keys.client_file),
    }
    assert ssh.run(make(old), "echo in").data["stdout"] == "in"


def test_options_of_openssh_are_obeyed(make: Make, server: InProcess, keys: Keys) -> None:
    arguments = (
        "-C -o ControlMaster=auto -o ControlPersist=60s -o StrictHostKeyChecking=no "
        f"-o UserKnownHostsFile=/dev/null -p {server.port} -l {USER} -i '{keys.client_file}' "
        "-o 'ServerAliveInterval 7' -oServerAliveCountMax=2 -o IdentitiesOnly=yes"
    )
    variables = {
        "ansible_port": None,
        "ansible_user": None,
        "ansible_ssh_private_key_file": None,
        "ansible_ssh_common_args": arguments,
        "ansible_ssh_extra_args": "-o ServerAliveInterval=99 -o ConnectTimeout=4",
    }
    where = ssh_address.address(make(variables), "")
    assert (where.keepalive, where.unanswered, where.timeout) == (7.0, 2, 4.0)
    assert (where.checked, where.agent, where.compression) == (False, False, True)
    assert ssh.run(make(variables, known_hosts=[]), "echo in").data["stdout"] == "in"


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"ansible_connection": "local"}, "is this machine"),
        ({"ansible_connection": "ansible.builtin.local"}, "is this machine"),
        ({"ansible_connection": "winrm"}, "not reached by SSH: ansible_connection is winrm"),
        ({"ansible_connection": "community.docker.docker"}, "ansible_connection is docker"),
        ({"ansible_become": True}, "run as root (ansible_become)"),
        ({"ansible_become": "yes", "ansible_become_user": "nobody"}, "run as nobody"),
        ({"ansible_ssh_executable": "/opt/ssh"}, "ansible_ssh_executable is not understood"),
        ({"ansible_paramiko_proxy_command": "nc"}, "ansible_paramiko_proxy_command is not"),
        ({"ansible_sftp_extra_args": "-l 100"}, "ansible_sftp_extra_args is not"),
        ({"ansible_shell_type": "powershell"}, "ansible_shell_type is not"),
        (
            {"ansible_ssh_common_args": "-o Ciphers=x"},
            "ansible_ssh_common_args: the option ciphers",
        ),
        ({"ansible_ssh_common_args": "-A"}, "the flag -A of ssh"),
        ({"ansible_ssh_common_args": "'"}, "cannot be read as arguments"),
        ({"ansible_ssh_common_args": "-o Port"}, "lacks its value"),
        ({"ansible_ssh_extra_args": "-F other"}, "ansible_ssh_extra_args: the flag -F"),
        ({"ansible_ssh_common_args": "-o StrictHostKeyChecking=accept-new"}, "accept-new"),
        ({"ansible_host": "{{ address }}"}, "is still a template"),
        ({"ansible_port": 70000}, "must be a number up to 65535"),
        ({"ansible_port": "ssh"}, "must be a number up to 65535"),
        ({"ansible_timeout": "soon"}, "must be a duration"),
    ],
)
def test_what_is_not_obeyed_is_refused_by_its_name(
    make: Make, variables: dict[str, Any], words: str
) -> None:
    with pytest.raises(Refused) as caught:
        ssh.run(make(variables), "true")
    assert words in caught.value.message


def test_what_asks_for_nothing_is_fine(make: Make) -> None:
    variables = {
        "ansible_connection": "ssh",
        "ansible_become": False,
        "ansible_become_user": "nobody",
        "ansible_become_method": "sudo",
        "ansible_ssh_pipelining": True,
        "ansible_shell_type": "sh",
        "ansible_shell_executable": "/bin/sh",
        "ansible_python_interpreter": "/usr/bin/python3",
        "ansible_ssh_host_key_ed25519_public": "AAAA",
        "ansible_ssh_common_args": "",
        "ansible_password": None,
    }
    assert ssh.run(make(variables), "echo in").data["stdout"] == "in"


def test_an_unknown_key_of_the_section_is_refused(make: Make) -> None:
    with pytest.raises(Refused, match="has no key 'jumphost'") as caught:
        ssh.run(make(jumphost="bastion"), "true")
    assert "jump" in caught.value.hint


def test_names_that_are_numbers_or_none_at_all_are_told_in_words(make: Make) -> None:
    assert ssh.run(make({"ansible_user": 1000}), "echo in").data["stdout"] == "in"
    with pytest.raises(Refused, match="cannot be the name of a host"):
        ssh.run(make({"ansible_host": "a" * 70 + ".example.com"}), "true")


# -- a command that leads there -----------------------------------------------------------------
RELAY = """
import os, socket, sys, threading
there = socket.create_connection((sys.argv[1], int(sys.argv[2])))
def back():
    while data := there.recv(65536):
        os.write(1, data)
    os._exit(0)
threading.Thread(target=back).start()
while data := os.read(0, 65536):
    there.sendall(data)
os._exit(0)
"""


def test_a_proxy_command_leads_to_the_host(
    make: Make, server: InProcess, root: Path, tmp_path: Path
) -> None:
    """With OpenSSH's signs in it, and ended with the run."""
    (root / "relay.py").write_text(RELAY)
    log = tmp_path / "args"
    command = (
        f"sh -c 'echo $0 $1 $2 >> {log}; exec {sys.executable} {root}/relay.py $0 $1' %h %p %r"
    )
    variables = {"ansible_ssh_common_args": f'-o ProxyCommand="{command}"'}
    ctx = make(variables)
    assert ssh.run(ctx, "echo in").data["stdout"] == "in"
    assert ssh.copy(ctx, str(tmp_path / "there"), content="x").changed
    assert log.read_text() == f"127.0.0.1 {server.port} {USER}\n"  # once, for one connection
    assert ssh.run(make(proxy_command=command), "echo in").data["stdout"] == "in"


def test_a_proxy_command_that_fails_is_told_with_its_words(make: Make) -> None:
    command = "sh -c 'echo no such bastion >&2; exit 255'"
    with pytest.raises(Unreachable, match="by SSH through its ProxyCommand") as caught:
        ssh.run(make(proxy_command=command), "true")
    assert "no such bastion" in caught.value.evidence
    with pytest.raises(Refused, match="%z, which is not understood"):
        ssh.run(make(proxy_command="nc %z"), "true")


def test_openssh_itself_can_lead_there(make: Make, server: InProcess, keys: Keys) -> None:
    client = program("ssh", "apt-get install openssh-client")
    command = (
        f"{client} -F none -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -q "
        f"-i {keys.client_file} -p {server.port} -W %h:%p {USER}@127.0.0.1"
    )
    variables = {"ansible_ssh_common_args": f'-o ProxyCommand="{command}"'}
    assert ssh.run(make(variables), "echo in").data["stdout"] == "in"
