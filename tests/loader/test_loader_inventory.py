"""Inventory files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from engine.errors import InvalidRunbook
from engine.inventory import Inventory
from engine.loader import load_inventory
from engine.registry import Registry

if TYPE_CHECKING:
    from tests.loader.conftest import Desk


def read(desk: Desk, text: str) -> Inventory:
    return load_inventory(desk.write("inv.yml", text), registry=Registry())


def said(desk: Desk, text: str) -> list[str]:
    with pytest.raises(InvalidRunbook) as caught:
        read(desk, text)
    return [str(each).removeprefix("inv.yml:") for each in caught.value.problems]


def test_everything_that_an_inventory_holds(desk: Desk) -> None:
    inventory = read(
        desk,
        """
        name: production
        vars: {domain: example.com, url: "https://{{ domain }}"}
        secrets:
          token: {env: TOKEN}
          key: {file: ../key}
          vault: {command: [vault, read, 5]}
        endpoints: {front: "{{ url }}/"}
        metrics: {error_rate: {url: x, field: y}}
        kubectl: {context: prod, namespace: "{{ domain }}"}
        http_check: {verify: true}
        traffic: {default: edge}
        sql: {primary: {dsn: "{{ secret('token') }}"}}
        """,
    )
    assert inventory.name == "production"
    assert inventory.folder == str(desk.folder)
    assert inventory.vars == {"domain": "example.com", "url": "https://{{ domain }}"}
    found = {name: (s.kind, s.where) for name, s in inventory.secrets.items()}
    assert found == {
        "token": ("env", ("TOKEN",)),
        "key": ("file", ("../key",)),
        "vault": ("command", ("vault", "read", "5")),
    }
    assert inventory.section("endpoints") == {"front": "{{ url }}/"}
    assert inventory.section("metrics") == {"error_rate": {"url": "x", "field": "y"}}
    assert inventory.section("kubectl") == {"context": "prod", "namespace": "{{ domain }}"}
    assert inventory.section("http-check") == {"verify": True}
    assert inventory.section("http_check") == {"verify": True}
    assert inventory.section("notify") == {}


def test_hosts_in_the_shape_of_an_ansible_inventory(desk: Desk) -> None:
    inventory = read(
        desk,
        """
        hosts:
          all:
            vars: {user: root, level: all}
            hosts: {alone: }
            children:
              web:
                hosts:
                  web[01:03]: {rack: 1}
                  web02: {rack: 2}
                vars: {level: web, port: 80}
              data:
                children:
                  replicas: {hosts: [db-a, db-b], vars: {level: replicas}}
                  primaries: {hosts: {db-p: {port: 5432}}}
                vars: {level: data, port: 5000}
        """,
    )
    assert list(inventory.hosts) == ["alone", "web01", "web02", "web03", "db-a", "db-b", "db-p"]
    assert inventory.hosts_of("data") == ["db-a", "db-b", "db-p"]
    assert inventory.hosts_of("web") == ["web01", "web02", "web03"]
    expected: dict[str, dict[str, Any]] = {
        "alone": {"user": "root", "level": "all"},
        "web02": {"user": "root", "level": "web", "port": 80, "rack": 2},
        "db-a": {"user": "root", "level": "replicas", "port": 5000},
        "db-p": {"user": "root", "level": "data", "port": 5432},
    }
    assert {name: inventory.host_vars(name) for name in expected} == expected


def test_an_empty_inventory_is_one(desk: Desk) -> None:
    assert read(desk, "").name == "inv"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[]", "1:1: an inventory is a mapping with `vars`, `hosts` and so on, not a list"),
        ("var: {}", "1:1: unknown key 'var' in an inventory … did you mean 'vars'?"),
        ("kubctl: {}", "1:1: unknown key 'kubctl' in an inventory … did you mean 'kubectl'?"),
        ("kubectl: x", "1:10: `kubectl` wants a mapping, not the text 'x'"),
        ("vars: {a-b: 1}", "1:8: the variable 'a-b' has to be a word of letters, digits and _ …"),
        ("vars: {run: 1}", "1:8: the variable 'run' takes a name that means something else here"),
        ("secrets: {a: hunter2}", "1:14: the secret 'a' has to say where its value lives, not"),
        ("secrets: {a: {env: A, file: b}}", "1:14: the secret 'a' needs exactly one place … say"),
        ("secrets: {a: {evn: A}}", "1:15: unknown key 'evn' in the secret 'a' … did you mean"),
        ("secrets: {a: {command: x}}", "1:24: `command` wants a list: the program and its arg"),
        ("hosts: [a]", "1:8: `hosts` wants a mapping, not a list"),
        ("hosts: {web1: {address: x}}", "1:9: the group 'web1' has no `hosts`, `vars` or `chi"),
        ("hosts: {web: {hosts: {a: 1}}}", "1:23: the host 'a' wants a mapping of its variabl"),
        ("hosts: {web: {hosts: ['a b']}}", "1:23: 'a b' is no name of a host"),
        ("hosts: {web: {hosts: {'w[1:99999]': }}}", "1:23: the inventory has more than 10000"),
        ("hosts: {a: {children: {b: }}, b: {children: {a: }}}", "1:46: these groups are each oth"),
        ("hosts: {web: {host: {}, vars: {}}}", "1:15: unknown key 'host' in the group 'web' …"),
    ],
)
def test_what_is_wrong_is_told(desk: Desk, text: str, expected: str) -> None:
    found = said(desk, text)
    assert any(each[: len(expected)] == expected for each in found), found


def test_a_value_in_the_place_of_a_secret_is_not_repeated(desk: Desk) -> None:
    for text in ("secrets: {a: hunter2}", "secrets: {a: [hunter2]}", "secrets: {a: {hunter2: }}"):
        messages = [each for each in said(desk, text) if "unknown key" not in each]
        assert "hunter2" not in "".join(messages)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("wep", "the inventory has no host or group 'wep' … did you mean 'web'?"),
        ("web:!web1", "the pattern 'web:!web1' means no host of the inventory"),
        ("~[", "the host pattern '~[' is no regular expression: unterminated character set"),
    ],
)
def test_host_patterns_of_a_runbook_are_checked(desk: Desk, pattern: str, expected: str) -> None:
    (problem,) = desk.problems(
        f"steps: [{{toy.look: x, hosts: '{pattern}'}}]", "hosts: {web: {hosts: {web1: }}}"
    )
    assert str(problem).startswith(f"book.yml:1:30: {expected}")


def test_the_inventory_that_the_runbook_names_is_used_unless_another_is_given(
    desk: Desk,
) -> None:
    desk.write("named.yml", "name: named")
    text = "{inventory: named.yml, steps: [{toy.look: x}]}"
    assert desk.whole(text)[1].name == "named"
    assert desk.whole(text, "name: given")[1].name == "given"
    assert desk.whole(text, inventory=Inventory(name="ready"))[1].name == "ready"


def test_problems_of_inventory_and_runbook_are_told_together(desk: Desk) -> None:
    found = desk.problems("steps: [{toy.lok: x}]", "var: {}")
    assert [each.file for each in found] == ["book.yml", "inventory.yml"]


@pytest.mark.parametrize(
    ("pattern", "hosts"),
    [
        ("web[01:03]", ["web01", "web02", "web03"]),
        ("web[1:10:4]", ["web1", "web5", "web9"]),
        ("db-[a:c].x", ["db-a.x", "db-b.x", "db-c.x"]),
        ("r[A:B][1:2]", ["rA1", "rA2", "rB1", "rB2"]),
        ("plain", ["plain"]),
    ],
)
def test_ranges_of_hosts(desk: Desk, pattern: str, hosts: list[str]) -> None:
    _, inventory = desk.whole(
        "steps: [{toy.look: x}]", f"hosts: {{all: {{hosts: {{'{pattern}': }}}}}}"
    )
    assert list(inventory.hosts) == hosts


def test_an_empty_range_is_told(desk: Desk) -> None:
    assert desk.said("steps: [{toy.look: x}]", "hosts: {all: {hosts: {'w[5:1]': }}}") == [
        "inventory.yml:1:23: the range in 'w[5:1]' is empty: it ends before it begins"
    ]
