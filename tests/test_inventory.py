"""Host patterns and secrets."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from engine.errors import Failed, Refused, UsageError
from engine.inventory import Group, Inventory, Secrets, SecretSource

HOSTS = ["web1", "web2", "web3", "db1", "db2", "other"]
INVENTORY = Inventory(
    groups={
        "all": Group("all", vars={"level": "all"}),
        "web": Group("web", ["web1", "web2", "web3"], vars={"level": "web"}),
        "data": Group("data", children=["db"], vars={"level": "data", "port": 1}),
        "db": Group("db", ["db1", "db2"], vars={"level": "db"}),
        "odd": Group("odd", ["web1", "db1"]),
    },
    hosts={name: {} for name in HOSTS} | {"db2": {"level": "host"}},
)


@pytest.mark.parametrize(
    ("pattern", "chosen"),
    [
        ("all", HOSTS),
        ("*", HOSTS),
        ("web", ["web1", "web2", "web3"]),
        ("data", ["db1", "db2"]),
        ("other", ["other"]),
        ("db:web", ["web1", "web2", "web3", "db1", "db2"]),
        ("db,other", ["db1", "db2", "other"]),
        ("web:!web2", ["web1", "web3"]),
        ("!web", ["db1", "db2", "other"]),
        ("web:&odd", ["web1"]),
        ("all:!odd:&web", ["web2", "web3"]),
        ("web*", ["web1", "web2", "web3"]),
        ("*1", ["web1", "db1"]),
        ("d*", ["db1", "db2"]),
        ("~(web|db)1$", ["web1", "db1"]),
        ("web[0]", ["web1"]),
        ("web[-1]", ["web3"]),
        ("web[0:1]", ["web1", "web2"]),
        ("web[1:]", ["web2", "web3"]),
        ("web?", ["web1", "web2", "web3"]),
        (["web1", "db"], ["web1", "db1", "db2"]),
        ("", []),
        ("ungrouped", ["other"]),
    ],
)
def test_a_pattern_means_hosts_in_the_order_of_the_file(
    pattern: str | list[str], chosen: list[str]
) -> None:
    assert INVENTORY.select(pattern) == chosen


def test_a_limit_narrows_a_pattern() -> None:
    assert INVENTORY.select("web", "odd:web3") == ["web1", "web3"]


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no host or group 'wbe'") as caught:
        INVENTORY.select("web:wbe")
    assert caught.value.hint == "did you mean 'web'?"


def test_variables_of_inner_groups_and_the_host_itself_win() -> None:
    levels = {name: INVENTORY.host_vars(name)["level"] for name in HOSTS}
    assert levels == {
        "web1": "web",
        "web2": "web",
        "web3": "web",
        "db1": "db",
        "db2": "host",
        "other": "all",
    }
    assert INVENTORY.host_vars("db1")["port"] == 1


def test_templates_see_variables_groups_and_hosts() -> None:
    seen = Inventory(vars={"a": 1}, endpoints={"e": 2}, metrics={"m": 3}).variables()
    assert seen == {
        "a": 1,
        "endpoints": {"e": 2},
        "metrics": {"m": 3},
        "groups": {"all": []},
        "hosts": {},
    }
    assert INVENTORY.variables()["groups"]["data"] == ["db1", "db2"]


def test_wide_and_deep_groups_are_quick() -> None:
    """Every group of a layer has all groups of the next as children."""
    names = [[f"g{layer}-{n}" for n in range(10)] for layer in range(12)]
    groups = {
        name: Group(name, children=list(below))
        for layer, below in zip(names, [*names[1:], []], strict=True)
        for name in layer
    }
    groups[names[-1][0]].hosts.append("h")
    inventory = Inventory(groups=groups, hosts={"h": {}})
    assert inventory.hosts_of("g0-0") == ["h"]
    assert inventory.host_vars("h") == {}


# -- secrets ----------------------------------------------------------------------------
def secrets(
    folder: Path, environ: dict[str, str] | None = None, **sources: SecretSource
) -> tuple[Secrets, list[str]]:
    masked: list[str] = []
    inventory = Inventory(folder=str(folder), secrets=sources)
    return Secrets(inventory, mask=masked.append, environ=environ or {}), masked


def test_a_secret_comes_from_where_it_lives_and_is_masked_first(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from a file\n")
    found, masked = secrets(
        tmp_path,
        {"TOKEN": "from the environment"},
        a=SecretSource("a", "env", ("TOKEN",)),
        b=SecretSource("b", "file", ("key",)),
        c=SecretSource("c", "command", (sys.executable, "-c", "print('from a command')")),
    )
    assert masked == []
    values = [found.get(name) for name in "abc"]
    assert values == ["from the environment", "from a file", "from a command"]
    assert masked == values
    assert "from" not in repr(found)


def test_a_secret_is_fetched_once(tmp_path: Path) -> None:
    program = "open('count', 'a').write('x'); print('value')"
    found, masked = secrets(
        tmp_path, c=SecretSource("c", "command", (sys.executable, "-c", program))
    )
    assert [found.get("c") for _ in range(3)] == ["value"] * 3
    assert (tmp_path / "count").read_text() == "x"
    assert masked == ["value"]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (SecretSource("s", "env", ("NOPE",)), "environment variable NOPE, which is not set"),
        (SecretSource("s", "file", ("nope",)), "which cannot be read: No such file or directory"),
        (SecretSource("s", "file", ("empty",)), "which is empty"),
        (SecretSource("s", "file", ("binary",)), "which cannot be read: it is not UTF-8 text"),
        (SecretSource("s", "command", ("/nope",)), "which failed: No such file or directory"),
        (
            SecretSource("s", "command", (sys.executable, "-c", "raise SystemExit(3)")),
            "which gave exit status 3",
        ),
        (SecretSource("s", "command", (sys.executable, "-c", "")), "which gave no output"),
    ],
)
def test_a_secret_that_cannot_be_had_is_told(
    tmp_path: Path, source: SecretSource, said: str
) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    found, masked = secrets(tmp_path, s=source)
    with pytest.raises(Failed) as caught:
        found.get("s")
    assert caught.value.message.startswith("the secret 's' ")
    assert said in caught.value.message
    assert masked == []


def test_an_unknown_secret_is_refused_with_the_nearest(tmp_path: Path) -> None:
    found, _ = secrets(tmp_path, token=SecretSource("token", "env", ("T",)))
    with pytest.raises(Refused, match="no secret 'tokn'") as caught:
        found.get("tokn")
    assert caught.value.hint == "did you mean 'token'?"


def test_what_a_failing_command_says_is_evidence(tmp_path: Path) -> None:
    program = "import sys; sys.stderr.write('vault is sealed\\n'); sys.exit(2)"
    found, _ = secrets(tmp_path, s=SecretSource("s", "command", (sys.executable, "-c", program)))
    with pytest.raises(Failed) as caught:
        found.get("s")
    assert caught.value.evidence == ["vault is sealed"]


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CE_RUN_TEST_TOKEN", "hunter2")
    assert os.environ["CE_RUN_TEST_TOKEN"]
    source = SecretSource("t", "env", ("CE_RUN_TEST_TOKEN",))
    assert Secrets(Inventory(secrets={"t": source})).get("t") == "hunter2"


def test_a_byte_order_mark_is_no_part_of_a_secret(tmp_path: Path) -> None:
    (tmp_path / "key").write_bytes(b"\xef\xbb\xbfhunter2\r\n")
    store, masked = secrets(
        tmp_path,
        file=SecretSource("file", "file", ("key",)),
        command=SecretSource("command", "command", ("cat", "key")),
    )
    assert store.get("file") == store.get("command") == "hunter2"
    assert set(masked) == {"hunter2"}
