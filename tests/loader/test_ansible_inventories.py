"""Ansible's inventories as they are, compared with what ``ansible-inventory`` itself reads."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.errors import InvalidRunbook
from engine.inventory import Inventory
from engine.loader import load_inventory
from engine.registry import Registry

ANSIBLE = shutil.which("ansible-inventory", path=str(Path(sys.executable).parent))

YAML = """\
all:
  hosts:
    lonely: {ansible_host: 10.0.0.9}
  vars: {domain: example.com, flag: yes, mode: 0644, grouped: 1_000, override: all}
  children:
    web:
      hosts:
        web[01:05:2].example.com: {ansible_port: 2201}
        ported:2222:
      vars: {http-port: 80, override: web, enabled: off, ratio: 0.5, nothing: }
      children:
        edge: {hosts: {web01.example.com: , only-edge: {own: true}}, vars: {override: edge}}
    a_group:
      hosts: {ported: }
      vars: {ansible_group_priority: 10, testvar: a}
    b_group:
      hosts: {ported: }
      vars: {testvar: b}
    single: {hosts: fe1}
    ungrouped:
"""
INI = """\
# hosts without a group
lonely ansible_host=10.0.0.9

[web]
web[1:3].example.com http_port=80 name_of="a b" # why
ported:2222 flag=True numbers=[1,2] text=yes octal=0644
; an old comment

[web:vars]
override=web
list=['a', 'b']
spaced = value of several words

[edge]
web1.example.com

[all:children]
top

[top:children]
web
edge

[top:vars]
override=top
of_top={'deep': 1}

[a_group]
ported
[b_group]
ported
[a_group:vars]
ansible_group_priority=10
testvar=a
[b_group:vars]
testvar=b
"""


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def theirs(folder: Path, *names: str) -> dict[str, Any]:
    """What Ansible makes of it: variables by host."""
    assert ANSIBLE is not None
    words = [ANSIBLE, "--list"]
    for name in names:
        words += ["-i", str(folder / name)]
    done = subprocess.run(
        words,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        cwd=folder,
        env={**os.environ, "ANSIBLE_LOCALHOST_WARNING": "0", "HOME": str(folder)},
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def ours(folder: Path, *names: str) -> Inventory:
    from engine.loader.book import LoadState
    from engine.loader.inventories import read_inventories
    from engine.loader.problems import Problems

    problems = Problems()
    session = LoadState(Registry(), problems, folder, {})
    inventory = read_inventories(session, [folder / name for name in names])
    assert problems.sorted() == []
    assert inventory is not None
    return inventory


def members(listing: dict[str, Any], group: str) -> set[str]:
    entry = listing.get(group, {})
    found = set(entry.get("hosts", ()))
    for child in entry.get("children", ()):
        found |= members(listing, child)
    return found


CASES: dict[str, tuple[dict[str, str], list[str]]] = {
    "yaml": ({"hosts.yml": YAML}, ["hosts.yml"]),
    "ini": ({"hosts": INI}, ["hosts"]),
    "ini-with-suffix": ({"hosts.ini": INI}, ["hosts.ini"]),
    "beside": (
        {
            "hosts.yml": YAML,
            "group_vars/all.yml": "override: file-all\nfrom_all: 1\n",
            "group_vars/web": "override: file-web\nflag: no\n",
            "group_vars/edge/10-first.yml": "override: file-edge\nx: 1\n",
            "group_vars/edge/20-second.yml": "x: 2\n",
            "host_vars/only-edge.yml": "own: false\noverride: host\n",
            "host_vars/fe1.json": '{"json": [1, 2]}',
        },
        ["hosts.yml"],
    ),
    "several": (
        {
            "one/hosts.yml": YAML,
            "two/hosts": "[web]\nnew1\nlonely extra=1\n[web:vars]\noverride=second\n",
            "two/group_vars/web.yml": "of_two: true\n",
        },
        ["one/hosts.yml", "two/hosts"],
    ),
    "folder": (
        {
            "inv/01-static": "[web]\nw1\n",
            "inv/02-more.yml": "web: {hosts: {w2: {x: 1}}}\n",
            "inv/group_vars/all": "v: 1\n",
        },
        ["inv"],
    ),
    "top-without-all": (
        {"h.yml": "web: {hosts: {w1: }, vars: {a: 1}}\ndb: {children: {web: }}\n"},
        ["h.yml"],
    ),
}


@pytest.mark.skipif(ANSIBLE is None, reason="ansible-core is not installed")
@pytest.mark.parametrize("name", CASES)
def test_hosts_have_the_variables_that_ansible_gives_them(tmp_path: Path, name: str) -> None:
    files, sources = CASES[name]
    write(tmp_path, files)
    listing = theirs(tmp_path, *sources)
    inventory = ours(tmp_path, *sources)
    expected = listing["_meta"]["hostvars"]
    assert set(inventory.hosts) == members(listing, "all")
    for host in inventory.hosts:
        assert inventory.host_vars(host) == expected.get(host, {}), host
    for group in listing:
        if group not in ("_meta", "all"):
            assert set(inventory.hosts_of(group)) == members(listing, group), group


@pytest.mark.parametrize(
    ("files", "said", "hint"),
    [
        (
            {"h.yml": "all:\n  vars:\n    p: !vault |\n      $ANSIBLE_VAULT;1.1;AES256\n"},
            "encrypted with ansible-vault",
            "secrets:",
        ),
        (
            {"h.yml": "all: {hosts: {a: }}", "group_vars/all.yml": "$ANSIBLE_VAULT;1.1;AES256\n31"},
            "the file is encrypted with ansible-vault",
            "secret('NAME')",
        ),
        ({"h.yml": "plugin: amazon.aws.aws_ec2\n"}, "inventory plugin", "ansible-inventory"),
        ({"h": "#!/usr/bin/env python3\nprint()\n"}, "inventory script", "ansible-inventory"),
        ({"h": "[web\nw1\n"}, "'[web' is no section", "[group]"),
        ({"h": "[web]\nw1 x\n"}, "'x' is no variable of a host", "NAME=VALUE"),
        ({"h": "[web]\nw1\n[wbe:vars]\nx=1\n"}, "there is no group 'wbe'", "did you mean 'web'?"),
        ({"h": "[a:children]\nb\n[b:children]\na\n"}, "each other's children", ""),
        ({"h": "[web]\nw1 x='a\n"}, "cannot be read", "close the quote"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_refused_in_words(
    tmp_path: Path, files: dict[str, str], said: str, hint: str
) -> None:
    write(tmp_path, files)
    with pytest.raises(InvalidRunbook) as caught:
        load_inventory(tmp_path / next(iter(files)), registry=Registry())
    shown = [(each.message, each.suggestion) for each in caught.value.problems]
    assert any(said in message and hint in suggestion for message, suggestion in shown), shown


def test_several_inventories_add_up_with_our_own(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "hosts.ini": "[web]\nw1 a=1\n",
            "production.yml": "name: production\nvars: {domain: example.com}\n"
            "metrics: {error_rate: up}\nhosts: {web: {hosts: {w2: }, vars: {b: 2}}}\n",
        },
    )
    inventory = ours(tmp_path, "production.yml", "hosts.ini")
    assert inventory.name == "production"
    assert inventory.hosts_of("web") == ["w2", "w1"]
    assert inventory.host_vars("w1") == {"b": 2, "a": 1}
    assert inventory.vars == {"domain": "example.com"}
    assert [Path(each).name for each in inventory.files] == ["production.yml", "hosts.ini"]


def test_addresses_of_ipv6_are_hosts(tmp_path: Path) -> None:
    write(tmp_path, {"h.yml": 'all: {hosts: {"[2001:db8::1]": , "[2001:db8::2]:2222": }}\n'})
    inventory = ours(tmp_path, "h.yml")
    assert list(inventory.hosts) == ["2001:db8::1", "2001:db8::2"]
    assert inventory.host_vars("2001:db8::2") == {"ansible_port": 2222}


def test_a_variable_beside_vars_is_told_where_it_belongs(tmp_path: Path) -> None:
    write(tmp_path, {"h.yml": "all: {children: {a: {ansible_group_priority: 10, hosts: {x: }}}}\n"})
    with pytest.raises(InvalidRunbook) as caught:
        load_inventory(tmp_path / "h.yml", registry=Registry())
    (problem,) = caught.value.problems
    assert "'ansible_group_priority' is a variable" in problem.message
    assert problem.suggestion == "move it below `vars:`"
