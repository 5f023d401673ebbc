"""What runbooks may write: every argument is documented, typed and reaches its action."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.module_api import Refused
from engine.registry import Registry
from modules.http_check import Expect
from modules.metrics import Limits

MODULES = [
    "shell", "wait", "assert", "confirm", "http", "http-check", "metrics", "sql", "notify", "ssh",
    "docker",
]  # fmt: skip
ACTIONS = [
    action.name
    for name in MODULES
    if (module := Registry().module(name)) is not None
    for action in module.actions.values()
]


def bind(name: str, **arguments: Any) -> dict[str, Any]:
    action = Registry().action(name)
    assert action is not None
    assert action.check(arguments) == []
    return action.bind(arguments)


@pytest.mark.parametrize("name", ACTIONS)
def test_every_action_and_argument_is_documented(name: str) -> None:
    action = Registry().action(name)
    assert action is not None
    assert action.summary.endswith(".")
    assert "Result data" in action.doc
    undocumented = [one.name for one in action.parameters.values() if not one.doc]
    assert undocumented == []


@pytest.mark.parametrize("name", ACTIONS)
def test_what_writes_can_be_checked_and_what_happens_once_can_be_asked_for(name: str) -> None:
    action = Registry().action(name)
    assert action is not None
    assert action.effect == "read" or action.checker is not None
    assert action.effect != "once" or action.prober is not None


def test_every_module_is_known() -> None:
    assert all(Registry().module(name) is not None for name in MODULES)
    assert len(ACTIONS) >= 22


def test_the_forms_that_runbooks_use() -> None:
    assert bind("wait", **{"for": "1h30m"}) == {"for_": 5400.0}
    assert bind("shell", command="uptime", expect=[0, 1])["expect"] == [0, 1]
    assert bind("shell", command=["ls", "-l"])["command"] == ["ls", "-l"]
    assert bind("sql.backup", to="b", **{"as": "copy"})["as_"] == "copy"
    assert bind("sql.restore", **{"from": "b"}) == {"from_": "b"}
    assert bind("sql.script", file="files/x.sql")["file"] == Path("files/x.sql")
    assert bind("assert", that=["a == 1", True])["that"] == ["a == 1", True]
    assert bind("assert", that=False)["that"] is False
    assert bind("metrics.soak", **{"for": "30m"}, expect={"p95": "< 500"})["for_"] == 1800.0
    assert bind("notify.send", channel=["a", "b"], text="x")["channel"] == ["a", "b"]
    assert bind("http-check", url="x", duration="30s", interval="250ms")["interval"] == 0.25
    limits = bind("metrics.validate", expect={"p95": {"max": 5, "min_samples": 3}})["expect"]
    assert limits == {"p95": Limits(max=5, min_samples=3)}
    expect = {"status": [200, "3xx"], "latency": {"p95": "500ms"}, "json": {"a.b": True}}
    assert isinstance(bind("http-check", url="x", expect=expect)["expect"], Expect)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("http-check", {"url": "x", "method": "POST"}),
        ("http-check", {"url": "x", "expect": {"statu": 200}}),
        ("shell", {"command": "x", "effect": "twice"}),
        ("wait", {"for": "soon"}),
        ("sql.backup", {"to": "b", "as": "tape"}),
        ("notify.send", {"channel": "a", "severity": "awful"}),
        ("metrics.read", {}),
    ],
)
def test_what_makes_no_sense_is_found_before_anything_runs(
    name: str, arguments: dict[str, Any]
) -> None:
    action = Registry().action(name)
    assert action is not None
    assert action.check(arguments) != []
    with pytest.raises(Refused):
        action.bind(arguments)


def test_importing_the_modules_imports_no_driver() -> None:
    names = ", ".join(
        f"modules.{name.replace('-', '_') if name != 'assert' else 'assert_'}" for name in MODULES
    )
    drivers = ("psycopg", "httpx", "paramiko", "docker.api", "smtplib", "ssl", "asyncio", "email")
    code = f"import sys, {names}; print([d for d in {drivers!r} if d in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
